//! What can be typed after `experiment`.

use super::RunArgs;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `experiment`.
#[derive(Clone, Debug, Args)]
pub struct ExperimentArgs {
    /// What was asked for.
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
    /// Does the HyperNet read the encoding of an architecture? (Section 4.2)
    ///
    /// Scores random architectures with their true encoding and with every kind of wrong one, and reports the paired
    /// differences.
    Encoding(EncodingArgs),
    /// Do SMASH networks agree about architectures? (Appendix C, Figure 5)
    ///
    /// Scores the same random architectures with SMASH networks of several seeds, their mean, a crippled HyperNet, and many
    /// more learned weights, and reports how far the rankings agree.
    Stability(StabilityArgs),
    /// How does the correlation depend on the HyperNet and on what it has to generate? (Section 4.1, Table 1)
    ///
    /// For each width of the widest ops and each size of the HyperNet, trains SMASH networks; ranks random architectures by
    /// their mean score, trains every j-th from scratch, and reports how well each network's scores predict the test errors.
    Table1(Table1Args),
    /// Is an architecture that was found on one data set good for another? (Section 4.3)
    ///
    /// Searches on the data set of the run and on that of --to, trains what was found on either from scratch on the
    /// latter, beside random architectures of similar cost and a built-in network, and reports their test errors.
    Transfer(TransferArgs),
}

/// Flags of every experiment. All are recorded but those that results do not depend on.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct StudyArgs {
    /// The run.
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
    /// What all experiments have in common.
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

/// Arguments of `experiment encoding`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct EncodingArgs {
    /// What all experiments have in common.
    #[command(flatten)]
    #[serde(flatten)]
    pub study: StudyArgs,
    /// Random architectures to score
    #[arg(long, value_name = "K", default_value_t = 100)]
    pub architectures: usize,
}

/// Arguments of `experiment stability`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct StabilityArgs {
    /// What all experiments have in common.
    #[command(flatten)]
    #[serde(flatten)]
    pub study: StudyArgs,
    /// Random architectures to score
    #[arg(long, value_name = "K", default_value_t = 100)]
    pub architectures: usize,
    /// SMASH networks that differ in their seed only
    #[arg(long, value_name = "S", default_value_t = 3)]
    pub networks: usize,
    /// One more, whose ops may be so many times as wide, for a high ratio of learned to generated weights; 1 for none
    #[arg(long, value_name = "X", default_value_t = 4)]
    pub wide: usize,
    /// Compare scores with the trainings from scratch in the directory of another experiment, such as `correlation`, with
    /// the same seed
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained: Option<PathBuf>,
}

/// Arguments of `experiment table1`.
#[derive(Clone, Debug, Args)]
pub struct Table1Args {
    /// What all experiments have in common.
    #[command(flatten)]
    pub study: StudyArgs,
    /// The paper's table: preset v1, five HyperNets, g = 4, 8, 16, 500 architectures, every 10th trained for 100 epochs with
    /// 5 seeds; what is typed counts more
    #[arg(long)]
    pub paper: bool,
    /// Sizes of the HyperNet: GROWTHxLAYERS-LAYERS-LAYERS, with commas between them [default: 4x2-2-1,6x4-5-2,10x8-10-4]
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    pub hypernets: Option<Vec<String>>,
    /// Widths of the widest ops in units, with commas between them [default: 2,4,8]
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',')]
    pub g: Option<Vec<usize>>,
    /// SMASH networks for each size and width, with seeds of their own, whose mean score counts [default: 1]
    #[arg(long, value_name = "N")]
    pub networks: Option<usize>,
    /// Random architectures to score for each width [default: 60]
    #[arg(long, value_name = "K")]
    pub architectures: Option<usize>,
    /// Train every J-th of the ranking from scratch [default: 5]
    #[arg(long, value_name = "J")]
    pub every: Option<usize>,
    /// Trainings of each, with seeds of their own [default: 1]
    #[arg(long, value_name = "S")]
    pub seeds: Option<usize>,
}

/// Arguments of `experiment transfer`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct TransferArgs {
    /// What all experiments have in common.
    #[command(flatten)]
    #[serde(flatten)]
    pub study: StudyArgs,
    /// The other data set, on which all is trained: `embedded`, a folder, an archive as downloaded, or an .npz file
    #[arg(long, value_name = "DATA")]
    pub to: String,
    /// Built-in network to train beside them, as `retrain --network` takes it
    #[arg(long, value_name = "NAME", default_value = "wrn-16-2")]
    pub network: String,
    /// Trainings of each, with seeds of their own
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seeds: usize,
}
