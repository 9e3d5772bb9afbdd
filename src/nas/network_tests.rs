//! Promises of whole networks: memory banks express known blocks, costs are exact, a dry run
//! finds the real memory, training learns, and everything is connected.

use super::arch::{Architecture, Block, Conv, Op};
use super::cost::{NetworkShape, cost};
use super::encode::{EncodeOptions, encode};
use super::hypernet::HyperConfig;
use super::mainnet::forward;
use super::options::Nonlinearity;
use super::resulting::{NormKind, ResultingNetwork};
use super::sample::{SampleLimits, sample};
use super::smash::{EncodingConfig, SmashNetwork};
use super::space::Space;
use crate::backend::cpu::Filter;
use crate::backend::{Context, Cpu, Kind, Region, Span};
use crate::nn::norm::Mode;
use crate::nn::optim::{Optimizer, zero_gradients};
use crate::nn::params::ParamStore;
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::batchnorm::{Batchnorm, MOMENTUM, batchnorm};
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::weightnorm::weightnorm;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::testing::assert_close;

const SHAPE: NetworkShape = NetworkShape::pictures(3, 8, 5, 3);
/// f32 of a step arena, several times what the networks of this file need.
const ARENA: usize = 1 << 24;

// ---------------------------------------------------------------- what the tests share

/// Random images with labels.
struct Batch {
    shape: Shape,
    images: Vec<f32>,
    labels: Vec<u16>,
}

impl Batch {
    fn random(n: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed, Stream::Init);
        let shape = Shape::new(SHAPE.image_channels, SHAPE.image_size, SHAPE.image_size, n);
        let images = (0..shape.len()).map(|_| rng.normal() as f32).collect();
        Self { shape, images, labels: (0..n).map(|_| rng.below(SHAPE.classes) as u16).collect() }
    }

    fn input(&self, tape: &mut Tape<'_>) -> Var {
        tape.input(self.shape, &self.images, false).unwrap()
    }
}

fn cpu(store: &ParamStore, threads: usize, arena: usize) -> Context {
    let mut context = Context::cpu(Cpu::new(threads), arena).unwrap();
    store.reserve(&mut context).unwrap();
    store.initialise(&mut context, 3, 0).unwrap();
    context
}

fn small_smash() -> SmashNetwork {
    let hyper = HyperConfig { stem: 4, layers: vec![2, 2, 1], growth: 4.into() };
    SmashNetwork::new(&Space::fixture(), SHAPE, &hyper, EncodingConfig::default())
}

/// Architectures of the small space, large and small ones.
fn drawn(count: usize, seed: u64) -> Vec<Architecture> {
    let space = Space::fixture();
    let mut rng = Rng::new(seed, Stream::Arch);
    (0..count).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)).collect()
}

/// Loss and gradients of a batch under `arch` (NaN on a device that only plans), and where the loss lies.
fn smash_step(context: &mut Context, network: &SmashNetwork, arch: &Architecture, batch: &Batch) -> (f32, Span) {
    zero_gradients(context).unwrap();
    let mut tape = Tape::new(context);
    let images = batch.input(&mut tape);
    let weights = network.generate(&mut tape, arch, Mode::Train).unwrap();
    let logits = forward(&mut tape, arch, &weights, images, Mode::Train).unwrap();
    let entropy = cross_entropy(&mut tape, logits, &batch.labels).unwrap();
    let loss = tape.read(entropy.loss).unwrap().first().copied().unwrap_or(f32::NAN);
    let span = tape.tensor(entropy.loss).span;
    tape.backward(entropy.loss).unwrap();
    (loss, span)
}

fn whole(context: &mut Context, region: Region) -> Vec<f32> {
    context.read(context.whole(region)).unwrap()
}

fn bits(context: &mut Context, region: Region) -> Vec<u32> {
    whole(context, region).iter().map(|x| x.to_bits()).collect()
}

// ---------------------------------------------------------------- Fig. 1: known blocks

/// A network of memory banks next to its direct definition.
struct Pair {
    arch: Architecture,
    network: ResultingNetwork,
}

