//! y[k] (+)= sum over c, taps of w[k][c][r][s] * x[c] shifted by the tap: the forward pass of
//! every convolution and, with mirrored taps and exchanged channels, its data gradient.
//!
//! Planes are rows of `row_len` = W*N contiguous f32, so a tap (r, s) is a shift of the same
//! row by whole pixels. A task is one group's outputs over a few rows and a segment of each. It takes the
//! input channels a block at a time: packs what they hold under the task (`planes.rs`), and runs over tiles of output
//! channels and columns (`tile.rs`). Between blocks the sums of a task lie in scratch memory. Taps that
//! leave the image for a whole tile are skipped. Stride 1, zero padding to the same size, odd kernels.

use super::Cpu;
use super::dispatch::on_isa;
use super::filter::PackedFilter;
use super::planes::{Ahead, Area, Packed, Planes, even, part};
use super::pool::SharedSlice;
use super::scratch::with_scratch;
use super::tile::{Target, Tile, Tiles, Visit, tile_on};
use std::ops::Range;

/// Elements of a segment of a row, as near as equal parts of a row come to it: long beside the pixels that taps
/// reach on either side of it, or, with a single tap, short enough that the block stays in the first two caches.
/// 3x3 dilation 3 with 8 groups loses 10 % at 400, 192->96 1x1 14 % at 800.
const SEGMENT: usize = 800;
const SEGMENT_1X1: usize = 512;
/// Multiply-adds of a task: some 300 us of a core. Rows of a task share packed ones, threads share tasks; between half
/// and four times of this nothing changes by more than the noise of 3 %.
const TASK_WORK: usize = 30 << 20;
/// Tasks there are at least, if there are as many rows: for two threads, one of which may begin late.
const LEAST_TASKS: usize = 4;
/// Packed input of a block of channels and partial sums of a task, in f32: half a megabyte each, which
/// second-level caches hold.
const PACKED: usize = 128 << 10;
/// Input of a tile in f32, all taps of a block of channels: 36 KiB, so that the first-level cache keeps it
/// while all output channels pass.
const TILE_INPUT: usize = 9 << 10;
/// Elements of a tile, for these estimates.
const TILE: usize = 48;

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

/// Everything a task needs, shared by all of them.
struct Job<'a> {
    input: &'a Correlation<'a>,
    outputs: &'a [Target<'a>],
    slope: Option<f32>,
    cut: Cut,
    tasks: usize,
    threads: usize,
}

