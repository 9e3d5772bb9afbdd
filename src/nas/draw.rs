//! The conditional distributions of one op's elements, given the state of its block.
//!
//! Sampling draws every element of an op from here; perturbing redraws some of them from here,
//! so both explore the same space. The state is how many banks are written and how many slices
//! are left. Source: Brock et al. 2018, section 3.1 and appendix A; the formulas for width and
//! number of writes, which the paper does not print, are stated at their functions.

use super::arch::{Conv, Op};
use super::options::{Nonlinearity, gates_allowed};
use super::space::Space;
use crate::rng::Rng;

/// A block while ops are appended to it.
pub(super) struct BlockDraw<'a> {
    space: &'a Space,
    bank_size: usize,
    /// Bank indices `0..n_banks`, as a slice to choose from.
    banks: Vec<usize>,
    /// Banks `0..written` are not empty.
    written: usize,
    slices_left: usize,
    read_step: usize,
    /// Filter sizes that may be drawn.
    kernels: &'a [usize],
    body_weights: Vec<f64>,
}

/// What a block is before its first op.
pub(super) struct BlockStart {
    /// Number of the block.
    pub index: usize,
    pub bank_size: usize,
    pub n_banks: usize,
    /// Slices its ops may use.
    pub slices: usize,
    /// Largest filter drawn; the smallest of the space may always be drawn.
    pub max_kernel: usize,
}

impl<'a> BlockDraw<'a> {
    pub fn new(space: &'a Space, start: &BlockStart) -> Self {
        let allowed = space.kernels.iter().take_while(|&&kernel| kernel <= start.max_kernel).count().max(1);
        Self {
            space,
            bank_size: start.bank_size,
            banks: (0..start.n_banks).collect(),
            written: space.initial_banks(start.index, start.bank_size),
            slices_left: start.slices,
            read_step: space.read_step(start.bank_size),
            kernels: &space.kernels[..allowed],
            body_weights: space.bodies.iter().map(|body| body.probability).collect(),
        }
    }

    /// Banks `0..written()` are not empty.
    pub fn written(&self) -> usize {
        self.written
    }

    /// A number of reads is a multiple of this.
    pub fn read_step(&self) -> usize {
        self.read_step
    }

    /// Most banks the next op can read, a multiple of [`BlockDraw::read_step`]: limited by what is
    /// written and by the budget. 0 when not even the smallest op fits any more.
    pub fn most_reads(&self) -> usize {
        let affordable = self.slices_left * self.space.depth_compression / self.bank_size;
        self.written.min(affordable) / self.read_step * self.read_step
    }

    /// How many banks an op of `width` units may write.
    pub fn write_bounds(&self, width: usize) -> WriteBounds {
        let least = width / self.bank_size;
        let empty = self.banks.len() - self.written;
        WriteBounds { least, most: (self.written / 2).max(least), fresh: least.min(empty) }
    }

    /// A whole op.
    pub fn op(&self, rng: &mut Rng) -> Op {
        let read = self.read(rng);
        let width = self.width(read.len(), rng);
        let write = self.write(width, rng);
        let active = self.body(rng);
        let body = active.map(|active| active.then(|| self.conv(rng)));
        Op { read, write, width, body, gates: self.gates(active, rng) }
    }

    /// Banks to read: their number uniform over what is allowed, then uniform without replacement.
    pub fn read(&self, rng: &mut Rng) -> Vec<usize> {
        let choices = self.most_reads() / self.read_step;
        let count = self.read_step * (1 + rng.below(choices));
        rng.choose(&self.banks[..self.written], count)
    }

    /// The width G in units, a multiple of the bank size up to k, with probability proportional to
    /// `1 / (0.01 + 10 |G - input|)`: widths near the input's are likely. A block of very few banks
    /// also bounds the width, since every one of its channels needs a bank to go to.
    pub fn width(&self, reads: usize, rng: &mut Rng) -> usize {
        let s = self.bank_size;
        let choices = (self.space.width_units() / s).min(self.banks.len());
        let weights: Vec<f64> =
            (1..=choices).map(|i| 1.0 / (0.01 + 10.0 * (i * s).abs_diff(reads * s) as f64)).collect();
        s * (1 + rng.weighted(&weights))
    }

