//! What all stages of a run share: settings, images, the run directory, interruption.

use crate::backend::Context;
use crate::backend::cuda::MAX_VIEWS;
use crate::cli::{GlobalArgs, RunArgs};
use crate::commands::convert;
use crate::commands::device::{Chosen, choose};
use crate::commands::directory::{OLD_SETTINGS, RUN_FILES, check_new, refuse_other_stages, settings_of};
use crate::commands::environment;
use crate::commands::images::{geometry, split};
use crate::commands::interrupt::Interrupt;
use crate::commands::profiling;
use crate::config::{DataConfig, RunConfig};
use crate::data::augment::views_used;
use crate::data::{AugmentKind, BatchOrder, DataSpec, Dataset, Options, sequential_batches, unlike_published};
use crate::error::{Error, Result};
use crate::nas::cost::NetworkShape;
use crate::nas::space::Space;
use crate::nas::train::{Batch, Gather};
use crate::report::{Style, say};
use crate::rng::{Rng, Stream};
use crate::tensor::Shape;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::commands::directory::{refuse_differences, remove};

/// A run being worked on.
#[derive(Clone)]
pub struct Job {
    /// Settings.
    pub config: RunConfig,
    /// Run directory.
    pub dir: PathBuf,
    /// Images.
    pub dataset: Arc<Dataset>,
    /// Indices of training images to learn from.
    pub train: Vec<u32>,
    /// Indices of training images to validate on.
    pub validation: Vec<u32>,
    /// How images become batches.
    pub gather: Gather,
    /// What surrounds an architecture.
    pub shape: NetworkShape,
    /// How training images are varied.
    pub augment: AugmentKind,
    /// Flags of every command.
    pub global: GlobalArgs,
    /// What it computes on.
    pub device: Chosen,
    /// Training steps that a profiler records.
    pub profiled: std::ops::Range<u64>,
    /// How progress is shown.
    pub style: Style,
    /// The command that was typed; none in programs that use this crate.
    pub command: Option<String>,
    /// Delete the run that is there.
    anew: bool,
    interrupt: Interrupt,
}

/// What may be in the directory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// A new run; an old one only with --resume or --overwrite.
    New,
    /// A run that an earlier stage left.
    Existing,
}

/// What a job finds in its directory.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// Nothing, or a run to continue or delete where that was asked for.
    New { resume: bool, overwrite: bool },
    /// A run with these settings.
    Existing(&'a RunConfig),
}

impl Job {
    /// Opens data and directory for a command with the given arguments; writes nothing.
    ///
    /// # Errors
    /// Usage, data, directory and device errors, each named.
    pub fn open(args: &RunArgs, global: &GlobalArgs, directory: Directory) -> Result<Self> {
        let profiled = profiling::parse(args.profile_steps.as_deref())?;
        let device = choose(global)?;
        if !profiled.is_empty() && device.cuda().is_none() {
            let message = "is for profilers of CUDA, and this runs on the CPU; add --device cuda:N";
            return Err(Error::config("--profile-steps", message));
        }
        let dir = directory_of(args)?;
        let before = if directory == Directory::Existing { Some(settings_of(&dir)?) } else { None };
        let config = before.as_ref().map_or_else(|| RunConfig::resolve(args), |before| before.with_flags(args))?;
        if let Some(before) = &before {
            // First of all what was typed: what follows from other images would hide it.
            refuse_other_stages(&dir, config.differences_where_set(before))?;
        }
        let start = match &before {
            Some(before) => Start::Existing(before),
            None => Start::New { resume: args.resume, overwrite: args.overwrite },
        };
        let job = Self::assemble(config, dir, start, device, global)?;
        Ok(Self { profiled, command: Some(environment::typed()), ..job })
    }

    /// Opens data and directory for a run with these settings, or the one that is there if it has the same; writes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that are unusable, [`Error::Checkpoint`] for a run of others; data and device errors.
    pub fn of(config: RunConfig, dir: PathBuf, global: &GlobalArgs) -> Result<Self> {
        config.validate()?;
        let resume = dir.join("config.toml").is_file();
        Self::assemble(config, dir, Start::New { resume, overwrite: false }, choose(global)?, global)
    }

    /// Opens data and directory for another stage of the run in `dir`, with its own settings; writes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none; data and device errors.
    pub fn found(dir: PathBuf, global: &GlobalArgs) -> Result<Self> {
        let config = settings_of(&dir)?;
        Self::assemble(config.clone(), dir, Start::Existing(&config), choose(global)?, global)
    }

