//! Promises of ONNX models: decoded and run in f64 by an interpreter of its own, they compute what the engine does.

use super::interpreter::{Array, run};
use super::proto::{Extent, Model, data_type};
use super::{Onnx, OnnxOptions, encode, write};
use crate::backend::{Context, Cpu, Region};
use crate::data::augment::centred;
use crate::data::{ImageShape, Images};
use crate::export::about::{About, Dtype, Errors, ImagesAbout};
use crate::export::keys::key;
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::resulting::NormKind;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::score::logits;
use crate::nas::space::Space;
use crate::nas::train::{Batch, Gather, Network};
use crate::nas::twin::NetworkShape;
use crate::ops::batch_gather::BatchGather;
use crate::ops::volume_gather::VolumeGather;
use crate::rng::{Rng, Stream};
use crate::tape::computation::{Computation, Constant, Instruction, Operation};
use crate::testing::assert_close;
use half::{bf16, f16};
use prost::Message;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const PICTURE: NetworkShape = NetworkShape::pictures(3, 8, 5, 3);
const STRIDED: NetworkShape = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(3, 16, 5, 7) };
const VOLUME: NetworkShape = NetworkShape { image_depth: 8, ..NetworkShape::pictures(1, 8, 5, 3) };
/// One slice is left after the first block.
const FLAT_VOLUME: NetworkShape = NetworkShape { image_depth: 2, ..NetworkShape::pictures(1, 8, 5, 5) };
const IMAGES: usize = 3;
/// f32 of an arena, several times what these networks need.
const ARENA: usize = 1 << 22;
/// Makes a tolerance of 1e-5 of the largest logit; found were up to 8e-7.
const DEPTH: usize = 30;
const FOLDED: OnnxOptions = OnnxOptions { fold_batchnorm: true };
const PLAIN: OnnxOptions = OnnxOptions { fold_batchnorm: false };

fn about(design: Design, norm: NormKind, shape: NetworkShape) -> About {
    let size = shape.image_size;
    // Smaller than the network's input, by an odd number of columns.
    let extent = if shape.is_volume() { [1, shape.image_depth, size, size] } else { [3, 1, size - 2, size - 3] };
    let (mean, std) = match shape.is_volume() {
        true => (vec![1.0 / 6.0], vec![1.0 / 6.0]),
        false => (vec![0.49, 0.48, 0.44], vec![0.25, 0.24, 0.26]),
    };
    let classes = (0..shape.classes).map(|class| format!("class \"{class}\"")).collect();
    let test_err = 12.34;
    About {
        engine: "0.1.0".into(),
        images: ImagesAbout { name: "a set".into(), classes, extent, mean, std, views: 1 },
        errors: Errors { val_err: None, test_err, test_top5_err: None, test_images: 50, unrounded_test_err: None },
        seed: 7,
        ..crate::export::tests::about(design, norm, shape, Dtype::F32)
    }
}

fn searched(space: &Space, seed: u64) -> Design {
    sample(space, &SampleLimits::full(space), &mut Rng::new(seed, Stream::Arch)).into()
}

fn builtin(name: &str) -> Design {
    Design::Builtin(name.parse().unwrap())
}

/// Every option, in this order.
fn optional(activation: ActivationOrder) -> Space {
    let nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid];
    Space { activation, nonlinearities, gates: true, body_norm: true, ..Space::fixture() }
}

/// A network with parameters, and the engine's answer to some images.
#[derive(Clone)]
struct Trained {
    about: About,
    computation: Computation,
    /// N, C, H, W in 0..1.
    images: Array,
    /// One row per image.
    logits: Vec<f32>,
}

