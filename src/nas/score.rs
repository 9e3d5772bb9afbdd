//! Scoring without training: the error of an architecture with generated weights, and the error
//! of a trained network, on images that neither has learned from.

use crate::backend::{Context, Pending, Recording};
use crate::error::Result;
use crate::nas::arch::Architecture;
use crate::nas::mainnet;
use crate::nas::resulting::ResultingNetwork;
use crate::nas::smash::SmashNetwork;
use crate::nas::train::{Batch, Gather, Outcome, outcome, phase};
use crate::nas::weights::WeightSource;
use crate::nn::norm::Mode;
use crate::ops::cross_entropy::cross_entropy;
use crate::tape::Tape;
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
    evaluate(&mut tape, &weights, arch, gather, batches)
}

/// Loss and errors of a trained network.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full.
pub fn network_error<'a>(
    context: &mut Context,
    network: &ResultingNetwork,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let _range = range_with(Level::Step, c"evaluate", || network.architecture().number());
    let mut tape = Tape::new(context);
    evaluate(&mut tape, &network.weights(Mode::Eval), network.architecture(), gather, batches)
}

fn evaluate<'a>(
    tape: &mut Tape<'_>,
    weights: &dyn WeightSource,
    arch: &Architecture,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    let mut total = Outcome::default();
    // All batches are of one size but the last, which is not one of the passes that repeat.
    let (mut recording, mut size) = (Recording::default(), None);
    // A GPU computes one batch while the next one is queued.
    let mut under_way: Option<(Pending, usize)> = None;
    let mut take_in = |tape: &mut Tape<'_>, batch: Option<(Pending, usize)>| -> Result<()> {
        let Some((values, images)) = batch else { return Ok(()) };
        total.add(outcome(&tape.wait(values)?, images));
        Ok(())
    };
    for batch in batches {
        let pass = |tape: &mut Tape<'_>| {
            let images = phase(c"gather", || gather.batch(tape, &batch))?;
            let logits = phase(c"forward", || mainnet::forward(tape, arch, weights, images, Mode::Eval))?;
            let loss = phase(c"loss", || cross_entropy(tape, logits, &batch.labels))?;
            tape.release(logits);
            Ok(loss)
        };
        let repeats = *size.get_or_insert(batch.labels.len()) == batch.labels.len();
        let loss = if repeats { tape.replay(&mut recording, pass)? } else { pass(tape)? };
        let queued = (tape.read_later(loss.result)?, batch.labels.len());
        tape.release(loss.loss);
        tape.release(loss.result);
        take_in(tape, under_way.replace(queued))?;
    }
    take_in(tape, under_way)?;
    Ok(total)
}
