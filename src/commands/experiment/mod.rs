//! `experiment`: the paper's experiments on the user's own data and budget.

mod correlation;
mod prediction;
mod study;

use crate::cli::{ExperimentArgs, ExperimentCommand, GlobalArgs};
use crate::error::Result;

/// Runs the experiment that was asked for.
///
/// # Errors
/// Those of the experiment; after an interruption the same command with `--resume` continues.
pub fn run(args: &ExperimentArgs, global: &GlobalArgs) -> Result<()> {
    match &args.command {
        ExperimentCommand::Correlation(args) => correlation::run(args, global),
    }
}
