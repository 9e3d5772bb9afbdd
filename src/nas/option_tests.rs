//! Promises of the options of a space: activations behind convolutions, drawn nonlinearities, gates, BatchNorm in the
//! body. Networks are compared with the definition, written once more without banks' versions, fused ReLUs or sums:
//! one plain op after the other.

use super::arch::{Architecture, Op, PlacedOp};
use super::chi_square::{Tally, uniform};
use super::encode::{EncodeOptions, channel_layout, encode};
use super::hypernet::HyperConfig;
use super::mainnet::forward;
use super::options::{ActivationOrder, Nonlinearity};
use super::perturb::perturb;
use super::resulting::{NormKind, ResultingNetwork};
use super::rules::obey;
use super::sample::{SampleLimits, sample};
use super::smash::{EncodingConfig, SmashNetwork};
use super::space::{BodyChoice, Space};
use super::twin::NetworkShape;
use super::weights::{FilterVar, OpWeights, WeightSource};
use crate::backend::{Context, Cpu, Kind, Region};
use crate::nn::norm::{Mode, Norm};
use crate::nn::optim::zero_gradients;
use crate::nn::params::ParamStore;
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::gate::gate;
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::testing::assert_close;

const SHAPE: NetworkShape = NetworkShape::pictures(3, 8, 5, 3);
const LABELS: [u16; 3] = [4, 0, 2];
/// f32 of a step arena, several times what the networks of this file need.
const ARENA: usize = 1 << 22;

/// Every option, in this order.
fn space(activation: ActivationOrder) -> Space {
    let nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid];
    Space { activation, nonlinearities, gates: true, body_norm: true, ..Space::fixture() }
}

fn spaces() -> [Space; 2] {
    [ActivationOrder::Pre, ActivationOrder::Post].map(space)
}

fn drawn(space: &Space, seed: u64) -> Architecture {
    sample(space, &SampleLimits::full(space), &mut Rng::new(seed, Stream::Arch))
}

fn ops(arch: &Architecture) -> impl Iterator<Item = &Op> {
    arch.blocks.iter().flat_map(|block| &block.ops)
}

// ---------------------------------------------------------------- draws

#[test]
fn draws_and_perturbations_obey_the_rules_of_every_option() {
    for space in spaces() {
        space.validate().unwrap();
        let (limits, mut rng) = (SampleLimits::full(&space), Rng::new(1, Stream::Arch));
        for i in 0..2000 {
            let arch = sample(&space, &limits, &mut rng);
            obey(&arch, &limits, true);
            arch.validate().unwrap();
            let changed = perturb(&arch, [0.05, 0.5][i % 2], &mut rng);
            obey(&changed, &limits, false);
            changed.validate().unwrap();
            assert_eq!(Architecture::from_json(&arch.to_json()).unwrap(), arch);
            assert_eq!(perturb(&arch, 0.0, &mut rng), arch);
        }
    }
}

#[test]
fn nonlinearities_are_uniform_and_gates_as_likely_as_not() {
    let space = space(ActivationOrder::Pre);
    let (mut tally, mut rng) = (Tally::default(), Rng::new(2, Stream::Arch));
    for _ in 0..300 {
        for op in ops(&sample(&space, &SampleLimits::full(&space), &mut rng)) {
            for conv in op.body.iter().flatten() {
                tally.add("nonlinearity".into(), &uniform([0, 1, 2]), conv.activation as usize);
            }
            let choices =
                |gates: &[[bool; 2]]| uniform(gates.iter().map(|g| usize::from(g[0]) + 2 * usize::from(g[1])));
            let found = usize::from(op.gates[0]) + 2 * usize::from(op.gates[1]);
            match op.active() {
                [_, _, false, _] => assert_eq!(found, 0, "one path"),
                [_, false, _, false] => tally.add("ends only".into(), &choices(&[[false; 2], [false, true]]), found),
                [_, true, _, true] => {
                    let all = [[false; 2], [true, false], [false, true], [true; 2]];
                    tally.add("both junctions".into(), &choices(&all), found);
                }
                // A gate inside leaves one end: half of the draws; the rest have one at the end or none.
                _ => tally.add("inside or end".into(), &[(1, 0.5), (0, 0.25), (2, 0.25)], found),
            }
        }
    }
    assert_eq!(tally.check("options"), 4);
}

