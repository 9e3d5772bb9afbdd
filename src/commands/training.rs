//! The training loop of both stages: the SMASH network with a new architecture every step, and
//! a resulting network with its own.
//!
//! After every step the state can be saved; a restored training continues bit for bit.

use crate::backend::{Context, Kind, Recording};
use crate::checkpoint;
use crate::commands::interrupt::interrupted;
use crate::commands::job::Job;
use crate::commands::profiling;
use crate::data::{Augment, BatchOrder, OrderState};
use crate::error::{Error, Result};
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::smash::SmashNetwork;
use crate::nas::train::{Batch, Drawn, Network, Outcome, StepResult, Update, train_step};
use crate::nn::optim::Optimizer;
use crate::nn::params::ParamStore;
use crate::nn::schedule::cosine;
use crate::report::{JsonLines, Progress};
use crate::rng::{Rng, RngState, Stream};
use crate::trace::{self, Level};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a training stands, as its checkpoint stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    /// Steps done.
    step: u64,
    /// Steps and learning rate of the whole training: its schedule.
    total: u64,
    lr: f32,
    batch: usize,
    optimizer: Optimizer,
    order: OrderState,
    augment: RngState,
    arch: RngState,
    /// Bytes of metrics.jsonl that belong to the steps done.
    metrics_len: u64,
    /// Sums over the current epoch: loss, errors, images.
    epoch_sums: Outcome,
    /// It started from inherited weights.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    inherited: bool,
    /// Of which exported network they were, if of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inherited_from: Option<String>,
}

/// How far a checkpoint's training came.
#[derive(Deserialize)]
pub struct Reached {
    step: u64,
    /// Steps of the whole training.
    pub total: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f32,
    /// Optimiser.
    pub optimizer: Optimizer,
    #[serde(default)]
    inherited: bool,
    #[serde(default)]
    inherited_from: Option<String>,
}

impl Reached {
    /// Whole passes over so many images in the training.
    pub fn epochs(&self, images: usize) -> u64 {
        self.total / (images / self.batch.max(1)).max(1) as u64
    }

    /// Did it start from the SMASH network of the run?
    pub fn is_from_smash(&self) -> bool {
        self.inherited && self.inherited_from.is_none()
    }

    /// The weights that the training started from, in words.
    pub fn start(&self) -> String {
        match (&self.inherited_from, self.inherited) {
            (Some(name), _) => format!("exported network {name}"),
            (None, true) => "the SMASH network of the run".into(),
            (None, false) => "random numbers".into(),
        }
    }

    /// Refuses a network that is still in training: its errors would mean nothing.
    ///
    /// # Errors
    /// [`Error::Config`] with the command that finishes it.
    pub fn demand_end(&self, job: &Job, name: &str, command: &str) -> Result<()> {
        if self.step == self.total {
            return Ok(());
        }
        let message = format!(
            "{} holds {name} after {} of {} steps; `smash-engine {command} --resume` trains it to the end",
            job.dir.display(),
            self.step,
            self.total
        );
        Err(Error::config("--out", message))
    }
}

/// Beyond this a network of the method is a mistake in its settings.
const MOST_PARAMETERS: usize = 1 << 30;

/// What is trained.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A SMASH network, as a new architecture every step.
    Smash(&'a SmashNetwork),
    /// The same network every step.
    Fixed(&'a dyn Network),
}

impl Subject<'_> {
    /// What decides how large it is.
    fn name(&self) -> String {
        match self {
            Self::Smash(_) => "space".into(),
            Self::Fixed(network) => network.name(),
        }
    }

    /// The parameters.
    pub fn store(&self) -> &ParamStore {
        match self {
            Self::Smash(network) => network.store(),
            Self::Fixed(network) => network.store(),
        }
    }
}

/// What to train and how.
pub struct Training<'a> {
    /// Name in metrics and progress: `smash` or an architecture's id.
    pub name: String,
    /// The network.
    pub subject: Subject<'a>,
    /// What the checkpoint belongs to.
    pub identity: String,
    /// Checkpoint file.
    pub checkpoint: PathBuf,
    /// Passes over the training images.
    pub epochs: u64,
    /// End after this many steps; 0 for no limit.
    pub max_steps: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f32,
    /// Optimiser.
    pub optimizer: Optimizer,
    /// Sub-stream of data order, augmentation and initial weights.
    pub stream: u32,
    /// Writes initial weights over the random ones.
    pub inherit: Option<&'a Inherit<'a>>,
    /// The exported network that these are of, if of one.
    pub inherit_from: Option<String>,
}

