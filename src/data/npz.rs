//! Files of several named numpy arrays (.npz): a zip whose member `x.npy` is the array `x`.
//!
//! `numpy.savez` stores members as they are, and their elements then stay in the file; those of
//! `numpy.savez_compressed` are unpacked when asked for, one array at a time.

use std::path::{Path, PathBuf};

use crate::data::bytes::Bytes;
use crate::data::numpy::Array;
use crate::data::{npy, zip};
use crate::error::{Error, Result};

/// The largest array: ImageNet at 32x32 has 3.9 GB.
pub(super) const MAX_BYTES: u64 = 8 << 30;

/// The arrays of a file.
pub(super) struct Npz {
    path: PathBuf,
    members: Vec<zip::Member>,
}

impl Npz {
    /// Lists the arrays of the file `path`, whose contents are `bytes`.
    pub fn parse(path: &Path, bytes: &Bytes) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), members: zip::members(path, bytes)? })
    }

    /// Names of the arrays, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.strip_suffix(".npy").unwrap_or(&member.name))
    }

    /// Is there an array called `name`?
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|other| other == name)
    }

    /// The array called `name`.
    ///
    /// # Errors
    /// `Data` when it is missing, damaged or of an element type or order that is not read.
    pub fn array(&self, name: &str) -> Result<Array> {
        let Some(at) = self.names().position(|other| other == name) else {
            let names: Vec<&str> = self.names().take(20).collect();
            let message = format!("holds no array {name:?}, only {}", names.join(", "));
            return Err(Error::data(&self.path, message));
        };
        let member = &self.members[at];
        let path = self.path.join(&member.name);
        npy::parse(&path, name, &member.bytes(&path, MAX_BYTES)?)
    }
}

/// Reads every array of `bytes`, as a check of this reader.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let npz = Npz::parse(Path::new("x.npz"), &bytes.to_vec().into())?;
    npz.names().try_for_each(|name| npz.array(name).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testarrays::npy;
    use crate::data::testdata::{refusal, zip};

    fn npz(deflate: bool) -> Bytes {
        let (x, y) = (npy("|u1", false, &[2, 50], &[3; 100]), npy("<i8", false, &[1], &7i64.to_le_bytes()));
        zip(&[("x.npy", x), ("y.npy", y)], deflate).into()
    }

    #[test]
    fn arrays_are_read_by_name_and_stored_ones_stay_in_place() {
        for deflate in [false, true] {
            let bytes = npz(deflate);
            let npz = Npz::parse(Path::new("d/a.npz"), &bytes).unwrap();
            assert_eq!(npz.names().collect::<Vec<_>>(), ["x", "y"]);
            assert!(npz.has("y") && !npz.has("y.npy"));
            assert_eq!(npz.array("y").unwrap().number(0), 7.0);
            let x = npz.array("x").unwrap();
            assert_eq!((x.bytes[..] == [3; 100], &x.shape[..]), (true, &[2, 50][..]));
            assert_eq!(bytes.as_ptr_range().contains(&x.bytes.as_ptr()), !deflate);
            let message = refusal(npz.array("z"));
            assert_eq!(message, "d/a.npz: holds no array \"z\", only x, y");
        }
    }

    #[test]
    fn an_array_is_named_with_its_file() {
        let bytes = zip(&[("x.npy", npy(">f4", false, &[1], &[0; 4]))], false);
        let message = refusal(Npz::parse(Path::new("a.npz"), &bytes.into()).unwrap().array("x"));
        assert!(message.starts_with("a.npz/x.npy: array \"x\" is big-endian"), "{message}");
        assert!(check(&npz(true)).is_ok());
        assert!(check(&zip(&[("x.npy", [0; 4])], false)).is_err());
    }
}
