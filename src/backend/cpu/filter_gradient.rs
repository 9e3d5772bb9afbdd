//! gw[k][c][r][s] += scale * sum over pixels of gy[k] * x[c] shifted by the tap: the weight
//! gradient of every convolution.
//!
//! A task is a part of the image (some stretches of its rows), one group and a chunk of its input channels; it sums into a
//! place of its own, [c][tap][k]. Parts are few, fixed by the shape, and added in order at the end: the result
//! does not depend on the number of threads. Taps are skipped, not padded: for each tap a stretch of a
//! row is cut to the positions whose input exists. Two ways to sum, chosen by the output channels of a group:
//! `columns` has them in the lanes, and when too many lanes would be idle, `dots` has positions there.

use super::Cpu;
use super::columns::{Columns, columns};
use super::dispatch::on_isa;
use super::dots::{DotTiles, dots};
use super::elementwise::map_row;
use super::filter::Filter;
use super::planes::{Planes, even, part};
use super::pool::SharedSlice;
use super::scratch::with_scratch;
use super::simd::{MOST_LANES, prefetch};
use std::ops::Range;

/// Most parts: with chunks of channels enough for 16 threads on 64 channels; each costs a filter's size of workspace.
const PARTS: usize = 8;
/// Positions worth a part of their own: adding a part costs 2 cycles per weight, this many positions 50 and more.
const PART_POSITIONS: usize = 1600;
/// Input channels times taps of a task, but never fewer channels than the second: gy is packed once for each chunk,
/// which costs as much as 8 multiply-adds per element of it.
const CHUNK: usize = 256;
const CHUNK_CHANNELS: usize = 32;
/// Packed gy of a stretch in f32: 32 KiB of a first-level cache of 48. Half of it is 3 % slower at 16x16.
const STRETCH_LEN: usize = 8192;
/// Stretch of the dot products in positions: their sums are loaded and stored once per stretch, 24 vectors beside 300
/// cycles of multiply-adds, and 12 rows of it stay in the first-level cache.
const DOT_STRETCH: usize = 400;
/// Sums of the dot products of a task in f32, a vector for each: half a second-level cache of 1 MiB.
const DOT_SUMS: usize = 128 << 10;

/// Input channels of a task that adds parts: with one at a time, threads write into each other's cache lines.
const ADD_CHANNELS: usize = 16;

/// Operands of a weight gradient.
pub struct FilterGradient<'a> {
    /// What the forward pass read.
    pub planes: Planes<'a>,
    /// Gradient of the output, `outputs` planes.
    pub gy: &'a [f32],
    /// From one of these planes to the next, in elements: a slice of a volume is a part of its plane.
    pub gy_pitch: usize,
    /// Which elements of the stored filter receive the gradient.
    pub filter: Filter,
    /// Factor on what is added to the gradient.
    pub scale: f32,
}

/// Output channels of a group lie in the lanes, filled up: no more than a quarter of them idle.
fn in_lanes(filter: Filter) -> bool {
    filter.out_len * 4 >= filter.out_len.next_multiple_of(MOST_LANES) * 3
}

/// k per channel and tap of the sums.
fn lanes(filter: Filter) -> usize {
    if in_lanes(filter) { filter.out_len.next_multiple_of(MOST_LANES) } else { filter.out_len }
}

/// Elements of one part: [group][c][tap][k].
fn part_len(filter: Filter) -> usize {
    filter.groups * filter.in_len * filter.taps() * lanes(filter)
}

/// How the work is cut; it depends on shapes alone.
struct Cut {
    parts: usize,
    /// Channels of a task, and tasks over the channels of a group.
    chunk: usize,
    chunks: usize,
    /// Positions of a stretch, and stretches over all rows.
    stretch: usize,
    per_row: usize,
    stretches: usize,
}

impl Cut {
    fn new(job: &FilterGradient<'_>) -> Self {
        let (filter, planes) = (job.filter, &job.planes);
        let (most_stretch, most_chunk) = if in_lanes(filter) {
            (STRETCH_LEN / lanes(filter), (CHUNK / filter.taps()).max(CHUNK_CHANNELS))
        } else {
            (DOT_STRETCH, (DOT_SUMS / (MOST_LANES * filter.out_len * filter.taps())).clamp(1, CHUNK_CHANNELS))
        };
        let stretch = even(planes.row_len, most_stretch, 16);
        let per_row = planes.row_len.div_ceil(stretch);
        let chunk = even(filter.in_len, most_chunk, 1);
        Self {
            parts: (planes.plane() / PART_POSITIONS).clamp(1, PARTS),
            chunk,
            chunks: filter.in_len.div_ceil(chunk),
            stretch,
            per_row,
            stretches: planes.rows * per_row,
        }
    }
}

