//! The bytes of a data file: mapped into memory, or unpacked into it.
//!
//! A [`Bytes`] is cheap to clone, and a range of one shares its memory: a member of an archive or an array
//! inside a file stays where it lies. Files are mapped only after their length is known from the open
//! handle; a map keeps its file, so replacing that by name does no harm. Another process that cuts the
//! very same file short while it is mapped kills this one with SIGBUS; no reader of maps can
//! prevent that, and downloads are finished before they are trained on.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};

/// Bytes of an unpacked file, or a range of them.
#[derive(Clone)]
pub(super) struct Bytes {
    memory: Arc<Memory>,
    range: Range<usize>,
}

enum Memory {
    /// Unpacked, or made in memory.
    Owned(Vec<u8>),
    /// The file itself.
    Mapped(Mmap),
}

impl Bytes {
    /// Maps the whole of the regular file at `path`, which must not be empty.
    pub fn map(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let length = file.metadata().map_err(Error::io("read the size of", path))?.len();
        if length == 0 {
            return Err(Error::data(path, "is empty; copy or download the file again"));
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(Error::data(path, format!("{length} bytes are more than this machine can address")));
        };
        // SAFETY: the map is private and read-only, and `length` is that of the open file. A
        // concurrent change of its contents changes pixels, for which every value is valid;
        // labels are copied before they are checked.
        let map = unsafe { MmapOptions::new().len(length).map_copy_read_only(&file) };
        Ok(Self { memory: Arc::new(Memory::Mapped(map.map_err(Error::io("map", path))?)), range: 0..length })
    }

    /// A range of these bytes, in the same memory.
    ///
    /// # Panics
    /// When it is not inside them, like a slice: what a file says is checked before.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let len = self[range.clone()].len();
        let start = self.range.start + range.start;
        Self { memory: Arc::clone(&self.memory), range: start..start + len }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { memory: Arc::new(Memory::Owned(bytes)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.memory {
            Memory::Owned(bytes) => bytes,
            Memory::Mapped(map) => map,
        };
        &all[self.range.clone()]
    }
}

/// An empty vector with room for `len` bytes of what `path` unpacks to.
///
/// # Errors
/// `Data` when this machine has not as much memory: archives of a few megabytes may hold gigabytes.
pub(super) fn room(path: &Path, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(len) {
        Ok(()) => Ok(bytes),
        Err(_) => {
            let message = format!("would unpack to {len} bytes, for which there is no memory; is it the right file?");
            Err(Error::data(path, message))
        }
    }
}

/// Opens `path` for reading if it is a regular file (a pipe would block, a folder cannot be mapped).
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::data(path, "does not exist; check the path"));
        }
        other => other.map_err(Error::io("open", path))?,
    };
    if !metadata.is_file() {
        return Err(Error::data(path, "is not a regular file; put the data file itself there"));
    }
    File::open(path).map_err(Error::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    #[test]
    fn a_mapped_file_outlives_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.bin");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        let bytes = Bytes::map(&path).unwrap_or_else(|e| panic!("{e}"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes[..], [1, 2, 3]);
    }

    #[test]
    fn a_slice_of_a_slice_lies_in_the_memory_of_the_whole() {
        let whole = Bytes::from((0..20).collect::<Vec<u8>>());
        let part = whole.slice(5..15).slice(2..6);
        assert_eq!(part[..], [7, 8, 9, 10]);
        assert_eq!(part.as_ptr(), whole[7..].as_ptr());
        assert!(std::panic::catch_unwind(|| part.slice(0..5).len()).is_err());
    }

    #[test]
    fn what_does_not_fit_into_memory_is_refused() {
        assert!(refusal(room(Path::new("bomb.zip"), usize::MAX / 2)).contains("bomb.zip: would unpack to"));
        assert_eq!(room(Path::new("some.zip"), 100).unwrap().capacity(), 100);
    }

    #[test]
    fn empty_missing_and_irregular_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.bin");
        std::fs::write(&empty, []).unwrap();
        for (path, why) in [
            (empty.as_path(), "empty.bin: is empty"),
            (&dir.path().join("absent.bin"), "absent.bin: does not exist"),
            (dir.path(), "is not a regular file"),
        ] {
            assert!(refusal(Bytes::map(path)).contains(why));
        }
    }
}
