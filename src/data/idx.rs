//! IDX files (MNIST, Fashion-MNIST), plain or gzipped, read strictly.
//!
//! An image file is the magic `00 00 08 03` (u8, three dimensions), then count, rows and columns
//! as big-endian u32, then count·rows·columns pixels; a label file is `00 00 08 01`, count,
//! count labels. Format: <http://yann.lecun.com/exdb/mnist/>. Whether a file is gzipped is told
//! from its first two bytes, because browsers unpack downloads without renaming them.
//! Nothing is unpacked beyond the size the header promises, plus one byte to see the excess.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::data::bytes::Bytes;
use crate::data::files::Files;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::zip::MAX_EXPANSION;
use crate::data::{Dataset, names, official};
use crate::error::{Error, Result};

/// The most a header may promise. MNIST has 47 MB; more than this is a damaged header.
const MAX_BYTES: u64 = 1 << 30;
const CLASSES: u8 = 10;
const AGAIN: &str = "copy or download the file again";

/// What an IDX file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Images,
    Labels,
}

impl Kind {
    fn dimensions(self) -> usize {
        if self == Self::Images { 3 } else { 1 }
    }

    fn magic(self) -> [u8; 4] {
        [0, 0, 8, self.dimensions() as u8]
    }

    fn header_bytes(self) -> usize {
        4 + 4 * self.dimensions()
    }

    fn name(self) -> &'static str {
        if self == Self::Images { "images" } else { "labels" }
    }
}

/// One of the four files of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// `train-images` and so on.
    pub stem: &'static str,
    pub kind: Kind,
}

/// Training images and labels, test images and labels.
pub(super) const MEMBERS: [Member; 4] = [
    Member { stem: "train-images", kind: Kind::Images },
    Member { stem: "train-labels", kind: Kind::Labels },
    Member { stem: "t10k-images", kind: Kind::Images },
    Member { stem: "t10k-labels", kind: Kind::Labels },
];

impl Member {
    /// The official name, without `.gz`.
    pub fn file_name(&self) -> String {
        format!("{}-idx{}-ubyte", self.stem, self.kind.dimensions())
    }

    /// Its names, in order of preference: unpacked before gzipped, because that one is read in place.
    fn names(&self) -> [String; 4] {
        let dashed = self.file_name();
        let dotted = format!("{}.idx{}-ubyte", self.stem, self.kind.dimensions());
        [dashed.clone(), dotted.clone(), dashed + ".gz", dotted + ".gz"]
    }

    /// Its name among `files`, in any spelling.
    pub fn find(&self, files: &Files) -> Option<String> {
        self.names().into_iter().find(|name| files.has(name))
    }
}

/// How large a file of this name may be, if it is one of a set.
pub(super) fn limit(name: &str) -> Option<u64> {
    MEMBERS.iter().any(|member| member.names().iter().any(|other| other == name)).then_some(MAX_BYTES)
}

/// A checked file: `dims[0]` images or labels from byte `header` on.
pub(super) struct IdxFile {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    /// Count, rows, columns; a label file has one "row" and "column".
    dims: [u32; 3],
    header_bytes: usize,
    /// Size of the whole unpacked file.
    total_bytes: u64,
}

/// Opens the set among `files`.
pub(super) fn open(files: &Files) -> Result<Dataset> {
    let read_member = |member: Member| {
        let Some(name) = member.find(files) else {
            let message = "is missing (plain or .gz); put all four files of the set into one folder";
            return Err(Error::data(files.path(&member.file_name()), message));
        };
        read(&files.path(&name), member.kind, files.bytes(&name, MAX_BYTES)?)
    };
    let [a, b, c, d] = MEMBERS;
    let members = [read_member(a)?, read_member(b)?, read_member(c)?, read_member(d)?];
    assemble(members, |digest| official::idx_set(&files.root(), &[digest]))
}

/// Joins the files of [`MEMBERS`], in that order, to a data set; `recognise` gets the SHA-256 of
/// the unpacked training labels.
pub(super) fn assemble(
    [train_images, train_labels, test_images, test_labels]: [IdxFile; 4],
    recognise: impl FnOnce(&str) -> Option<&'static official::Set>,
) -> Result<Dataset> {
    let [_, height, width] = train_images.header.dims;
    if test_images.header.dims[1..] != [height, width] {
        let [_, h, w] = test_images.header.dims;
        let message =
            format!("images are {h}x{w}, but those for training are {height}x{width}; the files are of different sets");
        return Err(Error::data(test_images.path, message));
    }
    let set = recognise(&official::hex(&Sha256::digest(&train_labels.bytes[..])));
    let class_names =
        if set.is_some_and(|set| set.name.starts_with("fashion")) { names::FASHION } else { names::DIGITS };
    let shape = ImageShape::picture(1, height as usize, width as usize);
    Ok(Dataset {
        name: set.map_or("idx", |set| set.name).to_owned(),
        train: label(train_images, train_labels)?,
        test: label(test_images, test_labels)?,
        shape,
        views: 1,
        folds: Vec::new(),
        class_names: names::owned(&class_names),
    })
}

fn label(images: IdxFile, labels: IdxFile) -> Result<Images> {
    let ([count, height, width], [label_count, ..]) = (images.header.dims, labels.header.dims);
    if count != label_count {
        let message = format!(
            "holds {label_count} labels, but {} has {count} images; the files are of different sets",
            images.path.display()
        );
        return Err(Error::data(labels.path, message));
    }
    let header = labels.header.header_bytes;
    let values = &labels.bytes[header..];
    if let Some(i) = values.iter().position(|&label| label >= CLASSES) {
        let message = format!(
            "label {} of image {i}, at byte {}, is not in 0 to {}; {AGAIN}",
            values[i],
            header + i,
            CLASSES - 1
        );
        return Err(Error::data(&labels.path, message));
    }
    let pixels = height as usize * width as usize;
    let labels = values.iter().map(|&label| label.into()).collect();
    let part = Part { bytes: images.bytes, offset: images.header.header_bytes, stride: pixels, labels };
    Ok(Images::join(vec![part], pixels))
}

