//! The whole job: train the SMASH network, search, train the winner and its rivals, report, export the winner.

use crate::cli::{GlobalArgs, RunArgs};
use crate::commands::export::{export_trained, folder_of};
use crate::commands::job::{Directory, Job};
use crate::commands::output::print_result;
use crate::commands::publish::write_report;
use crate::commands::retrain::{Trained, choose, train_one};
use crate::commands::search::{comparison, stage as search_stage};
use crate::commands::summary::Findings;
use crate::commands::timing::Timing;
use crate::commands::train::stage as train_stage;
use crate::error::Result;
use crate::nas::design::Design;
use crate::report::write_json;
use serde_json::{Value, json};

/// `smash-engine run`.
///
/// # Errors
/// Those of the stages; after an interruption the same command with `--resume` continues.
pub fn run(args: &RunArgs, global: &GlobalArgs) -> Result<()> {
    let job = Job::open(args, global, Directory::New)?;
    job.check_smash()?;
    job.check_resulting(&job.config.space)?;
    job.begin()?;
    job.say(&format!(
        "{}: {} training, {} validation, {} test images of {} classes; results go to {}",
        job.dataset.name,
        job.train.len(),
        job.validation.len(),
        job.dataset.test.len(),
        job.shape.classes,
        job.dir.display()
    ));
    let Whole { record, text, exported, .. } = whole(&job)?;
    print_result(global, &record, &text)?;
    exported
}

/// What all stages found.
pub struct Whole {
    /// The networks that were trained from scratch.
    pub networks: Vec<Trained>,
    /// The results for programs: `results.json`.
    pub record: Value,
    /// The results for people: how the report begins.
    pub text: String,
    /// Whether the winner could be exported, too; the rest is there in any case.
    pub exported: Result<()>,
}

/// All stages of a job that has begun, and its report.
///
/// # Errors
/// Those of the stages.
pub fn whole(job: &Job) -> Result<Whole> {
    drop(train_stage(job)?);
    let ranking = search_stage(job)?;
    let mut networks = Vec::new();
    for (role, candidate) in choose(&ranking, job.config.retrain.rivals) {
        networks.push(train_one(job, role, &candidate.arch, Some(candidate.val_err))?);
    }
    let timing = Timing::load(job);
    let comparison = comparison(job)?;
    let mut record = json!({
        "dir": job.dir, "data": job.dataset.name, "seed": job.config.seed, "scored": ranking.len(),
        "seconds": { "smash": timing.seconds("smash"), "search": timing.seconds("search"),
            "retrain": timing.seconds("retrain") },
        "networks": networks, "export": folder_of(job, &ranking[0].id),
    });
    if let Some(comparison) = &comparison {
        record["gradient"] = json!(comparison);
    }
    write_json(&job.path("results.json"), &record)?;
    let findings =
        Findings { job, ranking: &ranking, networks: &networks, gradient: comparison.as_ref(), timing: &timing };
    let (report, figures) = findings.report();
    write_report(&job.dir, &report, &figures)?;
    let exported = export_trained(job, Design::Searched(ranking[0].arch.clone()));
    let text = findings.outcome();
    Ok(Whole { networks, record, text, exported })
}
