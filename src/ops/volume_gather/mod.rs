//! Collects views of volumes into a batch: unpack, roll, mirror, transpose to C, D, H, W, N.
//!
//! | buffer | shape |
//! |---|---|
//! | set | volumes, each \[views, D, H, W\] of one bit a voxel, where the data set lies |
//! | indices | N volumes of the set |
//! | placements | for each its view, how far it is rolled, and what is mirrored |
//! | x | \[1, D, H, W, N\] f32: 5 where a voxel is set, -1 elsewhere (section 4.3 of the paper) |
//!
//! Output voxel (z, y, x) shows the stored one at ((z + dz) mod D, (y + dy) mod H, (x + dx) mod W), after mirroring x
//! for `flip` and y for `flip_rows`: what leaves on one side enters on the other. Bits follow each other along x, then y,
//! then z, from the lowest bit of a byte on; a view is a whole number of bytes.

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

const OP: &str = "volume_gather";
/// What a voxel becomes that is not set, and one that is.
const VALUES: [f32; 2] = [-1.0, 5.0];

/// Geometry of a data set of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeGather {
    /// Slices, rows and columns of a volume, and of the batch.
    pub size: [usize; 3],
    /// Views stored of each volume.
    pub views: usize,
}

impl VolumeGather {
    /// Mean and standard deviation with which `(voxel - mean) / std` of voxels 0 and 1 is what they become here.
    pub fn normalisation() -> (Vec<f32>, Vec<f32>) {
        let [unset, set] = VALUES;
        (vec![-unset / (set - unset)], vec![1.0 / (set - unset)])
    }

    /// Bytes of one view.
    fn view_bytes(&self) -> usize {
        self.size.iter().product::<usize>() / 8
    }

    /// Slices, rows and columns the first voxel shown lies away from the first one stored.
    fn roll(&self, placement: &Placement) -> [usize; 3] {
        let [d, h, w] = self.size.map(|extent| extent as i32);
        [(placement.dz, d), (placement.dy, h), (placement.dx, w)].map(|(by, extent)| by.rem_euclid(extent) as usize)
    }
}

/// The batch, as an input that wants no gradient; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when volumes or placements do not fit the geometry.
pub fn volume_gather(
    tape: &mut Tape<'_>,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &VolumeGather,
) -> Result<Var> {
    let _range = tape.op_range(c"volume_gather_forward");
    let ([d, h, w], views) = (config.size, config.views);
    let whole_bytes = d * h * w % 8 == 0 && set.pixels() == views * config.view_bytes();
    let fits = indices.len() == placements.len() && placements.iter().all(|p| usize::from(p.view) < views);
    if !fits || !whole_bytes || indices.iter().any(|&i| i as usize >= set.len()) {
        let got = format!("{} volumes of {set:?}, {} placements", indices.len(), placements.len());
        let expected = format!("volumes of {views} x {d} x {h} x {w} bits with a placement in them each");
        return Err(Error::shape(OP, expected, got));
    }
    let x = tape.alloc(Shape::new(1, h, w, indices.len()).with_depth(d), false)?;
    let target = tape.tensor(x);
    tape.compute(
        |claims, device| cpu::volume_gather(device, set, indices, placements, config, claims.write(target.span)),
        |device| cuda::volume_gather(device, set, indices, placements, config, target),
    )?;
    Ok(x)
}
