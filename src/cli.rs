//! What can be typed. No logic: `config` resolves it, `commands` run it.

mod bench;
mod experiment;

pub use bench::{
    BenchArgs, BenchCommand, BenchOutput, CompareArgs, Conv, Format, KernelsArgs, MOST_SCORED, StepArgs, Trained,
};
pub use experiment::{
    CorrelationArgs, EncodingArgs, ExperimentArgs, ExperimentCommand, StabilityArgs, StudyArgs, Table1Args,
    TransferArgs,
};

use crate::export::about::Dtype;
use crate::nas::resulting::NormKind;
use crate::nas::strategy::Strategy;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One-shot architecture search (SMASH) on hand-written kernels.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What was asked for.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, global = true, default_value = "auto", env = "SMASH_DEVICE")]
    pub device: String,
    /// CPU threads [default: all cores]; results do not depend on it
    #[arg(long, global = true, value_name = "N", env = "SMASH_THREADS")]
    pub threads: Option<usize>,
    /// CPU instruction set [default: the best of this machine]
    #[arg(long, global = true, value_name = "ISA", env = "SMASH_SIMD")]
    pub simd: Option<String>,
    /// On a GPU, convolve with TF32 tensor cores where they help: products of 11 significant bits, sums in f32
    #[arg(long, global = true, env = "SMASH_TF32")]
    pub tf32: bool,
    /// Print results as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More detail on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole job: train a SMASH network, search, train the winner and its rivals, report
    Run(RunArgs),
    /// Train a SMASH network (the first stage of `run`)
    Train(RunArgs),
    /// Score architectures with the SMASH network of a run directory (the second stage)
    Search(RunArgs),
    /// Train an architecture from scratch (the third stage; the winner of a search, or a file)
    Retrain(RetrainArgs),
    /// Error of a trained network on the validation or test images
    Eval(EvalArgs),
    /// Is the ranking worth anything? The paper's experiments on your own data and budget
    Experiment(ExperimentArgs),
    /// A trained network as safetensors, ONNX and PyTorch code, with a model card
    Export(ExportArgs),
    /// What an exported network takes pictures for
    Predict(PredictArgs),
    /// An architecture as a table, with its cost
    Show(ShowArgs),
    /// Look at data sets
    Data(DataArgs),
    /// Device, threads, instruction set, and measured speed limits of this machine
    Info,
    /// Compare every kernel on the device with plain f64 loops, and a training with the CPU's
    Selftest(SelftestArgs),
    /// Measure kernels and training steps, and compare with what was measured before
    Bench(BenchArgs),
}

/// Settings of a run. Unset flags come from SMASH_* variables, then --config, then the defaults.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Directory of the run [default: runs/DATA-PRESET-sSEED, with the fold if there is one]
    #[arg(long, value_name = "DIR", env = "SMASH_OUT")]
    pub out: Option<PathBuf>,
    /// Continue a run that was interrupted
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Start anew in a directory that holds a run, which is deleted
    #[arg(long)]
    pub overwrite: bool,
    /// Settings in TOML, in the form of a run's config.toml
    #[arg(long, value_name = "FILE", env = "SMASH_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data set: `embedded`, a folder, an archive as downloaded, or an .npz file [default: embedded]
    #[arg(long, value_name = "DATA", env = "SMASH_DATA")]
    pub data: Option<String>,
    /// Train on one part of the training images of STL-10, 0 to 9, as its protocol does
    #[arg(long, value_name = "N", env = "SMASH_FOLD")]
    pub fold: Option<usize>,
    /// Part of the training images held out for validation; 0, for retrain only, trains on all [default: 0.1]
    #[arg(long, value_name = "X", env = "SMASH_VALIDATION")]
    pub validation: Option<f64>,
    /// Height and width in pixels that pictures are brought to, cut to their middle square [default: as they are]
    #[arg(long, value_name = "N", env = "SMASH_IMAGE_SIZE")]
    pub image_size: Option<usize>,
    /// How training images are varied [default: what is usual for the data set]
    #[arg(long, value_enum, env = "SMASH_AUGMENT")]
    pub augment: Option<AugmentName>,
    /// Stride of the stem, 1 or 2 [default: 2 from 64 pixels on]
    #[arg(long, value_name = "N", env = "SMASH_STEM_STRIDE")]
    pub stem_stride: Option<usize>,
    /// Search space [default: small]
    #[arg(long, value_enum, env = "SMASH_PRESET")]
    pub preset: Option<Preset>,
    /// Master seed of every random decision [default: 1]
    #[arg(long, value_name = "N", env = "SMASH_SEED")]
    pub seed: Option<u64>,
    /// Epochs of SMASH training
    #[arg(long, value_name = "N", env = "SMASH_EPOCHS")]
    pub epochs: Option<u64>,
    /// End SMASH training after this many steps, whatever the epochs
    #[arg(long, value_name = "N", env = "SMASH_MAX_STEPS")]
    pub max_steps: Option<u64>,
    /// Images per step of SMASH training [default: 50]
    #[arg(long, value_name = "N", env = "SMASH_BATCH")]
    pub batch: Option<usize>,
    /// Learning rate of SMASH training (Adam) [default: 0.001]
    #[arg(long, value_name = "X", env = "SMASH_LR")]
    pub lr: Option<f32>,
    /// Random architectures to score
    #[arg(long, value_name = "N", env = "SMASH_RANDOM")]
    pub random: Option<usize>,
    /// Perturbations of the best random architecture to score
    #[arg(long, value_name = "N", env = "SMASH_PERTURB")]
    pub perturb: Option<usize>,
    /// How perturbations are chosen: at random, or also by the gradient with respect to the encoding, with a
    /// comparison at equal cost [default: random]
    #[arg(long, value_enum, env = "SMASH_STRATEGY")]
    pub strategy: Option<Strategy>,
    /// Steps of the Markov chain from the best so far
    #[arg(long, value_name = "N", env = "SMASH_MARKOV")]
    pub markov: Option<usize>,
    /// Before each score re-estimate BatchNorm statistics on K batches of training images [default: 0]
    #[arg(long, value_name = "K", env = "SMASH_CALIBRATE_BN")]
    pub calibrate_bn: Option<usize>,
    /// Training from scratch.
    #[command(flatten)]
    pub retrain: RetrainSettings,
    /// Random architectures of the winner's cost to train beside it [default: 3]
    #[arg(long, value_name = "N", env = "SMASH_RIVALS")]
    pub rivals: Option<usize>,
    /// Seconds between checkpoints [default: 30]
    #[arg(long, value_name = "S", env = "SMASH_CHECKPOINT_SECONDS")]
    pub checkpoint_seconds: Option<u64>,
    /// Tell a CUDA profiler to record training steps A up to but not including B, counted from 1
    #[arg(long, value_name = "A:B")]
    pub profile_steps: Option<String>,
    /// The experiment that these are settings of, with its own options.
    #[arg(skip)]
    pub experiment: toml::Table,
}

