//! The shapes of `--shapes space`: what networks of the search space v2 compute at 50 images of 32 x 32.
//!
//! Three lists: convolutions that the goals of this project are stated for; the most expensive ones of sampled
//! architectures at each resolution, those that occur several times counted as often; and every other op at the
//! extents it has there.

use super::spec::{Gradients, Spec};
use crate::nas::arch::{Architecture, PlacedOp};
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::space::Space;
use crate::rng::{Rng, Stream};

/// Images of a batch, and rows and columns of the pictures: those of the paper.
const N: usize = 50;
const SIDE: usize = 32;
/// Architectures that are sampled: their convolutions are mostly different.
const SAMPLED: usize = 8;
/// Of the sampled ones, so many of each kind (op, resolution, with groups or without) are timed.
const TIMED: usize = 1;

/// All of them, those of architectures drawn from `seed`.
pub fn specs(seed: u64) -> Vec<Spec> {
    let mut specs = stated();
    for spec in drawn(seed).into_iter().chain(hypernet()).chain(others()) {
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    specs
}

/// A convolution with a window of a block's shared filter, without a ReLU.
fn body(c: usize, k: usize, side: usize, kernel: [usize; 2], dilation: [usize; 2], groups: usize) -> Spec {
    let space = Space::v2();
    let stored = Some([space.n_max, space.expansion * space.n_max, 7, 7]);
    let (slope, gradients) = (None, Gradients::Both);
    Spec::Conv2d { c, k, kernel, dilation, groups, size: [side; 2], n: N, stored, slope, scaled: false, gradients }
}

fn pointwise(views: usize, c: usize, k: usize, side: usize, relu: bool) -> Spec {
    Spec::Pointwise { views, c, k, size: [side; 2], n: N, relu }
}

/// What goals are stated for.
fn stated() -> Vec<Spec> {
    let stem = Spec::Conv2d {
        c: 3,
        k: 64,
        kernel: [7, 7],
        dilation: [1, 1],
        groups: 1,
        size: [SIDE; 2],
        n: N,
        stored: None,
        slope: None,
        scaled: false,
        gradients: Gradients::Weight,
    };
    vec![
        body(64, 64, 32, [3, 3], [1, 1], 1),
        body(64, 64, 16, [5, 7], [2, 1], 4),
        body(64, 64, 16, [5, 7], [2, 1], 1),
        body(64, 64, 8, [7, 7], [1, 1], 1),
        body(64, 64, 32, [7, 7], [1, 1], 1),
        body(64, 64, 32, [3, 3], [3, 3], 8),
        body(8, 8, 32, [3, 3], [1, 1], 1),
        body(64, 64, 8, [3, 3], [1, 1], 1),
        stem,
        pointwise(4, 32, 64, 32, true),
    ]
}

/// The most expensive convolutions of sampled architectures, of each kind.
fn drawn(seed: u64) -> Vec<Spec> {
    let (space, mut rng) = (Space::v2(), Rng::new(seed, Stream::Arch));
    let mut counted: Vec<(Spec, u64)> = Vec::new();
    for _ in 0..SAMPLED {
        let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
        for (spec, flop) in arch.placed_ops().flat_map(|placed| convolutions(&arch, &placed)) {
            match counted.iter_mut().find(|(known, _)| *known == spec) {
                Some((_, sum)) => *sum += flop,
                None => counted.push((spec, flop)),
            }
        }
    }
    counted.sort_by_key(|&(_, flop)| std::cmp::Reverse(flop)); // stable: equal ones as drawn
    let mut chosen: Vec<Spec> = Vec::new();
    for (spec, _) in counted {
        if chosen.iter().filter(|known| kind(known) == kind(&spec)).count() < TIMED {
            chosen.push(spec);
        }
    }
    chosen
}

/// Op, resolution, and whether there are groups.
fn kind(spec: &Spec) -> Option<(&'static str, [usize; 2], bool)> {
    match spec {
        Spec::Conv2d { size, groups, .. } => Some(("conv2d", *size, *groups > 1)),
        Spec::Pointwise { size, .. } => Some(("pointwise", *size, false)),
        _ => None,
    }
}

/// The convolutions of an op, with the operations of their forward passes.
fn convolutions(arch: &Architecture, placed: &PlacedOp<'_>) -> Vec<(Spec, u64)> {
    let (space, side) = (&arch.space, SIDE >> placed.block_index);
    let n_b = placed.op.bottleneck_channels(placed.block, space);
    let outputs = placed.op.output_channels(space);
    let (views, bank) = (placed.op.read.len(), placed.block.bank_size * space.unit);
    let pixels = (side * side * N) as u64;
    let mut found = vec![(pointwise(views, bank, n_b, side, true), 2 * (views * bank * n_b) as u64 * pixels)];
    for (i, conv) in placed.op.body.iter().enumerate() {
        let Some(conv) = conv else { continue };
        let c = if i % 2 == 0 { n_b } else { outputs };
        let weights = outputs * c / conv.groups * conv.kernel[0] * conv.kernel[1];
        let mut spec = body(c, outputs, side, conv.kernel, conv.dilation, conv.groups);
        // The first one of a path is rectified where a second one reads it.
        if let (Spec::Conv2d { slope, .. }, true) = (&mut spec, i % 2 == 0 && placed.op.body[i + 1].is_some()) {
            *slope = Some(0.0);
        }
        found.push((spec, 2 * weights as u64 * pixels));
    }
    found
}

/// The HyperNet: one image, as wide as an architecture has slices.
fn hypernet() -> Vec<Spec> {
    let conv = |c: usize, k: usize, kernel: usize| Spec::Conv2d {
        c,
        k,
        kernel: [kernel; 2],
        dilation: [1, 1],
        groups: 1,
        size: [8, 400],
        n: 1,
        stored: None,
        slope: Some(0.02),
        scaled: true,
        gradients: Gradients::Both,
    };
    vec![
        conv(151, 10, 3),
        conv(240, 120, 1),
        conv(160, 256, 1),
        Spec::GatherFilters { slices: 400, height: 8, slice_channels: 16, row_units: 16, filters: 40 },
        Spec::Weightnorm { filters: 40, weights: 40 * 128 * 160 },
    ]
}

/// Passes over memory, the ends of a network, optimisers.
fn others() -> Vec<Spec> {
    let size = [SIDE; 2];
    vec![
        pointwise(1, 192, 96, 32, false), // a transition
        Spec::Batchnorm { views: 1, c: 64, size, n: N },
        Spec::Batchnorm { views: 6, c: 32, size, n: N },
        Spec::Add { c: 64, size, n: N },
        Spec::Activation { c: 64, size, n: N },
        Spec::Gate { c: 64, size, n: N },
        Spec::Concat { views: 2, c: 64, size, n: N },
        Spec::AvgPool { c: 64, size, n: N },
        Spec::MaxPool { c: 64, size, n: N },
        Spec::Mean { views: 3, c: 64, size, n: N },
        Spec::Subsample { c: 64, size: [96; 2], n: N },
        Spec::BatchGather { c: 3, size, n: N },
        Spec::VolumeGather { views: 24, size: [SIDE; 3], n: N },
        Spec::Conv3d { c: 32, k: 32, dilation: [1; 3], groups: 1, size: [16; 3], n: 10 },
        Spec::GlobalAvgPool { c: 256, size: [SIDE / 4; 2], n: N },
        Spec::Linear { c: 256, k: 10, n: N },
        Spec::CrossEntropy { k: 10, n: N },
        // As many as the SMASH network of this space has, rounded.
        Spec::Adam { parameters: 4 << 20 },
        Spec::Sgd { parameters: 4 << 20 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_is_among_the_shapes_and_none_twice() {
        let specs = specs(1);
        let ops: std::collections::BTreeSet<&str> = specs.iter().map(Spec::op).collect();
        for check in crate::ops::checks() {
            assert!(ops.contains(check.op), "{} is not timed", check.op);
        }
        for (i, spec) in specs.iter().enumerate() {
            assert!(!specs[..i].contains(spec), "{spec:?} is there twice");
        }
        assert!(drawn(1) != drawn(2) && drawn(1) == drawn(1));
    }
}
