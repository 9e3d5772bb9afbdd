//! gw[k][c][r][s] += scale * sum over pixels of gy[k] * x[c] shifted by the tap: the weight
//! gradient of every convolution.
//!
//! Two ways, chosen by the output channels of a group. With 16 and more, they lie in the lanes:
//! a short stretch of gy is transposed to [position][k], then each tile of channels of x times
//! vectors of k is accumulated with one broadcast multiply-add per register (`columns`). With
//! fewer, most lanes would be idle, so positions lie in the lanes: tiles of 4 x 4 dot products of
//! rows of gy and x, summed across lanes once per stretch (`dots`). The rows of the
//! image are divided into a fixed number of parts, each with a sum of its own, added in order
//! at the end: the result does not depend on the number of threads. Taps are skipped, not
//! padded: for each tap the stretch is cut to the positions whose input exists.

use super::Cpu;
use super::correlate::Planes;
use super::dispatch::{isolated, on_isa};
use super::dots::{DotRows, DotTiles, dots};
use super::filter::Filter;
use super::pool::SharedSlice;
use super::simd::Simd;

/// Partial sums: enough for 8 threads; each costs a filter's size of workspace.
const PARTS: usize = 8;
/// Transposed gy of one stretch, in f32: 32 KiB, so that it stays in the first-level cache.
const STRETCH_LEN: usize = 8192;
/// Longest stretch in positions.
const MAX_STRETCH: usize = 512;
/// Stretch of the dot products in positions: long enough that the sums across lanes vanish.
const DOT_STRETCH: usize = 2048;
/// Lanes are filled up to this many output channels per group on every instruction set.
const LANE_PADDING: usize = 16;

/// Operands of a weight gradient.
pub struct FilterGradient<'a> {
    /// What the forward pass read.
    pub planes: Planes<'a>,
    /// Gradient of the output, `outputs` planes.
    pub gy: &'a [f32],
    /// Which elements of the stored filter receive the gradient.
    pub filter: Filter,
    /// Factor on what is added to the gradient.
    pub scale: f32,
}

impl FilterGradient<'_> {
    /// k lanes per group.
    fn lanes(&self) -> usize {
        self.filter.out_len.next_multiple_of(LANE_PADDING)
    }

    /// Elements of one part: [group][tap][c][k lanes].
    fn part_len(&self) -> usize {
        self.filter.groups * self.filter.taps() * self.filter.in_len * self.lanes()
    }

    /// Few output channels per group: positions in the lanes.
    fn by_dots(&self) -> bool {
        self.filter.out_len < LANE_PADDING
    }

    fn stretch(&self) -> usize {
        if self.by_dots() { DOT_STRETCH } else { (STRETCH_LEN / self.lanes()).clamp(16, MAX_STRETCH) }
    }
}

/// Workspace in f32 that [`filter_gradient`] needs for `filter`.
pub fn filter_gradient_workspace(filter: Filter) -> usize {
    PARTS * filter.groups * filter.taps() * filter.in_len * filter.out_len.next_multiple_of(LANE_PADDING)
}

/// Adds the gradient to `gw`, the gradient of the stored filter, and returns
/// `<unscaled gradient, weights>` over the window: the gradient of `scale` itself.
pub fn filter_gradient(
    cpu: &Cpu,
    job: &FilterGradient<'_>,
    weights: &[f32],
    gw: &mut [f32],
    workspace: &mut [f32],
) -> f32 {
    let plane = job.planes.plane();
    assert_eq!(job.planes.channels.len(), job.filter.inputs());
    assert_eq!(job.gy.len(), job.filter.outputs() * plane);
    assert!(job.planes.channels.iter().all(|c| c.len() == plane));
    let part_len = job.part_len();
    let stretches = job.planes.row_len.div_ceil(job.stretch());
    let units = job.planes.rows * stretches;
    let parts = SharedSlice::new(&mut workspace[..PARTS * part_len]);
    cpu.pool.run(PARTS, |part| {
        // SAFETY: each part is a range of its own, and each task runs once.
        let sums = unsafe { parts.range(part * part_len, part_len) };
        sums.fill(0.0);
        let units = (units * part / PARTS)..(units * (part + 1) / PARTS);
        // SAFETY: `cpu.isa` is available; planes were checked above.
        unsafe { accumulate_on(cpu.isa, job, units, sums) };
    });
    add_parts(cpu, job, weights, gw, &workspace[..PARTS * part_len])
}

