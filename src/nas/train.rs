//! One training step of any network, and what it will need in memory.

use crate::backend::{Context, Kind, Pending, Recording, Span};
use crate::data::augment::views_used;
use crate::data::{Images, Placement};
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::mainnet;
use crate::nas::resulting::ResultingNetwork;
use crate::nas::smash::SmashNetwork;
use crate::nn::norm::Mode;
use crate::nn::optim::{Optimizer, zero_gradients};
use crate::nn::params::ParamStore;
use crate::ops::batch_gather::{BatchGather, batch_gather};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::volume_gather::{VolumeGather, volume_gather};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::trace;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;

/// Images of one step with their windows and labels.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The data set.
    pub set: &'a Images,
    /// Which of its images.
    pub indices: Vec<u32>,
    /// One per image.
    pub placements: Vec<Placement>,
    /// One per image.
    pub labels: Vec<u16>,
    /// How many consecutive images are views of one object, to be classified together in an evaluation.
    pub views: usize,
}

impl<'a> Batch<'a> {
    /// Unvaried images `indices` of `set` with their labels, each in all of these views; pictures have one, 0.
    pub fn unvaried(set: &'a Images, indices: &[u32], views: &[u16]) -> Self {
        let repeated: Vec<u32> = indices.iter().flat_map(|&i| views.iter().map(move |_| i)).collect();
        let placements =
            indices.iter().flat_map(|_| views.iter().map(|&view| Placement { view, ..Placement::CENTRED }));
        Self {
            set,
            placements: placements.collect(),
            labels: repeated.iter().map(|&i| set.label(i as usize)).collect(),
            indices: repeated,
            views: views.len(),
        }
    }

    /// All images of a set in order, each in the views in use of `views` stored ones, up to `size` of them at a time.
    pub fn all(set: &'a Images, views: usize, size: usize) -> Vec<Self> {
        let (views, all) = (views_used(views), (0..set.len() as u32).collect::<Vec<_>>());
        let chunks = all.chunks((size / views.len()).max(1));
        chunks.map(|indices| Self::unvaried(set, indices, &views)).collect()
    }
}

/// How the images of a data set become batches.
#[derive(Clone, Debug, PartialEq)]
pub enum Gather {
    /// Pictures.
    Images(BatchGather),
    /// Volumes of voxels.
    Volumes(VolumeGather),
}

impl Gather {
    /// The images of `batch` as the network's input.
    ///
    /// # Errors
    /// [`Error::Shape`] when they are not of this geometry.
    pub fn batch(&self, tape: &mut Tape<'_>, batch: &Batch<'_>) -> Result<Var> {
        match self {
            Self::Images(config) => batch_gather(tape, batch.set, &batch.indices, &batch.placements, config),
            Self::Volumes(config) => volume_gather(tape, batch.set, &batch.indices, &batch.placements, config),
        }
    }
}

/// What a step or an evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Sum of the losses of all images.
    pub loss: f64,
    /// Images whose largest logit was not their label's.
    pub errors: usize,
    /// Images whose label's logit was not among the five largest.
    pub top5_errors: usize,
    /// Images.
    pub images: usize,
}

impl Outcome {
    /// Adds another batch.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.errors += other.errors;
        self.top5_errors += other.top5_errors;
        self.images += other.images;
    }

    /// Mean loss per image.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// The same, if it is a number.
    pub fn finite_loss(&self) -> Option<f64> {
        Some(self.mean_loss()).filter(|loss| loss.is_finite())
    }

    /// Error in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.images.max(1) as f64
    }

    /// Error in percent when five guesses are allowed; none for few classes, where nobody asks for it.
    pub fn top5_percent(&self, classes: usize) -> Option<f64> {
        (classes >= 100).then(|| 100.0 * self.top5_errors as f64 / self.images.max(1) as f64)
    }
}

/// A network as one step sees it: its parameters, and a way from images to logits.
pub trait Network {
    /// What messages call it.
    fn name(&self) -> String;

    /// What profilers call it.
    fn number(&self) -> u64;

    /// The parameters.
    fn store(&self) -> &ParamStore;

    /// Logits [classes, 1, 1, N] of a batch of N images. Releases `images`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit the network; [`Error::Run`] when the arena is full.
    fn logits(&self, tape: &mut Tape<'_>, images: Var, mode: Mode) -> Result<Var>;
}

/// A SMASH network as one architecture of its space: what it is for the length of a step.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// Generates the weights.
    pub network: &'a SmashNetwork,
    /// What they are for.
    pub arch: &'a Architecture,
}

impl Network for Drawn<'_> {
    fn name(&self) -> String {
        format!("architecture {}", self.arch.id())
    }

    fn number(&self) -> u64 {
        self.arch.number()
    }

    fn store(&self) -> &ParamStore {
        self.network.store()
    }

    fn logits(&self, tape: &mut Tape<'_>, images: Var, mode: Mode) -> Result<Var> {
        let weights = self.network.generate(tape, self.arch, mode)?;
        mainnet::forward(tape, self.arch, &weights, images, mode)
    }
}

