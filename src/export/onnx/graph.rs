//! From the layers that folding left to the nodes of an ONNX graph, with operators of set 13 only.
//!
//! | layer | nodes |
//! |---|---|
//! | images | `Pad` to the network's size; `Sub` mean, `Div` deviation, or for voxels `Mul` 6, `Add` -1 |
//! | convolution | `Conv` with `pads` written out, `strides` 2 where pixels are left out |
//! | `Subsample`, `Channels` | `Slice` |
//! | `AvgPool`, `MaxPool` | `AveragePool`, `MaxPool` of windows of two |
//! | `Linear` | `Flatten`, `Gemm` |
//! | the others | the operator of their name |
//!
//! Values are N, C, H, W, or N, C, D, H, W of volumes, with any N. A node is called `PART/LAYER` (`block0.op3/w_in`) or
//! `PART/OPERATOR` (`block0.op3/Relu_1`), its value the same, or `PART/LABEL` (`block0/bank3`); weights have the
//! names of [`keys`].

use super::fold::{Convolution, Kind, Layer};
use super::names::Names;
use super::proto::{Attribute, Graph, Node, Tensor, ValueInfo, data_type};
use crate::error::{Error, Result};
use crate::export::about::{About, Dtype};
use crate::export::keys;
use crate::ops::volume_gather::VALUES;
use crate::tape::computation::{Constant, Operation, ValueId};
use half::{bf16, f16};
use std::collections::{HashMap, HashSet};

/// What the network reads.
pub const INPUT: &str = "images";
/// What it finds.
pub const OUTPUT: &str = "logits";

/// A graph being written.
pub struct Writer<'a> {
    about: &'a About,
    graph: Graph,
    nodes: Names,
    values: Names,
    /// Of values of the computation.
    names: HashMap<ValueId, String>,
    /// Lists of integers that are there already.
    indices: HashSet<String>,
    /// The value that is the result.
    result: ValueId,
}

impl<'a> Writer<'a> {
    /// An empty graph whose result will be value `result`.
    pub fn new(about: &'a About, name: String, result: ValueId) -> Self {
        let mut values = Names::default();
        [INPUT, OUTPUT].map(|name| values.unique(name));
        let (nodes, names, indices) = (Names::default(), HashMap::new(), HashSet::new());
        Self { about, graph: Graph { name, ..Graph::default() }, nodes, values, names, indices, result }
    }

    /// The graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// Axes of a picture or volume.
    fn axes(&self) -> usize {
        if self.about.shape.is_volume() { 3 } else { 2 }
    }

    /// Extent of a value for one image, as in the graph.
    fn extent(&self, [channels, slices, rows, columns]: [usize; 4]) -> Vec<usize> {
        let slices = Some(slices).filter(|_| self.about.shape.is_volume());
        [Some(channels), slices, Some(rows), Some(columns)].into_iter().flatten().collect()
    }

    /// Appends the nodes of a layer.
    ///
    /// # Errors
    /// [`Error::Run`] when images of the data set do not fit into the network.
    pub fn layer(&mut self, layer: &Layer<'_>) -> Result<()> {
        let [first, ..] = layer.from else { return self.images(layer) };
        let x = self.names[first].clone();
        match &layer.kind {
            Kind::Conv(conv) => self.conv(layer, conv, x),
            Kind::Plain(operation) => self.plain(layer, operation, x),
        }
        Ok(())
    }

    fn plain(&mut self, layer: &Layer<'_>, operation: &Operation, x: String) {
        let axes = self.axes();
        let inputs = || layer.from.iter().map(|value| self.names[value].clone()).collect::<Vec<_>>();
        match operation {
            // The only one that reads nothing.
            Operation::Images => {}
            Operation::Conv { .. } => {}
            Operation::BatchNorm { gamma, beta, mean, var, epsilon } => {
                let inputs = std::iter::once(x).chain([gamma, beta, mean, var].map(|vector| self.weight(vector)));
                let inputs = inputs.collect();
                let attributes = vec![Attribute::float("epsilon", *epsilon)];
                self.node("BatchNormalization", layer, &module(gamma, layer.part), inputs, attributes);
            }
            Operation::Relu => self.operator("Relu", layer, inputs(), Vec::new()),
            Operation::LeakyRelu { slope } => {
                self.operator("LeakyRelu", layer, inputs(), vec![Attribute::float("alpha", *slope)]);
            }
            Operation::Tanh => self.operator("Tanh", layer, inputs(), Vec::new()),
            Operation::Sigmoid => self.operator("Sigmoid", layer, inputs(), Vec::new()),
            Operation::Add => self.operator("Add", layer, inputs(), Vec::new()),
            Operation::Mul => self.operator("Mul", layer, inputs(), Vec::new()),
            Operation::Mean => self.operator("Mean", layer, inputs(), Vec::new()),
            Operation::Concat => self.operator("Concat", layer, inputs(), vec![Attribute::int("axis", 1)]),
            Operation::Channels(range) => {
                let places = [&[range.start][..], &[range.end], &[1], &[1]];
                self.slice(layer, x, places);
            }
            Operation::Subsample => {
                let (rows, far) = (axes, i32::MAX as usize);
                self.slice(layer, x, [&[0, 0], &[far, far], &[rows, rows + 1], &[2, 2]]);
            }
            Operation::AvgPool => self.pool("AveragePool", layer, x),
            Operation::MaxPool => self.pool("MaxPool", layer, x),
            Operation::GlobalAvgPool => self.operator("GlobalAveragePool", layer, vec![x], Vec::new()),
            Operation::Linear { w, b } => self.linear(layer, x, w, b),
        }
    }
}
