//! An op of one's own: forward, backward, its check against f64, how it is exported, and a training with it.
//!
//!     cargo run --release --example custom_op
//!
//! The op is Swish with a learned slope for each channel (Ramachandran et al. 2017): `y = x * s`, `s = sigmoid(b[c] * x)`.
//!
//! | buffer | shape | its gradient |
//! |---|---|---|
//! | x, y | [C, H, W, N] | `gx = gy * (s + b[c] * x * s * (1 - s))` |
//! | b | C numbers | `gb[c] = sum of gy * x^2 * s * (1 - s)` over the channel |

use smash_engine::backend::cpu::{self, Filter};
use smash_engine::backend::{Context, Cpu, Kind};
use smash_engine::data::{BatchOrder, DataSpec, Dataset, picture_stats};
use smash_engine::nas::computation::computation;
use smash_engine::nas::score::network_error;
use smash_engine::nas::train::{Batch, Gather, Network, Update, plan_step, train_step};
use smash_engine::nas::twin::NetworkShape;
use smash_engine::nn::init::Init;
use smash_engine::nn::norm::Mode;
use smash_engine::nn::optim::Optimizer;
use smash_engine::nn::params::{ParamId, ParamStore};
use smash_engine::nn::schedule::cosine;
use smash_engine::ops::avg_pool::avg_pool;
use smash_engine::ops::batch_gather::BatchGather;
use smash_engine::ops::conv2d::{Conv2d, Output, conv2d};
use smash_engine::ops::global_avg_pool::global_avg_pool;
use smash_engine::ops::linear::linear;
use smash_engine::rng::{Rng, Stream};
use smash_engine::tape::computation::Operation;
use smash_engine::tape::{Backward, Tape, Var};
use smash_engine::tensor::Shape;
use smash_engine::testing::{Case, Check, Input, Lab};
use smash_engine::{Error, Result};

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    check(threads)?;
    train(threads)
}

// The op. In the crate itself this is a folder of src/ops.

/// `x * sigmoid(slope * x)`; see above.
///
/// # Errors
/// [`Error::Shape`] when there is not one slope for each channel.
fn swish(tape: &mut Tape<'_>, x: Var, slope: Var) -> Result<Var> {
    let shape = tape.shape(x);
    if tape.shape(slope).len() != shape.c {
        return Err(Error::shape("swish", format!("{} slopes", shape.c), tape.shape(slope)));
    }
    let y = tape.alloc(shape, tape.needs_grad(x) || tape.needs_grad(slope))?;
    let [xt, bt, yt] = [x, slope, y].map(|var| tape.tensor(var).span);
    tape.compute(
        |claims, cpu| {
            let (x, b, y) = (claims.read(xt), claims.read(bt), claims.write(yt));
            for (c, y) in y.chunks_mut(shape.plane()).enumerate() {
                let (x, b) = (&x[c * shape.plane()..][..shape.plane()], b[c]);
                cpu::map(cpu, y, [x], false, move |[x]| x * sigmoid(b * x));
            }
        },
        |_| no_kernel(),
    )?;
    if tape.is_writing() {
        write_down(tape, x, slope, y)?;
    }
    // What the backward pass reads besides gradients stays until then.
    tape.record(SwishNode { x, slope, y }, y, &[x, slope]);
    Ok(y)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Kernels for a GPU are compiled with the crate. There the other half of `compute` is one launch:
///
/// ```text
/// params! { struct SwishParams { x: Address, slope: Address, y: Address, len: u32, plane: u32 } }  // cuda.rs
/// |cuda| cuda.launch("swish", "forward", Grid::elementwise(y.len), &params)
/// KERNEL(swish_forward, SwishParams) { ... }                                                     // kernels/swish.cu
/// ```
fn no_kernel() -> Result<()> {
    Err(Error::Run("swish has a kernel for the CPU only; use --device cpu".into()))
}

struct SwishNode {
    x: Var,
    slope: Var,
    y: Var,
}

impl Backward for SwishNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let plane = tape.shape(self.x).plane();
        let gy = tape.grad(self.y)?;
        let [xt, bt] = [self.x, self.slope].map(|var| tape.tensor(var).span);
        // The tape says whether x has a gradient already, to which this one is added.
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (gy, x, b, out) = (claims.read(gy), claims.read(xt), claims.read(bt), claims.write(gx.span));
                    for (c, out) in out.chunks_mut(plane).enumerate() {
                        let (operands, b) = ([gy, x].map(|all| &all[c * plane..][..plane]), b[c]);
                        cpu::map(cpu, out, operands, gx.add, move |[g, x]| {
                            let s = sigmoid(b * x);
                            g * (s + b * x * s * (1.0 - s))
                        });
                    }
                },
                |_| no_kernel(),
            )?;
        }
        // Sums go to an accumulator: it starts at zero and is always added to.
        if let Some(gb) = tape.grad_accumulator(self.slope)? {
            tape.compute(
                |claims, cpu| {
                    let (gy, x, b, out) = (claims.read(gy), claims.read(xt), claims.read(bt), claims.write(gb));
                    for (c, out) in out.iter_mut().enumerate() {
                        let (operands, b) = ([gy, x].map(|all| &all[c * plane..][..plane]), b[c]);
                        *out += cpu::sum_row(cpu, operands, |[g, x]| {
                            let s = sigmoid(b * x);
                            g * x * x * s * (1.0 - s)
                        }) as f32;
                    }
                },
                |_| no_kernel(),
            )?;
        }
        Ok(())
    }
}