/// A network as if it were trained: statistics, scales, shifts and biases have values of their own.
fn trained(about: About) -> Trained {
    let network = about.design.network(&about.shape, about.norm).unwrap();
    let store = network.store();
    let mut context = Context::cpu(Cpu::new(1), ARENA).unwrap();
    store.reserve(&mut context).unwrap();
    store.initialise(&mut context, 3, 0).unwrap();
    let mut rng = Rng::new(5, Stream::Augment);
    let vectors = store.params().iter().filter(|p| p.dims.len() == 1).map(|p| p.span);
    for span in vectors.chain([context.whole(Region::State)]) {
        let values: Vec<f32> = (0..span.len).map(|_| (0.5 + rng.uniform()) as f32).collect();
        context.write(span, &values).unwrap();
    }
    for span in store.params().iter().filter(|p| p.dims.len() > 1).map(|p| p.span) {
        let values: Vec<f32> = context.read(span).unwrap().into_iter().map(|w| rounded(about.dtype, w)).collect();
        context.write(span, &values).unwrap();
    }
    let (images, logits) = answers(&about, &mut context, &*network, &mut rng);
    Trained { computation: computation(&mut context, &*network, &about.shape).unwrap(), about, images, logits }
}

fn rounded(dtype: Dtype, w: f32) -> f32 {
    match dtype {
        Dtype::F32 => w,
        Dtype::F16 => f16::from_f32(w).to_f32(),
        Dtype::Bf16 => bf16::from_f32(w).to_f32(),
    }
}

/// Images as others see them, and the engine's logits of what it makes of them itself.
fn answers(about: &About, context: &mut Context, network: &dyn Network, rng: &mut Rng) -> (Array, Vec<f32>) {
    let [channels, depth, height, width] = about.images.extent;
    let shape = ImageShape { channels, depth, height, width };
    let bytes: Vec<u8> = (0..IMAGES * shape.pixels()).map(|_| rng.below(256) as u8).collect();
    let (stored, gather, pixels): (_, _, Vec<f64>) = if shape.is_volume() {
        let gather = VolumeGather { size: [depth, height, width], views: 1 };
        // Eight voxels to a byte, from the lowest bit on.
        let bits = bytes.iter().map(|byte| byte & 1).collect::<Vec<u8>>();
        let packed = bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)).collect();
        let shape = ImageShape { width: width / 8, ..shape };
        (
            Images::from_pixels(packed, vec![0; IMAGES], shape),
            Gather::Volumes(gather),
            bits.into_iter().map(f64::from).collect(),
        )
    } else {
        let ImagesAbout { mean, std, .. } = about.images.clone();
        let size = [about.shape.image_size; 2];
        let gather = BatchGather { image: [channels, height, width], size, mean, std };
        let pixels = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();
        (Images::from_pixels(bytes, vec![0; IMAGES], shape), Gather::Images(gather), pixels)
    };
    let set = stored.unwrap();
    let indices = (0..IMAGES as u32).collect();
    let batch = Batch { set: &set, indices, placements: centred(IMAGES), labels: vec![0; IMAGES], views: 1 };
    let rows = logits(context, network, &gather, [batch].into_iter()).unwrap();
    let dims = match about.shape.is_volume() {
        true => vec![IMAGES, channels, depth, height, width],
        false => vec![IMAGES, channels, height, width],
    };
    (Array::floats(&dims, pixels), rows.concat())
}

/// What is written, and what a reader finds in it.
fn written(network: &Trained, options: OnnxOptions) -> (Onnx, Model) {
    let onnx = write(&network.computation, &network.about, &options).unwrap();
    let model = Model::decode(onnx.bytes.as_slice()).unwrap();
    (onnx, model)
}

/// The interpreter's logits.
fn interpreted(model: &Model, images: &Array) -> Vec<f64> {
    run(model, &[("images", images.clone())]).remove("logits").unwrap().data
}

/// Runs the model, folded and not, beside the engine; returns both as written.
#[track_caller]
fn compare(about: About) -> [(Onnx, Model); 2] {
    let network = trained(about);
    [PLAIN, FOLDED].map(|options| {
        let (onnx, model) = written(&network, options);
        well_formed(&model);
        let found = interpreted(&model, &network.images);
        assert_close(&format!("{} {options:?}", network.about.design.id()), &network.logits, &found, DEPTH);
        (onnx, model)
    })
}

/// How many nodes of an operator there are.
fn count(model: &Model, operator: &str) -> usize {
    model.graph.as_ref().unwrap().node.iter().filter(|node| node.op_type == operator).count()
}