/// Workspace in f32 that [`filter_gradient`] needs for `filter`.
pub fn filter_gradient_workspace(filter: Filter) -> usize {
    PARTS * part_len(filter)
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
    let (plane, filter) = (job.planes.plane(), job.filter);
    assert_eq!(job.planes.channels.len(), filter.inputs());
    assert!(job.gy_pitch >= plane && job.gy.len() >= (filter.outputs().max(1) - 1) * job.gy_pitch + plane);
    assert!(job.planes.channels.iter().all(|c| c.len() == plane));
    let cut = Cut::new(job);
    let per_channel = filter.taps() * lanes(filter);
    let workspace = &mut workspace[..cut.parts * part_len(filter)];
    let parts = SharedSlice::new(&mut *workspace);
    cpu.pool.run(cut.parts * filter.groups * cut.chunks, |i| {
        let (group, chunk) = (i / cut.chunks % filter.groups, i % cut.chunks);
        let task = Task {
            job,
            stretch: cut.stretch,
            per_row: cut.per_row,
            stretches: share(i / cut.chunks / filter.groups, cut.parts, cut.stretches),
            group,
            channels: part(chunk, cut.chunk, filter.in_len),
            lanes: lanes(filter),
        };
        let first = (i / cut.chunks * filter.in_len + task.channels.start) * per_channel;
        // SAFETY: each task has channels of a part of its own, and runs once.
        let sums = unsafe { parts.range(first, task.channels.len() * per_channel) };
        sums.fill(0.0);
        // SAFETY: `cpu.isa` is available; planes were checked above.
        with_scratch(task.scratch(), |scratch| unsafe { accumulate_on(cpu.isa, &task, scratch, sums) });
    });
    add_parts(cpu, job, &cut, weights, gw, workspace)
}

/// The i-th of `parts` nearly equal ranges of `0..all`.
fn share(i: usize, parts: usize, all: usize) -> Range<usize> {
    all * i / parts..all * (i + 1) / parts
}

/// What a task sums, and into what order.
pub struct Task<'a> {
    /// The operands.
    pub job: &'a FilterGradient<'a>,
    /// Positions of a stretch, and stretches of a row.
    pub stretch: usize,
    per_row: usize,
    stretches: Range<usize>,
    group: usize,
    /// Input channels of the group.
    pub channels: Range<usize>,
    /// k per channel and tap.
    pub lanes: usize,
}

/// A tap over a stretch of outputs.
pub struct Run {
    /// Index of the tap.
    pub tap: usize,
    /// First output after the start of the stretch, and outputs.
    pub skip: usize,
    /// Number of outputs.
    pub len: usize,
    /// First input in every plane.
    pub input: usize,
}

impl<'a> Task<'a> {
    fn scratch(&self) -> usize {
        let filter = self.job.filter;
        let (k, c, taps) = (filter.out_len, self.channels.len(), filter.taps());
        if in_lanes(filter) {
            self.stretch * self.lanes + if self.job.planes.relu { c * self.stretch } else { 0 }
        } else {
            k * c * taps * MOST_LANES
        }
    }

    /// Rows and columns of the stretches, in order.
    pub fn areas(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let row_len = self.job.planes.row_len;
        self.stretches.clone().map(move |i| (i / self.per_row, part(i % self.per_row, self.stretch, row_len)))
    }

