//! A run as it is saved: what was measured, where, beside which limits, with all samples.
//!
//! A bare name stands for `NAME.json` in the directory of saved runs, `bench/` or `SMASH_BENCH_DIR`; what has a
//! slash or ends in `.json` is a path. Files are written whole or not at all, and read strictly.

use super::kernels::KernelsRun;
use super::stats::{median, quantile};
use super::step::StepRun;
use crate::checkpoint::write_atomic;
use crate::error::{Error, Result};
use crate::machine;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Version of the form.
const FORMAT: &str = "smash-engine bench 1";
/// A machine left alone has its limits in the middle of a run at so much of the best at least.
const UNDISTURBED: f64 = 0.9;

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

    /// The best, the middle and the lowest of each, for people.
    pub fn describe(&self) -> String {
        let kinds = [(&self.fma_gflops, "GFLOP/s"), (&self.copy_gbytes, "GB/s")];
        let described = kinds.into_iter().filter(|(samples, _)| !samples.is_empty()).map(|(samples, unit)| {
            let [lowest, middle, best] = [0.0, 0.5, 1.0].map(|fraction| quantile(samples, fraction));
            format!("{best:.1} {unit} (median {middle:.1}, {lowest:.1} to {best:.1})")
        });
        described.collect::<Vec<_>>().join(", ")
    }

    /// What to say about limits that were mostly far from their best: something else used the machine.
    pub fn disturbed(&self) -> Vec<String> {
        let kinds = [(&self.fma_gflops, "multiply-adds"), (&self.copy_gbytes, "copies")];
        let share = |samples: &[f64]| median(samples) / quantile(samples, 1.0);
        let disturbed = kinds.into_iter().filter(|(samples, _)| share(samples) < UNDISTURBED);
        disturbed
            .map(|(samples, what)| {
                format!(
                    "{what} of the machine were at {:.0} % of their best in the middle of the run; something disturbs it",
                    100.0 * share(samples)
                )
            })
            .collect()
    }

    /// How many times slower than in `before` the machine was by each of its limits, in the middle.
    pub fn drift_since(&self, before: &Self) -> Drift {
        let drift = |a: &[f64], b: &[f64]| (!a.is_empty() && !b.is_empty()).then(|| median(a) / median(b));
        Drift {
            compute: drift(&before.fma_gflops, &self.fma_gflops),
            memory: drift(&before.copy_gbytes, &self.copy_gbytes),
        }
    }
}

/// How many times slower the machine was than in an earlier run, where both measured it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Drift {
    /// Its multiply-adds.
    pub compute: Option<f64>,
    /// Its copy.
    pub memory: Option<f64>,
}

impl Drift {
    /// That of the limit that binds a row; 1 where it is not known.
    pub fn of(self, bound: Bound) -> f64 {
        match bound {
            Bound::Compute => self.compute,
            Bound::Memory => self.memory,
            Bound::Launch => None,
        }
        .unwrap_or(1.0)
    }
}

/// What a row cannot be faster than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The multiply-adds of the device.
    Compute,
    /// Its memory.
    Memory,
    /// The program for which a GPU waits.
    Launch,
}

impl Bound {
    /// As saved.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Memory => "memory",
            Self::Launch => "launch",
        }
    }
}

/// A row as a comparison sees it.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    /// Tells it from all others of its run.
    pub name: String,
    /// Milliseconds, round by round.
    pub ms: &'a [f64],
    pub bound: Bound,
    /// Its results were not what they must be.
    pub wrong: bool,
}

fn highest(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().max_by(f64::total_cmp)
}

impl Machine {
    fn here() -> Self {
        Self {
            processor: machine::processor(),
            cores: machine::cores(),
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

    /// The samples of each row.
    pub fn samples(&self) -> Vec<Samples<'_>> {
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

    /// Can a run be saved under this name? Makes the folder, and tries to write beside the file: an hour of measuring
    /// should not end in a refusal.
    ///
    /// # Errors
    /// [`Error::Config`] with the reason.
    pub fn probe(name: &str) -> Result<()> {
        let path = place(name);
        let refused = |message: String| Error::config("--save", message);
        if name.trim().is_empty() {
            return Err(refused("needs a name".into()));
        }
        if path.is_dir() || name.ends_with(['/', std::path::MAIN_SEPARATOR]) {
            return Err(refused(format!("{} is a folder; a run is one file", path.display())));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)
                .map_err(|e| refused(format!("cannot make the folder {}: {e}", folder.display())))?;
        }
        try_to_write(folder.unwrap_or(Path::new(".")))
            .map_err(|e| refused(format!("cannot write {}: {e}", path.display())))
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
        let measured = |values: &[f64]| values.iter().all(|value| *value > 0.0 && value.is_finite());
        if let Some(row) = rows.iter().find(|row| row.ms.is_empty() || !measured(row.ms)) {
            return Err(refused(format!("the samples of {:?} are no times", row.name)));
        }
        if !measured(&saved.ceilings.fma_gflops) || !measured(&saved.ceilings.copy_gbytes) {
            return Err(refused("its ceilings are no speeds".into()));
        }
        let mut names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(refused(format!("there are two rows {:?}", pair[0]))),
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

/// Writes an empty file there, and removes it.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".smash-engine-{}", std::process::id()));
    std::fs::write(&path, [])?;
    std::fs::remove_file(&path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_with_their_range_and_when_they_were_disturbed() {
        let ceilings = Ceilings { fma_gflops: vec![100.0, 91.0, 92.0], copy_gbytes: vec![5.0, 8.0, 10.0] };
        assert_eq!(
            ceilings.describe(),
            "100.0 GFLOP/s (median 92.0, 91.0 to 100.0), 10.0 GB/s (median 8.0, 5.0 to 10.0)"
        );
        let warnings = ceilings.disturbed();
        assert!(warnings.len() == 1 && warnings[0].starts_with("copies of the machine were at 80 %"), "{warnings:?}");
        assert!(Ceilings::default().disturbed().is_empty());
    }
}
