//! A run and its stages for programs that use this crate: what `smash-engine run`, `train`, `search` and `retrain` do,
//! with settings and results as values.
//!
//! ```text
//! RunConfig --Run::create--> Run --train--> (SMASH network) --search--> [Candidate] --retrain--> Trained
//!                                                  +--scorer--> Scorer: the score of any architecture of the space
//! ```
//!
//! Everything is kept in the run directory, as the commands leave it: a stage that is done is not done again, one that was
//! interrupted goes on where it was saved, and the commands can go on with the run and the other way round.

use crate::backend::Context;
use crate::cli::GlobalArgs;
use crate::commands::design;
use crate::commands::export::{export_trained, folder_of};
use crate::commands::job::Job;
use crate::commands::retrain::{Role, Trained, train_one};
use crate::commands::run::{Whole, whole};
use crate::commands::search::{Candidate, load_smash, smash_outcome, stage as search};
use crate::commands::train::stage as train;
use crate::config::RunConfig;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::smash::SmashNetwork;
use crate::nas::train::Outcome;
use crate::nas::twin::NetworkShape;
use std::path::{Path, PathBuf};

/// What a run computes on and what it says: what is no setting of it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// CPU threads; none for all cores. Results do not depend on it.
    pub threads: Option<usize>,
    /// Show on stderr how far it is.
    pub progress: bool,
}

impl Default for Setup {
    /// The device that is there, all cores, quiet.
    fn default() -> Self {
        Self { device: "auto".into(), threads: None, progress: false }
    }
}

impl Setup {
    fn flags(&self) -> GlobalArgs {
        GlobalArgs {
            device: self.device.clone(),
            threads: self.threads,
            simd: None,
            tf32: false,
            json: false,
            quiet: !self.progress,
            verbose: false,
        }
    }
}

/// A run: settings, images, and a directory for all that comes out.
///
/// ```no_run
/// use smash_engine::{Preset, Run, RunConfig, Setup};
///
/// # fn main() -> smash_engine::Result<()> {
/// let mut config = RunConfig::preset(Preset::Small);
/// config.data.source = "data/cifar-10".into();
/// config.space.n_max = 16;
/// let run = Run::create(config, "runs/narrow", &Setup { progress: true, ..Setup::default() })?;
/// run.train()?;
/// let best = run.search()?.swap_remove(0);
/// println!("{}: {:.1} % errors with generated weights", best.id, best.val_err);
/// println!("{:.1} % after training", run.retrain(best.arch)?.test_err);
/// # Ok(())
/// # }
/// ```
pub struct Run {
    job: Job,
}

impl Run {
    /// A run with these settings in `dir`: a new one, or the one that is there if it has the same. Reads the images;
    /// the first stage makes the directory.
    ///
    /// # Errors
    /// [`Error::Config`] names a setting that is unusable or does not fit the images, [`Error::Data`] the file that is wrong,
    /// [`Error::Checkpoint`] the settings in which a run in `dir` differs, [`Error::Device`] a device that is not there.
    pub fn create(config: RunConfig, dir: impl Into<PathBuf>, setup: &Setup) -> Result<Self> {
        Ok(Self { job: Job::of(config, dir.into(), &setup.flags())? })
    }

    /// The run in `dir`, with its own settings.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none, otherwise as [`Run::create`].
    pub fn open(dir: impl Into<PathBuf>, setup: &Setup) -> Result<Self> {
        Ok(Self { job: Job::found(dir.into(), &setup.flags())? })
    }

    /// The settings, whole: with what followed from the images.
    pub fn config(&self) -> &RunConfig {
        &self.job.config
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.job.dir
    }

    /// The images.
    pub fn dataset(&self) -> &Dataset {
        &self.job.dataset
    }

    /// What surrounds an architecture in its network: images, stem, classes.
    pub fn shape(&self) -> &NetworkShape {
        &self.job.shape
    }

    /// The first stage: trains the SMASH network to its end.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that do not fit, [`Error::Diverged`] when the loss is no longer a number,
    /// [`Error::Run`] for lack of memory, [`Error::Io`].
    pub fn train(&self) -> Result<()> {
        self.job.check_smash()?;
        self.job.begin_quietly()?;
        train(&self.job).map(drop)
    }

    /// The second stage, after [`Run::train`]: scores architectures as the settings of the search say; all of them, best
    /// first.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no trained SMASH network, otherwise as [`Run::train`].
    pub fn search(&self) -> Result<Vec<Candidate>> {
        self.job.check_smash()?;
        self.job.begin_quietly()?;
        search(&self.job)
    }

    /// The trained SMASH network, for searches of one's own.
    ///
    /// # Errors
    /// As [`Run::search`].
    pub fn scorer(&self) -> Result<Scorer<'_>> {
        self.job.check_smash()?;
        let (network, context) = load_smash(&self.job)?;
        Ok(Scorer { job: &self.job, network, context })
    }

    /// The third stage: trains an architecture, or a [built-in network](crate::nas::builtin::Builtin), from scratch and
    /// evaluates it on the validation and, for the first time, on the test images.
    ///
    /// # Errors
    /// [`Error::Config`] when settings or images do not fit the network, otherwise as [`Run::train`].
    pub fn retrain(&self, network: impl Into<Design>) -> Result<Trained> {
        let network = network.into();
        design::check(&self.job, &network)?;
        self.job.begin_quietly()?;
        train_one(&self.job, Role::Chosen, network, None)
    }

    /// A trained network as files that other programs run, and [`Model::load`](crate::Model::load) reads; what
    /// `smash-engine export` does. Their folder.
    ///
    /// # Errors
    /// [`Error::Config`] when it was never trained here, otherwise as [`Run::train`].
    pub fn export(&self, network: impl Into<Design>) -> Result<PathBuf> {
        let network = network.into();
        let folder = folder_of(&self.job, &network.id());
        export_trained(&self.job, network)?;
        Ok(folder)
    }

    /// All stages: trains, searches, trains the winner and its rivals from scratch, writes `results.json` and `report.md`,
    /// and exports the winner. What `smash-engine run` does.
    ///
    /// # Errors
    /// Those of the stages.
    pub fn whole(&self) -> Result<Vec<Trained>> {
        self.job.check_smash()?;
        self.job.check_resulting(&self.job.config.space)?;
        self.job.begin_quietly()?;
        let Whole { networks, exported, .. } = whole(&self.job)?;
        exported.map(|()| networks)
    }
}

/// A trained SMASH network that scores architectures, each with weights generated for it.
pub struct Scorer<'r> {
    job: &'r Job,
    network: SmashNetwork,
    context: Context,
}

impl Scorer<'_> {
    /// Loss and errors of `arch` on the validation images.
    ///
    /// # Errors
    /// [`Error::Architecture`] when it breaks a rule of its space or belongs to another one than the run's;
    /// [`Error::Run`] when it needs far more memory than architectures of the space do.
    pub fn score(&mut self, arch: &Architecture) -> Result<Outcome> {
        arch.validate()?;
        if arch.space != self.job.config.space {
            let message = "is another search space than the run's; draw it from the run's own";
            return Err(Error::architecture("space", message));
        }
        smash_outcome(self.job, &self.network, &mut self.context, arch, self.job.validation_batches())
    }
}
