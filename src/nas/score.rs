//! Scoring without training: the error of an architecture with generated weights, and the error
//! of a trained network, on images that neither has learned from.

use crate::backend::{Context, Pending, Recording, Region};
use crate::error::Result;
use crate::nas::arch::Architecture;
use crate::nas::encode::Encoding;
use crate::nas::mainnet;
use crate::nas::smash::SmashNetwork;
use crate::nas::train::{Batch, Gather, Network, Outcome, outcome, phase};
use crate::nn::norm::Mode;
use crate::ops::cross_entropy::{cross_entropy, rank};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::trace::{Level, range_with};

/// The SMASH score of `arch`: one pass of the HyperNet, then all batches in evaluation mode.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full.
pub fn smash_score<'a>(
    context: &mut Context,
    network: &SmashNetwork,
    arch: &Architecture,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    score_with_encoding(context, network, arch, &network.encode(arch), gather, batches)
}

/// The same with the weights that the HyperNet generates from `encoding`, which may be another than that of `arch`.
///
/// # Errors
/// As [`smash_score`]; [`crate::Error::Shape`] when the encoding belongs to another space or has too few slices.
pub fn score_with_encoding<'a>(
    context: &mut Context,
    network: &SmashNetwork,
    arch: &Architecture,
    encoding: &Encoding,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let _range = range_with(Level::Step, c"score", || arch.number());
    let mut tape = Tape::new(context);
    let weights = network.generate_from(&mut tape, arch, encoding, Mode::Eval)?;
    let logits = |tape: &mut Tape<'_>, images: Var| mainnet::forward(tape, arch, &weights, images, Mode::Eval);
    evaluate(&mut tape, &logits, gather, batches)
}

/// A score as [`score_with_encoding`] has it, with BatchNorm's running statistics, which are otherwise averages over the architectures
/// of the training, replaced by the mean of those of the `calibration` batches under this one. Afterwards they are
/// what they were.
///
/// # Errors
/// As [`smash_score`].
pub fn calibrated_score<'a>(
    context: &mut Context,
    network: &SmashNetwork,
    arch: &Architecture,
    encoding: &Encoding,
    gather: &Gather,
    calibration: &[Batch<'_>],
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let statistics = context.whole(Region::State);
    let trained = context.read(statistics)?;
    let scored = calibrate(context, network, arch, encoding, gather, calibration)
        .and_then(|()| score_with_encoding(context, network, arch, encoding, gather, batches));
    context.write(statistics, &trained)?;
    scored
}

/// Moves the running statistics to the mean of those of `batches` under the generated weights of `arch`; without
/// batches they stay as they are.
///
/// # Errors
/// As [`smash_score`].
pub fn calibrate(
    context: &mut Context,
    network: &SmashNetwork,
    arch: &Architecture,
    encoding: &Encoding,
    gather: &Gather,
    batches: &[Batch<'_>],
) -> Result<()> {
    let _range = range_with(Level::Step, c"calibrate", || arch.number());
    let mut tape = Tape::new(context);
    let weights = network.generate_from(&mut tape, arch, encoding, Mode::Eval)?;
    for (batch, number) in batches.iter().zip(1..) {
        let images = gather.batch(&mut tape, batch)?;
        let logits = mainnet::forward(&mut tape, arch, &weights, images, Mode::Calibrate { batch: number })?;
        tape.release(logits);
    }
    Ok(())
}

/// Loss and errors of a trained network.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full.
pub fn network_error<'a>(
    context: &mut Context,
    network: &dyn Network,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let _range = range_with(Level::Step, c"evaluate", || network.number());
    let mut tape = Tape::new(context);
    evaluate(&mut tape, &|tape, images| network.logits(tape, images, Mode::Eval), gather, batches)
}

/// Logits of a trained network, one row of classes for each image of the batches.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full, [`crate::Error::Shape`] when the images do not fit.
pub fn logits<'a>(
    context: &mut Context,
    network: &dyn Network,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Vec<Vec<f32>>> {
    let _range = range_with(Level::Step, c"evaluate", || network.number());
    let mut tape = Tape::new(context);
    let mut rows = Vec::new();
    for batch in batches {
        let images = phase(c"gather", || gather.batch(&mut tape, &batch))?;
        let logits = phase(c"forward", || network.logits(&mut tape, images, Mode::Eval))?;
        // They lie class by class: [K, N].
        let (values, n) = (tape.read(logits)?, batch.labels.len());
        rows.extend((0..n).map(|image| values.iter().skip(image).step_by(n).copied().collect::<Vec<f32>>()));
        tape.release(logits);
    }
    Ok(rows)
}

