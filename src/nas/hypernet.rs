//! The HyperNet: a DenseNet without down-sampling that turns an encoded architecture into the
//! weights of all its 1x1 convolutions (Brock et al. 2018, section 3.2 and appendix A).
//!
//! ```text
//! c [E, k, slices] -> 3x3 to `stem` channels, appended to c
//!   -> dense block (each layer 3x3, growth channels) -> 1x1 halving -> dense -> 1x1 halving -> dense
//!   -> 1x1 to R*D*N*N channels: the weights of D*N input channels to R*N output units
//! ```
//!
//! Every convolution but the first is preceded by a leaky ReLU of slope 0.02, applied where its
//! input is written; every filter is divided by its own norm; there are no biases. The layers of
//! a dense block write their channels into one feature buffer, never concatenated.

use crate::backend::cpu::Filter;
use crate::backend::{Region, Span};
use crate::error::{Error, Result};
use crate::nas::encode::Layout;
use crate::nas::space::Space;
use crate::nn::init::Init;
use crate::nn::norm::Mode;
use crate::nn::params::ParamStore;
use crate::ops::activation::{Activation, LEAKY_SLOPE, activation_into};
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::weightnorm::weightnorm;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};

/// Bounds far above any use.
const MOST_CHANNELS: usize = 4096;
const MOST_BLOCKS: usize = 64;
const MOST_LAYERS: usize = 1024;

/// Size of a HyperNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperConfig {
    /// Channels of the first convolution.
    pub stem: usize,
    /// Layers of each dense block.
    pub layers: Vec<usize>,
    /// Channels each layer adds.
    pub growth: Growth,
}

/// Channels that each layer of a dense block adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Growth {
    /// As many in all blocks.
    Same(usize),
    /// One number for each block (Brock et al. 2018, Table 1).
    PerBlock(Vec<usize>),
}

impl From<usize> for Growth {
    fn from(growth: usize) -> Self {
        Self::Same(growth)
    }
}

impl HyperConfig {
    /// The paper's: 26 layers, growth 10.
    pub fn paper() -> Self {
        Self { stem: 7, layers: vec![8, 10, 4], growth: 10.into() }
    }

    /// Layers of each dense block, and the channels that each of them adds.
    fn blocks(&self) -> Vec<(usize, usize)> {
        let growth = |block: usize| match &self.growth {
            Growth::Same(growth) => *growth,
            Growth::PerBlock(growths) => growths.get(block).copied().unwrap_or(0),
        };
        self.layers.iter().enumerate().map(|(block, &layers)| (layers, growth(block))).collect()
    }

    /// Checks that these sizes are those of a network.
    ///
    /// # Errors
    /// [`Error::Config`] named `hyper` or `hyper.<field>`.
    pub fn validate(&self) -> Result<()> {
        let growths = match &self.growth {
            Growth::Same(growth) => std::slice::from_ref(growth),
            Growth::PerBlock(growths) => growths,
        };
        if matches!(&self.growth, Growth::PerBlock(growths) if growths.len() != self.layers.len()) {
            let message =
                format!("{} numbers for {} blocks; give one, or one for each", growths.len(), self.layers.len());
            return Err(Error::config("hyper.growth", message));
        }
        if self.layers.is_empty() {
            return Err(Error::config("hyper.layers", "names no block"));
        }
        for (name, value) in growths.iter().map(|&growth| ("hyper.growth", growth)).chain([("hyper.stem", self.stem)]) {
            if !(1..=MOST_CHANNELS).contains(&value) {
                return Err(Error::config(name, format!("{value} is not between 1 and {MOST_CHANNELS}")));
            }
        }
        if self.layers.len() > MOST_BLOCKS || self.layers.iter().any(|&layers| layers > MOST_LAYERS) {
            return Err(Error::config("hyper.layers", format!("at most {MOST_BLOCKS} blocks of {MOST_LAYERS} layers")));
        }
        Ok(())
    }
}

/// One convolution of the HyperNet.
#[derive(Clone, Copy, Debug)]
struct Layer {
    filter: Filter,
    /// Its weights within the HyperNet's range.
    start: usize,
}

/// The HyperNet's layers; its weights are the first range of the network's parameters.
#[derive(Clone, Debug)]
pub struct HyperNet {
    config: HyperConfig,
    /// In forward order: stem, then for each block its layers and the 1x1 that follows.
    layers: Vec<Layer>,
    /// All weights.
    weights: Span,
}

