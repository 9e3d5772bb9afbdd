//! Runs the cases: operands on a tape, warm-up, samples.

use crate::Args;
use crate::cases::{Case, Pass, Update, cases, updates};
use crate::common::{Conv, Place, median, synchronize};
use smash_engine::backend::{Context, Kind, Region};
use smash_engine::error::Result;
use smash_engine::nn::init::Init;
use smash_engine::nn::params::ParamStore;
use smash_engine::rng::{Rng, Stream};
use smash_engine::tape::{Tape, Var};
use smash_engine::tensor::Shape;
use std::time::Instant;

/// Samples that are thrown away.
const WARM_UP: usize = 2;
/// A case that takes longer than this ends with fewer samples.
const SECONDS: f64 = 4.0;
/// Running statistics that cases may use.
pub const STATISTICS: usize = 4096;

/// The samples of one op, pass and shape.
pub struct Measured {
    pub op: &'static str,
    pub pass: &'static str,
    /// Kernels of a convolution on a GPU.
    pub conv: Option<Conv>,
    pub shape: String,
    /// Operations and bytes of one launch.
    pub flop: f64,
    pub bytes: f64,
    pub launches: usize,
    /// CUDA kernels in one launch of the op.
    pub kernels: Option<f64>,
    /// Milliseconds per launch.
    pub samples: Vec<f64>,
    /// The part of it until everything was queued.
    pub queueing: Vec<f64>,
}

impl Measured {
    /// Did the GPU wait for the program, so that this is no time of a kernel?
    pub fn queue_bound(&self) -> bool {
        self.kernels.is_some() && median(&self.queueing) > 0.8 * median(&self.samples)
    }
}

/// Times everything that `args` select, and hands each result to `report`.
pub fn measure(place: Place, args: &Args, mut report: impl FnMut(&Measured)) -> Result<()> {
    let launches = args.launches.unwrap_or(if place.kind() == Kind::Cuda && !args.quick { 16 } else { 1 });
    let wanted = |op: &str, pass: &str, shape: &str| format!("{op} {pass} {shape}").contains(&args.filter);
    let cases = cases(args.quick);
    let mut chosen: Vec<(&Case, Pass)> = Vec::new();
    let mut arena = 1;
    for case in &cases {
        for pass in case.passes() {
            if wanted(case.op, pass.name, &case.shape) {
                arena = arena.max(plan(place.kind(), case, &pass, launches)?);
                chosen.push((case, pass));
            }
        }
    }
    let mut context = place.context(arena)?;
    context.reserve(Region::State, STATISTICS)?;
    for (case, pass) in &chosen {
        let is_conv = place.kind() == Kind::Cuda && ["conv2d", "pointwise"].contains(&case.op);
        for &conv in if is_conv { &args.conv[..] } else { &args.conv[..1] } {
            conv.choose(&mut context);
            let mut tape = Tape::new(&mut context);
            let mut bench = Bench::new(&mut tape, case, pass, launches)?;
            let times = sample(args.samples, || bench.once())?.per_launch(launches);
            let conv = is_conv.then_some(conv);
            report(&Measured { conv, ..times.of(case.op, pass.name, &case.shape, pass.flop, pass.bytes) });
        }
    }
    for update in updates(args.quick).iter().filter(|u| wanted(u.op, "update", &u.shape)) {
        let times = measure_update(&mut context, update, launches, args.samples)?;
        report(&times.per_launch(launches).of(update.op, "update", &update.shape, update.flop, update.bytes));
    }
    Ok(())
}

/// Step memory that a pass needs.
fn plan(kind: Kind, case: &Case, pass: &Pass, launches: usize) -> Result<usize> {
    let mut context = Context::plan(kind);
    let mut tape = Tape::new(&mut context);
    let mut bench = Bench::new(&mut tape, case, pass, launches)?;
    bench.once()?;
    bench.once()?;
    drop(tape);
    Ok(context.arena().high_water())
}

/// Milliseconds: of queueing and of everything; and CUDA kernels, of a sample.
struct Once {
    queueing: f64,
    total: f64,
    kernels: Option<u64>,
}

#[derive(Default)]
struct Times {
    queueing: Vec<f64>,
    total: Vec<f64>,
    kernels: Option<u64>,
    launches: usize,
}

impl Times {
    fn per_launch(mut self, launches: usize) -> Self {
        self.queueing.iter_mut().chain(&mut self.total).for_each(|ms| *ms /= launches as f64);
        self.launches = launches;
        self
    }

    fn of(self, op: &'static str, pass: &'static str, shape: &str, flop: f64, bytes: f64) -> Measured {
        let kernels = self.kernels.map(|kernels| kernels as f64 / self.launches as f64);
        let Self { queueing, total: samples, launches, .. } = self;
        Measured { op, pass, conv: None, shape: shape.into(), flop, bytes, launches, kernels, samples, queueing }
    }
}

