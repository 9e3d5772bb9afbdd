//! An architecture as plain data, and its JSON form; `text` reads that, and shorter ones written by hand.
//!
//! ```text
//! Architecture { schema, space, blocks: 3 x Block { bank_size, n_banks, ops: Vec<Op> } }
//! Op { read: banks, write: banks, width, body: 4 x Option<Conv { kernel, dilation, groups, activation }>, gates }
//! ```
//!
//! An op computes `y = body(conv1x1(relu(concat(banks[read]))))`, `width * unit` channels, and adds
//! channel group `j mod (width / bank_size)` of `y` to bank `write[j]` (Brock et al. 2018, section 3.1).
//! The rules an architecture obeys are checked by [`Architecture::validate`]; the derived sizes
//! below assume that they hold.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::options::Nonlinearity;
use super::space::{BLOCKS, Space};
use crate::{Error, Result};

/// Version of the JSON form that this engine reads and writes.
pub const SCHEMA: u32 = 1;

/// A network of the search space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Version of this form, [`SCHEMA`].
    pub schema: u32,
    /// The space it belongs to.
    pub space: Space,
    /// Exactly three, at full, half and quarter resolution.
    pub blocks: Vec<Block>,
}

/// One resolution of the network: its memory banks and the ops on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Channels of a bank, in units.
    pub bank_size: usize,
    /// Banks there may be. The first hold the block's input; those never written do not exist.
    pub n_banks: usize,
    /// In the order in which they run.
    pub ops: Vec<Op>,
}

/// One layer: read banks, generated 1x1 convolution, body, add to banks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// Banks read, ascending, concatenated in this order.
    pub read: Vec<usize>,
    /// Banks written, distinct. The order says which channels go where; drawn ones ascend.
    pub write: Vec<usize>,
    /// The paper's G: output channels, in units.
    pub width: usize,
    /// w0 then w1 (path A), w2 then w3 (path B); `None` where inactive.
    pub body: [Option<Conv>; 4],
    /// Is there a gate, tanh of path A times sigmoid of path B: behind w0 and w2; at the end, in place of the sum?
    #[serde(default, skip_serializing_if = "no_gates")]
    pub gates: [bool; 2],
}

fn no_gates(gates: &[bool; 2]) -> bool {
    *gates == [false; 2]
}

/// One active convolution of a body. Pairs are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Filter size.
    pub kernel: [usize; 2],
    /// 1 is an ordinary filter.
    pub dilation: [usize; 2],
    /// Convolution groups.
    pub groups: usize,
    /// What its values pass through; a gate takes its place.
    #[serde(default, skip_serializing_if = "Nonlinearity::is_relu")]
    pub activation: Nonlinearity,
}

/// An op and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedOp<'a> {
    /// Number of its block.
    pub block_index: usize,
    /// Its block.
    pub block: &'a Block,
    /// The op itself.
    pub op: &'a Op,
    /// Its slices: columns of the encoding, and of the HyperNet's output.
    pub columns: Range<usize>,
}

impl Conv {
    /// "Same" padding per axis, `[height, width]`.
    pub fn padding(&self) -> [usize; 2] {
        std::array::from_fn(|axis| (self.kernel[axis] - 1) * self.dilation[axis] / 2)
    }
}

impl Op {
    /// n_in: channels that enter the 1x1 convolution.
    pub fn input_channels(&self, block: &Block, space: &Space) -> usize {
        self.read.len() * block.bank_size * space.unit
    }

    /// GN: channels that leave the body.
    pub fn output_channels(&self, space: &Space) -> usize {
        self.width * space.unit
    }

    /// n_b: channels between the 1x1 convolution and the body.
    pub fn bottleneck_channels(&self, block: &Block, space: &Space) -> usize {
        let most = space.expansion * self.output_channels(space);
        if space.expansion_fixed { most } else { most.min(self.input_channels(block, space)) }
    }

    /// Slices (columns of the encoding) that the op occupies.
    pub fn slices(&self, block: &Block, space: &Space) -> usize {
        space.slices_of(self.read.len(), block.bank_size)
    }

    /// Which of the op's output channels are added to bank `write[j]`. An op that writes more
    /// banks than it has channels for starts over with its first channels.
    pub fn write_channels(&self, j: usize, block: &Block, space: &Space) -> Range<usize> {
        let bank_channels = block.bank_size * space.unit;
        let start = j % (self.width / block.bank_size) * bank_channels;
        start..start + bank_channels
    }

    /// Is convolution `j` of the body the last one of its path?
    pub fn ends_path(&self, j: usize) -> bool {
        j % 2 == 1 || self.body[j + 1].is_none()
    }

    /// Which of the four convolutions are active.
    pub fn active(&self) -> [bool; 4] {
        self.body.map(|conv| conv.is_some())
    }
}

impl Block {
    /// Channels that enter block number `index`: whole banks only, so what stem or transition
    /// emits is cut to a multiple of the bank size.
    pub fn input_channels(&self, index: usize, space: &Space) -> usize {
        self.initial_banks(index, space) * self.bank_size * space.unit
    }

    /// Banks that hold the input of block number `index`; banks `0..` this start written.
    pub fn initial_banks(&self, index: usize, space: &Space) -> usize {
        space.initial_banks(index, self.bank_size)
    }