/// For other programs: the slopes are a convolution of 1x1 filters, each of which sees its own channel only.
fn write_down(tape: &mut Tape<'_>, x: Var, slope: Var, y: Var) -> Result<()> {
    let (shape, from) = (tape.shape(x), tape.written(x)?);
    let filter = tape.constant(tape.tensor(slope).span, vec![shape.c, 1, 1, 1], 0..shape.c, 1.0)?;
    let scale = Operation::Conv { filter, dilation: vec![1, 1], groups: shape.c };
    let scaled = tape.write_value(scale, vec![from], shape);
    let gate = tape.write_value(Operation::Sigmoid, vec![scaled], shape);
    let product = tape.write_value(Operation::Mul, vec![from, gate], shape);
    tape.stands_for(y, product);
    Ok(())
}

// Its check, with the tools that the crate's own ops are checked with.

/// Compares forward pass and gradients with the formula in f64 and its central differences, under a random upstream gradient.
fn check(threads: usize) -> Result<()> {
    let shape = Shape::new(3, 5, 7, 2);
    let formula = move |operands: &[Vec<f64>]| {
        let swish = |(i, x): (usize, &f64)| x / (1.0 + (-operands[1][i / shape.plane()] * x).exp());
        operands[0].iter().enumerate().map(swish).collect()
    };
    let operands = vec![Input::random(shape, 1), Input::random(Shape::vector(shape.c), 2)];
    // The longest sum, that of a slope's gradient, sets the tolerance.
    let case = Case::new(operands, shape.plane(), |tape, v| swish(tape, v[0], v[1]), formula);
    let mut lab = Lab::new(Context::cpu(Cpu::new(threads), 0)?);
    lab.guard(true); // finds what is written beside its place
    let measured = Check::from(case).run(&lab)?;
    println!("swish against f64:");
    for row in &measured.rows {
        println!("  {:32} error {:.1e}, allowed {:.1e}", row.what, row.error, row.tolerance);
    }
    match measured.rows.iter().find(|row| !row.ok()) {
        Some(row) => Err(Error::Run(format!("{}: {} is more than {}", row.what, row.error, row.tolerance))),
        None => Ok(()),
    }
}

// A network with it.

/// Channels of the two convolutions.
const WIDTHS: [usize; 2] = [8, 16];
/// Images of a step.
const BATCH: usize = 50;
/// Steps of the training.
const STEPS: u64 = 360;

/// (3x3 convolution, swish, 2x2 mean) twice, mean of each channel, classes.
struct SwishNetwork {
    store: ParamStore,
    layers: Vec<(Filter, ParamId, ParamId)>,
    classify: [ParamId; 2],
}

