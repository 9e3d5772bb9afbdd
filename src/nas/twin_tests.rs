//! Both networks on volumes, and on pictures behind a stem of stride 2, against a second definition of the whole
//! network in f64 loops: logits, loss, and by finite differences the gradient of every kind of parameter.
//!
//! The second definition shares no code with the first but the plain facts of an architecture. Ops are those of weight
//! normalisation, the only ones that both networks have.

use super::arch::{Architecture, Conv, PlacedOp};
use super::hypernet::HyperConfig;
use super::mainnet::forward;
use super::resulting::{NormKind, ResultingNetwork};
use super::sample::{SampleLimits, sample};
use super::smash::{EncodingConfig, SmashNetwork};
use super::space::Space;
use super::twin::NetworkShape;
use crate::backend::{Context, Cpu, Region, Span};
use crate::nn::norm::Mode;
use crate::nn::params::ParamStore;
use crate::ops::cross_entropy::cross_entropy;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::testing::assert_close;
use std::collections::BTreeMap;
use std::ops::Range;

const VOLUME: NetworkShape = NetworkShape { image_depth: 8, ..NetworkShape::pictures(2, 8, 5, 3) };
/// One slice is left after the first block.
const FLAT_VOLUME: NetworkShape = NetworkShape { image_depth: 2, ..NetworkShape::pictures(1, 8, 5, 5) };
const STRIDED: NetworkShape = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(3, 16, 5, 7) };
const LABELS: [u16; 3] = [1, 4, 0];
/// Relative to the largest of a parameter: f32 passes through some twenty layers.
const TOLERANCE: f64 = 1e-4;

/// Values of a layer in f64, [c][pixel][n].
#[derive(Clone)]
struct Value {
    c: usize,
    size: [usize; 3],
    n: usize,
    data: Vec<f64>,
}

impl Value {
    fn plane(&self) -> usize {
        self.size.iter().product::<usize>() * self.n
    }

    fn channels(&self, range: Range<usize>) -> Self {
        let plane = self.plane();
        Self { c: range.len(), data: self.data[range.start * plane..range.end * plane].to_vec(), ..self.clone() }
    }

    fn concat(values: &[Self]) -> Self {
        let data = values.iter().flat_map(|value| value.data.clone()).collect();
        Self { c: values.iter().map(|value| value.c).sum(), data, ..values[0].clone() }
    }

    fn relu(mut self) -> Self {
        self.data.iter_mut().for_each(|x| *x = x.max(0.0));
        self
    }

    fn add(mut self, other: &Self) -> Self {
        self.data.iter_mut().zip(&other.data).for_each(|(x, y)| *x += y);
        self
    }

    /// A value of `c` channels and this size from a function of channel, pixel and image.
    fn build(&self, c: usize, size: [usize; 3], f: impl Fn(usize, [usize; 3], usize) -> f64) -> Self {
        let mut data = Vec::new();
        for (k, z) in (0..c).flat_map(|k| (0..size[0]).map(move |z| (k, z))) {
            for (h, w) in (0..size[1]).flat_map(|h| (0..size[2]).map(move |w| (h, w))) {
                data.extend((0..self.n).map(|n| f(k, [z, h, w], n)));
            }
        }
        Self { c, size, n: self.n, data }
    }

    /// What lies at a place; 0 outside.
    fn at(&self, c: usize, place: [isize; 3], n: usize) -> f64 {
        if place.iter().zip(self.size).any(|(&i, len)| !(0..len as isize).contains(&i)) {
            return 0.0;
        }
        let [z, h, w] = place.map(|i| i as usize);
        self.data[(((c * self.size[0] + z) * self.size[1] + h) * self.size[2] + w) * self.n + n]
    }

    fn pool(&self) -> Self {
        let depth = self.size[0].min(2);
        let size = [self.size[0] / depth, self.size[1] / 2, self.size[2] / 2];
        self.build(self.c, size, |c, [z, h, w], n| {
            let corners = (0..4 * depth).map(|i| [depth * z + i / 4, 2 * h + i / 2 % 2, 2 * w + i % 2]);
            corners.map(|place| self.at(c, place.map(|i| i as isize), n)).sum::<f64>() / (4 * depth) as f64
        })
    }
}

/// A convolution as the loops want it.
struct Window {
    k: usize,
    c_per_group: usize,
    kernel: [usize; 3],
    dilation: [usize; 3],
    stride: usize,
}

/// Values of parameters, with their extents.
type Params = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// A network as data.
struct Exact<'a> {
    arch: &'a Architecture,
    shape: NetworkShape,
    /// Body filters are shared by the ops of a block.
    shared: bool,
}

