//! `bench step`: whole training steps and scores over sampled architectures.
//!
//! The SMASH network takes another architecture every step, as in its training; a resulting network is made for each
//! architecture and takes its steps, on a GPU as a replayed graph, as in its training. A sample is one step alone, from
//! its first call until its loss is here, with new images each time. `in a row` is the time per step when two may be
//! queued ahead, which is how training runs. A score is one pass of the HyperNet and some batches in evaluation mode.
//!
//! Rounds go over all architectures; a resulting network is visited in up to three stretches of rounds, because
//! making it takes longer than a step.
//!
//! Where the time goes: on a CPU the phases of the very samples, and idle time of the pool's threads during them. On a
//! GPU, which runs behind the program, steps of their own that wait for it at every boundary between phases; their
//! sum is more than a step takes, and scores of one batch, for what is captured as a graph cannot be waited for.

pub use super::step_rows::{StepRun, summary, table};

use super::saved::{Content, Saved};
use super::setting::{Named, Setting, architectures};
use super::step_rows::{Measured, Spent};
use super::trial::synchronize;
use super::{Place, Yardstick, choose, step_rows};
use crate::backend::{Context, Kind, Recording, cuda};
use crate::cli::{Conv, MOST_SCORED, StepArgs, Trained};
use crate::data::{Augment, AugmentKind, Placement};
use crate::error::{Error, Result};
use crate::nas::score::smash_score;
use crate::nas::train::{Batch, Drawn, Network, StepResult, Update, plan_evaluation, plan_step, train_step};
use crate::nn::params::ParamStore;
use crate::rng::{Rng, Stream};
use crate::trace::{Level, timed, within};
use std::collections::VecDeque;
use std::time::Instant;

/// Steps that may be queued while the device works, as in training.
const RUN_AHEAD: usize = 2;
/// Stretches of rounds in which a resulting network takes its steps.
const VISITS: usize = 3;

/// A network in memory, and the steps it has taken, as one architecture or several.
struct Runner<'a> {
    setting: &'a Setting<'a>,
    context: Context,
    augment: Augment,
    order: Rng,
    step: u64,
}

impl<'a> Runner<'a> {
    /// Memory for the parameters `store` and for a step of any of `networks`, which use them.
    fn new<N: Network>(setting: &'a Setting<'a>, store: &ParamStore, networks: &[N]) -> Result<Self> {
        let (kind, shape) = (setting.place.kind, setting.batch_shape());
        let mut arena = Yardstick::plan(setting.place);
        for network in networks {
            arena = arena.max(plan_step(kind, network, shape)?);
            arena = arena.max(plan_evaluation(kind, network, shape)?);
        }
        let mut context = setting.place.open(arena)?;
        choose(&mut context, setting.conv);
        store.reserve(&mut context)?;
        store.initialise(&mut context, 1, 0)?;
        let augment = Augment::new(AugmentKind::CropFlip { pad: 4 }, Rng::new(1, Stream::Augment));
        Ok(Self { setting, context, augment, order: Rng::new(1, Stream::Shuffle), step: 0 })
    }

    /// Bytes of step memory that a step takes.
    fn planned(&self, network: &dyn Network) -> Result<u64> {
        let planned = plan_step(self.setting.place.kind, network, self.setting.batch_shape())?;
        Ok((planned * size_of::<f32>()) as u64)
    }

