//! Exported networks come back as they were, and what is no exported network is refused in one sentence.

use super::about::{About, Dtype, Errors, FORMAT, ImagesAbout, Recipe, Weights};
use super::weights::to_bytes;
use super::{Model, keys};
use crate::backend::{Context, Cpu, Kind, Region};
use crate::data::{ImageShape, Images};
use crate::nas::builtin::Builtin;
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::resulting::NormKind;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::space::Space;
use crate::nas::train::Network;
use crate::nas::twin::NetworkShape;
use crate::nn::optim::Optimizer;
use crate::nn::params::ParamStore;
use crate::ops::volume_gather::VolumeGather;
use crate::rng::{Rng, Stream};
use crate::testing::assert_close;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::Path;

/// Small grey pictures of 6 x 7 pixels, padded to 8 x 8.
pub(super) const PICTURES: NetworkShape = NetworkShape::pictures(1, 8, 5, 3);

pub(super) fn about(design: Design, norm: NormKind, shape: NetworkShape, dtype: Dtype) -> About {
    let volume = shape.is_volume();
    let (mean, std) = if volume { VolumeGather::normalisation() } else { (vec![0.3], vec![0.25]) };
    About {
        format: FORMAT,
        engine: "0".into(),
        design,
        norm,
        shape,
        weights: Weights::Trained,
        dtype,
        images: ImagesAbout {
            name: "noise".into(),
            classes: ["a", "b", "c", "d", "e"].map(String::from).into(),
            extent: if volume { [1, shape.image_depth, 8, 8] } else { [1, 1, 6, 7] },
            mean,
            std,
            views: if volume { 2 } else { 1 },
        },
        seed: 1,
        recipe: Recipe {
            epochs: 1,
            steps: 1,
            batch: 50,
            lr: 0.1,
            optimizer: Optimizer::RESULTING,
            augment: "none".into(),
            start: "random numbers".into(),
            train_images: 10,
            validation_images: 0,
            source: "embedded".into(),
            split_seed: 1,
            settings: String::new(),
        },
        errors: Errors { val_err: None, test_err: 12.5, test_top5_err: None, test_images: 8, unrounded_test_err: None },
    }
}

pub(super) fn drawn(space: &Space, seed: u64) -> Design {
    sample(space, &SampleLimits::full(space), &mut Rng::new(seed, Stream::Arch)).into()
}

/// A network with parameters and statistics as after a training.
pub(super) fn network(about: &About) -> (Box<dyn Network>, Context) {
    let network = about.design.network(&about.shape, about.norm).unwrap();
    let mut context = Context::cpu(Cpu::new(2), 1 << 22).unwrap();
    network.store().reserve(&mut context).unwrap();
    network.store().initialise(&mut context, 3, 0).unwrap();
    let mut rng = Rng::new(7, Stream::Init);
    let vectors: Vec<_> = network.store().params().iter().filter(|p| p.dims.len() == 1).map(|p| p.span).collect();
    for span in vectors.into_iter().chain([context.whole(Region::State)]) {
        let values: Vec<f32> = (0..span.len).map(|_| (0.5 + rng.uniform()) as f32).collect();
        context.write(span, &values).unwrap();
    }
    (network, context)
}

fn opened(bytes: &[u8]) -> crate::Result<Model> {
    Model::from_bytes(Path::new("x.safetensors"), bytes, Kind::Cpu, 3, |arena| Context::cpu(Cpu::new(2), arena))
}

pub(super) fn images(about: &About) -> Images {
    let [channels, depth, height, width] = about.images.extent;
    let mut rng = Rng::new(9, Stream::Augment);
    let (bytes, shape) = match depth {
        1 => (height * width, ImageShape { channels, depth, height, width }),
        // Two views of a bit a voxel.
        _ => (2 * depth * height * width / 8, ImageShape::picture(1, 2, depth * height * width / 8)),
    };
    let pixels = (0..4 * bytes).map(|_| rng.below(256) as u8).collect();
    Images::from_pixels(pixels, vec![0, 1, 2, 3], shape).unwrap()
}