    fn assemble(
        mut config: RunConfig,
        dir: PathBuf,
        start: Start<'_>,
        device: Chosen,
        global: &GlobalArgs,
    ) -> Result<Self> {
        let kernels = config.space.kernels.clone();
        let options = Options { image_size: config.data.image_size, progress: convert::on_stderr(global) };
        let dataset = crate::data::open_with(&DataSpec::parse(&config.data.source), options)?;
        let input = config.settle(&dataset)?;
        if let Start::Existing(before) = start {
            refuse_other_stages(&dir, config.differences(before))?;
        }
        let (train, validation) = split(&config, &dataset)?;
        let (gather, shape) = geometry(&input, &dataset, train.iter().chain(&validation));
        let anew = match start {
            Start::New { resume, overwrite } => check_new(&dir, &config, resume, overwrite)?,
            Start::Existing(_) => false,
        };
        let style = Style::detect(global.quiet);
        if let Some(difference) = unlike_published(&dataset).filter(|_| style != Style::Quiet) {
            say(&difference);
        }
        if config.space.kernels != kernels && style != Style::Quiet {
            say(&format!("filters of voxels are 3x3x3: the space's kernels {kernels:?} become [3]"));
        }
        let nothing_there = matches!(start, Start::New { resume: true, .. }) && !dir.join("config.toml").is_file();
        if nothing_there && style != Style::Quiet {
            say(&format!("{} holds no run to resume: starting one", dir.display()));
        }
        Ok(Self {
            config,
            dir,
            dataset: Arc::new(dataset),
            train,
            validation,
            gather,
            shape,
            augment: input.augment,
            global: global.clone(),
            device,
            profiled: 0..0,
            style,
            command: None,
            anew,
            interrupt: Interrupt::default(),
        })
    }

    /// Checks what training a SMASH network and searching with it need; before [`begin`](Self::begin).
    ///
    /// # Errors
    /// [`Error::Config`] names the setting.
    pub fn check_smash(&self) -> Result<()> {
        if self.validation.is_empty() {
            let message = "0 leaves no images to score architectures on; only retrain can do without";
            return Err(Error::config("data.validation", message));
        }
        self.check_batch("batch", self.config.smash.batch)?;
        self.check_views(&self.config.space)
    }

    /// Checks what training a resulting network of `space` needs; before [`begin`](Self::begin).
    ///
    /// # Errors
    /// [`Error::Config`] names the setting.
    pub fn check_resulting(&self, space: &Space) -> Result<()> {
        self.check_retrain_batch()?;
        self.check_views(space)
    }

    /// Checks that there are images for a batch of a training from scratch.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting.
    pub fn check_retrain_batch(&self) -> Result<()> {
        self.check_batch("retrain-batch", self.config.retrain.batch)
    }

    fn check_batch(&self, name: &str, batch: usize) -> Result<()> {
        if batch > self.train.len() {
            let message = format!("{batch} is more than the {} training images; make it smaller", self.train.len());
            return Err(Error::config(name, message));
        }
        Ok(())
    }

    fn check_views(&self, space: &Space) -> Result<()> {
        let most = space.max_banks();
        if self.device.cuda().is_some() && most > MAX_VIEWS {
            let message = format!(
                "its blocks may have {most} memory banks, and an op reads at most {MAX_VIEWS} on a GPU; change \
                 unit, n_max or max_bank_size, or use --device cpu"
            );
            return Err(Error::config("space", message));
        }
        Ok(())
    }

