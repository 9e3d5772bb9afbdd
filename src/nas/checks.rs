//! A SMASH network trains alike on every device: the same 20 steps, next to those of the plain
//! kernels on the CPU; and so does one step of both networks on volumes, and with every option of a space. The gradient
//! with respect to an encoding is what the loss does when the encoding moves.
//!
//! Images are noise around one pattern per class, so that there is something to learn. What devices
//! may differ by grows with the steps: each step rounds, and the next one starts from there.

use super::arch::Architecture;
use super::cost::NetworkShape;
use super::encode::Encoding;
use super::gradient::gradient;
use super::hypernet::HyperConfig;
use super::mainnet;
use super::options::{ActivationOrder, Nonlinearity};
use super::resulting::{NormKind, ResultingNetwork};
use super::sample::{SampleLimits, sample};
use super::smash::{EncodingConfig, SmashNetwork};
use super::space::Space;
use super::train::{Batch, Drawn, Gather, Network, Update, train_step};
use crate::backend::cpu::Isa;
use crate::backend::{Context, Cpu, Recording, Region};
use crate::data::{ImageShape, Images, Placement};
use crate::error::Result;
use crate::nn::norm::Mode;
use crate::nn::optim::{Optimizer, zero_gradients};
use crate::ops::batch_gather::BatchGather;
use crate::ops::cross_entropy::cross_entropy;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::testing::{Check, Lab, Measured};
use std::cell::OnceCell;

const OP: &str = "training";
const STEPS: usize = 20;
/// Steps of a training that repeats itself: one as usual, one captured, two replayed.
const REPEATED: usize = 4;
const BATCH: usize = 7;
const SHAPE: NetworkShape = NetworkShape::pictures(3, 8, 5, 3);
/// Volumes, and the labels of one step.
const VOLUME: NetworkShape = NetworkShape { image_depth: 8, ..NetworkShape::pictures(1, 8, 5, 3) };
const LABELS: [u16; 3] = [4, 0, 2];
/// Learning rate: high enough that twenty steps learn something.
const LR: f32 = 3e-3;
/// Relative deviations that are still rounding: of what one step computes, and of where twenty lead.
const ONE_STEP: f64 = 2e-5;
/// Of the gradient of one parameter, which may be a small difference of large sums.
const ONE_GRADIENT: f64 = 5e-4;
const ALL_STEPS: f64 = 2e-3;
/// How far an encoding moves for a difference of the loss, and along how many rays, the first two of which are the
/// gradient's own: far enough to stand out of f32, near enough to meet few of the kinks that the loss has where a ReLU
/// changes sides.
const MOVE: f32 = 1.0 / 32.0;
const RAYS: u64 = 6;
/// What kinks and f32 do to a difference along the gradient, in parts of its length, and along random rays, where the
/// loss hardly changes, in parts of what a random slope may expect. Measured: 0.10 and 0.03; a gradient that takes the
/// wrong side of the kink at empty elements is off by 0.5 to 2 along random rays.
const ALONG: f64 = 0.2;
const ACROSS: f64 = 0.15;

/// Twenty steps in the small space, replayed ones, and one on volumes.
pub fn checks() -> Vec<Check> {
    let hyper = HyperConfig { stem: 4, layers: vec![2, 2, 1], growth: 4.into() };
    let mut all =
        Check::named(OP, "twenty_steps_follow_the_plain_kernels", vec![training(Space::small(), hyper.clone())]);
    let replayed = replays(Space::small(), hyper.clone());
    all.extend(Check::named(OP, "replayed_steps_are_those_that_were_queued", vec![replayed]));
    all.extend(Check::named(OP, "a_step_on_volumes_follows_the_plain_kernels", vec![volumes(Space::small(), &hyper)]));
    let options = with_options(&Space::small(), &hyper);
    all.extend(Check::named(OP, "a_step_with_every_option_follows_the_plain_kernels", options));
    all.extend(Check::named(OP, "slopes_of_an_encoding_are_differences", vec![slopes(Space::small(), hyper)]));
    all
}

/// One step on volumes.
fn volumes(space: Space, hyper: &HyperConfig) -> Check {
    one_step(space, hyper.clone(), VOLUME, NormKind::Sandwich)
}

