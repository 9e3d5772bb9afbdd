//! From the layers that folding left to the nodes of an ONNX graph, with operators of set 14 only.
//!
//! | layer | nodes |
//! |---|---|
//! | the images | `Pad` to the network's size, `Sub` mean, `Div` deviation |
//! | convolution | `Conv` with its padding written out, strides of 2 where pixels are left out |
//! | `Channels`, `Subsample` | `Slice` |
//! | `AvgPool`, `MaxPool` | `AveragePool`, `MaxPool` of windows of two |
//! | `Linear` | `Flatten`, `Gemm` |
//! | any other | the operator of its name |
//!
//! Values are N, C, H, W, or N, C, D, H, W of volumes, with any N. A node is called `PART/LAYER` (`block0.op3/w_in`) or
//! `PART/OPERATOR` (`block0.op3/Relu_1`), its value the same, or `PART/LABEL` (`block0/bank3`).

use super::fold::{Convolution, Kind, Layer};
use super::names::Names;
use super::proto::{Attribute, Graph, Node, ValueInfo};
use super::tensors::Tensors;
use crate::error::{Error, Result};
use crate::export::about::About;
use crate::export::keys::key;
use crate::tape::computation::{Constant, Operation, ValueId};
use std::collections::HashMap;

/// What the network reads.
pub const INPUT: &str = "images";
/// What it finds.
pub const OUTPUT: &str = "logits";

/// Channels, slices, rows and columns of one image.
type Extent = [usize; 4];

/// A graph being written.
pub struct Writer<'a> {
    about: &'a About,
    graph: Graph,
    tensors: Tensors,
    nodes: Names,
    values: Names,
    /// Name and extent of each value of the computation.
    known: HashMap<ValueId, (String, Extent)>,
}

impl<'a> Writer<'a> {
    /// An empty graph.
    pub fn new(about: &'a About) -> Self {
        let mut values = Names::default();
        for name in [INPUT, OUTPUT] {
            values.unique(name.into());
        }
        let graph = Graph { name: about.design.id(), ..Graph::default() };
        let tensors = Tensors::new(about.dtype, about.shape.is_volume());
        Self { about, graph, tensors, nodes: Names::default(), values, known: HashMap::new() }
    }

