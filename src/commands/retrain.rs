//! Stage 3: train networks from scratch, and look at the test set once each is done.

mod start;

use crate::backend::Context;
use crate::cli::{GlobalArgs, RetrainArgs};
use crate::commands::design;
use crate::commands::job::{Directory, Job, directory_of, remove};
use crate::commands::output::print_result;
use crate::commands::publish::remove_outcome;
use crate::commands::search::{Candidate, trained_smash, winner};
use crate::commands::timing::Timing;
use crate::commands::training::{Reached, Subject, Training};
use crate::error::{Error, Result};
use crate::export::model::{self, is_exported};
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::score::network_error;
use crate::nas::strategy::Origin;
use crate::nas::train::{Network, plan_evaluation};
use crate::report::count;
use serde::{Deserialize, Serialize};
use start::{Start, heir};

/// Why an architecture is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The best SMASH score.
    Winner,
    /// A random architecture of about the winner's cost.
    Rival,
    /// The most multiply-accumulates: what one would choose by cost alone.
    Largest,
    /// Named by the user.
    Chosen,
}

impl Role {
    /// Name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Winner => "winner",
            Self::Rival => "rival",
            Self::Largest => "largest",
            Self::Chosen => "chosen",
        }
    }
}

/// A trained network's line in the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Why.
    pub role: Role,
    /// Name of the architecture, or of the built-in network.
    pub id: String,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// SMASH score, validation error with generated weights in percent, where it was scored.
    pub smash_val_err: Option<f64>,
    /// Error after training on the validation images, in percent; none where all images were trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_err: Option<f64>,
    /// Error after training on the test images, in percent.
    pub test_err: f64,
    /// The same with five guesses, of sets with 100 classes and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_top5_err: Option<f64>,
    /// Test images.
    pub test_images: usize,
}

/// `smash-engine retrain`.
///
/// # Errors
/// As [`train_one`]; usage errors.
pub fn run(args: &RetrainArgs, global: &GlobalArgs) -> Result<()> {
    let init = args.init_from.as_deref();
    let chosen = match (&args.arch, &args.network, init) {
        (Some(path), ..) if is_exported(path) => Some(model::about(path)?.design),
        (Some(path), ..) => Some(Design::Searched(Architecture::load(path)?)),
        (None, Some(name), _) => Some(Design::Builtin(name.parse()?)),
        (None, None, Some(path)) => Some(model::about(path)?.design),
        (None, None, None) => None,
    };
    let has_run = directory_of(&args.run)?.join("config.toml").is_file();
    let directory = if chosen.is_some() && !has_run { Directory::New } else { Directory::Existing };
    let mut run_args = args.run.clone();
    // In an existing run --resume and --overwrite speak of this network's training only.
    if directory == Directory::Existing {
        (run_args.resume, run_args.overwrite) = (true, false);
    }
    let job = Job::open(&run_args, global, directory)?;
    let (role, design, score) = match chosen {
        Some(design) => (Role::Chosen, design, None),
        None => {
            let best = winner(&job)?;
            (Role::Winner, Design::Searched(best.arch), Some(best.val_err))
        }
    };
    design::check(&job, &design)?;
    let checkpoint = design::checkpoint(&job, &design);
    if checkpoint.is_file() && !args.run.overwrite && !args.run.resume {
        let message =
            format!("{} was trained here already; --resume continues it, --overwrite repeats it", design.id());
        return Err(Error::config("--out", message));
    }
    let start = Start::of(&job, &design, init)?;
    if !args.run.overwrite {
        training(&job, &design, &*design::network(&job, &design)?, &start).check(&job)?;
    }
    let is_new = args.run.overwrite || !checkpoint.is_file();
    if init.is_none() && job.config.retrain.init_from_smash && is_new {
        heir(&job, &design)?;
        trained_smash(&job)?;
    }
    job.begin()?;
    if args.run.overwrite {
        remove(&checkpoint)?;
    }
    let trained = train_from(&job, role, &design, score, &start)?;
    if contradicts_results(&job, &trained) {
        remove_outcome(&job.dir)?;
    }
    let text = table(std::slice::from_ref(&trained));
    print_result(global, &serde_json::json!({ "dir": job.dir, "network": trained }), &text)
}