/// One step with drawn nonlinearities, gates and BatchNorm everywhere, in front of convolutions and behind them.
fn with_options(space: &Space, hyper: &HyperConfig) -> Vec<Check> {
    let check = |activation| {
        let nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid];
        let space = Space { activation, nonlinearities, gates: true, body_norm: true, ..space.clone() };
        one_step(space, hyper.clone(), SHAPE, NormKind::Full)
    };
    [ActivationOrder::Pre, ActivationOrder::Post].map(check).into()
}

/// A resulting network is trained once step by step and once as a step that repeats itself, which
/// a GPU captures and replays: the same losses and parameters, to the bit.
fn replays(space: Space, hyper: HyperConfig) -> Check {
    Check::new(move |lab, measured| {
        let job = Job::new(&space, &hyper)?;
        let arch = &job.archs[0];
        let network = ResultingNetwork::new(arch, SHAPE, NormKind::Sandwich);
        let train = |context: &mut Context, mut recording: Option<Recording>| -> Result<[Vec<f32>; 2]> {
            network.store().reserve(context)?;
            network.store().initialise(context, 3, 1)?;
            let mut losses = Vec::new();
            for step in 0..REPEATED {
                let update =
                    Update { optimizer: Optimizer::RESULTING, lr: LR / (step + 1) as f32, step: step as u64 + 1 };
                let batch = job.batch(step);
                let queued = train_step(context, recording.as_mut(), &network, &job.gather, &batch, update)?;
                losses.push(queued.wait(context)?.mean_loss() as f32);
            }
            Ok([losses, context.read(context.whole(Region::Params))?])
        };
        let mut plan = lab.plan()?;
        train(&mut plan, None)?;
        let len = plan.arena().high_water();
        let queued = lab.run(len, |context| train(context, None))?;
        let replayed = lab.run_unguarded(len, |context| train(context, Some(Recording::default())))?;
        measured.exact("losses of replayed steps", &replayed[0], &queued[0]);
        measured.exact("parameters afterwards", &replayed[1], &queued[1]);
        measured.holds("steps differ from each other", queued[0].windows(2).all(|pair| pair[0] != pair[1]));
        Ok(())
    })
}

fn training(space: Space, hyper: HyperConfig) -> Check {
    let plain = OnceCell::new();
    Check::new(move |lab, measured| {
        let job = Job::new(&space, &hyper)?;
        let expected = match plain.get() {
            Some(known) => known,
            None => {
                let trained = job.train_in(&plain_lab()?)?;
                plain.get_or_init(|| trained)
            }
        };
        let got = job.train_in(lab)?;
        let mut compare = |what: &str, got: &[f32], expected: &[f32], part: f64| {
            compare(measured, what, [got, expected], part);
        };
        compare("loss of the first step", &got.losses[..1], &expected.losses[..1], ONE_STEP);
        compare("logits of the first step", &got.first_logits, &expected.first_logits, ONE_STEP);
        for param in job.network.store().params() {
            let part = |gradients: &[f32]| gradients[param.span.start..][..param.span.len].to_vec();
            let what = format!("gradient of {}", param.name);
            compare(&what, &part(&got.gradients), &part(&expected.gradients), ONE_GRADIENT);
        }
        compare("losses of 20 steps", &got.losses, &expected.losses, ALL_STEPS);
        compare("logits afterwards", &got.logits, &expected.logits, ALL_STEPS);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        measured.holds("it learns", mean(&got.losses[STEPS - 5..]) < mean(&got.losses[..5]));
        Ok(())
    })
}

/// dE/dc in evaluation mode against differences of E, along the gradient, against it, and along random rays. Two steps of
/// training come first: they leave the running statistics of every BatchNorm unlike those of any batch.
fn slopes(space: Space, hyper: HyperConfig) -> Check {
    Check::new(move |lab, measured| {
        let job = Job::new(&space, &hyper)?;
        let mut plan = lab.plan()?;
        job.slopes(&mut plan)?;
        let [slopes, differences] = lab.run(plan.arena().high_water(), |context| job.slopes(context))?;
        let expected: Vec<f64> = differences.iter().map(|&x| f64::from(x)).collect();
        measured.within("slopes along the gradient", &slopes[..2], &expected[..2], ALONG);
        measured.within("slopes along random rays", &slopes[2..], &expected[2..], ACROSS);
        Ok(())
    })
}

