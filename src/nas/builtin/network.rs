//! A [`Graph`] with parameters: from images to logits, layer by layer.
//!
//! | parameter | extent |
//! |---|---|
//! | `LAYER.w` of a convolution | [K, C, k, k], or [K, C] of a 1x1 |
//! | `LAYER.gamma`, `.beta`, and statistics `.mean`, `.var` of a norm | `[C]` |
//! | `head.fc.w`, `head.fc.b` | [classes, C], `[classes]` |
//!
//! A convolution of stride 2 is computed at every pixel and then thinned out (a 1x1 the other way round), so such a
//! layer takes up to four times as long as its multiply-accumulates say.

use super::graph::{Graph, Kind, Layer, Value};
use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::nas::train::Network;
use crate::nn::init::Init;
use crate::nn::norm::{Mode, Norm};
use crate::nn::params::{ParamId, ParamStore};
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::ops::max_pool::max_pool;
use crate::ops::mean::mean;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::subsample::subsample;
use crate::tape::{Tape, Var};

/// Handles of a layer's parameters.
#[derive(Clone, Copy, Debug)]
enum Weights {
    None,
    Filter(ParamId),
    Norm(Norm),
    Affine(ParamId, ParamId),
}

/// A built-in network and its parameters.
#[derive(Clone, Debug)]
pub struct BuiltinNetwork {
    name: String,
    graph: Graph,
    store: ParamStore,
    /// One per layer.
    weights: Vec<Weights>,
    /// How many layers read each value.
    readers: Vec<usize>,
}

impl BuiltinNetwork {
    /// The network `name` with the layers of `graph`.
    pub(super) fn new(name: String, graph: Graph) -> Self {
        let mut store = ParamStore::default();
        let weights = graph.layers().iter().map(|layer| add_weights(&mut store, layer)).collect();
        let mut readers = vec![0; graph.layers().len()];
        graph.layers().iter().flat_map(|layer| &layer.from).for_each(|&value| readers[value] += 1);
        Self { name, graph, store, weights, readers }
    }

    /// Its layers.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The value of `layer`, which reads `from`.
    fn apply(&self, tape: &mut Tape<'_>, layer: &Layer, weights: Weights, from: &[Var], mode: Mode) -> Result<Var> {
        match (layer.kind, weights) {
            (Kind::Conv { kernel, stride }, Weights::Filter(id)) => {
                self.conv(tape, id, [layer.channels, layer.inputs, kernel, stride], from[0], mode)
            }
            (Kind::Norm { relu: true }, Weights::Norm(norm)) => norm.relu(tape, &self.store, from, mode),
            (Kind::Norm { relu: false }, Weights::Norm(norm)) => norm.apply(tape, &self.store, from, mode, None),
            (Kind::Classify, Weights::Affine(w, b)) => {
                let pooled = global_avg_pool(tape, from[0])?;
                let [w, b] = [w, b].map(|id| self.store.var(tape, id, mode.is_train()));
                let logits = linear(tape, pooled, w, b)?;
                tape.release(pooled);
                Ok(logits)
            }
            (Kind::Relu, _) => activation(tape, from[0], Activation::Relu),
            (Kind::Add, _) => add_padded(tape, from[0], from[1]),
            (Kind::Mean, _) => mean(tape, from),
            (Kind::Subsample, _) => subsample(tape, from[0]),
            (Kind::AvgPool, _) => avg_pool(tape, from[0]),
            (Kind::MaxPool, _) => max_pool(tape, from[0]),
            (Kind::Image | Kind::Conv { .. } | Kind::Norm { .. } | Kind::Classify, _) => {
                unreachable!("the image is given, and the others have their weights")
            }
        }
    }

    fn conv(
        &self,
        tape: &mut Tape<'_>,
        id: ParamId,
        [outputs, inputs, kernel, stride]: [usize; 4],
        x: Var,
        mode: Mode,
    ) -> Result<Var> {
        let w = self.store.var(tape, id, mode.is_train());
        let filter = Filter::whole(outputs, inputs, [kernel; 2], 1);
        if kernel == 1 {
            let config = Pointwise { filter, relu: false, slope: None };
            if stride == 1 {
                return pointwise(tape, &[x], w, None, config);
            }
            let thin = subsample(tape, x)?;
            let y = pointwise(tape, &[thin], w, None, config)?;
            tape.release(thin);
            return Ok(y);
        }
        let y = conv2d(tape, x, w, None, Conv2d { filter, dilation: [1, 1], slope: None, output: Output::New })?;
        if stride == 1 {
            return Ok(y);
        }
        let thin = subsample(tape, y)?;
        tape.release(y);
        Ok(thin)
    }
}

/// Adds the parameters of a layer.
fn add_weights(store: &mut ParamStore, layer: &Layer) -> Weights {
    let (inputs, channels) = (layer.inputs, layer.channels);
    let mut weight = |what: &str, dims: &[usize], init| store.add(format!("{}.{what}", layer.name), dims, init);
    match layer.kind {
        Kind::Conv { kernel: 1, .. } => Weights::Filter(weight("w", &[channels, inputs], Init::He)),
        Kind::Conv { kernel, .. } => Weights::Filter(weight("w", &[channels, inputs, kernel, kernel], Init::He)),
        Kind::Classify => {
            let w = weight("w", &[channels, inputs], Init::He);
            Weights::Affine(w, weight("b", &[channels], Init::Zeros))
        }
        Kind::Norm { .. } => Weights::Norm(Norm::add(store, &layer.name, channels)),
        _ => Weights::None,
    }
}

/// a + b, b padded with channels of zeros to those of a.
fn add_padded(tape: &mut Tape<'_>, a: Var, b: Var) -> Result<Var> {
    let (all, some) = (tape.shape(a).c, tape.shape(b).c);
    if some == all {
        return add(tape, a, b);
    }
    let [first, rest] = [0..some, some..all].map(|channels| tape.channels(a, channels));
    let sum = add(tape, first, b)?;
    let y = concat(tape, &[sum, rest])?;
    for var in [first, rest, sum] {
        tape.release(var);
    }
    Ok(y)
}

impl Network for BuiltinNetwork {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn number(&self) -> u64 {
        self.graph.layers().len() as u64
    }

    fn store(&self) -> &ParamStore {
        &self.store
    }

    fn logits(&self, tape: &mut Tape<'_>, images: Var, mode: Mode) -> Result<Var> {
        let mut values = vec![images];
        let mut readers = self.readers.clone();
        for (layer, &weights) in self.graph.layers().iter().zip(&self.weights).skip(1) {
            tape.part(|| layer.part().to_string());
            let from: Vec<Var> = layer.from.iter().map(|&value: &Value| values[value]).collect();
            values.push(self.apply(tape, layer, weights, &from, mode)?);
            for &value in &layer.from {
                readers[value] -= 1;
                if readers[value] == 0 {
                    tape.release(values[value]);
                }
            }
        }
        Ok(values[values.len() - 1])
    }
}
