//! The encoding c: an architecture as the image a HyperNet reads (Brock et al. 2018, appendix B).
//!
//! c has one channel per fact, a row per unit of op width, and a column per slice in op order:
//! shape `[channels, height = k, width = slices]`, C,H,W row-major. An op fills rows `[0, width)`
//! of its columns, the rows that will produce its weights, with 1 in the channels of the facts
//! that hold; everything else is empty. The order of an op's writes is not encoded. The paper's
//! height of (N_max/N)^2 would make k times more weights than any op reads, so it is k here.

use std::ops::Range;

use super::arch::{Architecture, Block, Op, PlacedOp};
use super::options::gates_allowed;
use super::space::{BLOCKS, EncodingKind, Space};
use crate::rng::Rng;

const CONVS: usize = 4;

/// An encoded architecture, C,H,W row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// One per name of [`channel_layout`], and one more for noise when asked for.
    pub channels: usize,
    /// k, the widest op in units.
    pub height: usize,
    /// Slices of the whole network.
    pub width: usize,
    /// `channels * height * width` values.
    pub data: Vec<f32>,
}

impl Encoding {
    /// The value at one place.
    pub fn at(&self, channel: usize, row: usize, column: usize) -> f32 {
        self.data[(channel * self.height + row) * self.width + column]
    }

    /// Sets the value at one place.
    pub fn set(&mut self, channel: usize, row: usize, column: usize, value: f32) {
        self.data[(channel * self.height + row) * self.width + column] = value;
    }
}

/// How to write an encoding; the default is the paper's: empty is 0, no noise.
#[derive(Debug, Default)]
pub struct EncodeOptions<'a> {
    /// Value where no fact holds: 0 in the paper, -1 in its published code.
    pub empty: f32,
    /// Adds one last channel of N(0, 1) drawn from this stream, as the published code does. A
    /// score is then no longer a function of the architecture alone.
    pub noise: Option<&'a mut Rng>,
}

/// Where each kind of fact has its channels. A fact that does not vary in the space has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The slice carries bank m.
    pub read: Range<usize>,
    /// The op writes bank m.
    pub write: Range<usize>,
    /// The op is in block b.
    pub block: Range<usize>,
    /// The op is as wide as this many units.
    pub width: Range<usize>,
    /// Per convolution, axis and value 1, 2, ...
    pub dilation: Range<usize>,
    /// Per convolution, axis and filter size of the space.
    pub kernel: Range<usize>,
    /// Per convolution.
    pub active: Range<usize>,
    /// Per convolution and number of groups of the space.
    pub groups: Range<usize>,
    /// Per convolution and nonlinearity of the space.
    pub activation: Range<usize>,
    /// Per junction of a body that may have a gate.
    pub gate: Range<usize>,
    /// All channels, without noise.
    pub channels: usize,
    /// Which of the four convolutions any op of the space may have.
    convs: Vec<usize>,
    /// Which of the two junctions any op of the space may have a gate at.
    junctions: Vec<usize>,
    axes: usize,
    dilations: usize,
}

impl Layout {
    /// The layout of every architecture of `space`.
    pub fn new(space: &Space) -> Self {
        let convs: Vec<usize> = (0..CONVS).filter(|&i| space.bodies.iter().any(|body| body.active[i])).collect();
        let axes = if space.square_kernels { 1 } else { 2 };
        let dilations = space.kernels.iter().map(|&kernel| space.max_dilation(kernel)).max().unwrap_or(1);
        let full = space.encoding == EncodingKind::Full;
        let mut channels = 0;
        let mut take = |present: bool, count: usize| {
            let start = channels;
            channels += if present { count } else { 0 };
            start..channels
        };
        let banks = space.max_banks();
        let read = take(true, banks);
        let write = take(true, banks);
        let block = take(full, BLOCKS);
        let k = space.width_units();
        let width = take(full && k > 1, k);
        let dilation = take(dilations > 1, convs.len() * axes * dilations);
        let (kernels, groups) = (space.kernels.len(), space.groups.len());
        let kernel = take(full && kernels > 1, convs.len() * axes * kernels);
        let active = take(full && space.bodies.len() > 1, convs.len());
        let groups = take(full && groups > 1, convs.len() * groups);
        let nonlinearities = space.nonlinearities.len();
        let activation = take(nonlinearities > 1, convs.len() * nonlinearities);
        let gated = |j: usize| space.gates && space.bodies.iter().any(|body| gates_allowed(body.active, false)[j]);
        let junctions: Vec<usize> = (0..2).filter(|&j| gated(j)).collect();
        let gate = take(true, junctions.len());
        Self {
            read,
            write,
            block,
            width,
            dilation,
            kernel,
            active,
            groups,
            activation,
            gate,
            channels,
            convs,
            junctions,
            axes,
            dilations,
        }
    }

    /// Convolutions that have channels.
    pub fn convs(&self) -> usize {
        self.convs.len()
    }

