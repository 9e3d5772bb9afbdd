//! volume_gather on the GPU, from the data set in its memory: one thread per number of the batch.

use super::{OP, VALUES, VolumeGather};
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::data::Images;
use crate::data::augment::Placement;
use crate::error::Result;
use crate::tensor::Tensor;

const THREADS: u32 = 256;

params! {
    struct VolumeGatherParams {
        views: Address,
        windows: Address,
        x: Address,
        slices: i32,
        rows: i32,
        columns: i32,
        n_len: i32,
        len: u32,
        unset: f32,
        set: f32,
    }
}

/// Fills x [1, D, H, W, N].
pub fn volume_gather(
    cuda: &mut Cuda,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &VolumeGather,
    x: Tensor,
) -> Result<()> {
    let parts = cuda.resident(set.id(), &set.parts())?;
    let place = |(&index, placement): (&u32, &Placement)| {
        let (part, byte) = set.place(index as usize);
        parts[part].0 + (byte + usize::from(placement.view) * config.view_bytes()) as u64
    };
    let views: Vec<u64> = indices.iter().zip(placements).map(place).collect();
    // How far it is rolled along each axis, and whether rows and columns are mirrored.
    let window = |p: &Placement| {
        let [dz, dy, dx] = config.roll(p).map(|by| by as i32);
        [dz, dy, dx, p.flip_rows.into(), p.flip.into()]
    };
    let windows: Vec<[i32; 5]> = placements.iter().map(window).collect();
    let [slices, rows, columns] = config.size.map(|extent| extent as i32);
    let params = VolumeGatherParams {
        views: cuda.upload(&views)?,
        windows: cuda.upload(&windows)?,
        x: cuda.address(x.span),
        slices,
        rows,
        columns,
        n_len: x.shape.n as i32,
        len: x.shape.len() as u32,
        unset: VALUES[0],
        set: VALUES[1],
    };
    cuda.launch(OP, "forward", Grid::cover(x.shape.len(), THREADS), &params)
}