#[test]
fn a_perturbation_changes_nonlinearities_and_gates() {
    let space = space(ActivationOrder::Pre);
    let arch = drawn(&space, 3);
    let mut rng = Rng::new(4, Stream::Search);
    let mut changed = [false; 2];
    for _ in 0..50 {
        let other = perturb(&arch, 0.05, &mut rng);
        for (a, b) in ops(&arch).zip(ops(&other)) {
            changed[1] |= a.body == b.body && a.gates != b.gates;
            let kinds = |op: &Op| op.body.map(|conv| conv.map(|conv| conv.activation));
            changed[0] |= kinds(a) != kinds(b) && a.active() == b.active();
        }
    }
    assert_eq!(changed, [true; 2]);
}

#[test]
fn what_an_option_does_not_allow_is_named_with_its_place() {
    let arch = drawn(&space(ActivationOrder::Pre), 5);
    let complaint = |change: &dyn Fn(&mut Architecture)| {
        let mut changed = arch.clone();
        change(&mut changed);
        changed.validate().unwrap_err().to_string()
    };
    let conv = |arch: &mut Architecture, kind| arch.blocks[0].ops[0].body[0].as_mut().unwrap().activation = kind;
    let message = complaint(&|arch| {
        arch.space.nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh];
        arch.blocks[0].ops.truncate(1);
        conv(arch, Nonlinearity::Sigmoid);
    });
    let place = "architecture, blocks[0].ops[0].body[0].activation: ";
    assert_eq!(message, format!("{place}sigmoid is outside this space (allowed relu, tanh)"));
    let message = complaint(&|arch| {
        arch.space.gates = false;
        arch.blocks[0].ops[0].gates = [true, false];
    });
    assert_eq!(message, "architecture, blocks[0].ops[0].gates: this space has none");
    let one_path = |gates| {
        complaint(&|arch| {
            let op = &mut arch.blocks[0].ops[0];
            (op.body[1], op.body[2], op.body[3], op.gates) = (None, None, None, gates);
        })
    };
    assert_eq!(
        one_path([true, false]),
        "architecture, blocks[0].ops[0].gates[0]: needs w0 and w2, and w1 or w3 to go on from there"
    );
    assert_eq!(
        one_path([false, true]),
        "architecture, blocks[0].ops[0].gates[1]: needs two paths that arrive at the end"
    );
    let refused = |space: Space| space.validate().unwrap_err().to_string();
    let empty = Space { nonlinearities: vec![], ..Space::small() };
    assert_eq!(refused(empty), "space.nonlinearities: needs one or more of relu, tanh and sigmoid, each once");
    let bodies = vec![BodyChoice { active: [true, true, false, false], probability: 1.0 }];
    let single = Space { gates: true, bodies, ..Space::small() };
    assert_eq!(refused(single), "space.gates: no body has two paths that meet");
}

#[test]
fn the_encoding_states_nonlinearities_and_gates() {
    for space in spaces() {
        let plain = channel_layout(&Space { nonlinearities: vec![Nonlinearity::Relu], gates: false, ..space.clone() });
        let names = channel_layout(&space);
        assert_eq!(names[..plain.len()], plain, "what was there keeps its place");
        let mut expected = Vec::new();
        for conv in 0..4 {
            expected.extend(["relu", "tanh", "sigmoid"].map(|kind| format!("activation conv {conv} {kind}")));
        }
        expected.extend([0, 1].map(|junction| format!("gate {junction}")));
        assert_eq!(names[plain.len()..], expected);
        let arch = drawn(&space, 6);
        let c = encode(&arch, EncodeOptions::default());
        for PlacedOp { op, columns, .. } in arch.placed_ops() {
            for (channel, name) in names.iter().enumerate().skip(plain.len()) {
                let words: Vec<&str> = name.split(' ').collect();
                let holds = match words[..] {
                    ["activation", "conv", conv, kind] => {
                        op.body[conv.parse::<usize>().unwrap()].is_some_and(|conv| conv.activation.name() == kind)
                    }
                    [_, junction] => op.gates[junction.parse::<usize>().unwrap()],
                    _ => panic!("{name}"),
                };
                for row in 0..c.height {
                    let expected = if holds && row < op.width { 1.0 } else { 0.0 };
                    assert!(columns.clone().all(|column| c.at(channel, row, column) == expected), "{name} {row}");
                }
            }
        }
    }
}

