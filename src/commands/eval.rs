//! Error of a trained network, or the SMASH score of an architecture, on a named split.

use crate::cli::{EvalArgs, GlobalArgs, RunArgs, Split};
use crate::commands::design;
use crate::commands::job::{Directory, Job};
use crate::commands::output::print_result;
use crate::commands::retrain::load_network;
use crate::commands::search::{load_smash, smash_outcome, winner};
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::score::network_error;
use crate::nas::train::Batch;
use crate::report::error_margin;

/// `smash-engine eval`.
///
/// # Errors
/// Usage errors; [`Error::Checkpoint`] when the network cannot be used.
pub fn run(args: &EvalArgs, global: &GlobalArgs) -> Result<()> {
    let calibrate_bn = args.calibrate_bn;
    let run_args = RunArgs { out: Some(args.out.clone()), resume: true, calibrate_bn, ..RunArgs::default() };
    let job = Job::open(&run_args, global, Directory::Existing)?;
    if args.split == Split::Val && job.validation.is_empty() {
        return Err(Error::config("--split", "val: this run trained on all images and held none out; name test"));
    }
    let batches: Vec<Batch<'_>> = match args.split {
        Split::Val => job.validation_batches().collect(),
        Split::Test => job.test_batches(),
    };
    let (id, weights, outcome) = match &args.arch {
        Some(path) => {
            let arch = Architecture::load(path)?;
            if arch.space != job.config.space {
                let message = "belongs to another search space than the run; draw it from the run's own";
                return Err(Error::data(path, message));
            }
            let (network, mut context) = load_smash(&job)?;
            let outcome = smash_outcome(&job, &network, &mut context, &arch, batches.into_iter())?;
            (arch.id(), "generated", outcome)
        }
        None => {
            let design = match &args.network {
                Some(name) => design::named(&job, name)?,
                None => Design::Searched(winner(&job)?.arch),
            };
            let (network, mut context) = load_network(&job, &design)?;
            (design.id(), "trained", network_error(&mut context, &*network, &job.gather, batches.into_iter())?)
        }
    };
    let split = args.split.name();
    let error = outcome.percent();
    let margin = error_margin(error, outcome.images);
    let top5 = outcome.top5_percent(job.shape.classes);
    let mut json = serde_json::json!({ "architecture": id, "weights": weights, "split": split,
        format!("{split}_err"): error, format!("{split}_loss"): outcome.mean_loss(), "images": outcome.images });
    if let Some(top5) = top5 {
        json[format!("{split}_top5_err")] = top5.into();
    }
    let top5 = top5.map_or(String::new(), |e| format!(", {split}_top5_err {e:.2} %"));
    let text = format!(
        "architecture {id}, {weights} weights: {split}_err {error:.2} % +- {margin:.2} on {} images{top5}, {split}_loss {:.4}\n",
        outcome.images,
        outcome.mean_loss()
    );
    print_result(global, &json, &text)
}
