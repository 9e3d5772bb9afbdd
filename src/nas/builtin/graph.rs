//! A network as a list of layers, each of which reads the values of earlier ones.
//!
//! Value 0 is the image, value i the result of layer i. A value has channels and a size in pixels along each axis.
//! The layers are what the built-in networks need:
//!
//! | kind | result |
//! |---|---|
//! | `Conv` | k x k convolution without bias, padded to the same size, every `stride`-th pixel of it |
//! | `Norm` | BatchNorm of the concatenation of all it reads, rectified or not |
//! | `Relu` | max(x, 0) |
//! | `Add` | a + b; where b has fewer channels, b is padded with channels of zeros |
//! | `Mean` | the mean of all it reads |
//! | `Subsample` | every second pixel along each axis |
//! | `AvgPool`, `MaxPool` | mean or maximum of 2 x 2 pixels |
//! | `Classify` | mean of the picture, then a matrix with bias: the logits |

use crate::nas::cost::Cost;
use crate::nas::twin::{NetworkShape, Taps};
use std::fmt;

/// The value of a layer.
pub type Value = usize;

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The image itself.
    Image,
    /// A convolution, padded, without bias.
    Conv {
        /// Height and width of its filters.
        kernel: usize,
        /// Pixels from one output to the next.
        stride: usize,
    },
    /// BatchNorm over the concatenation of what it reads.
    Norm {
        /// Followed by max(x, 0).
        relu: bool,
    },
    /// max(x, 0).
    Relu,
    /// The sum of two values, the second of which may have fewer channels.
    Add,
    /// The mean of all values.
    Mean,
    /// Every second pixel of every second row.
    Subsample,
    /// The mean of 2 x 2 pixels.
    AvgPool,
    /// The largest of 2 x 2 pixels.
    MaxPool,
    /// Mean over the picture, matrix and bias.
    Classify,
}

/// A layer and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// `PART.LAYER`, the start of its parameters' names: `block0.unit1.conv0`.
    pub name: String,
    /// What it computes.
    pub kind: Kind,
    /// From what.
    pub from: Vec<Value>,
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels of the result.
    pub channels: usize,
    /// Pixels of the result along each axis.
    pub size: usize,
}

impl Layer {
    /// The part of the network that it belongs to.
    pub fn part(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(part, _)| part)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Image => write!(f, "image"),
            Kind::Conv { kernel, stride: 1 } => write!(f, "{kernel}x{kernel}"),
            Kind::Conv { kernel, stride } => write!(f, "{kernel}x{kernel} s{stride}"),
            Kind::Norm { relu: true } => write!(f, "bn relu"),
            Kind::Norm { relu: false } => write!(f, "bn"),
            Kind::Relu => write!(f, "relu"),
            Kind::Add => write!(f, "add"),
            Kind::Mean => write!(f, "mean of {}", self.from.len()),
            Kind::Subsample => write!(f, "every 2nd pixel"),
            Kind::AvgPool => write!(f, "avg pool"),
            Kind::MaxPool => write!(f, "max pool"),
            Kind::Classify => write!(f, "pool fc"),
        }
    }
}

/// A network being written down, or done.
#[derive(Clone, Debug)]
pub struct Graph {
    layers: Vec<Layer>,
    /// The part being written.
    part: String,
    classes: usize,
}

impl Graph {
    /// Only the image.
    pub fn new(shape: &NetworkShape) -> Self {
        let (channels, size) = (shape.image_channels, shape.image_size);
        let image = Layer { name: "image".into(), kind: Kind::Image, from: Vec::new(), inputs: 0, channels, size };
        Self { layers: vec![image], part: String::new(), classes: shape.classes }
    }

    /// All layers; the last one's value are the logits.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What follows belongs to part `name`.
    pub fn part(&mut self, name: impl Into<String>) {
        self.part = name.into();
    }

    /// The channels of a value.
    pub fn channels(&self, value: Value) -> usize {
        self.layers[value].channels
    }

    fn push(&mut self, name: &str, kind: Kind, from: &[Value], channels: usize, size: usize) -> Value {
        let inputs = from.iter().map(|&value| self.channels(value)).sum();
        let name = format!("{}.{name}", self.part);
        self.layers.push(Layer { name, kind, from: from.to_vec(), inputs, channels, size });
        self.layers.len() - 1
    }

