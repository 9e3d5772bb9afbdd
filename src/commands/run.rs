//! The whole job: train the SMASH network, search, train the winner and its rivals, report.

use crate::cli::{GlobalArgs, RunArgs};
use crate::commands::job::{Directory, Job};
use crate::commands::output::print_result;
use crate::commands::publish::write_report;
use crate::commands::retrain::{Role, Trained, choose, table as results_table, train_one};
use crate::commands::search::{Candidate, stage as search_stage, table as ranking_table};
use crate::commands::timing::Timing;
use crate::commands::train::stage as train_stage;
use crate::error::Result;
use crate::nas::cost::NetworkShape;
use crate::report::{duration, write_json};
use std::fmt::Write;

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
    drop(train_stage(&job)?);
    let ranking = search_stage(&job)?;
    let mut networks = Vec::new();
    for (role, candidate) in choose(&ranking, job.config.retrain.rivals) {
        networks.push(train_one(&job, role, &candidate.arch, Some(candidate.val_err))?);
    }
    let timing = Timing::load(&job);
    let record = serde_json::json!({
        "dir": job.dir, "data": job.dataset.name, "seed": job.config.seed, "scored": ranking.len(),
        "seconds": { "smash": timing.seconds("smash"), "search": timing.seconds("search"),
            "retrain": timing.seconds("retrain") },
        "networks": networks,
    });
    write_json(&job.path("results.json"), &record)?;
    let report = report(&job, &ranking, &networks, &timing);
    write_report(&job.dir, &report, &[])?;
    print_result(global, &record, &report)
}

/// The report of a run, as markdown that also reads well as text.
fn report(job: &Job, ranking: &[Candidate], networks: &[Trained], timing: &Timing) -> String {
    let mut text = format!("# SMASH on {}, seed {}\n\n", job.dataset.name, job.config.seed);
    let seconds = |stage: &str| duration(timing.seconds(stage));
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "Search cost: {} to train the SMASH network, {} to score {} architectures on {} validation images.\n\
         Training {} networks from scratch for comparison: {}.\n",
        seconds("smash"),
        seconds("search"),
        ranking.len(),
        job.validation.len(),
        networks.len(),
        seconds("retrain")
    );
    let _ = writeln!(
        text,
        "Best scores (validation error with generated weights):\n\n```\n{}```\n",
        ranking_table(ranking, 5)
    );
    let _ = writeln!(
        text,
        "After training from scratch ({} epochs each, the same images and crops for all):\n\n```\n{}```\n",
        job.config.retrain.epochs,
        results_table(networks)
    );
    text += &verdict(networks);
    let _ = writeln!(
        text,
        "\nTest errors are on {} images the search never saw, +- the 95 % interval of that sample; one training each, \
         so seeds add to it.\nEverything is in {}; `smash-engine show {}{}` prints the winner.",
        networks.first().map_or(0, |n| n.test_images),
        job.dir.display(),
        job.path(&format!("arch/{}.json", ranking[0].id)).display(),
        show_flags(&job.shape)
    );
    text
}

/// The flags of `show` for a network of this shape, those at their defaults left out.
fn show_flags(shape: &NetworkShape) -> String {
    let flags = [
        ("image-channels", shape.image_channels, 3),
        ("image-size", shape.image_size, 32),
        ("classes", shape.classes, 10),
        ("stem-kernel", shape.stem_kernel, 7),
        ("stem-stride", shape.stem_stride, 1),
    ];
    let set = flags.iter().filter(|(_, value, default)| value != default);
    let text: String = set.map(|(flag, value, _)| format!(" --{flag} {value}")).collect();
    text + if shape.is_volume() { " --volume" } else { "" }
}

/// One plain sentence on what the search was worth.
fn verdict(networks: &[Trained]) -> String {
    let of = |role: Role| networks.iter().filter(move |n| n.role == role);
    let Some(winner) = of(Role::Winner).next() else { return String::new() };
    let rivals: Vec<f64> = of(Role::Rival).map(|n| n.test_err).collect();
    let mut text = format!("The winner's test_err is {:.2} %", winner.test_err);
    if !rivals.is_empty() {
        let mean = rivals.iter().sum::<f64>() / rivals.len() as f64;
        let better = rivals.iter().filter(|&&e| winner.test_err < e).count();
        text += &format!(
            "; random architectures of similar cost reach {mean:.2} % on average (it beats {better} of {})",
            rivals.len()
        );
    }
    match of(Role::Largest).next() {
        Some(largest) => text += &format!("; the largest network reaches {:.2} %", largest.test_err),
        None => text += "; it is also among the largest networks scored, so there is no separate choice by cost",
    }
    text + ".\n"
}