/// Logits of a network that was never stored.
fn logits(about: &About) -> Vec<Vec<f32>> {
    let (network, mut context) = network(about);
    let (images, gather) = (images(about), super::model::gather(about));
    let batches = crate::nas::train::Batch::all(&images, about.images.views, 3).into_iter();
    crate::nas::score::logits(&mut context, &*network, &gather, batches).unwrap()
}

fn stored(about: &About) -> Vec<u8> {
    let (network, mut context) = network(about);
    to_bytes(about, network.store(), &mut context).unwrap()
}

fn designs() -> Vec<About> {
    let body_norm = Space { body_norm: true, ..Space::fixture() };
    let volumes = NetworkShape { image_depth: 8, ..NetworkShape::pictures(1, 8, 5, 3) };
    let builtin = |name: &str| Design::Builtin(name.parse::<Builtin>().unwrap());
    vec![
        about(drawn(&Space::fixture(), 1), NormKind::Sandwich, PICTURES, Dtype::F32),
        about(drawn(&Space::fixture(), 2), NormKind::Full, PICTURES, Dtype::F32),
        about(drawn(&body_norm, 3), NormKind::Weightnorm, PICTURES, Dtype::F32),
        about(drawn(&Space::fixture(), 4), NormKind::Sandwich, volumes, Dtype::F32),
        about(builtin("wrn-10-1"), NormKind::Sandwich, PICTURES, Dtype::F32),
        about(builtin("densenet-bc-10-4"), NormKind::Sandwich, PICTURES, Dtype::F32),
    ]
}

#[test]
fn a_network_comes_back_as_it_was() {
    for about in designs() {
        let mut model = opened(&stored(&about)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.about, about);
        let (found, expected) = (model.logits(&images(&about)).unwrap(), logits(&about));
        assert_eq!(found.len(), 4 * about.images.views);
        if about.norm == NormKind::Weightnorm {
            // The network that was never stored divides sums by the norm, not filters.
            let flat = |rows: &[Vec<f32>]| rows.iter().flatten().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let found: Vec<f32> = found.into_iter().flatten().collect();
            assert_close("logits", &found, &flat(&expected), 300);
        } else {
            assert_eq!(found, expected, "{}", about.design.id());
        }
        let probabilities = model.probabilities(&images(&about)).unwrap();
        assert_eq!(probabilities.len(), 4);
        let sums: Vec<f32> = probabilities.iter().map(|row| row.iter().sum()).collect();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
    }
}

#[test]
fn probabilities_of_a_volume_are_the_mean_over_its_views() {
    let about = &designs()[3];
    let mut model = opened(&stored(about)).unwrap();
    let logits = model.logits(&images(about)).unwrap();
    let softmax = |row: &[f32]| {
        let powers: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|p| p / sum).collect::<Vec<_>>()
    };
    let [first, second] = [softmax(&logits[2]), softmax(&logits[3])];
    let expected: Vec<f64> = first.iter().zip(&second).map(|(a, b)| (a + b) / 2.0).collect();
    assert_ne!(first, second);
    assert_close("probabilities", &model.probabilities(&images(about)).unwrap()[1], &expected, 20);
}

#[test]
fn rounded_weights_are_halves_and_vectors_are_not_rounded() {
    for (dtype, stored_as, most) in
        [(Dtype::F16, safetensors::Dtype::F16, 1.0 / 2048.0), (Dtype::Bf16, safetensors::Dtype::BF16, 1.0 / 256.0)]
    {
        let about = About { dtype, ..designs().swap_remove(0) };
        let (network, mut context) = network(&about);
        let bytes = to_bytes(&about, network.store(), &mut context).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("stem.conv.weight").unwrap().dtype(), stored_as);
        assert_eq!(file.tensor("head.fc.bias").unwrap().dtype(), safetensors::Dtype::F32);
        let mut model = opened(&bytes).unwrap();
        let (_, rounded, _) = model.parts();
        let mut some = 0;
        for param in network.store().params() {
            let (before, after) = (context.read(param.span).unwrap(), rounded.read(param.span).unwrap());
            for (a, b) in before.iter().zip(&after) {
                // Half the distance of the smallest numbers of f16 is 2^-25.
                let near = (a - b).abs() <= most * a.abs() + 2f32.powi(-25);
                assert!(near && (param.dims.len() > 1 || a == b), "{}: {a} {b}", param.name);
                some += usize::from(a != b);
            }
        }
        assert!(some > 100);
    }
}

