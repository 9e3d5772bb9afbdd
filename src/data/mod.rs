//! Data sets: pixels as u8, labels as numbers, nothing converted.
//!
//! [`open`] finds out what a folder or archive holds and gives a [`Dataset`]
//! whose [`Images`] hand out single images in place: `image(i)` is C·H·W bytes, channel planes
//! outermost, each row-major, or, of volumes, all views of an object, a bit for each voxel. Cropping, flipping, scaling to floats and the C,H,W,N layout are
//! the business of the op that gathers a batch; this module only says which images
//! ([`loader`]) and from where ([`augment`]). 28x28 sets stay 28x28 here.
//!
//! `files.rs` lists the files of a folder or archive, `folder.rs` tells the format from their names, and one file
//! per format (`idx.rs`, `cifar.rs`, `stl.rs`) reads it strictly: every bad input is an [`Error::Data`]
//! that names file, byte and remedy.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

mod arrays;
pub mod augment;
mod bytes;
mod cifar;
mod cifar_python;
mod codecs;
pub mod embedded;
pub mod fetch;
mod files;
mod folder;
mod http;
mod idx;
mod imagenet32;
mod images;
pub mod loader;
mod modelnet;
mod names;
pub mod npy;
mod npz;
mod numpy;
mod off;
pub mod official;
pub mod parsers;
mod pickle;
pub mod picture;
mod pictures;
mod resize;
pub mod split;
pub mod stats;
mod stl;
mod tar;
#[cfg(test)]
mod testarrays;
#[cfg(test)]
mod testdata;
pub mod verify;
mod voxel_file;
mod voxels;
mod zip;

pub use augment::{Augment, AugmentKind, Placement};
pub use images::{ImageShape, Images};
pub use loader::{BatchOrder, OrderState, sequential_batches};
pub use modelnet::{Conversion, Converted, convert};
pub use split::{SplitKind, validation_split};
pub use stats::{ChannelStats, channel_stats, class_counts, picture_stats};
pub use verify::{FileReport, Verdict, verify};

/// Which data set to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSpec {
    /// The 12,000 Fashion-MNIST images inside the binary.
    Embedded,
    /// A folder or archive of the user's; what it holds is told from its files.
    Folder(PathBuf),
}

impl DataSpec {
    /// `embedded` is the embedded set, anything else is a folder or archive (`./embedded` for one of that name).
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
    /// That of `data list`, `idx` for other IDX files, and of the user's own pictures and arrays that of their folder or file.
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

/// How a data set is read where its files leave a choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Height and width in pixels that pictures are brought to; none leaves them as they are.
    pub image_size: Option<usize>,
    /// Called while meshes are voxelised, which takes minutes and is done once.
    pub progress: Option<fn(&Conversion<'_>)>,
}

/// Far more than networks here can take.
const MAX_IMAGE_SIZE: usize = 4096;

/// Opens a data set with default [`Options`].
///
/// # Errors
/// Those of [`open_with`].
pub fn open(spec: &DataSpec) -> Result<Dataset> {
    open_with(spec, Options::default())
}

/// Opens a data set; decompresses what is packed, maps other files into memory.
///
/// # Errors
/// `Data` when the folder or archive or one of its files is missing or not what it claims to be (exit
/// status 3), `Io` when the operating system refuses to read one, `Config` for an image size out of range.
pub fn open_with(spec: &DataSpec, options: Options) -> Result<Dataset> {
    if let Some(size) = options.image_size.filter(|size| !(1..=MAX_IMAGE_SIZE).contains(size)) {
        return Err(Error::config("--image-size", format!("{size} is not between 1 and {MAX_IMAGE_SIZE} pixels")));
    }
    match spec {
        DataSpec::Embedded => resize::to_size(embedded::open()?, options.image_size, Path::new("(embedded)")),
        DataSpec::Folder(path) => {
            let found = folder::detect(path)?;
            let set = (found.format.open)(&found.files, options)?;
            if set.class_names.len() < 2 {
                return Err(Error::data(
                    path,
                    "holds images of one class; there is nothing to tell apart, add another",
                ));
            }
            Ok(printable(resize::to_size(set, options.image_size, path)?))
        }
    }
}

/// `set` with names that can be printed: some come from files, and would move the cursor of a terminal.
fn printable(mut set: Dataset) -> Dataset {
    for name in set.class_names.iter_mut().chain([&mut set.name]) {
        *name = name.replace(char::is_control, "\u{fffd}");
    }
    set
}

/// How a set that goes by the name of a published one differs from it in numbers: files cut at the end of a record
/// are well formed.
pub fn unlike_published(set: &Dataset) -> Option<String> {
    let published = official::SETS.into_iter().find(|published| published.name == set.name)?;
    let [train, test] = published.images.map(|count| count as usize);
    let found = (set.train.len(), set.test.len());
    (found != (train, test)).then(|| {
        format!(
            "{} has {} training and {} test images here, and {train} and {test} as published; `data verify` tells why",
            set.name, found.0, found.1
        )
    })
}
