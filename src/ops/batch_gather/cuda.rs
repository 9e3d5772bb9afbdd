//! batch_gather on the GPU, from the data set in its memory: one thread per number of the batch.

use super::{BatchGather, OP};
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::data::Images;
use crate::data::augment::Placement;
use crate::error::Result;
use crate::tensor::Tensor;

const THREADS: u32 = 256;

params! {
    struct BatchGatherParams {
        images: Address,
        windows: Address,
        values: Address,
        x: Address,
        image_rows: i32,
        image_columns: i32,
        rows: i32,
        columns: i32,
        n_len: i32,
        len: u32,
    }
}

/// Fills x [C, H, W, N].
pub fn batch_gather(
    cuda: &mut Cuda,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &BatchGather,
    x: Tensor,
) -> Result<()> {
    let parts = cuda.resident(set.id(), &set.parts())?;
    let images: Vec<u64> = indices
        .iter()
        .map(|&i| {
            let (part, byte) = set.place(i as usize);
            parts[part].0 + byte as u64
        })
        .collect();
    let [top, left] = config.origin();
    // Image row and column of the window's first pixel, and whether it is mirrored.
    let windows: Vec<[i32; 3]> =
        placements.iter().map(|p| [p.dy + top as i32, p.dx + left as i32, p.flip.into()]).collect();
    let values: Vec<[f32; 256]> = (0..config.image[0]).map(|channel| config.values(channel)).collect();
    let params = BatchGatherParams {
        images: cuda.upload(&images)?,
        windows: cuda.upload(&windows)?,
        values: cuda.upload(&values)?,
        x: cuda.address(x.span),
        image_rows: config.image[1] as i32,
        image_columns: config.image[2] as i32,
        rows: config.size[0] as i32,
        columns: config.size[1] as i32,
        n_len: x.shape.n as i32,
        len: x.shape.len() as u32,
    };
    cuda.launch(OP, "forward", Grid::cover(x.shape.len(), THREADS), &params)
}
