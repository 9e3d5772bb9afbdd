//! Runs a decoded ONNX model in f64 with plain loops, for tests: the operators as the ONNX specification defines them
//! (version 14 of the operator set), with all defaults of attributes that a file may leave out.
//!
//! Values are row-major, N, C, then one to three axes. Nothing here knows what writes models; what is not in
//! order (a value that nobody made, a type that does not fit, an unknown operator) panics.

use super::proto::{Extent, Model, Node, Tensor, ValueInfo, data_type};
use std::collections::BTreeMap;

/// A tensor of any type, its numbers in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
    pub data_type: i32,
}

impl Array {
    /// Numbers of type f32.
    pub fn floats(dims: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(data.len(), dims.iter().product::<usize>());
        Self { dims: dims.to_vec(), data, data_type: data_type::FLOAT }
    }

    /// f32 of extent `dims`, each from its place.
    fn build(dims: &[usize], mut number: impl FnMut(&[usize]) -> f64) -> Self {
        let mut at = vec![0; dims.len()];
        let data = (0..dims.iter().product())
            .map(|i| {
                let mut rest = i;
                for (place, len) in at.iter_mut().zip(dims).rev() {
                    (*place, rest) = (rest % len, rest / len);
                }
                number(&at)
            })
            .collect();
        Self::floats(dims, data)
    }

    /// The number at a place; an axis of extent 1, and one that is missing in front, repeats itself.
    fn at(&self, place: &[usize]) -> f64 {
        let place = &place[place.len() - self.dims.len()..];
        let index =
            place.iter().zip(&self.dims).fold(0, |index, (&i, &len)| index * len + if len == 1 { 0 } else { i });
        self.data[index]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::floats(&self.dims, self.data.iter().map(|&x| f(x)).collect())
    }

    fn integers(&self) -> Vec<i64> {
        assert_eq!(self.data_type, data_type::INT64);
        self.data.iter().map(|&x| x as i64).collect()
    }

    /// The axes behind the channels, as three: those missing in front have extent 1.
    fn space(&self) -> [usize; 3] {
        three(&self.dims[2..], 1)
    }
}

fn three<T: Copy>(numbers: &[T], missing: T) -> [T; 3] {
    let mut all = [missing; 3];
    all[3 - numbers.len()..].copy_from_slice(numbers);
    all
}

/// Every value of `model` for these inputs.
pub fn run(model: &Model, inputs: &[(&str, Array)]) -> BTreeMap<String, Array> {
    let standard = model.opset_import.iter().find(|set| set.domain.as_deref().unwrap_or_default().is_empty());
    assert_eq!(standard.map(|set| set.version), Some(14));
    let graph = model.graph.as_ref().unwrap();
    let mut values: BTreeMap<String, Array> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), decoded(tensor))).collect();
    assert_eq!(values.len(), graph.initializer.len(), "names of constants");
    let names: Vec<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for ((name, value), info) in inputs.iter().zip(&graph.input) {
        check(info, value);
        assert!(values.insert(name.to_string(), value.clone()).is_none(), "{name}");
    }
    for node in &graph.node {
        let inputs: Vec<&Array> =
            node.input.iter().map(|name| values.get(name).unwrap_or_else(|| panic!("nothing made {name}"))).collect();
        let value = Operator { node }.apply(&inputs);
        assert_eq!(node.output.len(), 1);
        assert!(values.insert(node.output[0].clone(), value).is_none(), "{} again", node.output[0]);
    }
    for info in graph.value_info.iter().chain(&graph.output) {
        check(info, &values[&info.name]);
    }
    values
}

/// Does a value have the type and extent that the model states?
fn check(info: &ValueInfo, value: &Array) {
    let tensor = info.kind.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(tensor.elem_type, value.data_type, "{}", info.name);
    let dims = &tensor.shape.as_ref().unwrap().dim;
    assert_eq!(dims.len(), value.dims.len(), "{}", info.name);
    for (dim, &len) in dims.iter().zip(&value.dims) {
        match dim.extent.as_ref().unwrap() {
            Extent::Fixed(fixed) => assert_eq!(*fixed, len as i64, "{}", info.name),
            Extent::Named(_) => {}
        }
    }
}