/// Reads a file, which is unpacked if it is gzipped; `path` is its name in errors.
pub(super) fn read(path: &Path, kind: Kind, bytes: Bytes) -> Result<IdxFile> {
    let packed = bytes.starts_with(&[0x1f, 0x8b]);
    let bytes = if packed { unpack(path, kind, &bytes)?.into() } else { bytes };
    let header = parse_header(path, kind, &bytes)?;
    check_length(path, &header, bytes.len() as u64)?;
    Ok(IdxFile { path: path.to_path_buf(), bytes, header })
}

/// Reads a file of images, or else of labels.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let read = |kind| read(Path::new("idx"), kind, bytes.to_vec().into()).map(drop);
    read(Kind::Images).or_else(|_| read(Kind::Labels))
}

/// Unpacks at most what the header promises, plus one byte.
fn unpack(path: &Path, kind: Kind, packed: &[u8]) -> Result<Vec<u8>> {
    let mut stream = MultiGzDecoder::new(packed);
    let mut bytes = Vec::with_capacity(kind.header_bytes());
    let mut read = |bytes: &mut Vec<u8>, limit: u64| {
        let outcome = stream.by_ref().take(limit).read_to_end(bytes);
        outcome.map_err(|error| {
            let message = format!("bad gzip after {} unpacked bytes ({error}); {AGAIN}", bytes.len());
            Error::data(path, message)
        })
    };
    read(&mut bytes, kind.header_bytes() as u64)?;
    let header = parse_header(path, kind, &bytes)?;
    let rest = header.total_bytes + 1 - bytes.len() as u64;
    // What so small a file cannot expand to is not reserved, whatever its header says.
    bytes.reserve_exact(rest.min(packed.len() as u64 * MAX_EXPANSION) as usize);
    read(&mut bytes, rest)?;
    if bytes.len() as u64 > header.total_bytes {
        let message = format!("unpacks to more than the {} bytes its header promises; {AGAIN}", header.total_bytes);
        return Err(Error::data(path, message));
    }
    Ok(bytes)
}

fn parse_header(path: &Path, kind: Kind, bytes: &[u8]) -> Result<Header> {
    let header_bytes = kind.header_bytes();
    if let Some(magic) = bytes.first_chunk::<4>()
        && *magic != kind.magic()
    {
        return Err(Error::data(path, wrong_magic(kind, *magic)));
    }
    if bytes.len() < header_bytes {
        let message =
            format!("truncated: ends after {} of the {header_bytes} bytes of its header; {AGAIN}", bytes.len());
        return Err(Error::data(path, message));
    }
    let mut dims = [1u32; 3];
    for (i, word) in bytes[4..header_bytes].chunks_exact(4).enumerate() {
        dims[i] = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        if dims[i] == 0 {
            let what = ["count", "number of rows", "number of columns"][i];
            return Err(Error::data(path, format!("the {what}, at byte {}, is 0; {AGAIN}", 4 + 4 * i)));
        }
    }
    let sized = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim.into()));
    match sized.map(|size| size.saturating_add(header_bytes as u64)).filter(|&total| total <= MAX_BYTES) {
        Some(total_bytes) => Ok(Header { dims, header_bytes, total_bytes }),
        None => {
            let [count, rows, columns] = dims;
            let message = format!(
                "the header, from byte 4 on, promises {count} {} of {rows}x{columns} bytes, beyond the limit of \
                 {MAX_BYTES} bytes; {AGAIN}",
                kind.name()
            );
            Err(Error::data(path, message))
        }
    }
}

fn check_length(path: &Path, header: &Header, length: u64) -> Result<()> {
    let promised = header.total_bytes;
    let message = match length {
        _ if length == promised => return Ok(()),
        _ if length < promised => {
            format!("truncated: ends after {length} of the {promised} bytes its header promises; {AGAIN}")
        }
        _ => format!(
            "{} bytes too many, from byte {promised} on, where its header says it ends; {AGAIN}",
            length - promised
        ),
    };
    Err(Error::data(path, message))
}

fn wrong_magic(kind: Kind, magic: [u8; 4]) -> String {
    let expected = kind.magic();
    let other = if kind == Kind::Images { Kind::Labels } else { Kind::Images };
    let mut reversed = magic;
    reversed.reverse();
    let spell = |m: [u8; 4]| format!("{:02x} {:02x} {:02x} {:02x}", m[0], m[1], m[2], m[3]);
    let start =
        format!("starts with {} at byte 0 where IDX {} start with {}", spell(magic), kind.name(), spell(expected));
    if reversed == expected {
        format!("{start}: its header is little-endian; write the header words in big-endian order")
    } else if magic == other.magic() {
        format!("{start}: it holds {}; the files are swapped or misnamed", other.name())
    } else if magic[..2] == [0, 0] && magic[3] == expected[3] {
        format!("{start}: its elements are of type 0x{:02x}, only 0x08 (u8) is read; convert it", magic[2])
    } else if magic[..3] == expected[..3] {
        format!("{start}: it has {} dimensions, {} are expected; convert it", magic[3], expected[3])
    } else {
        format!("{start}, and gzip files with 1f 8b; {AGAIN}")
    }
}

#[cfg(test)]
mod tests;
