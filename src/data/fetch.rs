//! Downloads the official files of a set: resumable, never past the official size, checked.
//!
//! A file is written as `NAME.part`, locked against a second download, and gets its name only
//! when size and digest are the official ones, so a file under its own name is a good one. What is
//! in the part is hashed before the download goes on behind it. Connections that break are tried
//! again with growing waits, as long as something arrives; a part with a wrong digest is deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::digest::DynDigest;

use crate::data::bytes::open_regular;
use crate::data::http::{Answer, Client, Failure};
use crate::data::official::{DigestKind, Download, hex};
use crate::error::{Error, Result};

/// An official file to be had.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, there and here.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its digest in lower-case hexadecimal.
    pub digest: (DigestKind, &'static str),
}

impl RemoteFile {
    /// What is published about a download, if that is enough to check it.
    pub fn of(download: &Download) -> Option<Self> {
        let file = &download.file;
        Some(Self { name: file.name, bytes: file.bytes?, digest: file.digest? })
    }
}

/// How long to wait for a server, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries that bring less than 1 MiB each before giving up; at least 1.
    pub tries: u32,
    /// Wait before the second try; doubles from then on.
    pub first_wait: Duration,
    /// Time without a byte after which a connection is given up.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 5, first_wait: Duration::from_secs(1), stall: Duration::from_secs(30) }
    }
}

/// Bytes after which a connection counts as a working one, and failures are counted anew.
const PROGRESS: u64 = 1 << 20;

/// What happens during a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file of this name is there, and is not the official one; it is replaced by the download.
    Replacing(&'a str),
    /// So many bytes are there.
    At(u64),
    /// The connection failed for this reason; another try follows after the wait.
    Waiting(&'a str, Duration),
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The official file was there already.
    Present,
    /// It was downloaded.
    Fetched,
}

/// Puts `file`, which lies at `url`, into the folder `dir`, which is made if there is none; `watch` is
/// told how it goes.
///
/// # Errors
/// `Data` when what the server has is not the official file, `Run` when the network or the server
/// fails, `Io` when the operating system refuses to write.
pub fn fetch(
    file: &RemoteFile,
    url: &str,
    dir: &Path,
    patience: Patience,
    watch: &mut dyn FnMut(Event),
) -> Result<Outcome> {
    let target = dir.join(file.name);
    if target.exists() {
        match difference(&target, file)? {
            None => return Ok(Outcome::Present),
            Some(why) => watch(Event::Replacing(&why)),
        }
    }
    std::fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
    let mut part = Part::open(dir.join(format!("{}.part", file.name)), file)?;
    watch(Event::At(part.len));
    let outcome = download(&mut part, url, patience, watch);
    if part.len == 0 {
        remove(&part.path);
    }
    outcome?;
    part.finish(url, &target)?;
    Ok(Outcome::Fetched)
}

/// How the file at `path` differs from the official one, if it does.
fn difference(path: &Path, file: &RemoteFile) -> Result<Option<String>> {
    let mut input = open_regular(path)?;
    let bytes = input.metadata().map_err(Error::io("read the size of", path))?.len();
    if bytes != file.bytes {
        return Ok(Some(format!("it has {bytes} bytes, not {}", file.bytes)));
    }
    let mut hash = Hash::new(file.digest.0);
    hash.read(&mut input, path)?;
    Ok(hash.difference(file.digest))
}

/// Requests until `part` is complete.
fn download(part: &mut Part, url: &str, patience: Patience, watch: &mut dyn FnMut(Event)) -> Result<()> {
    let client = Client::new(patience.stall);
    let (mut most, mut failures, mut resume) = (part.len, 0, true);
    while part.len < part.file.bytes {
        let from = if resume { part.len } else { 0 };
        let why = match client.get(url, from, part.file.bytes) {
            Ok(Answer::Bytes { from, body }) => match part.receive(from, body, url, watch)? {
                None => return Ok(()),
                Some(why) => why,
            },
            Ok(Answer::NoRange) if resume => {
                resume = false;
                continue;
            }
            Ok(Answer::NoRange) => "the server answers with a part that was not asked for".into(),
            Err(Failure::Passing(why)) => why,
            Err(Failure::Lasting(why)) => {
                let remedy = "check the address, name another one with --from, or put the file there by hand";
                return Err(Error::Run(format!("cannot fetch {url}: {why}; {remedy}")));
            }
            Err(Failure::OtherFile(why)) => return Err(Error::data(url, format!("{why}; {ELSEWHERE}"))),
        };
        failures = if part.len >= most.saturating_add(PROGRESS) { 1 } else { failures + 1 };
        most = most.max(part.len);
        if failures >= patience.tries {
            let message = format!(
                "cannot fetch {url}: {why}, after {failures} tries; check the network and start the command again, \
                 which goes on after the {} bytes that are there, or name another address with --from",
                part.len
            );
            return Err(Error::Run(message));
        }
        let wait = patience.first_wait * 2u32.saturating_pow(failures - 1);
        watch(Event::Waiting(&why, wait));
        std::thread::sleep(wait);
    }
    Ok(())
}

const ELSEWHERE: &str = "name an address that has the official file with --from, or put it there by hand";

/// A download under way: what lies on the disk, and its digest so far.
struct Part<'a> {
    path: PathBuf,
    output: File,
    file: &'a RemoteFile,
    len: u64,
    hash: Hash,
}