/// Has the run results that say something else of this network? Then they are of an earlier training of it.
fn contradicts_results(job: &Job, trained: &Trained) -> bool {
    #[derive(Deserialize)]
    struct Results {
        networks: Vec<Trained>,
    }
    let results = std::fs::read(job.path("results.json")).unwrap_or_default();
    let networks = serde_json::from_slice(&results).map_or(Vec::new(), |results: Results| results.networks);
    let errors = |n: &Trained| (n.val_err, n.test_err);
    networks.iter().any(|before| before.id == trained.id && errors(before) != errors(trained))
}

/// A trained network with its parameters in a context ready for evaluation.
///
/// # Errors
/// [`Error::Config`] when it was never trained here; [`Error::Checkpoint`] when it cannot be used.
pub fn load_network(job: &Job, design: &Design) -> Result<(Box<dyn Network>, Context)> {
    let path = design::trained(job, design)?;
    let network = design::network(job, design)?;
    let planned = plan_evaluation(job.device.kind(), &*network, job.evaluation_shape())?;
    let mut context = job.context(planned, 1)?;
    network.store().reserve(&mut context)?;
    let reached: Reached =
        crate::checkpoint::load(&path, network.store(), &mut context, &design::identity(job, design))?;
    reached.demand_end(job, &format!("network {}", design.id()), "retrain")?;
    Ok((network, context))
}

/// The training of a network with the settings of the run.
fn training<'a>(job: &Job, design: &Design, network: &'a dyn Network, start: &'a Start<'a>) -> Training<'a> {
    let config = &job.config.retrain;
    Training {
        name: design.id(),
        subject: Subject::Fixed(network),
        identity: design::identity(job, design),
        checkpoint: design::checkpoint(job, design),
        epochs: config.epochs,
        max_steps: 0,
        batch: config.batch,
        lr: config.lr,
        optimizer: config.optimizer,
        // One stream for all: the same initial draws, images and crops, so that networks differ
        // in their architecture only.
        stream: 1,
        inherit: start.inherit.as_deref(),
        inherit_from: start.from.clone(),
    }
}

/// Trains one network from scratch and evaluates it on validation and test images.
///
/// # Errors
/// As [`Training::run`].
pub fn train_one(job: &Job, role: Role, design: impl Into<Design>, smash_val_err: Option<f64>) -> Result<Trained> {
    let design = design.into();
    train_from(job, role, &design, smash_val_err, &Start::of(job, &design, None)?)
}

/// The same from these weights.
fn train_from(
    job: &Job,
    role: Role,
    design: &Design,
    smash_val_err: Option<f64>,
    start: &Start<'_>,
) -> Result<Trained> {
    design::write_down(job, design)?;
    let network = design::network(job, design)?;
    let validate = |context: &mut Context, _epoch: u64| {
        let outcome = network_error(context, &*network, &job.gather, job.validation_batches())?;
        Ok((!job.validation.is_empty()).then(|| (outcome.percent(), 0.0)))
    };
    let training = training(job, design, &*network, start);
    let mut trained = Timing::measure(job, "retrain", || training.run(job, &validate))?;
    let validation = network_error(&mut trained.context, &*network, &job.gather, job.validation_batches())?;
    let test = network_error(&mut trained.context, &*network, &job.gather, job.test_batches().into_iter())?;
    // Training looks at the loss before each step, and so not at what the last one did.
    if !(validation.loss + test.loss).is_finite() {
        let message = format!("network {} has no finite loss after its training; lower --retrain-lr", design.id());
        return Err(Error::Diverged(message));
    }
    let cost = design::cost(job, design)?;
    Ok(Trained {
        role,
        id: design.id(),
        params: cost.params,
        macs: cost.macs,
        smash_val_err,
        val_err: (validation.images > 0).then(|| validation.percent()),
        test_err: test.percent(),
        test_top5_err: test.top5_percent(job.shape.classes),
        test_images: test.images,
    })
}

