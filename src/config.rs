//! Resolved settings of a run, and their TOML form.
//!
//! Defaults of the preset, then the configuration file, then `SMASH_*` variables and flags (clap
//! merges the last two). The result is written to the run directory as `config.toml`; a resumed
//! run must agree with it. Nothing here changes with the machine: threads and devices do not
//! belong to the settings, because results do not depend on threads.

use crate::cli::{AugmentName, Preset, RunArgs};
use crate::data::SplitKind;
use crate::error::{Error, Result};
use crate::nas::hypernet::HyperConfig;
use crate::nas::resulting::NormKind;
use crate::nas::space::Space;
use crate::nas::strategy::{SearchConfig, Strategy};
use crate::nn::optim::Optimizer;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

mod input;

pub use input::Input;

/// Bound on counts: far above any use, far below overflow.
const MOST: u64 = 1_000_000_000;

/// Most pixels along a side of the network's input.
const LARGEST: usize = 1024;

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the preset the defaults came from.
    pub preset: String,
    /// Master seed.
    pub seed: u64,
    /// Seconds between checkpoints; does not affect results.
    pub checkpoint_seconds: u64,
    /// Filter size of the stem: 7, or 3 as in the paper's smaller networks [default: 3 for volumes, else 7].
    pub stem_kernel: Option<usize>,
    /// Pixels from one output of the stem to the next: 1, or 2 to halve large pictures [default: 2 from 64
    /// pixels on].
    pub stem_stride: Option<usize>,
    /// Images.
    pub data: DataConfig,
    /// Training of the SMASH network.
    pub smash: SmashConfig,
    /// Search.
    pub search: SearchConfig,
    /// Training from scratch.
    pub retrain: RetrainConfig,
    /// The HyperNet.
    pub hyper: HyperConfig,
    /// The search space.
    pub space: Space,
    /// The experiment this is the directory of, with its options; empty for a run.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub experiment: toml::Table,
}

/// Which images, and how they are presented. What is not set follows from the data set, and is written
/// down once that is known ([`RunConfig::settle`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `embedded`, a folder, an archive or an .npz file.
    pub source: String,
    /// Train on this part only, of a set whose protocol has parts (STL-10: 0 to 9).
    pub fold: Option<usize>,
    /// Height and width in pixels that pictures are brought to [default: none; they stay as they are].
    pub image_size: Option<usize>,
    /// Height and width of the network's input in pixels, divisible by 4, with a stem of stride 2 by 8; smaller
    /// images are padded [default: those of the images, rounded up to a multiple of 8].
    pub size: Option<usize>,
    /// How training images are varied.
    pub augment: Option<AugmentName>,
    /// Part of the training images set aside for validation; 0, for `retrain` only, trains on all of them.
    pub validation: f64,
    /// How that part is chosen.
    pub split: SplitName,
    /// Seed of that choice, where it is not the run's: networks of an experiment differ in their seed, not in their images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
    /// Images per batch of an evaluation.
    pub eval_batch: usize,
}

/// How the validation images are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitName {
    /// Drawn per class with the seed.
    Stratified,
    /// The end of the training order, as in the paper's published code.
    LastTenth,
}

impl From<SplitName> for SplitKind {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Stratified => Self::Stratified,
            SplitName::LastTenth => Self::LastTenth,
        }
    }
}

/// Training of the SMASH network (Brock et al. 2018, appendix C).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmashConfig {
    /// Passes over the training images.
    pub epochs: u64,
    /// End after this many steps; 0 for no limit.
    pub max_steps: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start of the cosine.
    pub lr: f32,
    /// Value of empty elements of the encoding: 0 (the paper) or -1 (its published code).
    pub empty: f32,
    /// One more channel of the encoding that holds noise, as in the published code.
    pub noise: bool,
    /// Optimiser.
    pub optimizer: Optimizer,
}

