//! sums[c][tap][k] += sum over positions of gy[k] * x[c] shifted by the tap, with k in the lanes: the weight
//! gradient where output channels fill the lanes.
//!
//! A short stretch of gy is transposed to [position][k]; then each tile of input channels times vectors of k is
//! accumulated in registers, with one broadcast per channel and position. x is read where it lies, an element
//! at a time, so that no tap is an unaligned load.

use super::dispatch::isolated;
use super::filter_gradient::Task;
use super::simd::{MOST_LANES, Simd};
use std::ops::Range;

/// Adds all positions of the task to `sums`.
///
/// # Safety
/// The instruction set is available; `sums` holds lanes per tap and channel of the task, `scratch` its stretch
/// times lanes and, for rectified input, times channels.
#[inline(always)]
pub unsafe fn columns<S: Columns>(task: &Task<'_>, scratch: &mut [f32], sums: &mut [f32]) {
    let lanes = task.lanes;
    let taps = task.job.filter.taps();
    let (gy, rectified) = scratch.split_at_mut(task.stretch * lanes);
    for (row, columns) in task.areas() {
        // SAFETY: the stretch lies in the row; operands stay inside the planes, by the construction of runs.
        unsafe {
            transpose::<S>(task, row, columns.clone(), gy);
            if task.job.planes.relu {
                rectify::<S>(task, row, columns.clone(), rectified);
            }
            let mut c = 0;
            while c < task.channels.len() {
                let channels = next_channels::<S>(task.channels.len() - c, lanes / S::LANES);
                task.fetch_next(c..c + channels, row, columns.clone());
                for run in task.runs(row, columns.clone()) {
                    let x = |i: usize| {
                        if task.job.planes.relu {
                            rectified[i * task.stretch + run.skip..].as_ptr()
                        } else {
                            task.x(i)[run.input..].as_ptr()
                        }
                    };
                    let mut operands = Operands {
                        x: [std::ptr::null(); MOST_CHANNELS],
                        gy: gy[run.skip * lanes..].as_ptr(),
                        len: run.len,
                        lanes,
                        sums: sums[(c * taps + run.tap) * lanes..].as_mut_ptr(),
                        channel_len: taps * lanes,
                    };
                    for i in 0..channels {
                        operands.x[i] = x(c + i);
                    }
                    tiles::<S>(&mut operands, channels);
                }
                c += channels;
            }
        }
    }
}

/// gy of one stretch as [position][k lanes]; lanes without a channel are 0.
#[inline(always)]
unsafe fn transpose<S: Simd>(task: &Task<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
    let (lanes, outputs, pitch) = (task.lanes, task.job.filter.out_len, task.job.gy_pitch);
    let start = row * task.job.planes.row_len + columns.start;
    for k in (0..lanes).step_by(S::LANES) {
        let first = task.gy(0).as_ptr().wrapping_add(k * pitch + start);
        let rows = S::LANES.min(outputs.saturating_sub(k));
        for p in (0..columns.len()).step_by(S::LANES) {
            // SAFETY: lanes outside of the stretch are masked; out holds `stretch`, a multiple of 16, positions.
            unsafe {
                let mask = S::mask(0, (columns.len() - p) as isize);
                let mut v: [S::V; MOST_LANES] = std::array::from_fn(|i| {
                    let source = first.wrapping_add(i * pitch + p);
                    if i < rows { S::load_masked(source, mask) } else { S::splat(0.0) }
                });
                S::transpose(&mut v);
                let out = out[p * lanes + k..][..(S::LANES - 1) * lanes + S::LANES].as_mut_ptr();
                for (i, v) in v.into_iter().take(S::LANES).enumerate() {
                    S::store(out.add(i * lanes), v);
                }
            }
        }
    }
}

