//! What a folder holds, told from the names of its files.
//!
//! Looked for, in the folder itself or the sub-folder an official archive unpacks to:
//! IDX (MNIST, Fashion-MNIST), CIFAR-10 and CIFAR-100 in their binary versions. A set that is
//! there in part is still that set: its reader names the file that is missing.

use std::path::{Path, PathBuf};

use crate::data::{cifar, idx};
use crate::error::{Error, Result};

/// How images are laid out in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Idx,
    Cifar10,
    Cifar100,
}

/// A data set found, complete or not.
#[derive(Debug)]
pub(super) struct Found {
    pub format: Format,
    /// The folder its files lie in.
    pub dir: PathBuf,
}

/// Names of things a user may have instead of the files, and what to do about each.
const NEAR_MISSES: [(&str, &str); 7] = [
    ("cifar-10-binary.tar.gz", "unpack it there with `tar xzf`"),
    ("cifar-100-binary.tar.gz", "unpack it there with `tar xzf`"),
    ("cifar-10-python.tar.gz", "it is the Python version, get cifar-10-binary.tar.gz"),
    ("cifar-100-python.tar.gz", "it is the Python version, get cifar-100-binary.tar.gz"),
    ("cifar-10-batches-py", "it is the Python version, get cifar-10-binary.tar.gz"),
    ("data_batch_1", "it is the Python version, get cifar-10-binary.tar.gz"),
    ("cifar-100-python", "it is the Python version, get cifar-100-binary.tar.gz"),
];

/// Finds the one data set in `folder`.
///
/// # Errors
/// `Data` when there is no such folder, or none or more than one data set in it.
pub(super) fn detect(folder: &Path) -> Result<Found> {
    if !folder.exists() {
        return Err(Error::data(folder, "does not exist; name the folder of a data set, or `embedded`"));
    }
    if !folder.is_dir() {
        return Err(Error::data(folder, "is a file; name the folder that holds the data set's files"));
    }
    let mut found: Vec<Found> = Vec::new();
    if idx::MEMBERS.iter().any(|member| member.find(folder).is_some()) {
        found.push(Found { format: Format::Idx, dir: folder.to_path_buf() });
    }
    for (format, layout) in [(Format::Cifar10, &cifar::CIFAR_10), (Format::Cifar100, &cifar::CIFAR_100)] {
        let dirs = [folder.to_path_buf(), folder.join(layout.sub_folder)];
        let holds_any = |dir: &PathBuf| layout.members().any(|member| dir.join(member).exists());
        found.extend(dirs.into_iter().find(holds_any).map(|dir| Found { format, dir }));
    }
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|f| format!("{} in {}", f.format, f.dir.display())).collect();
        let message = format!("holds several data sets ({}); name a folder with one of them", names.join(", "));
        return Err(Error::data(folder, message));
    }
    found.pop().ok_or_else(|| Error::data(folder, nothing_found(folder)))
}

fn nothing_found(folder: &Path) -> String {
    let mut message = String::from(
        "holds no data set; looked for MNIST or Fashion-MNIST (train-images-idx3-ubyte[.gz] and its three \
         companions), CIFAR-10 (data_batch_1.bin to data_batch_5.bin and test_batch.bin, also in \
         cifar-10-batches-bin) and CIFAR-100 (train.bin and test.bin, also in cifar-100-binary)",
    );
    for (name, remedy) in NEAR_MISSES {
        if folder.join(name).exists() {
            message += &format!("; found {name}: {remedy}");
        }
    }
    message
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idx => "IDX",
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    fn touch(dir: &Path, name: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [0]).unwrap();
    }

    #[test]
    fn every_format_is_found_by_any_of_its_files() {
        for (name, format, sub) in [
            ("train-images-idx3-ubyte", Format::Idx, ""),
            ("t10k-labels.idx1-ubyte.gz", Format::Idx, ""),
            ("data_batch_3.bin", Format::Cifar10, ""),
            ("cifar-10-batches-bin/test_batch.bin", Format::Cifar10, "cifar-10-batches-bin"),
            ("test.bin", Format::Cifar100, ""),
            ("cifar-100-binary/train.bin", Format::Cifar100, "cifar-100-binary"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            touch(dir.path(), name);
            let found = detect(dir.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((found.format, found.dir), (format, dir.path().join(sub)), "{name}");
        }
    }

    #[test]
    fn a_folder_without_a_set_names_what_was_looked_for_and_what_was_found_instead() {
        let dir = tempfile::tempdir().unwrap();
        let message = refusal(detect(dir.path()));
        for name in ["train-images-idx3-ubyte[.gz]", "data_batch_1.bin", "test_batch.bin", "train.bin", "test.bin"] {
            assert!(message.contains(name), "{name} in {message}");
        }
        assert!(!message.contains("found"), "{message}");
        touch(dir.path(), "cifar-10-binary.tar.gz");
        assert!(refusal(detect(dir.path())).contains("found cifar-10-binary.tar.gz: unpack it"));
    }

    #[test]
    fn a_folder_with_two_sets_is_refused_with_both_names() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), "cifar-10-batches-bin/test_batch.bin");
        touch(dir.path(), "cifar-100-binary/train.bin");
        let message = refusal(detect(dir.path()));
        assert!(message.contains("CIFAR-10 in ") && message.contains("CIFAR-100 in "), "{message}");
    }

    #[test]
    fn a_path_that_is_no_folder_says_so() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), "file");
        assert!(refusal(detect(&dir.path().join("file"))).contains("is a file"));
        assert!(refusal(detect(&dir.path().join("absent"))).contains("does not exist"));
    }
}