impl HyperNet {
    /// Adds the parameters of the HyperNet of `space` as `hyper.*`; `store` must be empty.
    pub fn add(store: &mut ParamStore, space: &Space, config: &HyperConfig, noise: bool) -> Self {
        let mut layers = Vec::new();
        let mut add = |name: String, k: usize, c: usize, kernel: usize| {
            let dims: &[usize] = if kernel == 1 { &[k, c] } else { &[k, c, kernel, kernel] };
            let id = store.add(name, dims, Init::Orthogonal);
            layers.push(Layer { filter: Filter::whole(k, c, [kernel, kernel], 1), start: store.get(id).span.start });
        };
        let encoded = Layout::new(space).channels + usize::from(noise);
        add("hyper.stem.w".into(), config.stem, encoded, 3);
        let mut channels = encoded + config.stem;
        for (block, (count, growth)) in config.blocks().into_iter().enumerate() {
            for i in 0..count {
                add(format!("hyper.dense{block}.{i}.w"), growth, channels, 3);
                channels += growth;
            }
            if block + 1 < config.layers.len() {
                add(format!("hyper.compress{block}.w"), channels / 2, channels, 1);
                channels /= 2;
            }
        }
        let outputs = space.expansion * space.depth_compression * space.unit * space.unit;
        add("hyper.out.w".into(), outputs, channels, 1);
        let weights = Span { region: Region::Params, start: 0, len: store.len() };
        Self { config: config.clone(), layers, weights }
    }

    /// H(c): [E, k, slices, 1] -> [R*D*N*N, k, slices, 1]. Releases `c`; when it wants a gradient, one
    /// flows to it in evaluation as in training.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the encoding belongs to another space.
    pub fn forward(&self, tape: &mut Tape<'_>, c: Var, mode: Mode) -> Result<Var> {
        let weights = tape.param(Shape::vector(self.weights.len), self.weights, mode.is_train());
        let ranges = self.layers.iter().map(|l| l.start..l.start + l.filter.len()).collect();
        let scales = weightnorm(tape, weights, ranges)?;
        let mut next = self.layers.iter().enumerate();
        let mut conv = |tape: &mut Tape<'_>, x: Var, slope: Option<f32>, output: Output| {
            let (i, layer) = next.next().expect("as many layers as the loops below walk through");
            let w = tape.channels(weights, layer.start..layer.start + layer.filter.len());
            let scale = tape.channels(scales, i..i + 1);
            let config = Conv2d { filter: layer.filter, dilation: [1, 1], slope, output };
            let y = conv2d(tape, x, w, Some(scale), config)?;
            tape.release(w);
            tape.release(scale);
            Ok::<Var, crate::Error>(y)
        };

        let c_shape = tape.shape(c);
        let needs_grad = mode.is_train() || tape.needs_grad(c);
        let buffer_of = |tape: &mut Tape<'_>, channels: usize| tape.alloc(c_shape.with_channels(channels), needs_grad);
        let blocks = self.config.blocks();
        let grown = |block: usize| blocks.get(block).map_or(0, |(layers, growth)| layers * growth);
        let mut channels = c_shape.c + self.config.stem;
        let mut features = buffer_of(tape, channels + grown(0))?;
        let copy = tape.channels(features, 0..c_shape.c);
        activation_into(tape, c, copy, Activation::LeakyRelu)?;
        let stem_out = tape.channels(features, c_shape.c..channels);
        conv(tape, c, Some(LEAKY_SLOPE), Output::Into(stem_out))?;
        for var in [c, copy, stem_out] {
            tape.release(var);
        }
        for (block, &(count, growth)) in blocks.iter().enumerate() {
            for _ in 0..count {
                let x = tape.channels(features, 0..channels);
                let y = tape.channels(features, channels..channels + growth);
                conv(tape, x, Some(LEAKY_SLOPE), Output::Into(y))?;
                channels += growth;
                tape.release(x);
                tape.release(y);
            }
            if block + 1 < blocks.len() {
                channels /= 2;
                let buffer = buffer_of(tape, channels + grown(block + 1))?;
                let y = tape.channels(buffer, 0..channels);
                conv(tape, features, Some(LEAKY_SLOPE), Output::Into(y))?;
                tape.release(y);
                tape.release(std::mem::replace(&mut features, buffer));
            }
        }
        let y = conv(tape, features, None, Output::New)?;
        for var in [features, scales, weights] {
            tape.release(var);
        }
        Ok(y)
    }
}