/// The ReLU of x of one stretch as [c][position], for the single tap of a pointwise convolution: as part of the
/// inner loop it costs one instruction per channel beside four multiply-adds.
#[inline(always)]
unsafe fn rectify<S: Simd>(task: &Task<'_>, row: usize, columns: Range<usize>, out: &mut [f32]) {
    assert_eq!(task.job.filter.taps(), 1, "only a pointwise convolution rectifies as it reads");
    let start = row * task.job.planes.row_len + columns.start;
    for (c, out) in out.chunks_mut(task.stretch).enumerate() {
        let x = &task.x(c)[start..][..columns.len()];
        for p in (0..x.len()).step_by(S::LANES) {
            // SAFETY: lanes outside of the stretch are masked.
            unsafe {
                let mask = S::mask(0, (x.len() - p) as isize);
                let v = S::max(S::load_masked(x.as_ptr().add(p), mask), S::splat(0.0));
                S::store_masked(out.as_mut_ptr().add(p), mask, v);
            }
        }
    }
}

/// Most input channels of a tile.
const MOST_CHANNELS: usize = 12;

/// Vectors of k in a tile next to each other.
#[inline(always)]
fn next_vectors<S: Simd>(left: usize) -> usize {
    match (left, S::LANES) {
        (1, _) => 1,
        (3, 16) => 3,
        (4.., 16) => 4,
        _ => 2,
    }
}

/// Input channels of the next tile: as many as leave accumulators and operands in registers.
#[inline(always)]
fn next_channels<S: Simd>(left: usize, vectors: usize) -> usize {
    let most = match (next_vectors::<S>(vectors), S::LANES) {
        (1, _) | (2, 16) => 12,
        (3, _) => 8,
        _ => 6,
    };
    [12, 8, 6, 4, 3, 2, 1].into_iter().find(|&n| n <= most && n <= left).unwrap_or(1)
}

/// One tap over one stretch, for a tile of input channels.
pub struct Operands {
    /// First element of each channel.
    x: [*const f32; MOST_CHANNELS],
    /// `[len][lanes]`.
    gy: *const f32,
    len: usize,
    lanes: usize,
    /// Sums of the first channel, and the distance to the next channel's.
    sums: *mut f32,
    channel_len: usize,
}

/// All vectors of k against `channels` input channels.
#[inline(always)]
unsafe fn tiles<S: Columns>(operands: &mut Operands, channels: usize) {
    let mut left = operands.lanes / S::LANES;
    while left > 0 {
        let vectors = next_vectors::<S>(left);
        macro_rules! kernels {
            ($($nv:literal: $($mr:literal)*),*) => {
                match (vectors, channels) {
                    // SAFETY: the caller's promise; `vectors` are left in each row of gy and of the sums.
                    $($(($nv, $mr) => unsafe { S::column::<$mr, $nv>(operands) },)*)*
                    _ => unreachable!("no tile has {channels} channels and {vectors} vectors"),
                }
            };
        }
        kernels!(1: 1 2 3 4 6 8 12, 2: 1 2 3 4 6 8 12, 3: 1 2 3 4 6 8, 4: 1 2 3 4 6);
        operands.gy = operands.gy.wrapping_add(vectors * S::LANES);
        operands.sums = operands.sums.wrapping_add(vectors * S::LANES);
        left -= vectors;
    }
}

isolated!(
    /// # Safety
    /// The instruction set is available; `operands` hold MR channels and NV vectors.
    pub trait Columns: column_of as column<const MR: usize, const NV: usize>(operands: &Operands)
);

/// MR channels against NV vectors of k.
#[inline(always)]
unsafe fn column_of<S: Simd, const MR: usize, const NV: usize>(operands: &Operands) {
    let x: [*const f32; MR] = std::array::from_fn(|i| operands.x[i]);
    // SAFETY: the caller's promise.
    unsafe {
        let slot = |i: usize, j: usize| operands.sums.add(i * operands.channel_len + j * S::LANES);
        let mut acc: [[S::V; NV]; MR] = std::array::from_fn(|i| std::array::from_fn(|j| S::load(slot(i, j))));
        for p in 0..operands.len {
            let row = operands.gy.add(p * operands.lanes);
            let gy: [S::V; NV] = std::array::from_fn(|j| S::load(row.add(j * S::LANES)));
            for i in 0..MR {
                let xi = S::splat(*x[i].add(p));
                for j in 0..NV {
                    acc[i][j] = S::fma(xi, gy[j], acc[i][j]);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                S::store(slot(i, j), sum);
            }
        }
    }
}
