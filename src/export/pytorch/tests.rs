//! Promises of the generated files: every weight has its module, of its extent, and every name is defined before it is
//! read. That they compute what the engine does is checked with PyTorch itself by `tools/check-exports.sh`.

use super::{text, write};
use crate::backend::{Context, Cpu, Region};
use crate::export::about::{About, Dtype, Errors, FORMAT, ImagesAbout, Recipe, Weights};
use crate::export::keys::key;
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::resulting::NormKind;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::space::Space;
use crate::nas::twin::NetworkShape;
use crate::nn::optim::Optimizer;
use crate::rng::{Rng, Stream};
use crate::tape::computation::Computation;

const PICTURES: NetworkShape = NetworkShape::pictures(3, 8, 5, 3);
const STRIDED: NetworkShape = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(3, 16, 5, 7) };
const VOLUMES: NetworkShape = NetworkShape { image_depth: 8, ..NetworkShape::pictures(1, 8, 5, 3) };
const ARENA: usize = 1 << 23;

fn searched(space: &Space, seed: u64) -> Design {
    Design::Searched(sample(space, &SampleLimits::full(space), &mut Rng::new(seed, Stream::Arch)))
}

fn about(design: Design, shape: NetworkShape, norm: NormKind) -> About {
    let (c, classes) = (shape.image_channels, shape.classes);
    let cut = if shape.is_volume() { 0 } else { 3 };
    let images = ImagesAbout {
        name: "made up".into(),
        classes: (0..classes).map(|i| format!("class {i}")).collect(),
        extent: [c, shape.image_depth, shape.image_size - cut, shape.image_size - cut / 2],
        mean: vec![0.25; c],
        std: vec![0.3; c],
        views: 1,
    };
    let recipe = Recipe {
        epochs: 3,
        batch: 50,
        lr: 0.1,
        optimizer: Optimizer::Sgd { momentum: 0.9, decay: 1e-4 },
        augment: "none".into(),
        start: "random numbers".into(),
        settings: String::new(),
        train_images: 1000,
        validation_images: 100,
        source: "embedded".into(),
        split_seed: 1,
    };
    let errors = Errors {
        val_err: Some(12.5),
        test_err: 13.25,
        test_top5_err: None,
        test_images: 200,
        unrounded_test_err: None,
    };
    let (weights, dtype, engine) = (Weights::Trained, Dtype::F32, "0.0.0".into());
    About { format: FORMAT, engine, design, norm, shape, weights, dtype, images, seed: 1, recipe, errors }
}

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
    let of = |name, design, shape, norm| (name, about(design, shape, norm));
    let mut all = vec![
        of("sandwich", searched(&Space::fixture(), 1), PICTURES, NormKind::Sandwich),
        of("full", searched(&Space::fixture(), 2), STRIDED, NormKind::Full),
        of("weightnorm", searched(&Space::fixture(), 3), PICTURES, NormKind::Weightnorm),
        of("pre", searched(&options(ActivationOrder::Pre), 4), PICTURES, NormKind::Full),
        of("post", searched(&options(ActivationOrder::Post), 5), STRIDED, NormKind::Sandwich),
        of("v1", searched(&Space::v1(), 5), PICTURES, NormKind::Sandwich),
        of("volumes", searched(&Space::fixture(), 6), VOLUMES, NormKind::Sandwich),
        of("flat", searched(&Space::fixture(), 7), NetworkShape { image_depth: 2, ..VOLUMES }, NormKind::Full),
    ];
    for name in ["wrn-16-2", "resnet-14", "densenet-13-4", "densenet-bc-16-4", "fractalnet-3-2"] {
        for shape in [PICTURES, STRIDED] {
            all.push(of(name, Design::Builtin(name.parse().unwrap()), shape, NormKind::Sandwich));
        }
    }
    all
}

fn computed(about: &About) -> Computation {
    let network = about.design.network(&about.shape, about.norm).unwrap();
    let mut context = Context::cpu(Cpu::new(1), ARENA).unwrap();
    network.store().reserve(&mut context).unwrap();
    network.store().initialise(&mut context, 3, 0).unwrap();
    computation(&mut context, &*network, &about.shape).unwrap()
}

#[test]
fn dump() {
    use crate::data::Images;
    for (i, (name, about)) in networks().into_iter().enumerate() {
        let network = about.design.network(&about.shape, about.norm).unwrap();
        let mut context = Context::cpu(Cpu::new(1), ARENA).unwrap();
        network.store().reserve(&mut context).unwrap();
        network.store().initialise(&mut context, 3, 0).unwrap();
        let mut rng = Rng::new(9, Stream::Init);
        let params = network.store().span();
        let mut values = context.read(params).unwrap();
        values.iter_mut().for_each(|x| *x += 0.05 * rng.normal() as f32);
        context.write(params, &values).unwrap();
        let state = context.whole(Region::State);
        let mut values = context.read(state).unwrap();
        values.iter_mut().for_each(|x| *x += 0.3 * rng.uniform() as f32);
        context.write(state, &values).unwrap();
        let computation = computation(&mut context, &*network, &about.shape).unwrap();
        let dir = format!("/tmp/pt-probe/dump/{i:02}-{name}");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(format!("{dir}/model.py"), write(&computation, &about).unwrap()).unwrap();
        let bytes = crate::export::weights::to_bytes(&about, network.store(), &mut context).unwrap();
        std::fs::write(format!("{dir}/model.safetensors"), bytes).unwrap();
        let mut model = crate::export::Model::load(&dir).unwrap();
        let shape = model.image_shape();
        let n = 4;
        let len = if about.shape.is_volume() { shape.pixels() / 8 } else { shape.pixels() };
        let pixels: Vec<u8> = (0..n * len).map(|_| rng.below(256) as u8).collect();
        std::fs::write(format!("{dir}/pixels"), &pixels).unwrap();
        let shape = if about.shape.is_volume() { crate::data::ImageShape::picture(1, 1, len) } else { shape };
        let images = Images::from_pixels(pixels, vec![0; n], shape).unwrap();
        let logits: Vec<f32> = model.logits(&images).unwrap().concat();
        std::fs::write(format!("{dir}/logits"), logits.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
            .unwrap();
    }
    let _ = (text::prose(""), key("a.b"), computed);
}