/// Training from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainConfig {
    /// Passes over the training images.
    pub epochs: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start of the cosine.
    pub lr: f32,
    /// Normalisation of the ops.
    pub norm: NormKind,
    /// Random architectures of the winner's cost to train beside it.
    pub rivals: usize,
    /// Start from the weights that the SMASH network generates and shares, not at random.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init_from_smash: bool,
    /// Optimiser.
    pub optimizer: Optimizer,
}

impl RunConfig {
    /// The settings of the paper for `v1` and `v2`; for the small ones, what finishes in minutes.
    pub fn preset(preset: Preset) -> Self {
        let paper = SearchConfig::default();
        let few = SearchConfig { random: 400, perturb: 100, markov: 100, ..paper };
        let (space, epochs, search, retrain_epochs, retrain_batch) = match preset {
            Preset::V1 => (Space::v1(), 300, paper, 30, 50),
            Preset::V2 => (Space::v2(), 100, paper, 300, 50),
            Preset::Small => (Space::small(), 5, few, 3, 50),
            Preset::SmallV1 => (Space::small_v1(), 5, few, 3, 50),
        };
        Self {
            preset: preset.name().into(),
            seed: 1,
            checkpoint_seconds: 30,
            stem_kernel: None,
            stem_stride: None,
            data: DataConfig {
                source: "embedded".into(),
                fold: None,
                image_size: None,
                size: None,
                augment: None,
                validation: 0.1,
                split: SplitName::Stratified,
                split_seed: None,
                eval_batch: 100,
            },
            smash: SmashConfig {
                epochs,
                max_steps: 0,
                batch: 50,
                lr: 1e-3,
                empty: 0.0,
                noise: false,
                optimizer: Optimizer::SMASH,
            },
            search,
            retrain: RetrainConfig {
                epochs: retrain_epochs,
                batch: retrain_batch,
                lr: 0.1,
                norm: NormKind::Sandwich,
                rivals: 3,
                init_from_smash: false,
                optimizer: Optimizer::RESULTING,
            },
            hyper: HyperConfig::paper(),
            space,
            experiment: toml::Table::new(),
        }
    }

    /// Merges defaults, configuration file and flags, and checks the result.
    ///
    /// # Errors
    /// [`Error::Config`] names the flag or key; [`Error::Io`] and [`Error::Data`] the file.
    pub fn resolve(args: &RunArgs) -> Result<Self> {
        let file = args.config.as_deref().map(read_toml).transpose()?;
        let mut config = match file {
            None => Self::preset(args.preset.unwrap_or(Preset::Small)),
            Some(file) => Self::from_file(file, &args.config.clone().unwrap_or_default(), args.preset)?,
        };
        config.apply(args);
        config.validate()?;
        Ok(config)
    }

    /// Reads a complete `config.toml` of a run directory.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Data`] with the path.
    pub fn load(path: &Path) -> Result<Self> {
        let config: Self = read_toml(path)?.try_into().map_err(|e| toml_error(path, &e))?;
        config.validate()?;
        Ok(config)
    }

    /// Those of a user's file, the rest being the preset's: `preset`, or else the one the file names.
    fn from_file(file: toml::Table, path: &Path, preset: Option<Preset>) -> Result<Self> {
        let name = file.get("preset").and_then(|v| v.as_str()).unwrap_or("small");
        let preset = match preset {
            Some(preset) => preset,
            None => <Preset as clap::ValueEnum>::from_str(name, false)
                .map_err(|_| Error::config("preset", format!("{name:?} is not v1, v2, small or small-v1")))?,
        };
        Self::preset(preset).overlay(file, path)
    }

    /// Are `bytes` settings?
    pub(crate) fn check(bytes: &[u8]) -> Result<()> {
        let path = Path::new("config.toml");
        Self::from_file(parse_toml(path, bytes.to_vec())?, path, None)?.validate()
    }