/// Rules that the interpreter has no need of: unique names of nodes, nothing unused, every value described.
#[track_caller]
fn well_formed(model: &Model) {
    let graph = model.graph.as_ref().unwrap();
    let names: BTreeSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names.len(), graph.node.len(), "nodes of the same name");
    let read: BTreeSet<&str> = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    let made = graph.node.iter().map(|node| node.output[0].as_str()).filter(|&name| name != "logits");
    let unused =
        made.chain(graph.initializer.iter().map(|tensor| tensor.name.as_str())).find(|name| !read.contains(name));
    assert_eq!(unused, None);
    let described: BTreeSet<&str> = graph.value_info.iter().map(|info| info.name.as_str()).collect();
    let casts = count(model, "Cast");
    assert_eq!(described.len() + casts + 1, graph.node.len(), "values with an extent");
    let batches = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|info| {
        let shape = info.kind.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
        shape.dim[0].extent.clone()
    });
    assert!(batches.into_iter().all(|batch| batch == Some(Extent::Named("N".into()))));
}

// ---------------------------------------------------------------- numbers

#[test]
fn a_searched_network_computes_the_same_with_every_norm() {
    for (seed, norm) in [(1, NormKind::Sandwich), (2, NormKind::Full), (3, NormKind::Weightnorm)] {
        let [(plain, _), (folded, model)] = compare(about(searched(&Space::fixture(), seed), norm, PICTURE));
        assert_eq!(plain.folded, 0);
        assert_eq!(plain.kept, folded.folded + folded.kept);
        assert_eq!(folded.folded > 0, norm != NormKind::Weightnorm);
        assert_eq!(count(&model, "BatchNormalization"), folded.kept);
    }
}

#[test]
fn options_of_a_space_compute_the_same() {
    for (seed, order) in [(4, ActivationOrder::Pre), (5, ActivationOrder::Post)] {
        for shape in [PICTURE, STRIDED] {
            let [(_, model), _] = compare(about(searched(&optional(order), seed), NormKind::Full, shape));
            assert!(["Tanh", "Sigmoid", "Mul"].iter().all(|operator| count(&model, operator) > 0));
        }
    }
}

#[test]
fn built_in_networks_compute_the_same() {
    // How many BatchNorms there are, how many of them follow a convolution, and how many values are cut: shortcuts of
    // a ResNet leave out pixels, and split channels where zeros would be added.
    let counts = [
        ("wrn-10-1", [7, 3, 0]),
        ("resnet-8", [7, 7, 6]),
        ("densenet-10-4", [9, 0, 0]),
        ("densenet-bc-10-4", [9, 3, 0]),
        ("fractalnet-3-2", [14, 14, 0]),
    ];
    for (name, [norms, behind, cut]) in counts {
        let [(plain, _), (folded, model)] = compare(about(builtin(name), NormKind::Sandwich, PICTURE));
        assert_eq!([plain.folded, plain.kept], [0, norms], "{name}");
        assert_eq!([folded.folded, folded.kept], [behind, norms - behind], "{name}");
        assert_eq!(count(&model, "Slice"), cut, "{name}");
    }
}

#[test]
fn volumes_compute_the_same() {
    for (seed, shape) in [(6, VOLUME), (7, FLAT_VOLUME)] {
        compare(about(searched(&Space::fixture(), seed), NormKind::Sandwich, shape));
    }
}

#[test]
fn weights_in_16_bits_are_the_same_numbers_in_half_the_bytes() {
    let full = about(builtin("resnet-8"), NormKind::Sandwich, PICTURE);
    for (dtype, stored) in [(Dtype::F16, data_type::FLOAT16), (Dtype::Bf16, data_type::BFLOAT16)] {
        let rounded = trained(About { dtype, ..full.clone() });
        let (halved, model) = written(&rounded, PLAIN);
        well_formed(&model);
        let (whole, in_full) = written(&Trained { about: full.clone(), ..rounded.clone() }, PLAIN);
        assert_eq!(interpreted(&model, &rounded.images), interpreted(&in_full, &rounded.images));
        assert!(halved.bytes.len() * 10 < whole.bytes.len() * 6, "{} {}", halved.bytes.len(), whole.bytes.len());
        for tensor in &model.graph.unwrap().initializer {
            assert_eq!(tensor.data_type == stored, tensor.dims.len() > 1 && !tensor.name.starts_with("images."));
        }
        // What is folded is not rounded a second time.
        let (_, model) = written(&rounded, FOLDED);
        assert_close("folded", &rounded.logits, &interpreted(&model, &rounded.images), DEPTH);
    }
}