/// Chooses what to train: the winner, the largest, and random architectures closest to the winner
/// in cost. The winner's own ancestors are no rivals: it was bred from them.
pub fn choose(ranking: &[Candidate], rivals: usize) -> Vec<(Role, &Candidate)> {
    let winner = &ranking[0];
    let largest = ranking.iter().max_by_key(|c| (c.macs, std::cmp::Reverse(c.index))).unwrap_or(winner);
    let ancestors = ancestors(ranking, winner);
    let mut random: Vec<&Candidate> = ranking
        .iter()
        .filter(|c| c.origin == Origin::Random && ![&winner.id, &largest.id].contains(&&c.id))
        .filter(|c| !ancestors.contains(&c.index))
        .collect();
    random.sort_by_key(|c| (c.macs.abs_diff(winner.macs), &c.id, c.index));
    random.dedup_by_key(|c| &c.id); // a small space draws the same architecture twice
    let rivals = random.into_iter().take(rivals).map(|c| (Role::Rival, c));
    let largest = (largest.id != winner.id).then_some((Role::Largest, largest));
    std::iter::once((Role::Winner, winner)).chain(rivals).chain(largest).collect()
}

/// Indices of the candidates that `candidate` was perturbed from, step by step.
fn ancestors(ranking: &[Candidate], candidate: &Candidate) -> Vec<usize> {
    let mut found = Vec::new();
    let mut parent = candidate.origin.parent();
    while let Some(of) = parent {
        found.push(of);
        parent = ranking.iter().find(|c| c.index == of).and_then(|c| c.origin.parent());
    }
    found
}

/// Results as a table.
pub fn table(networks: &[Trained]) -> String {
    let mut text = format!(
        "{:8}  {:12}  {:>8}  {:>8}  {:>13}  {:>8}  {:>16}{}\n",
        "role",
        "architecture",
        "params",
        "MACs",
        "smash val_err",
        "val_err",
        "test_err",
        if networks.iter().any(|n| n.test_top5_err.is_some()) { "  test_top5_err" } else { "" }
    );
    for n in networks {
        let role = n.role.name();
        let percent = |error: Option<f64>| error.map_or("-".into(), |e| format!("{e:.2}%"));
        let (score, val_err) = (percent(n.smash_val_err), percent(n.val_err));
        let test = format!("{:.2}% +- {:.2}", n.test_err, crate::report::error_margin(n.test_err, n.test_images));
        let top5 = n.test_top5_err.map_or(String::new(), |e| format!("  {e:>12.2}%"));
        text += &format!(
            "{role:8}  {:12}  {:>8}  {:>8}  {score:>13}  {val_err:>8}  {test:>16}{top5}\n",
            n.id,
            count(n.params),
            count(n.macs)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::rng::{Rng, Stream};

    #[test]
    fn rivals_are_random_of_similar_cost_and_no_ancestors_of_the_winner() {
        let mut rng = Rng::new(1, Stream::Search);
        let arch = sample(&Space::small(), &SampleLimits::full(&Space::small()), &mut rng);
        let candidate = |index: usize, origin, macs| Candidate {
            index,
            origin,
            id: format!("id{index}"),
            val_err: 0.0,
            val_loss: None,
            predicted: None,
            params: 0,
            macs,
            arch: arch.clone(),
        };
        let ranking = [
            candidate(5, Origin::Markov { of: 4 }, 100), // the winner, bred from 4, bred from 1
            candidate(0, Origin::Random, 900),
            candidate(1, Origin::Random, 100),
            candidate(2, Origin::Random, 130),
            candidate(3, Origin::Random, 90),
            candidate(4, Origin::Perturb { of: 1 }, 100),
        ];
        let chosen: Vec<(Role, usize)> = choose(&ranking, 2).into_iter().map(|(role, c)| (role, c.index)).collect();
        let expected = [(Role::Winner, 5), (Role::Rival, 3), (Role::Rival, 2), (Role::Largest, 0)];
        assert_eq!(chosen, expected);
    }
}
