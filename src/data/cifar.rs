//! CIFAR-10 and CIFAR-100 in their binary versions, read where they lie.
//!
//! A file is a sequence of records without a header: CIFAR-10 has one label byte (0-9) and
//! 3072 pixels, CIFAR-100 a coarse label (0-19), a fine label (0-99) and 3072 pixels; pixels are
//! the red, green and blue planes of 32x32, row-major. Source:
//! <https://www.cs.toronto.edu/~kriz/cifar.html>. The fine label is the class. Any whole number of
//! records is read (so that a part of a set can be tried); `verify` checks the official sizes.

use std::path::Path;

use crate::data::bytes::Bytes;
use crate::data::files::Files;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::{Dataset, names};
use crate::error::{Error, Result};

const SHAPE: ImageShape = ImageShape::picture(3, 32, 32);
const PIXELS: usize = SHAPE.pixels();
/// The largest official file, CIFAR-100's for training, has 154 MB.
const MAX_BYTES: u64 = 256 << 20;

/// What tells the two sets apart.
#[derive(Debug)]
pub(super) struct Layout {
    pub name: &'static str,
    train_files: &'static [&'static str],
    test_file: &'static str,
    names_file: &'static str,
    names: &'static [&'static str],
    /// How many values each label byte of a record may take; the last one is the class.
    label_ranges: &'static [u8],
}

pub(super) const CIFAR_10: Layout = Layout {
    name: "cifar-10",
    train_files: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test_file: "test_batch.bin",
    names_file: "batches.meta.txt",
    names: &names::CIFAR_10,
    label_ranges: &[10],
};

pub(super) const CIFAR_100: Layout = Layout {
    name: "cifar-100",
    train_files: &["train.bin"],
    test_file: "test.bin",
    names_file: "fine_label_names.txt",
    names: &names::CIFAR_100,
    label_ranges: &[20, 100],
};

impl Layout {
    /// The image files, training before test.
    pub fn members(&self) -> impl Iterator<Item = &'static str> {
        self.train_files.iter().copied().chain([self.test_file])
    }

    /// How large a file of this name may be, if it is one of the set.
    pub fn limit(&self, name: &str) -> Option<u64> {
        if name == self.names_file {
            return Some(names::MAX_BYTES);
        }
        self.members().any(|member| member == name).then_some(MAX_BYTES)
    }

    fn record_bytes(&self) -> usize {
        self.label_ranges.len() + PIXELS
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
        parts.push(parse(&files.path(name), files.bytes(name, MAX_BYTES)?, layout)?);
    }
    let test = parts.split_off(layout.train_files.len());
    Ok(Dataset {
        name: layout.name.to_owned(),
        train: Images::join(parts, PIXELS),
        test: Images::join(test, PIXELS),
        shape: SHAPE,
        views: 1,
        folds: Vec::new(),
        class_names: names::read_or(files, layout.names_file, layout.names)?,
    })
}

fn parse(path: &Path, bytes: Bytes, layout: &Layout) -> Result<Part> {
    let stride = layout.record_bytes();
    let excess = bytes.len() % stride;
    if excess != 0 {
        let message = format!(
            "{} bytes are not a whole number of {} records of {stride} bytes: {} records and {excess} bytes \
             (truncated, or another file); copy or download the file again",
            bytes.len(),
            layout.name,
            bytes.len() / stride
        );
        return Err(Error::data(path, message));
    }
    let mut labels = Vec::with_capacity(bytes.len() / stride);
    for (i, record) in bytes.chunks_exact(stride).enumerate() {
        let mut class = 0;
        for (j, (&label, &range)) in record.iter().zip(layout.label_ranges).enumerate() {
            if label >= range {
                let place = i * stride + j;
                return Err(Error::data(path, wrong_label(label, range, i, place, layout)));
            }
            class = label;
        }
        labels.push(class.into());
    }
    Ok(Part { bytes, offset: layout.label_ranges.len(), stride, labels })
}

/// Reads a file of CIFAR-10, or else of CIFAR-100.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let read = |layout| parse(Path::new("batch.bin"), bytes.to_vec().into(), layout).map(drop);
    read(&CIFAR_10).or_else(|_| read(&CIFAR_100))
}