/// What a block computes, written without banks: from its input to all that leaves it.
type DirectBlock = fn(&Pair, &mut Tape<'_>, usize, Var) -> Var;

impl Pair {
    /// Three blocks, with ops from `ops` (given the banks a block starts with), bank size `s`.
    fn new(s: usize, ops: fn(usize) -> Vec<Op>) -> Self {
        let space = Space::fixture();
        let block = |b| {
            let n_banks = space.bank_count(b, s, 1.0);
            Block { bank_size: s, n_banks, ops: ops(space.initial_banks(b, s)) }
        };
        let blocks = (0..3).map(block).collect();
        let arch = Architecture::new(space, blocks);
        arch.validate().unwrap();
        // Weight norm: an op of the search itself, as in the paper's figure, without BatchNorm.
        let network = ResultingNetwork::new(&arch, SHAPE, NormKind::Weightnorm);
        Self { arch, network }
    }

    /// Logits and gradients are those of the direct definition.
    fn check(&self, direct: DirectBlock) {
        let batch = Batch::random(3, 1);
        let mut context = cpu(self.network.store(), 1, ARENA);
        let mut run = |build: &dyn Fn(&mut Tape<'_>, Var) -> Var| {
            zero_gradients(&mut context).unwrap();
            let mut tape = Tape::new(&mut context);
            let images = batch.input(&mut tape);
            let logits = build(&mut tape, images);
            let y = tape.read(logits).unwrap();
            let entropy = cross_entropy(&mut tape, logits, &batch.labels).unwrap();
            tape.backward(entropy.loss).unwrap();
            (y, whole(&mut context, Region::Grads))
        };
        let weights = self.network.weights(Mode::Train);
        let banks = run(&|tape, images| forward(tape, &self.arch, &weights, images, Mode::Train).unwrap());
        let plain = run(&|tape, images| self.direct(tape, images, direct));
        let exact = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        // Both sides sum in f32, over at most a few hundred products, in different orders.
        assert_close("logits", &banks.0, &exact(&plain.0), 300);
        for param in self.network.store().params() {
            let range = param.span.start..param.span.start + param.span.len;
            let expected = exact(&plain.1[range.clone()]);
            assert!(expected.iter().any(|&g| g != 0.0), "{} has no gradient", param.name);
            assert_close(&param.name, &banks.1[range], &expected, 300);
        }
    }

    fn direct(&self, tape: &mut Tape<'_>, images: Var, block: DirectBlock) -> Var {
        let (stem, dims) = self.param(tape, "stem.w");
        let mut x = plain_conv(tape, images, stem, &dims, [1, 1], 1);
        for b in 0..3 {
            x = block(self, tape, b, x);
            if b < 2 {
                x = self.norm_relu(tape, &format!("transition{b}.bn"), x);
                let (w, dims) = self.param(tape, &format!("transition{b}.w"));
                x = plain_conv(tape, x, w, &dims, [1, 1], 1);
                x = avg_pool(tape, x).unwrap();
            }
        }
        x = self.norm_relu(tape, "head.bn", x);
        x = global_avg_pool(tape, x).unwrap();
        let ((w, _), (bias, _)) = (self.param(tape, "head.fc.w"), self.param(tape, "head.fc.b"));
        linear(tape, x, w, bias).unwrap()
    }

    fn param(&self, tape: &mut Tape<'_>, name: &str) -> (Var, Vec<usize>) {
        let param = self.network.store().params().iter().find(|p| p.name == name).expect(name);
        (tape.param(Shape::vector(param.span.len), param.span, true), param.dims.clone())
    }

    fn norm_relu(&self, tape: &mut Tape<'_>, name: &str, x: Var) -> Var {
        let running: [Span; 2] = ["mean", "var"].map(|what| {
            let statistics = self.network.store().statistics();
            statistics.iter().find(|s| s.name == format!("{name}.{what}")).expect(name).span
        });
        let ((gamma, _), (beta, _)) =
            (self.param(tape, &format!("{name}.gamma")), self.param(tape, &format!("{name}.beta")));
        let y =
            batchnorm(tape, &[x], gamma, beta, Batchnorm { running, momentum: Some(MOMENTUM), slope: None }).unwrap();
        activation(tape, y, Activation::Relu).unwrap()
    }

    /// F(x) of op `i` of block `b`: ReLU, 1x1, then one or two paths of ReLU, conv, ReLU, conv.
    fn op(&self, tape: &mut Tape<'_>, b: usize, i: usize, x: Var) -> Var {
        let x = activation(tape, x, Activation::Relu).unwrap();
        let (w, dims) = self.param(tape, &format!("block{b}.op{i}.w_in"));
        let whole = 0..dims.iter().product();
        let scale = weightnorm(tape, w, Vec::from([whole])).unwrap();
        let config = Pointwise { filter: Filter::whole(dims[0], dims[1], [1, 1], 1), relu: false, slope: None };
        let h = pointwise(tape, &[x], w, Some(scale), config).unwrap();
        let mut paths = Vec::new();
        for [first, second] in [[0, 1], [2, 3]] {
            let mut y = h;
            for j in [first, second] {
                if let Some(conv) = self.arch.blocks[b].ops[i].body[j] {
                    let (w, dims) = self.param(tape, &format!("block{b}.op{i}.w{j}"));
                    y = activation(tape, y, Activation::Relu).unwrap();
                    y = plain_conv(tape, y, w, &dims, conv.dilation, conv.groups);
                    paths.push((first, y));
                }
            }
        }
        // The last result of each path.
        let last = |path| paths.iter().rfind(|p| p.0 == path).map(|p| p.1);
        match (last(0), last(2)) {
            (Some(a), Some(b)) => add(tape, a, b).unwrap(),
            (a, _) => a.expect("w0 is always active"),
        }
    }
}

fn plain_conv(tape: &mut Tape<'_>, x: Var, w: Var, dims: &[usize], dilation: [usize; 2], groups: usize) -> Var {
    let kernel = if dims.len() == 4 { [dims[2], dims[3]] } else { [1, 1] };
    let filter = Filter::whole(dims[0], dims[1], kernel, groups);
    conv2d(tape, x, w, None, Conv2d { filter, dilation, slope: None, output: Output::New }).unwrap()
}

fn op(read: Vec<usize>, write: Vec<usize>, width: usize, convs: usize) -> Op {
    let body = [
        Conv { kernel: [3, 3], dilation: [1, 1], groups: 1, activation: Nonlinearity::Relu },
        Conv { kernel: [3, 5], dilation: [2, 1], groups: 2, activation: Nonlinearity::Relu },
        Conv { kernel: [5, 3], dilation: [1, 1], groups: 4, activation: Nonlinearity::Relu },
        Conv { kernel: [3, 3], dilation: [1, 3], groups: 1, activation: Nonlinearity::Relu },
    ];
    Op { read, write, width, body: std::array::from_fn(|j| (j < convs).then_some(body[j])), gates: [false; 2] }
}

#[test]
fn a_resnet_block_is_ops_that_add_to_the_banks_they_read() {
    fn direct(net: &Pair, tape: &mut Tape<'_>, b: usize, mut x: Var) -> Var {
        for i in 0..3 {
            let f = net.op(tape, b, i, x);
            x = add(tape, x, f).unwrap();
        }
        x
    }
    // x is what all the banks hold together.
    Pair::new(2, |banks| {
        let all: Vec<usize> = (0..banks).collect();
        [2, 4, 3].map(|convs| op(all.clone(), all.clone(), 2 * banks, convs)).to_vec()
    })
    .check(direct);
}

#[test]
fn a_densenet_block_is_ops_that_read_everything_and_write_a_new_bank() {
    fn direct(net: &Pair, tape: &mut Tape<'_>, b: usize, mut x: Var) -> Var {
        for i in 0..3 {
            let grown = net.op(tape, b, i, x);
            x = concat(tape, &[x, grown]).unwrap();
        }
        x
    }
    Pair::new(2, |banks| (0..3).map(|i| op((0..banks + i).collect(), vec![banks + i], 2, 1 + i)).collect())
        .check(direct);
}

/// The fractal of three columns, f3(x) = f2(f2(x)) + conv(x) with f2(x) = conv(conv(x)) + conv(x).
/// Banks add, so columns join by their sum where Larsson et al. 2016 take the mean. x is bank 0;
/// every bank leaves a block, so the direct definition returns the inner values as well.
#[test]
fn a_fractalnet_block_is_columns_of_different_depth_that_add_to_one_bank() {
    fn f2(net: &Pair, tape: &mut Tape<'_>, b: usize, first: usize, x: Var) -> [Var; 2] {
        let shallow = net.op(tape, b, first, x);
        let inner = net.op(tape, b, first + 1, x);
        let deep = net.op(tape, b, first + 2, inner);
        [add(tape, shallow, deep).unwrap(), inner]
    }
    fn direct(net: &Pair, tape: &mut Tape<'_>, b: usize, input: Var) -> Var {
        let x = tape.channels(input, 0..8);
        let [once, inner] = f2(net, tape, b, 0, x);
        let [twice, inner_twice] = f2(net, tape, b, 3, once);
        let shallow = net.op(tape, b, 6, x);
        let f3 = add(tape, twice, shallow).unwrap();
        concat(tape, &[input, once, inner, f3, inner_twice]).unwrap()
    }
    Pair::new(2, |n| {
        let edges = [(0, n), (0, n + 1), (n + 1, n), (n, n + 2), (n, n + 3), (n + 3, n + 2), (0, n + 2)];
        edges.iter().enumerate().map(|(i, &(from, to))| op(vec![from], vec![to], 2, 1 + i % 4)).collect()
    })
    .check(direct);
}

/// Two new banks hold the same channels of one op when a hand-written list of writes puts an
/// old bank between them; an op then reads both.
#[test]
fn banks_first_written_with_the_same_channels_are_read_together() {
    fn direct(net: &Pair, tape: &mut Tape<'_>, b: usize, x: Var) -> Var {
        let banks = tape.shape(x).c / 4;
        if banks < 6 {
            let y = net.op(tape, b, 0, x);
            return concat(tape, &[x, y]).unwrap();
        }
        let first = tape.channels(x, 0..4);
        let rest = tape.channels(x, 4..4 * banks);
        let read = tape.channels(x, 0..8);
        let y = net.op(tape, b, 0, read);
        let (group0, group1) = (tape.channels(y, 0..4), tape.channels(y, 4..8));
        let first = add(tape, first, group1).unwrap();
        let both = concat(tape, &[group0, group0]).unwrap();
        let z = net.op(tape, b, 1, both);
        concat(tape, &[first, rest, both, z]).unwrap()
    }
    Pair::new(1, |n| match n {
        // Three writes need six written banks.
        6.. => vec![op(vec![0, 1], vec![n, 0, n + 1], 2, 1), op(vec![n, n + 1], vec![n + 2], 1, 2)],
        _ => vec![op((0..n).collect(), vec![n], 1, 1)],
    })
    .check(direct);
}

// ---------------------------------------------------------------- sizes

#[test]
fn cost_counts_exactly_the_parameters_of_the_resulting_network() {
    let mut rng = Rng::new(8, Stream::Arch);
    for i in 0..200 {
        let space = [Space::v1(), Space::v2(), Space::fixture()][i % 3].clone();
        let shape = NetworkShape {
            image_channels: [1, 3][i % 2],
            image_depth: [1, 1, 32][i / 5 % 3],
            image_size: [28, 32, 96][i / 3 % 3],
            stem_stride: 1,
            classes: [10, 100][i / 2 % 2],
            stem_kernel: [3, 7][i / 4 % 2],
        };
        let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
        let network = ResultingNetwork::new(&arch, shape, NormKind::Sandwich);
        assert_eq!(cost(&arch, &shape).params, network.store().len() as u64, "{}", arch.to_json());
    }
}

#[test]
fn a_dry_run_finds_exactly_the_memory_of_the_real_step() {
    let (network, batch) = (small_smash(), Batch::random(3, 2));
    for arch in drawn(20, 4) {
        let mut plan = Context::plan(Kind::Cpu);
        smash_step(&mut plan, &network, &arch, &batch);
        let planned = plan.arena().high_water();
        // An arena of this size: one more f32 would be an error.
        let mut context = cpu(network.store(), 1, planned);
        assert!(smash_step(&mut context, &network, &arch, &batch).0.is_finite());
        assert_eq!(context.arena().high_water(), planned, "{}", arch.to_json());
    }
}

/// What is left in the arena, and its peak, after evaluating `batches` batches on one tape.
fn memory_after(context: &mut Context, batches: usize, logits: &dyn Fn(&mut Tape<'_>, Var) -> Var) -> [usize; 2] {
    let batch = Batch::random(3, 5);
    let mut tape = Tape::new(context);
    for _ in 0..batches {
        let images = batch.input(&mut tape);
        let logits = logits(&mut tape, images);
        let entropy = cross_entropy(&mut tape, logits, &batch.labels).unwrap();
        for var in [logits, entropy.loss, entropy.result] {
            tape.release(var);
        }
    }
    drop(tape);
    [context.arena().in_use(), context.arena().high_water()]
}

#[test]
fn evaluating_batch_after_batch_leaves_nothing_behind() {
    for (i, arch) in drawn(6, 6).iter().enumerate() {
        let norm = [NormKind::Sandwich, NormKind::Full, NormKind::Weightnorm][i % 3];
        let network = ResultingNetwork::new(arch, SHAPE, norm);
        let weights = network.weights(Mode::Eval);
        let logits = |tape: &mut Tape<'_>, images: Var| forward(tape, arch, &weights, images, Mode::Eval).unwrap();
        let one = memory_after(&mut Context::plan(Kind::Cpu), 1, &logits);
        assert_eq!(one[0], 0, "{norm:?}: memory left after a batch");
        assert_eq!(memory_after(&mut Context::plan(Kind::Cpu), 5, &logits), one, "{norm:?}");
    }
}

#[test]
fn one_set_of_generated_weights_evaluates_any_number_of_batches_in_the_memory_of_one() {
    let network = small_smash();
    for arch in drawn(6, 7) {
        let [one, five] = [1, 5].map(|batches| {
            let mut context = Context::plan(Kind::Cpu);
            let batch = Batch::random(3, 5);
            let mut tape = Tape::new(&mut context);
            let weights = network.generate(&mut tape, &arch, Mode::Eval).unwrap();
            for _ in 0..batches {
                let images = batch.input(&mut tape);
                let logits = forward(&mut tape, &arch, &weights, images, Mode::Eval).unwrap();
                tape.release(logits);
            }
            drop(tape);
            [context.arena().in_use(), context.arena().high_water()]
        });
        assert_eq!(one, five);
        // Only the filters and their factors stay; they are read by every batch.
        let kept: usize = arch
            .placed_ops()
            .map(|p| p.op.bottleneck_channels(p.block, &arch.space) * p.op.input_channels(p.block, &arch.space))
            .sum();
        let factors = arch.placed_ops().count();
        assert_eq!(one[0], kept.next_multiple_of(16) + factors.next_multiple_of(16));
    }
}

// ---------------------------------------------------------------- learning

/// Trains with a new architecture every step; returns the losses.
fn train(context: &mut Context, network: &SmashNetwork, steps: usize) -> Vec<f32> {
    let batch = Batch::random(8, 9);
    let step = |(i, arch): (usize, Architecture)| {
        let (loss, at) = smash_step(context, network, &arch, &batch);
        Optimizer::SMASH.step(context, network.store(), 1e-3, i as u64 + 1, at).unwrap();
        loss
    };
    drawn(steps, 10).into_iter().enumerate().map(step).collect()
}

#[test]
fn training_on_a_new_architecture_every_step_lowers_the_loss() {
    let network = small_smash();
    let mut context = cpu(network.store(), 2, ARENA);
    let losses = train(&mut context, &network, 30);
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..5]), mean(&losses[25..]));
    // Measured: 1.52 to 1.07. Without updates the architectures alone move means of five losses
    // by 0.05.
    assert!(last < first - 0.3, "{losses:?}");
    assert!(whole(&mut context, Region::Params).iter().all(|x| x.is_finite()));
}