    /// These settings with the flags of `args` applied, or those of `--config` where it is given;
    /// the caller compares. Another `--preset` is refused.
    ///
    /// # Errors
    /// [`Error::Config`] names the flag; those of the file.
    pub fn with_flags(&self, args: &RunArgs) -> Result<Self> {
        if args.preset.is_some_and(|preset| preset.name() != self.preset) {
            return Err(Error::config("--preset", "the run directory has its settings; leave it out"));
        }
        if args.config.is_some() {
            return Self::resolve(args);
        }
        let mut config = self.clone();
        config.apply(args);
        config.validate()?;
        Ok(config)
    }

    fn overlay(&self, file: toml::Table, path: &Path) -> Result<Self> {
        let mut table = self.table();
        merge(&mut table, file);
        table.try_into().map_err(|e| toml_error(path, &e))
    }

    fn apply(&mut self, args: &RunArgs) {
        fn set<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        fn replace<T>(target: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *target = value;
            }
        }
        set(&mut self.seed, &args.seed);
        set(&mut self.checkpoint_seconds, &args.checkpoint_seconds);
        set(&mut self.data.source, &args.data);
        set(&mut self.data.validation, &args.validation);
        replace(&mut self.data.fold, args.fold);
        replace(&mut self.data.image_size, args.image_size);
        replace(&mut self.data.augment, args.augment);
        replace(&mut self.stem_stride, args.stem_stride);
        set(&mut self.smash.epochs, &args.epochs);
        set(&mut self.smash.max_steps, &args.max_steps);
        set(&mut self.smash.batch, &args.batch);
        set(&mut self.smash.lr, &args.lr);
        set(&mut self.search.random, &args.random);
        set(&mut self.search.perturb, &args.perturb);
        set(&mut self.search.markov, &args.markov);
        set(&mut self.search.calibrate_bn, &args.calibrate_bn);
        set(&mut self.search.strategy, &args.strategy);
        set(&mut self.retrain.epochs, &args.retrain.retrain_epochs);
        set(&mut self.retrain.batch, &args.retrain.retrain_batch);
        set(&mut self.retrain.lr, &args.retrain.retrain_lr);
        set(&mut self.retrain.norm, &args.retrain.norm);
        set(&mut self.retrain.init_from_smash, &args.retrain.init_from_smash);
        set(&mut self.retrain.rivals, &args.rivals);
        if !args.experiment.is_empty() {
            self.experiment.clone_from(&args.experiment);
        }
    }

    /// Checks that every setting is usable.
    ///
    /// # Errors
    /// [`Error::Config`] names the flag or key.
    pub fn validate(&self) -> Result<()> {
        self.space.validate()?;
        let positive = [
            ("epochs", self.smash.epochs),
            ("batch", self.smash.batch as u64),
            ("retrain-epochs", self.retrain.epochs),
            ("retrain-batch", self.retrain.batch as u64),
            ("eval_batch", self.data.eval_batch as u64),
            ("random", self.search.random as u64),
        ];
        if let Some((name, value)) = positive.iter().find(|(_, value)| !(1..=MOST).contains(value)) {
            return Err(Error::config(*name, format!("{value} is not between 1 and {MOST}")));
        }
        let counts = [
            ("perturb", self.search.perturb as u64),
            ("markov", self.search.markov as u64),
            ("calibrate-bn", self.search.calibrate_bn as u64),
            ("rivals", self.retrain.rivals as u64),
            ("max-steps", self.smash.max_steps),
            ("checkpoint-seconds", self.checkpoint_seconds),
        ];
        if let Some((name, value)) = counts.iter().find(|(_, value)| *value > MOST) {
            return Err(Error::config(*name, format!("{value} is more than {MOST}")));
        }
        if let Some(kernel) = self.stem_kernel.filter(|kernel| !matches!(kernel, 1 | 3 | 5 | 7 | 9 | 11)) {
            return Err(Error::config("stem_kernel", format!("{kernel} is not an odd number up to 11")));
        }
        if let Some(stride) = self.stem_stride.filter(|stride| !matches!(stride, 1 | 2)) {
            return Err(Error::config("stem_stride", format!("{stride} is neither 1 nor 2")));
        }
        if self.seed > i64::MAX as u64 {
            return Err(Error::config("seed", format!("{} is more than {}", self.seed, i64::MAX)));
        }
        self.hyper.validate()?;
        if !(0.0..=1.0).contains(&self.search.probability) {
            return Err(Error::config("search.probability", format!("{} is outside 0 to 1", self.search.probability)));
        }
        if self.search.calibrate_bn > 0 && self.search.strategy == Strategy::Gradient {
            let message = "is not for --strategy gradient, whose gradient has the statistics of the training";
            return Err(Error::config("calibrate-bn", message));
        }
        if !self.smash.empty.is_finite() {
            return Err(Error::config("smash.empty", "is not a number"));
        }
        self.smash.optimizer.validate("smash.optimizer")?;
        self.retrain.optimizer.validate("retrain.optimizer")?;
        for (name, lr) in [("lr", self.smash.lr), ("retrain-lr", self.retrain.lr)] {
            if !(lr.is_finite() && lr > 0.0) {
                return Err(Error::config(name, format!("{lr} is not a positive number")));
            }
        }
        if let Some(size) = self.data.size.filter(|size| !size.is_multiple_of(4) || !(4..=LARGEST).contains(size)) {
            return Err(Error::config("data.size", format!("{size} is not a multiple of 4 up to {LARGEST}")));
        }
        Ok(())
    }

    /// The directory of the run when none is named: the same settings find it again.
    pub fn default_out(&self) -> PathBuf {
        let data = Path::new(&self.data.source).file_name().map_or("data".into(), |n| n.to_string_lossy());
        let fold = self.data.fold.map_or(String::new(), |fold| format!("-fold{fold}"));
        let experiment = self.experiment.get("name").and_then(|name| name.as_str());
        let experiment = experiment.map_or(String::new(), |name| format!("-{name}"));
        PathBuf::from("runs").join(format!("{data}{fold}-{}-s{}{experiment}", self.preset, self.seed))
    }

    /// The TOML text of a `config.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.table()).expect("plain data serialises")
    }

    fn table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("plain data serialises")
    }

    /// Settings in which `self` and `other` differ, as `key: mine, theirs`; those that cannot
    /// affect results are left out.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        Self::compare_tables(&self.table(), &other.table())
    }

    /// The same of what is set here, before the rest has followed from a data set.
    pub fn differences_where_set(&self, other: &Self) -> Vec<String> {
        let mut table = other.table();
        merge(&mut table, self.table());
        Self::compare_tables(&table, &other.table())
    }

    fn compare_tables(a: &toml::Table, b: &toml::Table) -> Vec<String> {
        let mut lines = Vec::new();
        compare("", a, b, &mut lines);
        lines.retain(|line| !line.starts_with("checkpoint_seconds:"));
        lines
    }
}

