//! STL-10 in its binary version: 96x96 pictures, 10 classes, training images in 10 folds.
//!
//! `*_X.bin` has 27648 bytes per image: the red, green and blue planes of 96x96, each *column by column*, so they
//! are transposed here, once. `*_y.bin` has one label 1-10 per image. `fold_indices.txt` has 10 lines, each a fold:
//! the numbers, from 0 on and separated by blanks, of the 1000 of 5000 training images that the protocol of the set
//! trains on at a time. Source: <https://cs.stanford.edu/~acoates/stl10/>. `unlabeled_X.bin` is never read. Any
//! number of images is read (so that a part of the set can be tried); a fold is always a fifth of them.

use std::path::Path;

use crate::data::bytes;
use crate::data::files::Files;
use crate::data::images::{ImageShape, Images};
use crate::data::{Dataset, names};
use crate::error::{Error, Result};

const SHAPE: ImageShape = ImageShape::picture(3, 96, 96);
const SIDE: usize = 96;
const CLASSES: u8 = 10;
/// The largest file, the test images, has 221 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Ten lines of a thousand numbers of four digits are 50 kB.
const MAX_FOLDS_BYTES: u64 = 1 << 20;
const FOLDS: &str = "fold_indices.txt";
const FOLD_COUNT: usize = 10;
const AGAIN: &str = "copy or download the file again";

/// Images and labels, of training before test.
pub(super) const MEMBERS: [&str; 4] = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"];

/// How large a file of this name may be, if it is one of the set.
pub(super) fn limit(name: &str) -> Option<u64> {
    match name {
        FOLDS => Some(MAX_FOLDS_BYTES),
        "class_names.txt" => Some(names::MAX_BYTES),
        _ => MEMBERS.contains(&name).then_some(MAX_BYTES),
    }
}

/// Opens the set among `files`. Without `fold_indices.txt` there are no folds.
pub(super) fn open(files: &Files) -> Result<Dataset> {
    if let Some(missing) = MEMBERS.into_iter().find(|name| !files.has(name)) {
        let message = format!("is missing; put {} into one folder", MEMBERS.join(", "));
        return Err(Error::data(files.path(missing), message));
    }
    let [train_x, train_y, test_x, test_y] = MEMBERS;
    let read = |images: &str, labels: &str| {
        let pixels = parse_images(&files.path(images), &files.bytes(images, MAX_BYTES)?)?;
        let path = files.path(labels);
        let labels = parse_labels(&path, &files.bytes(labels, MAX_BYTES)?)?;
        let count = pixels.len() / SHAPE.pixels();
        if count != labels.len() {
            let message = format!("holds {} labels, but {images} has {count} images; {AGAIN}", labels.len());
            return Err(Error::data(path, message));
        }
        Images::from_pixels(pixels, labels, SHAPE)
    };
    let (train, test) = (read(train_x, train_y)?, read(test_x, test_y)?);
    let folds = if files.has(FOLDS) {
        parse_folds(&files.path(FOLDS), &files.bytes(FOLDS, MAX_FOLDS_BYTES)?, train.len())?
    } else {
        Vec::new()
    };
    Ok(Dataset {
        name: "stl-10".to_owned(),
        train,
        test,
        shape: SHAPE,
        views: 1,
        folds,
        class_names: names::read_or(files, "class_names.txt", &names::STL_10)?,
    })
}

/// The images with their planes row by row.
fn parse_images(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let (image, excess) = (SHAPE.pixels(), bytes.len() % SHAPE.pixels());
    if excess != 0 {
        let message = format!(
            "{} bytes are not a whole number of images of {image} bytes: {} images and {excess} bytes (truncated, or \
             another file); {AGAIN}",
            bytes.len(),
            bytes.len() / image
        );
        return Err(Error::data(path, message));
    }
    let mut pixels = bytes::room(path, bytes.len())?;
    pixels.resize(bytes.len(), 0);
    for (rows, columns) in pixels.chunks_exact_mut(SIDE * SIDE).zip(bytes.chunks_exact(SIDE * SIDE)) {
        for (x, column) in columns.chunks_exact(SIDE).enumerate() {
            for (row, &pixel) in rows.chunks_exact_mut(SIDE).zip(column) {
                row[x] = pixel;
            }
        }
    }
    Ok(pixels)
}