/// A convolution, two BatchNorms one behind the other, and a classifier; `branch` adds what the convolution found to it.
fn two_norms(branch: bool) -> Computation {
    let mut rng = Rng::new(9, Stream::Init);
    let mut constant = |name: &str, dims: &[usize]| {
        let values = (0..dims.iter().product()).map(|_| (0.2 + rng.uniform()) as f32).collect();
        Constant { name: name.into(), dims: dims.to_vec(), values }
    };
    let filter = constant("stem.w", &[4, 3, 3, 3]);
    let [a, b] = ["stem.bn_a", "stem.bn_b"].map(|name| {
        let [gamma, beta, mean, var] =
            ["gamma", "beta", "mean", "var"].map(|last| constant(&format!("{name}.{last}"), &[4]));
        Operation::BatchNorm { gamma, beta, mean, var, epsilon: 0.3 }
    });
    let (w, bias) = (constant("head.fc.w", &[5, 4]), constant("head.fc.b", &[5]));
    let instruction = |operation, from: &[usize], shape, part: &str| {
        let (from, part) = (from.to_vec(), part.to_string());
        Instruction { operation, from, shape, part, label: String::new() }
    };
    let (plane, mut instructions) = ([4, 1, 8, 8], Vec::new());
    instructions.push(instruction(Operation::Images, &[], [3, 1, 8, 8], ""));
    instructions.push(instruction(Operation::Conv { filter, dilation: vec![1, 1], groups: 1 }, &[0], plane, "stem"));
    instructions.push(instruction(a, &[1], plane, "stem"));
    instructions.push(instruction(b, &[2], plane, "stem"));
    let other = if branch { 1 } else { 3 };
    instructions.push(instruction(Operation::Add, &[3, other], plane, "stem"));
    instructions.push(instruction(Operation::GlobalAvgPool, &[4], [4, 1, 1, 1], "head"));
    instructions.push(instruction(Operation::Linear { w, b: bias }, &[5], [5, 1, 1, 1], "head"));
    Computation { instructions }
}

#[test]
fn norms_that_follow_each_other_are_folded_and_what_others_read_is_not() {
    let network = trained(about(builtin("resnet-8"), NormKind::Sandwich, PICTURE));
    for (branch, expected) in [(false, [2, 0]), (true, [0, 2])] {
        let network = Trained { computation: two_norms(branch), about: network.about.clone(), ..network.clone() };
        let (_, plain) = written(&network, PLAIN);
        let (onnx, folded) = written(&network, FOLDED);
        well_formed(&folded);
        assert_eq!([onnx.folded, onnx.kept], expected);
        let found: Vec<f32> = interpreted(&folded, &network.images).iter().map(|&x| x as f32).collect();
        assert_close("folded", &found, &interpreted(&plain, &network.images), 1);
    }
}

/// A tensor of the golden file.
#[derive(Deserialize)]
struct GoldenValue {
    dims: Vec<usize>,
    data: Vec<f64>,
}

#[test]
fn messages_and_interpreter_are_those_of_the_onnx_package() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let bytes = std::fs::read(format!("{folder}/onnx.onnx")).unwrap();
    let model = Model::decode(bytes.as_slice()).unwrap();
    assert!(model.encode_to_vec() == bytes, "encoded again it has other bytes");
    let text = std::fs::read_to_string(format!("{folder}/onnx.json")).unwrap();
    let golden: BTreeMap<String, GoldenValue> = serde_json::from_str(&text).unwrap();
    let input = |name| (name, Array::floats(&golden[name].dims, golden[name].data.clone()));
    let found = run(&model, &[input("images"), input("volumes")]);
    for (name, GoldenValue { dims, data }) in &golden {
        assert_eq!(&found[name].dims, dims, "{name}");
        let values: Vec<f32> = found[name].data.iter().map(|&x| x as f32).collect();
        assert_close(name, &values, data, 30);
    }
    assert_eq!(golden.len(), model.graph.unwrap().node.len() + 2);
}

// ---------------------------------------------------------------- what a file says

