//! Parameters and multiply-accumulates of the *resulting network*: the architecture with every
//! weight freely learned and BatchNorm around each op's 1x1 convolution (Brock et al. 2018,
//! section 3.1 and appendix C: ordinary weights, BatchNorm in place of weight normalisation).
//!
//! ```text
//! stem        k x k convolution, image -> in[0]
//! op          BN(n_in), 1x1 n_in -> n_b, BN(n_b), w0 w2: n_b -> GN, w1 w3: GN -> GN
//!             (with activations behind convolutions: no BN(n_in), and BN(GN) at the end of each path)
//! transition  BN(C), 1x1 C -> in[b + 1] at the resolution of block b, then 2x2 average pool
//! head        BN(C), global pool, C -> classes with bias
//! ```
//!
//! Parameters count BN scale and shift. MACs are those of convolutions and classifier per image,
//! taps on padding included; one MAC is two FLOPs. What is left when those taps are skipped is counted too.
//! A stem of stride 2 counts the pixels that it keeps; a network for volumes is the 3-D twin (`twin.rs`).

use std::ops::Add;

use super::arch::{Architecture, Op};
use super::space::BLOCKS;
use super::twin::Taps;

pub use super::twin::NetworkShape;

/// Parameters and multiply-accumulates per image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Learned numbers.
    pub params: u64,
    /// Multiply-accumulates of one image's forward pass.
    pub macs: u64,
    /// Those of them whose tap lies inside the picture, not on its padding.
    pub macs_inside: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            params: self.params + other.params,
            macs: self.macs + other.macs,
            macs_inside: self.macs_inside + other.macs_inside,
        }
    }
}

impl Cost {
    /// A 1x1 convolution (or fully connected layer) of `weights` weights at `pixels` places.
    pub(super) fn pointwise(weights: u64, pixels: u64) -> Self {
        Self { params: weights, macs: weights * pixels, macs_inside: weights * pixels }
    }

    /// A convolution with so many pairs of channels that computes every `stride[axis]`-th pixel of an image of `size`.
    pub(super) fn conv(pairs: u64, taps: Taps, size: [usize; 3], stride: [usize; 3]) -> Self {
        let params = pairs * taps.kernel.iter().product::<usize>() as u64;
        let outputs: usize = size.iter().zip(stride).map(|(size, stride)| size / stride).product();
        let macs_inside = pairs * taps_inside(taps.kernel, taps.dilation, size, stride);
        Self { params, macs: params * outputs as u64, macs_inside }
    }

    /// BatchNorm's scale and shift.
    pub(super) fn norm(channels: u64) -> Self {
        Self { params: 2 * channels, ..Self::default() }
    }
}

/// Over every `stride`-th pixel of a picture, the taps of a "same" convolution that lie inside of it. Its border has
/// as many rows less as a tap is away from the centre.
pub fn taps_inside<const AXES: usize>(
    kernel: [usize; AXES],
    dilation: [usize; AXES],
    size: [usize; AXES],
    stride: [usize; AXES],
) -> u64 {
    let along = |axis: usize| -> usize {
        let (centre, size, stride) = (kernel[axis] / 2, size[axis], stride[axis]);
        let inside = |tap: usize| {
            let away = tap.abs_diff(centre) * dilation[axis];
            // Strided outputs count from the first row: those left out behind the last one are others.
            let behind = size.saturating_sub(away).div_ceil(stride);
            if tap >= centre { behind } else { size.div_ceil(stride).saturating_sub(away.div_ceil(stride)) }
        };
        (0..kernel[axis]).map(inside).sum()
    };
    (0..AXES).map(along).product::<usize>() as u64
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
    let pixels = |block: usize| shape.extent(block).iter().product::<usize>() as u64;
    let enters: Vec<u64> =
        arch.blocks.iter().enumerate().map(|(b, block)| block.input_channels(b, space) as u64).collect();
    let strides = [1, shape.stem_stride, shape.stem_stride];
    let stem = Cost::conv(shape.image_channels as u64 * enters[0], shape.stem(), shape.image(), strides);
    let mut rows = vec![(Part::Stem, stem)];
    for (b, block) in arch.blocks.iter().enumerate() {
        for (i, op) in block.ops.iter().enumerate() {
            rows.push((Part::Op { block: b, op: i }, op_cost(arch, b, op, shape)));
        }
        let leaves = block.output_channels(b, space) as u64;
        if b + 1 < BLOCKS {
            let cost = Cost::norm(leaves) + Cost::pointwise(leaves * enters[b + 1], pixels(b));
            rows.push((Part::Transition { after: b }, cost));
        } else {
            let classes = shape.classes as u64;
            let bias = Cost { params: classes, ..Cost::default() };
            rows.push((Part::Head, Cost::norm(leaves) + Cost::pointwise(leaves * classes, 1) + bias));
        }
    }
    rows
}

