//! sums[c][k] += sum over positions of gy[k] * x[c]: tiles of dot products with positions in the
//! lanes, for weight gradients of few output channels per group.
//!
//! A tile of KR x CR accumulators loads KR + CR vectors for KR * CR multiply-adds; at 4 x 4 with
//! 16 lanes it is bound by the multiply-adds even when every load crosses a cache line.

use super::dispatch::isolated;
use super::simd::Simd;

/// Rows of gy and x over one stretch of positions.
pub struct DotRows<'a> {
    /// Planes of x.
    pub channels: &'a [&'a [f32]],
    /// First element in each plane of x.
    pub input: usize,
    /// Planes of gy, one after the other.
    pub gy: &'a [f32],
    /// Elements of a plane of gy.
    pub plane: usize,
    /// First element in each plane of gy.
    pub output: usize,
    /// Planes of gy.
    pub outputs: usize,
    /// Positions.
    pub len: usize,
    /// Elements of `sums` per channel of x.
    pub lanes: usize,
}

/// Adds all dot products to `sums` [c][k lanes].
///
/// # Safety
/// The instruction set is available; `len` positions exist in every plane; `sums` holds `lanes`
/// elements per channel and `lanes >= outputs`.
#[inline(always)]
pub unsafe fn dots<S: DotTiles, const RELU: bool>(rows: &DotRows<'_>, sums: &mut [f32]) {
    let mut k = 0;
    while k < rows.outputs {
        // 16 accumulators and 8 operands need 32 registers; with 16 half as many rows of gy.
        let k_step = match rows.outputs - k {
            4.. if S::LANES == 16 => 4,
            2.. => 2,
            _ => 1,
        };
        let mut c = 0;
        while c < rows.channels.len() {
            let c_step = match rows.channels.len() - c {
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            // SAFETY: k + k_step and c + c_step stay within the rows; the rest is the caller's promise.
            unsafe {
                match (k_step, c_step) {
                    (4, 4) => S::dot_tile::<4, 4, RELU>(rows, k, c, sums),
                    (4, 2) => S::dot_tile::<4, 2, RELU>(rows, k, c, sums),
                    (4, _) => S::dot_tile::<4, 1, RELU>(rows, k, c, sums),
                    (2, 4) => S::dot_tile::<2, 4, RELU>(rows, k, c, sums),
                    (2, 2) => S::dot_tile::<2, 2, RELU>(rows, k, c, sums),
                    (2, _) => S::dot_tile::<2, 1, RELU>(rows, k, c, sums),
                    (_, 4) => S::dot_tile::<1, 4, RELU>(rows, k, c, sums),
                    (_, 2) => S::dot_tile::<1, 2, RELU>(rows, k, c, sums),
                    _ => S::dot_tile::<1, 1, RELU>(rows, k, c, sums),
                }
            }
            c += c_step;
        }
        k += k_step;
    }
}

isolated!(
    /// # Safety
    /// As [`dots`], for rows `k .. k + KR` of gy and `c .. c + CR` of x.
    pub trait DotTiles: dot_tile_of as dot_tile<const KR: usize, const CR: usize, const RELU: bool>(
        rows: &DotRows<'_>, k: usize, c: usize, sums: &mut [f32])
);

#[inline(always)]
unsafe fn dot_tile_of<S: Simd, const KR: usize, const CR: usize, const RELU: bool>(
    rows: &DotRows<'_>,
    k: usize,
    c: usize,
    sums: &mut [f32],
) {
    let x: [*const f32; CR] = std::array::from_fn(|j| rows.channels[c + j][rows.input..].as_ptr());
    let gy: [*const f32; KR] = std::array::from_fn(|i| rows.gy[(k + i) * rows.plane + rows.output..].as_ptr());
    // SAFETY: full vectors lie within `len`, the rest is masked.
    unsafe {
        let mut acc = [[S::splat(0.0); CR]; KR];
        let full = rows.len / S::LANES * S::LANES;
        let mut p = 0;
        while p < full {
            let (mut a, mut b) = ([S::splat(0.0); KR], [S::splat(0.0); CR]);
            for i in 0..KR {
                a[i] = S::load(gy[i].add(p));
            }
            for j in 0..CR {
                b[j] = S::load(x[j].add(p));
            }
            step::<S, KR, CR, RELU>(&mut acc, a, b);
            p += S::LANES;
        }
        if p < rows.len {
            let mask = S::mask(0, (rows.len - p) as isize);
            let (mut a, mut b) = ([S::splat(0.0); KR], [S::splat(0.0); CR]);
            for i in 0..KR {
                a[i] = S::load_masked(gy[i].add(p), mask);
            }
            for j in 0..CR {
                b[j] = S::load_masked(x[j].add(p), mask);
            }
            step::<S, KR, CR, RELU>(&mut acc, a, b);
        }
        for j in 0..CR {
            for i in 0..KR {
                sums[(c + j) * rows.lanes + k + i] += S::sum(acc[i][j]);
            }
        }
    }
}

/// One vector of positions.
#[inline(always)]
unsafe fn step<S: Simd, const KR: usize, const CR: usize, const RELU: bool>(
    acc: &mut [[S::V; CR]; KR],
    gy: [S::V; KR],
    mut x: [S::V; CR],
) {
    // SAFETY: registers only.
    unsafe {
        if RELU {
            for j in 0..CR {
                x[j] = S::max(x[j], S::splat(0.0));
            }
        }
        for i in 0..KR {
            for j in 0..CR {
                acc[i][j] = S::fma(gy[i], x[j], acc[i][j]);
            }
        }
    }
}
