//! The bytes of a data file: mapped into memory, or unpacked into it.
//!
//! Files are mapped only after their length is known from the open handle, and the handle lives as
//! long as the map, so replacing the file by name does no harm. Another process that cuts the
//! very same file short while it is mapped kills this one with SIGBUS; no reader of maps can
//! prevent that, and downloads are finished before they are trained on.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};

/// Bytes of an unpacked file.
pub(super) enum Bytes {
    /// Unpacked from gzip, or made in memory.
    Owned(Vec<u8>),
    /// The file itself.
    Mapped { map: Mmap, _file: File },
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
        // SAFETY: the map is private and read-only, `length` is that of the open file, and
        // the file outlives the map. A concurrent change of its contents changes pixels, for
        // which every value is valid; labels are copied before they are checked.
        let map = unsafe { MmapOptions::new().len(length).map_copy_read_only(&file) };
        Ok(Self::Mapped { map: map.map_err(Error::io("map", path))?, _file: file })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped { map, .. } => map,
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
