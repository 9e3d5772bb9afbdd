//! y[k] (+)= sum over c, taps of w[k][c][r][s] * x[c] shifted by the tap: the forward pass of
//! every convolution and, with mirrored taps and exchanged channels, its data gradient.
//!
//! Planes are rows of `row_len` = W*N contiguous f32, so a tap (r, s) is a shift of the same
//! row by whole pixels. A tile is up to 8 output channels x 3 vectors held in registers; for
//! every input channel and tap it costs three loads and one broadcast multiply-add per
//! register. Padding is never stored: taps that leave the image for a whole tile are skipped,
//! at the edges loads are masked. Stride 1, zero padding to the same size, odd kernels.

use super::Cpu;
use super::dispatch::{isolated, on_isa};
use super::filter::PackedFilter;
use super::pool::SharedSlice;
use super::simd::{Simd, TILE_VECTORS};

/// Tiles per task: 16 tiles of 48 pixels are about 100 us of work for 64 channels 3x3.
const TILES_PER_TASK: usize = 16;

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

/// One tap as a tile sees it.
struct Tap<S: Simd> {
    /// Offset of its input from the output's position, in elements.
    shift: isize,
    /// Offset of its weights in a channel's.
    weight: usize,
    /// Lanes whose input lies inside the row (edge tiles).
    mask: [S::M; TILE_VECTORS],
}

/// Everything a task needs, shared by all of them.
struct Job<'a> {
    input: &'a Correlation<'a>,
    outputs: &'a [Target<'a>],
    slope: Option<f32>,
    segments: usize,
}

struct Target<'a> {
    data: SharedSlice<'a>,
    add: bool,
    gate: Option<&'a [f32]>,
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
    // The task size is the same on every instruction set, whatever its tile width.
    let segments = input.planes.row_len.div_ceil(TILES_PER_TASK * 48);
    let job = Job { input, outputs: &outputs, slope, segments };
    // SAFETY: planes were checked above; a task writes only its own row segment.
    cpu.pool.run(input.planes.rows * segments, |i| unsafe { task_on(cpu.isa, &job, i) });
}

on_isa!(
    /// # Safety
    /// `isa` is available; all planes have rows * row_len elements; each task index runs once.
    fn task_on / task(job: &Job<'_>, index: usize)
);

#[inline(always)]
unsafe fn task<S: Blocks>(job: &Job<'_>, index: usize) {
    let input = job.input;
    let (row, segment) = (index / job.segments, index % job.segments);
    let width = TILE_VECTORS * S::LANES;
    let start = segment * TILES_PER_TASK * 48;
    let end = input.planes.row_len.min(start + TILES_PER_TASK * 48);
    let mut taps: Vec<Tap<S>> = Vec::with_capacity(input.filter.kernel[0] * input.filter.kernel[1]);
    let mut x0 = start;
    while x0 < end {
        let len = width.min(end - x0);
        // SAFETY: the tile lies inside the row; see `task_on`.
        unsafe {
            let edge = find_taps::<S>(input, row, x0, len, &mut taps);
            for g in 0..input.filter.groups {
                match (input.planes.relu, edge) {
                    (false, false) => group::<S, false, false>(job, g, row, x0, len, &taps),
                    (false, true) => group::<S, false, true>(job, g, row, x0, len, &taps),
                    (true, false) => group::<S, true, false>(job, g, row, x0, len, &taps),
                    (true, true) => group::<S, true, true>(job, g, row, x0, len, &taps),
                }
            }
        }
        x0 += width;
    }
}

/// Collects the taps that meet the image for outputs `x0 .. x0 + len` of `row`; true when
/// masks are needed.
#[inline(always)]
unsafe fn find_taps<S: Simd>(
    input: &Correlation<'_>,
    row: usize,
    x0: usize,
    len: usize,
    taps: &mut Vec<Tap<S>>,
) -> bool {
    let filter = input.filter;
    let [r_len, s_len] = filter.kernel;
    let row_len = input.planes.row_len as isize;
    let mut edge = len < TILE_VECTORS * S::LANES;
    taps.clear();
    for r in 0..r_len {
        let dr = (r * input.planes.dilation[0]) as isize - ((r_len - 1) * input.planes.dilation[0] / 2) as isize;
        if !(0..input.planes.rows as isize).contains(&(row as isize + dr)) {
            continue;
        }
        for s in 0..s_len {
            let pixels =
                (s * input.planes.dilation[1]) as isize - ((s_len - 1) * input.planes.dilation[1] / 2) as isize;
            let shift = pixels * input.planes.pixel as isize;
            // Outputs lo..hi of the row find their input inside the row.
            let (lo, hi) = ((-shift).max(0), row_len - shift.max(0));
            let (first, last) = (lo.max(x0 as isize), hi.min((x0 + len) as isize));
            if first >= last {
                continue;
            }
            edge |= first > x0 as isize || last < (x0 + len) as isize;
            // SAFETY: the instruction set is the caller's promise.
            let mask = std::array::from_fn(|v| unsafe {
                let base = (x0 + v * S::LANES) as isize;
                S::mask(first - base, last - base)
            });
            taps.push(Tap { shift: dr * row_len + shift, weight: (r * s_len + s) * filter.mr, mask });
        }
    }
    edge
}

/// All row blocks of one group for one tile.
#[inline(always)]
unsafe fn group<S: Blocks, const RELU: bool, const EDGE: bool>(
    job: &Job<'_>,
    g: usize,
    row: usize,
    x0: usize,
    len: usize,
    taps: &[Tap<S>],
) {
    let filter = job.input.filter;
    let blocks = filter.rows.div_ceil(filter.mr);
    let block_len = filter.depth * filter.kernel[0] * filter.kernel[1] * filter.mr;
    let channels = &job.input.planes.channels[g * filter.depth..][..filter.depth];
    let position = row * job.input.planes.row_len + x0;
    for block in 0..blocks {
        let weights = &filter.data[(g * blocks + block) * block_len..][..block_len];
        let first = g * filter.rows + block * filter.mr;
        let outputs = &job.outputs[first..][..filter.mr.min(filter.rows - block * filter.mr)];
        let tile = Tile {
            channels,
            position,
            taps: taps.as_ptr().cast(),
            taps_len: taps.len(),
            weights: weights.as_ptr(),
            channel_weights: block_len / filter.depth,
            outputs,
            len,
            slope: job.slope,
        };
        macro_rules! rows {
            ($($mr:literal)*) => {
                match filter.mr {
                    // SAFETY: `weights` holds depth * taps * mr elements; the rest is the caller's promise.
                    $($mr => unsafe { S::block::<$mr, RELU, EDGE>(&tile) },)*
                    mr => unreachable!("a block has 1 to 8 rows, not {mr}"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8);
    }
}

/// One tile of one row block.
struct Tile<'a> {
    channels: &'a [&'a [f32]],
    /// First element in every plane.
    position: usize,
    /// `[Tap<S>; taps_len]`; untyped, so that one struct serves every instruction set.
    taps: *const (),
    taps_len: usize,
    /// `[channel][tap][row]`.
    weights: *const f32,
    channel_weights: usize,
    outputs: &'a [Target<'a>],
    len: usize,
    slope: Option<f32>,
}

isolated!(
    /// # Safety
    /// The instruction set is available; `tile` describes valid planes, weights and taps of `Self`.
    trait Blocks: block_of as block<const MR: usize, const RELU: bool, const EDGE: bool>(tile: &Tile<'_>)
);

#[inline(always)]
unsafe fn block_of<S: Simd, const MR: usize, const RELU: bool, const EDGE: bool>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let taps = std::slice::from_raw_parts(tile.taps.cast::<Tap<S>>(), tile.taps_len);
        let acc = multiply::<S, MR, RELU, EDGE>(tile, taps);
        finish::<S, MR, EDGE>(acc, tile.outputs, tile.position, tile.len, tile.slope);
    }
}

