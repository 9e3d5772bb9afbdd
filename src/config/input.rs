//! What the network sees of a data set: settings that were left open follow from its images, and all have to fit them.

use super::{LARGEST, RunConfig};
use crate::cli::AugmentName;
use crate::data::{AugmentKind, Dataset};
use crate::error::{Error, Result};

/// Pictures of this size are halved by the stem: 96x96 then has its blocks at 48, 24 and 12.
const LARGE: usize = 64;

/// Random crops move by one part in so many: 4 pixels of 32, the usual "+", and 12 of 96.
const CROP_SHARE: u32 = 8;

/// What the network sees of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Height and width (and depth of volumes) in pixels.
    pub size: usize,
    /// Filter size of the stem.
    pub stem_kernel: usize,
    /// Stride of the stem.
    pub stem_stride: usize,
    /// How training images are varied.
    pub augment: AugmentKind,
}

impl RunConfig {
    /// Fills in what follows from the data set where nothing was set, so that the record of the run is
    /// whole, and tells what the network will see.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting that does not fit the images.
    pub fn settle(&mut self, dataset: &Dataset) -> Result<Input> {
        let image = dataset.shape;
        let largest = image.height.max(image.width);
        let volumes = image.depth > 1;
        let size = *self.data.size.get_or_insert(largest.next_multiple_of(8));
        if size > LARGEST {
            let message =
                format!("{size} is more than {LARGEST}; bring the pictures to another size with --image-size");
            return Err(Error::config("data.size", message));
        }
        if size < largest || (volumes && size != image.depth) {
            let extent = if volumes { format!("{} x ", image.depth) } else { String::new() };
            let message = match volumes {
                true => "is not the size of the volumes",
                false => "is smaller than the images",
            };
            let message = format!("{size} {message} ({extent}{} x {})", image.height, image.width);
            return Err(Error::config("data.size", message));
        }
        let usual_stride = if size >= LARGE && !volumes { 2 } else { 1 };
        let stem_stride = *self.stem_stride.get_or_insert(usual_stride);
        if volumes && stem_stride != 1 {
            return Err(Error::config("stem_stride", format!("{stem_stride} is for pictures; volumes are not halved")));
        }
        if !size.is_multiple_of(4 * stem_stride) {
            let message = format!("{size} is not a multiple of {}, as two halvings and the stem need", 4 * stem_stride);
            return Err(Error::config("data.size", message));
        }
        let stem_kernel = *self.stem_kernel.get_or_insert(if volumes { 3 } else { 7 });
        let augment = match *self.data.augment.get_or_insert(usual_augment(dataset)) {
            AugmentName::None => AugmentKind::None,
            AugmentName::Volume if volumes => AugmentKind::Volume { views: dataset.views },
            AugmentName::Crop if !volumes => AugmentKind::Crop { pad: size as u32 / CROP_SHARE },
            AugmentName::CropFlip if !volumes => AugmentKind::CropFlip { pad: size as u32 / CROP_SHARE },
            _ => {
                let allowed =
                    if volumes { "volumes take none or volume" } else { "pictures take none, crop or crop-flip" };
                return Err(Error::config("data.augment", allowed));
            }
        };
        if volumes {
            // As in section 4.3 of the paper: fully variable filters would not fit into memory.
            self.space.kernels = vec![3];
        }
        Ok(Input { size, stem_kernel, stem_stride, augment })
    }
}

/// How the images of a set are usually varied: voxels as in section 4.3 of the paper, digits and IDX sets of unknown contents
/// never mirrored.
fn usual_augment(dataset: &Dataset) -> AugmentName {
    match dataset.name.as_str() {
        _ if dataset.shape.depth > 1 => AugmentName::Volume,
        "mnist" | "idx" => AugmentName::Crop,
        _ => AugmentName::CropFlip,
    }
}