impl Exact<'_> {
    /// The first channels and the centre of the stored filter `name`.
    fn conv(&self, params: &Params, name: &str, x: &Value, window: &Window) -> Value {
        let (dims, w) = &params[name];
        let stored = match dims[2..] {
            [r, s] => [1, r, s],
            _ => [dims[2], dims[3], dims[4]],
        };
        let groups = x.c / window.c_per_group;
        let [depth, rows, columns] = x.size;
        let size = [depth, rows / window.stride, columns / window.stride];
        let stride = [1, window.stride, window.stride];
        x.build(window.k, size, |k, pixel, n| {
            let first = k / (window.k / groups) * window.c_per_group;
            let mut sum = 0.0;
            for (c, tap) in (0..window.c_per_group)
                .flat_map(|c| (0..window.kernel.iter().product::<usize>()).map(move |tap| (c, tap)))
            {
                let [_, r_len, s_len] = window.kernel;
                let tap = [tap / s_len / r_len, tap / s_len % r_len, tap % s_len];
                let place = [0, 1, 2].map(|axis| {
                    let away = tap[axis] as isize - (window.kernel[axis] / 2) as isize;
                    (pixel[axis] * stride[axis]) as isize + away * window.dilation[axis] as isize
                });
                let [t, r, s] = [0, 1, 2].map(|axis| tap[axis] + (stored[axis] - window.kernel[axis]) / 2);
                let weight = w[(((k * dims[1] + c) * stored[0] + t) * stored[1] + r) * stored[2] + s];
                sum += weight * x.at(first + c, place, n);
            }
            sum
        })
    }

    /// The first rows and columns of the stored matrix `name`, times `factor`.
    fn pointwise(&self, params: &Params, name: &str, x: &Value, outputs: usize, factor: f64) -> Value {
        let (dims, w) = &params[name];
        x.build(outputs, x.size, |k, pixel, n| {
            let place = pixel.map(|i| i as isize);
            factor * (0..x.c).map(|c| w[k * dims[1] + c] * x.at(c, place, n)).sum::<f64>()
        })
    }

    /// relu(gamma * normalised + beta), by the statistics of the batch.
    fn norm_relu(&self, params: &Params, name: &str, x: &Value) -> Value {
        let [gamma, beta] = ["gamma", "beta"].map(|what| &params[&format!("{name}.{what}")].1);
        let len = x.plane() as f64;
        let mut y = x.clone();
        for (c, plane) in y.data.chunks_mut(x.plane()).enumerate() {
            let mean = plane.iter().sum::<f64>() / len;
            let variance = plane.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len;
            let scale = gamma[c] / (variance + f64::from(crate::ops::batchnorm::EPSILON)).sqrt();
            plane.iter_mut().for_each(|x| *x = scale * (*x - mean) + beta[c]);
        }
        y.relu()
    }

    /// The twin's rule, written once more.
    fn window(&self, conv: &Conv, k: usize, inputs: usize) -> Window {
        let ([kh, kw], [dh, dw]) = (conv.kernel, conv.dilation);
        let (kernel, dilation) =
            if self.shape.image_depth > 1 { ([3, 3, 3], [dh, dh, dw]) } else { ([1, kh, kw], [1, dh, dw]) };
        Window { k, c_per_group: inputs / conv.groups, kernel, dilation, stride: 1 }
    }

    fn op(&self, params: &Params, index: usize, placed: &PlacedOp<'_>, x: Value) -> Value {
        let (op, space) = (placed.op, &self.arch.space);
        let name = format!("op{index}.w_in");
        let norm = params[&name].1.iter().map(|w| w * w).sum::<f64>().sqrt();
        let n_b = op.bottleneck_channels(placed.block, space);
        let h = self.pointwise(params, &name, &x.relu(), n_b, 1.0 / norm).relu();
        let mut sum: Option<Value> = None;
        for path in [[0, 1], [2, 3]] {
            let mut y = h.clone();
            for j in path {
                let Some(conv) = &op.body[j] else { continue };
                let name =
                    if self.shared { format!("block{}.w{j}", placed.block_index) } else { format!("op{index}.w{j}") };
                let window = self.window(conv, op.output_channels(space), y.c);
                y = self.conv(params, &name, &y.relu(), &window);
            }
            if op.body[path[0]].is_some() {
                sum = Some(sum.map_or(y.clone(), |sum| sum.add(&y)));
            }
        }
        sum.unwrap()
    }

    /// [classes][n].
    fn logits(&self, params: &Params, images: &Value) -> Value {
        let (arch, space) = (self.arch, &self.arch.space);
        let channels = |b: usize| arch.blocks[b].input_channels(b, space);
        let kernel = self.shape.stem_kernel;
        let depth = if self.shape.image_depth > 1 { kernel } else { 1 };
        let stem = Window {
            k: channels(0),
            c_per_group: images.c,
            kernel: [depth, kernel, kernel],
            dilation: [1; 3],
            stride: self.shape.stem_stride,
        };
        let mut x = self.conv(params, "stem.w", images, &stem);
        for (b, block) in arch.blocks.iter().enumerate() {
            let width = block.bank_size * space.unit;
            let mut banks: Vec<Option<Value>> = vec![None; block.n_banks];
            for (i, bank) in banks.iter_mut().enumerate().take(x.c / width) {
                *bank = Some(x.channels(i * width..(i + 1) * width));
            }
            for (index, placed) in arch.placed_ops().enumerate().filter(|(_, placed)| placed.block_index == b) {
                let read: Vec<Value> = placed.op.read.iter().map(|&i| banks[i].clone().unwrap()).collect();
                let y = self.op(params, index, &placed, Value::concat(&read));
                for (j, &target) in placed.op.write.iter().enumerate() {
                    let group = y.channels(placed.op.write_channels(j, block, space));
                    banks[target] = Some(banks[target].take().map_or(group.clone(), |old| old.add(&group)));
                }
            }
            let written = Value::concat(&banks.into_iter().flatten().collect::<Vec<_>>());
            if b < 2 {
                x = self.norm_relu(params, &format!("transition{b}.bn"), &written);
                x = self.pointwise(params, &format!("transition{b}.w"), &x, channels(b + 1), 1.0).pool();
            } else {
                x = self.norm_relu(params, "head.bn", &written);
            }
        }
        let pixels = x.size.iter().product::<usize>();
        let mean = |c: usize, n: usize| (0..pixels).map(|i| x.data[(c * pixels + i) * x.n + n]).sum::<f64>();
        let pooled = x.build(x.c, [1; 3], |c, _, n| mean(c, n) / pixels as f64);
        let mut logits = self.pointwise(params, "head.fc.w", &pooled, self.shape.classes, 1.0);
        let bias = &params["head.fc.b"].1;
        logits.data.iter_mut().enumerate().for_each(|(i, x)| *x += bias[i / pooled.n]);
        logits
    }

    fn loss(&self, params: &Params, images: &Value) -> f64 {
        let logits = self.logits(params, images);
        let of = |n: usize| {
            let column: Vec<f64> = (0..logits.c).map(|k| logits.data[k * logits.n + n]).collect();
            column.iter().map(|x| x.exp()).sum::<f64>().ln() - column[usize::from(LABELS[n])]
        };
        (0..logits.n).map(of).sum::<f64>() / logits.n as f64
    }
}