    /// Makes the directory, deletes the run in it if that was asked for, and writes down settings
    /// and machine. Before this nothing is written, and a signal simply ends the program; from here
    /// on it is noticed where work can be saved.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(&self) -> Result<()> {
        self.interrupt.install()?;
        self.begin_quietly()?;
        self.say(&self.device.describe());
        Ok(())
    }

    /// The same for programs that use this crate: a signal does what it does there, and nothing is said.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_quietly(&self) -> Result<()> {
        let (settings, old) = (self.path("config.toml"), self.path(OLD_SETTINGS));
        if self.anew {
            // From here on the directory is known as one to be emptied, whatever interrupts that.
            if settings.is_file() {
                std::fs::rename(&settings, &old).map_err(Error::io("rename", &settings))?;
            }
            for name in RUN_FILES {
                remove(&self.path(name))?;
            }
        }
        let create = |folder: &Path| std::fs::create_dir_all(folder).map_err(Error::io("create", folder));
        create(&self.dir)?;
        crate::checkpoint::write_atomic(&settings, self.config.to_toml().as_bytes())?;
        remove(&old)?;
        create(&self.path("ckpt"))?;
        create(&self.path("arch"))?;
        environment::write(self)
    }

    /// A run within this one, in its sub-folder `folder`: the same images, split and device, and settings that
    /// `change` may change, but for those of the images. Makes the folder; this run has begun.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when there is a run of other settings; [`Error::Io`].
    pub fn variant(&self, folder: &str, change: impl FnOnce(&mut RunConfig)) -> Result<Self> {
        let mut variant = Self { dir: self.path(folder), anew: false, ..self.clone() };
        change(&mut variant.config);
        if variant.config.seed != self.config.seed {
            // Opened by itself, it has to find the same split.
            variant.config.data.split_seed = Some(self.config.data.split_seed.unwrap_or(self.config.seed));
        }
        variant.config.validate()?;
        variant.enter()?;
        Ok(variant)
    }

    /// Makes the folder of a run within another one, unless a run of other settings is there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] names the settings; [`Error::Io`].
    pub fn enter(&self) -> Result<()> {
        let settings = self.path("config.toml");
        if settings.is_file() {
            refuse_differences(&self.dir, &self.config.differences(&RunConfig::load(&settings)?))?;
        }
        self.begin_quietly()
    }

    /// A run within this one, in its sub-folder `folder`, on other images: those of `source`, presented as is usual for
    /// them, and settings that are otherwise the same. Writes nothing yet.
    ///
    /// # Errors
    /// [`Error::Data`] when the images cannot be used; [`Error::Config`] when the settings do not fit them.
    pub fn on_images(&self, folder: &str, source: &str) -> Result<Self> {
        let mut config = self.config.clone();
        let usual = DataConfig {
            source: source.into(),
            fold: None,
            image_size: None,
            size: None,
            augment: None,
            ..config.data
        };
        (config.data, config.stem_stride) = (usual, None);
        let options = Options { image_size: None, progress: convert::on_stderr(&self.global) };
        let dataset = crate::data::open_with(&DataSpec::parse(source), options)?;
        if dataset.shape.is_volume() != self.shape.is_volume() {
            config.stem_kernel = None;
        }
        let input = config.settle(&dataset)?;
        let (train, validation) = split(&config, &dataset)?;
        let (gather, shape) = geometry(&input, &dataset, train.iter().chain(&validation));
        if let Some(difference) = unlike_published(&dataset) {
            self.say(&difference);
        }
        let (dir, dataset, augment) = (self.path(folder), Arc::new(dataset), input.augment);
        Ok(Self { config, dir, dataset, train, validation, gather, shape, augment, anew: false, ..self.clone() })
    }

    /// A context whose step arena holds `planned` f32, with `room` as in [`Chosen::context`].
    ///
    /// # Errors
    /// When the memory is refused.
    pub fn context(&self, planned: usize, room: usize) -> Result<Context> {
        self.device.context(planned, room)
    }

    /// A file of the run directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Prints a line of progress to stderr unless quiet.
    pub fn say(&self, text: &str) {
        if self.style != Style::Quiet {
            say(text);
        }
    }

    /// Shape of a batch of `n` images on the network's input.
    pub fn batch_shape(&self, n: usize) -> Shape {
        self.shape.batch(n)
    }

    /// Shape of the largest evaluation batch, of validation or test images, or of those BatchNorm is calibrated on.
    pub fn evaluation_shape(&self) -> Shape {
        let calibrated = if self.config.search.calibrate_bn > 0 { self.train.len() } else { 0 };
        let most = self.validation.len().max(self.dataset.test.len()).max(calibrated);
        let views = views_used(self.dataset.views).len();
        self.batch_shape(self.config.data.eval_batch.min(most * views).max(views))
    }

    /// Evaluation batches over the validation images, of volumes in one view: a score is wanted thousands of times.
    pub fn validation_batches(&self) -> impl Iterator<Item = Batch<'_>> {
        sequential_batches(&self.validation, self.config.data.eval_batch)
            .map(|indices| Batch::unvaried(&self.dataset.train, indices, &[0]))
    }

    /// The batches that BatchNorm statistics are re-estimated on before each score: training images drawn once with
    /// the seed, unvaried.
    ///
    /// # Errors
    /// [`Error::Config`] when there are no training images.
    pub fn calibration_batches(&self) -> Result<Vec<Batch<'_>>> {
        // Far from the sub-streams of trainings, which count from 0.
        let rng = Rng::sub(self.config.seed, Stream::Shuffle, 1 << 16);
        let size = self.config.data.eval_batch.min(self.train.len());
        let mut order = BatchOrder::new(self.train.clone(), size, rng)?;
        let batch = |_| Batch::unvaried(&self.dataset.train, order.next_batch(), &[0]);
        Ok((0..self.config.search.calibrate_bn).map(batch).collect())
    }

    /// Evaluation batches over the test set, of volumes in all views in use. Only explicit evaluations may ask for them.
    pub fn test_batches(&self) -> Vec<Batch<'_>> {
        Batch::all(&self.dataset.test, self.dataset.views, self.config.data.eval_batch)
    }

    /// The signal that asked the run to end, if any.
    pub fn interrupted(&self) -> Option<i32> {
        self.interrupt.signal()
    }
}

/// What the parameters of a network owe to what surrounds its architecture.
pub fn surroundings(shape: &NetworkShape) -> serde_json::Value {
    serde_json::json!({ "classes": shape.classes, "image_channels": shape.image_channels, "volumes": shape.is_volume(),
        "stem_kernel": shape.stem_kernel, "stem_stride": shape.stem_stride })
}

/// The directory a command works in: what `--out` says, or what its settings say.
///
/// # Errors
/// As [`RunConfig::resolve`].
pub fn directory_of(args: &RunArgs) -> Result<PathBuf> {
    match &args.out {
        Some(dir) => Ok(dir.clone()),
        None => Ok(RunConfig::resolve(args)?.default_out()),
    }
}