// ---------------------------------------------------------------- networks

/// The definition, one plain op after the other.
struct Plain<'a> {
    space: &'a Space,
    weights: &'a dyn WeightSource,
}

impl Plain<'_> {
    fn logits(&self, tape: &mut Tape<'_>, arch: &Architecture, images: Var) -> Var {
        let space = self.space;
        let ops: Vec<PlacedOp<'_>> = arch.placed_ops().collect();
        let stem = self.weights.stem(tape, arch.blocks[0].input_channels(0, space));
        let mut x = conv(tape, images, &stem, [1, 1]);
        x = self.behind(tape, x);
        for (b, block) in arch.blocks.iter().enumerate() {
            let width = block.bank_size * space.unit;
            let mut banks: Vec<Option<Var>> = vec![None; block.n_banks];
            for (i, bank) in banks.iter_mut().take(block.initial_banks(b, space)).enumerate() {
                *bank = Some(tape.channels(x, i * width..(i + 1) * width));
            }
            for (index, placed) in ops.iter().enumerate().filter(|(_, op)| op.block_index == b) {
                let read: Vec<Var> = placed.op.read.iter().map(|&i| banks[i].unwrap()).collect();
                let weights = self.weights.op(tape, index, placed).unwrap();
                let y = self.op(tape, placed.op, &weights, &read);
                for (j, &bank) in placed.op.write.iter().enumerate() {
                    let group = tape.channels(y, placed.op.write_channels(j, block, space));
                    banks[bank] = Some(match banks[bank] {
                        Some(old) => add(tape, old, group).unwrap(),
                        None => concat(tape, &[group]).unwrap(),
                    });
                }
            }
            let written: Vec<Var> = banks.into_iter().flatten().collect();
            x = concat(tape, &written).unwrap();
            let channels = tape.shape(x).c;
            if b < 2 {
                let outputs = arch.blocks[b + 1].input_channels(b + 1, space);
                let (norm, filter) = self.weights.transition(tape, b, channels, outputs);
                x = self.norm(tape, norm, x);
                x = activation(tape, x, Activation::Relu).unwrap();
                x = conv(tape, x, &filter, [1, 1]);
                x = self.behind(tape, x);
                x = avg_pool(tape, x).unwrap();
            }
        }
        let (norm, w, bias) = self.weights.head(tape);
        x = self.norm(tape, norm, x);
        x = activation(tape, x, Activation::Relu).unwrap();
        x = global_avg_pool(tape, x).unwrap();
        linear(tape, x, w, bias).unwrap()
    }

    fn post(&self) -> bool {
        self.space.activation == ActivationOrder::Post
    }

    /// What stands behind stem and transitions.
    fn behind(&self, tape: &mut Tape<'_>, x: Var) -> Var {
        if self.post() { activation(tape, x, Activation::Relu).unwrap() } else { x }
    }

    fn norm(&self, tape: &mut Tape<'_>, norm: Norm, x: Var) -> Var {
        norm.apply(tape, self.weights.store(), &[x], Mode::Train, None).unwrap()
    }

    fn op(&self, tape: &mut Tape<'_>, op: &Op, weights: &OpWeights, read: &[Var]) -> Var {
        let mut x = concat(tape, read).unwrap();
        if let Some(norm) = weights.norm_in {
            x = self.norm(tape, norm, x);
        }
        if !self.post() {
            x = activation(tape, x, Activation::Relu).unwrap();
        }
        let mut h = conv(tape, x, &weights.input, [1, 1]);
        if let Some(norm) = weights.norm_mid {
            h = self.norm(tape, norm, h);
        }
        h = self.behind(tape, h);
        let [inside, at_end] = op.gates;
        let post = self.post();
        let ends_here = |j: usize| op.body[j + 1].is_none();
        let unit = |tape: &mut Tape<'_>, t: Var, j: usize, gated: bool| self.unit(tape, (op, weights), t, j, gated);
        let a = unit(tape, h, 0, post && (inside || at_end && ends_here(0))).unwrap();
        let b = unit(tape, h, 2, post && (inside || at_end && ends_here(2)));
        let mut ends = Vec::new();
        if inside {
            let u = gate(tape, a, b.unwrap()).unwrap();
            ends.extend([1, 3].into_iter().filter_map(|j| unit(tape, u, j, !post || at_end)));
        } else {
            ends.push(unit(tape, a, 1, post && at_end).unwrap_or(a));
            ends.extend(b.map(|b| unit(tape, b, 3, post && at_end).unwrap_or(b)));
        }
        match ends[..] {
            [a, b] if at_end => gate(tape, a, b).unwrap(),
            [a, b] => add(tape, a, b).unwrap(),
            _ => ends[0],
        }
    }

    /// Convolution `j` of t with its norm and nonlinearity, unless a gate takes the place of that; none if inactive.
    fn unit(
        &self,
        tape: &mut Tape<'_>,
        (op, weights): (&Op, &OpWeights),
        t: Var,
        j: usize,
        gated: bool,
    ) -> Option<Var> {
        let c = op.body[j]?;
        let kind = match c.activation {
            Nonlinearity::Relu => Activation::Relu,
            Nonlinearity::Tanh => Activation::Tanh,
            Nonlinearity::Sigmoid => Activation::Sigmoid,
        };
        let pass = |tape: &mut Tape<'_>, t: Var| {
            let t = weights.norm_body[j].map_or(t, |norm| self.norm(tape, norm, t));
            if gated { t } else { activation(tape, t, kind).unwrap() }
        };
        let filter = weights.body[j].unwrap();
        Some(if self.post() {
            let t = conv(tape, t, &filter, c.dilation);
            pass(tape, t)
        } else {
            let t = pass(tape, t);
            conv(tape, t, &filter, c.dilation)
        })
    }
}

