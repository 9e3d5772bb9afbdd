//! Drawing a random architecture (Brock et al. 2018, section 3.1 and appendix C).
//!
//! Per block, in this order: budget fraction, bank size, number of banks; then ops until fewer
//! slices are left than the smallest op needs, each with its reads, width, writes, body and
//! convolutions (`draw.rs`). All draws come from the one stream that is passed in, so a
//! stream's position decides everything that follows. A draw takes tens of microseconds.

use super::arch::{Architecture, Block};
use super::draw::{BlockDraw, BlockStart};
use super::space::{BLOCKS, MIN_FRACTION, Space};
use crate::rng::Rng;

/// How much of the space may be drawn; it grows during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleLimits {
    /// A block's budget fraction is uniform between [`MIN_FRACTION`] and this (at most 1).
    pub max_fraction: f64,
    /// Largest filter drawn. The smallest filter of the space is always drawn.
    pub max_kernel: usize,
}

impl SampleLimits {
    /// The whole space, as when architectures are scored.
    pub fn full(space: &Space) -> Self {
        Self { max_fraction: 1.0, max_kernel: space.kernels.last().copied().unwrap_or(1) }
    }

    /// The limits at `progress` (0 to 1) of training: over the first half the largest fraction
    /// rises linearly from 0.5 to 1 and the largest filter from the smallest to the largest of
    /// the space, so that early networks are small and fast.
    pub fn at(space: &Space, progress: f64) -> Self {
        let ramp = (2.0 * progress).clamp(0.0, 1.0);
        let full = Self::full(space);
        let smallest = space.kernels.first().copied().unwrap_or(1);
        let grown = ramp * (full.max_kernel - smallest) as f64;
        Self { max_fraction: 0.5 + 0.5 * ramp, max_kernel: smallest + grown as usize }
    }

    fn fraction(&self, rng: &mut Rng) -> f64 {
        let most = self.max_fraction.clamp(MIN_FRACTION, 1.0);
        MIN_FRACTION + (most - MIN_FRACTION) * rng.uniform()
    }
}

/// Draws an architecture of `space`, which must be valid ([`Space::validate`]); the result is too.
pub fn sample(space: &Space, limits: &SampleLimits, rng: &mut Rng) -> Architecture {
    let blocks = (0..BLOCKS).map(|index| sample_block(space, index, limits, rng)).collect();
    Architecture::new(space.clone(), blocks)
}

fn sample_block(space: &Space, index: usize, limits: &SampleLimits, rng: &mut Rng) -> Block {
    let fraction = limits.fraction(rng);
    let sizes = space.bank_sizes(index);
    let bank_size = sizes[rng.below(sizes.len())];
    let n_banks = space.bank_count(index, bank_size, fraction);
    let slices = space.budget(index, fraction);
    let start = BlockStart { index, bank_size, n_banks, slices, max_kernel: limits.max_kernel };
    let mut draw = BlockDraw::new(space, &start);
    let mut ops = Vec::new();
    while draw.most_reads() > 0 {
        let op = draw.op(rng);
        draw.append(&op);
        ops.push(op);
    }
    Block { bank_size, n_banks, ops }
}

#[cfg(test)]
mod tests;
