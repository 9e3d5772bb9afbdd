//! What an inference needs less of: neighbours of a convolution that become part of it.
//!
//! | instructions | become |
//! |---|---|
//! | `Conv`, `Subsample` | `Conv` with twice the stride |
//! | `Conv`, `Relu`, `Subsample` | `Conv` with twice the stride, `Relu` |
//! | `Subsample`, 1x1 `Conv` | `Conv` with twice the stride |
//! | `Conv`, `BatchNorm` (on request) | `Conv` with filters `w[k] * f[k]` and biases `beta[k] - mean[k] * f[k]`, `f = gamma / sqrt(var + epsilon)` |
//!
//! Only where nothing else reads what lies between. A `BatchNorm` in front of a convolution stays: behind it is a ReLU, or
//! a border of zeros that a bias would shift. Sums are taken in f64.

use crate::tape::computation::{Computation, Constant, Instruction, Operation, ValueId};
use std::borrow::Cow;

/// A convolution, padded with zeros so that a stride of 1 leaves the size as it is.
#[derive(Clone, Debug)]
pub struct Convolution<'a> {
    /// As in [`Operation::Conv`].
    pub filter: Cow<'a, Constant>,
    /// One number per filter.
    pub bias: Option<Vec<f32>>,
    /// For each axis of the filter.
    pub dilation: &'a [usize],
    /// Of channels.
    pub groups: usize,
    /// Along rows and columns.
    pub stride: usize,
}

/// What is computed.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// A convolution with all that became part of it.
    Conv(Convolution<'a>),
    /// Anything else.
    Plain(&'a Operation),
}

/// An instruction of what is left.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// What.
    pub kind: Kind<'a>,
    /// From which values.
    pub from: &'a [ValueId],
    /// The instruction whose value this is.
    pub value: ValueId,
    /// Extent of it for one image: channels, slices, rows, columns.
    pub shape: [usize; 4],
    /// The part of the network that it belongs to.
    pub part: &'a str,
    /// Name of the value between parts, or nothing.
    pub label: &'a str,
}

/// The instructions that are left.
pub struct Folded<'a> {
    /// In the order of computation.
    pub layers: Vec<Layer<'a>>,
    /// BatchNorms that became part of a convolution.
    pub folded: usize,
    /// BatchNorms that are left.
    pub kept: usize,
}

/// Folds what can be folded; BatchNorm on request.
pub fn fold(computation: &Computation, fold_batchnorm: bool) -> Folded<'_> {
    let readers = computation.readers();
    // By value; a layer moves to the value of the instruction that became part of it.
    let mut layers: Vec<Option<Layer<'_>>> = Vec::new();
    let (mut folded, mut kept) = (0, 0);
    for (value, instruction) in computation.instructions.iter().enumerate() {
        let own = layer(value, instruction);
        let before = instruction.from.first().filter(|&&x| readers[x] == 1).copied();
        let merged = before.and_then(|x| match &instruction.operation {
            Operation::Subsample => thinned_relu(&mut layers, &readers, x, &own)
                .or_else(|| merged(&mut layers, x, &own, |conv| conv.stride *= 2)),
            Operation::Conv { filter, .. } if is_matrix(filter) => strided(&mut layers, x, &own),
            norm @ Operation::BatchNorm { .. } if fold_batchnorm => {
                merged(&mut layers, x, &own, |conv| normalise(conv, norm))
            }
            _ => None,
        });
        if matches!(instruction.operation, Operation::BatchNorm { .. }) {
            *(if merged.is_some() { &mut folded } else { &mut kept }) += 1;
        }
        layers.push(Some(merged.unwrap_or(own)));
    }
    Folded { layers: layers.into_iter().flatten().collect(), folded, kept }
}

/// An instruction as it is.
fn layer(value: ValueId, instruction: &Instruction) -> Layer<'_> {
    let Instruction { operation, from, shape, part, label } = instruction;
    let kind = match operation {
        Operation::Conv { filter, dilation, groups } => {
            Kind::Conv(Convolution { filter: Cow::Borrowed(filter), bias: None, dilation, groups: *groups, stride: 1 })
        }
        other => Kind::Plain(other),
    };
    Layer { kind, from, value, shape: *shape, part, label }
}

/// Is a filter one of 1x1?
fn is_matrix(filter: &Constant) -> bool {
    filter.dims.iter().skip(2).all(|&taps| taps == 1)
}

/// The convolution that computes value `x`, changed so that it computes that of `own`.
fn merged<'a>(
    layers: &mut [Option<Layer<'a>>],
    x: ValueId,
    own: &Layer<'a>,
    change: impl FnOnce(&mut Convolution<'a>),
) -> Option<Layer<'a>> {
    let mut layer = layers[x].take_if(|layer| matches!(layer.kind, Kind::Conv(_)))?;
    if let Kind::Conv(conv) = &mut layer.kind {
        change(conv);
    }
    Some(Layer { value: own.value, shape: own.shape, label: own.label, ..layer })
}

/// `own`, which leaves out pixels of the ReLU `x` of a convolution, as a ReLU of one that does not compute them.
fn thinned_relu<'a>(
    layers: &mut [Option<Layer<'a>>],
    readers: &[usize],
    x: ValueId,
    own: &Layer<'a>,
) -> Option<Layer<'a>> {
    let relu = layers[x].as_ref().filter(|layer| matches!(layer.kind, Kind::Plain(Operation::Relu)))?.clone();
    let &before = relu.from.first().filter(|&&before| readers[before] == 1)?;
    let Some(Layer { kind: Kind::Conv(conv), shape, .. }) = &mut layers[before] else { return None };
    conv.stride *= 2;
    *shape = own.shape;
    layers[x] = None;
    Some(Layer { value: own.value, shape: own.shape, label: own.label, ..relu })
}

/// The convolution `own` of `x`, with the pixels that `x` leaves out left out by itself.
fn strided<'a>(layers: &mut [Option<Layer<'a>>], x: ValueId, own: &Layer<'a>) -> Option<Layer<'a>> {
    let subsample = layers[x].take_if(|layer| matches!(layer.kind, Kind::Plain(Operation::Subsample)))?;
    let mut layer = Layer { from: subsample.from, ..own.clone() };
    if let Kind::Conv(conv) = &mut layer.kind {
        conv.stride = 2;
    }
    Some(layer)
}

/// Makes `norm` a part of the convolution in front of it.
fn normalise(conv: &mut Convolution<'_>, norm: &Operation) {
    let Operation::BatchNorm { gamma, beta, mean, var, epsilon } = norm else { return };
    let f64s = |vector: &Constant| vector.values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let factors = f64s(gamma).into_iter().zip(f64s(var));
    let factors: Vec<f64> = factors.map(|(gamma, var)| gamma / (var + f64::from(*epsilon)).sqrt()).collect();
    let before = conv.bias.clone().unwrap_or_else(|| vec![0.0; factors.len()]);
    let shifts = f64s(beta).into_iter().zip(f64s(mean)).zip(before).zip(&factors);
    let bias = shifts.map(|(((beta, mean), before), factor)| (beta + (f64::from(before) - mean) * factor) as f32);
    conv.bias = Some(bias.collect());
    let filter = conv.filter.to_mut();
    let weights = (filter.values.len() / factors.len().max(1)).max(1);
    for (weights, factor) in filter.values.chunks_mut(weights).zip(&factors) {
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
}
