//! CIFAR-10 and CIFAR-100 in their Python versions: pickled dicts, read without running anything.
//!
//! A batch has `data`, N rows of 3072 bytes (red, green and blue planes of 32x32, row-major), and a list
//! of labels, `labels` or `coarse_labels` and `fine_labels`; the fine label is the class. `batches.meta` or `meta`
//! names the classes. Source: <https://www.cs.toronto.edu/~kriz/cifar.html>. The pixels stay in the file.

use crate::data::files::Files;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::numpy::{Array, U8};
use crate::data::pickle::Pickle;
use crate::data::{Dataset, names};
use crate::error::{Error, Result};

const SHAPE: ImageShape = ImageShape::picture(3, 32, 32);
/// The largest official file, CIFAR-100's for training, has 155 MB.
const MAX_BYTES: u64 = 256 << 20;
const MAX_META_BYTES: u64 = 1 << 20;

/// What tells the two sets apart.
pub(super) struct Layout {
    pub name: &'static str,
    train_files: &'static [&'static str],
    test_file: &'static str,
    /// The lists of labels with the largest label of each; the last one is the class.
    labels: &'static [(&'static str, u16)],
    /// The file with the class names, and their key.
    meta: (&'static str, &'static str),
    names: &'static [&'static str],
}

pub(super) const CIFAR_10: Layout = Layout {
    name: "cifar-10",
    train_files: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
    test_file: "test_batch",
    labels: &[("labels", 9)],
    meta: ("batches.meta", "label_names"),
    names: &names::CIFAR_10,
};

pub(super) const CIFAR_100: Layout = Layout {
    name: "cifar-100",
    train_files: &["train"],
    test_file: "test",
    labels: &[("coarse_labels", 19), ("fine_labels", 99)],
    meta: ("meta", "fine_label_names"),
    names: &names::CIFAR_100,
};

impl Layout {
    /// The image files, training before test.
    pub fn members(&self) -> impl Iterator<Item = &'static str> {
        self.train_files.iter().copied().chain([self.test_file])
    }

    /// How large a file of this name may be, if it is one of the set.
    pub fn limit(&self, name: &str) -> Option<u64> {
        if name == self.meta.0 {
            return Some(MAX_META_BYTES);
        }
        self.members().any(|member| member == name).then_some(MAX_BYTES)
    }
}

/// Opens the set among `files`.
pub(super) fn open(files: &Files, layout: &Layout) -> Result<Dataset> {
    if let Some(missing) = layout.members().find(|name| !files.has(name)) {
        let message =
            format!("is missing; put all {} image files of the set into one folder", layout.members().count());
        return Err(Error::data(files.path(missing), message));
    }
    let mut parts = Vec::new();
    for name in layout.members() {
        parts.push(read(files, name, layout)?);
    }
    let test = parts.split_off(layout.train_files.len());
    Ok(Dataset {
        name: layout.name.to_owned(),
        train: Images::join(parts, SHAPE.pixels()),
        test: Images::join(test, SHAPE.pixels()),
        shape: SHAPE,
        views: 1,
        folds: Vec::new(),
        class_names: class_names(files, layout)?,
    })
}

fn read(files: &Files, name: &str, layout: &Layout) -> Result<Part> {
    let batch = Pickle::parse(&files.path(name), files.bytes(name, MAX_BYTES)?)?;
    let mut labels = Vec::new();
    for (key, last) in layout.labels {
        labels = batch.labels(key, 0..=*last)?;
    }
    part(batch.array("data")?, labels)
}

fn class_names(files: &Files, layout: &Layout) -> Result<Vec<String>> {
    let (file, key) = layout.meta;
    if !files.has(file) {
        return Ok(names::owned(layout.names));
    }
    Pickle::parse(&files.path(file), files.bytes(file, MAX_META_BYTES)?)?.names(key, layout.names.len())
}

