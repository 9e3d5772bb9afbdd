//! What is exported: a network of the run with its parameters, and what is to be said of it.

use crate::backend::Context;
use crate::checkpoint;
use crate::commands::design;
use crate::commands::job::Job;
use crate::commands::retrain::load_network;
use crate::commands::search::{load_smash, smash_checkpoint, winner};
use crate::commands::training::Reached;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::export::about::{About, Dtype, Errors, FORMAT, ImagesAbout, Recipe, Weights};
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::inherit::inherited;
use crate::nas::resulting::{NormKind, ResultingNetwork};
use crate::nas::score::calibrate;
use crate::nas::train::{Gather, Network, plan_evaluation};
use crate::ops::volume_gather::VolumeGather;
use clap::ValueEnum;
use std::path::Path;

/// Seconds between checkpoints in the settings that an export states, whatever they were: they change no result.
const SAVING: u64 = 30;

/// A network with its parameters, and what it is.
pub(super) struct Subject {
    pub design: Design,
    pub weights: Weights,
    pub network: Box<dyn Network>,
    pub context: Context,
    norm: NormKind,
    /// The training that its weights come from.
    training: Reached,
}

impl Subject {
    /// The trained network of the run that is called `name`, or the winner of its search.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none; [`Error::Checkpoint`] when it cannot be used.
    pub fn trained(job: &Job, name: Option<&str>) -> Result<Self> {
        Self::of(
            job,
            match name {
                Some(name) => design::named(job, name)?,
                None => Design::Searched(winner(job)?.arch),
            },
        )
    }

    /// The trained network of `design`.
    ///
    /// # Errors
    /// As [`Subject::trained`].
    pub fn of(job: &Job, design: Design) -> Result<Self> {
        let (network, context) = load_network(job, &design)?;
        let training = checkpoint::peek(&design::trained(job, &design)?)?;
        Ok(Self { design, weights: Weights::Trained, network, context, norm: job.config.retrain.norm, training })
    }

    /// The resulting network that computes what the SMASH network of the run does for the architecture at `path`, its
    /// BatchNorm statistics re-estimated where the search does that before a score.
    ///
    /// # Errors
    /// [`Error::Data`] when the architecture belongs to another space, otherwise as [`Subject::trained`].
    pub fn generated(job: &Job, path: &Path) -> Result<Self> {
        let arch = Architecture::load(path)?;
        if arch.space != job.config.space {
            let message = "belongs to another search space than the run; draw it from the run's own";
            return Err(Error::data(path, message));
        }
        let norm = NormKind::Weightnorm;
        let network = ResultingNetwork::new(&arch, job.shape, norm);
        let (smash, mut of_smash) = load_smash(job)?;
        // Before it is divided among the ops: they share statistics, too.
        calibrate(&mut of_smash, &smash, &arch, &smash.encode(&arch), &job.gather, &job.calibration_batches()?)?;
        let planned = plan_evaluation(job.device.kind(), &network, job.evaluation_shape())?;
        let mut context = job.context(planned, 1)?;
        network.store().reserve(&mut context)?;
        for (span, values) in inherited(&mut of_smash, &smash, &network)? {
            context.write(span, &values)?;
        }
        let training = checkpoint::peek(&smash_checkpoint(job)?)?;
        let (design, network) = (Design::Searched(arch), Box::new(network));
        Ok(Self { design, weights: Weights::Generated, network, context, norm, training })
    }

    /// All that is to be said of it but its errors.
    pub fn about(&self, job: &Job, dtype: Dtype) -> About {
        let (config, image) = (&job.config, job.dataset.shape);
        let (mean, std) = match &job.gather {
            Gather::Images(gather) => (gather.mean.clone(), gather.std.clone()),
            Gather::Volumes(_) => VolumeGather::normalisation(),
        };
        About {
            format: FORMAT,
            engine: env!("CARGO_PKG_VERSION").into(),
            design: self.design.clone(),
            norm: self.norm,
            shape: job.shape,
            weights: self.weights,
            dtype,
            images: ImagesAbout {
                name: job.dataset.name.clone(),
                classes: job.dataset.class_names.clone(),
                extent: [image.channels, image.depth, image.height, image.width],
                mean,
                std,
                views: job.dataset.views,
            },
            seed: config.seed,
            recipe: self.recipe(job),
            errors: Errors::default(),
        }
    }

    /// The training, as its checkpoint has it: the run may have trained other networks in other ways since.
    fn recipe(&self, job: &Job) -> Recipe {
        let (config, training) = (&job.config, &self.training);
        let augment = config.data.augment.and_then(|name| name.to_possible_value());
        Recipe {
            epochs: training.epochs(job.train.len()),
            steps: training.total,
            batch: training.batch,
            lr: training.lr,
            optimizer: training.optimizer,
            start: training.start(),
            augment: augment.map_or("none".into(), |name| name.get_name().to_string()),
            train_images: job.train.len(),
            validation_images: job.validation.len(),
            source: config.data.source.clone(),
            split_seed: config.data.split_seed.unwrap_or(config.seed),
            settings: self.settings(job).to_toml(),
        }
    }

    /// The settings of the run, those of the training as they were.
    fn settings(&self, job: &Job) -> RunConfig {
        let mut settings = RunConfig { checkpoint_seconds: SAVING, ..job.config.clone() };
        if self.weights == Weights::Trained {
            let (retrain, training) = (&mut settings.retrain, &self.training);
            (retrain.batch, retrain.lr, retrain.optimizer) = (training.batch, training.lr, training.optimizer);
            (retrain.epochs, retrain.init_from_smash) = (training.epochs(job.train.len()), training.is_from_smash());
        }
        settings
    }
}
