//! The micro-kernel of `correlate`: one tile of output channels x vectors of a row, held in registers over all input
//! channels of a block and all taps.
//!
//! An input channel and tap costs NV loads and MR broadcasts for MR * NV multiply-adds; 8 x 3 and 6 x 4 reach 97 %
//! of peak from the first-level cache, even when every load crosses a cache line.

use super::dispatch::isolated;
use super::pool::SharedSlice;
use super::simd::{Simd, prefetch, prefetch_second};

/// Where one output channel goes.
pub struct Target<'a> {
    pub data: SharedSlice<'a>,
    pub add: bool,
    pub gate: Option<&'a [f32]>,
}

/// One block of input channels passing over a task.
pub struct Visit {
    pub first: bool,
    pub last: bool,
}

/// Calls the micro-kernel of `mr` rows and `vectors` vectors.
///
/// # Safety
/// The instruction set is available; `tile` describes valid input, weights, sums and outputs.
#[inline(always)]
pub unsafe fn tile_on<S: Tiles>(mr: usize, vectors: usize, tile: &Tile<'_>) {
    macro_rules! kernels {
        ($($mr:literal: $($nv:literal)*),*) => {
            match (mr, vectors) {
                // SAFETY: the caller's promise.
                $($(($mr, $nv) => unsafe { S::tile::<$mr, $nv>(tile) },)*)*
                _ => unreachable!("no tile has {mr} rows and {vectors} vectors"),
            }
        };
    }
    kernels!(1: 1 2 3 4, 2: 1 2 3 4, 3: 1 2 3 4, 4: 1 2 3 4, 5: 1 2 3 4, 6: 1 2 3 4, 7: 1 2 3, 8: 1 2 3);
}

/// One tile of one block of output channels.
pub struct Tile<'a> {
    /// Packed input under the first tap.
    pub x: *const f32,
    /// Input channels, rows of taps, taps of a row; and from one to the next, in `x`.
    pub counts: [usize; 3],
    pub steps: [usize; 3],
    /// Weights of the first tap, one per row of the tile; and from one input channel, row of taps to the next.
    pub weights: *const f32,
    pub weight_steps: [usize; 2],
    /// What to fetch meanwhile: first element, and elements per input channel and tap.
    pub ahead: (*const f32, usize),
    /// Partial sums of the tile, unless this visit is the first and last.
    pub sums: *mut f32,
    pub visit: &'a Visit,
    pub outputs: &'a [Target<'a>],
    /// First element in the output's plane, and elements.
    pub position: usize,
    pub len: usize,
    pub slope: Option<f32>,
}

isolated!(
    /// # Safety
    /// The instruction set is available; `tile` describes valid input, weights, sums and outputs.
    pub trait Tiles: tile_of as tile<const MR: usize, const NV: usize>(tile: &Tile<'_>)
);

#[inline(always)]
unsafe fn tile_of<S: Simd, const MR: usize, const NV: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if tile.visit.last {
            announce::<S, NV>(tile);
        }
        let acc = multiply::<S, MR, NV>(tile);
        if tile.visit.last {
            finish::<S, MR, NV>(acc, tile);
        } else {
            for (i, row) in acc.iter().enumerate() {
                for (v, &sum) in row.iter().enumerate() {
                    S::store(tile.sums.add((i * NV + v) * S::LANES), sum);
                }
            }
        }
    }
}

/// The inner loop: MR x NV accumulators over a block of input channels and all taps.
#[inline(always)]
unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(tile: &Tile<'_>) -> [[S::V; NV]; MR] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc: [[S::V; NV]; MR] = if tile.visit.first {
            [[S::splat(0.0); NV]; MR]
        } else {
            std::array::from_fn(|i| std::array::from_fn(|v| S::load(tile.sums.add((i * NV + v) * S::LANES))))
        };
        let [channels, rows, taps] = tile.counts;
        let (mut ahead, step) = tile.ahead;
        for c in 0..channels {
            for r in 0..rows {
                let mut p = tile.x.add(c * tile.steps[0] + r * tile.steps[1]);
                let mut w = tile.weights.add(c * tile.weight_steps[0] + r * tile.weight_steps[1]);
                for _ in 0..taps {
                    prefetch_second(ahead);
                    ahead = ahead.wrapping_add(step);
                    let x: [S::V; NV] = std::array::from_fn(|v| S::load(p.add(v * S::LANES)));
                    for i in 0..MR {
                        let wi = S::splat(*w.add(i));
                        for v in 0..NV {
                            acc[i][v] = S::fma(wi, x[v], acc[i][v]);
                        }
                    }
                    p = p.wrapping_add(tile.steps[2]);
                    w = w.wrapping_add(MR);
                }
            }
        }
        acc
    }
}

/// Fetches what `finish` is going to write, and reads before that.
#[inline(always)]
fn announce<S: Simd, const NV: usize>(tile: &Tile<'_>) {
    for out in tile.outputs {
        for at in (0..NV * S::LANES).step_by(16) {
            prefetch(out.data.at(tile.position).wrapping_add(at));
            if let Some(gate) = out.gate {
                prefetch(gate.as_ptr().wrapping_add(tile.position + at));
            }
        }
    }
}

/// Gate, add, activate, store.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(acc: [[S::V; NV]; MR], tile: &Tile<'_>) {
    for (sums, out) in acc.iter().zip(tile.outputs) {
        // SAFETY: this task alone writes positions position..position+len of each plane.
        let y = unsafe { out.data.range(tile.position, tile.len) }.as_mut_ptr();
        for (v, &sum) in sums.iter().enumerate() {
            let at = v * S::LANES;
            // SAFETY: lanes at or beyond `len` are masked.
            unsafe {
                let mask = S::mask(0, tile.len as isize - at as isize);
                let mut sum = sum;
                if let Some(gate) = out.gate {
                    let gate = gate.as_ptr().wrapping_add(tile.position + at);
                    sum = S::gate(sum, S::load_masked(gate, mask));
                }
                if out.add {
                    sum = S::add(sum, S::load_masked(y.wrapping_add(at), mask));
                }
                if let Some(slope) = tile.slope {
                    sum = S::max(sum, S::mul(S::splat(slope), sum));
                }
                S::store_masked(y.wrapping_add(at), mask, sum);
            }
        }
    }
}
