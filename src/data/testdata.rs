//! Small data files for tests, in the official layouts.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};

use crate::error::{Error, Result};

/// The message of an error that must be [`Error::Data`] (exit status 3).
pub(super) fn refusal<T>(result: Result<T>) -> String {
    match result {
        Err(error @ Error::Data { .. }) => error.to_string(),
        Err(other) => panic!("not a data error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

/// Pixel `p` of image `i`, different for neighbours in both.
pub(super) fn pixel(i: usize, p: usize) -> u8 {
    (i * 31 + p * 7 + p / 251) as u8
}

/// An IDX image file of `count` images.
pub(super) fn idx_images(count: usize, rows: usize, columns: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for dim in [count, rows, columns] {
        bytes.extend((dim as u32).to_be_bytes());
    }
    bytes.extend((0..count).flat_map(|i| (0..rows * columns).map(move |p| pixel(i, p))));
    bytes
}

/// An IDX label file: 0, 1, ... 9, 0, ...
pub(super) fn idx_labels(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1];
    bytes.extend((count as u32).to_be_bytes());
    bytes.extend((0..count).map(|i| (i % 10) as u8));
    bytes
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// 23 training and 11 test images of 5x4 under the given names (in the order of the four members).
pub(super) fn write_idx(dir: &Path, names: [&str; 4]) {
    let contents = [idx_images(23, 5, 4), idx_labels(23), idx_images(11, 5, 4), idx_labels(11)];
    for (name, bytes) in names.into_iter().zip(contents) {
        let bytes = if name.ends_with(".gz") { gz(&bytes) } else { bytes };
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// The four official names.
pub(super) const IDX_NAMES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// CIFAR records numbered from `first`: CIFAR-10 (label i % 10), or CIFAR-100 (coarse label
/// i % 20, fine label i % 100).
pub(super) fn cifar_records(first: usize, count: usize, fine: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in first..first + count {
        if fine {
            bytes.extend([(i % 20) as u8, (i % 100) as u8]);
        } else {
            bytes.push((i % 10) as u8);
        }
        bytes.extend((0..3072).map(|p| pixel(i, p)));
    }
    bytes
}
