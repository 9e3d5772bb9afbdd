//! What can be typed after `experiment`.

use super::RunArgs;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `experiment`.
#[derive(Clone, Debug, Args)]
pub struct ExperimentArgs {
    #[command(subcommand)]
    pub command: ExperimentCommand,
}

/// The experiments.
#[derive(Clone, Debug, Subcommand)]
pub enum ExperimentCommand {
    /// Does the score of an architecture with generated weights predict its error after training? (Section 4.1, Figure 4)
    ///
    /// Scores random architectures with one SMASH network, trains every j-th of their ranking from scratch, and reports
    /// how well scores, parameters and multiply-accumulates predict the test errors.
    Correlation(CorrelationArgs),
}

/// Flags of every experiment. All are recorded but those that results do not depend on.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct StudyArgs {
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// Take the settings and the SMASH network of this run directory instead of training one
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Trainings from scratch at a time, on a CPU [default: one for each thread]; results do not depend on it
    #[arg(long, value_name = "N", env = "SMASH_JOBS")]
    #[serde(skip)]
    pub jobs: Option<usize>,
}

/// Arguments of `experiment correlation`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct CorrelationArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub study: StudyArgs,
    /// Random architectures to score
    #[arg(long, value_name = "K", default_value_t = 250)]
    pub architectures: usize,
    /// Train every J-th of the ranking from scratch
    #[arg(long, value_name = "J", default_value_t = 5)]
    pub every: usize,
    /// Trainings of each, with seeds of their own
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seeds: usize,
}