    /// Banks that are not empty after the last op, ascending: what the transition or head reads.
    pub fn written_banks(&self, index: usize, space: &Space) -> Vec<usize> {
        let initial = self.initial_banks(index, space);
        let mut banks: Vec<usize> =
            (0..initial).chain(self.ops.iter().flat_map(|op| op.write.iter().copied())).collect();
        banks.sort_unstable();
        banks.dedup();
        banks
    }

    /// Channels of [`Block::written_banks`].
    pub fn output_channels(&self, index: usize, space: &Space) -> usize {
        self.written_banks(index, space).len() * self.bank_size * space.unit
    }

    /// Slices of all its ops.
    pub fn slices(&self, space: &Space) -> usize {
        self.ops.iter().map(|op| op.slices(self, space)).sum()
    }
}

impl Architecture {
    /// An architecture of `space` in the current schema; not validated.
    pub fn new(space: Space, blocks: Vec<Block>) -> Self {
        Self { schema: SCHEMA, space, blocks }
    }

    /// Slices of the whole network: the width of its encoding.
    pub fn slices(&self) -> usize {
        self.blocks.iter().map(|block| block.slices(&self.space)).sum()
    }

    /// Every op in the order in which they run, with its place in the network.
    pub fn placed_ops(&self) -> impl Iterator<Item = PlacedOp<'_>> {
        let mut next = 0;
        let blocks = self.blocks.iter().enumerate();
        let ops = blocks.flat_map(|(index, block)| block.ops.iter().map(move |op| (index, block, op)));
        ops.map(move |(index, block, op)| {
            let start = next;
            next += op.slices(block, &self.space);
            PlacedOp { block_index: index, block, op, columns: start..next }
        })
    }

    /// Layers with weights: stem, 1x1 and body convolutions, transitions, classifier.
    pub fn layers(&self) -> usize {
        let convs = |op: &Op| 1 + op.body.iter().flatten().count();
        let ops: usize = self.blocks.iter().flat_map(|block| &block.ops).map(convs).sum();
        1 + ops + (BLOCKS - 1) + 1
    }

    /// Parses and validates the JSON form, which may leave out or shorten what people write by hand
    /// (README, "Architectures by hand").
    ///
    /// # Errors
    /// [`Error::Architecture`] with the line and column of a syntax error, or the element that is missing, unknown,
    /// of the wrong type, or breaks a rule.
    pub fn from_json(text: &str) -> Result<Self> {
        text::from_json(text)
    }

    /// The same form in TOML.
    ///
    /// # Errors
    /// As [`Architecture::from_json`], elements with their line.
    pub fn from_toml(text: &str) -> Result<Self> {
        text::from_toml(text)
    }

    /// Reads and validates an architecture file: JSON, or else TOML.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Data`] when it is not an architecture.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, std::fs::read(path).map_err(Error::io("read", path))?)
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let not_text = |_| Error::data(path, "is not text; an architecture is JSON or TOML");
        let text = String::from_utf8(bytes).map_err(not_text)?;
        // Some editors put a mark of the encoding first.
        let text = text.trim_start_matches('\u{feff}');
        // No TOML begins with a brace.
        let is_json = path.extension().is_some_and(|e| e == "json") || text.trim_start().starts_with('{');
        let arch = if is_json { Self::from_json(text) } else { Self::from_toml(text) };
        arch.map_err(|e| Error::data(path, e.to_string()))
    }

    /// Are `bytes` an architecture?
    pub(crate) fn check(bytes: &[u8]) -> Result<()> {
        Self::parse(Path::new("architecture"), bytes.to_vec()).map(drop)
    }

    /// The JSON form, one op per line so that two architectures can be compared line by line.
    pub fn to_json(&self) -> String {
        let mut text =
            format!("{{\n  \"schema\": {},\n  \"space\": {},\n  \"blocks\": [\n", self.schema, json(&self.space));
        for (b, block) in self.blocks.iter().enumerate() {
            text += &format!("    {{\"bank_size\": {}, \"n_banks\": {}, \"ops\": [\n", block.bank_size, block.n_banks);
            let ops: Vec<String> = block.ops.iter().map(|op| format!("      {}", json(op))).collect();
            text += &ops.join(",\n");
            text += if b + 1 < self.blocks.len() { "\n    ]},\n" } else { "\n    ]}\n" };
        }
        text + "  ]\n}\n"
    }

    /// A short name: the first 12 hexadecimal digits of the SHA-256 of the compact JSON form.
    pub fn id(&self) -> String {
        format!("{:012x}", self.number())
    }

    /// The id as a number, as profilers show it.
    pub fn number(&self) -> u64 {
        Sha256::digest(json(self).as_bytes()).iter().take(6).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Checks every rule of the space: that each element is one the space allows, that banks are
    /// written before they are read and filled in order, and that the budget is kept.
    ///
    /// # Errors
    /// [`Error::Architecture`] with the first element that breaks a rule, such as
    /// `blocks[1].ops[3].body[0].kernel`, and what the space allows.
    pub fn validate(&self) -> Result<()> {
        super::check::architecture(self)
    }
}

/// Compact JSON of plain structs with string keys, which cannot fail to serialise.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data serialises")
}

mod short;
#[cfg(test)]
mod tests;
mod text;
