//! The files of a data set, wherever they lie: in a folder, or in a `.tar`, `.tar.gz` or `.zip` as downloaded.
//!
//! Files have a name relative to the folder or archive, with `/` between folders. Those of a folder, of a plain
//! `.tar` and those stored in a `.zip` are read where they lie; deflated members of a `.zip` are unpacked when
//! asked for. A gzip stream has one direction, so a `.tar.gz` is unpacked once, when it is opened, and only what
//! a reader may ask for is kept (never the 2.8 GB of unlabelled images of STL-10). A single `.npz` or
//! `.voxels` is a folder of one file.
//!
//! Nothing is written, links in archives are not followed, and members called `../x` make an archive unreadable.
//! In a folder, links to files count as files and links to folders are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;

use crate::data::bytes::Bytes;
use crate::data::{folder, tar, zip};
use crate::error::{Error, Result};

/// Folders below the one named: MODELNET/CLASS/train/x.off, and one more that an archive was unpacked to.
const MAX_DEPTH: usize = 5;
const AGAIN: &str = "copy or download the archive again";

/// The files in a folder or archive, or in a folder inside.
#[derive(Clone)]
pub(super) struct Files {
    whole: Arc<Whole>,
    /// Empty, or the path of a folder inside, with a `/` at its end.
    prefix: String,
}

struct Whole {
    path: PathBuf,
    places: BTreeMap<String, Place>,
}

/// Where the bytes of a file are.
enum Place {
    /// In the file of that name.
    Disk,
    /// In the map of a tar, or unpacked.
    Memory(Bytes),
    Zip(zip::Member),
    /// Nowhere, and why, with a remedy.
    Nowhere(String),
}

impl Files {
    /// Lists the files of the folder or archive at `path`.
    ///
    /// # Errors
    /// `Data` when there is no such folder or archive, or it is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::data(path, "does not exist; name the folder or archive of a data set, or `embedded`"));
        }
        if path.is_dir() {
            let mut places = BTreeMap::new();
            list(path, "", 0, &mut places)?;
            return Ok(Self::new(path, places));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if [".npz", ".voxels"].iter().any(|ending| name.to_lowercase().ends_with(ending)) {
            let parent = path.parent().unwrap_or(Path::new(""));
            return Ok(Self::new(parent, BTreeMap::from([(name, Place::Disk)])));
        }
        Self::archive(path, Bytes::map(path)?)
    }

    /// Lists the archive `bytes`, whose kind is told from its first bytes (the oldest kind of tar has no mark); `path` names it in errors.
    pub fn archive(path: &Path, bytes: Bytes) -> Result<Self> {
        let members = if bytes.starts_with(&[0x1f, 0x8b]) {
            unpack(path, &bytes)?
        } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            let members = zip::members(path, &bytes)?;
            members.into_iter().map(|member| (member.name.clone(), Place::Zip(member))).collect()
        } else if bytes.get(257..262) == Some(b"ustar") || path.extension().is_some_and(|ending| ending == "tar") {
            in_place(path, &bytes)?
        } else {
            let message = "is a file, but no .tar, .tar.gz, .zip or .npz; name an archive, or the folder that holds the \
                           data set's files";
            return Err(Error::data(path, message));
        };
        let mut places = BTreeMap::new();
        for (name, place) in members {
            let name = name.strip_prefix("./").map(str::to_owned).unwrap_or(name);
            if name.starts_with('/') || name.split('/').any(|part| part == "..") {
                let message =
                    format!("has a member {name:?}, which leads out of the archive; get the official archive");
                return Err(Error::data(path, message));
            }
            if name.split('/').any(is_hidden) {
                continue;
            }
            if places.insert(name.clone(), place).is_some() {
                return Err(Error::data(path, format!("has two members {name:?}; get the official archive")));
            }
        }
        Ok(Self::new(path, places))
    }

    fn new(path: &Path, places: BTreeMap<String, Place>) -> Self {
        Self { whole: Arc::new(Whole { path: path.to_path_buf(), places }), prefix: String::new() }
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let below = self.whole.places.range(self.prefix.clone()..);
        below.map_while(|(name, _)| name.strip_prefix(self.prefix.as_str()))
    }

    /// The folders at the top, each once.
    pub fn folders(&self) -> Vec<&str> {
        let mut folders = Vec::new();
        let mut from = self.prefix.clone();
        while let Some((name, _)) = self.whole.places.range(from..).next() {
            let Some(inside) = name.strip_prefix(self.prefix.as_str()) else { break };
            // On to the first name that is not in this folder (0 follows on /), or to the next one.
            from = match inside.split_once('/') {
                Some((folder, _)) => {
                    folders.push(folder);
                    format!("{}{folder}0", self.prefix)
                }
                None => format!("{name}\0"),
            };
        }
        folders
    }

    /// The files in one of the folders, with names relative to that.
    pub fn within(&self, folder: &str) -> Self {
        Self { whole: Arc::clone(&self.whole), prefix: format!("{}{folder}/", self.prefix) }
    }

    /// The name of the file called `name` here, or else in one of the folders (archives unpack to one).
    pub fn find(&self, name: &str) -> Option<&str> {
        let here = |name: &str| {
            let (name, _) = self.whole.places.get_key_value(&format!("{}{name}", self.prefix))?;
            name.strip_prefix(self.prefix.as_str())
        };
        here(name).or_else(|| self.folders().into_iter().find_map(|folder| here(&format!("{folder}/{name}"))))
    }

    /// Is there a file of this name?
    pub fn has(&self, name: &str) -> bool {
        self.whole.places.contains_key(&format!("{}{name}", self.prefix))
    }

    /// The bytes of a file, at most `limit` of them.
    ///
    /// # Errors
    /// `Data` when it is not there, empty, larger, damaged or of a kind that is not read.
    pub fn bytes(&self, name: &str, limit: u64) -> Result<Bytes> {
        let path = self.path(name);
        let bytes = match self.whole.places.get(&format!("{}{name}", self.prefix)) {
            None => return Err(Error::data(path, "is missing; copy or download the data set again")),
            Some(Place::Nowhere(why)) => return Err(Error::data(path, why)),
            Some(Place::Disk) => Bytes::map(&path)?,
            Some(Place::Memory(bytes)) if bytes.is_empty() => {
                return Err(Error::data(path, format!("is empty; {AGAIN}")));
            }
            Some(Place::Memory(bytes)) => bytes.clone(),
            Some(Place::Zip(member)) => member.bytes(&path, limit)?,
        };
        if bytes.len() as u64 > limit {
            let message = format!("has {} bytes, beyond the limit of {limit}; copy or download it again", bytes.len());
            return Err(Error::data(path, message));
        }
        Ok(bytes)
    }

    /// What changes with the contents of a file without reading them: its bytes, and when it was written in ns since
    /// 1970 or, in a zip, its checksum.
    pub fn stamp(&self, name: &str) -> (u64, u128) {
        match self.whole.places.get(&format!("{}{name}", self.prefix)) {
            Some(Place::Disk) => std::fs::metadata(self.path(name)).map_or((0, 0), |metadata| {
                let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                (metadata.len(), written.map_or(0, |time| time.as_nanos()))
            }),
            Some(Place::Memory(bytes)) => (bytes.len() as u64, 0),
            Some(Place::Zip(member)) => (member.size, member.crc().into()),
            Some(Place::Nowhere(_)) | None => (0, 0),
        }
    }

    /// Where a file lies, for messages; inside an archive its path continues that of the archive.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Where the folder or archive lies, for messages.
    pub fn root(&self) -> PathBuf {
        if self.prefix.is_empty() {
            self.whole.path.clone()
        } else {
            self.whole.path.join(self.prefix.trim_end_matches('/'))
        }
    }
}

