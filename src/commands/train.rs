//! Stage 1: train the SMASH network.

use crate::backend::Context;
use crate::cli::{GlobalArgs, RunArgs};
use crate::commands::job::{Directory, Job, surroundings};
use crate::commands::output::print_result;
use crate::commands::timing::Timing;
use crate::commands::training::{Subject, Trained, Training};
use crate::error::Result;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::score::smash_score;
use crate::nas::smash::{EncodingConfig, SmashNetwork};
use crate::rng::{Rng, Stream};

/// `smash-engine train`.
///
/// # Errors
/// As [`stage`].
pub fn run(args: &RunArgs, global: &GlobalArgs) -> Result<()> {
    let job = Job::open(args, global, Directory::New)?;
    job.check_smash()?;
    job.begin()?;
    let (_, trained) = stage(&job)?;
    print_result(
        global,
        &serde_json::json!({ "dir": job.dir, "steps": trained.steps, "seconds": trained.seconds }),
        &format!("SMASH network trained: {}\n", job.dir.display()),
    )
}

/// The SMASH network of a job's settings.
pub fn network(job: &Job) -> SmashNetwork {
    let config = &job.config;
    let noise = config.smash.noise.then_some(config.seed);
    SmashNetwork::new(&config.space, job.shape, &config.hyper, EncodingConfig { empty: config.smash.empty, noise })
}

/// What a SMASH checkpoint belongs to.
pub fn identity(job: &Job) -> String {
    let config = &job.config;
    serde_json::json!({ "kind": "smash", "space": config.space, "hyper": config.hyper, "empty": config.smash.empty, "noise": config.smash.noise,
        "surroundings": surroundings(&job.shape) })
    .to_string()
}

/// Trains the SMASH network, from its checkpoint if there is one.
///
/// # Errors
/// As [`Training::run`].
pub fn stage(job: &Job) -> Result<(SmashNetwork, Trained)> {
    let network = network(job);
    let config = &job.config.smash;
    let training = Training {
        name: "smash".into(),
        subject: Subject::Smash(&network),
        identity: identity(job),
        checkpoint: job.path("ckpt/smash.safetensors"),
        epochs: config.epochs,
        max_steps: config.max_steps,
        batch: config.batch,
        lr: config.lr,
        optimizer: config.optimizer,
        stream: 0,
        inherit: None,
        inherit_from: None,
    };
    let trained = Timing::measure(job, "smash", || {
        training.run(job, &|context, epoch| validate(job, &network, context, epoch).map(Some))
    })?;
    Ok((network, trained))
}

/// Error over random architectures, a new one for each validation batch: mean and spread in percent.
fn validate(job: &Job, network: &SmashNetwork, context: &mut Context, epoch: u64) -> Result<(f64, f64)> {
    // Far from the sub-streams of trainings, which count from 0.
    let mut rng = Rng::sub(job.config.seed, Stream::Arch, 1 << 16 | epoch as u32);
    let limits = SampleLimits::full(&job.config.space);
    let mut errors = Vec::new();
    for batch in job.validation_batches() {
        let arch = sample(&job.config.space, &limits, &mut rng);
        let outcome = smash_score(context, network, &arch, &job.gather, std::iter::once(batch))?;
        errors.push(outcome.percent());
    }
    Ok(mean_and_spread(&errors))
}

/// Mean and standard deviation.
fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}