/// Settings of training from scratch.
#[derive(Clone, Debug, Default, Args)]
pub struct RetrainSettings {
    /// Epochs of training from scratch
    #[arg(long, value_name = "N", env = "SMASH_RETRAIN_EPOCHS")]
    pub retrain_epochs: Option<u64>,
    /// Images per step of training from scratch [default: 50]
    #[arg(long, value_name = "N", env = "SMASH_RETRAIN_BATCH")]
    pub retrain_batch: Option<usize>,
    /// Learning rate of training from scratch (Nesterov momentum) [default: 0.1]
    #[arg(long, value_name = "X", env = "SMASH_RETRAIN_LR")]
    pub retrain_lr: Option<f32>,
    /// Start from the weights that the run's SMASH network generates and shares [default: false, at random]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        env = "SMASH_INIT_FROM_SMASH")]
    pub init_from_smash: Option<bool>,
    /// Normalisation of the resulting network [default: sandwich]
    #[arg(long, value_enum, env = "SMASH_NORM")]
    pub norm: Option<NormKind>,
}

/// Arguments of `retrain`.
#[derive(Clone, Debug, Args)]
pub struct RetrainArgs {
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Architecture file, JSON or TOML, or an exported network for its architecture [default: the winner of the run
    /// directory's search]
    #[arg(long, value_name = "FILE")]
    pub arch: Option<PathBuf>,
    /// Start from the weights of an exported network, its folder or model.safetensors [default: at random]
    #[arg(long, value_name = "FILE", conflicts_with = "init_from_smash")]
    pub init_from: Option<PathBuf>,
    /// A built-in network in its place: wrn-DEPTH-WIDTH, resnet-DEPTH, densenet-DEPTH-GROWTH, densenet-bc-DEPTH-GROWTH
    /// or fractalnet-COLUMNS-BLOCKS
    #[arg(long, value_name = "NAME", conflicts_with = "arch")]
    pub network: Option<String>,
}

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Directory of the run
    #[arg(long, value_name = "DIR", env = "SMASH_OUT")]
    pub out: PathBuf,
    /// Id of a trained network, as `arch/ID.json`, or name of a built-in one [default: the winner]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// An architecture (a file, JSON or TOML) with the weights that the run's SMASH network generates and shares, in
    /// place of a trained network
    #[arg(long, value_name = "FILE", conflicts_with = "network")]
    pub arch: Option<PathBuf>,
    /// Folder for the files [default: export/ID in the run directory]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// In what form.
    /// Replace the files of another export that is there
    #[arg(long)]
    pub overwrite: bool,
    /// With --arch: batches to re-estimate BatchNorm statistics on [default: as the run's search]
    #[arg(long, value_name = "K", requires = "arch")]
    pub calibrate_bn: Option<usize>,
    /// What the files hold.
    #[command(flatten)]
    pub form: ExportForm,
}

/// What exported files hold.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ExportForm {
    /// What filters and matrices are stored in; what rounding costs is measured
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    /// In the ONNX file, make each BatchNorm that follows a convolution a part of it
    #[arg(long)]
    pub fold_batchnorm: bool,
}

