//! Changing an architecture a little (Brock et al. 2018, appendix C: "a 5% chance of any
//! individual element being randomly resampled").
//!
//! An element is an op's set of reads, its width, its set of writes, its body configuration, or a
//! convolution's filter size or dilation (per axis) or groups, and in spaces with a choice its nonlinearity and the
//! op's gates. Each is redrawn with the given
//! probability from the distribution that sampling draws it from, at the op's place in the
//! changed block. Bank size and number of banks are not elements: they give every other element
//! of a block its meaning, so a block with another bank size would be a new draw. The budget is
//! the block's whole one, whatever fraction of it the architecture was drawn with.
//!
//! What a change makes impossible further on is repaired with as little as possible: reads of
//! banks that are no longer written are dropped, reads are thinned to whole slices and to the
//! budget, writes are renumbered without gaps and topped up or thinned to what the width needs,
//! and ops that no longer fit at the end of a block are dropped. Ops are never added.

use super::arch::{Architecture, Block, Conv, Op};
use super::draw::{BlockDraw, BlockStart};
use super::options::gates_allowed;
use super::sample::SampleLimits;
use super::space::Space;
use crate::rng::Rng;

/// Returns `arch`, which must be valid, with each element redrawn with `probability`; the result
/// is valid too. With probability 0 it equals `arch`.
pub fn perturb(arch: &Architecture, probability: f64, rng: &mut Rng) -> Architecture {
    let blocks = arch.blocks.iter().enumerate();
    let blocks = blocks.map(|(index, block)| perturb_block(&arch.space, index, block, probability, rng)).collect();
    Architecture::new(arch.space.clone(), blocks)
}

fn perturb_block(space: &Space, index: usize, block: &Block, probability: f64, rng: &mut Rng) -> Block {
    let Block { bank_size, n_banks, .. } = *block;
    let max_kernel = SampleLimits::full(space).max_kernel;
    let start = BlockStart { index, bank_size, n_banks, slices: space.slices()[index], max_kernel };
    let mut draw = BlockDraw::new(space, &start);
    let mut ops = Vec::with_capacity(block.ops.len());
    for op in &block.ops {
        if draw.most_reads() == 0 {
            break; // the budget is spent: this op and all after it are dropped
        }
        let op = Redraw { draw: &draw, space, probability, rng: &mut *rng }.op(op);
        draw.append(&op);
        ops.push(op);
    }
    Block { bank_size, n_banks, ops }
}

/// Redraws and repairs the elements of one op.
struct Redraw<'a, 'b> {
    draw: &'a BlockDraw<'b>,
    space: &'a Space,
    probability: f64,
    rng: &'a mut Rng,
}

impl Redraw<'_, '_> {
    fn chance(&mut self) -> bool {
        self.rng.chance(self.probability)
    }

    fn op(&mut self, op: &Op) -> Op {
        let read = if self.chance() { self.draw.read(self.rng) } else { self.repair_read(&op.read) };
        let width = if self.chance() { self.draw.width(read.len(), self.rng) } else { op.width };
        let write = if self.chance() { self.draw.write(width, self.rng) } else { self.repair_write(&op.write, width) };
        let active = if self.chance() { self.draw.body(self.rng) } else { op.active() };
        let mut body = [None; 4];
        for i in (0..4).filter(|&i| active[i]) {
            body[i] = Some(match &op.body[i] {
                Some(conv) => self.conv(conv),
                None => self.draw.conv(self.rng),
            });
        }
        Op { read, write, width, body, gates: self.gates(op, active) }
    }

    /// Both gates are one element; those that a changed body has no place for are dropped.
    fn gates(&mut self, op: &Op, active: [bool; 4]) -> [bool; 2] {
        if self.space.gates && self.chance() {
            return self.draw.gates(active, self.rng);
        }
        let first = op.gates[0] && gates_allowed(active, false)[0];
        [first, op.gates[1] && gates_allowed(active, first)[1]]
    }

    /// Keeps the reads of written banks, as many as make whole slices within the budget.
    fn repair_read(&mut self, read: &[usize]) -> Vec<usize> {
        let kept: Vec<usize> = read.iter().copied().filter(|&bank| bank < self.draw.written()).collect();
        let step = self.draw.read_step();
        match (kept.len() / step * step).min(self.draw.most_reads()) {
            0 => self.draw.read(self.rng),
            count => self.rng.choose(&kept, count),
        }
    }

    /// Keeps the writes as far as `width` and the written banks allow.
    fn repair_write(&mut self, write: &[usize], width: usize) -> Vec<usize> {
        let bounds = self.draw.write_bounds(width);
        let written = self.draw.written();
        let mut kept = write.to_vec();
        self.draw.close_gaps(&mut kept);
        // Of the empty banks stay as many as exist and as the width has channels for.
        kept.retain(|&bank| bank < written + bounds.fresh);
        if kept.len() > bounds.most {
            // Thin by position, not by value: the order of hand-written writes means something.
            let positions: Vec<usize> = (0..kept.len()).collect();
            let positions = self.rng.choose(&positions, bounds.most);
            kept = positions.into_iter().map(|i| kept[i]).collect();
        }
        if kept.len() < bounds.least {
            let others: Vec<usize> = (0..written + bounds.fresh).filter(|bank| !kept.contains(bank)).collect();
            kept.extend(self.rng.choose(&others, bounds.least - kept.len()));
            // Drawn writes ascend; a topped-up list has lost any other order.
            kept.sort_unstable();
        }
        self.draw.close_gaps(&mut kept);
        kept
    }

    fn conv(&mut self, conv: &Conv) -> Conv {
        let mut changed = *conv;
        for axis in 0..2 {
            if axis == 1 && self.space.square_kernels {
                (changed.kernel[1], changed.dilation[1]) = (changed.kernel[0], changed.dilation[0]);
                break;
            }
            if self.chance() {
                changed.kernel[axis] = self.draw.kernel(self.rng);
            }
            let kernel = changed.kernel[axis];
            // A larger filter may not leave room for the dilation it had.
            if self.chance() || changed.dilation[axis] > self.space.max_dilation(kernel) {
                changed.dilation[axis] = self.draw.dilation(kernel, self.rng);
            }
        }
        if self.chance() {
            changed.groups = self.draw.groups(self.rng);
        }
        if self.space.nonlinearities.len() > 1 && self.chance() {
            changed.activation = self.draw.activation(self.rng);
        }
        changed
    }
}

#[cfg(test)]
mod tests;
