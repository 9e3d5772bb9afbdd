//! What this GPU can do at most, measured once: f32 multiply-adds outside the tensor cores, and a large
//! copy. Convolutions on tensor cores may go beyond the first.

use super::{Address, Cuda, Grid, accumulate, params};
use crate::backend::Span;
use crate::error::Result;
use std::time::Instant;

/// As in `kernels/ceiling.cu`.
const FLOP_PER_ROUND: usize = 2 * 8 * 16;
/// Rounds of each thread: 3 ms at 60 TFLOP/s, a thousand times what a launch costs.
const ROUNDS: u32 = 2500;
/// Blocks per multiprocessor, of 256 threads: all that fit, twice.
const BLOCKS: usize = 16;
/// The same for the emulator, whose speed means nothing.
const EMULATED: (u32, usize) = (1, 1);

params! {
    struct CeilingParams { sums: Address, rounds: u32 }
}

/// f32 that [`fma_sample`] writes, one per thread.
pub fn fma_len(cuda: &Cuda) -> usize {
    let per_multiprocessor = if cuda.info().is_emulator() { EMULATED.1 } else { BLOCKS };
    256 * cuda.info().multiprocessors * per_multiprocessor
}

/// f32 arithmetic in GFLOP/s, one multiply-add being two; `sums` has [`fma_len`] elements.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn fma_sample(cuda: &mut Cuda, sums: Span) -> Result<f64> {
    let rounds = if cuda.info().is_emulator() { EMULATED.0 } else { ROUNDS };
    let params = CeilingParams { sums: cuda.address(sums), rounds };
    let grid = Grid::cover(sums.len, 256);
    let seconds = timed(cuda, |cuda| cuda.launch("ceiling", "multiply_adds", grid, &params))?;
    Ok((sums.len * FLOP_PER_ROUND * rounds as usize) as f64 / seconds / 1e9)
}

/// Bandwidth in GB/s of a copy, bytes read plus bytes written. Far longer than the L2 cache is large, or
/// it is that of the cache.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn copy_sample(cuda: &mut Cuda, to: Span, from: Span) -> Result<f64> {
    let seconds = timed(cuda, |cuda| accumulate(cuda, to, from, false))?;
    Ok((2 * 4 * to.len) as f64 / seconds / 1e9)
}

fn timed(cuda: &mut Cuda, work: impl FnOnce(&mut Cuda) -> Result<()>) -> Result<f64> {
    cuda.synchronize()?;
    let start = Instant::now();
    work(cuda)?;
    cuda.synchronize()?;
    Ok(start.elapsed().as_secs_f64())
}