    /// Axes of a convolution that have channels of their own.
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// What an op fills in its first `width` rows: channels, each with its columns, counted from the op's first.
    pub(super) fn filled(&self, space: &Space, placed: &PlacedOp<'_>) -> Vec<(usize, Range<usize>)> {
        let PlacedOp { block_index, block, op, columns } = placed;
        let facts = self.facts(space, *block_index, op).into_iter().map(|fact| (fact, 0..columns.len()));
        let reads = bank_columns(op, block, space).map(|(p, carrying)| (self.read.start + op.read[p], carrying));
        facts.chain(reads).collect()
    }

    /// The channels that hold everywhere in an op's columns (all but its reads).
    fn facts(&self, space: &Space, block: usize, op: &Op) -> Vec<usize> {
        let mut facts: Vec<usize> = op.write.iter().map(|&bank| self.write.start + bank).collect();
        let mut add = |range: &Range<usize>, offset: usize| {
            if !range.is_empty() {
                facts.push(range.start + offset);
            }
        };
        add(&self.block, block);
        add(&self.width, op.width - 1);
        for (i, &c) in self.convs.iter().enumerate() {
            let Some(conv) = &op.body[c] else { continue };
            for axis in 0..self.axes {
                add(&self.dilation, (i * self.axes + axis) * self.dilations + conv.dilation[axis] - 1);
                let value = position(&space.kernels, conv.kernel[axis]);
                add(&self.kernel, (i * self.axes + axis) * space.kernels.len() + value);
            }
            add(&self.active, i);
            add(&self.groups, i * space.groups.len() + position(&space.groups, conv.groups));
            let value = position(&space.nonlinearities, conv.activation);
            add(&self.activation, i * space.nonlinearities.len() + value);
        }
        for (i, _) in self.junctions.iter().enumerate().filter(|&(_, &j)| op.gates[j]) {
            add(&self.gate, i);
        }
        facts
    }
}

/// The name of each channel, such as `read bank 3` or `kernel conv 1 height 5`.
pub fn channel_layout(space: &Space) -> Vec<String> {
    let layout = Layout::new(space);
    let mut names: Vec<String> = layout.read.clone().map(|m| format!("read bank {m}")).collect();
    names.extend((0..layout.write.len()).map(|m| format!("write bank {m}")));
    names.extend((0..layout.block.len()).map(|b| format!("block {b}")));
    names.extend((0..layout.width.len()).map(|row| format!("width {}", row + 1)));
    let axis_names = if layout.axes == 1 { &[""][..] } else { &[" height", " width"] };
    let mut per_axis = |range: &Range<usize>, fact: &str, values: &[usize]| {
        for conv in layout.convs.iter().filter(|_| !range.is_empty()) {
            for axis in axis_names {
                names.extend(values.iter().map(|value| format!("{fact} conv {conv}{axis} {value}")));
            }
        }
    };
    let dilations: Vec<usize> = (1..=layout.dilations).collect();
    per_axis(&layout.dilation, "dilation", &dilations);
    per_axis(&layout.kernel, "kernel", &space.kernels);
    let active = layout.convs.iter().take(layout.active.len());
    names.extend(active.map(|conv| format!("active conv {conv}")));
    for conv in layout.convs.iter().filter(|_| !layout.groups.is_empty()) {
        names.extend(space.groups.iter().map(|groups| format!("groups conv {conv} {groups}")));
    }
    for conv in layout.convs.iter().filter(|_| !layout.activation.is_empty()) {
        names.extend(space.nonlinearities.iter().map(|kind| format!("activation conv {conv} {}", kind.name())));
    }
    let gates = layout.junctions.iter().take(layout.gate.len());
    names.extend(gates.map(|junction| format!("gate {junction}")));
    names
}

/// Encodes a valid architecture.
pub fn encode(arch: &Architecture, options: EncodeOptions<'_>) -> Encoding {
    let space = &arch.space;
    let layout = Layout::new(space);
    let (height, width) = (space.width_units(), arch.slices());
    let channels = layout.channels + usize::from(options.noise.is_some());
    let mut data = vec![options.empty; layout.channels * height * width];
    for placed in arch.placed_ops() {
        for (channel, columns) in layout.filled(space, &placed) {
            for row in 0..placed.op.width {
                let start = (channel * height + row) * width + placed.columns.start;
                data[start + columns.start..start + columns.end].fill(1.0);
            }
        }
    }
    if let Some(rng) = options.noise {
        data.extend((0..height * width).map(|_| rng.normal() as f32));
    }
    Encoding { channels, height, width, data }
}

/// For each bank read (by position), the columns of the op that carry some of its channels: bank
/// `p` holds units `[p s, (p + 1) s)` of the concatenated input, column `t` units `[t D, (t + 1) D)`.
fn bank_columns(op: &Op, block: &Block, space: &Space) -> impl Iterator<Item = (usize, Range<usize>)> {
    let (s, d) = (block.bank_size, space.depth_compression);
    (0..op.read.len()).map(move |p| (p, p * s / d..((p + 1) * s).div_ceil(d)))
}

/// Index of a value in a space's choices; a valid architecture's values are all there.
fn position<T: PartialEq>(choices: &[T], value: T) -> usize {
    choices.iter().position(|choice| *choice == value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