/// The plain kernels.
fn plain_lab() -> Result<Lab> {
    Ok(Lab::new(Context::cpu(Cpu::with_isa(1, Isa::Portable), 0)?))
}

/// Compares what was computed with what was expected, within a part of its largest.
fn compare(measured: &mut Measured, what: &str, [got, expected]: [&[f32]; 2], part: f64) {
    let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
    let scale = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    measured.within(what, got, &expected, part * scale);
}

/// Logits and gradients of one architecture on images of `shape`, as a SMASH network and as a resulting one.
fn one_step(space: Space, hyper: HyperConfig, shape: NetworkShape, norm: NormKind) -> Check {
    Check::new(move |lab, measured| {
        let arch = sample(&space, &SampleLimits::full(&space), &mut Rng::new(12, Stream::Arch));
        let smash = SmashNetwork::new(&space, shape, &hyper, EncodingConfig::default());
        let resulting = ResultingNetwork::new(&arch, shape, norm);
        let drawn = Drawn { network: &smash, arch: &arch };
        let networks: [&dyn Network; 2] = [&drawn, &resulting];
        for (kind, network) in ["SMASH", "resulting"].into_iter().zip(networks) {
            let [expected_logits, expected] = step_in(&plain_lab()?, network, shape)?;
            let [logits, gradients] = step_in(lab, network, shape)?;
            compare(measured, &format!("{kind} logits"), [&logits, &expected_logits], ONE_STEP);
            for param in network.store().params() {
                let part = [&gradients, &expected].map(|all| &all[param.span.start..][..param.span.len]);
                compare(measured, &format!("{kind} gradient of {}", param.name), part, ONE_GRADIENT);
            }
        }
        Ok(())
    })
}

/// Logits and gradients, in memory of exactly the size that a dry run finds.
fn step_in(lab: &Lab, network: &dyn Network, shape: NetworkShape) -> Result<[Vec<f32>; 2]> {
    let batch = shape.batch(LABELS.len());
    let mut rng = Rng::new(6, Stream::Augment);
    let values: Vec<f32> = (0..batch.len()).map(|_| rng.normal() as f32).collect();
    let step = |context: &mut Context| {
        network.store().reserve(context)?;
        network.store().initialise(context, 3, 0)?;
        zero_gradients(context)?;
        let mut tape = Tape::new(context);
        let images = tape.input(batch, &values, false)?;
        let logits = network.logits(&mut tape, images, Mode::Train)?;
        let said = tape.read(logits)?;
        let entropy = cross_entropy(&mut tape, logits, &LABELS)?;
        tape.backward(entropy.loss)?;
        drop(tape);
        Ok([said, context.read(context.whole(Region::Grads))?])
    };
    let mut plan = lab.plan()?;
    step(&mut plan)?;
    lab.run(plan.arena().high_water(), step)
}

/// A training with everything it depends on.
struct Job {
    network: SmashNetwork,
    /// One for each step, and one to look at in the end.
    archs: Vec<Architecture>,
    images: Images,
    gather: Gather,
}

/// What it leads to.
struct Trained {
    first_logits: Vec<f32>,
    losses: Vec<f32>,
    gradients: Vec<f32>,
    logits: Vec<f32>,
}

impl Job {
    fn new(space: &Space, hyper: &HyperConfig) -> Result<Self> {
        let size = SHAPE.image_size;
        let network = SmashNetwork::new(space, SHAPE, hyper, EncodingConfig::default());
        let mut rng = Rng::new(11, Stream::Arch);
        let archs = (0..=STEPS).map(|_| sample(space, &SampleLimits::full(space), &mut rng)).collect();
        let channels = SHAPE.image_channels;
        let gather = Gather::Images(BatchGather {
            image: [channels, size, size],
            size: [size; 2],
            mean: vec![0.5; channels],
            std: vec![0.25; channels],
        });
        Ok(Self { network, archs, images: draw_images()?, gather })
    }

