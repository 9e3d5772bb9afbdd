//! The engine agrees with an independent implementation: every number of `tests/golden`, whose
//! README says what the cases exercise and how PyTorch computed them in float64.
//!
//! Each case runs on every instruction set of the machine with 1 and 2 threads: encoding,
//! HyperNet output, training logits, loss, every gradient, running statistics, evaluation
//! logits, and ten training steps. Parameters are matched by name in both directions.

use safetensors::SafeTensors;
use serde::Deserialize;
use smash_engine::backend::cpu::Isa;
use smash_engine::backend::{Context, Cpu, Region, Span};
use smash_engine::nas::arch::Architecture;
use smash_engine::nas::cost::NetworkShape;
use smash_engine::nas::encode::{EncodeOptions, encode};
use smash_engine::nas::hypernet::{HyperConfig, HyperNet};
use smash_engine::nas::mainnet;
use smash_engine::nas::resulting::{NormKind, ResultingNetwork};
use smash_engine::nas::smash::{EncodingConfig, SmashNetwork};
use smash_engine::nn::norm::Mode;
use smash_engine::nn::optim::{Optimizer, zero_gradients};
use smash_engine::nn::params::ParamStore;
use smash_engine::ops::activation::LEAKY_SLOPE;
use smash_engine::ops::batchnorm::{EPSILON, MOMENTUM};
use smash_engine::ops::cross_entropy::cross_entropy;
use smash_engine::tape::{Tape, Var};
use smash_engine::tensor::Shape;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Elements of the step arena: several times what the largest case needs.
const ARENA: usize = 1 << 23;

/// Largest difference from the golden numbers, relative to a tensor's largest magnitude.
///
/// The golden numbers are exact to f32; the engine sums in f32. How far f32 sums of these
/// networks can drift was measured with the PyTorch code itself, run in f32: 7e-7 on values
/// (`logits`, `loss`, `hyper_out`, statistics), 5e-6 on gradients, which cancel, and 4e-7 on the
/// losses and parameters of ten updates. Ten times that leaves room for another order of summation,
/// and is still hundreds of times below what the smallest mistake changes (7e-3, see the README).
mod tolerance {
    pub const VALUES: f64 = 1e-5;
    pub const GRADIENTS: f64 = 6e-5;
    pub const TRAINED: f64 = 5e-6;
}

#[test]
fn smash_network_with_the_paper_encoding_agrees_with_pytorch() {
    check("smash_v1");
}

#[test]
fn smash_network_with_groups_and_filter_windows_agrees_with_pytorch() {
    check("smash_v2");
}

#[test]
fn smash_network_with_shared_slices_and_leftover_banks_agrees_with_pytorch() {
    check("smash_v2_b");
}

#[test]
fn resulting_network_with_sandwich_norm_agrees_with_pytorch() {
    check("resulting_sandwich");
}

#[test]
fn resulting_network_with_full_norm_agrees_with_pytorch() {
    check("resulting_full");
}

#[test]
fn resulting_network_with_weight_norm_agrees_with_pytorch() {
    check("resulting_weightnorm");
}

/// Runs a case everywhere; the number of threads must not change a bit.
fn check(name: &str) {
    let golden = Golden::load(name);
    golden.check_constants();
    for isa in Isa::available() {
        let bits = [1, 2].map(|threads| {
            let what = format!("{name} on {} with {threads} threads", isa.name());
            Run::new(&golden, what, isa, threads).check()
        });
        assert!(bits[0] == bits[1], "{name} on {}: 2 threads give other bits than 1", isa.name());
    }
}

