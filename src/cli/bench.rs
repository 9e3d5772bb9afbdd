//! What can be typed after `bench`.

use super::Preset;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Images that `bench step --score` looks at, at most.
pub const MOST_SCORED: usize = 100_000;

/// Arguments of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What was asked for.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The `bench` commands.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Every op and pass, beside the measured limits of the device and checked against f64
    Kernels(KernelsArgs),
    /// Whole training steps and scores of sampled architectures, and where their time goes
    Step(StepArgs),
    /// Is run B faster or slower than run A, row by row?
    ///
    /// Every row that both runs have gets a verdict. SLOWER, FASTER: the medians differ by more than --min-effect, more
    /// than the noise and more than the machine itself changed by, and the samples lie apart. UNCLEAR: they differ,
    /// but not by all of that, or noise would hide a difference. SAME: all others. What makes the comparison
    /// doubtful - other machines or settings, rows of one run only, wrong results - is said on stderr.
    Compare(CompareArgs),
}

/// Arguments of `bench kernels`.
#[derive(Clone, Debug, Args)]
pub struct KernelsArgs {
    /// What to time: `space`, shapes of the search space v2, or a file: a JSON list such as
    /// [{"op": "conv2d", "c": 64, "k": 64, "kernel": [3, 3], "size": [32, 32], "n": 50}]
    #[arg(long, value_name = "space|FILE", default_value = "space")]
    pub shapes: String,
    /// Only rows whose "op pass shape" matches, with * and ? as in file names; without them, contains this
    #[arg(short = 'k', long = "only", value_name = "GLOB")]
    pub only: Option<String>,
    /// Print the rows and time nothing; as JSON with --json
    #[arg(long)]
    pub list: bool,
    /// Samples of each row, one per round over all rows
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = at_least_one)]
    pub rounds: usize,
    /// Launches per sample, at most 4096 [default: on a CPU as many as take half a millisecond, on a GPU 16]
    #[arg(long, value_name = "N", value_parser = launches)]
    pub launches: Option<usize>,
    /// Kernels of convolutions on a GPU [default: all]
    #[arg(long, value_enum, value_name = "KERNELS", value_delimiter = ',')]
    pub conv: Vec<Conv>,
    /// Flush the caches before each sample, which is then a single launch
    #[arg(long, conflicts_with = "launches")]
    pub cold: bool,
    /// Small shapes: does everything work?
    #[arg(long)]
    pub quick: bool,
    /// Seed of the architectures whose shapes are drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where results go.
    #[command(flatten)]
    pub output: BenchOutput,
}

/// Arguments of `bench step`.
#[derive(Clone, Debug, Args)]
pub struct StepArgs {
    /// Search space and HyperNet
    #[arg(long, value_enum, default_value = "v2")]
    pub preset: Preset,
    /// What is trained
    #[arg(long, value_enum, default_value = "smash")]
    pub network: Trained,
    /// Folder of architecture files; one that holds none is filled with those drawn
    #[arg(long, value_name = "DIR")]
    pub archs: Option<PathBuf>,
    /// Architectures to draw
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub count: usize,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Samples of each architecture, one per round over all of them
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub rounds: usize,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    pub batch: usize,
    /// Height and width of the images
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = picture_size)]
    pub size: usize,
    /// Batches of a score with the SMASH network; 0 scores nothing
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = batches)]
    pub score: usize,
    /// Kernels of convolutions on a GPU [default: exact, fast with --tf32]
    #[arg(long, value_enum, value_name = "KERNELS")]
    pub conv: Option<Conv>,
    /// On a GPU also time each step as a replayed graph: what it takes without gaps between kernels
    #[arg(long)]
    pub gaps: bool,
    /// Where results go.
    #[command(flatten)]
    pub output: BenchOutput,
}

/// What becomes of measurements.
#[derive(Clone, Debug, Args)]
pub struct BenchOutput {
    /// Form of the results on stdout; --json is --format json, with all samples
    #[arg(long, value_enum, value_name = "FORM", default_value = "table")]
    pub format: Format,
    /// Save the run: as bench/NAME.json (SMASH_BENCH_DIR instead of bench), or where a path says
    #[arg(long, value_name = "NAME")]
    pub save: Option<String>,
    /// Compare with this saved run; with --format csv only the comparison is printed
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Exit code 4 when any row is SLOWER than in the baseline by more than this, or WRONG in either run
    #[arg(long, value_name = "5%", value_parser = percent, requires = "baseline")]
    pub fail_on: Option<f64>,
    /// For nsys or perf: warm up, then run everything once, unmeasured; a CUDA profiler records that part only
    #[arg(long, conflicts_with_all = ["save", "baseline"])]
    pub profile: bool,
}

/// Arguments of `bench compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Saved run to compare with: its name, or the path of its file
    pub a: String,
    /// Saved run that is compared, likewise
    pub b: String,
    /// Smallest effect that is worth a verdict; for rows of less than 20 us at least 15 %
    #[arg(long, value_name = "5%", value_parser = percent, default_value = "5%")]
    pub min_effect: f64,
    /// Exit code 4 when any row is SLOWER by more than this, or WRONG in either run
    #[arg(long, value_name = "5%", value_parser = percent)]
    pub fail_on: Option<f64>,
    /// Form of the results on stdout
    #[arg(long, value_enum, value_name = "FORM", default_value = "table")]
    pub format: Format,
}

/// Form of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// One JSON value, with all samples
    Json,
    /// Comma-separated values
    Csv,
    /// A table in Markdown
    Md,
}

/// What a step trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trained {
    /// The SMASH network, another architecture every step
    Smash,
    /// A resulting network, the same every step
    Resulting,
}

/// Which kernels convolutions take on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Conv {
    /// The fastest for the shape, in f32
    Exact,
    /// The fastest for the shape, TF32 on tensor cores allowed
    Fast,
    /// Tiles in shared memory, whatever the shape
    Tiled,
    /// Sums in registers
    Direct,
    /// Tiles on the tensor cores
    Tf32,
}

impl Conv {
    /// Name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
            Self::Tiled => "tiled",
            Self::Direct => "direct",
            Self::Tf32 => "tf32",
        }
    }
}

impl Trained {
    /// Name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smash => "smash",
            Self::Resulting => "resulting",
        }
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must not be 0".into()),
        Ok(number) if number > 1 << 20 => Err("is far too much".into()),
        other => other.map_err(|_| "is no whole number".into()),
    }
}

fn launches(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        launches if launches > 4096 => Err("is more than 4096".into()),
        launches => Ok(launches),
    }
}

fn batches(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batches) if batches > MOST_SCORED => Err(format!("is more than {MOST_SCORED}")),
        other => other.map_err(|_| "is no whole number".into()),
    }
}

fn picture_size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        // Two transitions halve the picture.
        Ok(size) if size.is_multiple_of(4) && (4..=1024).contains(&size) => Ok(size),
        _ => Err("is not a multiple of 4 from 4 to 1024".into()),
    }
}

/// `5%` or `5` as a part of one. A number below 1 without the sign may be meant as a part: it is refused.
fn percent(text: &str) -> Result<f64, String> {
    let (number, least) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, f64::MIN_POSITIVE));
    match number.trim().parse::<f64>() {
        Ok(percent) if (least..=1000.0).contains(&percent) => Ok(percent / 100.0),
        Ok(percent) if percent > 0.0 && percent < 1.0 => Err(format!("may be {text}% or {}%", 100.0 * percent)),
        _ => Err("is no percentage such as 5%, above 0 and up to 1000".into()),
    }
}