/// Logits [K, N] of `n` normalised images [C, H, W, N] (or volumes [C, D, H, W, N]) from and to memory: what latency is measured of.
///
/// # Errors
/// As [`logits`].
pub fn forward(context: &mut Context, network: &dyn Network, shape: Shape, images: &[f32]) -> Result<Vec<f32>> {
    let _range = range_with(Level::Step, c"latency", || network.number());
    let mut tape = Tape::new(context);
    let images = tape.input(shape, images, false)?;
    let logits = network.logits(&mut tape, images, Mode::Eval)?;
    tape.read(logits)
}

/// Loss and errors of what `network` makes of the images, batch by batch.
fn evaluate<'a>(
    tape: &mut Tape<'_>,
    network: &dyn Fn(&mut Tape<'_>, Var) -> Result<Var>,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let mut total = Outcome::default();
    // All batches are of one size but the last, which is not one of the passes that repeat.
    let (mut recording, mut size) = (Recording::default(), None);
    // A GPU computes one batch while the next one is queued.
    let mut under_way: Option<(Pending, usize)> = None;
    let take_in = |tape: &mut Tape<'_>, batch: Option<(Pending, usize)>| -> Result<Outcome> {
        let Some((values, images)) = batch else { return Ok(Outcome::default()) };
        Ok(outcome(&tape.wait(values)?, images))
    };
    for batch in batches {
        let logits = |tape: &mut Tape<'_>| {
            let images = phase(c"gather", || gather.batch(tape, &batch))?;
            phase(c"forward", || network(tape, images))
        };
        if batch.views > 1 {
            let logits = logits(tape)?;
            total.add(together(&tape.read(logits)?, &batch));
            tape.release(logits);
            continue;
        }
        let pass = |tape: &mut Tape<'_>| {
            let logits = logits(tape)?;
            let loss = phase(c"loss", || cross_entropy(tape, logits, &batch.labels))?;
            tape.release(logits);
            Ok(loss)
        };
        let repeats = *size.get_or_insert(batch.labels.len()) == batch.labels.len();
        let loss = if repeats { tape.replay(&mut recording, pass)? } else { pass(tape)? };
        let queued = (tape.read_later(loss.result)?, batch.labels.len());
        tape.release(loss.loss);
        tape.release(loss.result);
        total.add(take_in(tape, under_way.replace(queued))?);
    }
    total.add(take_in(tape, under_way)?);
    Ok(total)
}

/// The mean, over views of one object, of the probabilities that the logits of each stand for.
pub fn mean_probabilities<Row: Iterator<Item = f64> + Clone>(views: impl ExactSizeIterator<Item = Row>) -> Vec<f64> {
    let (count, mut mean) = (views.len() as f64, Vec::new());
    for row in views {
        let most = row.clone().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.clone().map(|x| (x - most).exp()).sum();
        mean.resize(row.clone().count(), 0.0);
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += (x - most).exp() / total / count);
    }
    mean
}

