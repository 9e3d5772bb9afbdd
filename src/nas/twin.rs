//! What surrounds an architecture in a network, and what its convolutions are there.
//!
//! A network for volumes is the 3-D twin of the architecture (Brock et al. 2018, section 4.3):
//!
//! | | pictures | volumes |
//! |---|---|---|
//! | stem | k x k, stride 1 or 2 | k x k x k, stride 1 |
//! | body filters | kernel [rows, columns], dilation [rows, columns] | 3 x 3 x 3 whatever the kernel, dilation \[rows, rows, columns\] |
//! | transitions | 2 x 2 pooling | 2 x 2 x 2 pooling, until one slice is left |
//! | head | mean of the picture | mean of the volume |
//!
//! Groups, widths, banks, 1x1 convolutions and BatchNorm are the same. A search on volumes has a space of one kernel, so
//! that the encoding says nothing about kernels.

use crate::error::{Error, Result};
use crate::nas::arch::Conv;
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};

/// Taps of a volume's body filters along each axis.
const TWIN_KERNEL: usize = 3;

/// What surrounds an architecture in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkShape {
    /// Channels of an image.
    pub image_channels: usize,
    /// Slices of an image: 1 for pictures, more for volumes.
    pub image_depth: usize,
    /// Height and width of the image after padding, in pixels.
    pub image_size: usize,
    /// 1 or, for pictures, 2: of how many pixels along an axis the stem keeps one.
    pub stem_stride: usize,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Filter size of the stem.
    pub stem_kernel: usize,
}

/// The taps of a convolution: along slices, rows and columns. A filter of pictures has one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// How many.
    pub kernel: [usize; 3],
    /// How far apart.
    pub dilation: [usize; 3],
}

impl NetworkShape {
    /// For pictures, which the stem leaves in full size.
    pub const fn pictures(image_channels: usize, image_size: usize, classes: usize, stem_kernel: usize) -> Self {
        Self { image_channels, image_depth: 1, image_size, stem_stride: 1, classes, stem_kernel }
    }

    /// Checks that networks can be built for such images.
    ///
    /// # Errors
    /// [`Error::Architecture`] names the field and what is allowed.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, message: String| Err(Error::architecture(format!("shape.{field}"), message));
        let ranges = [
            ("image_channels", self.image_channels, 1, 1024),
            ("image_depth", self.image_depth, 1, 1024),
            ("image_size", self.image_size, 4, 1024),
            ("stem_stride", self.stem_stride, 1, 2),
            ("classes", self.classes, 1, 1 << 16),
            ("stem_kernel", self.stem_kernel, 1, 11),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return wrong(field, format!("{value} is not between {least} and {most}"));
            }
        }
        // Two transitions halve the picture, and the stem may; volumes stay at one slice once they have it.
        if !self.image_size.is_multiple_of(4 * self.stem_stride) {
            return wrong("image_size", format!("{} is not a multiple of {}", self.image_size, 4 * self.stem_stride));
        }
        if self.stem_kernel.is_multiple_of(2) {
            return wrong("stem_kernel", format!("{} is even; \"same\" padding needs an odd one", self.stem_kernel));
        }
        if self.image_depth > 2 && !self.image_depth.is_multiple_of(4) {
            return wrong("image_depth", format!("{} is neither 1, 2 nor a multiple of 4", self.image_depth));
        }
        if self.is_volume() && self.stem_stride != 1 {
            return wrong("stem_stride", "is for pictures; volumes are not halved".into());
        }
        Ok(())
    }

    /// Are the images volumes?
    pub fn is_volume(&self) -> bool {
        self.image_depth > 1
    }

    /// A batch of `n` images.
    pub fn batch(&self, n: usize) -> Shape {
        Shape::new(self.image_channels, self.image_size, self.image_size, n).with_depth(self.image_depth)
    }

    /// Slices, rows and columns of an image.
    pub fn image(&self) -> [usize; 3] {
        [self.image_depth, self.image_size, self.image_size]
    }

    /// Slices, rows and columns in block `block`.
    pub fn extent(&self, block: usize) -> [usize; 3] {
        let size = (self.image_size / self.stem_stride) >> block;
        [(self.image_depth >> block).max(1), size, size]
    }

    /// The taps of the stem.
    pub fn stem(&self) -> Taps {
        Taps { kernel: self.cube(self.stem_kernel), dilation: [1; 3] }
    }

    /// The taps of `conv` of an op's body.
    pub fn body(&self, conv: &Conv) -> Taps {
        let [rows, columns] = conv.dilation;
        if self.is_volume() {
            Taps { kernel: [TWIN_KERNEL; 3], dilation: [rows, rows, columns] }
        } else {
            Taps { kernel: [1, conv.kernel[0], conv.kernel[1]], dilation: [1, rows, columns] }
        }
    }

    /// The stored kernel of a body filter that all architectures with kernels of at most `largest` share.
    pub fn shared_body(&self, largest: usize) -> Taps {
        Taps { kernel: self.cube(if self.is_volume() { TWIN_KERNEL } else { largest }), dilation: [1; 3] }
    }

    fn cube(&self, kernel: usize) -> [usize; 3] {
        [if self.is_volume() { kernel } else { 1 }, kernel, kernel]
    }
}

impl Taps {
    /// The extent of a parameter of `outputs` filters of `inputs` channels: four numbers, or five with layers.
    pub fn dims(&self, outputs: usize, inputs: usize) -> Vec<usize> {
        let layers = self.kernel[0] == 1;
        [outputs, inputs].into_iter().chain(self.kernel.into_iter().skip(usize::from(layers))).collect()
    }

    /// The kernel as filters are described: layers under one another.
    pub fn rows_and_columns(&self) -> [usize; 2] {
        [self.kernel[0] * self.kernel[1], self.kernel[2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::options::Nonlinearity;

    const CONV: Conv = Conv { kernel: [5, 7], dilation: [2, 1], groups: 4, activation: Nonlinearity::Relu };

    #[test]
    fn a_volume_has_cubes_where_a_picture_has_the_kernels_of_the_architecture() {
        let picture = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(3, 96, 10, 7) };
        assert_eq!(picture.body(&CONV), Taps { kernel: [1, 5, 7], dilation: [1, 2, 1] });
        assert_eq!(picture.stem().dims(16, 3), [16, 3, 7, 7]);
        assert_eq!(picture.shared_body(7).dims(8, 16), [8, 16, 7, 7]);
        assert_eq!([0, 1, 2].map(|block| picture.extent(block)), [[1, 48, 48], [1, 24, 24], [1, 12, 12]]);
        let volume = NetworkShape { image_depth: 2, ..NetworkShape::pictures(1, 32, 10, 5) };
        assert_eq!(volume.body(&CONV), Taps { kernel: [3, 3, 3], dilation: [2, 2, 1] });
        assert_eq!(volume.body(&CONV).rows_and_columns(), [9, 3]);
        assert_eq!(volume.stem().dims(16, 1), [16, 1, 5, 5, 5]);
        assert_eq!(volume.shared_body(7).dims(8, 16), [8, 16, 3, 3, 3]);
        assert_eq!([0, 1, 2].map(|block| volume.extent(block)), [[2, 32, 32], [1, 16, 16], [1, 8, 8]]);
        assert_eq!(volume.batch(4).to_string(), "[C 1, D 2, H 32, W 32, N 4]");
    }
}