fn decoded(tensor: &Tensor) -> Array {
    let dims: Vec<usize> = tensor.dims.iter().map(|&len| usize::try_from(len).unwrap()).collect();
    let raw = &tensor.raw_data;
    let pairs = || raw.as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair));
    let data: Vec<f64> = match tensor.data_type {
        data_type::FLOAT => raw.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        data_type::INT64 => raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        data_type::FLOAT16 => pairs().map(half).collect(),
        data_type::BFLOAT16 => pairs().map(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))).collect(),
        other => panic!("{}: type {other}", tensor.name),
    };
    assert_eq!(data.len(), dims.iter().product::<usize>(), "{}", tensor.name);
    Array { dims, data, data_type: tensor.data_type }
}

/// IEEE 754 binary16: 1 bit of sign, 5 of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 => panic!("not a finite number"),
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}

/// A node and its attributes.
struct Operator<'a> {
    node: &'a Node,
}

impl Operator<'_> {
    fn int(&self, name: &str, default: i64) -> i64 {
        let found = self.node.attribute.iter().find(|attribute| attribute.name == name);
        found.map_or(default, |attribute| {
            assert_eq!(attribute.kind, 2);
            attribute.i.unwrap()
        })
    }

    fn float(&self, name: &str, default: f32) -> f64 {
        let found = self.node.attribute.iter().find(|attribute| attribute.name == name);
        f64::from(found.map_or(default, |attribute| {
            assert_eq!(attribute.kind, 1);
            attribute.f.unwrap()
        }))
    }

    /// One number for each axis of an image, as three.
    fn axes(&self, name: &str, missing: usize) -> Option<[usize; 3]> {
        let found = self.node.attribute.iter().find(|attribute| attribute.name == name)?;
        assert_eq!(found.kind, 7);
        Some(three(&found.ints.iter().map(|&i| usize::try_from(i).unwrap()).collect::<Vec<_>>(), missing))
    }

    /// What is padded in front and behind, for each axis.
    fn pads(&self) -> [[usize; 3]; 2] {
        let Some(found) = self.node.attribute.iter().find(|attribute| attribute.name == "pads") else {
            return [[0; 3]; 2];
        };
        let pads: Vec<usize> = found.ints.iter().map(|&i| usize::try_from(i).unwrap()).collect();
        let (before, behind) = pads.split_at(pads.len() / 2);
        [three(before, 0), three(behind, 0)]
    }

    fn apply(&self, inputs: &[&Array]) -> Array {
        let is_about_places = ["Pad", "Slice", "Cast"].contains(&self.node.op_type.as_str());
        let floats = if is_about_places { &inputs[..1] } else { inputs };
        let is_cast = self.node.op_type == "Cast";
        assert!(is_cast || floats.iter().all(|x| x.data_type == data_type::FLOAT), "{}: types", self.node.name);
        match (self.node.op_type.as_str(), inputs) {
            ("Cast", [x]) => {
                assert_eq!(self.int("to", 0), i64::from(data_type::FLOAT));
                Array::floats(&x.dims, x.data.clone())
            }
            ("Pad", [x, pads]) => pad(x, &pads.integers()),
            ("Slice", [x, starts, ends, axes, steps]) => {
                slice(x, [starts, ends, axes, steps].map(|list| list.integers()))
            }
            ("Add", [a, b]) => broadcast(a, b, |a, b| a + b),
            ("Sub", [a, b]) => broadcast(a, b, |a, b| a - b),
            ("Mul", [a, b]) => broadcast(a, b, |a, b| a * b),
            ("Div", [a, b]) => broadcast(a, b, |a, b| a / b),
            ("Mean", [first, rest @ ..]) => {
                let sum = rest.iter().fold((*first).clone(), |sum, x| broadcast(&sum, x, |a, b| a + b));
                sum.map(|x| x / inputs.len() as f64)
            }
            ("Relu", [x]) => x.map(|x| x.max(0.0)),
            ("LeakyRelu", [x]) => {
                let slope = self.float("alpha", 0.01);
                x.map(|x| if x < 0.0 { slope * x } else { x })
            }
            ("Tanh", [x]) => x.map(f64::tanh),
            ("Sigmoid", [x]) => x.map(|x| 1.0 / (1.0 + (-x).exp())),
            ("Concat", parts) => self.concat(parts),
            ("Conv", [x, w]) => self.conv(x, w, None),
            ("Conv", [x, w, b]) => self.conv(x, w, Some(b)),
            ("BatchNormalization", [x, scale, b, mean, var]) => {
                assert_eq!(self.int("training_mode", 0), 0);
                let epsilon = self.float("epsilon", 1e-5);
                Array::build(&x.dims, |at| {
                    let c = &at[1..2];
                    (x.at(at) - mean.at(c)) / (var.at(c) + epsilon).sqrt() * scale.at(c) + b.at(c)
                })
            }
            ("AveragePool", [x]) => self.pool(x, |window| window.iter().sum::<f64>() / window.len() as f64),
            ("MaxPool", [x]) => self.pool(x, |window| window.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            ("GlobalAveragePool", [x]) => {
                let pixels: usize = x.dims[2..].iter().product();
                let dims: Vec<usize> = x.dims[..2].iter().copied().chain(x.dims[2..].iter().map(|_| 1)).collect();
                Array::floats(&dims, x.data.chunks(pixels).map(|p| p.iter().sum::<f64>() / pixels as f64).collect())
            }
            ("Flatten", [x]) => {
                let axis = usize::try_from(self.int("axis", 1)).unwrap();
                let [outer, inner] = [&x.dims[..axis], &x.dims[axis..]].map(|dims| dims.iter().product());
                Array::floats(&[outer, inner], x.data.clone())
            }
            ("Gemm", [a, b, c]) => self.gemm(a, b, c),
            (other, inputs) => panic!("{other} of {}", inputs.len()),
        }
    }

    fn concat(&self, parts: &[&Array]) -> Array {
        let axis = usize::try_from(self.int("axis", i64::MIN)).unwrap();
        let mut dims = parts[0].dims.clone();
        dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
        Array::build(&dims, |at| {
            let mut at = at.to_vec();
            for part in parts {
                if at[axis] < part.dims[axis] {
                    return part.at(&at);
                }
                at[axis] -= part.dims[axis];
            }
            unreachable!("the extent is the sum of theirs")
        })
    }

    fn gemm(&self, a: &Array, b: &Array, c: &Array) -> Array {
        assert_eq!((self.int("transA", 0), self.float("alpha", 1.0), self.float("beta", 1.0)), (0, 1.0, 1.0));
        let is_transposed = self.int("transB", 0) == 1;
        let [rows, columns] = if is_transposed { [b.dims[1], b.dims[0]] } else { [b.dims[0], b.dims[1]] };
        assert_eq!(a.dims[1], rows);
        Array::build(&[a.dims[0], columns], |at| {
            let weight = |i| if is_transposed { b.at(&[at[1], i]) } else { b.at(&[i, at[1]]) };
            (0..rows).map(|i| a.at(&[at[0], i]) * weight(i)).sum::<f64>() + c.at(at)
        })
    }

    /// Extent of what windows leave of `space`, and where each begins.
    fn windows(&self, space: [usize; 3], kernel: [usize; 3]) -> ([usize; 3], impl Fn(&[usize]) -> [i64; 3] + use<>) {
        let [before, behind] = self.pads();
        let (strides, dilations) = (self.axes("strides", 1), self.axes("dilations", 1));
        let (strides, dilations) = (strides.unwrap_or([1; 3]), dilations.unwrap_or([1; 3]));
        let size = [0, 1, 2].map(|i| {
            let padded = space[i] + before[i] + behind[i];
            (padded - dilations[i] * (kernel[i] - 1) - 1) / strides[i] + 1
        });
        let first = move |at: &[usize]| {
            let at = three(&at[2..], 0);
            [0, 1, 2].map(|i| (at[i] * strides[i]) as i64 - before[i] as i64)
        };
        (size, first)
    }

    fn conv(&self, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
        let (kernel, space) = (w.space(), x.space());
        assert_eq!(self.axes("kernel_shape", 1).unwrap_or(kernel), kernel);
        let group = usize::try_from(self.int("group", 1)).unwrap();
        let (outputs, inputs) = (w.dims[0], w.dims[1]);
        assert_eq!((x.dims[1], outputs % group), (inputs * group, 0), "{}: channels", self.node.name);
        let dilations = self.axes("dilations", 1).unwrap_or([1; 3]);
        let (size, first) = self.windows(space, kernel);
        let dims = [&[x.dims[0], outputs], &size[5 - x.dims.len()..]].concat();
        let [depth, rows, columns] = space;
        Array::build(&dims, |at| {
            let (n, k, corner) = (at[0], at[1], first(at));
            let channels = k / (outputs / group) * inputs;
            let mut sum = bias.map_or(0.0, |bias| bias.data[k]);
            for tap in 0..kernel.iter().product::<usize>() {
                let taps = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
                let place = [0, 1, 2].map(|i| corner[i] + (taps[i] * dilations[i]) as i64);
                if place.iter().zip(space).any(|(&i, len)| !(0..len as i64).contains(&i)) {
                    continue;
                }
                let [z, r, s] = place.map(|i| i as usize);
                for c in 0..inputs {
                    let pixel = (((n * x.dims[1] + channels + c) * depth + z) * rows + r) * columns + s;
                    sum += x.data[pixel] * w.data[(k * inputs + c) * kernel.iter().product::<usize>() + tap];
                }
            }
            sum
        })
    }

    fn pool(&self, x: &Array, reduce: impl Fn(&[f64]) -> f64) -> Array {
        let (kernel, space) = (self.axes("kernel_shape", 1).unwrap(), x.space());
        assert_eq!(self.pads(), [[0; 3]; 2]);
        let (size, first) = self.windows(space, kernel);
        let dims = [&x.dims[..2], &size[5 - x.dims.len()..]].concat();
        let [depth, rows, columns] = space;
        Array::build(&dims, |at| {
            let [z, r, s] = first(at).map(|i| i as usize);
            let plane = (at[0] * x.dims[1] + at[1]) * depth;
            let taps = (0..kernel.iter().product::<usize>())
                .map(|i| [z + i / kernel[2] / kernel[1], r + i / kernel[2] % kernel[1], s + i % kernel[2]]);
            reduce(&taps.map(|[z, r, s]| x.data[((plane + z) * rows + r) * columns + s]).collect::<Vec<_>>())
        })
    }
}

