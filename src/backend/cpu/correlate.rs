//! y[k] (+)= sum over c, taps of w[k][c][r][s] * x[c] shifted by the tap: the forward pass of
//! every convolution and, with mirrored taps and exchanged channels, its data gradient.
//!
//! Planes are rows of `row_len` = W*N contiguous f32, so a tap (r, s) is a shift of the same
//! row by whole pixels. A task is one group's outputs over a few rows and a segment of each. It
//! takes the input channels a block at a time: copies what they hold under the task into packed
//! rows, with zeros where a tap can leave the image, and runs over tiles of up to 8 output
//! channels x 4 vectors held in registers; an input channel and tap costs a register tile its
//! vectors as loads and its channels as broadcasts. Taps that leave the image for a whole tile are
//! skipped. Stride 1, zero padding to the same size, odd kernels.
//!
//! Why pack: planes of 32x32x50 lie a multiple of 4 KiB apart, so the same place of all channels
//! falls into the same set of the first-level cache. Reading them where they lie ran 64->64 3x3 at
//! 72 % of peak and 3x3 with 8 groups at 23 %.

use super::Cpu;
use super::dispatch::{isolated, on_isa};
use super::filter::PackedFilter;
use super::pool::SharedSlice;
use super::scratch::with_scratch;
use super::simd::{Simd, prefetch};
use std::ops::Range;

/// Elements of a segment of a row, as near as equal parts of a row come to it: long beside the pixels that taps
/// reach on either side of it, or, with a single tap, short enough that the block stays in the first two caches.
/// 3x3 dilation 3 with 8 groups loses 10 % at 400, 192->96 1x1 14 % at 800.
const SEGMENT: usize = 800;
const SEGMENT_1X1: usize = 512;
/// Multiply-adds of a task: some 300 us. With a third of it 64->64 3x3 runs at 80 % of peak instead of 86 %, because
/// fewer output rows share the packed ones.
const TASK_WORK: usize = 30 << 20;
/// Packed input of a block of channels and partial sums of a task, in f32: half a megabyte each, which
/// second-level caches hold.
const PACKED: usize = 128 << 10;
/// Input of a tile in f32, all taps of a block of channels: 36 KiB, so that the first-level cache keeps it
/// while all output channels pass.
const TILE_INPUT: usize = 9 << 10;
/// Elements of a tile, for these estimates.
const TILE: usize = 48;

/// The planes a convolution reads, and how its taps lie on them.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Rows of a plane (H; 1 for a pointwise convolution).
    pub rows: usize,
    /// Elements of a row (W*N; the whole plane for a pointwise convolution).
    pub row_len: usize,
    /// Elements of a pixel (N).
    pub pixel: usize,
    /// Distance of neighbouring taps in rows and in pixels.
    pub dilation: [usize; 2],
    /// One plane per input channel, all groups.
    pub channels: &'a [&'a [f32]],
    /// Apply ReLU to the input as it is loaded.
    pub relu: bool,
}

impl<'a> Planes<'a> {
    /// Planes as one long row each: a single tap has no neighbours.
    pub fn pixels(plane: usize, channels: &'a [&'a [f32]], relu: bool) -> Self {
        Self { rows: 1, row_len: plane, pixel: 1, dilation: [1, 1], channels, relu }
    }

    /// Elements of a plane.
    pub fn plane(&self) -> usize {
        self.rows * self.row_len
    }

    /// How far a kernel reaches from its centre, in rows and in elements of a row.
    pub fn reach(&self, kernel: [usize; 2]) -> [usize; 2] {
        [kernel[0] / 2 * self.dilation[0], kernel[1] / 2 * self.dilation[1] * self.pixel]
    }
}

/// Input of one correlation.
pub struct Correlation<'a> {
    /// What is read.
    pub planes: Planes<'a>,
    /// The weights; `groups * depth == planes.channels.len()`.
    pub filter: &'a PackedFilter<'a>,
}

/// Where one output channel goes.
pub struct OutChannel<'a> {
    /// The plane.
    pub data: &'a mut [f32],
    /// Add to what is there (true) or overwrite it.
    pub add: bool,
    /// Let the result pass only where this plane is positive: the gradient of a ReLU.
    pub gate: Option<&'a [f32]>,
}

struct Target<'a> {
    data: SharedSlice<'a>,
    add: bool,
    gate: Option<&'a [f32]>,
}

/// Everything a task needs, shared by all of them.
struct Job<'a> {
    input: &'a Correlation<'a>,
    outputs: &'a [Target<'a>],
    slope: Option<f32>,
    cut: Cut,
}