/// The 32x32 pictures of `data`, one per label, where they lie: N rows of 3072 bytes, or (N, 3, 32, 32).
pub(super) fn part(data: Array, labels: Vec<u16>) -> Result<Part> {
    if data.dtype != U8 || !matches!(data.shape[..], [_, 3072] | [_, 3, 32, 32]) {
        let shape = data.shape_text();
        return Err(data.refuse(format!(
            "of shape {shape}, elements of {} bytes, is not (N, 3072) or (N, 3, 32, 32) of bytes; use the official file",
            data.dtype.size
        )));
    }
    if data.shape[0] != labels.len() {
        let (images, labels) = (data.shape[0], labels.len());
        return Err(data.refuse(format!("holds {images} images where {labels} labels are; download the file again")));
    }
    Ok(Part { bytes: data.bytes, offset: 0, stride: SHAPE.pixels(), labels })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::testarrays::{Entry, pickle, pickled_array};
    use crate::data::testdata::{gz, pixel, refusal, tar};
    use crate::data::{DataSpec, open as open_spec};

    fn pixels(first: usize, count: usize) -> Vec<u8> {
        (first..first + count).flat_map(|i| (0..3072).map(move |p| pixel(i, p))).collect()
    }

    /// Images from number `first` on, labelled with their numbers.
    fn batch(layout: &Layout, first: usize, count: usize) -> Vec<u8> {
        let numbers = || (first..first + count).map(|i| i as i32);
        let labels: Vec<Vec<i32>> =
            layout.labels.iter().map(|&(_, last)| numbers().map(|i| i % (i32::from(last) + 1)).collect()).collect();
        let pixels = pixels(first, count);
        let mut entries = vec![("batch_label", Entry::Raw(b"U\x05batch")), ("filenames", Entry::Names(&["a.png"]))];
        entries.extend(layout.labels.iter().zip(&labels).map(|((key, _), labels)| (*key, Entry::Labels(labels))));
        entries.push(("data", Entry::Bytes(&pixels, [count, 3072])));
        pickle(&entries)
    }

    /// The files of a set of two images per training batch and three for test.
    fn members(layout: &Layout) -> Vec<(&'static str, Vec<u8>)> {
        let mut members: Vec<_> =
            layout.train_files.iter().enumerate().map(|(k, name)| (*name, batch(layout, 2 * k, 2))).collect();
        members.push((layout.test_file, batch(layout, 90, 3)));
        members
    }

    fn write(dir: &Path, layout: &Layout) {
        for (name, bytes) in members(layout) {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn both_sets_are_read_from_a_folder_and_from_the_archive() {
        for (layout, train_len, test_labels) in [(&CIFAR_10, 10, [0, 1, 2]), (&CIFAR_100, 2, [90, 91, 92])] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("folder");
            std::fs::create_dir(&folder).unwrap();
            write(&folder, layout);
            let archive: Vec<_> =
                members(layout).into_iter().map(|(name, bytes)| (format!("cifar-py/{name}"), bytes)).collect();
            std::fs::write(dir.path().join("python.tar.gz"), gz(&tar(&archive))).unwrap();
            for place in ["folder", "python.tar.gz"] {
                let set = open_spec(&DataSpec::Folder(dir.path().join(place))).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!((set.name.as_str(), set.train.len(), set.test.len()), (layout.name, train_len, 3));
                assert_eq!((set.shape, set.class_names.len()), (SHAPE, layout.names.len()));
                assert_eq!(set.train.image(train_len - 1), pixels(train_len - 1, 1));
                assert_eq!(set.test.image(2), pixels(92, 1));
                assert_eq!(set.test.labels(), test_labels);
            }
        }
    }

    #[test]
    fn class_names_come_from_the_meta_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &CIFAR_10);
        let open = || open(&Files::open(dir.path())?, &CIFAR_10);
        assert_eq!(open().unwrap().class_names[9], "truck");
        let letters = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        std::fs::write(dir.path().join("batches.meta"), pickle(&[("label_names", Entry::Names(&letters))])).unwrap();
        assert_eq!(open().unwrap().class_names, letters);
        let few = pickle(&[("label_names", Entry::Names(&letters[1..]))]);
        std::fs::write(dir.path().join("batches.meta"), few).unwrap();
        let message = refusal(open());
        assert!(message.contains("batches.meta: \"label_names\" is no list of 10 names"), "{message}");
    }

    #[test]
    fn a_missing_member_is_named() {
        for layout in [&CIFAR_10, &CIFAR_100] {
            for name in layout.members() {
                let dir = tempfile::tempdir().unwrap();
                write(dir.path(), layout);
                std::fs::remove_file(dir.path().join(name)).unwrap();
                let message = refusal(open_spec(&DataSpec::Folder(dir.path().into())));
                assert!(message.contains(&format!("{name}: is missing")), "{message}");
            }
        }
    }

    #[test]
    fn batches_that_do_not_fit_are_refused() {
        let two = pixels(0, 2);
        let data = |dtype, shape: &[usize], bytes: &[u8]| pickled_array(dtype, shape, false, bytes);
        for (coarse, fine, data, why) in [
            (
                &[19, 20],
                &[0, 1],
                data("|u1", &[2, 3072], &two),
                "\"coarse_labels\" label 20 of image 1 is not in 0 to 19",
            ),
            (
                &[0, 1],
                &[100, 1],
                data("|u1", &[2, 3072], &two),
                "\"fine_labels\" label 100 of image 0 is not in 0 to 99",
            ),
            (&[0, 1], &[0, 1], data("|u1", &[1, 3072], &two[..3072]), "holds 1 images where 2 labels are"),
            (&[0, 1], &[0, 1], data("|u1", &[2, 3072], &two[1..]), "of shape (2, 3072) needs 6144 bytes"),
            (
                &[0, 1],
                &[0, 1],
                data("|u1", &[2, 1024], &two[..2048]),
                "of shape (2, 1024), elements of 1 bytes, is not",
            ),
            (&[0, 1], &[0, 1], data("<i2", &[1, 3072], &two), "elements of 2 bytes, is not (N, 3072)"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &CIFAR_100);
            let entries = [
                ("data", Entry::Raw(&data)),
                ("coarse_labels", Entry::Labels(coarse)),
                ("fine_labels", Entry::Labels(fine)),
            ];
            std::fs::write(dir.path().join("test"), pickle(&entries)).unwrap();
            let message = refusal(open(&Files::open(dir.path()).unwrap(), &CIFAR_100));
            assert!(message.contains(why), "{message}");
        }
    }
}