fn broadcast(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    let rank = a.dims.len().max(b.dims.len());
    let dim = |x: &Array, i: usize| if i + x.dims.len() < rank { 1 } else { x.dims[i + x.dims.len() - rank] };
    let dims: Vec<usize> = (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (a, b) if a == b || b == 1 => a,
            (1, b) => b,
            (a, b) => panic!("extents {a} and {b}"),
        })
        .collect();
    Array::build(&dims, |at| f(a.at(at), b.at(at)))
}

fn pad(x: &Array, pads: &[i64]) -> Array {
    let pads: Vec<usize> = pads.iter().map(|&pad| usize::try_from(pad).unwrap()).collect();
    let (before, behind) = pads.split_at(x.dims.len());
    let dims: Vec<usize> = x.dims.iter().zip(before).zip(behind).map(|((len, a), b)| len + a + b).collect();
    Array::build(&dims, |at| {
        let inside: Option<Vec<usize>> = at.iter().zip(before).map(|(i, before)| i.checked_sub(*before)).collect();
        let inside = inside.filter(|inside| inside.iter().zip(&x.dims).all(|(i, len)| i < len));
        inside.map_or(0.0, |inside| x.at(&inside))
    })
}

/// With places from 0 on and steps forwards, as far as the axes go.
fn slice(x: &Array, [starts, ends, axes, steps]: [Vec<i64>; 4]) -> Array {
    let (mut dims, mut first, mut step) = (x.dims.clone(), vec![0; x.dims.len()], vec![1; x.dims.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        let axis = usize::try_from(axis).unwrap();
        let [start, end, by] = [starts[i], ends[i], steps[i]].map(|number| usize::try_from(number).unwrap());
        dims[axis] = (end.min(x.dims[axis]) - start).div_ceil(by);
        (first[axis], step[axis]) = (start, by);
    }
    Array::build(&dims, |at| {
        let place: Vec<usize> = at.iter().zip(&first).zip(&step).map(|((i, first), step)| first + i * step).collect();
        x.at(&place)
    })
}
