//! Parameters and multiply-accumulates of the *resulting network*: the architecture with every
//! weight freely learned and BatchNorm around each op's 1x1 convolution (Brock et al. 2018,
//! section 3.1 and appendix C: ordinary weights, BatchNorm in place of weight normalisation).
//!
//! ```text
//! stem        k x k convolution, image -> in[0]
//! op          BN(n_in), 1x1 n_in -> n_b, BN(n_b), w0 w2: n_b -> GN, w1 w3: GN -> GN
//! transition  BN(C), 1x1 C -> in[b + 1] at the resolution of block b, then 2x2 average pool
//! head        BN(C), global pool, C -> classes with bias
//! ```
//!
//! Parameters count BN scale and shift. MACs are those of convolutions and classifier per image,
//! taps on padding included; one MAC is two FLOPs.

use std::ops::Add;

use super::arch::{Architecture, Block, Op};
use super::space::{BLOCKS, Space};

/// What surrounds an architecture in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkShape {
    /// Channels of an image.
    pub image_channels: usize,
    /// Height and width of the image after padding, in pixels.
    pub image_size: usize,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Filter size of the stem.
    pub stem_kernel: usize,
}

/// Parameters and multiply-accumulates per image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Learned numbers.
    pub params: u64,
    /// Multiply-accumulates of one image's forward pass.
    pub macs: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { params: self.params + other.params, macs: self.macs + other.macs }
    }
}

impl Cost {
    /// A convolution (or fully connected layer) of `weights` weights at `pixels` places.
    fn conv(weights: u64, pixels: u64) -> Self {
        Self { params: weights, macs: weights * pixels }
    }

    /// BatchNorm's scale and shift.
    fn norm(channels: u64) -> Self {
        Self { params: 2 * channels, macs: 0 }
    }
}

/// A part of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first convolution.
    Stem,
    /// Op number `op` of block `block`.
    Op {
        /// Number of the block.
        block: usize,
        /// Number of the op in it.
        op: usize,
    },
    /// From block `after` to the next.
    Transition {
        /// The block it leaves.
        after: usize,
    },
    /// The classifier.
    Head,
}

/// The cost of the whole network of a valid architecture.
pub fn cost(arch: &Architecture, shape: &NetworkShape) -> Cost {
    rows(arch, shape).into_iter().fold(Cost::default(), |sum, (_, cost)| sum + cost)
}

/// The cost of each part, in the order in which they run; their sum is [`cost`].
pub fn rows(arch: &Architecture, shape: &NetworkShape) -> Vec<(Part, Cost)> {
    let space = &arch.space;
    let pixels = |block: usize| (shape.image_size as u64 >> block).pow(2);
    let enters: Vec<u64> =
        arch.blocks.iter().enumerate().map(|(b, block)| block.input_channels(b, space) as u64).collect();
    let stem = (shape.stem_kernel as u64).pow(2) * shape.image_channels as u64 * enters[0];
    let mut rows = vec![(Part::Stem, Cost::conv(stem, pixels(0)))];
    for (b, block) in arch.blocks.iter().enumerate() {
        for (i, op) in block.ops.iter().enumerate() {
            rows.push((Part::Op { block: b, op: i }, op_cost(op, block, space, pixels(b))));
        }
        let leaves = block.output_channels(b, space) as u64;
        if b + 1 < BLOCKS {
            let cost = Cost::norm(leaves) + Cost::conv(leaves * enters[b + 1], pixels(b));
            rows.push((Part::Transition { after: b }, cost));
        } else {
            let classes = shape.classes as u64;
            let bias = Cost { params: classes, macs: 0 };
            rows.push((Part::Head, Cost::norm(leaves) + Cost::conv(leaves * classes, 1) + bias));
        }
    }
    rows
}

fn op_cost(op: &Op, block: &Block, space: &Space, pixels: u64) -> Cost {
    let n_in = op.input_channels(block, space) as u64;
    let n_b = op.bottleneck_channels(block, space) as u64;
    let gn = op.output_channels(space) as u64;
    let pointwise = Cost::norm(n_in) + Cost::conv(n_in * n_b, pixels) + Cost::norm(n_b);
    op.body.iter().enumerate().fold(pointwise, |sum, (i, conv)| {
        let Some(conv) = conv else { return sum };
        // w0 and w2 open the two paths; w1 and w3 continue them.
        let input = if i % 2 == 0 { n_b } else { gn };
        let taps = (conv.kernel[0] * conv.kernel[1]) as u64;
        sum + Cost::conv(gn * (input / conv.groups as u64) * taps, pixels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::arch::Conv;

    const SHAPE: NetworkShape = NetworkShape { image_channels: 3, image_size: 8, classes: 5, stem_kernel: 7 };

    /// Small space, bank size 2 (8 channels), one op per block.
    fn example() -> Architecture {
        let conv = |kernel, groups| Some(Conv { kernel, dilation: [1, 1], groups });
        let wide = Op {
            read: vec![0, 1],
            write: vec![2],
            width: 2,
            body: [conv([3, 5], 2), conv([7, 3], 4), conv([3, 3], 1), None],
        };
        let narrow = Op { read: vec![0], write: vec![0], width: 2, body: [conv([3, 3], 1), None, None, None] };
        let block = |op| Block { bank_size: 2, n_banks: 5, ops: vec![op] };
        Architecture::new(Space::fixture(), vec![block(wide), block(narrow.clone()), block(narrow)])
    }

    #[test]
    fn cost_equals_the_network_counted_by_hand() {
        let arch = example();
        arch.validate().unwrap();
        // in = 16, 24, 24 channels, all whole banks of 8; blocks end with 3, 3 and 3 banks.
        let stem = 7 * 7 * 3 * 16;
        // n_in = 16, n_b = min(16, 2 * 8) = 16, GN = 8
        let convs0 = 16 * 16 + 8 * (16 / 2) * 15 + 8 * (8 / 4) * 21 + 8 * 16 * 9;
        // n_in = 8, n_b = min(8, 16) = 8
        let convs1 = 8 * 8 + 8 * 8 * 9;
        let (t0, t1) = (24 * 24, 24 * 24);
        let fc = 24 * 5;
        let norms = 2 * (16 + 16) + 2 * 2 * (8 + 8) + 2 * 24 * 3;
        let params = stem + convs0 + 2 * convs1 + t0 + t1 + fc + 5 + norms;
        let macs = 64 * (stem + convs0 + t0) + 16 * (convs1 + t1) + 4 * convs1 + fc;
        assert_eq!(cost(&arch, &SHAPE), Cost { params, macs });
    }

    #[test]
    fn rows_name_every_part_in_order() {
        let parts: Vec<Part> = rows(&example(), &SHAPE).into_iter().map(|(part, _)| part).collect();
        let op = |block| Part::Op { block, op: 0 };
        let expected =
            [Part::Stem, op(0), Part::Transition { after: 0 }, op(1), Part::Transition { after: 1 }, op(2), Part::Head];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_fixed_expansion_counts_four_times_the_width() {
        let mut arch = example();
        arch.space = Space { expansion: 4, expansion_fixed: true, ..Space::fixture() };
        let block = &arch.blocks[1];
        assert_eq!(block.ops[0].bottleneck_channels(block, &arch.space), 4 * 8);
        let by_hand = (2 * 8 + 8 * 32 + 2 * 32 + 8 * 32 * 9) as u64;
        assert_eq!(op_cost(&block.ops[0], block, &arch.space, 1).params, by_hand);
    }
}
