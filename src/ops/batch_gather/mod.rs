//! Collects images of a data set into a batch: crop, flip, normalise, transpose to C, H, W, N.
//!
//! | buffer | shape |
//! |---|---|
//! | set | images of u8, each [C, h, w], where the data set lies |
//! | indices | N images of the set |
//! | placements | for each the offset of its window and whether it is mirrored |
//! | x | [C, H, W, N] f32: `(pixel / 255 - mean[c]) / std[c]` |
//!
//! Output pixel (p, q) shows image pixel (p + dy - (H - h) / 2, q + dx - (W - w) / 2), after
//! mirroring q for flipped images; what lies outside the image is black (pixel 0), so an
//! image smaller than the output is padded, and a shifted one is cropped out of its padding.

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::data::Images;
use crate::data::augment::Placement;
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

const OP: &str = "batch_gather";

/// Geometry and normalisation of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchGather {
    /// Channels, rows and columns of a stored image.
    pub image: [usize; 3],
    /// Rows and columns of the batch.
    pub size: [usize; 2],
    /// Mean of each channel, in 0..1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, in 0..1.
    pub std: Vec<f32>,
}

impl BatchGather {
    /// What each pixel value of a channel becomes.
    fn values(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|v| (v as f32 / 255.0 - self.mean[channel]) / self.std[channel])
    }

    /// Row and column of the image that the first pixel of an unshifted batch shows.
    fn origin(&self) -> [i64; 2] {
        [0, 1].map(|i| -((self.size[i] as i64 - self.image[1 + i] as i64) / 2))
    }
}

/// The batch, as an input that wants no gradient; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when images, placements or statistics do not fit the geometry.
pub fn batch_gather(
    tape: &mut Tape<'_>,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &BatchGather,
) -> Result<Var> {
    let _range = tape.op_range(c"batch_gather_forward");
    let [c, h, w] = config.image;
    let fits = indices.len() == placements.len() && config.mean.len() == c && config.std.len() == c;
    if !fits || set.pixels() != c * h * w || indices.iter().any(|&i| i as usize >= set.len()) {
        let got = format!("{} images of {set:?}, {} placements", indices.len(), placements.len());
        return Err(Error::shape(OP, format!("images of {c} x {h} x {w} with a placement each"), got));
    }
    let [rows, columns] = config.size;
    let x = tape.alloc(Shape::new(c, rows, columns, indices.len()), false)?;
    let target = tape.tensor(x);
    tape.compute(
        |claims, device| cpu::batch_gather(device, set, indices, placements, config, claims.write(target.span)),
        |device| cuda::batch_gather(device, set, indices, placements, config, target),
    )?;
    Ok(x)
}
