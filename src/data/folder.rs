//! What a folder or archive holds, told from the names of its files.
//!
//! [`FORMATS`] has one row per format: how it is recognised and who reads it. Looked for are files of each format at
//! the top and then in every folder there, since official archives unpack to one. A set that is there in part is still
//! that set: its reader names the file that is missing. A folder with nothing but an archive stands for that archive.

use std::path::Path;

use crate::data::files::Files;
use crate::data::official::{self, File};
use crate::data::{Dataset, Options, arrays, cifar, cifar_python, idx, imagenet32, modelnet, pictures, stl};
use crate::error::{Error, Result};

/// How images are laid out in files.
pub(super) struct Format {
    /// As messages call it.
    pub name: &'static str,
    /// Its files, for who has none of them.
    looked_for: &'static str,
    /// Do these files, with names relative to the folder they lie in, hold any of it?
    holds: fn(&Files) -> bool,
    /// How many bytes a file of this name (without folders) may have; none if no reader of the format asks for it.
    limit: fn(&str) -> Option<u64>,
    /// Reads the whole of it.
    pub open: fn(&Files, Options) -> Result<Dataset>,
    /// What its files are compared with.
    pub published: Published,
}

/// Digests published for a format.
pub(super) enum Published {
    /// Of these files; none for sets of the user's own.
    Files(&'static [File]),
    /// Of IDX files, which are of one of several sets.
    Idx,
}

/// All that can be read.
pub(super) const FORMATS: [Format; 11] = [
    Format {
        name: "IDX",
        looked_for: "MNIST or Fashion-MNIST (train-images-idx3-ubyte[.gz] and its three companions)",
        holds: |files| idx::MEMBERS.iter().any(|member| member.find(files).is_some()),
        limit: idx::limit,
        open: |files, _| idx::open(files),
        published: Published::Idx,
    },
    Format {
        name: "CIFAR-10",
        looked_for: "CIFAR-10 (data_batch_1.bin to data_batch_5.bin and test_batch.bin)",
        holds: |files| cifar::CIFAR_10.members().any(|name| files.has(name)),
        limit: |name| cifar::CIFAR_10.limit(name),
        open: |files, _| cifar::open(files, &cifar::CIFAR_10),
        published: Published::Files(official::CIFAR_10.releases[0].files),
    },
    Format {
        name: "CIFAR-100",
        looked_for: "CIFAR-100 (train.bin and test.bin)",
        holds: |files| cifar::CIFAR_100.members().any(|name| files.has(name)),
        limit: |name| cifar::CIFAR_100.limit(name),
        open: |files, _| cifar::open(files, &cifar::CIFAR_100),
        published: Published::Files(official::CIFAR_100.releases[0].files),
    },
    Format {
        name: "STL-10",
        looked_for: "STL-10 (train_X.bin, train_y.bin, test_X.bin and test_y.bin)",
        holds: |files| stl::MEMBERS.iter().any(|name| files.has(name)),
        limit: stl::limit,
        open: |files, _| stl::open(files),
        published: Published::Files(official::STL_10.releases[0].files),
    },
    Format {
        name: "CIFAR-10, Python version",
        looked_for: "CIFAR-10 for Python (data_batch_1 to data_batch_5 and test_batch)",
        holds: |files| cifar_python::CIFAR_10.members().any(|name| files.has(name)),
        limit: |name| cifar_python::CIFAR_10.limit(name),
        open: |files, _| cifar_python::open(files, &cifar_python::CIFAR_10),
        published: Published::Files(official::CIFAR_10.releases[1].files),
    },
    Format {
        name: "CIFAR-100, Python version",
        looked_for: "CIFAR-100 for Python (train and test)",
        holds: |files| cifar_python::CIFAR_100.members().any(|name| files.has(name)),
        limit: |name| cifar_python::CIFAR_100.limit(name),
        open: |files, _| cifar_python::open(files, &cifar_python::CIFAR_100),
        published: Published::Files(official::CIFAR_100.releases[1].files),
    },
    Format {
        name: "ImageNet at 32x32",
        looked_for: "ImageNet at 32x32 (train_data_batch_1 to _10 and val_data, or imagenet32_train and imagenet32_val)",
        holds: imagenet32::holds,
        limit: imagenet32::limit,
        open: |files, _| imagenet32::open(files),
        published: Published::Files(&[]),
    },
    Format {
        name: "ModelNet",
        looked_for: "meshes (CLASS/train/*.off and CLASS/test/*.off) or volumes (modelnet*train*.npz and modelnet*test*.npz)",
        holds: modelnet::holds,
        limit: modelnet::limit,
        open: modelnet::open,
        published: Published::Files(&[]),
    },
    Format {
        name: "voxels",
        looked_for: "one .voxels file",
        holds: modelnet::is_file,
        limit: |_| None,
        open: |files, _| modelnet::open_file(files),
        published: Published::Files(&[]),
    },
    Format {
        name: "numpy arrays",
        looked_for: "one .npz file with arrays x and y",
        holds: arrays::holds,
        limit: arrays::limit,
        open: |files, _| arrays::open(files),
        published: Published::Files(&[]),
    },
    Format {
        name: "pictures",
        looked_for: "a folder of PNG or JPEG files for each class (also inside train and test)",
        holds: pictures::holds,
        limit: pictures::limit,
        open: |files, options| pictures::open(files, options.image_size),
        published: Published::Files(&[]),
    },
];

/// A data set found, complete or not.
pub(super) struct Found {
    pub format: &'static Format,
    /// Its files, with names relative to the folder they lie in.
    pub files: Files,
}

/// How many bytes a file called `name` may have, if any reader asks for such a file.
pub(super) fn limit(name: &str) -> Option<u64> {
    FORMATS.iter().find_map(|format| (format.limit)(name))
}

/// Finds the one data set in the folder or archive at `path`.
///
/// # Errors
/// `Data` when there is no such folder or archive, or none or more than one data set in it.
pub(super) fn detect(path: &Path) -> Result<Found> {
    let files = Files::open(path)?;
    if let Some(found) = search(&files)? {
        return Ok(found);
    }
    let archives: Vec<&str> = files.names().filter(|name| is_archive(name)).collect();
    match archives[..] {
        [archive] if path.is_dir() => {
            let archive = files.path(archive);
            let files = Files::open(&archive)?;
            search(&files)?.ok_or_else(|| Error::data(&archive, nothing_found(&files)))
        }
        _ => Err(Error::data(path, nothing_found(&files))),
    }
}

fn is_archive(name: &str) -> bool {
    !name.contains('/') && [".tar", ".tar.gz", ".tgz", ".zip"].iter().any(|ending| name.ends_with(ending))
}

/// Finds the one data set among `files`, if there is any.
pub(super) fn search(files: &Files) -> Result<Option<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for format in &FORMATS {
        if (format.holds)(files) {
            found.push(Found { format, files: files.clone() });
        } else {
            let folders = files.folders().into_iter().map(|folder| files.within(folder));
            found.extend(folders.filter(format.holds).map(|files| Found { format, files }));
        }
    }
    if found.len() > 1 {
        let names: Vec<String> =
            found.iter().map(|found| format!("{} in {}", found.format.name, found.files.root().display())).collect();
        let message = format!("holds several data sets ({}); name a folder with one of them", names.join(", "));
        return Err(Error::data(files.root(), message));
    }
    Ok(found.pop())
}