impl<'a> Part<'a> {
    /// Opens the part at `path`, or begins one; hashes what an earlier download left.
    fn open(path: PathBuf, file: &'a RemoteFile) -> Result<Self> {
        let mut options = OpenOptions::new();
        let output = options.read(true).write(true).create(true).truncate(false).open(&path);
        let output = output.map_err(Error::io("open", &path))?;
        match output.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = "is being written by another download; wait for its end, or fetch to another folder";
                return Err(Error::Run(format!("{} {message}", path.display())));
            }
            // Where a file system has no locks, two downloads at once end in a wrong digest.
            Err(TryLockError::Error(_)) => {}
        }
        let mut part = Self { path, output, file, len: 0, hash: Hash::new(file.digest.0) };
        let found = part.output.metadata().map_err(Error::io("read the size of", &part.path))?.len();
        if found > file.bytes {
            part.restart()?;
        } else {
            part.len = part.hash.read(&mut part.output, &part.path)?;
        }
        Ok(part)
    }

    /// Forgets everything that was received.
    fn restart(&mut self) -> Result<()> {
        let emptied = self.output.set_len(0).and_then(|()| self.output.seek(SeekFrom::Start(0)));
        emptied.map_err(Error::io("empty", &self.path))?;
        (self.len, self.hash) = (0, Hash::new(self.file.digest.0));
        Ok(())
    }

    /// Appends `body`, which begins at byte `from` of the file: all that is there, or none of it.
    /// Gives the reason when the connection ends before the file does.
    fn receive(
        &mut self,
        from: u64,
        mut body: impl Read,
        url: &str,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Option<String>> {
        if from < self.len {
            self.restart()?;
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if self.len == self.file.bytes => return Ok(None),
                Ok(0) => return Ok(Some(format!("the connection ended after {} bytes", self.len))),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) if self.len == self.file.bytes => return Ok(None),
                Err(error) => return Ok(Some(error.to_string())),
            };
            if count as u64 > self.file.bytes - self.len {
                remove(&self.path);
                let message = format!("the server sends more than the {} bytes of the official file", self.file.bytes);
                return Err(Error::data(url, format!("{message}; {ELSEWHERE}")));
            }
            self.output.write_all(&buffer[..count]).map_err(Error::io("write", &self.path))?;
            self.hash.0.update(&buffer[..count]);
            self.len += count as u64;
            watch(Event::At(self.len));
        }
    }

    /// Gives the complete file its name, if it is the official one; deletes it if not.
    fn finish(self, url: &str, target: &Path) -> Result<()> {
        let Self { path, output, file, hash, .. } = self;
        if let Some(why) = hash.difference(file.digest) {
            remove(&path);
            let message = format!("{why}; the download was deleted, start the command again, or {ELSEWHERE}");
            return Err(Error::data(url, message));
        }
        output.sync_all().map_err(Error::io("write", &path))?;
        std::fs::rename(&path, target).map_err(Error::io("rename to its final name", &path))
    }
}

/// Deletes a part that is of no use; the reason for that is the error to report.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// The digest of a file that arrives piece by piece.
struct Hash(Box<dyn DynDigest>);

impl Hash {
    fn new(kind: DigestKind) -> Self {
        Self(kind.hash())
    }

    /// Takes everything in `from`, the file at `path`; gives the number of bytes.
    fn read(&mut self, from: &mut File, path: &Path) -> Result<u64> {
        let (mut buffer, mut len) = (vec![0; 1 << 16], 0);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(len),
                Ok(count) => {
                    self.0.update(&buffer[..count]);
                    len += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", path)(error)),
            }
        }
    }

    /// How it differs from the `official` digest, if it does.
    fn difference(self, (kind, official): (DigestKind, &str)) -> Option<String> {
        let digest = hex(&self.0.finalize());
        (digest != official).then(|| format!("its {kind:?} is {digest}, that of the official file {official}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::official::SETS;

    #[test]
    fn all_that_is_to_download_can_be_checked() {
        for download in SETS.iter().flat_map(|set| set.releases).flat_map(|release| release.downloads) {
            assert!(RemoteFile::of(download).is_some(), "{}", download.url);
        }
    }
}