fn conv(tape: &mut Tape<'_>, x: Var, &FilterVar { w, filter, scale, .. }: &FilterVar, dilation: [usize; 2]) -> Var {
    conv2d(tape, x, w, scale, Conv2d { filter, dilation, slope: None, output: Output::New }).unwrap()
}

fn context(store: &ParamStore) -> Context {
    let mut context = Context::cpu(Cpu::new(1), ARENA).unwrap();
    store.reserve(&mut context).unwrap();
    store.initialise(&mut context, 3, 0).unwrap();
    context
}

fn images(tape: &mut Tape<'_>) -> Var {
    let mut rng = Rng::new(7, Stream::Augment);
    let values: Vec<f32> = (0..SHAPE.batch(LABELS.len()).len()).map(|_| rng.normal() as f32).collect();
    tape.input(SHAPE.batch(LABELS.len()), &values, false).unwrap()
}

/// Logits and gradients of all parameters; `build` makes the logits.
fn step(store: &ParamStore, build: &dyn Fn(&mut Tape<'_>, Var) -> Var) -> [Vec<f32>; 2] {
    let mut context = context(store);
    zero_gradients(&mut context).unwrap();
    let mut tape = Tape::new(&mut context);
    let images = images(&mut tape);
    let logits = build(&mut tape, images);
    let values = tape.read(logits).unwrap();
    let entropy = cross_entropy(&mut tape, logits, &LABELS).unwrap();
    tape.backward(entropy.loss).unwrap();
    drop(tape);
    [values, context.read(context.whole(Region::Grads)).unwrap()]
}

/// Both within rounding, gradients parameter by parameter; every parameter for which `used` holds has one.
fn compare(store: &ParamStore, got: &[Vec<f32>; 2], plain: &[Vec<f32>; 2], used: impl Fn(&str) -> bool) {
    let exact = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    assert_close("logits", &got[0], &exact(&plain[0]), 300);
    for param in store.params() {
        let range = param.span.start..param.span.start + param.span.len;
        let expected = exact(&plain[1][range.clone()]);
        assert!(!used(&param.name) || expected.iter().any(|&g| g != 0.0), "{} has no gradient", param.name);
        assert_close(&param.name, &got[1][range], &expected, 3000);
    }
}

#[test]
fn resulting_networks_compute_what_their_options_define() {
    for space in spaces() {
        for (seed, norm) in
            [(1, NormKind::Weightnorm), (2, NormKind::Sandwich), (3, NormKind::Full), (4, NormKind::Full)]
        {
            let arch = drawn(&space, seed);
            let network = ResultingNetwork::new(&arch, SHAPE, norm);
            let weights = network.weights(Mode::Train);
            let store = network.store();
            let got = step(store, &|tape, images| forward(tape, &arch, &weights, images, Mode::Train).unwrap());
            let plain = Plain { space: &space, weights: &weights };
            let plain = step(store, &|tape, images| plain.logits(tape, &arch, images));
            compare(store, &got, &plain, |_| true);
        }
    }
}

#[test]
fn smash_networks_compute_what_their_options_define() {
    let hyper = HyperConfig { stem: 4, layers: vec![2, 2, 1], growth: 4.into() };
    for space in spaces() {
        let network = SmashNetwork::new(&space, SHAPE, &hyper, EncodingConfig::default());
        let store = network.store();
        for seed in 1..4 {
            let arch = drawn(&space, seed);
            let run = |plain: bool| {
                step(store, &|tape, images| {
                    let weights = network.generate(tape, &arch, Mode::Train).unwrap();
                    if plain {
                        return Plain { space: &space, weights: &weights }.logits(tape, &arch, images);
                    }
                    forward(tape, &arch, &weights, images, Mode::Train).unwrap()
                })
            };
            let norms = |name: &str| name.contains(".bn0") || name.contains(".bn_mid");
            compare(store, &run(false), &run(true), |name| norms(name) || name.starts_with("hyper"));
        }
    }
}

#[test]
fn each_dense_block_of_the_hypernet_grows_at_its_own_rate() {
    let network = |growth: &str| {
        let text = format!(r#"{{"stem": 4, "layers": [2, 2, 1], "growth": {growth}}}"#);
        let hyper: HyperConfig = serde_json::from_str(&text).unwrap();
        hyper.validate().unwrap();
        assert_eq!(serde_json::to_string(&hyper).unwrap(), text.replace(' ', ""), "as it was written");
        SmashNetwork::new(&Space::fixture(), SHAPE, &hyper, EncodingConfig::default())
    };
    let (one, same, own) = (network("5"), network("[5,5,5]"), network("[2,5,3]"));
    assert_eq!(one.store().params(), same.store().params());
    let arch = drawn(&Space::fixture(), 1);
    let [_, gradients] = step(own.store(), &|tape, images| {
        let weights = own.generate(tape, &arch, Mode::Train).unwrap();
        forward(tape, &arch, &weights, images, Mode::Train).unwrap()
    });
    let dense = own.store().params().iter().filter(|param| param.name.starts_with("hyper.dense"));
    let mut channels = Vec::new();
    for param in dense {
        channels.push(param.dims[0]);
        let gradient = &gradients[param.span.start..param.span.start + param.span.len];
        assert!(gradient.iter().any(|&g| g != 0.0), "{} has no gradient", param.name);
    }
    assert_eq!(channels, [2, 2, 5, 5, 3]);
}

#[test]
fn evaluating_leaves_nothing_behind() {
    for space in spaces() {
        for seed in 1..5 {
            let arch = drawn(&space, seed);
            let network = ResultingNetwork::new(&arch, SHAPE, NormKind::Full);
            let weights = network.weights(Mode::Eval);
            let mut context = Context::plan(Kind::Cpu);
            let mut tape = Tape::new(&mut context);
            let images = images(&mut tape);
            let logits = forward(&mut tape, &arch, &weights, images, Mode::Eval).unwrap();
            tape.release(logits);
            drop(tape);
            assert_eq!(context.arena().in_use(), 0, "{}", arch.to_json());
        }
    }
}
