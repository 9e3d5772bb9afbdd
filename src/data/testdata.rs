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

/// The files of STL-10 with this many images: `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin` and
/// `fold_indices.txt`, whose fold f of n is the fifth of the images that ends with image n (f + 1) / 10, in a circle.
pub(super) fn stl(train: usize, test: usize) -> Vec<(&'static str, Vec<u8>)> {
    let images = |count: usize| (0..count).flat_map(|i| (0..27_648).map(move |p| pixel(i, p))).collect();
    let labels = |count: usize| (0..count).map(|i| 1 + (i % 10) as u8).collect();
    let line = |f: usize| {
        let end = train * (f + 1) / 10;
        let numbers = (end + train - train / 5..end + train).map(|i| (i % train).to_string());
        numbers.collect::<Vec<_>>().join(" ") + "\n"
    };
    let folds: String = (0..10).map(line).collect();
    let names = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "fold_indices.txt"];
    names.into_iter().zip([images(train), labels(train), images(test), labels(test), folds.into_bytes()]).collect()
}

/// A tar of these members, in the ustar format.
pub(super) fn tar<N: AsRef<str>, B: AsRef<[u8]>>(members: &[(N, B)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in members {
        bytes.extend(tar_header(name.as_ref(), contents.as_ref().len(), b'0'));
        bytes.extend(contents.as_ref());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// The header of one member of a tar.
pub(super) fn tar_header(name: &str, size: usize, kind: u8) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A zip of these members, stored or deflated.
pub(super) fn zip<N: AsRef<str>, B: AsRef<[u8]>>(members: &[(N, B)], deflate: bool) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, contents) in members {
        let (name, contents) = (name.as_ref().as_bytes(), contents.as_ref());
        let mut crc = flate2::Crc::new();
        crc.update(contents);
        let packed = if deflate {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(contents).unwrap();
            encoder.finish().unwrap()
        } else {
            contents.to_vec()
        };
        // Version, flags, method, time, date, checksum, sizes, length of the name and of the extra field.
        let mut header = vec![20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
        for field in [crc.sum(), packed.len() as u32, contents.len() as u32, name.len() as u32] {
            header.extend(field.to_le_bytes());
        }
        directory.extend(
            [&b"PK\x01\x02\x14\x00"[..], &header, &[0; 10], &(bytes.len() as u32).to_le_bytes(), name].concat(),
        );
        bytes.extend([&b"PK\x03\x04"[..], &header, name, &packed].concat());
    }
    let (start, count) = (bytes.len() as u32, (members.len() as u16).to_le_bytes());
    bytes.extend(&directory);
    let sizes = [(directory.len() as u32).to_le_bytes(), start.to_le_bytes()].concat();
    bytes.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &sizes, &[0; 2]].concat());
    bytes
}

/// A PNG of pixels of 1 (grey), 2 (grey, alpha), 3 (colours) or 4 (colours, alpha) bytes.
pub(super) fn png(width: usize, height: usize, samples: usize, pixels: &[u8]) -> Vec<u8> {
    use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color([Grayscale, GrayscaleAlpha, Rgb, Rgba][samples - 1]);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    bytes
}
