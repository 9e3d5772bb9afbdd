//! What may be in the directory of a run: settings that have to agree, and files that `--overwrite` deletes.

use crate::config::RunConfig;
use crate::error::{Error, Result};
use std::path::Path;

/// The settings of the run in `dir`.
///
/// # Errors
/// [`Error::Config`] when there is none; those of [`RunConfig::load`].
pub fn settings_of(dir: &Path) -> Result<RunConfig> {
    let path = dir.join("config.toml");
    if !path.is_file() {
        let message = format!("{} holds no run; `smash-engine train --out DIR` makes one", dir.display());
        return Err(Error::config("--out", message));
    }
    RunConfig::load(&path)
}

/// A later stage may have its own settings, but not change those of what was done before.
///
/// # Errors
/// As [`refuse_differences`].
pub fn refuse_other_stages(dir: &Path, differences: Vec<String>) -> Result<()> {
    let settled: Vec<String> = differences
        .into_iter()
        // Another norm would leave the networks trained here before without their settings.
        .filter(|line| {
            line.starts_with("retrain.norm") || !line.starts_with("search.") && !line.starts_with("retrain.")
        })
        .collect();
    refuse_differences(dir, &settled)
}

/// Refuses a checkpoint or run at `path` that differs in some settings.
///
/// # Errors
/// [`Error::Checkpoint`] names them.
pub fn refuse_differences(path: &Path, differences: &[String]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let message =
        format!("was started with other settings ({}); repeat them, or use another --out", differences.join("; "));
    Err(Error::checkpoint(path, message))
}

/// Settings of a run that --overwrite is deleting.
pub const OLD_SETTINGS: &str = "config.toml.old";
/// Files and folders that a run writes besides its settings: what --overwrite deletes, and nothing else.
pub const RUN_FILES: [&str; 17] = [
    "env.json",
    "metrics.jsonl",
    "archs.jsonl",
    "ranking.jsonl",
    "gradient.json",
    "timing.json",
    "ckpt",
    "arch",
    "results.json",
    "report.md",
    "report.html",
    "export",
    "figures",
    "smash",
    "scores",
    "to",
    "trained",
];

/// May a new run be in `dir`, or this one continue there? True when a run is to be deleted first.
///
/// # Errors
/// [`Error::Config`] when something else is there, or a run that shall be neither continued nor deleted;
/// [`Error::Checkpoint`] when it is continued with other settings.
pub fn check_new(dir: &Path, config: &RunConfig, resume: bool, overwrite: bool) -> Result<bool> {
    let path = dir.join("config.toml");
    if path.is_file() {
        if !overwrite && !resume {
            let message =
                format!("{} already holds a run; --resume continues it, --overwrite deletes it", dir.display());
            return Err(Error::config("--out", message));
        }
        if resume {
            refuse_differences(dir, &config.differences(&RunConfig::load(&path)?))?;
        }
        return Ok(overwrite);
    }
    let half_deleted = dir.join(OLD_SETTINGS).is_file();
    if dir.is_dir() && !half_deleted {
        for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
            // A run that was killed before it had settings leaves no more than this.
            if entry.map_err(Error::io("read", dir))?.file_name() != "config.toml.tmp" {
                let message = format!("{} is not empty and holds no run; name a new directory", dir.display());
                return Err(Error::config("--out", message));
            }
        }
    }
    Ok(half_deleted)
}

/// Removes a file or folder that may not exist.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
