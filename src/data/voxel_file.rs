//! Voxels in a file (`.voxels`): what is kept of a set of meshes, so that they are voxelised once.
//!
//! | byte | what (numbers little-endian) |
//! |---|---|
//! | 0 | `SMASHVOX` |
//! | 8 | u32: version of this layout, 1 |
//! | 12 | u32: voxels along each side, 32 |
//! | 16 | u32: views V of each object |
//! | 20, 24 | u32 each: objects to train on, and to test on |
//! | 28 | u32: bytes T of the text |
//! | 32 | SHA-256 of the listing of what it was made from: a line `NAME\tBYTES\tSTAMP` for each file, sorted; the stamp is the time it was written in ns since 1970, or its CRC-32 in a zip |
//! | 64 | text, UTF-8: the name of the set, then those of its classes in the order of labels, one a line |
//! | 64 + T | u16 for each object: its label; first those to train on |
//! | next multiple of 4096 | objects in the same order, `[view][z][y][x]`, one bit a voxel: x along the bits of a byte from the lowest on; 4096 bytes a view |
//!
//! Volumes are read where they lie.

use std::path::Path;

use crate::data::Dataset;
use crate::data::bytes::Bytes;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::voxels::{SIDE, VIEW_BYTES};
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"SMASHVOX";
const VERSION: u32 = 1;
/// Bytes before the text.
const FIXED: usize = 64;
const MAX_TEXT: usize = 1 << 20;
const REMEDY: &str = "delete it and make it again with `smash-engine data convert`";

/// Everything but the voxels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of the set.
    pub name: String,
    /// Views of each object.
    pub views: usize,
    /// Labels of the objects to train on.
    pub train: Vec<u16>,
    /// Labels of the objects to test on.
    pub test: Vec<u16>,
    pub class_names: Vec<String>,
    /// Digest of the listing of what the file is made from.
    pub source: [u8; 32],
}

impl Header {
    /// Bytes of an object.
    pub fn object_bytes(&self) -> usize {
        self.views * VIEW_BYTES
    }

    /// Objects.
    pub fn len(&self) -> usize {
        self.train.len() + self.test.len()
    }

    /// The file up to its first volume.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = std::iter::once(&self.name).chain(&self.class_names).fold(String::new(), |text, name| {
            // A line is a name.
            text + &name.replace(['\n', '\r'], " ") + "\n"
        });
        let mut bytes = MAGIC.to_vec();
        for number in [VERSION as usize, SIDE, self.views, self.train.len(), self.test.len(), text.len()] {
            bytes.extend((number as u32).to_le_bytes());
        }
        bytes.extend(self.source);
        bytes.extend(text.bytes());
        bytes.extend(self.train.iter().chain(&self.test).flat_map(|label| label.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(VIEW_BYTES), 0);
        bytes
    }

    /// Reads the header of the file `path`, whose contents are `bytes`, and where the first volume begins.
    ///
    /// # Errors
    /// `Data` when this is no such file, of another length than its header says, or with a label of no class.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<(Self, usize)> {
        let refuse = |what: String| Error::data(path, format!("{what}; {REMEDY}"));
        if !bytes.starts_with(MAGIC) {
            return Err(Error::data(path, "is no file of voxels (it does not begin with SMASHVOX); check the path"));
        }
        let Some(fixed) = bytes.first_chunk::<FIXED>() else {
            return Err(refuse(format!("ends after {} bytes, inside its header of {FIXED}", bytes.len())));
        };
        let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
        for (at, what, expected) in [(8, "version", VERSION as usize), (12, "side", SIDE)] {
            if number(at) != expected {
                return Err(refuse(format!("has {what} {} at byte {at}, not {expected}", number(at))));
            }
        }
        let [views, train, test, text] = [16, 20, 24, 28].map(number);
        if views == 0 || views > usize::from(u16::MAX) || train == 0 || test == 0 || text > MAX_TEXT {
            let message = format!(
                "promises {views} views of {train} and {test} objects with {text} bytes of names at byte 16, which is no data set"
            );
            return Err(refuse(message));
        }
        // None of these is beyond 2^33.
        let labels_at = FIXED + text;
        let start = (labels_at + 2 * (train + test)).next_multiple_of(VIEW_BYTES);
        let length = (train + test).checked_mul(views * VIEW_BYTES).and_then(|volumes| volumes.checked_add(start));
        if length != Some(bytes.len()) {
            let expected = length.map_or("more than 2^64".to_owned(), |length| length.to_string());
            return Err(refuse(format!("has {} bytes where its header promises {expected}", bytes.len())));
        }
        let Ok(names) = std::str::from_utf8(&bytes[FIXED..labels_at]) else {
            return Err(refuse(format!("has names at byte {FIXED} that are no text")));
        };
        let classes = names.lines().count().saturating_sub(1);
        if classes > train {
            return Err(refuse(format!("has {classes} classes at byte {FIXED} and only {train} objects to train on")));
        }
        let mut names = names.lines().map(str::to_owned);
        let name = names.next().unwrap_or_default();
        let class_names: Vec<String> = names.collect();
        let labels: Vec<u16> = bytes[labels_at..labels_at + 2 * (train + test)]
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        if let Some(i) = labels.iter().position(|&label| usize::from(label) >= class_names.len()) {
            let (label, at, classes) = (labels[i], labels_at + 2 * i, class_names.len());
            return Err(refuse(format!("has label {label} at byte {at} and {classes} classes")));
        }
        let mut source = [0; 32];
        source.copy_from_slice(&fixed[32..]);
        let (train, test) = (labels[..train].to_vec(), labels[train..].to_vec());
        Ok((Self { name, views, train, test, class_names, source }, start))
    }
}

