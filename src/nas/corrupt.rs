//! Encodings that lie: an architecture's c with some of its facts changed, to see how much the
//! generated weights owe to them (Brock et al. 2018, section 4.2: "shuffling the dilation values").
//!
//! A kind names channels of c ([`Layout`]). Their values are shuffled among the ops of a block (where a
//! bank's number keeps its meaning), each fact by itself, among the ops that state it: an inactive
//! convolution stays without a dilation. What an op reads is a fact of each of its slices, shuffled
//! among the block's slices. Which rows an op fills is left as it is, so its width can still be seen
//! there. The true architecture and the shape of c never change.

use std::ops::Range;

use super::arch::Architecture;
use super::encode::{Encoding, Layout};
use super::sample::{SampleLimits, sample};
use super::space::BLOCKS;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};

/// Draws of another architecture among which one of as many slices is looked for.
const DRAWS: usize = 1000;

/// What is said wrongly about an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corruption {
    /// Dilations, per convolution and axis.
    Dilation,
    /// Filter sizes, per convolution and axis.
    Kernel,
    /// Numbers of groups, per convolution.
    Groups,
    /// Nonlinearities, per convolution.
    Activation,
    /// Gates where paths meet.
    Gate,
    /// Which banks each slice carries.
    Reads,
    /// Which banks each op writes.
    Writes,
    /// The ops' widths.
    Width,
    /// Whole bodies: active convolutions with all that is theirs.
    Body,
    /// Everything: the c of another architecture.
    Another,
}

/// A wrong encoding of an architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrupted {
    /// Of the same shape as the true one.
    pub encoding: Encoding,
    /// Part of the slices (columns) that say something else than the truth, above 0 to 1.
    pub changed: f64,
}

impl Corruption {
    /// All kinds, from the least to the most.
    pub const ALL: [Self; 10] = [
        Self::Dilation,
        Self::Kernel,
        Self::Groups,
        Self::Activation,
        Self::Gate,
        Self::Reads,
        Self::Writes,
        Self::Width,
        Self::Body,
        Self::Another,
    ];

    /// What is done, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Dilation => "dilations shuffled",
            Self::Kernel => "filter sizes shuffled",
            Self::Groups => "groups shuffled",
            Self::Activation => "nonlinearities shuffled",
            Self::Gate => "gates shuffled",
            Self::Reads => "reads shuffled",
            Self::Writes => "writes shuffled",
            Self::Width => "widths shuffled",
            Self::Body => "bodies shuffled",
            Self::Another => "another architecture's c",
        }
    }

    /// The channels of each fact that is shuffled by itself; a fact of several ranges moves as one.
    fn facts(self, layout: &Layout) -> Vec<Vec<Range<usize>>> {
        let one = |range: &Range<usize>| vec![vec![range.clone()]];
        let (convs, axes) = (layout.convs(), layout.axes());
        match self {
            Self::Dilation => parts(&layout.dilation, convs * axes),
            Self::Kernel => parts(&layout.kernel, convs * axes),
            Self::Groups => parts(&layout.groups, convs),
            Self::Activation => parts(&layout.activation, convs),
            Self::Gate => one(&layout.gate),
            Self::Reads => one(&layout.read),
            Self::Writes => one(&layout.write),
            Self::Width => one(&layout.width),
            Self::Body => {
                let Layout { dilation, kernel, active, groups, activation, gate, .. } = layout;
                let ranges = [dilation, kernel, active, groups, activation, gate];
                let stated: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).cloned().collect();
                // Of one kind of fact this would be that kind's own shuffling.
                if stated.len() > 1 { vec![stated] } else { Vec::new() }
            }
            Self::Another => Vec::new(),
        }
    }
}

/// `range` in so many equal parts, each a fact of one range.
fn parts(range: &Range<usize>, count: usize) -> Vec<Vec<Range<usize>>> {
    let len = range.len() / count.max(1);
    let part = |i: usize| range.start + i * len..range.start + (i + 1) * len;
    (0..count).map(|i| Vec::from([part(i)])).collect()
}

