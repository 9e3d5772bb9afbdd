//! How many weights of a SMASH network one architecture uses (Brock et al. 2018, section 4.1: the more of them are learned
//! freely for every generated one, the less the network adapts to an architecture).
//!
//! ```text
//! generated   the ops' 1x1 convolutions, n_in n_b each
//! learned     stem; of each block's shared filters the windows of its ops, each weight once; transitions; classifier
//! ```
//!
//! Weights of convolutions and of the classifier count; BatchNorm and biases do not.

use super::arch::{Architecture, Block, PlacedOp};
use super::space::BLOCKS;
use super::twin::NetworkShape;

/// Weights that a HyperNet generates for `arch`.
pub fn generated_weights(arch: &Architecture) -> u64 {
    let weights = |placed: PlacedOp<'_>| {
        let PlacedOp { block, op, .. } = placed;
        op.input_channels(block, &arch.space) * op.bottleneck_channels(block, &arch.space)
    };
    arch.placed_ops().map(weights).sum::<usize>() as u64
}

/// Freely learned weights that `arch` uses in a SMASH network of its space.
pub fn learned_weights(arch: &Architecture, shape: &NetworkShape) -> u64 {
    let (space, blocks) = (&arch.space, &arch.blocks);
    let enters = |b: usize| blocks[b].input_channels(b, space);
    let leaves = |b: usize| blocks[b].output_channels(b, space);
    let stem = shape.stem().kernel.iter().product::<usize>() * shape.image_channels * enters(0);
    let transitions: usize = (0..BLOCKS - 1).map(|b| leaves(b) * enters(b + 1)).sum();
    let classifier = leaves(BLOCKS - 1) * shape.classes;
    let bodies = blocks.iter().flat_map(|block| (0..4).map(|j| union(&windows(arch, block, j, shape))));
    bodies.sum::<u64>() + (stem + transitions + classifier) as u64
}

/// The first `outputs` and `inputs` channels and the middle taps of a stored filter.
struct Window {
    outputs: usize,
    inputs: usize,
    /// Along slices, rows and columns; odd.
    kernel: [usize; 3],
}

/// What the ops of a block use of its shared filter `j`.
fn windows(arch: &Architecture, block: &Block, j: usize, shape: &NetworkShape) -> Vec<Window> {
    let window = |op: &super::arch::Op| {
        let conv = op.body[j].as_ref()?;
        let outputs = op.output_channels(&arch.space);
        // w0 and w2 open the two paths; w1 and w3 continue them.
        let inputs = if j.is_multiple_of(2) { op.bottleneck_channels(block, &arch.space) } else { outputs };
        Some(Window { outputs, inputs: inputs / conv.groups, kernel: shape.body(conv).kernel })
    };
    block.ops.iter().filter_map(window).collect()
}

/// Weights in any of the windows.
fn union(windows: &[Window]) -> u64 {
    // Windows have their middle tap in common: what is `off` it on one side is on the other, too.
    let reach: [usize; 3] =
        std::array::from_fn(|axis| windows.iter().map(|w| w.kernel[axis] / 2 + 1).max().unwrap_or(0));
    let mut total = 0;
    for off in (0..reach[0]).flat_map(|d| (0..reach[1]).flat_map(move |r| (0..reach[2]).map(move |c| [d, r, c]))) {
        let taps: u64 = off.iter().map(|&off| if off == 0 { 1 } else { 2 }).product();
        let covering: Vec<&Window> =
            windows.iter().filter(|w| (0..3).all(|axis| off[axis] <= w.kernel[axis] / 2)).collect();
        let outputs = covering.iter().map(|w| w.outputs).max().unwrap_or(0);
        let inputs = |output: usize| covering.iter().filter(|w| w.outputs > output).map(|w| w.inputs).max();
        total += taps * (0..outputs).filter_map(inputs).sum::<usize>() as u64;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::rng::{Rng, Stream};
    use std::collections::HashSet;

    const SHAPE: NetworkShape = NetworkShape::pictures(3, 8, 5, 7);

    /// Every weight of every op's window by its place in the stored filter.
    fn listed(arch: &Architecture, shape: &NetworkShape) -> usize {
        let mut used = HashSet::new();
        for PlacedOp { block_index, block, op, .. } in arch.placed_ops() {
            for (j, conv) in op.body.iter().enumerate().filter_map(|(j, conv)| conv.as_ref().map(|conv| (j, conv))) {
                let outputs = op.width * arch.space.unit;
                let inputs = if j.is_multiple_of(2) { op.bottleneck_channels(block, &arch.space) } else { outputs };
                let half = shape.body(conv).kernel.map(|taps| taps as isize / 2);
                for (o, i) in (0..outputs).flat_map(|o| (0..inputs / conv.groups).map(move |i| (o, i))) {
                    for d in -half[0]..=half[0] {
                        for r in -half[1]..=half[1] {
                            used.extend((-half[2]..=half[2]).map(|c| (block_index, j, o, i, d, r, c)));
                        }
                    }
                }
            }
        }
        used.len()
    }

    #[test]
    fn a_weight_that_several_ops_use_counts_once() {
        let volume = NetworkShape { image_depth: 8, stem_kernel: 3, ..SHAPE };
        for (space, shape) in [(Space::small(), SHAPE), (Space::fixture(), SHAPE), (Space::small(), volume)] {
            let mut rng = Rng::new(1, Stream::Arch);
            for _ in 0..5 {
                let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
                let [b0, b1, b2] = [0, 1, 2].map(|b| {
                    let block = &arch.blocks[b];
                    (block.input_channels(b, &space), block.output_channels(b, &space))
                });
                let stem = if shape.is_volume() { 27 } else { 49 } * 3 * b0.0;
                let around = stem + b0.1 * b1.0 + b1.1 * b2.0 + b2.1 * 5;
                assert_eq!(learned_weights(&arch, &shape), (listed(&arch, &shape) + around) as u64);
            }
        }
    }

    #[test]
    fn wider_ops_need_more_learned_weights_for_each_generated_one() {
        // The paper's three settings of v1, which it says are roughly 1:4, 1:2 and 2:1.
        let ratio = |g: usize| {
            let space = Space { n_max: 6 * g, ..Space::v1() };
            let mut rng = Rng::new(1, Stream::Arch);
            let archs: Vec<Architecture> =
                (0..20).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)).collect();
            let sum = |of: &dyn Fn(&Architecture) -> u64| archs.iter().map(of).sum::<u64>() as f64;
            sum(&|arch| learned_weights(arch, &NetworkShape::pictures(3, 32, 100, 7))) / sum(&generated_weights)
        };
        let ratios = [4, 8, 16].map(ratio);
        assert!(ratios[0] < 0.8 && ratios[2] > 1.25 && ratios.is_sorted(), "{ratios:?}");
    }
}