/// Writes the weights that a training starts from into its context.
pub type Inherit<'a> = dyn Fn(&mut Context) -> Result<()> + 'a;

/// Validation at the end of an epoch: mean error and its spread over batches, in percent; none without images for it.
pub type Validate<'a> = dyn Fn(&mut Context, u64) -> Result<Option<(f64, f64)>> + 'a;

/// A finished training.
pub struct Trained {
    /// Memory with the trained parameters.
    pub context: Context,
    /// Seconds spent in this process.
    pub seconds: f64,
    /// Steps taken in this process.
    pub steps: u64,
}

/// The moving parts of a training.
struct Streams {
    order: BatchOrder,
    augment: Augment,
    arch: Rng,
}

impl Training<'_> {
    /// Trains to the end, from the checkpoint if there is one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after saving; whatever training, validation and files report.
    pub fn run(&self, job: &Job, validate: &Validate<'_>) -> Result<Trained> {
        let started = Instant::now();
        let parameters = self.subject.store().len();
        if parameters > MOST_PARAMETERS {
            let message =
                format!("its network has {parameters} parameters, more than {MOST_PARAMETERS}; make it smaller");
            return Err(Error::config(self.subject.name(), message));
        }
        let mut streams = self.fresh_streams(job)?;
        let total = self.total(job);
        let planned = self.plan(job, total)?;
        // The plan looks at the architectures that seem largest.
        let mut context = job.context(planned, 2)?;
        self.subject.store().reserve(&mut context)?;
        let metrics_path = job.path("metrics.jsonl");
        let (state, metrics) = if self.checkpoint.is_file() {
            let state: State = checkpoint::load(&self.checkpoint, self.subject.store(), &mut context, &self.identity)?;
            self.check_schedule(&state, total)?;
            streams = self.restore_streams(job, &state)?;
            let metrics = if state.step < total {
                JsonLines::reopen(&metrics_path, state.metrics_len, |line| self.is_of_another(line))?
            } else {
                JsonLines::open(&metrics_path, None)?
            };
            (state, metrics)
        } else {
            self.subject.store().initialise(&mut context, job.config.seed, self.stream)?;
            if let Some(inherit) = self.inherit {
                inherit(&mut context)?;
            }
            let mut metrics = JsonLines::open(&metrics_path, None)?;
            let state = self.state(&streams, 0, total, metrics.sync()?, Outcome::default());
            self.save(&mut context, &state)?;
            (state, metrics)
        };
        let first = state.step;
        if first < total {
            self.state_cost(job, total - first, planned);
        }
        let mut progress = Progress::new(job.style, &self.name, first, total);
        let mut steps = Steps {
            training: self,
            job,
            context,
            streams,
            metrics,
            step: first,
            total,
            sums: state.epoch_sums,
            under_way: VecDeque::new(),
            recording: Recording::default(),
        };
        steps.run(&mut progress, validate)?;
        self.report_memory(job, planned, total - first);
        Ok(Trained { context: steps.context, seconds: started.elapsed().as_secs_f64(), steps: total - first })
    }

    fn steps_per_epoch(&self, job: &Job) -> u64 {
        (job.train.len() / self.batch) as u64
    }

    /// Steps of the whole training.
    fn total(&self, job: &Job) -> u64 {
        let total = self.epochs.saturating_mul(self.steps_per_epoch(job));
        if self.max_steps == 0 { total } else { total.min(self.max_steps) }
    }

    /// Would this training go on from its checkpoint, if there is one?
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when that one is of another schedule, or damaged.
    pub fn check(&self, job: &Job) -> Result<()> {
        if !self.checkpoint.is_file() {
            return Ok(());
        }
        self.check_schedule(&checkpoint::peek(&self.checkpoint)?, self.total(job))
    }

    /// Is this line of metrics about another network, trained here while this one was interrupted?
    fn is_of_another(&self, line: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|line| line["network"] != self.name.as_str())
    }

    fn fresh_streams(&self, job: &Job) -> Result<Streams> {
        let seed = job.config.seed;
        Ok(Streams {
            order: BatchOrder::new(job.train.clone(), self.batch, Rng::sub(seed, Stream::Shuffle, self.stream))?,
            augment: Augment::new(job.augment, Rng::sub(seed, Stream::Augment, self.stream)),
            arch: Rng::sub(seed, Stream::Arch, self.stream),
        })
    }

    fn state(&self, streams: &Streams, step: u64, total: u64, metrics_len: u64, sums: Outcome) -> State {
        State {
            step,
            total,
            lr: self.lr,
            batch: self.batch,
            optimizer: self.optimizer,
            order: streams.order.state(),
            augment: streams.augment.state(),
            arch: streams.arch.state(),
            metrics_len,
            epoch_sums: sums,
            inherited: self.inherit.is_some(),
            inherited_from: self.inherit_from.clone(),
        }
    }

    /// Continuing on another schedule would be neither the one training nor the other.
    fn check_schedule(&self, state: &State, total: u64) -> Result<()> {
        if (state.batch, state.optimizer) != (self.batch, self.optimizer) {
            let message = format!(
                "was started with batches of {} and {:?}, not {} and {:?}; repeat its settings, or start again with \
                 --overwrite",
                state.batch, state.optimizer, self.batch, self.optimizer
            );
            return Err(Error::checkpoint(&self.checkpoint, message));
        }
        if state.inherited != self.inherit.is_some() {
            let (before, now) = if state.inherited { ("inherited", "random") } else { ("random", "inherited") };
            let message = format!(
                "was started from {before} weights, not {now} ones; repeat its --init-from-smash or --init-from, or start \
                 again with --overwrite"
            );
            return Err(Error::checkpoint(&self.checkpoint, message));
        }
        if state.inherited_from != self.inherit_from {
            let network = |name: &Option<String>| name.clone().unwrap_or("the SMASH network".into());
            let message = format!(
                "was started from the weights of {}, not of {}; repeat its --init-from, or start again with --overwrite",
                network(&state.inherited_from),
                network(&self.inherit_from)
            );
            return Err(Error::checkpoint(&self.checkpoint, message));
        }
        if (state.total, state.lr) == (total, self.lr) {
            return Ok(());
        }
        let message = format!(
            "was started for {} steps from learning rate {}, not {total} from {}; repeat its settings, or start again \
             with --overwrite",
            state.total, state.lr, self.lr
        );
        Err(Error::checkpoint(&self.checkpoint, message))
    }

    fn restore_streams(&self, job: &Job, state: &State) -> Result<Streams> {
        let restore = |rng: &RngState| {
            Rng::restore(rng).ok_or_else(|| {
                let message = "has a random stream without a position; start again with --overwrite";
                Error::checkpoint(&self.checkpoint, message)
            })
        };
        Ok(Streams {
            order: BatchOrder::restore(job.train.clone(), self.batch, &state.order, &self.checkpoint)?,
            augment: Augment::new(job.augment, restore(&state.augment)?),
            arch: restore(&state.arch)?,
        })
    }

    fn save(&self, context: &mut Context, state: &State) -> Result<()> {
        checkpoint::save(&self.checkpoint, self.subject.store(), context, &self.identity, state)
    }
}

