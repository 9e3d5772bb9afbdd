//! `data list`, `data verify PATH` and `data stats DATA`: what a data set is before anything is trained on it.

use super::convert;
use super::output::{print, print_json};
use crate::cli::{DataArgs, DataCommand, GlobalArgs};
use crate::data::official::{Download, File, Release, SETS, Set};
use crate::data::{self, ChannelStats, DataSpec, Dataset, FileReport, Images, Options, Verdict};
use crate::error::{Error, Result};
use crate::report::{Align, grouped, say, table};
use serde_json::{Value, json};
use std::path::Path;

/// Runs the `data` command that was typed.
///
/// # Errors
/// [`Error::Data`] when there is no such data set, and from `verify` when a file is missing or
/// not the official one.
pub fn run(global: &GlobalArgs, args: &DataArgs) -> Result<()> {
    match &args.command {
        DataCommand::List => list(global),
        DataCommand::Verify { path } => verify(global, path),
        DataCommand::Stats { data, image_size } => stats(global, &DataSpec::parse(data), *image_size),
        DataCommand::Convert(args) => convert::run(global, args),
        DataCommand::Fetch(args) => super::fetch::run(global, args),
    }
}

fn list(global: &GlobalArgs) -> Result<()> {
    if global.json {
        let sets: Vec<Value> = SETS.iter().map(|set| set_json(set)).collect();
        return print_json(&json!({ "sets": sets }));
    }
    let mut rows = vec![["set", "train", "test", "image", "classes", "licence"].map(str::to_string)];
    let mut downloads = vec![["set", "form", "bytes", "download"].map(str::to_string)];
    for set in SETS {
        let [train, test] = set.images.map(|count| grouped(count.into()));
        rows.push([set.name.into(), train, test, set.extent.into(), set.classes.to_string(), set.licence.into()]);
        for release in set.releases {
            for Download { file, url } in release.downloads {
                let bytes = file.bytes.map_or("-".into(), grouped);
                downloads.push([set.name.into(), release.form.into(), bytes, (*url).into()]);
            }
        }
    }
    let (left, right) = (Align::Left, Align::Right);
    let sets = table(&[left, right, right, left, right, left], &rows);
    let downloads = table(&[left, left, right, left], &downloads);
    print(&format!("{sets}\n{downloads}\nUse one with --data FOLDER or, as downloaded, --data ARCHIVE\n"))
}

fn set_json(set: &Set) -> Value {
    let file = |file: &File| {
        let (kind, digest) = file.digest.unzip();
        json!({ "name": file.name, "bytes": file.bytes, "digest": { "kind": kind, "value": digest } })
    };
    let download = |download: &Download| json!({ "file": file(&download.file), "url": download.url });
    let release = |release: &Release| {
        json!({
            "form": release.form,
            "downloads": release.downloads.iter().map(download).collect::<Vec<_>>(),
            "files": release.files.iter().map(file).collect::<Vec<_>>(),
        })
    };
    json!({
        "name": set.name,
        "train": { "images": set.images[0] },
        "test": { "images": set.images[1] },
        "extent": set.extent,
        "classes": set.classes,
        "licence": set.licence,
        "releases": set.releases.iter().map(release).collect::<Vec<_>>(),
    })
}

fn verify(global: &GlobalArgs, path: &Path) -> Result<()> {
    let reports = data::verify(path)?;
    if global.json {
        let files: Vec<Value> = reports.iter().map(report_json).collect();
        print_json(&json!({ "path": path.display().to_string(), "files": files }))?;
    } else {
        print(&report_table(&reports))?;
    }
    match reports.iter().find(|report| is_bad(report)) {
        Some(bad) => Err(Error::data(&bad.file, format!("{}: {}", verdict_text(bad.verdict), bad.remedy))),
        None => Ok(()),
    }
}

/// Missing, wrong, or (in a set without published digests) not even readable to its end.
fn is_bad(report: &FileReport) -> bool {
    match report.verdict {
        Verdict::Ok => false,
        Verdict::Unknown => report.actual_digest.is_none(),
        Verdict::Missing | Verdict::WrongSize | Verdict::WrongDigest => true,
    }
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Missing => "missing",
        Verdict::WrongSize => "wrong size",
        Verdict::WrongDigest => "wrong digest",
        Verdict::Unknown => "unknown",
    }
}

