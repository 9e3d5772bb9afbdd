//! Collects images of a data set into a batch: crop, flip, normalise, transpose to C, H, W, N.
//!
//! | buffer | shape |
//! |---|---|
//! | images | N images of u8, each [C, h, w] |
//! | placements | for each image the offset of its window and whether it is mirrored |
//! | x | [C, H, W, N] f32: `(pixel / 255 - mean[c]) / std[c]` |
//!
//! Output pixel (p, q) shows image pixel (p + dy - (H - h) / 2, q + dx - (W - w) / 2), after
//! mirroring q for flipped images; what lies outside the image is black (pixel 0), so an
//! image smaller than the output is padded, and a shifted one is cropped out of its padding.

#[cfg(test)]
mod tests;

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

/// The batch, as an input that wants no gradient; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when images, placements or statistics do not fit the geometry.
pub fn batch_gather(
    tape: &mut Tape<'_>,
    images: &[&[u8]],
    placements: &[Placement],
    config: &BatchGather,
) -> Result<Var> {
    let _range = tape.op_range(c"batch_gather_forward");
    let [c, h, w] = config.image;
    let fits = images.len() == placements.len() && config.mean.len() == c && config.std.len() == c;
    if !fits || images.iter().any(|i| i.len() != c * h * w) {
        let got = format!("{} images, {} placements", images.len(), placements.len());
        return Err(Error::shape(OP, format!("images of {c} x {h} x {w} with a placement each"), got));
    }
    let [rows, columns] = config.size;
    let shape = Shape::new(c, rows, columns, images.len());
    let x = tape.alloc(shape, false)?;
    let target = tape.tensor(x).span;
    tape.compute(|claims, cpu| {
        // One task per output row of a channel.
        cpu.pool.pieces(claims.write(target), columns * shape.n, |row, out| {
            let (channel, p) = (row / rows, row % rows);
            let values: [f32; 256] =
                std::array::from_fn(|v| (v as f32 / 255.0 - config.mean[channel]) / config.std[channel]);
            for (n, (image, placement)) in images.iter().zip(placements).enumerate() {
                let plane = &image[channel * h * w..][..h * w];
                let y = p as i64 + i64::from(placement.dy) - (rows as i64 - h as i64) / 2;
                for q in 0..columns {
                    let q_source = if placement.flip { columns - 1 - q } else { q };
                    let x = q_source as i64 + i64::from(placement.dx) - (columns as i64 - w as i64) / 2;
                    let inside = (0..h as i64).contains(&y) && (0..w as i64).contains(&x);
                    let pixel = if inside { plane[y as usize * w + x as usize] } else { 0 };
                    out[q * shape.n + n] = values[usize::from(pixel)];
                }
            }
        });
    });
    Ok(x)
}