/// How the work is cut; it depends on shapes alone.
struct Cut {
    /// Output rows of a task, and units over all rows.
    rows: usize,
    row_tasks: usize,
    /// Elements of a row in a task, and units over a row.
    segment: usize,
    segments: usize,
    /// Input channels of a block, and blocks.
    channels: usize,
    blocks: usize,
}

impl Cut {
    fn new(input: &Correlation<'_>) -> Self {
        let (planes, filter) = (&input.planes, input.filter);
        let [reach_rows, reach] = planes.reach(filter.kernel);
        let most = if filter.taps() == 1 { SEGMENT_1X1 } else { SEGMENT };
        let segment = even(planes.row_len, most, 16);
        let channels = even(filter.depth, TILE_INPUT / (filter.kernel[0] * (TILE + 2 * reach)), 1);
        // The rows of a task share packed rows, so the more the better.
        let work = filter.rows * filter.depth * filter.taps() * segment;
        let packed_rows = (PACKED / (channels * (segment + 2 * reach))).saturating_sub(2 * reach_rows);
        let most = (TASK_WORK / work.max(1)).min(packed_rows).min(PACKED / (filter.rows * segment).max(1));
        let rows = even(planes.rows, most, 1);
        let (row_tasks, segments) = (planes.rows.div_ceil(rows), planes.row_len.div_ceil(segment));
        Self { rows, row_tasks, segment, segments, channels, blocks: filter.depth.div_ceil(channels) }
    }

    /// Scratch of a task in f32: packed input, and sums of a task between blocks of channels.
    fn scratch(&self, input: &Correlation<'_>) -> [usize; 2] {
        let (planes, filter) = (&input.planes, input.filter);
        let [reach_rows, reach] = planes.reach(filter.kernel);
        let row_len = self.segment + 2 * reach + 48;
        let packed = ((self.rows + 2 * reach_rows).min(planes.rows) * row_len + 16) * self.channels;
        let rows = filter.rows.next_multiple_of(filter.mr);
        let sums = self.rows * rows * self.segment.next_multiple_of(16);
        [packed, if self.blocks > 1 { sums } else { 0 }]
    }

    /// Task `index`, one row segment after the other.
    fn area(&self, planes: &Planes<'_>, index: usize) -> Area {
        let (segment, row_task) = (index % self.segments, index / self.segments % self.row_tasks);
        Area {
            group: index / self.segments / self.row_tasks,
            rows: part(row_task, self.rows, planes.rows),
            columns: part(segment, self.segment, planes.row_len),
        }
    }
}

/// The i-th of the parts of length `len` of `0..all`.
pub fn part(i: usize, len: usize, all: usize) -> Range<usize> {
    i * len..all.min((i + 1) * len)
}

/// The length of nearly equal parts of `len`, at most `most` if that is possible, a multiple of `unit`.
pub fn even(len: usize, most: usize, unit: usize) -> usize {
    let parts = len.div_ceil(most.max(unit)).max(1);
    len.div_ceil(parts).next_multiple_of(unit).max(1)
}

/// Runs the correlation; `slope` is that of a leaky ReLU applied to the result (0 is the ReLU).
pub fn correlate(cpu: &Cpu, input: &Correlation<'_>, outputs: Vec<OutChannel<'_>>, slope: Option<f32>) {
    let plane = input.planes.plane();
    assert_eq!(input.planes.channels.len(), input.filter.groups * input.filter.depth);
    assert_eq!(outputs.len(), input.filter.groups * input.filter.rows);
    assert!(input.planes.channels.iter().all(|c| c.len() == plane));
    let outputs: Vec<Target<'_>> = outputs
        .into_iter()
        .map(|o| {
            assert!(o.data.len() == plane && o.gate.is_none_or(|g| g.len() == plane));
            Target { data: SharedSlice::new(o.data), add: o.add, gate: o.gate }
        })
        .collect();
    let cut = Cut::new(input);
    let tasks = input.filter.groups * cut.row_tasks * cut.segments;
    let job = Job { input, outputs: &outputs, slope, cut };
    let [input_len, sums_len] = job.cut.scratch(input);
    cpu.pool.run(tasks, |i| {
        with_scratch(input_len + sums_len, |scratch| {
            let (input, sums) = scratch.split_at_mut(input_len);
            // SAFETY: planes were checked above; a task writes only its own channels, rows and segments.
            unsafe { task_on(cpu.isa, &job, i, input, sums) }
        });
    });
}

