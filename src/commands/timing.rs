//! Seconds spent in each stage over all starts of a run: `timing.json`.

use crate::commands::job::Job;
use crate::error::Result;
use crate::report::write_json;
use std::collections::BTreeMap;
use std::time::Instant;

/// Stage name -> seconds.
#[derive(Clone, Debug, Default)]
pub struct Timing(BTreeMap<String, f64>);

impl Timing {
    /// What the run directory remembers. An unreadable file counts as empty: times are no results.
    pub fn load(job: &Job) -> Self {
        let text = std::fs::read_to_string(job.path("timing.json")).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Seconds of a stage.
    pub fn seconds(&self, stage: &str) -> f64 {
        self.0.get(stage).copied().unwrap_or(0.0)
    }

    /// Runs `work` and adds its time to `stage`, also when it was interrupted.
    ///
    /// # Errors
    /// Those of `work`, then those of writing the file.
    pub fn measure<T>(job: &Job, stage: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let outcome = work();
        let mut timing = Self::load(job);
        *timing.0.entry(stage.to_string()).or_default() += started.elapsed().as_secs_f64();
        let written = write_json(&job.path("timing.json"), &timing.0);
        let value = outcome?;
        written.map(|()| value)
    }
}