impl SwishNetwork {
    fn new(shape: &NetworkShape) -> Self {
        let mut store = ParamStore::default();
        let mut layers = Vec::new();
        let mut inputs = shape.image_channels;
        for (i, k) in WIDTHS.into_iter().enumerate() {
            let w = store.add(format!("layer{i}.w"), &[k, inputs, 3, 3], Init::He);
            let slope = store.add(format!("layer{i}.slope"), &[k], Init::Ones);
            layers.push((Filter::whole(k, inputs, [3, 3], 1), w, slope));
            inputs = k;
        }
        let classify = [
            store.add("head.w", &[shape.classes, inputs], Init::He),
            store.add("head.b", &[shape.classes], Init::Zeros),
        ];
        Self { store, layers, classify }
    }
}

impl Network for SwishNetwork {
    fn name(&self) -> String {
        "the network of swishes".into()
    }

    fn number(&self) -> u64 {
        0
    }

    fn store(&self) -> &ParamStore {
        &self.store
    }

    fn logits(&self, tape: &mut Tape<'_>, images: Var, mode: Mode) -> Result<Var> {
        let mut x = images;
        for (i, &(filter, w, slope)) in self.layers.iter().enumerate() {
            tape.part(|| format!("layer{i}"));
            let [w, slope] = [w, slope].map(|id| self.store.var(tape, id, mode.is_train()));
            let config = Conv2d { filter, dilation: [1, 1], slope: None, output: Output::New };
            let y = conv2d(tape, x, w, None, config)?;
            let z = swish(tape, y, slope)?;
            let next = avg_pool(tape, z)?;
            // The memory of a value is used again once nothing needs it.
            [x, y, z].into_iter().for_each(|var| tape.release(var));
            x = next;
        }
        tape.part(|| "head".into());
        let pooled = global_avg_pool(tape, x)?;
        let [w, b] = self.classify.map(|id| self.store.var(tape, id, mode.is_train()));
        let logits = linear(tape, pooled, w, b)?;
        [x, pooled].into_iter().for_each(|var| tape.release(var));
        Ok(logits)
    }
}

/// Trains it on the embedded images, and shows what it computes as other programs would see it.
fn train(threads: usize) -> Result<()> {
    let data = smash_engine::data::open(&DataSpec::Embedded)?;
    let shape = NetworkShape::pictures(1, 28, data.class_names.len(), 3);
    let network = SwishNetwork::new(&shape);
    let gather = gather(&data);
    let planned = plan_step(Kind::Cpu, &network, shape.batch(BATCH))?;
    let mut context = Context::cpu(Cpu::new(threads), planned)?;
    network.store.reserve(&mut context)?;
    network.store.initialise(&mut context, 1, 0)?;

    println!("\n{STEPS} steps with {} parameters:", network.store.len());
    let images: Vec<u32> = (0..data.train.len() as u32).collect();
    let mut order = BatchOrder::new(images, BATCH, Rng::new(1, Stream::Shuffle))?;
    for step in 1..=STEPS {
        let batch = Batch::unvaried(&data.train, order.next_batch(), &[0]);
        let update = Update { optimizer: Optimizer::SMASH, lr: cosine(0.02, step - 1, STEPS), step };
        let outcome = train_step(&mut context, None, &network, &gather, &batch, update)?.wait(&mut context)?;
        if step % 60 == 0 {
            println!("  step {step}: loss {:.3}", outcome.mean_loss());
        }
    }
    let batches = Batch::all(&data.test, data.views, BATCH);
    let outcome = network_error(&mut context, &network, &gather, batches.into_iter())?;
    println!("test_err {:.2} % of {} images", outcome.percent(), outcome.images);

    println!("\nas plain operations:");
    for (i, step) in computation(&mut context, &network, &shape)?.instructions.iter().enumerate() {
        let operation = format!("{:?}", step.operation);
        let name = operation.split([' ', '(']).next().unwrap_or_default();
        println!("  {i:2}  {:7} {name:14} of {:?} -> {:?}", step.part, step.from, step.shape);
    }
    Ok(())
}

/// How the images become batches: as they are, with mean 0 and variance 1.
fn gather(data: &Dataset) -> Gather {
    let statistics = picture_stats(&data.train, data.shape, 0..data.train.len());
    let [mean, std] = [statistics.mean, statistics.std].map(|values| values.iter().map(|&x| x as f32).collect());
    Gather::Images(BatchGather {
        image: [data.shape.channels, data.shape.height, data.shape.width],
        size: [data.shape.height, data.shape.width],
        mean,
        std,
    })
}