/// `case.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    schema: u32,
    network: String,
    variant: Option<NormKind>,
    classes: usize,
    image_channels: usize,
    image_size: usize,
    batch: usize,
    hyper: Option<Hyper>,
    batch_norm: BatchNorm,
    optimizer: Update,
    steps: usize,
    #[serde(rename = "final")]
    trained: Vec<String>,
    #[serde(rename = "arch_seed")]
    _arch_seed: u64,
    #[serde(rename = "parameter_seed")]
    _parameter_seed: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hyper {
    stem: usize,
    layers: Vec<usize>,
    growth: usize,
    leaky_slope: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchNorm {
    eps: f32,
    momentum: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Update {
    Adam { lr: f32, beta1: f32, beta2: f32, eps: f32, weight_decay: f32, no_decay_prefix: String },
    Sgd { lr: f32, momentum: f32, nesterov: bool, weight_decay: f32 },
}

impl Update {
    fn lr(&self) -> f32 {
        match *self {
            Self::Adam { lr, .. } | Self::Sgd { lr, .. } => lr,
        }
    }
}

/// A tensor as PyTorch lays it out, row-major.
struct Expected {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A case: the architecture, what it is run with, and what comes out.
struct Golden {
    arch: Architecture,
    case: Case,
    tensors: Vec<u8>,
}

impl Golden {
    fn load(name: &str) -> Self {
        let folder = folder().join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).expect("the golden files are committed");
        let case: Case = serde_json::from_slice(&read("case.json")).expect("case.json");
        assert_eq!(case.schema, 1);
        let arch = Architecture::load(folder.join("arch.json")).expect("arch.json");
        Self { arch, case, tensors: read("tensors.safetensors") }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.tensors).expect("tensors.safetensors")
    }

    fn tensor(&self, name: &str) -> Expected {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        Expected { shape: view.shape().to_vec(), values: bytemuck::pod_collect_to_vec(view.data()) }
    }

    /// What follows `prefix` in the names of the tensors that start with it.
    fn names(&self, prefix: &str) -> BTreeSet<String> {
        self.file().names().iter().filter_map(|n| n.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    fn labels(&self) -> Vec<u16> {
        let file = self.file();
        let labels: Vec<i32> = bytemuck::pod_collect_to_vec(file.tensor("labels").expect("labels").data());
        labels.into_iter().map(|label| u16::try_from(label).expect("a class")).collect()
    }

    fn optimizer(&self) -> Optimizer {
        match self.case.optimizer {
            Update::Adam { .. } => Optimizer::SMASH,
            Update::Sgd { .. } => Optimizer::RESULTING,
        }
    }

    /// The constants PyTorch used are those of the engine.
    fn check_constants(&self) {
        let Case { batch_norm, hyper, optimizer, .. } = &self.case;
        assert_eq!((batch_norm.eps, batch_norm.momentum), (EPSILON, MOMENTUM));
        assert!(hyper.as_ref().is_none_or(|h| h.leaky_slope == LEAKY_SLOPE));
        let same = match optimizer {
            Update::Adam { beta1, beta2, eps, weight_decay, no_decay_prefix, .. } => {
                assert_eq!(no_decay_prefix, "hyper.");
                Optimizer::Adam { beta1: *beta1, beta2: *beta2, epsilon: *eps, decay: *weight_decay }
            }
            Update::Sgd { momentum, nesterov, weight_decay, .. } => {
                assert!(nesterov, "the engine's momentum is Nesterov's");
                Optimizer::Sgd { momentum: *momentum, decay: *weight_decay }
            }
        };
        assert_eq!(same, self.optimizer());
    }

    fn network(&self) -> Network {
        let Case { image_channels, image_size, classes, .. } = self.case;
        let shape = NetworkShape::pictures(image_channels, image_size, classes, 7);
        match self.hyper_config() {
            Some(hyper) => {
                Network::Smash(SmashNetwork::new(&self.arch.space, shape, &hyper, EncodingConfig::default()))
            }
            None => {
                let variant = self.case.variant.expect("a resulting network has a variant");
                Network::Resulting(ResultingNetwork::new(&self.arch, shape, variant))
            }
        }
    }

    fn hyper_config(&self) -> Option<HyperConfig> {
        let config = self.case.hyper.as_ref().map(|h| HyperConfig {
            stem: h.stem,
            layers: h.layers.clone(),
            growth: h.growth.into(),
        });
        assert_eq!(config.is_some(), self.case.network == "smash");
        config
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

enum Network {
    Smash(SmashNetwork),
    Resulting(ResultingNetwork),
}

impl Network {
    fn store(&self) -> &ParamStore {
        match self {
            Self::Smash(network) => network.store(),
            Self::Resulting(network) => network.store(),
        }
    }

    fn logits(&self, tape: &mut Tape<'_>, arch: &Architecture, images: Var, mode: Mode) -> Var {
        let logits = match self {
            Self::Smash(network) => network
                .generate(tape, arch, mode)
                .and_then(|weights| mainnet::forward(tape, arch, &weights, images, mode)),
            Self::Resulting(network) => mainnet::forward(tape, arch, &network.weights(mode), images, mode),
        };
        logits.expect("the architecture fits the network")
    }
}

/// A case on one device.
struct Run<'g> {
    golden: &'g Golden,
    /// Names case and device in messages.
    what: String,
    network: Network,
    context: Context,
    /// C, H, W, N.
    images: (Shape, Vec<f32>),
    labels: Vec<u16>,
}

impl<'g> Run<'g> {
    fn new(golden: &'g Golden, what: String, isa: Isa, threads: usize) -> Self {
        let mut context = Context::cpu(Cpu::with_isa(threads, isa), ARENA).expect("memory");
        context.fill(context.whole(Region::Step), f32::NAN).expect("memory");
        let network = golden.network();
        network.store().reserve(&mut context).expect("memory");
        let images = channels_first(&golden.tensor("x"));
        assert_eq!(images.0.n, golden.case.batch);
        let mut run = Self { golden, what, network, context, images, labels: golden.labels() };
        run.load_parameters();
        run
    }

    /// Starts from `p/`: the same names and shapes on both sides.
    fn load_parameters(&mut self) {
        let params = self.network.store().params();
        let names: BTreeSet<String> = params.iter().map(|p| p.name.clone()).collect();
        assert_eq!(names, self.golden.names("p/"), "{}: names of parameters", self.what);
        for param in params {
            let start = self.golden.tensor(&format!("p/{}", param.name));
            assert_eq!(param.dims, start.shape, "{}: {}", self.what, param.name);
            self.context.write(param.span, &start.values).expect("memory");
        }
    }

    /// All comparisons; returns the bits of everything that was computed last.
    fn check(mut self) -> Vec<u32> {
        if self.golden.hyper_config().is_some() {
            self.check_encoding();
            self.check_hypernet();
        }
        self.check_first_step();
        self.check_evaluation();
        self.check_training();
        self.bits()
    }

    fn check_encoding(&self) {
        let expected = self.golden.tensor("c");
        let c = encode(&self.golden.arch, EncodeOptions::default());
        assert_eq!([c.channels, c.height, c.width], expected.shape[..]);
        assert_eq!(c.data, expected.values, "{}: encoding", self.what);
    }

    fn check_hypernet(&mut self) {
        // Its parameters are the first of the network's, so a HyperNet of its own finds them.
        let config = self.golden.hyper_config().expect("a SMASH network");
        let hypernet = HyperNet::add(&mut ParamStore::default(), &self.golden.arch.space, &config, false);
        let c = encode(&self.golden.arch, EncodeOptions::default());
        let mut tape = Tape::new(&mut self.context);
        let c = tape.input(Shape::new(c.channels, c.height, c.width, 1), &c.data, false).expect("memory");
        let output = hypernet.forward(&mut tape, c, Mode::Eval).expect("the encoding fits");
        let Shape { c, h, w, .. } = tape.shape(output);
        let expected = self.golden.tensor("hyper_out");
        assert_eq!([c, h, w], expected.shape[..]);
        let got = tape.read(output).expect("memory");
        self.compare("hyper_out", &got, tolerance::VALUES);
    }

    /// Forward and backward of the batch; returns logits, loss, and where that lies.
    fn train_on_batch(&mut self) -> (Vec<f32>, f32, Span) {
        zero_gradients(&mut self.context).expect("memory");
        let mut tape = Tape::new(&mut self.context);
        let images = tape.input(self.images.0, &self.images.1, false).expect("arena");
        let logits = self.network.logits(&mut tape, &self.golden.arch, images, Mode::Train);
        let entropy = cross_entropy(&mut tape, logits, &self.labels).expect("labels fit");
        let (logits, loss) = (tape.read(logits).expect("memory"), tape.read(entropy.loss).expect("memory")[0]);
        let at = tape.tensor(entropy.loss).span;
        tape.backward(entropy.loss).expect("arena");
        (logits, loss, at)
    }

    fn check_first_step(&mut self) {
        let (logits, loss, _) = self.train_on_batch();
        self.compare("logits", &self.batch_first(&logits), tolerance::VALUES);
        self.compare("loss", &[loss], tolerance::VALUES);
        let params = self.network.store().params().to_vec();
        assert_eq!(self.golden.names("g/").len(), params.len());
        for param in &params {
            let name = format!("g/{}", param.name);
            let got = self.read(param.span.in_region(Region::Grads));
            self.compare(&name, &got, tolerance::GRADIENTS);
            // What an architecture leaves out of a shared filter must not move at all.
            let expected = self.golden.tensor(&name).values;
            let stray = (0..got.len()).find(|&i| expected[i] == 0.0 && got[i] != 0.0);
            assert_eq!(stray, None, "{}: {name} is not 0 where nothing is used", self.what);
        }
        let statistics = self.network.store().statistics().to_vec();
        assert_eq!(self.golden.names("running/").len(), statistics.len());
        for statistic in &statistics {
            let got = self.read(statistic.span);
            self.compare(&format!("running/{}", statistic.name), &got, tolerance::VALUES);
        }
    }

    fn check_evaluation(&mut self) {
        let mut tape = Tape::new(&mut self.context);
        let images = tape.input(self.images.0, &self.images.1, false).expect("arena");
        let logits = self.network.logits(&mut tape, &self.golden.arch, images, Mode::Eval);
        let logits = tape.read(logits).expect("memory");
        self.compare("eval_logits", &self.batch_first(&logits), tolerance::VALUES);
    }

    fn check_training(&mut self) {
        let (optimizer, lr) = (self.golden.optimizer(), self.golden.case.optimizer.lr());
        let losses: Vec<f32> = (1..=self.golden.case.steps as u64)
            .map(|step| {
                let (_, loss, at) = self.train_on_batch();
                optimizer.step(&mut self.context, self.network.store(), lr, step, at).expect("memory");
                loss
            })
            .collect();
        self.compare("losses", &losses, tolerance::TRAINED);
        let trained: BTreeSet<String> = self.golden.case.trained.iter().cloned().collect();
        assert_eq!(trained, self.golden.names("final/"));
        let params = self.network.store().params().to_vec();
        for param in params.iter().filter(|p| trained.contains(&p.name)) {
            let got = self.read(param.span);
            self.compare(&format!("final/{}", param.name), &got, tolerance::TRAINED);
        }
    }

    fn read(&mut self, span: Span) -> Vec<f32> {
        self.context.read(span).expect("memory")
    }

    fn bits(&mut self) -> Vec<u32> {
        let regions = [Region::Params, Region::Grads, Region::State].map(|region| self.context.whole(region));
        regions.iter().flat_map(|&r| self.read(r)).map(|x| x.to_bits()).collect()
    }

    /// [classes, batch] as the engine has it to [batch, classes].
    fn batch_first(&self, logits: &[f32]) -> Vec<f32> {
        let (classes, n) = (self.golden.case.classes, self.labels.len());
        (0..n * classes).map(|i| logits[i % classes * n + i / classes]).collect()
    }

    /// Compares with the golden tensor `name`; see [`tolerance`]. A tensor of zeros must be 0.
    #[track_caller]
    fn compare(&self, name: &str, got: &[f32], tolerance: f64) {
        let expected = self.golden.tensor(name).values;
        assert_eq!(got.len(), expected.len(), "{}: length of {name}", self.what);
        let scale = expected.iter().fold(0.0, |m: f64, &x| m.max(f64::from(x.abs())));
        for (i, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
            let error = (f64::from(got) - f64::from(expected)).abs();
            // Written so that NaN fails.
            let close = error <= tolerance * scale;
            assert!(
                close,
                "{}: {name}[{i}] is {got}, expected {expected}; {:.1e} of the largest magnitude",
                self.what,
                error / scale
            );
        }
    }
}

/// [N, C, H, W] as PyTorch has it to the engine's C, H, W, N.
fn channels_first(x: &Expected) -> (Shape, Vec<f32>) {
    let [n, c, h, w] = x.shape[..] else { panic!("{:?} is not a batch of images", x.shape) };
    let shape = Shape::new(c, h, w, n);
    let values = (0..shape.len()).map(|i| x.values[i % n * c * h * w + i / n]).collect();
    (shape, values)
}