/// How the work is cut; it depends on shapes alone.
struct Cut {
    /// Output rows of a task, and tasks over all rows.
    rows: usize,
    row_tasks: usize,
    /// Elements of a row in a task, and tasks over a row.
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
        // The rows of a task share packed rows, so the more the better, as long as there are tasks for several threads.
        let work = filter.rows * filter.depth * filter.taps() * segment;
        let packed_rows = (PACKED / (channels * (segment + 2 * reach))).saturating_sub(2 * reach_rows);
        let most = (TASK_WORK / work.max(1)).min(packed_rows).min(PACKED / (filter.rows * segment).max(1));
        let others = filter.groups * planes.row_len.div_ceil(segment);
        let rows = even(planes.rows, most.min((planes.rows / LEAST_TASKS.div_ceil(others)).max(1)), 1);
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
    let job = Job { input, outputs: &outputs, slope, cut, tasks, threads: cpu.pool.threads() };
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

#[inline(always)]
unsafe fn task<S: Tiles>(job: &Job<'_>, index: usize, input: &mut [f32], sums: &mut [f32]) {
    let (cut, filter) = (&job.cut, job.input.filter);
    let area = cut.area(&job.input.planes, index);
    let block_of = |area: &Area, block: usize| {
        let Range { start, end } = part(block, cut.channels, filter.depth);
        let first = area.group * filter.depth;
        Packed::new(&job.input.planes, filter.kernel, area, first + start..first + end)
    };
    for block in 0..cut.blocks {
        let packed = block_of(&area, block);
        let visit = Visit { first: block == 0, last: block + 1 == cut.blocks };
        let next = match index + job.threads {
            _ if !visit.last => Some(block_of(&area, block + 1)),
            next if next < job.tasks => Some(block_of(&cut.area(&job.input.planes, next), 0)),
            _ => None,
        };
        let tiles_len = area.rows.len() * area.columns.len().div_ceil(TILE) * filter.rows.div_ceil(filter.mr);
        let mut ahead = Ahead::new(&job.input.planes, next, &packed, tiles_len);
        // SAFETY: `input` holds the block, `sums` the task's tiles; the rest is the caller's promise.
        unsafe {
            packed.fill::<S>(&job.input.planes, input);
            tiles::<S>(job, &area, &packed, &visit, input, sums, &mut ahead);
        }
    }
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
    ahead: &mut Ahead<'_>,
) {
    let (filter, planes) = (job.input.filter, &job.input.planes);
    let (blocks, most) = (filter.rows.div_ceil(filter.mr), S::vectors(filter.mr));
    let block_len = filter.depth * filter.taps() * filter.mr;
    let weights = &filter.data[area.group * blocks * block_len..][..blocks * block_len];
    let first_weight = (packed.channels.start - area.group * filter.depth) * filter.taps() * filter.mr;
    let outputs = &job.outputs[area.group * filter.rows..][..filter.rows];
    let mut sums = sums.as_mut_ptr();
    for row in area.rows.clone() {
        let mut column = area.columns.start;
        while column < area.columns.end {
            let vectors = next_vectors((area.columns.end - column).div_ceil(S::LANES), most);
            let len = (vectors * S::LANES).min(area.columns.end - column);
            let taps = Taps::new(job.input, packed, row, column, len);
            let x = input[taps.input + column - area.columns.start..].as_ptr();
            for block in 0..blocks {
                let tile = Tile {
                    x,
                    steps: taps.steps,
                    counts: taps.counts,
                    weights: weights[block * block_len + first_weight + taps.weights..].as_ptr(),
                    weight_steps: [filter.taps() * filter.mr, filter.kernel[1] * filter.mr],
                    // Without anything to fetch, what is there: a wild address costs a walk of the page table.
                    ahead: ahead.next(taps.counts.iter().product()).unwrap_or((x, 0)),
                    sums,
                    visit,
                    outputs: &outputs[block * filter.mr..filter.rows.min((block + 1) * filter.mr)],
                    position: row * planes.row_len + column,
                    len,
                    slope: job.slope,
                };
                // SAFETY: taps and vectors stay within the packed rows, the weights in the group's.
                unsafe { tile_on::<S>(filter.mr, vectors, &tile) };
                sums = sums.wrapping_add(filter.mr * vectors * S::LANES);
            }
            column += vectors * S::LANES;
        }
    }
}

/// The taps that meet the image from some element of a tile.
struct Taps {
    /// The first tap's place in the packed input, from the tile's column, and in a channel's weights.
    input: usize,
    weights: usize,
    /// Input channels, rows of taps, taps of a row; and from one to the next, in the packed input.
    counts: [usize; 3],
    steps: [usize; 3],
}

impl Taps {
    /// Of the tile at `row`, `column .. column + len`.
    #[inline(always)]
    fn new(input: &Correlation<'_>, packed: &Packed, row: usize, column: usize, len: usize) -> Self {
        let (filter, planes) = (input.filter, &input.planes);
        let [r_len, s_len] = filter.kernel;
        let [dr, ds] = [planes.dilation[0], planes.dilation[1] * planes.pixel];
        // Of the taps on one side of the centre, as many as there are steps to the edge.
        let (r0, r1) = around(r_len, row / dr, (planes.rows - 1 - row) / dr);
        let (s0, s1) = around(s_len, (column + len - 1) / ds, (planes.row_len - 1 - column) / ds);
        let channels = packed.channels.len();
        let (counts, steps) = if filter.taps() == 1 {
            // Channels in the innermost loop, as if they were taps: their weights follow each other as well.
            ([1, 1, channels], [0, 0, packed.channel_len])
        } else {
            let row_step = dr / packed.row_step * packed.row_len;
            ([channels, r1 - r0, s1 - s0], [packed.channel_len, row_step, ds])
        };
        let first_row = packed.row(row + r0 * dr - r_len / 2 * dr);
        let first_column = packed.lead + s0 * ds - s_len / 2 * ds;
        Self { input: first_row + first_column, weights: (r0 * s_len + s0) * filter.mr, counts, steps }
    }
}

/// The range of `len` taps that begins at most `before` in front of the centre and ends at most `after` behind it.
#[inline(always)]
fn around(len: usize, before: usize, after: usize) -> (usize, usize) {
    ((len / 2).saturating_sub(before), len.min(len / 2 + 1 + after))
}

/// Vectors of the next tile: `most`, but no single one is left over, which would be bound by latency.
fn next_vectors(left: usize, most: usize) -> usize {
    if left == most + 1 && most > 2 { left.div_ceil(2) } else { left.min(most) }
}
