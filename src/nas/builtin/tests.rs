//! Promises of the built-in networks: they are those of their papers, in size and in what they compute.

use super::Builtin;
use super::network::BuiltinNetwork;
use crate::backend::cpu::Isa;
use crate::backend::{Context, Cpu, Kind, Region, Span};
use crate::nas::train::{Network, plan_evaluation, plan_step};
use crate::nas::twin::NetworkShape;
use crate::nn::norm::Mode;
use crate::nn::optim::zero_gradients;
use crate::ops::cross_entropy::cross_entropy;
use crate::tape::Tape;
use crate::tensor::Shape;
use serde::Deserialize;
use std::collections::BTreeMap;

const CIFAR: NetworkShape = NetworkShape::pictures(3, 32, 10, 7);
/// Of the golden numbers.
const SMALL: NetworkShape = NetworkShape::pictures(3, 8, 5, 7);
const BATCH: usize = 3;

fn builtin(name: &str) -> Builtin {
    name.parse().unwrap()
}

#[test]
fn parameters_are_as_many_as_published() {
    // Millions, as the papers print them: WRN table 4 and 5, ResNet table 6, DenseNet table 2.
    let printed = [
        ("wrn-40-1", 0.6, 1),
        ("wrn-40-2", 2.2, 1),
        ("wrn-40-4", 8.9, 1),
        ("wrn-16-8", 11.0, 1),
        ("wrn-28-10", 36.5, 1),
        ("resnet-20", 0.27, 2),
        ("resnet-32", 0.46, 2),
        ("resnet-44", 0.66, 2),
        ("resnet-56", 0.85, 2),
        ("resnet-110", 1.7, 1),
        ("resnet-1202", 19.4, 1),
        ("densenet-40-12", 1.0, 1),
        ("densenet-100-12", 7.0, 1),
        ("densenet-100-24", 27.2, 1),
        ("densenet-bc-100-12", 0.8, 1),
        ("densenet-bc-250-24", 15.3, 1),
        ("densenet-bc-190-40", 25.6, 1),
    ];
    for (name, millions, digits) in printed {
        let params = builtin(name).graph(&CIFAR).unwrap().cost().params;
        assert_eq!(format!("{:.digits$}", params as f64 / 1e6), format!("{millions:.digits$}"), "{name}: {params}");
    }
    // As PyTorch counts them in common implementations; FractalNet by its definition, which its paper puts at 38.6 M.
    let exact = [
        ("wrn-16-2", 691_674),
        ("wrn-28-10", 36_479_194),
        ("resnet-20", 269_722),
        ("resnet-110", 1_727_962),
        ("densenet-40-12", 1_019_722),
        ("densenet-bc-100-12", 769_162),
        ("fractalnet-3-5", 33_724_618),
    ];
    for (name, params) in exact {
        assert_eq!(builtin(name).graph(&CIFAR).unwrap().cost().params, params, "{name}");
    }
}

#[test]
fn multiply_accumulates_are_as_many_as_published() {
    // Huang et al. 2018 (CondenseNet), table 3; Li et al. 2017 (pruning filters), table 1.
    let printed = [("wrn-28-10", 5248.0, 1e6), ("resnet-56", 1.25, 1e8), ("resnet-110", 2.53, 1e8)];
    for (name, published, unit) in printed {
        let found = builtin(name).graph(&CIFAR).unwrap().cost().macs as f64 / unit;
        assert!((found / published - 1.0).abs() < 0.005, "{name}: {found} of {unit:e}, published are {published}");
    }
}

#[test]
fn depth_counts_the_layers_with_weights() {
    let graph = |name| builtin(name).graph(&CIFAR).unwrap();
    // A Wide-ResNet's depth counts its three shortcuts, but not its classifier.
    let layers = [("resnet-20", 20), ("densenet-40-12", 40), ("densenet-bc-100-12", 100), ("wrn-40-4", 40 + 1)];
    for (name, expected) in layers {
        assert_eq!(graph(name).weighted_layers(), expected, "{name}");
    }
    let column = |c: usize| {
        let start = format!("block4.column{c}.");
        graph("fractalnet-3-5").layers().iter().filter(|layer| layer.name.starts_with(&start)).count() / 2
    };
    assert_eq!([0, 1, 2].map(column), [4, 2, 1]);
}

