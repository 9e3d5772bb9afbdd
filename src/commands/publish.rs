//! A report on disk: `report.md`, the pictures it refers to in `figures/`, and both in one file, `report.html`.

use crate::checkpoint::write_atomic;
use crate::commands::job::remove;
use crate::error::{Error, Result};
use crate::figures::{Figure, page};
use std::path::Path;

/// Writes a report into `dir`, in place of the one that may be there. `markdown` starts with a heading, and shows a figure
/// called NAME as `![caption](figures/NAME.svg)` ([`Figure::markdown`]).
///
/// # Errors
/// [`Error::Io`].
pub fn write_report(dir: &Path, markdown: &str, figures: &[Figure]) -> Result<()> {
    remove_report(dir)?;
    let folder = dir.join("figures");
    if !figures.is_empty() {
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    }
    for figure in figures {
        write_atomic(&folder.join(format!("{}.svg", figure.name)), figure.svg.as_bytes())?;
    }
    write_atomic(&dir.join("report.md"), markdown.as_bytes())?;
    let title = markdown.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
    write_atomic(&dir.join("report.html"), page::html(title, markdown, figures).as_bytes())
}

/// Removes results and report of the run in `dir`, which are no longer true, if they are there.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_outcome(dir: &Path) -> Result<()> {
    remove(&dir.join("results.json"))?;
    remove_report(dir)
}

fn remove_report(dir: &Path) -> Result<()> {
    // First what refers to the rest.
    ["report.html", "report.md", "figures"].iter().try_for_each(|name| remove(&dir.join(name)))
}
