//! sums[c][tap][k] += sum over positions of gy[k] * x[c] shifted by the tap, with positions in the lanes: the
//! weight gradient of few output channels per group, and where they would leave many lanes idle.
//!
//! A tile of KR x CR sums takes KR + CR loads for KR * CR multiply-adds. Each sum is a vector, kept in scratch
//! memory from stretch to stretch and added across its lanes once, at the end of the task: after every
//! stretch that would cost a third of the multiply-adds.

use super::dispatch::isolated;
use super::filter_gradient::{Run, Task};
use super::simd::Simd;

/// Adds all positions of the task to `sums`.
///
/// # Safety
/// The instruction set is available; `sums` holds one element per k, tap and channel of the task, `scratch` a vector.
#[inline(always)]
pub unsafe fn dots<S: DotTiles>(task: &Task<'_>, scratch: &mut [f32], sums: &mut [f32]) {
    let filter = task.job.filter;
    let (outputs, channels) = (filter.out_len, task.channels.len());
    let vectors = &mut scratch[..sums.len() * S::LANES];
    vectors.fill(0.0);
    for (row, columns) in task.areas() {
        let output = row * task.job.planes.row_len + columns.start;
        let mut c = 0;
        while c < channels {
            let cr = next_channels::<S>(channels - c, outputs);
            for run in task.runs(row, columns.clone()) {
                let mut k = 0;
                while k < outputs {
                    let kr = next_outputs::<S>(outputs - k);
                    let at = (c * filter.taps() + run.tap) * outputs + k;
                    let tile = DotTile {
                        task,
                        run: &run,
                        output: output + run.skip,
                        k,
                        c,
                        sums: vectors[at * S::LANES..].as_mut_ptr(),
                        channel_len: filter.taps() * outputs * S::LANES,
                    };
                    // SAFETY: the tile lies within outputs and channels; the rest is the caller's promise.
                    unsafe { tile_on::<S>(kr, cr, &tile) };
                    k += kr;
                }
            }
            c += cr;
        }
    }
    for (sum, vector) in sums.iter_mut().zip(vectors.chunks(S::LANES)) {
        // SAFETY: a chunk is a vector.
        *sum = unsafe { S::sum(S::load(vector.as_ptr())) };
    }
}

/// Output channels of the next tile.
#[inline(always)]
fn next_outputs<S: Simd>(left: usize) -> usize {
    match (left, S::LANES) {
        (8, 16) => 8,
        (1..=6, 16) => left,
        (7 | 9.., 16) => even_outputs(left),
        (2.., _) => 2,
        _ => 1,
    }
}

/// Of seven and more, in parts as equal as possible: 5 + 5 rather than 6 + 4.
fn even_outputs(left: usize) -> usize {
    left.div_ceil(left.div_ceil(6))
}

/// Input channels of the next tile: as many as leave sums and operands in registers.
#[inline(always)]
fn next_channels<S: Simd>(left: usize, outputs: usize) -> usize {
    let most = match (next_outputs::<S>(outputs), S::LANES) {
        (8, _) => 3,
        (5.., _) => 4,
        (4, 16) => 6,
        (_, 16) => 8,
        _ => 4,
    };
    [8, 6, 4, 3, 2, 1].into_iter().find(|&n| n <= most && n <= left).unwrap_or(1)
}

/// Calls the micro-kernel of `kr` output and `cr` input channels.
#[inline(always)]
unsafe fn tile_on<S: DotTiles>(kr: usize, cr: usize, tile: &DotTile<'_>) {
    macro_rules! kernels {
        ($($kr:literal: $($cr:literal)*),*) => {
            match (kr, cr) {
                // SAFETY: the caller's promise.
                $($(($kr, $cr) => unsafe { S::dot_tile::<$kr, $cr>(tile) },)*)*
                _ => unreachable!("no tile has {kr} x {cr} sums"),
            }
        };
    }
    kernels!(1: 1 2 3 4 6 8, 2: 1 2 3 4 6 8, 3: 1 2 3 4 6 8, 4: 1 2 3 4 6 8, 5: 1 2 3 4 6, 6: 1 2 3 4 6, 8: 1 2 3);
}

/// Tile (k, c) of one tap over one stretch.
pub struct DotTile<'a> {
    task: &'a Task<'a>,
    run: &'a Run,
    /// First element in every plane of gy.
    output: usize,
    k: usize,
    c: usize,
    /// Sums of the first channel, and the distance to the next channel's.
    sums: *mut f32,
    channel_len: usize,
}

isolated!(
    /// # Safety
    /// The instruction set is available; the tile lies within outputs and channels of its task.
    pub trait DotTiles: dot_tile_of as dot_tile<const KR: usize, const CR: usize>(tile: &DotTile<'_>)
);

#[inline(always)]
unsafe fn dot_tile_of<S: Simd, const KR: usize, const CR: usize>(tile: &DotTile<'_>) {
    let x: [*const f32; CR] = std::array::from_fn(|j| tile.task.x(tile.c + j)[tile.run.input..].as_ptr());
    let gy: [*const f32; KR] = std::array::from_fn(|i| tile.task.gy(tile.k + i)[tile.output..].as_ptr());
    let relu = tile.task.job.planes.relu;
    // SAFETY: full vectors lie within the run, the rest is masked.
    unsafe {
        let slot = |i: usize, j: usize| tile.sums.add(j * tile.channel_len + i * S::LANES);
        let mut acc: [[S::V; CR]; KR] = std::array::from_fn(|i| std::array::from_fn(|j| S::load(slot(i, j))));
        let full = tile.run.len / S::LANES * S::LANES;
        let mut p = 0;
        while p < full {
            let x: [S::V; CR] = std::array::from_fn(|j| S::load(x[j].add(p)));
            let gy: [S::V; KR] = std::array::from_fn(|i| S::load(gy[i].add(p)));
            acc = step::<S, KR, CR>(acc, gy, x, relu);
            p += S::LANES;
        }
        if p < tile.run.len {
            let mask = S::mask(0, (tile.run.len - p) as isize);
            let x: [S::V; CR] = std::array::from_fn(|j| S::load_masked(x[j].add(p), mask));
            let gy: [S::V; KR] = std::array::from_fn(|i| S::load_masked(gy[i].add(p), mask));
            acc = step::<S, KR, CR>(acc, gy, x, relu);
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                S::store(slot(i, j), sum);
            }
        }
    }
}

/// One vector of positions.
#[inline(always)]
unsafe fn step<S: Simd, const KR: usize, const CR: usize>(
    mut acc: [[S::V; CR]; KR],
    gy: [S::V; KR],
    mut x: [S::V; CR],
    relu: bool,
) -> [[S::V; CR]; KR] {
    // SAFETY: registers only.
    unsafe {
        if relu {
            x = x.map(|x| S::max(x, S::splat(0.0)));
        }
        for i in 0..KR {
            for j in 0..CR {
                acc[i][j] = S::fma(gy[i], x[j], acc[i][j]);
            }
        }
    }
    acc
}