#[test]
fn a_weight_that_16_bits_cannot_hold_is_named() {
    let about = About { dtype: Dtype::F16, ..designs().swap_remove(0) };
    let (network, mut context) = network(&about);
    context.write(network.store().params()[0].span.sub(3, 1), &[1e6]).unwrap();
    let error = to_bytes(&about, network.store(), &mut context).unwrap_err();
    assert!(
        error.to_string().starts_with("stem.conv.weight has a weight of 1000000, which F16 cannot hold"),
        "{error}"
    );
}

/// The file again with other tensors and metadata.
fn changed<'a>(
    bytes: &'a [u8],
    tensors: impl FnOnce(&mut Vec<(String, TensorView<'a>)>),
    metadata: impl FnOnce(&mut HashMap<String, String>),
) -> Vec<u8> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut all = file.tensors();
    tensors(&mut all);
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut about = header.metadata().clone().unwrap();
    metadata(&mut about);
    safetensors::serialize(all, Some(about)).unwrap()
}

/// Where the bias of the classifier is among the tensors.
fn bias(all: &[(String, TensorView<'_>)]) -> usize {
    all.iter().position(|(name, _)| name == "head.fc.bias").unwrap()
}

#[test]
fn what_is_no_exported_network_is_refused_in_a_sentence() {
    let good = stored(&designs()[0]);
    let without_digest = |metadata: &mut HashMap<String, String>| drop(metadata.remove("sha256"));
    const FIVE: &[u8] = &[0; 20];
    let view = |extent: Vec<usize>| TensorView::new(safetensors::Dtype::F32, extent, FIVE).unwrap();
    let nan: Vec<u8> = f32::NAN.to_le_bytes().repeat(5);
    let edited = |from: &str, to: &str| {
        let replace = |m: &mut HashMap<String, String>| {
            let about = m["smash_engine"].replace(from, to);
            assert_ne!(about, m["smash_engine"], "{from}");
            m.insert("smash_engine".into(), about);
            without_digest(m);
        };
        changed(&good, |_| (), replace)
    };
    let cases: [(Vec<u8>, &str); 21] = [
        (b"PK".to_vec(), "is no network that `smash-engine export` wrote (no safetensors file"),
        (changed(&good, |_| (), HashMap::clear), "its metadata have no \"smash_engine\""),
        (changed(&good, |_| (), |m| drop(m.insert("more".into(), "x".into()))), "its metadata are not format = pt"),
        (
            changed(&good, |_| (), |m| drop(m.insert("format".into(), "smash-engine checkpoint 1".into()))),
            "is a checkpoint of a run",
        ),
        (changed(&good, |all| drop(all.pop()), |_| ()), "is damaged: its digest does not match"),
        (
            changed(
                &good,
                |all| {
                    let i = bias(all);
                    all.remove(i);
                },
                without_digest,
            ),
            "lacks the tensor \"head.fc.bias\"",
        ),
        (
            changed(&good, |all| all.push(("more".into(), view(vec![5]))), without_digest),
            "has a tensor \"more\", which its network has not",
        ),
        (
            changed(
                &good,
                |all| {
                    let i = bias(all);
                    all[i].1 = view(vec![1, 5])
                },
                without_digest,
            ),
            "has a tensor \"head.fc.bias\" of extent [1, 5] in place of [5]",
        ),
        (
            changed(
                &good,
                |all| {
                    let i = bias(all);
                    all[i].1 = TensorView::new(safetensors::Dtype::F32, vec![5], &nan).unwrap()
                },
                without_digest,
            ),
            "has a number in \"head.fc.bias\" that is not finite",
        ),
        (edited("\"format\":1", "\"format\":2"), "it is of format 2; this engine reads 1"),
        (edited("\"image_size\":8", "\"image_size\":6"), "shape.image_size: 6 is not a multiple of 4"),
        (edited("\"image_size\":8", "\"image_size\":4"), "images.extent: [1, 1, 6, 7] do not fit"),
        (edited("\"std\":[0.25]", "\"std\":[0.0]"), "images.mean, images.std: need a finite number"),
        (edited("\"std\":[0.25]", "\"std\":[-0.25]"), "images.mean, images.std: need a finite number"),
        (edited("\"a\",\"b\"", "\"a\",\"\\u001b[31m\""), "holds control characters"),
        (edited("\"seed\":1", "\"seed\":1,\"x\\ny\":2"), "unknown field"),
        (edited("\"image_size\":8", "\"image_size\":4096"), "shape.image_size: 4096 is not between"),
        (edited("\"e\"]", "\"e\",\"f\"]"), "images.classes: 6 names for 5"),
        (edited("\"views\":1", "\"views\":3"), "images.views: 3 is not possible"),
        (edited("\"norm\":\"sandwich\"", "\"norm\":\"none\""), "unknown variant `none`"),
        (edited("\"kernel\":[", "\"kernel\":[4,"), "(trailing characters at line 1"),
    ];
    for (bytes, why) in cases {
        let Err(error) = opened(&bytes) else { panic!("accepted, not: {why}") };
        let message = error.to_string();
        assert!(message.contains(why) && !message.contains('\n'), "{message}\nnot: {why}");
        assert_eq!(error.exit_code(), 3, "{message}");
    }
    // What PyTorch adds, and a file that was trained on by another program.
    let counter =
        |all: &mut Vec<(String, TensorView<'_>)>| all.push(("head.bn.num_batches_tracked".into(), view(vec![5])));
    opened(&changed(&good, counter, without_digest)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn every_damaged_byte_is_noticed() {
    let good =
        stored(&about(Design::Builtin("densenet-7-1".parse().unwrap()), NormKind::Sandwich, PICTURES, Dtype::F32));
    for position in (0..good.len()).step_by(41) {
        let mut bytes = good.clone();
        bytes[position] ^= 0x41;
        assert!(opened(&bytes).is_err_and(|error| error.exit_code() == 3), "byte {position} went unnoticed");
    }
}

#[test]
fn constants_of_a_computation_are_the_tensors_of_the_file() {
    // Rounded filters are no longer of norm 1, and are used as they are.
    let rounded = About { dtype: Dtype::Bf16, ..designs().swap_remove(2) };
    for about in designs().into_iter().chain([rounded]) {
        let bytes = stored(&about);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut model = opened(&bytes).unwrap();
        let (network, context, _) = model.parts();
        let written = computation(context, network, &about.shape).unwrap();
        let mut names = Vec::new();
        for instruction in &written.instructions {
            for constant in instruction.operation.constants() {
                let tensor = file.tensor(&keys::key(&constant.name)).unwrap();
                assert_eq!(tensor.shape(), constant.dims, "{}", constant.name);
                assert!(
                    constant.name.starts_with(&format!("{}.", instruction.part)),
                    "{} {}",
                    constant.name,
                    instruction.part
                );
                let stored: Vec<f32> = match tensor.dtype() {
                    safetensors::Dtype::F32 => bytemuck::pod_collect_to_vec(tensor.data()),
                    _ => tensor.data().chunks(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                };
                assert_eq!(constant.values, stored, "{}", constant.name);
                names.push(keys::key(&constant.name));
            }
        }
        names.sort_unstable();
        let mut all: Vec<String> = file.names().iter().map(ToString::to_string).collect();
        all.sort_unstable();
        assert_eq!(names, all);
    }
}

#[test]
fn learned_numbers_are_those_of_the_store() {
    let about = &designs()[0];
    let (network, _) = network(about);
    let store: &ParamStore = network.store();
    assert_eq!(store.len() as u64, about.design.cost(&about.shape).unwrap().params);
}