    fn size(&self, value: Value) -> usize {
        self.layers[value].size
    }

    /// A convolution to `channels` channels.
    pub fn conv(&mut self, name: &str, x: Value, channels: usize, kernel: usize, stride: usize) -> Value {
        self.push(name, Kind::Conv { kernel, stride }, &[x], channels, self.size(x) / stride)
    }

    /// BatchNorm and ReLU of the concatenation of `from`.
    pub fn norm_relu(&mut self, name: &str, from: &[Value]) -> Value {
        let channels = from.iter().map(|&value| self.channels(value)).sum();
        self.push(name, Kind::Norm { relu: true }, from, channels, self.size(from[0]))
    }

    /// BatchNorm.
    pub fn norm(&mut self, name: &str, x: Value) -> Value {
        self.push(name, Kind::Norm { relu: false }, &[x], self.channels(x), self.size(x))
    }

    /// max(x, 0).
    pub fn relu(&mut self, x: Value) -> Value {
        self.push("relu", Kind::Relu, &[x], self.channels(x), self.size(x))
    }

    /// The sum; `b` may have fewer channels than `a`.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.push("add", Kind::Add, &[a, b], self.channels(a), self.size(a))
    }

    /// The mean of values of one shape; a single one is its own.
    pub fn mean(&mut self, from: &[Value]) -> Value {
        match from {
            [only] => *only,
            _ => self.push("mean", Kind::Mean, from, self.channels(from[0]), self.size(from[0])),
        }
    }

    /// Every second pixel.
    pub fn subsample(&mut self, x: Value) -> Value {
        self.push("subsample", Kind::Subsample, &[x], self.channels(x), self.size(x) / 2)
    }

    /// Means of 2 x 2 pixels.
    pub fn avg_pool(&mut self, x: Value) -> Value {
        self.push("pool", Kind::AvgPool, &[x], self.channels(x), self.size(x) / 2)
    }

    /// Maxima of 2 x 2 pixels.
    pub fn max_pool(&mut self, x: Value) -> Value {
        self.push("pool", Kind::MaxPool, &[x], self.channels(x), self.size(x) / 2)
    }

    /// The logits.
    pub fn classify(mut self, x: Value) -> Self {
        self.push("fc", Kind::Classify, &[x], self.classes, 1);
        self
    }

    /// The cost of the whole network: parameters with scale and shift of BatchNorm, and multiply-accumulates per image
    /// of convolutions and classifier, as `nas::cost` counts them for architectures.
    pub fn cost(&self) -> Cost {
        self.cost_of(&self.layers)
    }

    fn layer_cost(&self, layer: &Layer) -> Cost {
        match layer.kind {
            Kind::Conv { kernel, stride } => {
                let taps = Taps { kernel: [1, kernel, kernel], dilation: [1; 3] };
                let size = self.size(layer.from[0]);
                Cost::conv((layer.inputs * layer.channels) as u64, taps, [1, size, size], [1, stride, stride])
            }
            Kind::Norm { .. } => Cost::norm(layer.channels as u64),
            Kind::Classify => {
                let bias = Cost { params: layer.channels as u64, ..Cost::default() };
                Cost::pointwise((layer.inputs * layer.channels) as u64, 1) + bias
            }
            _ => Cost::default(),
        }
    }

    /// Runs of layers whose names begin alike, in order, with those beginnings: `block0.unit1`.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[Layer])> {
        self.layers[1..].chunk_by(|a, b| a.part() == b.part()).map(|run| (run[0].part(), run))
    }

    /// The cost of some of the layers.
    pub fn cost_of(&self, layers: &[Layer]) -> Cost {
        layers.iter().map(|layer| self.layer_cost(layer)).fold(Cost::default(), |sum, cost| sum + cost)
    }

    /// Convolutions and the classifier: what the depth in a network's name counts, shortcuts aside.
    pub fn weighted_layers(&self) -> usize {
        self.layers.iter().filter(|layer| matches!(layer.kind, Kind::Conv { .. } | Kind::Classify)).count()
    }
}
