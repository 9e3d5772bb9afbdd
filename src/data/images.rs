//! Images: where the pixels of image `i` lie.
//!
//! Pixels stay in the file they came in: each part (one file) is a byte buffer with an offset and a
//! stride, because CIFAR records interleave labels with pixels. Labels are copied out and
//! checked once, so a label handed out is in range whatever happens to the file later.

use crate::data::bytes::Bytes;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// Shape of one image: a picture, or a volume of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// 1 (grey, or voxels) or 3 (red, green, blue).
    pub channels: usize,
    /// Slices of a volume; 1 for a picture.
    pub depth: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// The shape of a picture.
    pub const fn picture(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, depth: 1, height, width }
    }

    /// Is it a volume of voxels?
    pub const fn is_volume(self) -> bool {
        self.depth > 1
    }

    /// Pixels (or voxels) of one image: channels · depth · height · width.
    pub const fn pixels(self) -> usize {
        self.channels * self.depth * self.height * self.width
    }
}

/// One file's worth of images.
pub(super) struct Part {
    /// The unpacked file.
    pub bytes: Bytes,
    /// Byte at which the pixels of its first image begin.
    pub offset: usize,
    /// Bytes from one image to the next.
    pub stride: usize,
    /// The label of each of its images, already checked.
    pub labels: Vec<u16>,
}

/// Labelled images of one shape, read in place.
pub struct Images {
    /// Parts with the index of their first image; the first starts at 0.
    parts: Vec<(usize, Part)>,
    labels: Vec<u16>,
    pixels: usize,
    /// Tells this set from every other of the process.
    id: u64,
}

/// Sets made so far.
static SETS: AtomicU64 = AtomicU64::new(0);

impl Images {
    /// Joins `parts`, images of `pixels` bytes each, in order. The caller has checked that
    /// each part is long enough for its labels.
    pub(super) fn join(parts: Vec<Part>, pixels: usize) -> Self {
        let mut images = Self {
            parts: Vec::with_capacity(parts.len()),
            labels: Vec::new(),
            pixels,
            id: SETS.fetch_add(1, Ordering::Relaxed),
        };
        for mut part in parts {
            let first = images.labels.len();
            images.labels.append(&mut part.labels);
            images.parts.push((first, part));
        }
        images
    }

    /// Images from memory: `pixels` holds one C,H,W image of `shape` per label.
    ///
    /// # Errors
    /// `Shape` when the two lengths do not agree.
    pub fn from_pixels(pixels: Vec<u8>, labels: Vec<u16>, shape: ImageShape) -> Result<Self> {
        if pixels.len() != labels.len() * shape.pixels() {
            let expected = format!("{} images of {} bytes", labels.len(), shape.pixels());
            return Err(Error::shape("images", expected, format!("{} bytes", pixels.len())));
        }
        let part = Part { bytes: pixels.into(), offset: 0, stride: shape.pixels(), labels };
        Ok(Self::join(vec![part], shape.pixels()))
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when there is not a single image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// A number that no other set of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// All bytes of the files, in which [`place`](Self::place) finds images.
    pub fn parts(&self) -> Vec<&[u8]> {
        self.parts.iter().map(|(_, part)| &part.bytes[..]).collect()
    }

    /// The part that holds image `i`, and the byte of it at which its pixels begin.
    pub fn place(&self, i: usize) -> (usize, usize) {
        let at = self.parts.partition_point(|(first, _)| *first <= i) - 1;
        let (first, part) = &self.parts[at];
        (at, part.offset + (i - first) * part.stride)
    }

    /// The C·H·W bytes of image `i`, channel planes outermost, rows from the top.
    ///
    /// # Panics
    /// When `i` is not below [`len`](Self::len): indices come from the engine, not from a user.
    pub fn image(&self, i: usize) -> &[u8] {
        assert!(i < self.len(), "image {i} of {}", self.len());
        let (part, start) = self.place(i);
        &self.parts[part].1.bytes[start..start + self.pixels]
    }

    /// The class of image `i`, below the number of classes. Panics like [`image`](Self::image).
    pub fn label(&self, i: usize) -> u16 {
        self.labels[i]
    }

    /// The class of every image, in order.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({} of {} bytes)", self.len(), self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_several_parts_keep_offset_stride_and_order() {
        let part = |base: u8, count: u8| Part {
            bytes: (0..1 + count * 5).map(|i| base + i).collect::<Vec<u8>>().into(),
            offset: 3,
            stride: 5,
            labels: (0..count.into()).map(|i| u16::from(base) + i).collect(),
        };
        // Three bytes of image after two of something else, one byte in; the middle part is empty.
        let images = Images::join(vec![part(0, 2), part(50, 0), part(100, 3)], 3);
        let starts = [3, 8, 103, 108, 113];
        assert_eq!(images.len(), starts.len());
        for (i, start) in starts.into_iter().enumerate() {
            assert_eq!(images.image(i), [start, start + 1, start + 2], "image {i}");
        }
        assert_eq!(images.labels(), [0, 1, 100, 101, 102]);
        assert_eq!(images.label(3), 101);
    }

    #[test]
    fn pixels_that_do_not_match_the_labels_are_a_shape_error() {
        let shape = ImageShape::picture(3, 2, 2);
        assert!(Images::from_pixels(vec![0; 24], vec![1, 2], shape).is_ok());
        let error = Images::from_pixels(vec![0; 23], vec![1, 2], shape).unwrap_err();
        assert!(error.to_string().contains("2 images of 12 bytes, got 23"), "{error}");
    }
}