fn op_cost(arch: &Architecture, b: usize, op: &Op, shape: &NetworkShape) -> Cost {
    let (block, space, size) = (&arch.blocks[b], &arch.space, shape.extent(b));
    let pixels = size.iter().product::<usize>() as u64;
    let n_in = op.input_channels(block, space) as u64;
    let n_b = op.bottleneck_channels(block, space) as u64;
    let gn = op.output_channels(space) as u64;
    let norm_in = if space.activation.is_pre() { Cost::norm(n_in) } else { Cost::default() };
    let pointwise = norm_in + Cost::pointwise(n_in * n_b, pixels) + Cost::norm(n_b);
    op.body.iter().enumerate().fold(pointwise, |sum, (i, conv)| {
        let Some(conv) = conv else { return sum };
        // w0 and w2 open the two paths; w1 and w3 continue them.
        let input = if i % 2 == 0 { n_b } else { gn };
        let normed = !space.activation.is_pre() && op.ends_path(i);
        let norm = if normed { Cost::norm(gn) } else { Cost::default() };
        sum + norm + Cost::conv(gn * (input / conv.groups as u64), shape.body(conv), size, [1; 3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::arch::{Block, Conv};
    use crate::nas::options::Nonlinearity;
    use crate::nas::space::Space;

    const SHAPE: NetworkShape = NetworkShape::pictures(3, 8, 5, 7);

    /// Small space, bank size 2 (8 channels), one op per block.
    fn example() -> Architecture {
        let conv = |kernel, groups| Some(Conv { kernel, dilation: [1, 1], groups, activation: Nonlinearity::Relu });
        let wide = Op {
            read: vec![0, 1],
            write: vec![2],
            width: 2,
            body: [conv([3, 5], 2), conv([7, 3], 4), conv([3, 3], 1), None],
            gates: [false; 2],
        };
        let body = [conv([3, 3], 1), None, None, None];
        let narrow = Op { read: vec![0], write: vec![0], width: 2, body, gates: [false; 2] };
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
        let found = cost(&arch, &SHAPE);
        assert_eq!((found.params, found.macs), (params, macs));
        // A tap one pixel off the centre misses one row (or column) of the picture, one two pixels off two.
        let three = |side: u64| 3 * side - 2;
        let [three8, five8, seven8] = [three(8), 5 * 8 - 6, 7 * 8 - 12];
        let inside0 = 3 * 16 * seven8 * seven8 + 64 * 16 * 16 + 8 * 8 * three8 * five8 + 8 * 2 * seven8 * three8;
        let inside0 = inside0 + 8 * 16 * three8 * three8 + 64 * t0;
        let inside1 = 16 * (8 * 8 + t1) + 8 * 8 * three(4) * three(4);
        let inside2 = 4 * 8 * 8 + 8 * 8 * three(2) * three(2) + fc;
        assert_eq!(found.macs_inside, inside0 + inside1 + inside2);
    }

    #[test]
    fn a_volume_counts_cubes_and_a_strided_stem_the_pixels_it_keeps() {
        let arch = example();
        let volume = NetworkShape { image_depth: 4, stem_kernel: 3, ..SHAPE };
        // Counted as above, with 27 taps everywhere; blocks of 4 x 8 x 8, 2 x 4 x 4, 1 x 2 x 2.
        let stem = 27 * 3 * 16;
        let convs0 = 16 * 16 + 27 * (8 * (16 / 2) + 8 * (8 / 4) + 8 * 16);
        let convs1 = 8 * 8 + 27 * 8 * 8;
        let norms = 2 * (16 + 16) + 2 * 2 * (8 + 8) + 2 * 24 * 3;
        let found = cost(&arch, &volume);
        assert_eq!(found.params, stem + convs0 + 2 * convs1 + 2 * 24 * 24 + 24 * 5 + 5 + norms);
        let macs = 256 * (stem + convs0 + 24 * 24) + 32 * (convs1 + 24 * 24) + 4 * convs1 + 24 * 5;
        assert_eq!(found.macs, macs);
        // In the last block, of one slice, a third of the taps has no slice to meet.
        let last = op_cost(&arch, 2, &arch.blocks[2].ops[0], &volume);
        assert_eq!(last.macs_inside, 4 * 8 * 8 + 8 * 8 * 4 * 4);

        let strided = rows(&arch, &NetworkShape { image_size: 16, stem_stride: 2, ..SHAPE });
        let plain = rows(&arch, &SHAPE);
        assert_eq!(strided[1..], plain[1..]);
        assert_eq!((strided[0].1.params, strided[0].1.macs), (plain[0].1.params, plain[0].1.macs));
        // Per axis: three taps in front of the centre miss 2, 1 and 1 of 8 outputs, those behind it 1, 1 and 0.
        assert_eq!(strided[0].1.macs_inside, 3 * 16 * (7 * 8 - 6) * (7 * 8 - 6));
    }

    #[test]
    fn taps_inside_the_picture_are_those_of_a_loop_over_it() {
        let cases = [
            ([3, 7], [3, 1], [4, 5], [1, 1]),
            ([5, 3], [2, 9], [8, 6], [1, 1]),
            ([1, 1], [1, 1], [3, 3], [1, 1]),
            ([7, 5], [1, 3], [8, 6], [2, 2]),
            ([3, 7], [1, 2], [2, 4], [2, 1]),
        ];
        for (kernel, dilation, size, stride) in cases {
            let inside = |axis: usize, pixel: usize, tap: usize| {
                let at = (pixel + tap * dilation[axis]).checked_sub(kernel[axis] / 2 * dilation[axis]);
                at.is_some_and(|at| at < size[axis])
            };
            let along = |axis: usize| {
                let pixels = (0..size[axis]).step_by(stride[axis]);
                pixels.map(|pixel| (0..kernel[axis]).filter(|&tap| inside(axis, pixel, tap)).count()).sum::<usize>()
            };
            assert_eq!(taps_inside(kernel, dilation, size, stride), (along(0) * along(1)) as u64);
        }
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
        assert_eq!(op_cost(&arch, 1, &block.ops[0], &SHAPE).params, by_hand);
    }
}