/// Adds the parts in order into the window of `gw`; returns the product with the weights.
fn add_parts(cpu: &Cpu, job: &FilterGradient<'_>, weights: &[f32], gw: &mut [f32], parts: &[f32]) -> f32 {
    let (filter, lanes, part_len) = (job.filter, job.lanes(), job.part_len());
    let mut products = vec![0.0; filter.outputs()];
    let [r_len, s_len] = filter.kernel;
    let row_len = (filter.in_len - 1) * filter.strides[1] + (r_len - 1) * filter.strides[2] + s_len;
    let gw = SharedSlice::new(gw);
    cpu.pool.pieces(&mut products, 1, |k, product| {
        let first = filter.index(k, 0, 0, 0);
        // SAFETY: rows of different output channels do not overlap: a row is at most strides[0] long.
        let row = unsafe { gw.range(first, row_len) };
        let (g, lane) = (k / filter.out_len, k % filter.out_len);
        for c in 0..filter.in_len {
            for (r, s) in (0..r_len).flat_map(|r| (0..s_len).map(move |s| (r, s))) {
                let at = ((g * filter.taps() + r * s_len + s) * filter.in_len + c) * lanes + lane;
                let sum: f32 = (0..PARTS).map(|part| parts[part * part_len + at]).sum();
                let index = filter.index(k, c, r, s);
                row[index - first] += job.scale * sum;
                product[0] += sum * weights[index];
            }
        }
    });
    products.iter().sum()
}

on_isa!(
    /// # Safety
    /// `isa` is available; all planes have rows * row_len elements.
    fn accumulate_on / accumulate(job: &FilterGradient<'_>, units: std::ops::Range<usize>, sums: &mut [f32])
);

#[inline(always)]
unsafe fn accumulate<S: Columns + DotTiles>(job: &FilterGradient<'_>, units: std::ops::Range<usize>, sums: &mut [f32]) {
    let mut transposed = [0.0; STRETCH_LEN];
    let (filter, lanes, stretch) = (job.filter, job.lanes(), job.stretch());
    // Filters of more than 512 output channels per group do not fit the stretch buffer.
    let mut spill =
        if !job.by_dots() && lanes * stretch > STRETCH_LEN { vec![0.0; lanes * stretch] } else { Vec::new() };
    let transposed = if spill.is_empty() { &mut transposed[..] } else { &mut spill[..] };
    let stretches = job.planes.row_len.div_ceil(stretch);
    let group_len = filter.taps() * filter.in_len * lanes;
    for unit in units {
        let (row, x0) = (unit / stretches, unit % stretches * stretch);
        let x1 = job.planes.row_len.min(x0 + stretch);
        for g in 0..filter.groups {
            if !job.by_dots() {
                transpose(job, g, row, x0..x1, transposed);
            }
            // SAFETY: x0..x1 lies in the row, `transposed` holds it; the rest is the caller's promise.
            unsafe { group::<S>(job, g, row, x0..x1, transposed, &mut sums[g * group_len..][..group_len]) };
        }
    }
}

/// gy of one group and stretch as [position][k lanes]; lanes without a channel stay 0.
#[inline(always)]
fn transpose(job: &FilterGradient<'_>, g: usize, row: usize, range: std::ops::Range<usize>, out: &mut [f32]) {
    let lanes = job.lanes();
    let plane = job.planes.plane();
    for k in 0..job.filter.out_len {
        let source = &job.gy[(g * job.filter.out_len + k) * plane + row * job.planes.row_len..][range.clone()];
        for (slot, &value) in out[k..].iter_mut().step_by(lanes).zip(source) {
            *slot = value;
        }
    }
}

/// All taps of one group for outputs `range` of `row`.
#[inline(always)]
unsafe fn group<S: Columns + DotTiles>(
    job: &FilterGradient<'_>,
    g: usize,
    row: usize,
    range: std::ops::Range<usize>,
    gy: &[f32],
    sums: &mut [f32],
) {
    let filter = job.filter;
    let [r_len, s_len] = filter.kernel;
    let lanes = job.lanes();
    let channels = &job.planes.channels[g * filter.in_len..][..filter.in_len];
    for r in 0..r_len {
        let dr = (r * job.planes.dilation[0]) as isize - ((r_len - 1) * job.planes.dilation[0] / 2) as isize;
        let input_row = row as isize + dr;
        if !(0..job.planes.rows as isize).contains(&input_row) {
            continue;
        }
        for s in 0..s_len {
            let pixels = (s * job.planes.dilation[1]) as isize - ((s_len - 1) * job.planes.dilation[1] / 2) as isize;
            let shift = pixels * job.planes.pixel as isize;
            // Outputs whose input lies inside the row.
            let first = range.start.max((-shift).max(0) as usize);
            let last = range.end.min((job.planes.row_len as isize - shift.max(0)).max(0) as usize);
            if first >= last {
                continue;
            }
            let input = (input_row * job.planes.row_len as isize + first as isize + shift) as usize;
            let tap = &mut sums[(r * s_len + s) * filter.in_len * lanes..][..filter.in_len * lanes];
            let len = last - first;
            if job.by_dots() {
                let plane = job.planes.plane();
                let gy = &job.gy[g * filter.out_len * plane..];
                let output = row * job.planes.row_len + first;
                let rows = DotRows { channels, input, gy, plane, output, outputs: filter.out_len, len, lanes };
                // SAFETY: `len` positions exist from `input` and from `output` in this row.
                unsafe { if job.planes.relu { dots::<S, true>(&rows, tap) } else { dots::<S, false>(&rows, tap) } }
            } else {
                let gy = gy[(first - range.start) * lanes..].as_ptr();
                let operands = Stretch { channels, input, gy, len, lanes };
                // SAFETY: `operands` stays inside the planes and the transposed stretch.
                unsafe {
                    if job.planes.relu { tiles::<S, true>(&operands, tap) } else { tiles::<S, false>(&operands, tap) }
                }
            }
        }
    }
}

/// One tap over one stretch.
struct Stretch<'a> {
    channels: &'a [&'a [f32]],
    /// First element in each channel's plane.
    input: usize,
    /// `[len][lanes]`.
    gy: *const f32,
    len: usize,
    lanes: usize,
}