/// The inner loop: MR x TILE_VECTORS accumulators over all channels and taps.
#[inline(always)]
unsafe fn multiply<S: Simd, const MR: usize, const RELU: bool, const EDGE: bool>(
    tile: &Tile<'_>,
    taps: &[Tap<S>],
) -> [[S::V; TILE_VECTORS]; MR] {
    // SAFETY: lanes outside a row are masked in edge tiles and absent from others; weights
    // hold `channel_weights` elements per channel.
    unsafe {
        let zero = S::splat(0.0);
        let mut acc = [[zero; TILE_VECTORS]; MR];
        for (c, plane) in tile.channels.iter().enumerate() {
            let base = plane.as_ptr().wrapping_add(tile.position);
            let channel = tile.weights.add(c * tile.channel_weights);
            for tap in taps {
                let p = base.wrapping_offset(tap.shift);
                let mut x = [zero; TILE_VECTORS];
                for v in 0..TILE_VECTORS {
                    let q = p.wrapping_add(v * S::LANES);
                    x[v] = load::<S, EDGE>(q, tap.mask[v]);
                    if RELU {
                        x[v] = S::max(x[v], zero);
                    }
                }
                let w = channel.add(tap.weight);
                for i in 0..MR {
                    let wi = S::splat(*w.add(i));
                    for v in 0..TILE_VECTORS {
                        acc[i][v] = S::fma(wi, x[v], acc[i][v]);
                    }
                }
            }
        }
        acc
    }
}

/// One vector; masked in edge tiles only.
#[inline(always)]
unsafe fn load<S: Simd, const EDGE: bool>(p: *const f32, mask: S::M) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if EDGE { S::load_masked(p, mask) } else { S::load(p) } }
}

/// Gate, add, activate, store.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const EDGE: bool>(
    acc: [[S::V; TILE_VECTORS]; MR],
    outputs: &[Target<'_>],
    position: usize,
    len: usize,
    slope: Option<f32>,
) {
    for (tile, out) in acc.iter().zip(outputs) {
        // SAFETY: this task alone writes positions position..position+len of each plane.
        let y = unsafe { out.data.range(position, len) }.as_mut_ptr();
        for (v, &sum) in tile.iter().enumerate() {
            let at = v * S::LANES;
            // SAFETY: lanes at or beyond `len` are masked; a tile without edges is full.
            unsafe {
                let mask = S::mask(0, len as isize - at as isize);
                let mut sum = sum;
                if let Some(gate) = out.gate {
                    sum = S::gate(sum, load::<S, EDGE>(gate.as_ptr().wrapping_add(position + at), mask));
                }
                if out.add {
                    sum = S::add(sum, load::<S, EDGE>(y.wrapping_add(at), mask));
                }
                if let Some(slope) = slope {
                    sum = S::max(sum, S::mul(S::splat(slope), sum));
                }
                if EDGE {
                    S::store_masked(y.wrapping_add(at), mask, sum);
                } else {
                    S::store(y.add(at), sum);
                }
            }
        }
    }
}