    /// Plane of input channel `c` of the chunk.
    pub fn x(&self, c: usize) -> &'a [f32] {
        self.job.planes.channels[self.group * self.job.filter.in_len + self.channels.start + c]
    }

    /// Gradient plane of the group's output channel `k`.
    pub fn gy(&self, k: usize) -> &'a [f32] {
        let first = (self.group * self.job.filter.out_len + k) * self.job.gy_pitch;
        &self.job.gy[first..][..self.job.planes.plane()]
    }

    /// Fetches what the stretch after this one reads first: x of `channels`, and as large a share of gy.
    #[inline(always)]
    pub fn fetch_next(&self, channels: Range<usize>, row: usize, columns: Range<usize>) {
        let planes = &self.job.planes;
        let lines = |plane: &[f32], row: usize| {
            let next = plane.as_ptr().wrapping_add(row * planes.row_len + columns.end);
            (0..columns.len()).step_by(16).for_each(|at| prefetch(next.wrapping_add(at)));
        };
        let share = |c: usize| c * self.job.filter.out_len / self.channels.len();
        (share(channels.start)..share(channels.end)).for_each(|k| lines(self.gy(k), row));
        let lowest = (row + planes.reach(self.job.filter.kernel)[0]).min(planes.rows - 1);
        channels.for_each(|c| lines(self.x(c), lowest));
    }

    /// The taps that have input for outputs `columns` of `row`.
    pub fn runs(&self, row: usize, columns: Range<usize>) -> impl Iterator<Item = Run> {
        let (planes, [r_len, s_len]) = (&self.job.planes, self.job.filter.kernel);
        let [dr, ds] = [planes.dilation[0], planes.dilation[1] * planes.pixel].map(|d| d as isize);
        let (rows, row_len) = (planes.rows as isize, planes.row_len as isize);
        (0..r_len * s_len).filter_map(move |tap| {
            let (r, s) = (tap / s_len, tap % s_len);
            let input_row = row as isize + (r as isize - (r_len / 2) as isize) * dr;
            let shift = (s as isize - (s_len / 2) as isize) * ds;
            let first = columns.start.max((-shift).max(0) as usize);
            let last = columns.end.min((row_len - shift.max(0)).max(0) as usize);
            ((0..rows).contains(&input_row) && first < last).then(|| Run {
                tap,
                skip: first - columns.start,
                len: last - first,
                input: (input_row * row_len + first as isize + shift) as usize,
            })
        })
    }
}

on_isa!(
    /// # Safety
    /// `isa` is available; all planes have rows * row_len elements; `scratch` and `sums` have the task's sizes.
    fn accumulate_on / accumulate(task: &Task<'_>, scratch: &mut [f32], sums: &mut [f32])
);

#[inline(always)]
unsafe fn accumulate<S: Columns + DotTiles>(task: &Task<'_>, scratch: &mut [f32], sums: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        if in_lanes(task.job.filter) { columns::<S>(task, scratch, sums) } else { dots::<S>(task, scratch, sums) }
    }
}

/// Adds the parts in order, and their sum into the window of `gw`; returns the product with the weights.
fn add_parts(
    cpu: &Cpu,
    job: &FilterGradient<'_>,
    cut: &Cut,
    weights: &[f32],
    gw: &mut [f32],
    parts: &mut [f32],
) -> f32 {
    let (filter, lanes, part_len) = (job.filter, lanes(job.filter), part_len(job.filter));
    let [_, s_len] = filter.kernel;
    let (taps, per_channel) = (filter.taps(), filter.taps() * lanes);
    let (parts, gw) = (SharedSlice::new(parts), SharedSlice::new(gw));
    let chunks = filter.in_len.div_ceil(ADD_CHANNELS);
    let mut products = vec![0.0; filter.groups * chunks];
    cpu.pool.pieces(&mut products, 1, |i, result| {
        let mut product = 0.0f64;
        let (g, channels) = (i / chunks, part(i % chunks, ADD_CHANNELS, filter.in_len));
        let (first, len) = ((g * filter.in_len + channels.start) * per_channel, channels.len() * per_channel);
        // SAFETY: in each part, a task has the sums of its own channels.
        let part = |p: usize| unsafe { parts.range(p * part_len + first, len) };
        let sums = part(0);
        for p in 1..cut.parts {
            map_row(cpu, sums, [&*part(p)], true, |[x]| x);
        }
        for k in 0..filter.out_len {
            for (sum, at) in (k..len).step_by(lanes).map(|at| sums[at]).zip(0..) {
                let (c, r, s) = (channels.start + at / taps, at % taps / s_len, at % taps % s_len);
                let index = filter.index(g * filter.out_len + k, c, r, s);
                // SAFETY: elements of different input channels and groups are different.
                unsafe { gw.range(index, 1)[0] += job.scale * sum };
                product += f64::from(sum) * f64::from(weights[index]);
            }
        }
        result[0] = product as f32;
    });
    products.iter().map(|&product| f64::from(product)).sum::<f64>() as f32
}