    /// Another batch each time.
    fn batch(&mut self) -> Batch<'a> {
        let (set, batch) = (&self.setting.set, self.setting.args.batch);
        let indices: Vec<u32> = (0..batch).map(|_| self.order.below(set.len()) as u32).collect();
        let labels = indices.iter().map(|&i| set.label(i as usize)).collect();
        Batch { set, labels, placements: self.augment.draw(batch), indices, views: 1 }
    }

    fn queue(&mut self, network: &dyn Network, recording: Option<&mut Recording>) -> Result<StepResult> {
        let batch = within(Level::Phase, c"data", || self.batch());
        self.step += 1;
        let update = Update { optimizer: self.setting.optimizer, lr: self.setting.lr, step: self.step };
        train_step(&mut self.context, recording, network, &self.setting.gather, &batch, update)
    }

    /// A step alone: milliseconds until it was queued, and until its loss was here.
    fn alone(&mut self, network: &dyn Network, recording: Option<&mut Recording>) -> Result<[f64; 2]> {
        synchronize(&mut self.context)?;
        let start = Instant::now();
        let result = self.queue(network, recording)?;
        let queueing = start.elapsed().as_secs_f64() * 1e3;
        result.wait(&mut self.context)?;
        synchronize(&mut self.context)?;
        Ok([queueing, start.elapsed().as_secs_f64() * 1e3])
    }

    /// Tells a CUDA profiler to begin or end.
    fn record(&mut self, on: bool) -> Result<()> {
        self.context.as_cuda().map_or(Ok(()), |cuda| cuda.profile(on))
    }

    /// Kernels queued so far; none on a CPU.
    fn launches(&mut self) -> Option<u64> {
        self.context.as_cuda().map(|cuda| cuda.launches())
    }

    /// Does `work`, which returns its milliseconds, and adds up where they go.
    fn split<R>(&mut self, spent: &mut Spent, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let settle = (self.setting.place.kind == Kind::Cuda).then_some(cuda::settle as fn());
        self.context.compute(|_, cpu| cpu.pool.watch(true), |_| Ok(()))?;
        let start = Instant::now();
        let (result, phases) = timed(settle, || work(self));
        let (wall, mut idle) = (start.elapsed(), None);
        self.context.compute(
            |_, cpu| {
                idle = Some(cpu.pool.idle_share(wall));
                cpu.pool.watch(false);
            },
            |_| Ok(()),
        )?;
        spent.add(&phases, wall, idle);
        result
    }

    fn sample(
        &mut self,
        network: &dyn Network,
        recording: Option<&mut Recording>,
        measured: &mut Measured,
    ) -> Result<()> {
        let before = self.launches();
        let [queueing, total] = match self.setting.place.kind {
            Kind::Cpu => self.split(&mut measured.spent, |runner| runner.alone(network, recording))?,
            Kind::Cuda => {
                let times = self.alone(network, recording)?;
                // Without the recording: boundaries inside a graph cannot be waited for.
                measured.kernels = self.launches().zip(before).map(|(after, before)| after - before);
                self.split(&mut measured.spent, |runner| runner.alone(network, None))?;
                times
            }
        };
        measured.queueing.push(queueing);
        measured.alone.push(total);
        Ok(())
    }

    /// Milliseconds per step of steps in a row.
    fn row<'n, N: Network + 'n>(
        &mut self,
        networks: impl ExactSizeIterator<Item = &'n N>,
        mut recording: Option<&mut Recording>,
    ) -> Result<f64> {
        synchronize(&mut self.context)?;
        let start = Instant::now();
        let (steps, mut under_way) = (networks.len(), VecDeque::new());
        for network in networks {
            under_way.push_back(self.queue(network, recording.as_deref_mut())?);
            if under_way.len() > RUN_AHEAD
                && let Some(result) = under_way.pop_front()
            {
                result.wait(&mut self.context)?;
            }
        }
        for result in under_way {
            result.wait(&mut self.context)?;
        }
        synchronize(&mut self.context)?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / steps as f64)
    }

    /// The step as a replayed graph.
    fn graph(&mut self, network: &dyn Network, measured: &mut Measured) -> Result<()> {
        let mut recording = Recording::default();
        for i in 0..self.setting.warm_up() + self.setting.args.rounds {
            let [_, total] = self.alone(network, Some(&mut recording))?;
            if i >= self.setting.warm_up() {
                measured.graph.push(total);
            }
        }
        Ok(())
    }

    /// A score on so many batches: milliseconds until its error was here.
    fn score(&mut self, Drawn { network, arch }: Drawn<'_>, batches: usize) -> Result<f64> {
        let setting = self.setting;
        synchronize(&mut self.context)?;
        let start = Instant::now();
        let centred = |batch: Batch<'a>| Batch { placements: vec![Placement::default(); batch.indices.len()], ..batch };
        let batches: Vec<Batch<'a>> =
            within(Level::Phase, c"data", || (0..batches).map(|_| centred(self.batch())).collect());
        smash_score(&mut self.context, network, arch, &setting.gather, batches.into_iter())?;
        synchronize(&mut self.context)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn sample_score(&mut self, drawn: Drawn<'_>, measured: &mut Measured) -> Result<()> {
        let (spent, batches) = (&mut measured.score_spent, self.setting.args.score);
        let total = match self.setting.place.kind {
            Kind::Cpu => self.split(spent, |runner| runner.score(drawn, batches))?,
            Kind::Cuda => {
                let total = self.score(drawn, batches)?;
                self.split(spent, |runner| runner.score(drawn, 1))?;
                total
            }
        };
        measured.score.push(total);
        Ok(())
    }
}

/// Samples of all architectures, and milliseconds per step of steps in a row.
pub(super) struct Samples {
    pub archs: Vec<Measured>,
    pub row: Vec<f64>,
    /// Values, gradients and moments of the largest network's parameters.
    pub parameter_bytes: u64,
}

impl Samples {
    fn new(archs: usize) -> Self {
        Self { archs: (0..archs).map(|_| Measured::default()).collect(), row: Vec::new(), parameter_bytes: 0 }
    }

    /// Notes what the network takes.
    fn note(&mut self, store: &ParamStore) {
        // Values, gradients and two moments, of which momentum uses one.
        self.parameter_bytes = self.parameter_bytes.max(4 * 4 * store.len() as u64);
    }
}