fn nothing_found(files: &Files) -> String {
    let mut looked_for = FORMATS.map(|format| format.looked_for).to_vec();
    let last = looked_for.pop().unwrap_or_default();
    let mut message =
        format!("holds no data set; looked for {} and {last}, also one folder down", looked_for.join(", "));
    let archives: Vec<&str> = files.names().filter(|name| is_archive(name)).collect();
    if !archives.is_empty() {
        message += &format!("; to use an archive name it alone: {}", archives.join(", "));
    }
    message
}

/// Opens an archive of any kind and reads the data set in it.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let path = Path::new("archive");
    let files = Files::archive(path, bytes.to_vec().into())?;
    let found = search(&files)?.ok_or_else(|| Error::data(path, nothing_found(&files)))?;
    if modelnet::holds(&found.files) {
        // This one would leave its voxels on the disk, and has a check of its own.
        return Ok(());
    }
    (found.format.open)(&found.files, Options::default()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::{gz, refusal, tar};

    fn touch(dir: &Path, name: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [0]).unwrap();
    }

    #[test]
    fn every_format_is_found_by_any_of_its_files() {
        for (name, format, sub) in [
            ("train-images-idx3-ubyte", "IDX", ""),
            ("t10k-labels.idx1-ubyte.gz", "IDX", ""),
            ("raw/t10k-labels.idx1-ubyte.gz", "IDX", "raw"),
            ("data_batch_3.bin", "CIFAR-10", ""),
            ("cifar-10-batches-bin/test_batch.bin", "CIFAR-10", "cifar-10-batches-bin"),
            ("test.bin", "CIFAR-100", ""),
            ("cifar-100-binary/train.bin", "CIFAR-100", "cifar-100-binary"),
            ("test_y.bin", "STL-10", ""),
            ("cifar-10-batches-py/data_batch_2", "CIFAR-10, Python version", "cifar-10-batches-py"),
            ("test", "CIFAR-100, Python version", ""),
            ("val_data", "ImageNet at 32x32", ""),
            ("Imagenet32_train/train_data_batch_10.npz", "ImageNet at 32x32", ""),
            ("Imagenet32_val_npz.zip", "ImageNet at 32x32", ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            touch(dir.path(), name);
            let found = detect(dir.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((found.format.name, found.files.root()), (format, dir.path().join(sub)), "{name}");
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
    }

    #[test]
    fn a_folder_with_one_archive_stands_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.gz");
        std::fs::write(&archive, gz(&tar(&[("sub/train.bin", [0])]))).unwrap();
        let found = detect(dir.path()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((found.format.name, found.files.root()), ("CIFAR-100", archive.join("sub")));
        std::fs::write(&archive, gz(&tar(&[("sub/other.bin", [0])]))).unwrap();
        assert!(refusal(detect(dir.path())).contains("a.tar.gz: holds no data set"));
        touch(dir.path(), "b.zip");
        assert!(refusal(detect(dir.path())).contains("to use an archive name it alone: a.tar.gz, b.zip"));
    }

    #[test]
    fn a_folder_with_two_sets_is_refused_with_both_names() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), "cifar-10-batches-bin/test_batch.bin");
        touch(dir.path(), "cifar-100-binary/train.bin");
        let message = refusal(detect(dir.path()));
        assert!(message.contains("CIFAR-10 in ") && message.contains("CIFAR-100 in "), "{message}");
        let twice = tempfile::tempdir().unwrap();
        touch(twice.path(), "a/train.bin");
        touch(twice.path(), "b/train.bin");
        assert!(refusal(detect(twice.path())).contains("b); name a folder"));
    }

    #[test]
    fn a_path_that_is_neither_folder_nor_archive_says_so() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), "file");
        assert!(refusal(detect(&dir.path().join("file"))).contains("is a file, but no .tar"));
        assert!(refusal(detect(&dir.path().join("absent"))).contains("does not exist"));
    }
}