    /// The graph whose layers these are.
    ///
    /// # Errors
    /// [`Error::Run`] when images of the data set do not fit into the network.
    pub fn write(mut self, layers: &[Layer<'_>]) -> Result<Graph> {
        for (i, layer) in layers.iter().enumerate() {
            let [first, ..] = layer.from else {
                self.images(layer)?;
                continue;
            };
            let node = match &layer.kind {
                Kind::Conv(conv) => self.conv(layer, *first, conv),
                Kind::Plain(operation) => self.plain(layer, *first, operation),
            };
            let is_result = i + 1 == layers.len();
            self.finish(layer, node, is_result);
        }
        self.graph.initializer = self.tensors.into_list();
        Ok(self.graph)
    }

    /// Names the value of a layer that `node` computes, and appends both.
    fn finish(&mut self, layer: &Layer<'_>, mut node: Node, is_result: bool) {
        let is_vector = node.op_type == "Gemm";
        let extent = if is_vector { vec![layer.shape[0]] } else { self.extent(layer.shape) };
        let name = match (is_result, layer.label) {
            (true, _) => OUTPUT.into(),
            (false, "") => self.values.unique(node.name.clone()),
            (false, label) => self.values.unique(format!("{}/{label}", layer.part)),
        };
        let info = ValueInfo::of_batch(&name, &extent);
        if is_result {
            self.graph.output.push(info)
        } else {
            self.graph.value_info.push(info)
        }
        self.known.insert(layer.value, (name.clone(), layer.shape));
        node.output.push(name);
        self.graph.node.push(node);
    }

    /// A node called `PART/NAME` or much like it, without a value yet.
    fn node(&mut self, part: &str, name: &str, op_type: &str, input: Vec<String>, attribute: Vec<Attribute>) -> Node {
        let name = self.nodes.unique(format!("{part}/{name}"));
        Node { input, name, op_type: op_type.into(), attribute, ..Node::default() }
    }

    /// A value between the nodes of one layer: appends its node and returns its name.
    fn between(&mut self, mut node: Node, extent: &[usize]) -> String {
        let name = self.values.unique(node.name.clone());
        self.graph.value_info.push(ValueInfo::of_batch(&name, extent));
        node.output.push(name.clone());
        self.graph.node.push(node);
        name
    }

    /// The weights of a layer, and where they are stored in 16 bits the node that makes f32 of them.
    fn weight(&mut self, part: &str, constant: &Constant) -> String {
        let (name, cast) = self.tensors.weight(constant);
        let Some(to) = cast else { return name };
        let layer = format!("{}/Cast", module(constant, part));
        let mut node = self.node(part, &layer, "Cast", vec![name], vec![Attribute::int("to", to as usize)]);
        let value = self.values.unique(node.name.clone());
        node.output.push(value.clone());
        self.graph.node.push(node);
        value
    }

    /// Extent of a value for one image as the graph has it.
    fn extent(&self, [channels, slices, rows, columns]: Extent) -> Vec<usize> {
        let slices = Some(slices).filter(|_| self.about.shape.is_volume());
        [Some(channels), slices, Some(rows), Some(columns)].into_iter().flatten().collect()
    }

    /// The last of three numbers of slices, rows and columns that the graph's values have.
    fn axes(&self, numbers: [usize; 3]) -> Vec<usize> {
        numbers[usize::from(!self.about.shape.is_volume())..].to_vec()
    }

    /// The input of the graph, and from it what the network reads.
    fn images(&mut self, layer: &Layer<'_>) -> Result<()> {
        let about = self.about;
        let images = about.images.extent;
        if images[0] != layer.shape[0] || images.iter().zip(layer.shape).any(|(&image, input)| image > input) {
            let message = format!("images of {images:?} do not fit into a network for {:?}", layer.shape);
            return Err(Error::Run(message));
        }
        self.graph.input.push(ValueInfo::of_batch(INPUT, &self.extent(images)));
        let mut x = INPUT.to_string();
        if images != layer.shape {
            // As in ops/batch_gather: where the borders differ, the second is the wider.
            let before = [1, 2, 3].map(|axis| (layer.shape[axis] - images[axis]) / 2);
            let behind = [0, 1, 2].map(|i| layer.shape[i + 1] - images[i + 1] - before[i]);
            let pads = [vec![0, 0], self.axes(before), vec![0, 0], self.axes(behind)].concat();
            let inputs = vec![x, self.tensors.indices(&pads)];
            let node = self.node(INPUT, "Pad", "Pad", inputs, Vec::new());
            x = self.between(node, &self.extent(layer.shape));
        }
        let dims = [vec![1, images[0]], self.axes([1; 3])].concat();
        let mean = self.tensors.floats("images.mean", &dims, &about.images.mean);
        let std = self.tensors.floats("images.std", &dims, &about.images.std);
        let node = self.node(INPUT, "Sub", "Sub", vec![x, mean], Vec::new());
        let centred = self.between(node, &self.extent(layer.shape));
        let node = self.node(INPUT, "Div", "Div", vec![centred, std], Vec::new());
        let name = self.between(node, &self.extent(layer.shape));
        self.known.insert(layer.value, (name, layer.shape));
        Ok(())
    }

    fn conv(&mut self, layer: &Layer<'_>, x: ValueId, conv: &Convolution<'_>) -> Node {
        let (x, _) = self.known[&x].clone();
        let filter: &Constant = &conv.filter;
        let mut inputs = vec![x, self.weight(layer.part, filter)];
        if let Some(bias) = &conv.bias {
            // The key of a filter ends with what it is: NAME.weight.
            let name = key(&filter.name);
            let name = format!("{}.bias", name.strip_suffix(".weight").unwrap_or(&name));
            inputs.push(self.tensors.floats(&name, &[bias.len()], bias));
        }
        let kernel = self.tensors.extent(filter)[2..].to_vec();
        // A 1x1 filter has no dilation of its own.
        let dilations = conv.dilation.iter().copied().chain(std::iter::repeat(1)).take(kernel.len());
        let dilations: Vec<usize> = dilations.collect();
        let pads = |side: fn(usize) -> usize| kernel.iter().zip(&dilations).map(move |(&k, d)| side(k - 1) * d);
        let pads = pads(|k| k.div_ceil(2)).chain(pads(|k| k / 2));
        let attributes = vec![
            Attribute::ints("dilations", dilations.iter().copied()),
            Attribute::int("group", conv.groups),
            Attribute::ints("kernel_shape", kernel.iter().copied()),
            Attribute::ints("pads", pads),
            Attribute::ints("strides", self.axes([1, conv.stride, conv.stride])),
        ];
        self.node(layer.part, &module(filter, layer.part), "Conv", inputs, attributes)
    }

    fn plain(&mut self, layer: &Layer<'_>, x: ValueId, operation: &Operation) -> Node {
        let (name, shape) = self.known[&x].clone();
        let (operator, attributes) = match operation {
            Operation::BatchNorm { gamma, beta, mean, var, epsilon } => {
                let vectors = [gamma, beta, mean, var].map(|vector| self.weight(layer.part, vector));
                let inputs = std::iter::once(name).chain(vectors).collect();
                let attributes = vec![Attribute::float("epsilon", *epsilon)];
                return self.node(layer.part, &module(gamma, layer.part), "BatchNormalization", inputs, attributes);
            }
            Operation::Linear { w, b } => return self.linear(layer, (name, shape), w, b),
            Operation::Channels(range) => {
                return self.slice(layer, name, [&[range.start], &[range.end], &[1], &[1]]);
            }
            Operation::Subsample => {
                let [_, _, rows, columns] = shape;
                let axes = if self.about.shape.is_volume() { [3, 4] } else { [2, 3] };
                return self.slice(layer, name, [&[0, 0], &[rows, columns], &axes, &[2, 2]]);
            }
            Operation::AvgPool => ("AveragePool", self.windows([shape[1].min(2), 2, 2])),
            Operation::MaxPool => ("MaxPool", self.windows([1, 2, 2])),
            Operation::LeakyRelu { slope } => ("LeakyRelu", vec![Attribute::float("alpha", *slope)]),
            Operation::Concat => ("Concat", vec![Attribute::int("axis", 1)]),
            Operation::GlobalAvgPool => ("GlobalAveragePool", Vec::new()),
            Operation::Relu => ("Relu", Vec::new()),
            Operation::Tanh => ("Tanh", Vec::new()),
            Operation::Sigmoid => ("Sigmoid", Vec::new()),
            Operation::Add => ("Add", Vec::new()),
            Operation::Mul => ("Mul", Vec::new()),
            Operation::Mean => ("Mean", Vec::new()),
            Operation::Images | Operation::Conv { .. } => {
                unreachable!("images read nothing, and convolutions are layers of their own kind")
            }
        };
        let inputs = layer.from.iter().map(|value| self.known[value].0.clone()).collect();
        self.node(layer.part, operator, operator, inputs, attributes)
    }

    /// Windows that touch each other.
    fn windows(&self, size: [usize; 3]) -> Vec<Attribute> {
        ["kernel_shape", "strides"].map(|name| Attribute::ints(name, self.axes(size))).into()
    }

    /// Starts, ends, axes and steps, as `Slice` wants them.
    fn slice(&mut self, layer: &Layer<'_>, x: String, places: [&[usize]; 4]) -> Node {
        let places = places.map(|list| self.tensors.indices(list));
        let inputs = std::iter::once(x).chain(places).collect();
        self.node(layer.part, "Slice", "Slice", inputs, Vec::new())
    }

    fn linear(&mut self, layer: &Layer<'_>, (x, shape): (String, Extent), w: &Constant, b: &Constant) -> Node {
        let node = self.node(layer.part, "Flatten", "Flatten", vec![x], vec![Attribute::int("axis", 1)]);
        let row = self.between(node, &shape[..1]);
        let inputs = vec![row, self.weight(layer.part, w), self.weight(layer.part, b)];
        self.node(layer.part, &module(w, layer.part), "Gemm", inputs, vec![Attribute::int("transB", 1)])
    }
}

/// What a layer is called in its part, by the name of its first constant: `w_in` in `block0.op3`.
fn module(constant: &Constant, part: &str) -> String {
    let name = key(&constant.name);
    let name = name.strip_suffix(".weight").unwrap_or(&name);
    name.strip_prefix(part).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name).to_string()
}