/// What the engine computes.
struct Found {
    logits: Vec<f32>,
    loss: f32,
    params: Params,
    gradients: Params,
}

/// One step of the network in `store`; `build` returns its logits and the filters that it generates.
fn step(
    store: &ParamStore,
    (arch, shape): (&Architecture, &NetworkShape),
    images: &Value,
    build: impl FnOnce(&mut Tape<'_>, Var) -> (Var, Option<Var>),
) -> Found {
    let mut context = Context::cpu(Cpu::new(2), 1 << 22).unwrap();
    store.reserve(&mut context).unwrap();
    store.initialise(&mut context, 3, 0).unwrap();
    let mut tape = Tape::new(&mut context);
    let pixels: Vec<f32> = images.data.iter().map(|&x| x as f32).collect();
    let images = tape.input(shape.batch(LABELS.len()), &pixels, false).unwrap();
    let (logits, generated) = build(&mut tape, images);
    let values = tape.read(logits).unwrap();
    let generated = generated.map(|filters| tape.read(filters).unwrap());
    let entropy = cross_entropy(&mut tape, logits, &LABELS).unwrap();
    let loss = tape.read(entropy.loss).unwrap()[0];
    tape.backward(entropy.loss).unwrap();
    drop(tape);
    let mut of = |region| by_name(store, arch, &context.read(context.whole(region)).unwrap());
    let (mut params, gradients) = (of(Region::Params), of(Region::Grads));
    let mut generated = generated.into_iter().flatten();
    for (index, placed) in arch.placed_ops().enumerate() {
        let (op, block) = (placed.op, placed.block);
        let dims = vec![op.bottleneck_channels(block, &arch.space), op.input_channels(block, &arch.space)];
        let filter: Vec<f64> = generated.by_ref().take(dims.iter().product()).map(f64::from).collect();
        if !filter.is_empty() {
            params.insert(format!("op{index}.w_in"), (dims, filter));
        }
    }
    Found { logits: values, loss, params, gradients }
}

/// What lies in a region, as the second definition calls it: `block1.op0.w2` is op 3 of all.
fn by_name(store: &ParamStore, arch: &Architecture, region: &[f32]) -> Params {
    let before = |block: usize| arch.blocks[..block].iter().map(|block| block.ops.len()).sum::<usize>();
    let renamed = |name: &str| {
        let (block, rest) = name.strip_prefix("block")?.split_once(".op")?;
        let (op, what) = rest.split_once('.')?;
        Some(format!("op{}.{what}", before(block.parse().ok()?) + op.parse::<usize>().ok()?))
    };
    let value = |span: Span| region[span.start..][..span.len].iter().map(|&x| f64::from(x)).collect();
    let named = |name: &str| renamed(name).unwrap_or_else(|| name.to_string());
    store.params().iter().map(|param| (named(&param.name), (param.dims.clone(), value(param.span)))).collect()
}

/// Compares logits, loss and, at some coordinates of each parameter, gradients.
fn compare(exact: &Exact<'_>, images: &Value, found: &Found) {
    assert_close("logits", &found.logits, &exact.logits(&found.params, images).data, 3000);
    let loss = exact.loss(&found.params, images);
    assert!((f64::from(found.loss) - loss).abs() < 1e-5 * loss, "{} {loss}", found.loss);
    let mut rng = Rng::new(17, Stream::Init);
    for (name, (_, got)) in found.gradients.iter().filter(|(name, _)| !name.starts_with("hyper.")) {
        let scale = got.iter().fold(1e-4, |m: f64, &g| m.max(g.abs()));
        // One of all, and some that are used: filters are used in part.
        let used: Vec<usize> = (0..got.len()).filter(|&i| got[i] != 0.0).collect();
        let mut chosen = vec![rng.below(got.len())];
        chosen.extend(rng.choose(&used, used.len().min(3)));
        for at in chosen {
            let mut moved = found.params.clone();
            let value = moved[name].1[at];
            let mut side = |step: f64| {
                moved.get_mut(name).unwrap().1[at] = value + step;
                exact.loss(&moved, images)
            };
            let slope = (side(1e-5) - side(-1e-5)) / 2e-5;
            let error = (got[at] - slope).abs();
            assert!(error < TOLERANCE * scale, "{name}[{at}]: {} instead of {slope}, scale {scale}", got[at]);
        }
    }
}

/// An architecture with both paths, groups, and another dilation of rows than of columns.
fn architecture() -> Architecture {
    let space = Space {
        unit: 2,
        n_max: 4,
        max_bank_size: 2,
        kernels: vec![3, 5],
        groups: vec![1, 2],
        depth: 2,
        ..Space::small()
    };
    let mut rng = Rng::new(21, Stream::Arch);
    let limits = SampleLimits::full(&space);
    let varied = |arch: &Architecture| {
        let mut convs = arch.placed_ops().flat_map(|placed| placed.op.body.into_iter().flatten());
        let skewed = |conv: &Conv| conv.dilation[0] != conv.dilation[1] && conv.groups == 2;
        convs.any(|conv| skewed(&conv)) && arch.placed_ops().any(|placed| placed.op.active() == [true; 4])
    };
    std::iter::repeat_with(|| sample(&space, &limits, &mut rng)).find(varied).unwrap()
}

fn random_images(shape: &NetworkShape) -> Value {
    let mut rng = Rng::new(5, Stream::Init);
    let batch = shape.batch(LABELS.len());
    let data = (0..batch.len()).map(|_| f64::from(rng.normal() as f32)).collect();
    Value { c: batch.c, size: [batch.d, batch.h, batch.w], n: batch.n, data }
}

fn check_smash(shape: NetworkShape) {
    let (arch, images) = (architecture(), random_images(&shape));
    let hyper = HyperConfig { stem: 3, layers: vec![1, 1, 1], growth: 2.into() };
    let network = SmashNetwork::new(&arch.space, shape, &hyper, EncodingConfig::default());
    let found = step(network.store(), (&arch, &shape), &images, |tape, images| {
        let weights = network.generate(tape, &arch, Mode::Train).unwrap();
        (forward(tape, &arch, &weights, images, Mode::Train).unwrap(), Some(weights.filters()))
    });
    compare(&Exact { arch: &arch, shape, shared: true }, &images, &found);
}

fn check_resulting(shape: NetworkShape) {
    let (arch, images) = (architecture(), random_images(&shape));
    let network = ResultingNetwork::new(&arch, shape, NormKind::Weightnorm);
    let weights = network.weights(Mode::Train);
    let found = step(network.store(), (&arch, &shape), &images, |tape, images| {
        (forward(tape, &arch, &weights, images, Mode::Train).unwrap(), None)
    });
    compare(&Exact { arch: &arch, shape, shared: false }, &images, &found);
}

#[test]
fn a_smash_network_on_volumes_is_that_of_nested_loops() {
    check_smash(VOLUME);
}

#[test]
fn a_resulting_network_on_volumes_is_that_of_nested_loops() {
    check_resulting(VOLUME);
    check_resulting(FLAT_VOLUME);
}

#[test]
fn networks_behind_a_strided_stem_are_those_of_nested_loops() {
    check_smash(STRIDED);
    check_resulting(STRIDED);
}
