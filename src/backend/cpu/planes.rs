//! The planes a convolution reads, and copies of what one task of it needs.
//!
//! A block of input channels is packed as `[channel][row][column]`, with zeros where a tap can leave the image on
//! the left or right. Why: planes of 32x32x50 lie a multiple of 4 KiB apart, so the same place of all channels
//! falls into the same set of the first-level cache. Reading them where they lie ran 64->64 3x3 at 72 % of peak and
//! 3x3 with 8 groups at 23 %.

use super::simd::Simd;
use std::ops::Range;

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

/// The i-th of the parts of length `len` of `0..all`.
pub fn part(i: usize, len: usize, all: usize) -> Range<usize> {
    i * len..all.min((i + 1) * len)
}

/// The length of nearly equal parts of `len`, at most `most` if that is possible, a multiple of `unit`.
pub fn even(len: usize, most: usize, unit: usize) -> usize {
    let parts = len.div_ceil(most.max(unit)).max(1);
    len.div_ceil(parts).next_multiple_of(unit).max(1)
}

/// What a task computes: outputs of `group` in `rows` x `columns`.
pub struct Area {
    pub group: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// A block of input channels under an area, and how it lies after packing: `[channel][row][column]`.
#[derive(Clone)]
pub struct Packed {
    /// Of all groups.
    pub channels: Range<usize>,
    /// First packed row of the image, the step to the next, and their number.
    pub first_row: usize,
    pub row_step: usize,
    pub rows: usize,
    /// Columns of the image that a row covers, and zeros in front of them.
    pub columns: Range<usize>,
    pub before: usize,
    /// Elements in front of the first column of the area.
    pub lead: usize,
    pub row_len: usize,
    pub channel_len: usize,
}

impl Packed {
    /// `channels` of all groups, as far as the taps of `area` reach.
    pub fn new(planes: &Planes<'_>, kernel: [usize; 2], area: &Area, channels: Range<usize>) -> Self {
        let [reach_rows, reach] = planes.reach(kernel);
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
        let channel_len = ((rows * row_len / 16) | 1) * 16;
        Self { channels, first_row, row_step, rows, columns, before, lead, row_len, channel_len }
    }

    /// Offset of image row `row`.
    pub fn row(&self, row: usize) -> usize {
        (row - self.first_row) / self.row_step * self.row_len
    }

    /// The part of row `i` of channel `c` that lies in the image.
    fn source<'a>(&self, planes: &Planes<'a>, c: usize, i: usize) -> &'a [f32] {
        let start = (self.first_row + i * self.row_step) * planes.row_len;
        &planes.channels[self.channels.start + c][start..][self.columns.clone()]
    }

    /// Copies the block, with zeros beside the image.
    ///
    /// # Safety
    /// The instruction set is available.
    #[inline(always)]
    pub unsafe fn fill<S: Simd>(&self, planes: &Planes<'_>, out: &mut [f32]) {
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

/// The block that is packed next, on its way into the second-level cache while this one is computed: the first touch
/// of its rows is what a 1x1 convolution waits for most.
pub struct Ahead<'a> {
    planes: &'a Planes<'a>,
    block: Packed,
    /// Cache lines of a row, those of it that one tile fetches, and all lines.
    row_lines: usize,
    per_tile: usize,
    lines: usize,
    /// Line that comes next.
    next: usize,
}

impl<'a> Ahead<'a> {
    /// Prepares to fetch `block` while `tiles` tiles are computed; none without a block.
    pub fn new(planes: &'a Planes<'a>, block: Option<Packed>, current: &Packed, tiles: usize) -> Self {
        let some = block.is_some();
        let block = block.unwrap_or_else(|| current.clone());
        let (rows, row_lines) = (block.channels.len() * block.rows, block.columns.len().div_ceil(16));
        // A tile fetches of one row; where there are fewer tiles than rows, the last rows are not fetched.
        let per_tile = row_lines.div_ceil((tiles / rows).max(1));
        Self { planes, block, row_lines, per_tile, lines: if some { rows * row_lines } else { 0 }, next: 0 }
    }

    /// The lines to fetch during the next tile of `taps` steps: the first, and elements from step to step; none when
    /// all are on their way.
    #[inline(always)]
    pub fn next(&mut self, taps: usize) -> Option<(*const f32, usize)> {
        if self.next >= self.lines {
            return None;
        }
        let (row, line) = (self.next / self.row_lines, self.next % self.row_lines);
        let count = self.per_tile.min(self.row_lines - line);
        self.next += count;
        let source = self.block.source(self.planes, row / self.block.rows, row % self.block.rows);
        Some((source[line * 16..].as_ptr(), (count * 16).div_ceil(taps)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_block_is_fetched_whole_when_there_is_a_tile_for_each_row() {
        let (rows, row_len) = (9, 1600);
        let data = vec![0.0f32; 6 * rows * row_len];
        let channels: Vec<&[f32]> = data.chunks(rows * row_len).collect();
        let planes = Planes { rows, row_len, pixel: 50, dilation: [2, 1], channels: &channels, relu: false };
        for (start, taps, tiles) in [(0, 9 * 4, 24), (4, 7, 100), (4, 150, 31), (8, 1, 18)] {
            let area = Area { group: 0, rows: start..start + 1, columns: 800..1600 };
            let packed = Packed::new(&planes, [3, 3], &area, 1..6);
            let line = |p: *const f32| p as usize / 64;
            let mut fetched = BTreeSet::new();
            let mut ahead = Ahead::new(&planes, Some(packed.clone()), &packed, tiles);
            for _ in 0..tiles {
                let Some((first, step)) = ahead.next(taps) else { break };
                fetched.extend((0..taps).map(|tap| line(first.wrapping_add(tap * step))));
            }
            for (c, i) in (0..5).flat_map(|c| (0..packed.rows).map(move |i| (c, i))) {
                let source = packed.source(&planes, c, i);
                let missing = source.iter().filter(|&x| !fetched.contains(&line(x))).count();
                // With fewer steps than lines some are jumped over.
                let jumped =
                    if taps * 16 * (tiles / (5 * packed.rows)).max(1) < source.len() { source.len() } else { 16 };
                assert!(missing <= jumped, "channel {c} row {i}: {missing} elements, {taps} taps, {tiles} tiles");
            }
        }
        let current = Packed::new(&planes, [3, 3], &Area { group: 0, rows: 0..9, columns: 0..800 }, 0..6);
        assert_eq!(Ahead::new(&planes, None, &current, 10).next(9), None);
    }
}