/// Another architecture every step.
fn smash(setting: &Setting<'_>, archs: &[Named], yardstick: &mut Yardstick) -> Result<Samples> {
    let (args, network) = (setting.args, setting.smash_network());
    let all: Vec<Drawn<'_>> = archs.iter().map(|Named { arch, .. }| Drawn { network: &network, arch }).collect();
    let mut runner = Runner::new(setting, network.store(), &all)?;
    for drawn in all.iter().cycle().take(setting.warm_up().max(archs.len())) {
        runner.alone(drawn, None)?;
    }
    let mut samples = Samples::new(archs.len());
    samples.note(network.store());
    for (drawn, measured) in all.iter().zip(&mut samples.archs) {
        measured.arena_bytes = runner.planned(drawn)?;
    }
    for round in 0..args.rounds {
        (setting.place.say)(&format!("round {} of {}", round + 1, args.rounds));
        yardstick.sample(&mut runner.context)?;
        for (drawn, measured) in all.iter().zip(&mut samples.archs) {
            runner.sample(drawn, None, measured)?;
            if args.score > 0 {
                runner.sample_score(*drawn, measured)?;
            }
        }
        samples.row.push(runner.row(all.iter(), None)?);
    }
    yardstick.sample(&mut runner.context)?;
    if args.gaps && setting.place.kind == Kind::Cuda {
        for (drawn, measured) in all.iter().zip(&mut samples.archs) {
            runner.graph(drawn, measured)?;
        }
    }
    Ok(samples)
}

/// One network after the other, in several visits.
fn resulting(setting: &Setting<'_>, archs: &[Named], yardstick: &mut Yardstick) -> Result<Samples> {
    let rounds = setting.args.rounds;
    let mut samples = Samples::new(archs.len());
    let visits = VISITS.min(rounds);
    for visit in 0..visits {
        let steps = (visit + 1) * rounds / visits - visit * rounds / visits;
        for (i, Named { arch, .. }) in archs.iter().enumerate() {
            (setting.place.say)(&format!("visit {} of {visits}, network {} of {}", visit + 1, i + 1, archs.len()));
            let network = setting.resulting_network(arch);
            samples.note(network.store());
            let mut runner = Runner::new(setting, network.store(), std::slice::from_ref(&network))?;
            samples.archs[i].arena_bytes = runner.planned(&network)?;
            yardstick.sample(&mut runner.context)?;
            let mut recording = Recording::default();
            for _ in 0..setting.warm_up() {
                runner.alone(&network, Some(&mut recording))?;
            }
            for _ in 0..steps {
                runner.sample(&network, Some(&mut recording), &mut samples.archs[i])?;
            }
            samples.row.push(runner.row(std::iter::repeat_n(&network, steps), Some(&mut recording))?);
            yardstick.sample(&mut runner.context)?;
        }
    }
    Ok(samples)
}

/// Measures.
///
/// # Errors
/// [`Error::Config`] for a score of too many images, [`Error::Data`] for a file that is no architecture of the space;
/// whatever the device reports.
pub fn run(args: &StepArgs, conv: Conv, place: &Place<'_>) -> Result<Saved> {
    if args.score.checked_mul(args.batch).is_none_or(|images| images > MOST_SCORED) {
        let message = format!("{} batches of {} are more than {MOST_SCORED} images", args.score, args.batch);
        return Err(Error::config("--score", message));
    }
    let (archs, setting) = (architectures(args)?, Setting::new(args, conv, place)?);
    // Copies would count as memory of the run.
    let mut yardstick = Yardstick::default();
    let samples = match args.network {
        Trained::Smash => smash(&setting, &archs, &mut yardstick)?,
        Trained::Resulting => resulting(&setting, &archs, &mut yardstick)?,
    };
    let run = step_rows::run(&setting, &archs, &samples, &yardstick.ceilings)?;
    Ok(Saved::new(place.device.clone(), yardstick.ceilings, Content::Step(Box::new(run))))
}

/// One step of each architecture, for a profiler; returns how many.
///
/// # Errors
/// As [`run`].
pub fn profile(args: &StepArgs, conv: Conv, place: &Place<'_>) -> Result<usize> {
    let (archs, setting) = (architectures(args)?, Setting::new(args, conv, place)?);
    match args.network {
        Trained::Smash => {
            let network = setting.smash_network();
            let all: Vec<Drawn<'_>> =
                archs.iter().map(|Named { arch, .. }| Drawn { network: &network, arch }).collect();
            profile_steps(&setting, network.store(), &all)?;
        }
        Trained::Resulting => {
            for Named { arch, .. } in &archs {
                let network = setting.resulting_network(arch);
                profile_steps(&setting, network.store(), std::slice::from_ref(&network))?;
            }
        }
    }
    Ok(archs.len())
}

/// One step of each of `networks`, which share the parameters `store`.
fn profile_steps<N: Network>(setting: &Setting<'_>, store: &ParamStore, networks: &[N]) -> Result<()> {
    let mut runner = Runner::new(setting, store, networks)?;
    // Graphs would hide their kernels from some profilers: none is made.
    for network in networks.iter().cycle().take(setting.warm_up().max(networks.len())) {
        runner.alone(network, None)?;
    }
    runner.record(true)?;
    networks.iter().try_for_each(|network| runner.alone(network, None).map(drop))?;
    runner.record(false)
}