/// What systems leave in folders and archives beside the user's files.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX" || name == "lost+found"
}

/// Adds the files of the folder `dir`, whose name inside the whole is `prefix`.
fn list(dir: &Path, prefix: &str, depth: usize, places: &mut BTreeMap<String, Place>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_hidden(&name) {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("open", &path))?;
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                list(&path, &format!("{prefix}{name}/"), depth + 1, places)?;
            }
        } else if !(kind.is_symlink() && path.is_dir()) {
            places.insert(format!("{prefix}{name}"), Place::Disk);
        }
    }
    Ok(())
}

/// What is no file cannot be read.
fn nowhere(other: &str) -> Place {
    Place::Nowhere(format!("is {other} in the archive, which is not read; unpack the archive and name its folder"))
}

/// The members of a plain tar.
fn in_place(path: &Path, bytes: &Bytes) -> Result<Vec<(String, Place)>> {
    let mut reader = tar::Reader::new(path, &bytes[..]);
    let mut members = Vec::new();
    while let Some(member) = reader.next()? {
        members.push(member);
    }
    // The reader came to the end, so all of them lie inside.
    let place = |member: &tar::Member| match member.other {
        Some(other) => nowhere(other),
        None => Place::Memory(bytes.slice(member.at as usize..(member.at + member.size) as usize)),
    };
    Ok(members.iter().map(|member| (member.name.clone(), place(member))).collect())
}

/// The members of a tar inside gzip; kept are those that the readers know by name.
fn unpack(path: &Path, packed: &Bytes) -> Result<Vec<(String, Place)>> {
    let mut reader = tar::Reader::new(path, MultiGzDecoder::new(&packed[..]));
    let mut members = Vec::new();
    while let Some(member) = reader.next()? {
        let base = member.name.rsplit('/').next().unwrap_or_default();
        let place = match (member.other, folder::limit(base)) {
            (Some(other), _) => nowhere(other),
            (None, None) => Place::Nowhere(
                "is no file that is read from a .tar.gz; unpack the archive with `tar xzf` and name its folder".into(),
            ),
            (None, Some(limit)) if member.size > limit => {
                let message = format!("expands beyond the limit of {limit} bytes, to {}; {AGAIN}", member.size);
                return Err(Error::data(path.join(&member.name), message));
            }
            (None, Some(_)) => {
                let justified = zip::MAX_EXPANSION.saturating_mul(packed.len() as u64);
                Place::Memory(reader.read(member.size, justified)?.into())
            }
        };
        members.push((member.name, place));
    }
    Ok(members)
}

/// Opens an archive of any kind and reads all of it.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let files = Files::archive(Path::new("archive"), bytes.to_vec().into())?;
    files.names().try_for_each(|name| files.bytes(name, 1 << 30).map(drop))
}

#[cfg(test)]
mod tests;