/// Corrupts the encoding `c` of `arch`; `encode` writes that of another architecture, as `c` was written.
/// None when nothing can be said wrongly, because a space does not state the facts, or all ops agree in them.
pub fn corrupt(
    arch: &Architecture,
    c: &Encoding,
    kind: Corruption,
    encode: impl Fn(&Architecture) -> Encoding,
    rng: &mut Rng,
) -> Option<Corrupted> {
    let encoding = match kind {
        Corruption::Another => another(arch, c, encode, rng)?,
        _ => shuffled(arch, c, kind, rng)?,
    };
    let differs = |column: usize| {
        (0..c.channels)
            .any(|channel| (0..c.height).any(|row| c.at(channel, row, column) != encoding.at(channel, row, column)))
    };
    let changed = (0..c.width).filter(|&column| differs(column)).count();
    (changed > 0).then(|| Corrupted { changed: changed as f64 / c.width as f64, encoding })
}

/// Columns that state one value together: those of an op, or a single one of them, with the rows they fill.
#[derive(Clone)]
struct Place {
    columns: Range<usize>,
    rows: usize,
}

impl Place {
    fn cells(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.rows).flat_map(|row| self.columns.clone().map(move |column| (row, column)))
    }
}

/// What one place says about a fact: a value per channel.
type Value = Vec<f32>;

fn shuffled(arch: &Architecture, c: &Encoding, kind: Corruption, rng: &mut Rng) -> Option<Encoding> {
    let mut corrupted = c.clone();
    let mut any = false;
    for block in 0..BLOCKS {
        let places = places(arch, block, kind == Corruption::Reads);
        for fact in kind.facts(&Layout::new(&arch.space)) {
            let channels: Vec<usize> = fact.into_iter().flatten().collect();
            let value = |place: &Place| -> Value {
                channels.iter().map(|&channel| c.at(channel, 0, place.columns.start)).collect()
            };
            // No gate is a value too.
            let states = |place: &&Place| kind == Corruption::Gate || value(place).contains(&1.0);
            let stating: Vec<&Place> = places.iter().filter(states).collect();
            let truth: Vec<Value> = stating.iter().map(|place| value(place)).collect();
            if truth.windows(2).all(|pair| pair[0] == pair[1]) {
                continue;
            }
            let mut lie = truth.clone();
            while lie == truth {
                rng.shuffle(&mut lie);
            }
            for (place, value) in stating.into_iter().zip(lie) {
                for (&channel, value) in channels.iter().zip(value) {
                    for (row, column) in place.cells() {
                        corrupted.set(channel, row, column, value);
                    }
                }
            }
            any = true;
        }
    }
    any.then_some(corrupted)
}

/// The ops of a block, or the slices of all of them.
fn places(arch: &Architecture, block: usize, by_slice: bool) -> Vec<Place> {
    let ops = arch.placed_ops().filter(|placed| placed.block_index == block);
    let ops = ops.map(|placed| Place { columns: placed.columns, rows: placed.op.width });
    if !by_slice {
        return ops.collect();
    }
    ops.flat_map(|op| op.columns.map(move |column| Place { columns: column..column + 1, rows: op.rows })).collect()
}

/// The encoding of another architecture of as many slices. Where none of many drawn has, that of the closest, its
/// columns cut off, or repeated from the first one on. None when the space has but one architecture.
fn another(
    arch: &Architecture,
    c: &Encoding,
    encode: impl Fn(&Architecture) -> Encoding,
    rng: &mut Rng,
) -> Option<Encoding> {
    let mut closest: Option<(usize, Architecture)> = None;
    for _ in 0..DRAWS {
        let drawn = sample(&arch.space, &SampleLimits::full(&arch.space), rng);
        let off = drawn.slices().abs_diff(c.width);
        if drawn != *arch && closest.as_ref().is_none_or(|(least, _)| off < *least) {
            closest = Some((off, drawn));
            if off == 0 {
                break;
            }
        }
    }
    let other = encode(&closest?.1);
    let mut fitted = c.clone();
    for channel in 0..c.channels {
        for row in 0..c.height {
            for column in 0..c.width {
                fitted.set(channel, row, column, other.at(channel, row, column % other.width));
            }
        }
    }
    Some(fitted)
}

#[cfg(test)]
mod tests;