impl Network for ResultingNetwork {
    fn name(&self) -> String {
        format!("architecture {}", self.architecture().id())
    }

    fn number(&self) -> u64 {
        self.architecture().number()
    }

    fn store(&self) -> &ParamStore {
        self.store()
    }

    fn logits(&self, tape: &mut Tape<'_>, images: Var, mode: Mode) -> Result<Var> {
        mainnet::forward(tape, self.architecture(), &self.weights(mode), images, mode)
    }
}

/// An optimiser at one step.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Which one, with its constants.
    pub optimizer: Optimizer,
    /// Learning rate of this step.
    pub lr: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

/// A step under way: a GPU runs behind the program that feeds it.
#[derive(Debug)]
pub struct StepResult {
    values: Pending,
    images: usize,
    step: u64,
    network: String,
}

impl StepResult {
    /// What the step found; waits for it.
    ///
    /// # Errors
    /// [`Error::Diverged`] when its loss is not finite: it has updated nothing.
    pub fn wait(self, context: &mut Context) -> Result<Outcome> {
        let outcome = outcome(&context.wait(self.values)?, self.images);
        if outcome.loss.is_finite() {
            return Ok(outcome);
        }
        Err(Error::Diverged(format!(
            "the loss of step {} is {}; lower the learning rate, or look at {}",
            self.step,
            outcome.mean_loss(),
            self.network
        )))
    }
}

/// Forward, backward, update; nothing is updated when the loss is not finite. With a `recording`
/// this is one of many steps with the same network and batch size.
///
/// # Errors
/// [`Error::Run`] when the arena is full or the device reports a fault.
pub fn train_step(
    context: &mut Context,
    recording: Option<&mut Recording>,
    network: &dyn Network,
    gather: &Gather,
    batch: &Batch<'_>,
    update: Update,
) -> Result<StepResult> {
    let pass = |context: &mut Context| queue_step(context, network, gather, batch, update);
    let result = match recording {
        Some(recording) => context.replay(recording, pass)?,
        None => pass(context)?,
    };
    let values = context.read_later(result)?;
    Ok(StepResult { values, images: batch.labels.len(), step: update.step, network: network.name() })
}

/// Does `work` as a part of a step or a score that profilers show.
pub(super) fn phase<R>(name: &'static CStr, work: impl FnOnce() -> R) -> R {
    trace::within(trace::Level::Phase, name, work)
}

/// The kernels of a step; returns where its loss and errors will be.
fn queue_step(
    context: &mut Context,
    network: &dyn Network,
    gather: &Gather,
    batch: &Batch<'_>,
    update: Update,
) -> Result<Span> {
    phase(c"zero", || zero_gradients(context))?;
    let mut tape = Tape::new(context);
    let images = phase(c"gather", || gather.batch(&mut tape, batch))?;
    let logits = phase(c"forward", || network.logits(&mut tape, images, Mode::Train))?;
    let loss = phase(c"loss", || cross_entropy(&mut tape, logits, &batch.labels))?;
    // Not released: its memory is read after the backward pass.
    let result = tape.tensor(loss.result).span;
    tape.release(logits);
    phase(c"backward", || tape.backward(loss.loss))?;
    let (store, loss) = (network.store(), result.sub(0, 1));
    phase(c"update", || update.optimizer.step(context, store, update.lr, update.step, loss))?;
    Ok(result)
}

/// Loss and errors from the numbers of [`cross_entropy`]; none on a device that only plans.
pub(super) fn outcome(values: &[f32], images: usize) -> Outcome {
    let at = |i: usize| f64::from(values.get(i).copied().unwrap_or(0.0));
    Outcome { loss: at(0) * images as f64, errors: at(1) as usize, top5_errors: at(2) as usize, images }
}

/// Step memory in f32 of such a device that training `network` with batches of `shape` will use: a dry run of the
/// whole step.
///
/// # Errors
/// As the step itself.
pub fn plan_step(kind: Kind, network: &dyn Network, shape: Shape) -> Result<usize> {
    let mut context = Context::plan(kind);
    let mut tape = Tape::new(&mut context);
    let images = tape.alloc(shape, false)?;
    let logits = network.logits(&mut tape, images, Mode::Train)?;
    let loss = cross_entropy(&mut tape, logits, &vec![0; shape.n])?;
    tape.release(logits);
    tape.backward(loss.loss)?;
    drop(tape);
    Ok(context.arena().high_water())
}

/// Step memory in f32 that evaluating `network` with batches of `shape` will use.
///
/// # Errors
/// As the evaluation itself.
pub fn plan_evaluation(kind: Kind, network: &dyn Network, shape: Shape) -> Result<usize> {
    let mut context = Context::plan(kind);
    let mut tape = Tape::new(&mut context);
    let images = tape.alloc(shape, false)?;
    network.logits(&mut tape, images, Mode::Eval)?;
    drop(tape);
    Ok(context.arena().high_water())
}
