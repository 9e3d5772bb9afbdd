//! Scoring without training: the error of an architecture with generated weights, and the error
//! of a trained network, on images that neither has learned from.

use crate::backend::{Context, Pending, Recording};
use crate::error::Result;
use crate::nas::arch::Architecture;
use crate::nas::mainnet;
use crate::nas::smash::SmashNetwork;
use crate::nas::train::{Batch, Gather, Network, Outcome, outcome, phase};
use crate::nn::norm::Mode;
use crate::ops::cross_entropy::{cross_entropy, rank};
use crate::tape::{Tape, Var};
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
    let _range = range_with(Level::Step, c"score", || arch.number());
    let mut tape = Tape::new(context);
    let weights = network.generate(&mut tape, arch, Mode::Eval)?;
    let logits = |tape: &mut Tape<'_>, images: Var| mainnet::forward(tape, arch, &weights, images, Mode::Eval);
    evaluate(&mut tape, &logits, gather, batches)
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
        let mut mean = vec![0.0f64; classes];
        for n in first..first + views {
            let column = || (0..classes).map(|k| f64::from(logits[k * images + n]));
            let most = column().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = column().map(|x| (x - most).exp()).sum();
            mean.iter_mut().zip(column()).for_each(|(mean, x)| *mean += (x - most).exp() / total / views as f64);
        }
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
    use crate::data::{ImageShape, Images, Placement};

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
}