    /// The images of a step, each moved by some pixels, every other one mirrored.
    fn batch(&self, step: usize) -> Batch<'_> {
        let indices: Vec<u32> = (0..BATCH).map(|i| ((step * BATCH + i) % self.images.len()) as u32).collect();
        let shift = |i: u32| (i % 3) as i32 - 1;
        let placements = indices.iter().map(|&i| Placement::window(shift(i), shift(i / 3), i % 2 == 1));
        let labels = indices.iter().map(|&i| self.images.label(i as usize)).collect();
        Batch { set: &self.images, placements: placements.collect(), labels, indices, views: 1 }
    }

    /// The network as the architecture of a step.
    fn drawn(&self, step: usize) -> Drawn<'_> {
        Drawn { network: &self.network, arch: &self.archs[step] }
    }

    /// Trains in memory of exactly the size that a dry run finds.
    fn train_in(&self, lab: &Lab) -> Result<Trained> {
        let mut plan = lab.plan()?;
        self.train(&mut plan)?;
        lab.run(plan.arena().high_water(), |context| self.train(context))
    }

    fn train(&self, context: &mut Context) -> Result<Trained> {
        let store = self.network.store();
        store.reserve(context)?;
        store.initialise(context, 3, 0)?;
        let first_logits = self.logits(context, 0)?;
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for step in 0..STEPS {
            let update = Update { optimizer: Optimizer::SMASH, lr: LR, step: step as u64 + 1 };
            let batch = self.batch(step);
            let result = train_step(context, None, &self.drawn(step), &self.gather, &batch, update)?;
            losses.push(result.wait(context)?.mean_loss() as f32);
            if step == 0 {
                gradients = context.read(context.whole(Region::Grads))?;
            }
        }
        Ok(Trained { first_logits, losses, gradients, logits: self.logits(context, STEPS)? })
    }

    /// How E changes along some rays: by its gradient, and by differences.
    fn slopes(&self, context: &mut Context) -> Result<[Vec<f32>; 2]> {
        self.network.store().reserve(context)?;
        self.network.store().initialise(context, 3, 0)?;
        for step in 0..2 {
            let update = Update { optimizer: Optimizer::SMASH, lr: LR, step: step as u64 + 1 };
            train_step(context, None, &self.drawn(step), &self.gather, &self.batch(step), update)?.wait(context)?;
        }
        let (arch, mut short) = (&self.archs[STEPS], self.batch(1));
        // The mean is over images, not over batches.
        short.indices.truncate(BATCH / 2);
        short.placements.truncate(BATCH / 2);
        short.labels.truncate(BATCH / 2);
        let batches = [self.batch(0), short];
        let found = gradient(context, &self.network, arch, &self.gather, batches.iter().cloned())?;
        let (slope, c) = (&found.slope().data, self.network.encode(arch));
        let length = slope.iter().map(|g| g * g).sum::<f32>().sqrt();
        let (mut slopes, mut differences) = (Vec::new(), Vec::new());
        for ray in 0..RAYS {
            let mut rng = Rng::new(ray, Stream::Augment);
            let random = c.data.iter().map(|_| rng.normal() as f32).collect();
            // A device that only plans has no slope, and moves nowhere.
            let toward: Vec<f32> = match ray {
                0 => slope.clone(),
                1 => slope.iter().map(|g| -g).collect(),
                _ => random,
            };
            // The loss has a kink where c is empty. Facts appear, so every ray leads to the right of it.
            let up = |(i, &c): (usize, &f32)| toward.get(i).map_or(0.0, |&d| if c > 0.0 { d } else { d.max(0.0) });
            let along: Vec<f32> = c.data.iter().enumerate().map(up).collect();
            let norm = along.iter().map(|d| d * d).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            let mut loss = |by: f32| {
                let data = c.data.iter().zip(&along).map(|(c, d)| c + by * d / norm).collect();
                self.loss(context, arch, &Encoding { data, ..c.clone() }, &batches)
            };
            // One-sided, and exact for parabolas.
            let difference = (4.0 * loss(MOVE)? - 3.0 * loss(0.0)? - loss(2.0 * MOVE)?) / f64::from(2.0 * MOVE);
            // In parts of the steepest slope, or of what a random direction may expect.
            let unit = length / if ray < 2 { 1.0 } else { (c.data.len() as f32).sqrt() };
            differences.push((difference / f64::from(unit)) as f32);
            slopes.push(along.iter().zip(slope).map(|(d, g)| d * g).sum::<f32>() / norm / unit);
        }
        Ok([slopes, differences])
    }

    /// E: the mean cross-entropy of all images with the weights generated from `c`, in f64 from the logits on; NaN on a
    /// device that only plans.
    fn loss(&self, context: &mut Context, arch: &Architecture, c: &Encoding, batches: &[Batch<'_>]) -> Result<f64> {
        let mut tape = Tape::new(context);
        let weights = self.network.generate_from(&mut tape, arch, c, Mode::Eval)?;
        let mut losses = Vec::new();
        for batch in batches {
            let images = self.gather.batch(&mut tape, batch)?;
            let logits = mainnet::forward(&mut tape, arch, &weights, images, Mode::Eval)?;
            let values = tape.read(logits)?;
            tape.release(logits);
            for (n, &label) in batch.labels.iter().enumerate().filter(|_| !values.is_empty()) {
                let own = values.iter().skip(n).step_by(batch.labels.len()).map(|&x| f64::from(x));
                let total: f64 = own.clone().map(f64::exp).sum();
                losses.extend(own.skip(usize::from(label)).take(1).map(|own| total.ln() - own));
            }
        }
        Ok(losses.iter().sum::<f64>() / losses.len() as f64)
    }

    /// What the network says of the first images as an architecture.
    fn logits(&self, context: &mut Context, arch: usize) -> Result<Vec<f32>> {
        let mut tape = Tape::new(context);
        let images = self.gather.batch(&mut tape, &self.batch(0))?;
        let logits = self.drawn(arch).logits(&mut tape, images, Mode::Eval)?;
        tape.read(logits)
    }
}

