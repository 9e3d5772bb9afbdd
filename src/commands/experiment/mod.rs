//! `experiment`: the paper's experiments on the user's own data and budget.

mod comparison;
mod correlation;
mod encoding;
mod prediction;
mod ratio;
mod stability;
mod study;
mod table1;
mod trained;
mod trainings;
mod transfer;

use crate::cli::{ExperimentArgs, ExperimentCommand, GlobalArgs};
use crate::error::Result;

/// Runs the experiment that was asked for.
///
/// # Errors
/// Those of the experiment; after an interruption the same command with `--resume` continues.
pub fn run(args: &ExperimentArgs, global: &GlobalArgs) -> Result<()> {
    match &args.command {
        ExperimentCommand::Correlation(args) => correlation::run(args, global),
        ExperimentCommand::Encoding(args) => encoding::run(args, global),
        ExperimentCommand::Stability(args) => stability::run(args, global),
        ExperimentCommand::Table1(args) => table1::run(args, global),
        ExperimentCommand::Transfer(args) => transfer::run(args, global),
    }
}