fn wrong_label(label: u8, range: u8, record: usize, byte: usize, layout: &Layout) -> String {
    let which = match range {
        20 => "coarse label",
        100 => "fine label",
        _ => "label",
    };
    format!(
        "{which} {label} of image {record}, at byte {byte}, is not in 0 to {}; this is not an intact {} file, copy or \
         download it again",
        range - 1,
        layout.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::{cifar_records, gz, pixel, refusal, tar};
    use crate::data::{DataSpec, open as open_spec};
    use crate::rng::{Rng, Stream};

    /// Two images per training batch and three for test; or five and three for CIFAR-100.
    fn write(dir: &Path, layout: &Layout) {
        std::fs::create_dir_all(dir).unwrap();
        let fine = layout.label_ranges.len() == 2;
        let per_file = if fine { 5 } else { 2 };
        for (k, name) in layout.train_files.iter().enumerate() {
            std::fs::write(dir.join(name), cifar_records(k * per_file, per_file, fine)).unwrap();
        }
        std::fs::write(dir.join(layout.test_file), cifar_records(90, 3, fine)).unwrap();
    }

    fn open_in(dir: &Path, layout: &Layout) -> Result<Dataset> {
        open(&Files::open(dir)?, layout)
    }

    #[test]
    fn both_sets_are_read_from_their_folder_the_one_above_and_the_archive() {
        for (layout, train_len, classes) in [(&CIFAR_10, 10, 10), (&CIFAR_100, 5, 100)] {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join("above/inner");
            write(&inner, layout);
            let names: String = (0..classes).map(|class| format!("class {class}\n")).collect();
            std::fs::write(inner.join(layout.names_file), names).unwrap();
            let member = |name| (format!("inner/{name}"), std::fs::read(inner.join(name)).unwrap());
            let plain = tar(&layout.members().chain([layout.names_file]).map(member).collect::<Vec<_>>());
            std::fs::write(dir.path().join("set.tar.gz"), gz(&plain)).unwrap();
            std::fs::write(dir.path().join("set.tar"), plain).unwrap();
            for place in ["above/inner", "above", "set.tar.gz", "set.tar"] {
                let set = open_spec(&DataSpec::Folder(dir.path().join(place))).unwrap();
                assert_eq!((set.name.as_str(), set.train.len(), set.test.len()), (layout.name, train_len, 3));
                assert_eq!((set.shape, set.class_names.len()), (SHAPE, classes));
                assert_eq!(set.class_names[3], "class 3");
                for (i, p) in [(0, 0), (3, 3071), (4, 1024)] {
                    assert_eq!(set.train.image(i)[p], pixel(i, p), "pixel {p} of image {i}");
                }
                // Coarse labels of the test images are 10, 11, 12: the fine label is the class.
                assert_eq!(set.test.labels(), if classes == 100 { [90, 91, 92] } else { [0, 1, 2] });
                assert_eq!(set.test.image(2), &cifar_records(92, 1, false)[1..]);
            }
        }
    }

    #[test]
    fn names_beside_the_images_are_used() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &CIFAR_10);
        std::fs::write(dir.path().join("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
        assert_eq!(open_in(dir.path(), &CIFAR_10).unwrap().class_names[9], "j");
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

    fn refuse(layout: &Layout, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), layout);
        let mut bytes = cifar_records(0, 4, layout.label_ranges.len() == 2);
        change(&mut bytes);
        std::fs::write(dir.path().join(layout.test_file), bytes).unwrap();
        refusal(open_in(dir.path(), layout))
    }

    #[test]
    fn files_of_no_whole_number_of_records_are_refused() {
        let short = refuse(&CIFAR_10, |bytes| bytes.truncate(4 * 3073 - 1));
        assert!(short.contains("test_batch.bin: 12291 bytes are not a whole number"), "{short}");
        assert!(short.contains("3 records and 3072 bytes"), "{short}");
        let long = refuse(&CIFAR_100, |bytes| bytes.push(0));
        assert!(long.contains("records of 3074 bytes: 4 records and 1 bytes"), "{long}");
        assert!(refuse(&CIFAR_10, Vec::clear).contains("is empty"));
    }

    #[test]
    fn labels_out_of_range_name_value_image_and_byte() {
        let plain = refuse(&CIFAR_10, |bytes| bytes[2 * 3073] = 10);
        assert!(plain.contains("label 10 of image 2, at byte 6146, is not in 0 to 9"), "{plain}");
        let coarse = refuse(&CIFAR_100, |bytes| bytes[3074] = 20);
        assert!(coarse.contains("coarse label 20 of image 1, at byte 3074, is not in 0 to 19"), "{coarse}");
        let fine = refuse(&CIFAR_100, |bytes| bytes[3 * 3074 + 1] = 100);
        assert!(fine.contains("fine label 100 of image 3, at byte 9223, is not in 0 to 99"), "{fine}");
    }

    #[test]
    fn mutated_files_are_read_or_refused_but_never_panic() {
        let mut rng = Rng::new(12, Stream::Init);
        let mut seen = [0, 0];
        for round in 0..500 {
            let layout = [&CIFAR_10, &CIFAR_100][round % 2];
            let mut bytes = cifar_records(0, 3, round % 2 == 1);
            match rng.below(4) {
                0 => bytes.truncate(rng.below(bytes.len())),
                1 => bytes.extend((0..1 + rng.below(4000)).map(|i| i as u8)),
                2 => {
                    let at = rng.below(bytes.len());
                    bytes[at] = rng.below(256) as u8;
                }
                _ => {
                    let at = rng.below(3) * layout.record_bytes();
                    bytes[at] = rng.below(256) as u8;
                }
            }
            match parse(Path::new("x.bin"), bytes.into(), layout) {
                Ok(part) => {
                    seen[0] += 1;
                    let images = Images::join(vec![part], PIXELS);
                    assert_eq!(images.image(images.len() - 1).len(), PIXELS);
                    assert!(images.labels().iter().all(|&l| usize::from(l) < layout.names.len()));
                }
                Err(error) => {
                    seen[1] += 1;
                    assert!(matches!(error, Error::Data { .. }), "{error}");
                }
            }
        }
        assert!(seen[0] > 100 && seen[1] > 250, "read {}, refused {}", seen[0], seen[1]);
    }
}
