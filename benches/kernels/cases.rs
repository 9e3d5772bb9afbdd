//! The cases: shapes that the search space v2 gives ops at 50 images of 32 x 32, its HyperNet
//! (batch 1), and passes over all parameters.

use crate::measure::STATISTICS;
use smash_engine::backend::cpu::Filter;
use smash_engine::backend::{Context, Kind, Region, Span};
use smash_engine::data::augment::Placement;
use smash_engine::data::{ImageShape, Images};
use smash_engine::error::Result;
use smash_engine::ops::activation::{Activation, activation};
use smash_engine::ops::adam::{Adam, adam};
use smash_engine::ops::add::add;
use smash_engine::ops::avg_pool::avg_pool;
use smash_engine::ops::batch_gather::{BatchGather, batch_gather};
use smash_engine::ops::batchnorm::{Batchnorm, batchnorm};
use smash_engine::ops::concat::concat;
use smash_engine::ops::conv2d::{Conv2d, Output, conv2d};
use smash_engine::ops::cross_entropy::cross_entropy;
use smash_engine::ops::gather_filters::{FilterSlices, GatherFilters, gather_filters};
use smash_engine::ops::global_avg_pool::global_avg_pool;
use smash_engine::ops::linear::linear;
use smash_engine::ops::pointwise::{Pointwise, pointwise};
use smash_engine::ops::sgd::{Sgd, sgd};
use smash_engine::ops::weightnorm::weightnorm;
use smash_engine::tape::{Tape, Var};
use smash_engine::tensor::Shape;

