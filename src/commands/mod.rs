//! One file per command, each `run(..) -> Result<()>`.

mod bench;
mod card;
mod convert;
mod data;
mod design;
mod device;
mod directory;
mod environment;
mod eval;
mod experiment;
mod export;
mod fetch;
mod guided;
mod images;
mod info;
mod interrupt;
mod job;
mod latency;
mod output;
mod pictures;
mod planning;
mod predict;
mod profiling;
mod publish;
mod retrain;
mod run;
mod search;
mod selftest;
mod show;
mod stages;
mod summary;
mod timing;
mod train;
mod training;

pub use retrain::{Role, Trained};
pub use search::Candidate;
pub use stages::{Run, Scorer, Setup};

use crate::cli::{Cli, Command};
use crate::error::Result;
use std::io::Write;
use std::process::ExitCode;

/// What a newcomer sees.
const WELCOME: &str = "\
smash-engine: one-shot architecture search (SMASH) on hand-written kernels

  smash-engine run                 the whole job on the embedded images, in minutes
  smash-engine info                what this machine offers
  smash-engine selftest            whether every kernel computes here what it should
  smash-engine run --data FOLDER   the same on your own IDX or CIFAR files

smash-engine --help lists all commands.
";

/// Runs the command that was typed.
///
/// # Errors
/// Whatever the command reports; see [`crate::Error::exit_code`].
pub fn dispatch(cli: Cli) -> Result<()> {
    let Some(command) = cli.command else {
        return output::print(WELCOME);
    };
    let global = &cli.global;
    match command {
        Command::Run(args) => run::run(&args, global),
        Command::Train(args) => train::run(&args, global),
        Command::Search(args) => search::run(&args, global),
        Command::Retrain(args) => retrain::run(&args, global),
        Command::Eval(args) => eval::run(&args, global),
        Command::Experiment(args) => experiment::run(&args, global),
        Command::Export(args) => export::run(&args, global),
        Command::Predict(args) => predict::run(&args, global),
        Command::Show(args) => show::run(global, &args),
        Command::Data(args) => data::run(global, &args),
        Command::Info => info::run(global),
        Command::Selftest(args) => selftest::run(&args, global),
        Command::Bench(args) => bench::run(&args, global),
    }
}

/// How the program ends: an error goes to stderr and into the exit code.
pub fn finish(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Unlike `eprintln!`, this does not panic when nobody reads stderr.
    let _ = writeln!(std::io::stderr(), "smash-engine: {error}");
    ExitCode::from(error.exit_code())
}