    /// Banks to write: their number with probability proportional to `exp(-number)`, then uniform
    /// without replacement from the written banks and the first few empty ones. Empty banks drawn
    /// are moved down to the first empty places, so that no gap arises.
    pub fn write(&self, width: usize, rng: &mut Rng) -> Vec<usize> {
        let bounds = self.write_bounds(width);
        // Relative to the smallest number, so that no weight underflows to 0 before the others.
        let weights: Vec<f64> = (0..=bounds.most - bounds.least).map(|extra| (-(extra as f64)).exp()).collect();
        let count = bounds.least + rng.weighted(&weights);
        let mut chosen = rng.choose(&self.banks[..self.written + bounds.fresh], count);
        self.close_gaps(&mut chosen);
        chosen
    }

    /// Renumbers the empty banks among `write` (ascending or not) to the first empty ones, in order.
    pub fn close_gaps(&self, write: &mut [usize]) {
        let mut fresh: Vec<&mut usize> = write.iter_mut().filter(|bank| **bank >= self.written).collect();
        fresh.sort_unstable();
        for (i, bank) in fresh.into_iter().enumerate() {
            *bank = self.written + i;
        }
    }

    /// Which of the four convolutions are active.
    pub fn body(&self, rng: &mut Rng) -> [bool; 4] {
        self.space.bodies[rng.weighted(&self.body_weights)].active
    }

    /// Gates at the junctions of a body with these convolutions, each as likely as not where there may be one.
    pub fn gates(&self, active: [bool; 4], rng: &mut Rng) -> [bool; 2] {
        if !self.space.gates {
            return [false; 2];
        }
        let first = gates_allowed(active, false)[0] && rng.chance(0.5);
        [first, gates_allowed(active, first)[1] && rng.chance(0.5)]
    }

    /// A whole convolution: filter sizes, then dilations, then groups, then what its values pass through.
    pub fn conv(&self, rng: &mut Rng) -> Conv {
        let kernel = self.pair(rng, |rng, _| self.kernel(rng));
        let dilation = self.pair(rng, |rng, axis| self.dilation(kernel[axis], rng));
        let groups = self.groups(rng);
        Conv { kernel, dilation, groups, activation: self.activation(rng) }
    }

    /// One filter size, uniform.
    pub fn kernel(&self, rng: &mut Rng) -> usize {
        self.kernels[rng.below(self.kernels.len())]
    }

    /// One dilation, uniform over those a filter of `kernel` taps may have.
    pub fn dilation(&self, kernel: usize, rng: &mut Rng) -> usize {
        1 + rng.below(self.space.max_dilation(kernel))
    }

    /// A number of convolution groups, uniform.
    pub fn groups(&self, rng: &mut Rng) -> usize {
        self.space.groups[rng.below(self.space.groups.len())]
    }

    /// A nonlinearity, uniform; nothing is drawn where there is no choice.
    pub fn activation(&self, rng: &mut Rng) -> Nonlinearity {
        match self.space.nonlinearities[..] {
            [only] => only,
            ref several => several[rng.below(several.len())],
        }
    }

    /// `[height, width]`, one draw for both where the space has square filters.
    fn pair(&self, rng: &mut Rng, draw: impl Fn(&mut Rng, usize) -> usize) -> [usize; 2] {
        let height = draw(rng, 0);
        [height, if self.space.square_kernels { height } else { draw(rng, 1) }]
    }

    /// Accounts for an op appended to the block.
    pub fn append(&mut self, op: &Op) {
        self.slices_left -= self.space.slices_of(op.read.len(), self.bank_size);
        self.written = op.write.iter().fold(self.written, |written, &bank| written.max(bank + 1));
    }
}

/// How many banks an op may write.
pub(super) struct WriteBounds {
    pub least: usize,
    pub most: usize,
    /// Most of them that may still be empty.
    pub fresh: usize,
}