on_isa!(
    /// # Safety
    /// `isa` is available; all planes have rows * row_len elements; each task index runs once.
    fn task_on / task(job: &Job<'_>, index: usize, input: &mut [f32], sums: &mut [f32])
);

/// What a unit computes: outputs of `group` in `rows` x `columns`.
struct Area {
    group: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// A block of input channels under an area, and how it lies after packing: `[channel][row][column]`.
struct Packed {
    /// Of all groups.
    channels: Range<usize>,
    /// First packed row of the image, the step to the next, and their number.
    first_row: usize,
    row_step: usize,
    rows: usize,
    /// Columns of the image that a row covers, and zeros in front of them.
    columns: Range<usize>,
    before: usize,
    /// Elements in front of the first column of the area.
    lead: usize,
    row_len: usize,
    channel_len: usize,
}

impl Packed {
    fn new(input: &Correlation<'_>, area: &Area, channels: Range<usize>) -> Self {
        let planes = &input.planes;
        let [reach_rows, reach] = planes.reach(input.filter.kernel);
        // A single output row needs only the rows of its taps.
        let row_step = if area.rows.len() == 1 { planes.dilation[0] } else { 1 };
        let above = (area.rows.start / row_step).min(reach_rows / row_step) * row_step;
        let first_row = area.rows.start - above;
        let end = planes.rows.min(area.rows.end + reach_rows);
        let rows = (end - first_row).div_ceil(row_step);
        // The centre tap of each tile is aligned; the last vector may reach beyond the segment.
        let lead = reach.next_multiple_of(16);
        let row_len = (lead + area.columns.len() + reach).next_multiple_of(16) + 16;
        let start = area.columns.start.saturating_sub(lead);
        let columns = start..planes.row_len.min(area.columns.end + reach);
        let before = lead - (area.columns.start - start);
        // An odd number of cache lines per channel spreads channels over all sets of the cache.
        let channel_len = (rows * row_len / 16 | 1) * 16;
        Self { channels, first_row, row_step, rows, columns, before, lead, row_len, channel_len }
    }

    /// Offset of image row `row`.
    fn row(&self, row: usize) -> usize {
        (row - self.first_row) / self.row_step * self.row_len
    }

    /// The part of row `i` of channel `c` that lies in the image.
    fn source<'a>(&self, planes: &Planes<'a>, c: usize, i: usize) -> &'a [f32] {
        let start = (self.first_row + i * self.row_step) * planes.row_len;
        &planes.channels[self.channels.start + c][start..][self.columns.clone()]
    }

    /// Copies the block, with zeros beside the image.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&self, planes: &Planes<'_>, out: &mut [f32]) {
        for (c, out) in out.chunks_mut(self.channel_len).take(self.channels.len()).enumerate() {
            for (i, row) in out.chunks_mut(self.row_len).take(self.rows).enumerate() {
                let source = self.source(planes, c, i);
                let (before, rest) = row.split_at_mut(self.before);
                let (middle, after) = rest.split_at_mut(source.len());
                before.fill(0.0);
                after.fill(0.0);
                // SAFETY: the instruction set is the caller's promise.
                unsafe { copy::<S>(source, planes.relu, middle) };
            }
        }
    }
}

#[inline(always)]
unsafe fn task<S: Tiles>(job: &Job<'_>, index: usize, input: &mut [f32], sums: &mut [f32]) {
    let (cut, filter) = (&job.cut, job.input.filter);
    let area = cut.area(&job.input.planes, index);
    let first = area.group * filter.depth;
    for block in 0..cut.blocks {
        let Range { start, end } = part(block, cut.channels, filter.depth);
        let packed = Packed::new(job.input, &area, first + start..first + end);
        let visit = Visit { first: block == 0, last: block + 1 == cut.blocks };
        // SAFETY: `input` holds the block, `sums` the task's tiles; the rest is the caller's promise.
        unsafe {
            packed.fill::<S>(&job.input.planes, input);
            tiles::<S>(job, &area, &packed, &visit, input, sums);
        }
    }
}

/// out = source, rectified if `relu`.
#[inline(always)]
unsafe fn copy<S: Simd>(source: &[f32], relu: bool, out: &mut [f32]) {
    if !relu {
        out.copy_from_slice(source);
        return;
    }
    let len = source.len();
    let mut i = 0;
    while i < len {
        // SAFETY: lanes at or beyond `len` are masked.
        unsafe {
            let mask = S::mask(0, (len - i) as isize);
            let x = S::load_masked(source.as_ptr().add(i), mask);
            S::store_masked(out.as_mut_ptr().add(i), mask, S::max(x, S::splat(0.0)));
        }
        i += S::LANES;
    }
}

/// One block of input channels passing over a task.
struct Visit {
    first: bool,
    last: bool,
}