/// The data set in `bytes`, the contents of the file `path`.
///
/// # Errors
/// As [`Header::parse`].
pub(super) fn dataset(path: &Path, bytes: &Bytes) -> Result<Dataset> {
    let (header, start) = Header::parse(path, bytes)?;
    let (stride, views) = (header.object_bytes(), header.views);
    let middle = start + header.train.len() * stride;
    let images = |range: std::ops::Range<usize>, labels: Vec<u16>| {
        Images::join(vec![Part { bytes: bytes.slice(range), offset: 0, stride, labels }], stride)
    };
    Ok(Dataset {
        train: images(start..middle, header.train),
        test: images(middle..bytes.len(), header.test),
        name: header.name,
        shape: ImageShape { channels: 1, depth: SIDE, height: SIDE, width: SIDE },
        views,
        folds: Vec::new(),
        class_names: header.class_names,
    })
}

/// Any bytes are a file of voxels or a named error.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    dataset(Path::new("x.voxels"), &bytes.to_vec().into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    fn header() -> Header {
        Header {
            name: "shapes".into(),
            views: 2,
            train: vec![0, 1, 1],
            test: vec![1, 0],
            class_names: vec!["ball".into(), "box".into()],
            source: std::array::from_fn(|i| i as u8),
        }
    }

    /// A file whose volume i of view v is full of the byte 10 i + v.
    fn file() -> Vec<u8> {
        let volumes = (0..5u8).flat_map(|i| (0..2u8).flat_map(move |v| [10 * i + v; VIEW_BYTES]));
        header().to_bytes().into_iter().chain(volumes).collect()
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = file();
        assert_eq!(&bytes[..8], b"SMASHVOX");
        let numbers: Vec<u8> = [1u32, 32, 2, 3, 2, 16].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(&bytes[8..32], numbers);
        assert_eq!((bytes[32], bytes[63]), (0, 31));
        assert_eq!(&bytes[64..80], b"shapes\nball\nbox\n");
        assert_eq!(&bytes[80..90], [0, 0, 1, 0, 1, 0, 1, 0, 0, 0]);
        assert_eq!(bytes.len(), 4096 + 5 * 2 * 4096);
        let set = dataset(Path::new("x"), &bytes.clone().into()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((set.name.as_str(), set.views, set.shape.depth), ("shapes", 2, 32));
        assert_eq!((set.train.labels(), set.test.labels()), (&[0, 1, 1][..], &[1, 0][..]));
        assert_eq!(set.class_names, ["ball", "box"]);
        assert_eq!(set.train.image(2), [[20; VIEW_BYTES], [21; VIEW_BYTES]].concat());
        assert_eq!(set.test.image(1)[VIEW_BYTES..], [41; VIEW_BYTES]);
        assert_eq!(Header::parse(Path::new("x"), &bytes).unwrap().0, header());
    }

    #[test]
    fn damage_is_named_with_its_byte() {
        let with = |at: usize, byte: u8| {
            let mut bytes = file();
            bytes[at] = byte;
            refusal(check(&bytes))
        };
        for (at, byte, why) in [
            (0, b'X', "is no file of voxels (it does not begin with SMASHVOX)"),
            (8, 2, "has version 2 at byte 8, not 1; delete it"),
            (12, 64, "has side 64 at byte 12, not 32"),
            (16, 0, "promises 0 views of 3 and 2 objects"),
            (20, 0, "promises 2 views of 0 and 2 objects"),
            (27, 255, "has 45056 bytes where its header promises 35"),
            (31, 255, "with 4278190096 bytes of names at byte 16"),
            (65, 0xff, "has names at byte 64 that are no text"),
            (84, 2, "has label 2 at byte 84 and 2 classes"),
            (75, b'x', "has label 1 at byte 82 and 1 classes"),
        ] {
            let message = with(at, byte);
            assert!(message.starts_with("x.voxels: ") && message.contains(why), "{at}: {message}");
        }
        let many = Header { class_names: vec!["x".into(); 4], ..header() };
        let many = [many.to_bytes(), vec![0; 5 * 2 * VIEW_BYTES]].concat();
        assert!(refusal(check(&many)).contains("has 4 classes at byte 64 and only 3 objects to train on"));
        let good = file();
        for end in [0, 7, 63, 64, 90, 4096, good.len() - 1] {
            assert!(check(&good[..end]).is_err(), "{end}");
        }
        assert!(check(&[&good[..], &[0]].concat()).is_err(), "a byte too many");
        assert!(check(&good).is_ok());
    }
}
