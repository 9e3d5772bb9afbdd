//! Networks of other papers under their names, to compare a found architecture with.
//!
//! | name | network | as defined in |
//! |---|---|---|
//! | `wrn-DEPTH-WIDTH` | Wide-ResNet, basic units, pre-activation, no dropout | Zagoruyko & Komodakis 2016 |
//! | `resnet-DEPTH` | ResNet for CIFAR, post-activation, shortcuts padded with zeros (option A) | He et al. 2015, section 4.2 |
//! | `densenet-DEPTH-GROWTH` | DenseNet | Huang et al. 2016, section 3 |
//! | `densenet-bc-DEPTH-GROWTH` | with bottlenecks, and transitions that halve the channels | the same |
//! | `fractalnet-COLUMNS-BLOCKS` | FractalNet, no drop-path, no dropout | Larsson et al. 2017, section 4 |
//!
//! They are for pictures. Each is a list of layers ([`graph`]), which `families` writes down and [`network`] runs and
//! counts; they take the place of a resulting network in a training, with the run's own optimiser and epochs, so that
//! networks differ in their architecture only. A run whose stem has stride 2 gives it to their stems too.

mod families;
pub mod graph;
pub mod network;
#[cfg(test)]
mod tests;

use crate::backend::cuda::MAX_VIEWS;
use crate::error::{Error, Result};
use crate::nas::twin::NetworkShape;
use graph::Graph;
use network::BuiltinNetwork;
use std::fmt;
use std::str::FromStr;

/// A network with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `wrn-DEPTH-WIDTH`: depth 6n + 4.
    WideResNet {
        /// Layers with weights.
        depth: usize,
        /// Channels, as a multiple of those of a ResNet.
        width: usize,
    },
    /// `resnet-DEPTH`: depth 6n + 2.
    ResNet {
        /// Layers with weights.
        depth: usize,
    },
    /// `densenet-DEPTH-GROWTH`: depth 3n + 4; `densenet-bc-DEPTH-GROWTH`: depth 6n + 4.
    DenseNet {
        /// Layers with weights.
        depth: usize,
        /// Channels that a layer adds.
        growth: usize,
        /// With bottlenecks, and half of the channels after each block.
        compressed: bool,
    },
    /// `fractalnet-COLUMNS-BLOCKS`: depth 2^(columns - 1) * blocks.
    FractalNet {
        /// Paths of a block; the longest has 2^(columns - 1) convolutions.
        columns: usize,
        /// Blocks, each followed by a halving of the picture.
        blocks: usize,
    },
}

/// The first word of every name.
const FAMILIES: [&str; 4] = ["wrn", "resnet", "densenet", "fractalnet"];
/// What can be typed.
const FORMS: &str = "wrn-DEPTH-WIDTH, resnet-DEPTH, densenet-DEPTH-GROWTH, densenet-bc-DEPTH-GROWTH or \
                     fractalnet-COLUMNS-BLOCKS, such as wrn-16-2, resnet-20, densenet-bc-100-12 and fractalnet-3-5";
/// The deepest network that was published under these names has 1202 layers.
const MOST_LAYERS: usize = 2000;
/// The widest one is 12 times as wide as the narrowest.
const MOST_WIDTH: usize = 64;
/// The fastest growing one adds 40 channels per layer.
const MOST_GROWTH: usize = 240;
/// Layers of a block of a DenseNet: as many values as a kernel reads, and the block's input.
const MOST_DENSE_LAYERS: usize = MAX_VIEWS - 1;
/// A column more doubles the depth.
const MOST_COLUMNS: usize = 7;

impl Builtin {
    /// Is this meant as the name of a built-in network? It may still be one that does not exist.
    pub fn is_name(text: &str) -> bool {
        text.split_once('-').is_some_and(|(family, _)| FAMILIES.contains(&family)) && !text.contains(['/', '.'])
    }

