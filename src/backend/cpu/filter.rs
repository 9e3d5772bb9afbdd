//! Windows of filters, packed for the micro-kernels.
//!
//! A [`Filter`] describes which elements of a stored filter [K, C, R, S] an op uses: the
//! first output and input channels and the centre of the kernel window, as SMASH slices its
//! shared filters (Brock et al. 2018, section 3.1). Packing copies that window once per op
//! into the order in which [`super::correlate`] reads it: `[group][row block][c][tap][row]`.

use super::Cpu;

/// The used part of a stored filter, in elements; `groups * out_len` rows of `in_len` channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Output channels per group.
    pub out_len: usize,
    /// Input channels per group.
    pub in_len: usize,
    /// Kernel height and width of the window.
    pub kernel: [usize; 2],
    /// Offset of the window's first element in the stored filter.
    pub offset: usize,
    /// Distance of neighbouring output channels, input channels and kernel rows.
    pub strides: [usize; 3],
}

impl Filter {
    /// A whole stored filter `[K, C/groups, R, S]`.
    pub fn whole(k: usize, c_per_group: usize, kernel: [usize; 2], groups: usize) -> Self {
        Self::centre([k, c_per_group, kernel[0], kernel[1]], k, c_per_group, kernel, groups)
    }

    /// The first `k` rows and `c_per_group` channels and the centre `kernel` window of a stored
    /// filter of extent `stored` = [K, C, R, S]. Kernel extents are odd.
    pub fn centre(stored: [usize; 4], k: usize, c_per_group: usize, kernel: [usize; 2], groups: usize) -> Self {
        let [_, c, r, s] = stored;
        let (r0, s0) = ((r - kernel[0]) / 2, (s - kernel[1]) / 2);
        Self {
            groups,
            out_len: k / groups,
            in_len: c_per_group,
            kernel,
            offset: r0 * s + s0,
            strides: [c * r * s, r * s, s],
        }
    }

    /// Layer `t` of a filter of volumes [K, C, T, R, S], which is written as one of T*R rows: a filter of pictures.
    pub fn layer(self, t: usize, layers: usize) -> Self {
        let rows = self.kernel[0] / layers;
        Self { kernel: [rows, self.kernel[1]], offset: self.offset + t * rows * self.strides[2], ..self }
    }

    /// Kernel taps.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements in the window.
    pub fn len(self) -> usize {
        self.groups * self.out_len * self.in_len * self.taps()
    }

    /// True when the window holds nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Output channels over all groups.
    pub fn outputs(self) -> usize {
        self.groups * self.out_len
    }

    /// Input channels over all groups.
    pub fn inputs(self) -> usize {
        self.groups * self.in_len
    }

    /// Index in the stored filter of output channel `k` (over all groups), input channel `c`
    /// of its group, tap (r, s).
    #[inline]
    pub fn index(self, k: usize, c: usize, r: usize, s: usize) -> usize {
        self.offset + k * self.strides[0] + c * self.strides[1] + r * self.strides[2] + s
    }
}

/// A filter in the order of the micro-kernel: `groups` times `blocks` of `mr` rows.
#[derive(Debug)]
pub struct PackedFilter<'a> {
    /// Groups.
    pub groups: usize,
    /// Rows (channels produced) per group.
    pub rows: usize,
    /// Channels consumed per group.
    pub depth: usize,
    /// Kernel extent.
    pub kernel: [usize; 2],
    /// Rows per block; the last block of a group is filled up with zero rows.
    pub mr: usize,
    /// `[group][block][depth][tap][mr]`.
    pub data: &'a [f32],
}

/// The direction a filter is packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rows are output channels.
    Forward,
    /// Rows are input channels and the taps are mirrored: the data gradient.
    Backward,
}

impl<'a> PackedFilter<'a> {
    /// Kernel taps.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Workspace in f32 for packing `filter` for `direction` on any instruction set:
    /// at most one row in four is filling (`block_rows`).
    pub fn workspace(filter: Filter, direction: Direction) -> usize {
        let (rows, depth) = Self::extent(filter, direction);
        filter.groups * (rows + rows.div_ceil(4)) * depth * filter.taps()
    }

    fn extent(filter: Filter, direction: Direction) -> (usize, usize) {
        match direction {
            Direction::Forward => (filter.out_len, filter.in_len),
            Direction::Backward => (filter.in_len, filter.out_len),
        }
    }

    /// Packs `scale * weights[window]` into `workspace`, in blocks of rows that fit the instruction set.
    pub fn pack(
        cpu: &Cpu,
        filter: Filter,
        direction: Direction,
        weights: &[f32],
        scale: f32,
        workspace: &'a mut [f32],
    ) -> Self {
        let (rows, depth) = Self::extent(filter, direction);
        let mr = block_rows(rows, cpu.isa().tile_rows());
        let blocks = rows.div_ceil(mr);
        let [r_len, s_len] = filter.kernel;
        let taps = filter.taps();
        let used = &mut workspace[..filter.groups * blocks * depth * taps * mr];
        cpu.pool.pieces(used, depth * taps * mr, |i, block| {
            let (g, first) = (i / blocks, i % blocks * mr);
            for row in 0..mr {
                if first + row >= rows {
                    block[row..].iter_mut().step_by(mr).for_each(|slot| *slot = 0.0);
                    continue;
                }
                for (d, slots) in block.chunks_mut(taps * mr).enumerate() {
                    let mut slots = slots[row..].iter_mut().step_by(mr);
                    let [k, c] = match direction {
                        Direction::Forward => [g * rows + first + row, d],
                        Direction::Backward => [g * depth + d, first + row],
                    };
                    for r in 0..r_len {
                        let stored = |r: usize| weights[filter.index(k, c, r, 0)..][..s_len].iter();
                        let write = |(w, slot): (&f32, &mut f32)| *slot = scale * w;
                        match direction {
                            Direction::Forward => stored(r).zip(&mut slots).for_each(write),
                            Direction::Backward => stored(r_len - 1 - r).rev().zip(&mut slots).for_each(write),
                        }
                    }
                }
            }
        });
        Self { groups: filter.groups, rows, depth, kernel: filter.kernel, mr, data: used }
    }
}

/// Rows of a block, more than half of `most` if there are as many: those that leave the fewest rows to fill, 36 = 6 x 6
/// rather than 4 x 8 + 4.
fn block_rows(rows: usize, most: usize) -> usize {
    let even = |blocks: usize| rows.div_ceil(blocks);
    let fewest = rows.div_ceil(most);
    let choices = (fewest..fewest + 3).map(even).filter(|&mr| mr == even(fewest) || mr > most / 2);
    choices.min_by_key(|&mr| rows.next_multiple_of(mr)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_large_and_leave_few_rows_to_fill() {
        let chosen = [1, 4, 8, 9, 10, 18, 30, 36, 42, 64, 144].map(|rows| block_rows(rows, 8));
        assert_eq!(chosen, [1, 4, 8, 5, 5, 6, 6, 6, 7, 8, 8]);
        for (rows, most) in (1..200).flat_map(|rows| [4, 6, 8].map(|most| (rows, most))) {
            let mr = block_rows(rows, most);
            assert!(mr <= most && rows.next_multiple_of(mr) <= rows + rows.div_ceil(4), "{rows} {most}: {mr}");
        }
    }
}