fn report_table(reports: &[FileReport]) -> String {
    let bytes = |count: Option<u64>| count.map_or("-".into(), grouped);
    let header = ["file", "bytes", "official", "verdict", "remedy"].map(str::to_string);
    let row = |report: &FileReport| {
        [
            report.file.display().to_string(),
            bytes(report.actual_bytes),
            bytes(report.expected_bytes),
            verdict_text(report.verdict).into(),
            report.remedy.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(reports.iter().map(row)).collect();
    table(&[Align::Left, Align::Right, Align::Right, Align::Left, Align::Left], &rows)
}

fn report_json(report: &FileReport) -> Value {
    json!({
        "file": report.file.display().to_string(),
        "verdict": verdict_text(report.verdict),
        "remedy": report.remedy,
        "bytes": { "expected": report.expected_bytes, "actual": report.actual_bytes },
        "digest": {
            "kind": report.digest_kind,
            "expected": report.expected_digest,
            "actual": report.actual_digest,
        },
    })
}

fn stats(global: &GlobalArgs, spec: &DataSpec, image_size: Option<usize>) -> Result<()> {
    let set = data::open_with(spec, Options { image_size, progress: convert::on_stderr(global) })?;
    if let Some(difference) = data::unlike_published(&set).filter(|_| !global.quiet) {
        say(&difference);
    }
    let summary = Summary::new(&set);
    if global.json { print_json(&summary.json(&set)) } else { print(&summary.text(&set)) }
}

/// What there is to say about a set. Channel statistics are those of the training images: they
/// normalise all others too.
struct Summary {
    train: Vec<u32>,
    test: Vec<u32>,
    channels: ChannelStats,
}

impl Summary {
    fn new(set: &Dataset) -> Self {
        let counts = |images: &Images| data::class_counts(images.labels(), set.class_names.len());
        Self {
            train: counts(&set.train),
            test: counts(&set.test),
            channels: data::channel_stats(&set.train, set.shape),
        }
    }

    fn text(&self, set: &Dataset) -> String {
        let shape = set.shape;
        let mut text = format!("{}: {} classes\n\n", set.name, set.class_names.len());
        let pixels = format!("{} x {}", shape.height, shape.width);
        let (axes, extent) = match shape.is_volume() {
            true => ("C x D x H x W, views", format!("{} x {} x {pixels}, {}", shape.channels, shape.depth, set.views)),
            false => ("C x H x W", format!("{} x {pixels}", shape.channels)),
        };
        let images = |name: &str, images: &Images| [name.to_string(), grouped(images.len() as u64), extent.clone()];
        let header = ["split", "images", axes].map(str::to_string);
        let splits = [header, images("train", &set.train), images("test", &set.test)];
        text += &table(&[Align::Left, Align::Right, Align::Left], &splits);

        let what = if shape.is_volume() { "voxels, 0 or 1" } else { "pixels, scaled to 0..1" };
        text += &format!("\nof the training {what}:\n");
        let mut rows = vec![["channel", "mean", "std"].map(str::to_string)];
        for (c, (mean, std)) in self.channels.mean.iter().zip(&self.channels.std).enumerate() {
            rows.push([c.to_string(), format!("{mean:.4}"), format!("{std:.4}")]);
        }
        text += &table(&[Align::Right; 3], &rows);

        text.push('\n');
        let mut rows = vec![["class", "name", "train", "test"].map(str::to_string)];
        for (class, name) in set.class_names.iter().enumerate() {
            let count = |counts: &[u32]| grouped(counts[class].into());
            rows.push([class.to_string(), name.clone(), count(&self.train), count(&self.test)]);
        }
        text + &table(&[Align::Right, Align::Left, Align::Right, Align::Right], &rows)
    }

    fn json(&self, set: &Dataset) -> Value {
        let shape = set.shape;
        json!({
            "name": set.name,
            "image": { "channels": shape.channels, "depth": shape.depth, "height": shape.height, "width": shape.width },
            "views": set.views,
            "classes": set.class_names,
            "train": { "images": set.train.len(), "class_counts": self.train },
            "test": { "images": set.test.len(), "class_counts": self.test },
            "train_mean": self.channels.mean,
            "train_std": self.channels.std,
        })
    }
}