/// Arguments of `predict`.
#[derive(Clone, Debug, Args)]
pub struct PredictArgs {
    /// Exported network: its folder, or model.safetensors
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// PNG and JPEG files, and folders of them; of other sizes the middle is resized
    #[arg(value_name = "IMAGES", required = true)]
    pub images: Vec<PathBuf>,
    /// Most probable classes to name
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = bench::at_least_one)]
    pub top: usize,
}

/// Arguments of `eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    /// Directory of the run; not needed for an exported network
    #[arg(long, value_name = "DIR", env = "SMASH_OUT")]
    pub out: Option<PathBuf>,
    /// Id of a trained network, as `arch/ID.json`, name of a built-in one, or an exported network: its folder or
    /// model.safetensors [default: the winner]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// With an exported network: the images [default: those it was trained on]
    #[arg(long, value_name = "DATA", requires = "network")]
    pub data: Option<String>,
    /// Also write the logits as a NumPy array of f32, a row for each image, of volumes one for each rotation
    #[arg(long, value_name = "FILE.npy", conflicts_with = "arch")]
    pub logits: Option<PathBuf>,
    /// Score this architecture (a file, JSON or TOML) with the SMASH network's generated weights instead
    #[arg(long, value_name = "FILE", conflicts_with = "network")]
    pub arch: Option<PathBuf>,
    /// With --arch: batches to re-estimate BatchNorm statistics on [default: as the run's search]
    #[arg(long, value_name = "K", requires = "arch")]
    pub calibrate_bn: Option<usize>,
    /// Images to evaluate on
    #[arg(long, value_enum, default_value = "test")]
    pub split: Split,
}

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// The validation part of the training set
    Val,
    /// The test set
    Test,
}

impl Split {
    /// Name in results: `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Arguments of `show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Architecture file (JSON or TOML), or the name of a built-in network, such as wrn-16-2
    #[arg(value_name = "FILE|NAME")]
    pub arch: PathBuf,
    /// Channels of an image
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub image_channels: usize,
    /// Height and width of the network's input in pixels
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub image_size: usize,
    /// Images are volumes: the architecture's 3-D twin
    #[arg(long)]
    pub volume: bool,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub classes: usize,
    /// Stride of the stem, 1 or 2
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub stem_stride: usize,
    /// Filter size of the stem
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub stem_kernel: usize,
    /// Draw it as an SVG picture, into the file OUT or on stdout
    #[arg(long, value_name = "OUT", num_args = 0..=1, conflicts_with_all = ["dot", "json"])]
    pub svg: Option<Option<PathBuf>>,
    /// Write it as a graph for Graphviz, into the file OUT or on stdout
    #[arg(long, value_name = "OUT", num_args = 0..=1, conflicts_with = "json")]
    pub dot: Option<Option<PathBuf>>,
}

/// Arguments of `data`.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// What was asked for.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// The `data` commands.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Data sets that are known by name: what they hold, and what to download
    List,
    /// Compare the files of a data set with the official sizes and digests
    Verify {
        /// Folder of the data set, or an archive as downloaded
        path: PathBuf,
    },
    /// Images, classes, mean and standard deviation
    Stats {
        /// `embedded`, a folder, an archive as downloaded, or an .npz file
        #[arg(default_value = "embedded")]
        data: String,
        /// Height and width in pixels that pictures are brought to, cut to their middle square [default: as they are]
        #[arg(long, value_name = "N")]
        image_size: Option<usize>,
    },
    /// Turn meshes into voxels ahead of a run
    Convert(ConvertArgs),
    /// Download the official files of a data set and compare them with their digests
    Fetch(FetchArgs),
}

/// Arguments of `data convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// Folder with CLASS/train/*.off and CLASS/test/*.off, ModelNet10.zip, or a folder with modelnet*.npz
    pub path: PathBuf,
    /// File to make [default: NAME.voxels beside the folder or archive NAME, where runs look for it]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `data fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// mnist, fashion-mnist, cifar-10, cifar-100, stl-10, imagenet32, modelnet10 or modelnet40
    pub name: String,
    /// Folder for the files [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Address of a folder with the same files, in place of the official one
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
}

/// Arguments of `selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelftestArgs {
    /// Run the checks of this op only, or `training`; with TEXT, those with it in their names
    #[arg(long, value_name = "OP[:TEXT]")]
    pub only: Option<String>,
    /// File for all results, to attach to a bug report
    #[arg(long, value_name = "FILE", default_value = "selftest.txt")]
    pub out: PathBuf,
}

/// How training images are varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AugmentName {
    /// Not at all
    None,
    /// Random crops after padding by an eighth of the size
    Crop,
    /// Random crops, and random mirroring left to right
    CropFlip,
    /// Of voxels: random rotations, mirroring and shifts
    Volume,
}

/// A ready-made search space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// The paper's first space: 3x3, dilation, banks of one unit
    V1,
    /// The paper's second space: variable banks, kernels to 7, groups, four-convolution bodies
    V2,
    /// The rules of v2 at a size that a laptop searches in minutes
    Small,
    /// The rules of v1 at such a size
    SmallV1,
}

impl Preset {
    /// Name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Small => "small",
            Self::SmallV1 => "small-v1",
        }
    }
}