    /// Its layers for images and classes of `shape`.
    ///
    /// # Errors
    /// [`Error::Config`] for images that it cannot take.
    pub fn graph(self, shape: &NetworkShape) -> Result<Graph> {
        if shape.is_volume() {
            return Err(Error::config(self.to_string(), "is for pictures, and these are volumes"));
        }
        let halvings = match self {
            Self::FractalNet { blocks, .. } => blocks,
            _ => 2,
        };
        let size = shape.image_size / shape.stem_stride;
        if !size.is_multiple_of(1 << halvings) {
            let message = format!(
                "halves pictures {halvings} times, and behind the stem these have {size} x {size} pixels; choose \
                 another --image-size or network"
            );
            return Err(Error::config(self.to_string(), message));
        }
        Ok(match self {
            Self::WideResNet { depth, width } => families::wide_resnet(shape, depth, width),
            Self::ResNet { depth } => families::resnet(shape, depth),
            Self::DenseNet { depth, growth, compressed } => families::densenet(shape, depth, growth, compressed),
            Self::FractalNet { columns, blocks } => families::fractalnet(shape, columns, blocks),
        })
    }

    /// The network for images and classes of `shape`.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn network(self, shape: &NetworkShape) -> Result<BuiltinNetwork> {
        Ok(BuiltinNetwork::new(self.to_string(), self.graph(shape)?))
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WideResNet { depth, width } => write!(f, "wrn-{depth}-{width}"),
            Self::ResNet { depth } => write!(f, "resnet-{depth}"),
            Self::DenseNet { depth, growth, compressed: false } => write!(f, "densenet-{depth}-{growth}"),
            Self::DenseNet { depth, growth, compressed: true } => write!(f, "densenet-bc-{depth}-{growth}"),
            Self::FractalNet { columns, blocks } => write!(f, "fractalnet-{columns}-{blocks}"),
        }
    }
}

impl FromStr for Builtin {
    type Err = Error;

    /// # Errors
    /// [`Error::Config`] says what names there are, or what is wrong with the numbers of this one.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::config(text, format!("is none of the built-in networks: {FORMS}"));
        let parts: Vec<&str> = text.split('-').collect();
        let number = |digits: &str| digits.parse::<usize>().map_err(|_| unknown());
        let found = match parts[..] {
            ["wrn", depth, width] => Self::WideResNet { depth: number(depth)?, width: number(width)? },
            ["resnet", depth] => Self::ResNet { depth: number(depth)? },
            ["densenet", depth, growth] => {
                Self::DenseNet { depth: number(depth)?, growth: number(growth)?, compressed: false }
            }
            ["densenet", "bc", depth, growth] => {
                Self::DenseNet { depth: number(depth)?, growth: number(growth)?, compressed: true }
            }
            ["fractalnet", columns, blocks] => Self::FractalNet { columns: number(columns)?, blocks: number(blocks)? },
            _ => return Err(unknown()),
        };
        found.check()?;
        Ok(found)
    }
}

impl Builtin {
    /// Are its numbers those of a network, and one of a reasonable size?
    fn check(self) -> Result<()> {
        let between = |what: &str, number: usize, most: usize| {
            if (1..=most).contains(&number) {
                return Ok(());
            }
            Err(Error::config(self.to_string(), format!("{what} {number} is not between 1 and {most}")))
        };
        // Returns the layers or units of a block.
        let divided = |depth: usize, by: usize, rest: usize| {
            if depth > rest && (depth - rest).is_multiple_of(by) && depth <= MOST_LAYERS {
                return Ok((depth - rest) / by);
            }
            let examples = [1, 2, 6].map(|n| (n * by + rest).to_string()).join(", ");
            let message = format!("the depth {depth} is not {by}n + {rest}, such as {examples}, up to {MOST_LAYERS}");
            Err(Error::config(self.to_string(), message))
        };
        match self {
            Self::WideResNet { depth, width } => {
                divided(depth, 6, 4)?;
                between("the width", width, MOST_WIDTH)
            }
            Self::ResNet { depth } => divided(depth, 6, 2).map(drop),
            Self::DenseNet { depth, growth, compressed } => {
                let layers = divided(depth, if compressed { 6 } else { 3 }, 4)?;
                between("the growth", growth, MOST_GROWTH)?;
                between("layers per block:", layers, MOST_DENSE_LAYERS)
            }
            Self::FractalNet { columns, blocks } => {
                between("the number of columns", columns, MOST_COLUMNS)?;
                between("the number of blocks", blocks, families::FRACTAL_CHANNELS.len())
            }
        }
    }
}
