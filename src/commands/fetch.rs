//! `data fetch NAME`: downloads the official files of a data set, and says how to use them.
//!
//! What a download may and may not do is in `data/fetch.rs`; here are names, folders and progress.

use super::output::print_result;
use crate::cli::{FetchArgs, GlobalArgs};
use crate::data::fetch::{Event, Outcome, Patience, RemoteFile, fetch};
use crate::data::official::{Download, SETS, Set};
use crate::error::{Error, Result};
use crate::report::{Align, Progress, Style, grouped, say, table};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Downloads the set that `args` names.
///
/// # Errors
/// [`Error::Config`] for an unknown set or address; [`Error::Data`] when what was found is not the
/// official file; [`Error::Run`] when the network fails; [`Error::Io`].
pub fn run(global: &GlobalArgs, args: &FetchArgs) -> Result<()> {
    let (set, downloads) = find(&args.name)?;
    if let Some(base) = args.from.as_ref().filter(|base| !base.starts_with("http://") && !base.starts_with("https://"))
    {
        let message = format!("{base:?} is no address; name a folder of a server, as https://HOST/FOLDER/");
        return Err(Error::config("--from", message));
    }
    let dir = args.to.clone().unwrap_or_else(|| Path::new("data").join(set.name));
    let style = Style::detect(global.quiet);
    let files: Vec<RemoteFile> = downloads.iter().filter_map(RemoteFile::of).collect();
    if style != Style::Quiet {
        let megabytes = files.iter().map(|file| file.bytes).sum::<u64>().div_ceil(1_000_000);
        say(&format!("{}: {megabytes} MB into {} (terms: {})", set.name, dir.display(), set.licence));
    }
    let mut outcomes = Vec::new();
    for (file, download) in files.iter().zip(downloads) {
        let url = args.from.as_ref().map_or(download.url.into(), |base| address(base, file.name));
        let mut watch = Watch::new(style, file.name, file.bytes);
        outcomes.push(fetch(file, &url, &dir, Patience::default(), &mut |event| watch.on(event))?);
        watch.end();
    }
    report(global, set.name, &dir, &files, &outcomes)
}

/// The set called `name`, and what to download of it: the form of it that is to be preferred.
fn find(name: &str) -> Result<(&'static Set, &'static [Download])> {
    let all = || SETS.into_iter().filter_map(|set| Some((set, set.releases.first()?.downloads)));
    let mut fetchable = all().filter(|(_, downloads)| !downloads.is_empty());
    fetchable.clone().find(|(set, _)| set.name == name).ok_or_else(|| {
        let names: Vec<&str> = fetchable.by_ref().map(|(set, _)| set.name).collect();
        Error::config("NAME", format!("there is no data set {name:?} to fetch; choose from {}", names.join(", ")))
    })
}

/// The address of the file `name` at `base`, which is a folder or the address itself.
fn address(base: &str, name: &str) -> String {
    match base.trim_end_matches('/') {
        base if base.ends_with(&format!("/{name}")) => base.into(),
        base => format!("{base}/{name}"),
    }
}

/// What to name after `--data`: the archive, or the folder of several files.
fn usable(files: &[RemoteFile], dir: &Path) -> PathBuf {
    match files {
        [archive] => dir.join(archive.name),
        _ => dir.to_path_buf(),
    }
}

fn report(global: &GlobalArgs, name: &str, dir: &Path, files: &[RemoteFile], outcomes: &[Outcome]) -> Result<()> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Present => "was there",
        Outcome::Fetched => "fetched",
    };
    let data = usable(files, dir).display().to_string();
    let (mut rows, mut records) = (Vec::new(), Vec::new());
    for (file, outcome) in files.iter().zip(outcomes) {
        let path = dir.join(file.name).display().to_string();
        records.push(json!({ "file": path, "bytes": file.bytes, "outcome": word(outcome) }));
        rows.push([path, grouped(file.bytes), word(outcome).to_string()]);
    }
    let text = table(&[Align::Left, Align::Right, Align::Left], &rows);
    let text = format!("{text}\nsizes and digests are the official ones; use it with --data {data}\n");
    print_result(global, &json!({ "name": name, "files": records, "data": data }), &text)
}

/// Progress of one file, in kB.
struct Watch<'a> {
    style: Style,
    name: &'a str,
    bytes: u64,
    progress: Option<Progress>,
    at: u64,
}

impl<'a> Watch<'a> {
    fn new(style: Style, name: &'a str, bytes: u64) -> Self {
        Self { style, name, bytes, progress: None, at: 0 }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::At(at) => self.at(at),
            Event::Replacing(why) => {
                self.tell(&format!("{} is not the official file ({why}); fetching it", self.name));
            }
            Event::Waiting(why, wait) => {
                self.end();
                self.tell(&format!("{}: {why}; trying again in {} s", self.name, wait.as_secs_f32()));
            }
        }
    }

    fn tell(&self, text: &str) {
        if self.style != Style::Quiet {
            say(text);
        }
    }

    fn at(&mut self, at: u64) {
        // A server that cannot go on where the download stopped begins anew.
        if at < self.at {
            self.end();
        }
        self.at = at;
        let (done, total) = (at.div_ceil(1000), self.bytes.div_ceil(1000));
        let progress =
            self.progress.get_or_insert_with(|| Progress::new(self.style, format!("{}, kB", self.name), done, total));
        progress.update(done, &format!("{} %", 100 * done / total.max(1)));
    }

    fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_folder_or_the_file_itself() {
        for base in ["http://a/b", "http://a/b/", "http://a/b/c.zip"] {
            assert_eq!(address(base, "c.zip"), "http://a/b/c.zip");
        }
        assert_eq!(address("http://a/xc.zip", "c.zip"), "http://a/xc.zip/c.zip");
    }

    #[test]
    fn an_archive_is_used_as_it_is_and_several_files_by_their_folder() {
        let usable = |name| {
            let files: Vec<RemoteFile> = find(name).unwrap().1.iter().filter_map(RemoteFile::of).collect();
            usable(&files, Path::new("d"))
        };
        assert_eq!(usable("cifar-10"), Path::new("d/cifar-10-binary.tar.gz"));
        assert_eq!(usable("mnist"), Path::new("d"));
    }
}