type Build = Box<dyn Fn(&mut Tape<'_>, &[Var]) -> Result<Var>>;

/// An op on operands.
pub struct Case {
    pub op: &'static str,
    pub shape: String,
    pub operands: Vec<Shape>,
    pub result: Shape,
    pub build: Build,
    /// Operations of its forward pass; each gradient takes as many.
    flop: f64,
    /// Name of a backward pass, and the operands whose gradients it computes.
    backward: Vec<(&'static str, Vec<usize>)>,
}

/// A pass over a case.
pub struct Pass {
    pub name: &'static str,
    /// For each operand: is its gradient computed?
    pub gradients: Vec<bool>,
    pub flop: f64,
    pub bytes: f64,
}

impl Pass {
    pub fn is_backward(&self) -> bool {
        self.gradients.contains(&true)
    }
}

impl Case {
    fn new(op: &'static str, shape: impl Into<String>, operands: Vec<Shape>, build: Build) -> Self {
        let mut case = Self {
            op,
            shape: shape.into(),
            operands,
            result: Shape::vector(0),
            build,
            flop: 0.0,
            backward: Vec::new(),
        };
        case.result = case.dry_result();
        case
    }

    /// The shape of the result, by a dry run.
    fn dry_result(&self) -> Shape {
        let mut context = Context::plan(Kind::Cpu);
        let mut tape = Tape::new(&mut context);
        let operands: Result<Vec<Var>> = self.operands.iter().map(|&shape| tape.alloc(shape, false)).collect();
        match operands.and_then(|operands| (self.build)(&mut tape, &operands)) {
            Ok(y) => tape.shape(y),
            Err(error) => panic!("{} {}: {error}", self.op, self.shape),
        }
    }

    fn flop(mut self, flop: usize) -> Self {
        self.flop = flop as f64;
        self
    }

    fn backward(mut self, name: &'static str, operands: impl IntoIterator<Item = usize>) -> Self {
        self.backward.push((name, operands.into_iter().collect()));
        self
    }

    /// The forward pass and the backward passes.
    pub fn passes(&self) -> Vec<Pass> {
        let read: usize = self.operands.iter().map(|shape| shape.len()).sum();
        let bytes = |written: usize| 4.0 * (read + self.result.len() + written) as f64;
        let forward =
            Pass { name: "forward", gradients: vec![false; self.operands.len()], flop: self.flop, bytes: bytes(0) };
        let backward = self.backward.iter().map(|(name, operands)| Pass {
            name,
            gradients: (0..self.operands.len()).map(|i| operands.contains(&i)).collect(),
            flop: self.flop,
            bytes: bytes(operands.iter().map(|&i| self.operands[i].len()).sum()),
        });
        std::iter::once(forward).chain(backward).collect()
    }
}

/// Extents that `--quick` makes small.
#[derive(Clone, Copy)]
struct Sizes {
    /// Images of a batch.
    n: usize,
    /// Divides rows and columns of the pictures.
    divide: usize,
    /// Slices of the HyperNet's picture.
    slices: usize,
}

impl Sizes {
    fn picture(self, c: usize, side: usize) -> Shape {
        Shape::new(c, side / self.divide, side / self.divide, self.n)
    }
}

pub fn cases(quick: bool) -> Vec<Case> {
    let sizes = if quick { Sizes { n: 4, divide: 4, slices: 24 } } else { Sizes { n: 50, divide: 1, slices: 400 } };
    let mut cases = convolutions(sizes);
    cases.extend(pointwise_convolutions(sizes));
    cases.extend(hypernet(sizes));
    cases.extend(simple(sizes));
    cases.extend(ends(sizes));
    cases
}

/// Extent of a convolution: channels in and out, side of the picture, kernel, dilation, groups.
type Extent = (usize, usize, usize, [usize; 2], [usize; 2], usize);

fn convolutions(sizes: Sizes) -> Vec<Case> {
    let body: [Extent; 9] = [
        (64, 64, 32, [3, 3], [1, 1], 1),
        (64, 64, 32, [3, 3], [3, 3], 8),
        (8, 8, 32, [3, 3], [1, 1], 1),
        (64, 64, 32, [7, 7], [1, 1], 1),
        (128, 64, 16, [5, 7], [2, 1], 1),
        (128, 64, 16, [5, 7], [2, 1], 4),
        (128, 64, 16, [7, 7], [1, 1], 2),
        (64, 64, 8, [3, 3], [1, 1], 1),
        (128, 64, 8, [5, 5], [1, 1], 4),
    ];
    let stem = conv_case(sizes, (3, 64, 32, [7, 7], [1, 1], 1), [64, 3, 7, 7], None).backward("backward_weight", [1]);
    let bodies = body.into_iter().map(|extent| {
        // A window of the shared filter of a block.
        conv_case(sizes, extent, [64, 128, 7, 7], Some(0.0))
            .backward("backward_data", [0])
            .backward("backward_weight", [1])
    });
    std::iter::once(stem).chain(bodies).collect()
}

fn conv_case(sizes: Sizes, extent: Extent, stored: [usize; 4], slope: Option<f32>) -> Case {
    let (c, k, side, kernel, dilation, groups) = extent;
    let x = sizes.picture(c, side);
    let filter = Filter::centre(stored, k, c / groups, kernel, groups);
    let config = Conv2d { filter, dilation, slope, output: Output::New };
    let [r, s] = kernel;
    let shape = format!("{c}->{k} {r}x{s} d({},{}) g{groups} {}x{} n{}", dilation[0], dilation[1], x.h, x.w, x.n);
    Case::new(
        "conv2d",
        shape,
        vec![x, Shape::vector(stored.iter().product())],
        Box::new(move |tape, v| conv2d(tape, v[0], v[1], None, config)),
    )
    .flop(2 * filter.len() * x.plane())
}

/// 1x1 convolutions that read several banks as they lie.
fn pointwise_convolutions(sizes: Sizes) -> Vec<Case> {
    let case = |views: usize, c: usize, k: usize, side: usize, relu: bool| {
        let (x, inputs) = (sizes.picture(c, side), views * c);
        let config = Pointwise { filter: Filter::whole(k, inputs, [1, 1], 1), relu, slope: relu.then_some(0.0) };
        let operands = [vec![x; views], vec![Shape::vector(k * inputs), Shape::vector(1)]].concat();
        Case::new(
            "pointwise",
            format!("{views} x {c}->{k} {}x{} n{}", x.h, x.w, x.n),
            operands,
            Box::new(move |tape, v| pointwise(tape, &v[..views], v[views], Some(v[views + 1]), config)),
        )
        .flop(2 * k * inputs * x.plane())
        .backward("backward_data", 0..views)
        .backward("backward_weight", [views, views + 1])
    };
    vec![case(4, 32, 128, 32, true), case(1, 192, 96, 32, false), case(8, 16, 64, 16, true), case(6, 64, 128, 8, true)]
}

/// The HyperNet's convolutions: one image, as wide as the architecture has slices.
fn hypernet(sizes: Sizes) -> Vec<Case> {
    let conv = |c: usize, k: usize, kernel: usize| {
        let x = Shape::new(c, 8, sizes.slices, 1);
        let filter = Filter::whole(k, c, [kernel; 2], 1);
        let config = Conv2d { filter, dilation: [1, 1], slope: Some(0.02), output: Output::New };
        Case::new(
            "conv2d",
            format!("hypernet {c}->{k} {kernel}x{kernel} 8x{} n1", sizes.slices),
            vec![x, Shape::vector(filter.len()), Shape::vector(1)],
            Box::new(move |tape, v| conv2d(tape, v[0], v[1], Some(v[2]), config)),
        )
        .flop(2 * filter.len() * x.plane())
        .backward("backward_data", [0])
        .backward("backward_weight", [1, 2])
    };
    let slices = sizes.slices;
    let per_op = slices / 8;
    let gather = GatherFilters {
        slice_channels: 16,
        row_units: 16,
        filters: (0..8).map(|i| FilterSlices { slices: i * per_op..(i + 1) * per_op, rows: 128 }).collect(),
    };
    let ranges = gather.ranges();
    let generated = ranges.last().map_or(0, |range| range.end);
    vec![
        conv(151, 10, 3),
        conv(240, 120, 1),
        conv(160, 256, 1),
        Case::new(
            "gather_filters",
            format!("256 x 8 x {slices} to 8 filters"),
            vec![Shape::new(256, 8, slices, 1)],
            Box::new(move |tape, v| gather_filters(tape, v[0], gather.clone())),
        )
        .backward("backward", [0]),
        Case::new(
            "weightnorm",
            format!("8 filters, {generated} weights"),
            vec![Shape::vector(generated)],
            Box::new(move |tape, v| weightnorm(tape, v[0], ranges.clone())),
        )
        .backward("backward", [0]),
    ]
}

/// Passes over memory.
fn simple(sizes: Sizes) -> Vec<Case> {
    let x = sizes.picture(64, 32);
    let named = |c: usize| format!("{c} {}x{} n{}", x.h, x.w, x.n);
    let norm = |views: usize, c: usize| {
        let channels = views * c;
        let span = |start| Span { region: Region::State, start, len: channels };
        let config = Batchnorm { running: [span(0), span(STATISTICS / 2)], train: true, slope: Some(0.0) };
        let operands = [vec![x.with_channels(c); views], vec![Shape::vector(channels); 2]].concat();
        Case::new(
            "batchnorm",
            format!("{views} x {}", named(c)),
            operands,
            Box::new(move |tape, v| batchnorm(tape, &v[..views], v[views], v[views + 1], config)),
        )
        .backward("backward", 0..views + 2)
    };
    vec![
        norm(1, 64),
        norm(6, 32),
        Case::new("add", named(64), vec![x; 2], Box::new(|tape, v| add(tape, v[0], v[1]))).backward("backward", [0, 1]),
        Case::new("activation", named(64), vec![x], Box::new(|tape, v| activation(tape, v[0], Activation::Relu)))
            .backward("backward", [0]),
        Case::new("concat", format!("2 x {}", named(64)), vec![x; 2], Box::new(concat)).backward("backward", [0, 1]),
        Case::new("avg_pool", named(64), vec![x], Box::new(|tape, v| avg_pool(tape, v[0]))).backward("backward", [0]),
    ]
}

/// The first and the last steps of a network.
fn ends(sizes: Sizes) -> Vec<Case> {
    let n = sizes.n;
    let last = sizes.picture(256, 8);
    let gather = BatchGather { image: [3, 32, 32], size: [32, 32], mean: vec![0.5; 3], std: vec![0.25; 3] };
    let shape = ImageShape { channels: 3, height: 32, width: 32 };
    let pixels = (0..1000 * shape.pixels()).map(|i| ((i * 7919) >> 3) as u8).collect();
    let set = Images::from_pixels(pixels, vec![0; 1000], shape).expect("as many pixels as images have");
    let indices: Vec<u32> = (0..n as u32).map(|i| i * 19).collect();
    let placements = vec![Placement { dy: 2, dx: -3, flip: true }; n];
    let labels: Vec<u16> = (0..n as u16).map(|i| i % 10).collect();
    vec![
        Case::new(
            "batch_gather",
            format!("3 32x32 n{n} of 1000"),
            Vec::new(),
            Box::new(move |tape, _| batch_gather(tape, &set, &indices, &placements, &gather)),
        ),
        Case::new(
            "global_avg_pool",
            format!("256 {}x{} n{n}", last.h, last.w),
            vec![last],
            Box::new(|tape, v| global_avg_pool(tape, v[0])),
        )
        .backward("backward", [0]),
        Case::new(
            "linear",
            format!("256->10 n{n}"),
            vec![Shape::new(256, 1, 1, n), Shape::vector(2560), Shape::vector(10)],
            Box::new(|tape, v| linear(tape, v[0], v[1], v[2])),
        )
        .flop(2 * 2560 * n)
        .backward("backward", [0, 1, 2]),
        Case::new(
            "cross_entropy",
            format!("10 classes n{n}"),
            vec![Shape::new(10, 1, 1, n)],
            Box::new(move |tape, v| {
                let loss = cross_entropy(tape, v[0], &labels)?;
                tape.release(loss.result);
                Ok(loss.loss)
            }),
        )
        .backward("backward", [0]),
    ]
}

/// Updates the parameters of a span, given where the loss lies.
type Apply = dyn Fn(&mut Context, Span, Span) -> Result<()>;

/// A pass of an optimiser over the parameters.
pub struct Update {
    pub op: &'static str,
    pub shape: String,
    pub len: usize,
    pub flop: f64,
    pub bytes: f64,
    pub apply: Box<Apply>,
}

pub fn updates(quick: bool) -> Vec<Update> {
    // The SMASH network of the search space v2 has 16 million.
    let len = if quick { 1 << 14 } else { 16 << 20 };
    let shape = format!("{len} parameters");
    let bytes = |passes: usize| (4 * passes * len) as f64;
    vec![
        Update {
            op: "adam",
            shape: shape.clone(),
            len,
            flop: 0.0,
            bytes: bytes(7), // reads four buffers, writes three
            apply: Box::new(|context, span, loss| {
                let config =
                    Adam { lr: 1e-4, beta1: 0.5, beta2: 0.999, epsilon: 1e-4, decay: 1e-4, undecayed: 0, step: 3 };
                adam(context, span, config, loss)
            }),
        },
        Update {
            op: "sgd",
            shape,
            len,
            flop: 0.0,
            bytes: bytes(5), // reads three buffers, writes two
            apply: Box::new(|context, span, loss| {
                sgd(context, span, Sgd { lr: 1e-3, momentum: 0.9, decay: 1e-4, undecayed: 0 }, loss)
            }),
        },
    ]
}