#[test]
fn names_are_read_and_written_and_wrong_ones_explained() {
    for name in ["wrn-16-2", "resnet-20", "densenet-40-12", "densenet-bc-100-12", "fractalnet-3-5"] {
        assert!(Builtin::is_name(name));
        assert_eq!(builtin(name).to_string(), name);
    }
    for other in ["wrn", "a1b2c3d4e5f6", "arch/wrn-16-2.json", "wrn-16-2.json", "x-1"] {
        assert!(!Builtin::is_name(other), "{other}");
    }
    let wrong = [
        ("wrn-17-2", "wrn-17-2: the depth 17 is not 6n + 4, such as 10, 16, 40, up to 2000"),
        ("wrn-16-0", "wrn-16-0: the width 0 is not between 1 and 64"),
        ("resnet-18", "resnet-18: the depth 18 is not 6n + 2, such as 8, 14, 38, up to 2000"),
        ("resnet-2", "resnet-2: the depth 2 is not 6n + 2, such as 8, 14, 38, up to 2000"),
        ("resnet-3002", "resnet-3002: the depth 3002 is not 6n + 2, such as 8, 14, 38, up to 2000"),
        ("densenet-1000-12", "densenet-1000-12: layers per block: 332 is not between 1 and 127"),
        ("fractalnet-3-6", "fractalnet-3-6: the number of blocks 6 is not between 1 and 5"),
        ("wrn-16", "wrn-16: is none of the built-in networks: wrn-DEPTH-WIDTH,"),
        ("resnet-x", "resnet-x: is none of the built-in networks: wrn-DEPTH-WIDTH,"),
        ("wrn-99999999999999999999-2", "wrn-99999999999999999999-2: is none of the built-in networks"),
    ];
    for (name, message) in wrong {
        let error = name.parse::<Builtin>().unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn images_that_a_network_cannot_take_are_refused() {
    let error = |name: &str, shape| builtin(name).graph(&shape).unwrap_err().to_string();
    let volume = NetworkShape { image_depth: 32, ..CIFAR };
    assert_eq!(error("wrn-16-2", volume), "wrn-16-2: is for pictures, and these are volumes");
    let message = error("fractalnet-3-5", NetworkShape::pictures(3, 48, 10, 7));
    assert!(message.starts_with("fractalnet-3-5: halves pictures 5 times, and behind the stem these have 48 x 48"));
    // A stem of stride 2 halves them too, and the network behind it.
    let large = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(3, 96, 10, 7) };
    assert!(error("fractalnet-2-5", large).contains("have 48 x 48 pixels"));
    let last = |name: &str| builtin(name).graph(&large).unwrap().layers().iter().rev().nth(1).unwrap().size;
    assert_eq!((last("wrn-16-2"), last("fractalnet-2-3")), (12, 6));
}

/// What PyTorch finds, by tools/golden_builtin.py.
#[derive(Deserialize)]
struct Golden {
    logits: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, f64>,
    parameters: usize,
    eval_logits: Vec<f64>,
}

/// The sines of tools/golden_builtin.py as parameters.
fn initialise(network: &BuiltinNetwork, context: &mut Context) {
    network.store().reserve(context).unwrap();
    for param in network.store().params() {
        let k: u32 = param.name.bytes().map(u32::from).sum();
        let offset = f64::from(u8::from(param.name.ends_with(".gamma")));
        let sine = |i: usize| (offset + 0.3 * (1.3 * i as f64 + 0.7 * f64::from(k)).sin()) as f32;
        context.write(param.span, &(0..param.span.len).map(sine).collect::<Vec<_>>()).unwrap();
    }
}

/// Its images, as C, H, W, N.
fn images() -> Vec<f32> {
    let Shape { c, h, w, n, .. } = SMALL.batch(BATCH);
    let at = |i: usize| (0.9 * i as f64).sin() as f32;
    (0..c * h * w * n).map(|i| at(i % n * (c * h * w) + i / n)).collect()
}

fn assert_close(what: &str, got: f64, expected: f64, scale: f64) {
    assert!((got - expected).abs() <= 2e-4 * scale, "{what}: {got}, PyTorch says {expected}");
}

fn check(name: &str, golden: &Golden) {
    let network = builtin(name).network(&SMALL).unwrap();
    assert_eq!(network.store().len(), golden.parameters, "{name}");
    assert_eq!(network.graph().cost().params, golden.parameters as u64, "{name}: as counted");
    let shape = SMALL.batch(BATCH);
    // Memory of exactly the size that dry runs find.
    let planned = [plan_step(Kind::Cpu, &network, shape), plan_evaluation(Kind::Cpu, &network, shape)];
    let planned = planned.map(|len| len.unwrap());
    let mut context = Context::cpu(Cpu::with_isa(2, Isa::detect()), planned[0].max(planned[1])).unwrap();
    initialise(&network, &mut context);
    zero_gradients(&mut context).unwrap();
    let mut tape = Tape::new(&mut context);
    let x = tape.input(shape, &images(), false).unwrap();
    let logits = network.logits(&mut tape, x, Mode::Train).unwrap();
    let found = tape.read(logits).unwrap();
    let labels: Vec<u16> = (0..BATCH as u16).collect();
    let entropy = cross_entropy(&mut tape, logits, &labels).unwrap();
    let loss = tape.read(entropy.result).unwrap()[0];
    tape.release(logits);
    tape.backward(entropy.loss).unwrap();
    drop(tape);
    assert_eq!(context.arena().high_water(), planned[0], "{name}: planned memory");
    compare_logits(name, &found, &golden.logits);
    assert_close(name, f64::from(loss), golden.loss, golden.loss);
    let most = golden.gradients.values().fold(0.0f64, |a, &b| a.max(b));
    for param in network.store().params() {
        let gradient = context.read(Span { region: Region::Grads, ..param.span }).unwrap();
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        // Small gradients are differences of large ones.
        let expected = golden.gradients[&param.name];
        assert_close(&format!("{name}: gradient of {}", param.name), norm, expected, 10.0 * (expected + 0.1 * most));
    }
    let mut tape = Tape::new(&mut context);
    let x = tape.input(shape, &images(), false).unwrap();
    let logits = network.logits(&mut tape, x, Mode::Eval).unwrap();
    compare_logits(&format!("{name}, evaluated"), &tape.read(logits).unwrap(), &golden.eval_logits);
}

/// Ours are [classes, N], PyTorch's [N, classes].
fn compare_logits(what: &str, got: &[f32], expected: &[f64]) {
    let scale = expected.iter().fold(0.0f64, |a, &b| a.max(b.abs()));
    for (i, &expected) in expected.iter().enumerate() {
        let (n, class) = (i / SMALL.classes, i % SMALL.classes);
        assert_close(&format!("{what}: logit {class} of image {n}"), got[class * BATCH + n].into(), expected, scale);
    }
}

#[test]
fn tiny_ones_compute_what_pytorch_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/builtin.json");
    let all: BTreeMap<String, Golden> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(all.len(), 6);
    all.iter().for_each(|(name, golden)| check(name, golden));
}