fn sample(samples: usize, mut once: impl FnMut() -> Result<Once>) -> Result<Times> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let (mut times, start) = (Times::default(), Instant::now());
    while times.total.len() < samples && (times.total.is_empty() || start.elapsed().as_secs_f64() < SECONDS) {
        let once = once()?;
        times.queueing.push(once.queueing);
        times.total.push(once.total);
        times.kernels = once.kernels;
    }
    Ok(times)
}

/// One pass of one op on a tape.
struct Bench<'t, 'c> {
    tape: &'t mut Tape<'c>,
    case: &'t Case,
    pass: &'t Pass,
    operands: Vec<Var>,
    /// Random numbers for the gradient of a result.
    noise: Option<Var>,
    launches: usize,
}

impl<'t, 'c> Bench<'t, 'c> {
    fn new(tape: &'t mut Tape<'c>, case: &'t Case, pass: &'t Pass, launches: usize) -> Result<Self> {
        let longest = case.operands.iter().chain([&case.result]).map(|shape| shape.len()).max().unwrap_or(0);
        let mut rng = Rng::new(1, Stream::Init);
        let numbers: Vec<f32> = (0..longest).map(|_| rng.uniform() as f32 - 0.5).collect();
        let operand = |(i, shape): (usize, &Shape)| {
            tape.input(*shape, &numbers[..shape.len()], pass.gradients.get(i).copied().unwrap_or(false))
        };
        let operands = case.operands.iter().enumerate().map(operand).collect::<Result<_>>()?;
        let noise = pass.is_backward().then(|| tape.input(case.result, &numbers[..case.result.len()], false));
        Ok(Self { operands, noise: noise.transpose()?, tape, case, pass, launches })
    }

    fn once(&mut self) -> Result<Once> {
        if self.pass.is_backward() { self.backward() } else { self.forward() }
    }

    fn build(&mut self) -> Result<Vec<Var>> {
        (0..self.launches).map(|_| (self.case.build)(self.tape, &self.operands)).collect()
    }

    fn forward(&mut self) -> Result<Once> {
        let mut results = Vec::new();
        let once = timed(self, |bench| {
            results = bench.build()?;
            Ok(())
        })?;
        results.into_iter().for_each(|y| self.tape.release(y));
        Ok(once)
    }

    fn backward(&mut self) -> Result<Once> {
        for y in self.build()? {
            if let (Some(target), Some(noise)) = (self.tape.grad_target(y)?, self.noise) {
                let noise = self.tape.tensor(noise).span;
                self.tape.accumulate(target.span, noise, target.add)?;
            }
            self.tape.release(y);
        }
        timed(self, |bench| bench.tape.backward_from(&[]))
    }
}

/// What is timed: waits for the device, counts its kernels.
trait Timed {
    fn wait(&mut self) -> Result<()>;
    fn kernels(&mut self) -> Result<Option<u64>>;
}

impl Timed for Bench<'_, '_> {
    fn wait(&mut self) -> Result<()> {
        self.tape.compute(|_, _| {}, |cuda| cuda.synchronize())
    }

    fn kernels(&mut self) -> Result<Option<u64>> {
        let mut count = None;
        self.tape.compute(
            |_, _| {},
            |cuda| {
                count = Some(cuda.launches());
                Ok(())
            },
        )?;
        Ok(count)
    }
}

impl Timed for Context {
    fn wait(&mut self) -> Result<()> {
        synchronize(self)
    }

    fn kernels(&mut self) -> Result<Option<u64>> {
        Ok(self.as_cuda().map(|cuda| cuda.launches()))
    }
}

fn timed<T: Timed>(on: &mut T, run: impl FnOnce(&mut T) -> Result<()>) -> Result<Once> {
    on.wait()?;
    let before = on.kernels()?;
    let start = Instant::now();
    run(on)?;
    let queueing = start.elapsed().as_secs_f64() * 1e3;
    on.wait()?;
    let total = start.elapsed().as_secs_f64() * 1e3;
    let kernels = on.kernels()?.zip(before).map(|(after, before)| after - before);
    Ok(Once { queueing, total, kernels })
}

fn measure_update(context: &mut Context, update: &Update, launches: usize, samples: usize) -> Result<Times> {
    let mut store = ParamStore::default();
    // Rows of 64: He's numbers are as good as any.
    store.add("w", &[update.len / 64, 64], Init::He);
    store.reserve(context)?;
    store.initialise(context, 1, 0)?;
    context.fill(context.whole(Region::Grads), 0.01)?;
    context.reset_arena();
    let loss = context.alloc(1)?;
    context.fill(loss, 0.0)?;
    let span = context.whole(Region::Params);
    sample(samples, || timed(context, |context| (0..launches).try_for_each(|_| (update.apply)(context, span, loss))))
}