#[test]
fn weights_have_the_names_of_other_files_and_nodes_those_of_their_part() {
    let network = trained(about(searched(&Space::fixture(), 8), NormKind::Full, PICTURE));
    let (_, model) = written(&network, PLAIN);
    let graph = model.graph.unwrap();
    let stored: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut keys: BTreeSet<String> = ["images.mean", "images.std"].map(String::from).into();
    for constant in network.computation.instructions.iter().flat_map(|i| i.operation.constants()) {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == key(&constant.name)).unwrap();
        assert_eq!(tensor.dims.iter().product::<i64>(), constant.values.len() as i64);
        assert!(keys.insert(key(&constant.name)), "{} twice", constant.name);
    }
    let others: Vec<&&str> = stored.iter().filter(|&&name| !keys.contains(name)).collect();
    assert_eq!(keys.len() + others.len(), stored.len());
    assert!(others.iter().all(|name| name.starts_with("indices.")), "{others:?}");
    let nodes: BTreeSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
    for name in ["images/Pad", "images/Div", "stem/conv", "block0.op0/bn_in", "block0.op0/w_in", "transition0/conv"] {
        assert!(nodes.contains(name), "{name} is not among {nodes:?}");
    }
    let last = graph.node.last().unwrap();
    assert_eq!((last.name.as_str(), last.op_type.as_str(), last.output[0].as_str()), ("head/fc", "Gemm", "logits"));
    let banks = graph.value_info.iter().filter(|info| info.name.starts_with("block1/bank")).count();
    assert!(banks > 1, "{banks}");
}

#[test]
fn folding_leaves_a_bias_and_the_names_of_filters() {
    let network = trained(about(builtin("resnet-8"), NormKind::Sandwich, PICTURE));
    let (_, model) = written(&network, FOLDED);
    let graph = model.graph.unwrap();
    let conv = graph.node.iter().find(|node| node.name == "block1.unit0/conv0").unwrap();
    assert_eq!(conv.input[1..], ["block1.unit0.conv0.weight", "block1.unit0.conv0.bias"]);
    let strides = conv.attribute.iter().find(|attribute| attribute.name == "strides").unwrap();
    assert_eq!(strides.ints, [2, 2]);
}

#[test]
fn a_file_says_what_it_is() {
    let network = trained(about(builtin("densenet-10-4"), NormKind::Sandwich, PICTURE));
    let (_, model) = written(&network, PLAIN);
    assert_eq!((model.ir_version, model.opset_import[0].version), (7, 13));
    assert_eq!((model.producer_name.as_str(), model.producer_version.as_str()), ("smash-engine", "0.1.0"));
    assert!(model.doc_string.contains("images [N, 3, 6, 5] with pixels in 0..1"), "{}", model.doc_string);
    assert!(model.doc_string.contains("Test error 12.34 % of 50 images"), "{}", model.doc_string);
    let text = |key: &str| &model.metadata_props.iter().find(|text| text.key == key).unwrap().value;
    assert_eq!(serde_json::from_str::<Vec<String>>(text("classes")).unwrap(), network.about.images.classes);
    assert_eq!((text("data_set").as_str(), text("test_err").as_str()), ("a set", "12.34"));
    assert_eq!(About::from_json(text("smash_engine")).unwrap(), network.about);
    assert!(model.metadata_props.iter().all(|text| text.key != "val_err"), "there is none");
    assert_eq!(model.graph.unwrap().name, "densenet-10-4");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let network = trained(about(builtin("densenet-10-4"), NormKind::Sandwich, PICTURE));
    let (onnx, model) = written(&network, PLAIN);
    let len = onnx.bytes.len();
    assert_eq!(encode(&model, len).unwrap(), onnx.bytes);
    let error = encode(&model, len - 1).unwrap_err().to_string();
    assert!(error.starts_with("as an ONNX file the network would have 0.00 GB") && error.contains("--dtype f16"));
    let mut about = network.about;
    about.images.extent[3] = 9;
    let error = write(&network.computation, &about, &PLAIN).unwrap_err().to_string();
    assert_eq!(error, "images of [3, 1, 6, 9] do not fit into a network for [3, 1, 8, 8]");
}