#[test]
fn training_gives_the_same_bits_on_one_and_two_threads() {
    let network = small_smash();
    let [one, two] = [1, 2].map(|threads| {
        let mut context = cpu(network.store(), threads, ARENA);
        train(&mut context, &network, 5);
        [Region::Params, Region::State].map(|region| bits(&mut context, region))
    });
    assert!(one == two);
}

#[test]
fn every_parameter_has_a_gradient_under_some_architecture() {
    let (network, batch) = (small_smash(), Batch::random(3, 11));
    let mut context = cpu(network.store(), 2, ARENA);
    let mut missing: Vec<_> = network.store().params().iter().collect();
    for arch in drawn(30, 12) {
        smash_step(&mut context, &network, &arch, &batch);
        let gradients = whole(&mut context, Region::Grads);
        let moved = |span: Span| gradients[span.start..][..span.len].iter().any(|&g| g != 0.0);
        missing.retain(|param| !moved(param.span));
    }
    assert!(missing.is_empty(), "{:?}", missing.iter().map(|p| &p.name).collect::<Vec<_>>());
}

#[test]
fn another_architectures_encoding_gives_other_logits() {
    let (network, batch) = (small_smash(), Batch::random(3, 13));
    let arch = drawn(1, 14).remove(0);
    // The same network but for one dilation: as many slices, one fact of c differs.
    let mut other = arch.clone();
    let mut convs = other.blocks.iter_mut().flat_map(|b| &mut b.ops).flat_map(|op| op.body.iter_mut().flatten());
    let conv = convs.find(|conv| conv.kernel[0] == 3).expect("a small filter");
    conv.dilation[0] = conv.dilation[0] % 3 + 1;
    other.validate().unwrap();
    let mut context = cpu(network.store(), 1, ARENA);
    let mut logits = |encoded: &Architecture| {
        let mut tape = Tape::new(&mut context);
        let images = batch.input(&mut tape);
        let c = encode(encoded, EncodeOptions::default());
        let weights = network.generate_from(&mut tape, &arch, &c, Mode::Eval).unwrap();
        let logits = forward(&mut tape, &arch, &weights, images, Mode::Eval).unwrap();
        tape.read(logits).unwrap()
    };
    let (right, wrong) = (logits(&arch), logits(&other));
    assert_eq!(right, logits(&arch));
    let largest = right.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let change = right.iter().zip(&wrong).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Rounding is below 1e-6 of the largest.
    assert!(change > 1e-4 * largest, "{change} of {largest}");
}