/// What the views of each object say together: the mean of their class probabilities, from `logits` [K, N]; none on a
/// device that only plans.
fn together(logits: &[f32], batch: &Batch<'_>) -> Outcome {
    let (images, views) = (batch.labels.len(), batch.views);
    let mut outcome = Outcome { images: images / views, ..Outcome::default() };
    if logits.is_empty() {
        return outcome;
    }
    let classes = logits.len() / images;
    for first in (0..images).step_by(views) {
        let column = |n: usize| (0..classes).map(move |k| f64::from(logits[k * images + n]));
        let mean = mean_probabilities((first..first + views).map(column));
        let label = batch.labels[first];
        let own = mean[usize::from(label)];
        let rank = rank(mean.iter().copied(), own, label);
        outcome.loss -= own.ln();
        outcome.errors += usize::from(rank >= 1);
        outcome.top5_errors += usize::from(rank >= 5);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::data::{ImageShape, Images, Placement};
    use crate::nas::hypernet::HyperConfig;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::smash::EncodingConfig;
    use crate::nas::space::Space;
    use crate::nas::twin::NetworkShape;
    use crate::ops::batch_gather::BatchGather;
    use crate::ops::batchnorm::MOMENTUM;
    use crate::rng::{Rng, Stream};
    use crate::testing::assert_close;

    #[test]
    fn views_of_an_object_are_classified_together() {
        // Two objects of two views, three classes: two views disagree, the surer one decides; then both are wrong.
        let set = Images::from_pixels(vec![0; 2], vec![1, 0], ImageShape::picture(1, 1, 1)).unwrap();
        let labels = vec![1, 1, 0, 0];
        let batch =
            Batch { set: &set, indices: vec![0, 0, 1, 1], placements: vec![Placement::CENTRED; 4], labels, views: 2 };
        let ln = |p: f32| p.ln();
        let columns = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]];
        // Logits are log probabilities and any number; they lie class by class.
        let logits: Vec<f32> = (0..3).flat_map(|k| (0..4).map(move |n| ln(columns[n][k]) + n as f32)).collect();
        let outcome = together(&logits, &batch);
        assert_eq!((outcome.images, outcome.errors, outcome.top5_errors), (2, 1, 0));
        let broken = together(&[f32::NAN; 12], &batch);
        assert_eq!((broken.errors, broken.top5_errors), (2, 0), "three classes are among any five");
        // Means are 0.3, 0.55, 0.15 and 0.15, 0.3, 0.55.
        let loss = -(0.55f64.ln() + 0.15f64.ln());
        assert!((outcome.loss - loss).abs() < 1e-6, "{} {loss}", outcome.loss);
    }

    /// A small SMASH network in a context, two batches of noise, and how they are gathered.
    fn scene() -> (SmashNetwork, Context, Images, Gather) {
        let hyper = HyperConfig { stem: 4, layers: vec![2, 2, 1], growth: 4.into() };
        let shape = NetworkShape::pictures(3, 8, 5, 3);
        let network = SmashNetwork::new(&Space::fixture(), shape, &hyper, EncodingConfig::default());
        let mut context = Context::cpu(Cpu::new(1), 1 << 22).unwrap();
        network.store().reserve(&mut context).unwrap();
        network.store().initialise(&mut context, 3, 0).unwrap();
        let (mut rng, image) = (Rng::new(5, Stream::Augment), ImageShape::picture(3, 8, 8));
        let pixels = (0..12 * image.pixels()).map(|_| rng.below(256) as u8).collect();
        let images = Images::from_pixels(pixels, (0..12).map(|i| i % 5).collect(), image).unwrap();
        let geometry = BatchGather { image: [3, 8, 8], size: [8, 8], mean: vec![0.5; 3], std: vec![0.25; 3] };
        (network, context, images, Gather::Images(geometry))
    }

    fn batch(set: &Images, indices: std::ops::Range<u32>) -> Batch<'_> {
        let labels = indices.clone().map(|i| set.label(i as usize)).collect();
        let placements = vec![Placement::CENTRED; indices.len()];
        Batch { set, indices: indices.collect(), placements, labels, views: 1 }
    }

    fn drawn(seed: u64) -> Architecture {
        let space = Space::fixture();
        sample(&space, &SampleLimits::full(&space), &mut Rng::new(seed, Stream::Arch))
    }

    /// The statistics of one batch, found by training on it once from statistics that are zero.
    fn statistics_of(context: &mut Context, network: &SmashNetwork, gather: &Gather, batch: &Batch<'_>) -> Vec<f64> {
        let state = context.whole(Region::State);
        context.fill(state, 0.0).unwrap();
        let (mut tape, arch) = (Tape::new(context), drawn(1));
        let weights = network.generate(&mut tape, &arch, Mode::Eval).unwrap();
        let images = gather.batch(&mut tape, batch).unwrap();
        mainnet::forward(&mut tape, &arch, &weights, images, Mode::Train).unwrap();
        drop(tape);
        context.read(state).unwrap().iter().map(|&x| f64::from(x) / f64::from(MOMENTUM)).collect()
    }

    #[test]
    fn calibrated_statistics_are_the_mean_of_those_of_the_batches() {
        let (network, mut context, images, gather) = scene();
        let batches = [batch(&images, 0..7), batch(&images, 7..12)];
        let [first, second] = [0, 1].map(|i| statistics_of(&mut context, &network, &gather, &batches[i]));
        let state = context.whole(Region::State);
        context.fill(state, 0.25).unwrap();
        let (arch, c) = (drawn(1), network.encode(&drawn(1)));
        calibrate(&mut context, &network, &arch, &c, &gather, &batches).unwrap();
        // Channels that the architecture does not have keep what they had.
        let expected: Vec<f64> =
            first.iter().zip(&second).map(|(a, b)| if *a == 0.0 { 0.25 } else { (a + b) / 2.0 }).collect();
        assert!(expected.contains(&0.25) && expected.iter().any(|&x| x != 0.25));
        assert_close("running statistics", &context.read(state).unwrap(), &expected, 300);
    }

    #[test]
    fn a_calibrated_score_is_its_own_whatever_was_scored_before() {
        let (network, mut context, images, gather) = scene();
        let calibration = [batch(&images, 0..7), batch(&images, 7..12)];
        let trained = context.read(context.whole(Region::State)).unwrap();
        let mut score = |calibration: &[Batch<'_>], seed| {
            let batches = std::iter::once(batch(&images, 0..5));
            let (arch, c) = (drawn(seed), network.encode(&drawn(seed)));
            let outcome = match calibration {
                [] => smash_score(&mut context, &network, &arch, &gather, batches),
                some => calibrated_score(&mut context, &network, &arch, &c, &gather, some, batches),
            };
            assert_eq!(context.read(context.whole(Region::State)).unwrap(), trained);
            outcome.unwrap()
        };
        let before = score(&calibration, 1);
        assert_ne!(before.loss, score(&[], 1).loss);
        assert_ne!(before.loss, score(&calibration[..1], 1).loss);
        score(&calibration, 2);
        assert_eq!(score(&calibration, 1), before);
    }
}