/// Four images of each class: its pattern under noise.
fn draw_images() -> Result<Images> {
    let (channels, height, width) = (SHAPE.image_channels, SHAPE.image_size, SHAPE.image_size);
    let shape = ImageShape::picture(channels, height, width);
    let mut rng = Rng::new(5, Stream::Augment);
    let mut draw = |low: usize, range: usize| (0..shape.pixels()).map(|_| low + rng.below(range)).collect::<Vec<_>>();
    let patterns: Vec<Vec<usize>> = (0..SHAPE.classes).map(|_| draw(0, 200)).collect();
    let labels: Vec<u16> = (0..4 * SHAPE.classes).map(|i| (i % SHAPE.classes) as u16).collect();
    let mut pixels = Vec::new();
    for &label in &labels {
        let noise = draw(0, 56);
        pixels.extend(patterns[usize::from(label)].iter().zip(noise).map(|(pattern, noise)| (pattern + noise) as u8));
    }
    Images::from_pixels(pixels, labels, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::harness;

    #[test]
    fn twenty_steps_on_the_cpu() {
        harness::on_the_cpu(&checks());
    }

    /// In a space of a size for the emulator.
    #[cfg(target_os = "linux")]
    #[test]
    fn twenty_steps_on_cuda() {
        let (space, hyper) = tiny();
        harness::on_cuda(&Check::named(OP, "twenty_steps_in_a_tiny_space", vec![training(space, hyper)]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn replayed_steps_on_cuda() {
        let (space, hyper) = tiny();
        harness::on_cuda(&Check::named(OP, "replayed_steps_in_a_tiny_space", vec![replays(space, hyper)]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn slopes_on_cuda() {
        let (space, hyper) = tiny();
        harness::on_cuda(&Check::named(OP, "slopes_in_a_tiny_space", vec![slopes(space, hyper)]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn volumes_on_cuda() {
        let (space, hyper) = tiny();
        harness::on_cuda(&Check::named(OP, "a_step_on_volumes_in_a_tiny_space", vec![volumes(space, &hyper)]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn options_on_cuda() {
        let (space, hyper) = tiny();
        harness::on_cuda(&Check::named(OP, "a_step_with_options_in_a_tiny_space", with_options(&space, &hyper)));
    }

    #[cfg(target_os = "linux")]
    fn tiny() -> (Space, HyperConfig) {
        let kernels = vec![3, 5];
        let space =
            Space { unit: 2, n_max: 4, max_bank_size: 2, kernels, groups: vec![1, 2], depth: 2, ..Space::small() };
        (space, HyperConfig { stem: 2, layers: vec![1, 1, 1], growth: 2.into() })
    }
}