#[test]
fn the_options_of_the_encoding_reach_the_network() {
    let hyper = HyperConfig { stem: 3, layers: vec![1, 1, 1], growth: 2.into() };
    let arch = sample(&Space::fixture(), &SampleLimits::full(&Space::fixture()), &mut Rng::new(3, Stream::Arch));
    let filters = |encoding: EncodingConfig| {
        let network = SmashNetwork::new(&Space::fixture(), SHAPE, &hyper, encoding);
        let mut context = Context::cpu(Cpu::new(1), 1 << 24).unwrap();
        network.store().reserve(&mut context).unwrap();
        network.store().initialise(&mut context, 1, 0).unwrap();
        let mut tape = Tape::new(&mut context);
        let weights = network.generate(&mut tape, &arch, Mode::Eval).unwrap();
        tape.read(weights.filters()).unwrap()
    };
    let plain = filters(EncodingConfig::default());
    assert_ne!(plain, filters(EncodingConfig { empty: -1.0, noise: None }));
    let noisy = |seed| filters(EncodingConfig { empty: 0.0, noise: Some(seed) });
    assert_ne!(plain, noisy(1));
    assert_ne!(noisy(1), noisy(2));
    assert_eq!(noisy(1), noisy(1), "a score must stay a fixed number");
}
