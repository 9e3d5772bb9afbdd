//! Data sets: pixels as u8, labels as numbers, nothing converted.
//!
//! [`open`] finds out what a folder holds (IDX or CIFAR binary files) and gives a [`Dataset`]
//! whose [`Images`] hand out single images in place: `image(i)` is C·H·W bytes, channel planes
//! outermost, each row-major. Cropping, flipping, scaling to floats and the C,H,W,N layout are
//! the business of the op that gathers a batch; this module only says which images
//! ([`loader`]) and from where ([`augment`]). 28x28 sets stay 28x28 here.
//!
//! One file per format: `idx.rs` and `cifar.rs` read strictly, and every bad input is an
//! [`Error::Data`](crate::Error::Data) that names file, byte and remedy.

use std::path::PathBuf;

use crate::error::Result;

pub mod augment;
mod bytes;
mod cifar;
pub mod embedded;
pub mod fetch;
mod folder;
mod http;
mod idx;
mod images;
pub mod loader;
mod names;
mod official;
pub mod sources;
pub mod split;
pub mod stats;
#[cfg(test)]
mod testdata;
pub mod verify;

pub use augment::{Augment, AugmentKind, Placement};
pub use images::{ImageShape, Images};
pub use loader::{BatchOrder, OrderState, sequential_batches};
pub use split::{SplitKind, validation_split};
pub use stats::{ChannelStats, channel_stats, class_counts};
pub use verify::{FileReport, Verdict, verify};

/// Which data set to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSpec {
    /// The 12,000 Fashion-MNIST images inside the binary.
    Embedded,
    /// A folder of the user's; what it holds is told from its files.
    Folder(PathBuf),
}

impl DataSpec {
    /// `embedded` is the embedded set, anything else is a folder (`./embedded` for one of that name).
    pub fn parse(text: &str) -> Self {
        if text == "embedded" { Self::Embedded } else { Self::Folder(text.into()) }
    }
}

impl std::fmt::Display for DataSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

/// A labelled training set and a test set of equal image shape.
#[derive(Debug)]
pub struct Dataset {
    /// `fashion-mnist-12k`, `fashion-mnist`, `mnist`, `cifar-10`, `cifar-100`, or `idx` for IDX
    /// files that are none of these.
    pub name: String,
    /// Images to train and validate on.
    pub train: Images,
    /// Images for the final evaluation only.
    pub test: Images,
    /// Shape of every image of both sets.
    pub shape: ImageShape,
    /// Stored rotations of each volume; 1 for pictures.
    pub views: usize,
    /// Parts of the training images that the set's own protocol trains on one at a time (STL-10); usually none.
    pub folds: Vec<Vec<u32>>,
    /// Name of each class; every label is below its length.
    pub class_names: Vec<String>,
}

/// Opens a data set; decompresses gzipped files, maps the others into memory.
///
/// # Errors
/// `Data` when the folder or one of its files is missing or not what it claims to be (exit
/// status 3), `Io` when the operating system refuses to read one.
pub fn open(spec: &DataSpec) -> Result<Dataset> {
    match spec {
        DataSpec::Embedded => embedded::open(),
        DataSpec::Folder(path) => {
            let found = folder::detect(path)?;
            match found.format {
                folder::Format::Idx => idx::open(&found.dir),
                folder::Format::Cifar10 => cifar::open(&found.dir, &cifar::CIFAR_10),
                folder::Format::Cifar100 => cifar::open(&found.dir, &cifar::CIFAR_100),
            }
        }
    }
}