/// Classes, counted from 0.
fn parse_labels(path: &Path, bytes: &[u8]) -> Result<Vec<u16>> {
    let class = |(i, &label): (usize, &u8)| match label.checked_sub(1) {
        Some(class) if class < CLASSES => Ok(class.into()),
        _ => {
            let message = format!("label {label} of image {i}, at byte {i}, is not in 1 to {CLASSES}; {AGAIN}");
            Err(Error::data(path, message))
        }
    };
    bytes.iter().enumerate().map(class).collect()
}

/// Ten folds of a fifth of the `images` each.
fn parse_folds(path: &Path, bytes: &[u8], images: usize) -> Result<Vec<Vec<u32>>> {
    let refuse = |message: String| Error::data(path, format!("{message}; {AGAIN}"));
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("is not text".into()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut folds = Vec::new();
    for (number, line) in lines.enumerate() {
        let (mut fold, mut seen) = (Vec::new(), vec![false; images]);
        for index in line.split_ascii_whitespace() {
            let place =
                || format!("of fold {}, at byte {}", number + 1, index.as_ptr() as usize - text.as_ptr() as usize);
            let Some(i) = index.parse().ok().filter(|&i: &u32| (i as usize) < images) else {
                let index: String = index.chars().take(20).collect();
                return Err(refuse(format!(
                    "index {index:?} {}, is no number of 0 to {}",
                    place(),
                    images.saturating_sub(1)
                )));
            };
            if std::mem::replace(&mut seen[i as usize], true) {
                return Err(refuse(format!("index {i} {}, is there twice", place())));
            }
            fold.push(i);
        }
        if fold.len() != images / 5 {
            let (got, expected) = (fold.len(), images / 5);
            return Err(refuse(format!("fold {} has {got} indices where {expected} are expected", number + 1)));
        }
        folds.push(fold);
    }
    if folds.len() != FOLD_COUNT {
        return Err(refuse(format!("has {} lines where {FOLD_COUNT} folds are expected", folds.len())));
    }
    Ok(folds)
}

/// Reads a file of folds (of 300 images), or else of labels, or else of images.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let path = Path::new("stl10");
    let folds = parse_folds(path, bytes, 300).map(drop);
    folds.or_else(|_| parse_labels(path, bytes).map(drop)).or_else(|_| parse_images(path, bytes).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::{gz, refusal, stl, tar};
    use crate::data::{DataSpec, open as open_spec};

    /// 300 training images, so that indices do not fit in a byte, and 3 test images.
    fn write(dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        for (name, bytes) in stl(300, 3) {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    fn open_in(dir: &Path) -> Result<Dataset> {
        open(&Files::open(dir)?)
    }

    #[test]
    fn the_set_is_read_from_its_folder_the_one_above_and_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("above/stl10_binary");
        write(&inner);
        // What the archive has beside: 2.8 GB that nobody needs, here of a size that no reader would take.
        std::fs::write(inner.join("unlabeled_X.bin"), [0; 100]).unwrap();
        let mut members: Vec<_> = stl(300, 3).into_iter().map(|(n, b)| (format!("stl10_binary/{n}"), b)).collect();
        members.insert(2, ("stl10_binary/unlabeled_X.bin".into(), vec![7; 100_000]));
        std::fs::write(dir.path().join("stl10_binary.tar.gz"), gz(&tar(&members))).unwrap();
        for place in ["above/stl10_binary", "above", "stl10_binary.tar.gz"] {
            let set = open_spec(&DataSpec::Folder(dir.path().join(place))).unwrap();
            assert_eq!((set.name.as_str(), set.train.len(), set.test.len(), set.views), ("stl-10", 300, 3, 1));
            assert_eq!((set.shape, set.class_names[1].as_str()), (SHAPE, "bird"));
            assert_eq!((set.train.label(0), set.train.label(299), set.test.labels()), (0, 9, &[0, 1, 2][..]));
            // In the file, pixel (y, x) of plane c of image i is at byte c * 9216 + x * 96 + y.
            let image = stl(300, 3)[0].1[299 * 27_648..].to_vec();
            for (c, y, x) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 5, 90), (2, 95, 94)] {
                let place = (c * 96 + y) * 96 + x;
                assert_eq!(set.train.image(299)[place], image[(c * 96 + x) * 96 + y], "c {c} y {y} x {x}");
            }
        }
    }

    #[test]
    fn folds_hold_indices_beyond_255() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        let set = open_in(dir.path()).unwrap();
        assert_eq!(set.folds.len(), 10);
        assert!(set.folds.iter().all(|fold| fold.len() == 60));
        assert_eq!(set.folds[9][57..], [297, 298, 299]);
        std::fs::remove_file(dir.path().join(FOLDS)).unwrap();
        assert!(open_in(dir.path()).unwrap().folds.is_empty());
    }

    #[test]
    fn bad_folds_are_refused_with_fold_and_byte() {
        let folds = String::from_utf8(stl(300, 3)[4].1.clone()).unwrap();
        let refuse = |text: &str| refusal(parse_folds(Path::new("f.txt"), text.as_bytes(), 300));
        let second = folds.lines().next().unwrap().len() + 1;
        let out = refuse(&folds.replacen("\n0 ", "\n300 ", 1));
        assert!(
            out.contains(&format!("f.txt: index \"300\" of fold 2, at byte {second}, is no number of 0 to 299")),
            "{out}"
        );
        assert!(refuse(&folds.replacen("\n0 ", "\n-1 ", 1)).contains("index \"-1\" of fold 2"));
        assert!(refuse(&folds.replacen("\n0 ", "\n99999999999 ", 1)).contains("is no number"));
        let twice = refuse(&folds.replacen("\n0 1 ", "\n0 0 ", 1));
        assert!(twice.contains(&format!("index 0 of fold 2, at byte {}, is there twice", second + 2)), "{twice}");
        assert!(refuse(&folds.replacen("\n0 ", "\n", 1)).contains("fold 2 has 59 indices where 60 are expected"));
        assert!(refuse(&folds[..second]).contains("has 1 lines where 10 folds are expected"));
        assert!(refuse(&format!("{folds}{}", &folds[..second])).contains("has 11 lines"));
        assert!(refusal(parse_folds(Path::new("f.txt"), &[0xff; 9], 300)).contains("is not text"));
    }

    #[test]
    fn wrong_labels_sizes_and_missing_files_are_refused_by_name() {
        let refuse = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path());
            let path = dir.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            refusal(open_in(dir.path()))
        };
        for label in [0, 11] {
            let message = refuse("train_y.bin", &|bytes| bytes[280] = label);
            let expected = format!("train_y.bin: label {label} of image 280, at byte 280, is not in 1 to 10");
            assert!(message.contains(&expected), "{message}");
        }
        let short = refuse("test_X.bin", &|bytes| bytes.truncate(3 * 27_648 - 1));
        assert!(short.contains("test_X.bin: 82943 bytes are not a whole number of images"), "{short}");
        assert!(short.contains("2 images and 27647 bytes"), "{short}");
        let few = refuse("test_X.bin", &|bytes| bytes.truncate(27_648));
        assert!(few.contains("test_y.bin: holds 3 labels, but test_X.bin has 1 images"), "{few}");
        assert!(refuse("test_y.bin", &Vec::clear).contains("is empty"));
        for name in MEMBERS {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path());
            std::fs::remove_file(dir.path().join(name)).unwrap();
            let message = refusal(open_spec(&DataSpec::Folder(dir.path().into())));
            assert!(message.contains(&format!("{name}: is missing")), "{message}");
        }
    }
}