/// Steps that may be queued on a GPU while it works on an earlier one: enough to keep it busy, few
/// enough to stop soon.
const RUN_AHEAD: usize = 2;

/// The loop of a training: everything that moves from step to step.
struct Steps<'a> {
    training: &'a Training<'a>,
    job: &'a Job,
    context: Context,
    streams: Streams,
    metrics: JsonLines,
    /// Steps queued.
    step: u64,
    total: u64,
    /// Of the current epoch, as far as results are here.
    sums: Outcome,
    /// Steps whose results are not here yet, with their numbers.
    under_way: VecDeque<(u64, StepResult)>,
    /// Of the step, if it is the same every time.
    recording: Recording,
}

impl Steps<'_> {
    /// Steps to the end of the training.
    fn run(&mut self, progress: &mut Progress, validate: &Validate<'_>) -> Result<()> {
        let per_epoch = self.training.steps_per_epoch(self.job);
        let ahead = if self.context.kind() == Kind::Cuda { RUN_AHEAD } else { 0 };
        let recorded = profiling::recorded(&self.job.profiled, self.step + 1..self.total + 1);
        let mut saved = Instant::now();
        let mut epoch_range = None;
        while self.step < self.total {
            let epoch = self.step / per_epoch;
            epoch_range.get_or_insert_with(|| trace::range_with(Level::Epoch, c"epoch", || epoch + 1));
            profiling::bracket(&recorded, self.step + 1, self, Self::switch_profiler, Self::queue)?;
            let epoch_ends = self.step.is_multiple_of(per_epoch) || self.step == self.total;
            let signal = self.job.interrupted();
            let due = saved.elapsed() >= Duration::from_secs(self.job.config.checkpoint_seconds);
            let save = due || signal.is_some() || self.step == self.total;
            self.catch_up(if epoch_ends || save { 0 } else { ahead }, progress)?;
            if epoch_ends {
                self.end_epoch(epoch, validate)?;
                epoch_range = None;
            }
            if save {
                self.save()?;
                saved = Instant::now();
            }
            if let Some(signal) = signal {
                progress.finish();
                return Err(interrupted(signal));
            }
        }
        progress.finish();
        Ok(())
    }

    /// Tells a profiler to record what follows, or not.
    fn switch_profiler(&mut self, on: bool) -> Result<()> {
        self.context.as_cuda().map_or(Ok(()), |cuda| cuda.profile(on))
    }

    /// Draws and queues the next step.
    fn queue(&mut self) -> Result<()> {
        let (training, job) = (self.training, self.job);
        let (arch, drawn);
        let (network, recording): (&dyn Network, _) = match training.subject {
            Subject::Fixed(network) => (network, Some(&mut self.recording)),
            Subject::Smash(network) => {
                let limits = SampleLimits::at(&job.config.space, self.step as f64 / self.total as f64);
                arch = sample(&job.config.space, &limits, &mut self.streams.arch);
                drawn = Drawn { network, arch: &arch };
                (&drawn, None)
            }
        };
        let _range = trace::range_with(Level::Step, c"step", || network.number());
        let set = &job.dataset.train;
        let indices = self.streams.order.next_batch().to_vec();
        let batch = Batch {
            set,
            labels: indices.iter().map(|&i| set.label(i as usize)).collect(),
            placements: self.streams.augment.draw(training.batch),
            indices,
            views: 1,
        };
        let lr = cosine(training.lr, self.step, self.total);
        self.step += 1;
        let update = Update { optimizer: training.optimizer, lr, step: self.step };
        let queued = train_step(&mut self.context, recording, network, &job.gather, &batch, update)?;
        self.under_way.push_back((self.step, queued));
        Ok(())
    }

    /// Takes in the results of all steps but the last `leave`.
    fn catch_up(&mut self, leave: usize, progress: &mut Progress) -> Result<()> {
        while self.under_way.len() > leave
            && let Some((step, result)) = self.under_way.pop_front()
        {
            let outcome = trace::within(Level::Phase, c"wait", || result.wait(&mut self.context))?;
            self.metrics.write(&serde_json::json!({
                "network": self.training.name,
                "step": step,
                "train_loss": outcome.mean_loss(),
                "train_err": outcome.percent(),
            }))?;
            self.sums.add(outcome);
            progress.update(step, &format!("loss {:.3}, err {:.1} %", self.sums.mean_loss(), self.sums.percent()));
        }
        Ok(())
    }

    fn end_epoch(&mut self, epoch: u64, validate: &Validate<'_>) -> Result<()> {
        let validated = validate(&mut self.context, epoch)?;
        let (name, sums) = (&self.training.name, std::mem::take(&mut self.sums));
        self.metrics.write(&serde_json::json!({
            "network": name,
            "epoch": epoch + 1,
            "step": self.step,
            "train_loss": sums.mean_loss(),
            "train_err": sums.percent(),
            "val_err": validated.map(|(error, _)| error),
            "val_err_std": validated.map(|(_, spread)| spread),
        }))?;
        if let (true, Some((error, spread))) = (self.job.global.verbose, validated) {
            self.job.say(&format!("{name} epoch {}: val_err {error:.2} % (spread {spread:.2})", epoch + 1));
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let metrics_len = self.metrics.sync()?;
        let state = self.training.state(&self.streams, self.step, self.total, metrics_len, self.sums);
        self.training.save(&mut self.context, &state)
    }
}