/// All tiles of a task with one block of input channels.
#[inline(always)]
unsafe fn tiles<S: Tiles>(
    job: &Job<'_>,
    area: &Area,
    packed: &Packed,
    visit: &Visit,
    input: &[f32],
    sums: &mut [f32],
) {
    let (filter, planes) = (job.input.filter, &job.input.planes);
    let [r_len, s_len] = filter.kernel;
    let [dr, ds] = [planes.dilation[0], planes.dilation[1] * planes.pixel];
    let (blocks, most) = (filter.rows.div_ceil(filter.mr), S::vectors(filter.mr));
    let block_len = filter.depth * r_len * s_len * filter.mr;
    let weights = &filter.data[area.group * blocks * block_len..][..blocks * block_len];
    let outputs = &job.outputs[area.group * filter.rows..][..filter.rows];
    let mut sums = sums.as_mut_ptr();
    for row in area.rows.clone() {
        // Taps r0..r1 meet the image.
        let r0 = (r_len / 2).saturating_sub(row / dr);
        let r1 = r_len.min(r_len / 2 + 1 + (planes.rows - 1 - row) / dr);
        let mut x = area.columns.start;
        while x < area.columns.end {
            let vectors = next_vectors((area.columns.end - x).div_ceil(S::LANES), most);
            let len = (vectors * S::LANES).min(area.columns.end - x);
            // Taps s0..s1 meet the image from some element of the tile.
            let s0 = (s_len / 2).saturating_sub((x + len - 1) / ds);
            let s1 = s_len.min(s_len / 2 + 1 + (planes.row_len - 1 - x) / ds);
            let first_row = row + r0 * dr - r_len / 2 * dr;
            let offset = packed.row(first_row) + packed.lead + (x - area.columns.start) + s0 * ds - s_len / 2 * ds;
            let (mut counts, mut steps) = (
                [packed.channels.len(), r1 - r0, s1 - s0],
                [packed.channel_len, dr / packed.row_step * packed.row_len, ds],
            );
            if filter.taps() == 1 {
                // Channels in the innermost loop, as if they were taps: their weights follow each other as well.
                (counts, steps) = ([1, 1, counts[0]], [0, 0, steps[0]]);
            }
            for block in 0..blocks {
                let first = block * filter.mr;
                let at = block * block_len + ((packed.channels.start - area.group * filter.depth) * r_len * s_len + r0 * s_len + s0) * filter.mr;
                let tile = Tile {
                    x: input[offset..].as_ptr(),
                    steps,
                    counts,
                    weights: weights[at..].as_ptr(),
                    weight_steps: [r_len * s_len * filter.mr, s_len * filter.mr],
                    sums,
                    visit,
                    outputs: &outputs[first..filter.rows.min(first + filter.mr)],
                    position: row * planes.row_len + x,
                    len,
                    slope: job.slope,
                };
                // SAFETY: the taps and vectors above stay within the packed rows, the weights in the group's.
                unsafe { tile_on::<S>(filter.mr, vectors, &tile) };
                sums = sums.wrapping_add(filter.mr * vectors * S::LANES);
            }
            x += vectors * S::LANES;
        }
    }
}

/// Vectors of the next tile: `most`, but no single one is left over, which would be bound by latency.
fn next_vectors(left: usize, most: usize) -> usize {
    if left == most + 1 && most > 2 { left.div_ceil(2) } else { left.min(most) }
}

/// Calls the micro-kernel of `mr` rows and `vectors` vectors.
#[inline(always)]
unsafe fn tile_on<S: Tiles>(mr: usize, vectors: usize, tile: &Tile<'_>) {
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
struct Tile<'a> {
    /// Packed input under the first tap.
    x: *const f32,
    /// From one input channel, row of taps, tap to the next, in `x`.
    steps: [usize; 3],
    /// Input channels, rows of taps, taps of a row.
    counts: [usize; 3],
    /// Weights of the first tap, one per row of the tile.
    weights: *const f32,
    /// From one input channel, row of taps to the next, in `weights`.
    weight_steps: [usize; 2],
    /// Partial sums of the tile, unless this visit is the first and last.
    sums: *mut f32,
    visit: &'a Visit,
    outputs: &'a [Target<'a>],
    /// First element in the output's plane, and elements.
    position: usize,
    len: usize,
    slope: Option<f32>,
}

isolated!(
    /// # Safety
    /// The instruction set is available; `tile` describes valid input, weights, sums and outputs.
    trait Tiles: tile_of as tile<const MR: usize, const NV: usize>(tile: &Tile<'_>)
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
        for c in 0..channels {
            for r in 0..rows {
                let mut p = tile.x.add(c * tile.steps[0] + r * tile.steps[1]);
                let mut w = tile.weights.add(c * tile.weight_steps[0] + r * tile.weight_steps[1]);
                for _ in 0..taps {
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
