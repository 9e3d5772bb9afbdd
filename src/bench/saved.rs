//! A run as it is saved: what was measured, where, beside which limits, with all samples.
//!
//! A bare name stands for `NAME.json` in the directory of saved runs, `bench/` or `SMASH_BENCH_DIR`; what has a
//! slash or ends in `.json` is a path. Files are written whole or not at all, and read strictly.

use super::kernels::KernelsRun;
use super::stats::median;
use super::step::StepRun;
use crate::checkpoint::write_atomic;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Version of the form.
const FORMAT: &str = "smash-engine bench 1";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// [`FORMAT`].
    format: String,
    /// Of this program.
    pub version: String,
    /// When it ended, in seconds since 1970.
    pub unix_seconds: u64,
    pub machine: Machine,
    /// As `info --json` has it: device, threads, instruction set or GPU.
    pub device: Value,
    pub ceilings: Ceilings,
    #[serde(flatten)]
    pub content: Content,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "benchmark", rename_all = "lowercase")]
pub enum Content {
    Kernels(KernelsRun),
    Step(Box<StepRun>),
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: Option<String>,
    pub cores: usize,
    pub system: String,
}

/// The limits of the device, measured before, between and after the rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// f32 multiply-adds, each two operations.
    pub fma_gflops: Vec<f64>,
    /// A large copy, bytes read plus bytes written; none where it would count as memory of the run.
    pub copy_gbytes: Vec<f64>,
}

impl Ceilings {
    /// The highest that was seen: what the machine can do when left alone.
    pub fn fma(&self) -> Option<f64> {
        highest(&self.fma_gflops)
    }

    /// As [`Ceilings::fma`].
    pub fn copy(&self) -> Option<f64> {
        highest(&self.copy_gbytes)
    }

    /// How many times slower than in `before` the machine was by each of its limits, in the middle.
    pub fn drift_since(&self, before: &Self) -> Vec<f64> {
        let pairs = [(&before.fma_gflops, &self.fma_gflops), (&before.copy_gbytes, &self.copy_gbytes)];
        let measured = pairs.into_iter().filter(|(a, b)| !a.is_empty() && !b.is_empty());
        measured.map(|(a, b)| median(a) / median(b)).collect()
    }
}

fn highest(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().max_by(f64::total_cmp)
}

impl Machine {
    fn here() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'));
        Self {
            processor: name.map(|name| name.trim().to_string()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl Saved {
    /// What was measured here and now.
    pub fn new(device: Value, ceilings: Ceilings, content: Content) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            unix_seconds: since.map_or(0, |since| since.as_secs()),
            machine: Machine::here(),
            device,
            ceilings,
            content,
        }
    }

    /// The samples of each row, in milliseconds, by a name that tells rows apart.
    pub fn samples(&self) -> Vec<(String, &[f64])> {
        match &self.content {
            Content::Kernels(run) => run.samples(),
            Content::Step(run) => run.samples(),
        }
    }

    /// `kernels` or `step`.
    pub fn benchmark(&self) -> &'static str {
        match self.content {
            Content::Kernels(_) => "kernels",
            Content::Step(_) => "step",
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// [`Error::Run`] when it cannot be written as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::Run(format!("the results cannot be written as JSON: {e}")))
    }

    /// Saves it; returns where.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        let path = place(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        write_atomic(&path, format!("{:#}\n", self.json()?).as_bytes())?;
        Ok(path)
    }

    /// Loads a saved run.
    ///
    /// # Errors
    /// [`Error::Data`] when there is none of that name, or it is none.
    pub fn load(name: &str) -> Result<Self> {
        let path = place(name);
        let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::data(&path, missing(name, &path)),
            _ => Error::io("read", &path)(e),
        })?;
        let refused = |message: String| Error::data(&path, format!("is no saved benchmark: {message}"));
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| refused(e.to_string()))?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            Some(other) => return Err(refused(format!("its format is {other:?}, this program reads {FORMAT:?}"))),
            None => return Err(refused("it has no \"format\"".into())),
        }
        let saved: Self = serde_json::from_value(value).map_err(|e| refused(e.to_string()))?;
        let rows = saved.samples();
        if rows.is_empty() {
            return Err(refused("it has no results".into()));
        }
        // Times of 0 are those of a clock that does not tick, and negative ones nobody measured.
        match rows
            .iter()
            .find(|(_, samples)| samples.is_empty() || samples.iter().any(|ms| !(*ms > 0.0 && ms.is_finite())))
        {
            Some((row, _)) => Err(refused(format!("the samples of {row:?} are no times"))),
            None => Ok(saved),
        }
    }
}

/// The file that a name stands for.
pub fn place(name: &str) -> PathBuf {
    if name.contains(['/', std::path::MAIN_SEPARATOR]) || name.ends_with(".json") {
        return name.into();
    }
    directory().join(format!("{name}.json"))
}

fn directory() -> PathBuf {
    std::env::var_os("SMASH_BENCH_DIR").filter(|dir| !dir.is_empty()).map_or_else(|| "bench".into(), PathBuf::from)
}

/// What to say when there is no such run, with those there are.
fn missing(name: &str, path: &Path) -> String {
    let known = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let known = known.filter_map(|entry| {
        let path = entry.ok()?.path();
        (path.extension()? == "json").then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
    });
    let mut known: Vec<String> = known.collect();
    known.sort();
    match known.is_empty() {
        true => format!("there is no saved run {name:?}; --save {name} makes one"),
        false => format!("there is no saved run {name:?}; beside it there are {}", known.join(", ")),
    }
}