/// Covers [c][k lanes] of one tap with register tiles.
#[inline(always)]
unsafe fn tiles<S: Columns, const RELU: bool>(operands: &Stretch<'_>, sums: &mut [f32]) {
    let vectors = operands.lanes / S::LANES;
    let mut v = 0;
    // SAFETY: v..v+NV stays within `vectors`.
    unsafe {
        while v < vectors {
            // With 32 registers up to 24 accumulators, with 16 up to 12; one vector alone needs
            // as many rows to hide the latency of the multiply-add.
            let step = match (vectors - v, S::LANES) {
                (1, _) => 1,
                (3, 16) => 3,
                (4.., 16) => 4,
                _ => 2,
            };
            match (step, S::LANES) {
                (1, 16) => S::column::<12, 1, RELU>(operands, v, sums),
                (1, _) => S::column::<8, 1, RELU>(operands, v, sums),
                (2, 16) => S::column::<8, 2, RELU>(operands, v, sums),
                (2, _) => S::column::<5, 2, RELU>(operands, v, sums),
                (3, _) => S::column::<8, 3, RELU>(operands, v, sums),
                _ => S::column::<6, 4, RELU>(operands, v, sums),
            }
            v += step;
        }
    }
}

isolated!(
    /// # Safety
    /// The instruction set is available; `operands` and `sums` are as in `tiles`.
    trait Columns: column_of as column<const MR: usize, const NV: usize, const RELU: bool>(
        operands: &Stretch<'_>, v: usize, sums: &mut [f32])
);

/// All channels against NV vectors of k from vector `v`, MR channels at a time.
#[inline(always)]
unsafe fn column_of<S: Simd, const MR: usize, const NV: usize, const RELU: bool>(
    operands: &Stretch<'_>,
    v: usize,
    sums: &mut [f32],
) {
    let channels = operands.channels.len();
    for c0 in (0..channels).step_by(MR) {
        // A last, partial tile repeats its last channel and does not store the copies.
        let x: [*const f32; MR] =
            std::array::from_fn(|i| operands.channels[(c0 + i).min(channels - 1)][operands.input..].as_ptr());
        // SAFETY: `len` elements of each channel from `input` and of gy exist (see `group`); sums
        // hold `lanes` per channel.
        unsafe {
            let zero = S::splat(0.0);
            let mut acc = [[zero; NV]; MR];
            for p in 0..operands.len {
                let row = operands.gy.add(p * operands.lanes + v * S::LANES);
                let mut b = [zero; NV];
                for j in 0..NV {
                    b[j] = S::load(row.add(j * S::LANES));
                }
                for i in 0..MR {
                    let mut a = S::splat(*x[i].add(p));
                    if RELU {
                        a = S::max(a, zero);
                    }
                    for j in 0..NV {
                        acc[i][j] = S::fma(a, b[j], acc[i][j]);
                    }
                }
            }
            for i in 0..MR.min(channels - c0) {
                for j in 0..NV {
                    let slot = sums.as_mut_ptr().add((c0 + i) * operands.lanes + (v + j) * S::LANES);
                    S::store(slot, S::add(S::load(slot), acc[i][j]));
                }
            }
        }
    }
}