fn read_toml(path: &Path) -> Result<toml::Table> {
    parse_toml(path, std::fs::read(path).map_err(Error::io("read", path))?)
}

fn parse_toml(path: &Path, bytes: Vec<u8>) -> Result<toml::Table> {
    let text = String::from_utf8(bytes).map_err(|_| Error::data(path, "is not text; settings are TOML"))?;
    text.parse().map_err(|e| toml_error(path, &e))
}

fn toml_error(path: &Path, error: &toml::de::Error) -> Error {
    Error::data(path, error.to_string().trim().replace(char::is_control, " "))
}

/// Overwrites `base` by `over`, table by table.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            // A table of another kind has other keys: it replaces the preset's whole.
            (Some(toml::Value::Table(base)), toml::Value::Table(over))
                if over.get("kind").is_none_or(|kind| base.get("kind") == Some(kind)) =>
            {
                merge(base, over);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn compare(prefix: &str, a: &toml::Table, b: &toml::Table, lines: &mut Vec<String>) {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let name = format!("{prefix}{key}");
        let text = |value: Option<&toml::Value>| value.map_or("unset".into(), ToString::to_string);
        match (a.get(key), b.get(key)) {
            (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => compare(&format!("{name}."), a, b, lines),
            (a, b) if a != b => lines.push(format!("{name}: {} now, {} before", text(a), text(b))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
