//! One timed run of one pass, and the elements of what it computed.
//!
//! Operands are written anew for every trial, always the same numbers. A trial may consist of several launches
//! queued one after the other, of which each has a result of its own and all add to the same gradients. What the
//! passes before it left in the caches depends on what ran last; `cold` flushes them.

use super::cases::{Case, Of, Pass, Seen};
use super::spec::Spec;
use super::update::{expected_updates, update_trial};
use crate::backend::cpu::PIECE;
use crate::backend::cuda::KernelFacts;
use crate::backend::{Context, Cuda, Kind, Region, Span};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use std::time::Instant;

/// f32 that are written between samples with `--cold`: more than any cache holds.
pub(super) const FLUSH: usize = 64 << 20;
/// The operands of a pass begin at different places of the same numbers.
pub(super) const APART: usize = 7919;

/// Something to time.
pub enum Work {
    /// A pass of an op on a tape.
    Op { case: std::rc::Rc<Case>, pass: Pass },
    /// An update of parameters.
    Update { adam: bool, parameters: usize },
}

/// How trials are run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Launches of a trial.
    pub launches: usize,
    /// Flush the caches before the time begins.
    pub cold: bool,
    /// On a GPU, note which kernels run.
    pub watch: bool,
}

/// What a trial took, and computed.
#[derive(Debug, Default)]
pub struct Trial {
    /// Milliseconds of all launches, and the part of it until they were queued.
    pub total_ms: f64,
    pub queueing_ms: f64,
    /// CUDA kernels of all launches.
    pub kernels: Option<u64>,
    /// What they are, if that was asked for.
    pub facts: Vec<KernelFacts>,
    /// The elements asked for, result by result.
    pub results: Vec<Vec<f32>>,
}

/// Which elements of what are looked at, what they should be, and of how many terms they are sums.
pub struct Expected {
    pub of: Of,
    pub elements: Vec<usize>,
    pub values: Vec<f64>,
    pub depth: usize,
}

/// Numbers for all operands.
pub struct Numbers(pub(super) Vec<f32>);

impl Numbers {
    /// Enough for these, evenly distributed between -1/2 and 1/2.
    pub fn new<'a>(works: impl Iterator<Item = &'a Work>) -> Self {
        let longest = |work: &Work| match work {
            Work::Op { case, .. } => {
                let operands = case.operands.iter().map(|operand| operand.shape.len());
                operands.max().unwrap_or(0).max(case.result.len()) + (case.operands.len() + 1) * APART
            }
            Work::Update { .. } => 1 << 20,
        };
        let mut rng = Rng::new(1, Stream::Init);
        let len = works.map(longest).max().unwrap_or(0);
        Self((0..len).map(|_| rng.uniform() as f32 - 0.5).collect())
    }

    fn operand(&self, i: usize, len: usize) -> &[f32] {
        &self.0[i * APART..][..len]
    }
}

impl Work {
    /// All passes of a spec.
    ///
    /// # Errors
    /// As [`Case::of`].
    pub fn of(spec: &Spec) -> Result<Vec<Self>> {
        if let &(Spec::Adam { parameters } | Spec::Sgd { parameters }) = spec {
            return Ok(vec![Self::Update { adam: spec.op() == "adam", parameters }]);
        }
        let Some(case) = Case::of(spec)?.map(std::rc::Rc::new) else { return Ok(Vec::new()) };
        let passes = case.passes().to_vec();
        Ok(passes.into_iter().map(|pass| Self::Op { case: case.clone(), pass }).collect())
    }

    /// The pass's name.
    pub fn pass(&self) -> &'static str {
        match self {
            Self::Op { pass, .. } => pass.name,
            Self::Update { .. } => "update",
        }
    }

    /// Operations of a launch: taps on padding counted, and not.
    pub fn flop(&self) -> [f64; 2] {
        match self {
            Self::Op { pass, .. } => [pass.flop, pass.flop_inside],
            Self::Update { .. } => [0.0; 2],
        }
    }

    /// Bytes of a launch, each operand and result once.
    pub fn bytes(&self) -> f64 {
        match self {
            Self::Op { pass, .. } => pass.bytes,
            // Adam reads four buffers and writes three, momentum reads three and writes two.
            Self::Update { adam, parameters } => 4.0 * (if *adam { 7 } else { 5 } * parameters) as f64,
        }
    }

    /// Step memory in f32 that a trial takes on such a device.
    ///
    /// # Errors
    /// As the trial itself.
    pub fn plan(&self, kind: Kind, numbers: &Numbers, how: How) -> Result<usize> {
        let mut context = Context::plan(kind);
        self.run(&mut context, numbers, how, &[])?;
        Ok(context.arena().high_water())
    }

    /// f32 of the running statistics and of the parameters that a trial needs.
    pub fn regions(&self) -> [usize; 2] {
        match self {
            // Of BatchNorm, whose channels are those of its result.
            Self::Op { case, .. } => [2 * case.result.c, 0],
            Self::Update { parameters, .. } => [0, *parameters],
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// Whatever the op or the device reports.
    pub fn run(&self, context: &mut Context, numbers: &Numbers, how: How, look: &[Expected]) -> Result<Trial> {
        match self {
            Self::Op { case, pass } => OpTrial::new(context, case, pass, numbers, how)?.run(look),
            Self::Update { adam, parameters } => update_trial(context, numbers, (*adam, *parameters), how, look),
        }
    }

    /// What a trial must compute. Runs the op: a gradient passes where its result is positive.
    ///
    /// # Errors
    /// Whatever the op or the device reports.
    pub fn expect(&self, context: &mut Context, numbers: &Numbers, how: How) -> Result<Vec<Expected>> {
        let (case, pass) = match self {
            Self::Op { case, pass } => (case, pass),
            Self::Update { adam, parameters } => {
                return Ok(expected_updates(numbers, *adam, *parameters, how.launches));
            }
        };
        let y = match pass.is_backward() {
            true => OpTrial::new(context, case, pass, numbers, How { launches: 1, ..how })?.result()?,
            false => Vec::new(),
        };
        let operands = case.operands.iter().enumerate().map(|(i, operand)| numbers.operand(i, operand.shape.len()));
        let gy = numbers.operand(case.operands.len(), case.result.len());
        let seen = Seen { operands: operands.collect(), y: &y, gy };
        let expected = pass.results.iter().map(|&(of, depth)| {
            let elements = case.samples(pass, of);
            let mut values = case.expected(&seen, of, &elements);
            // Every launch adds the same gradient.
            let times = if of == Of::Result { 1 } else { how.launches };
            values.iter_mut().for_each(|value| *value *= times as f64);
            Expected { of, elements, values, depth: depth * times }
        });
        Ok(expected.collect())
    }
}

/// A pass of an op, ready to run.
struct OpTrial<'t, 'c> {
    tape: Tape<'c>,
    case: &'t Case,
    operands: Vec<Var>,
    /// Gradient of the result.
    gy: Option<Var>,
    flush: Option<Span>,
    how: How,
}

impl<'t, 'c> OpTrial<'t, 'c> {
    fn new(context: &'c mut Context, case: &'t Case, pass: &'t Pass, numbers: &Numbers, how: How) -> Result<Self> {
        context.fill(context.whole(Region::State), 1.0)?;
        let mut tape = Tape::new(context);
        let flush = how.cold.then(|| tape.workspace(FLUSH)).transpose()?;
        let mut operands = Vec::new();
        for (i, operand) in case.operands.iter().enumerate() {
            let values = numbers.operand(i, operand.shape.len());
            operands.push(tape.input(operand.shape, values, pass.wants(i))?);
        }
        let gy = numbers.operand(operands.len(), case.result.len());
        let gy = pass.is_backward().then(|| tape.input(case.result, gy, false)).transpose()?;
        Ok(Self { tape, case, operands, gy, flush, how })
    }

    fn build(&mut self) -> Result<Vec<Var>> {
        (0..self.how.launches).map(|_| (self.case.build)(&mut self.tape, &self.operands)).collect()
    }

    /// The result of the op, all of it.
    fn result(mut self) -> Result<Vec<f32>> {
        let y = self.build()?;
        self.tape.read(y[0])
    }

    fn run(mut self, look: &[Expected]) -> Result<Trial> {
        let mut trial = Trial::default();
        let mut y = None;
        if let Some(gy) = self.gy {
            for y in self.build()? {
                if let Some(target) = self.tape.grad_target(y)? {
                    let gy = self.tape.tensor(gy).span;
                    self.tape.accumulate(target.span, gy, target.add)?;
                }
                self.tape.release(y);
            }
            // Zeroed before, as those of all parameters are.
            for (i, operand) in self.case.operands.iter().enumerate() {
                if operand.parameter {
                    self.tape.grad_accumulator(self.operands[i])?;
                }
            }
            self.timed(&mut trial, |trial| trial.tape.backward_from(&[]))?;
        } else {
            self.timed(&mut trial, |trial| {
                y = trial.build()?.last().copied();
                Ok(())
            })?;
        }
        for expected in look {
            let var = match expected.of {
                Of::Result => y,
                Of::Gradient(operand) => Some(self.operands[operand]),
            };
            let Some(var) = var else { continue };
            let span = if expected.of == Of::Result { self.tape.tensor(var).span } else { self.tape.grad(var)? };
            trial.results.push(self.pick(span, &expected.elements)?);
        }
        Ok(trial)
    }

    fn timed(&mut self, trial: &mut Trial, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if let Some(span) = self.flush {
            self.tape.compute(
                |claims, cpu| cpu.pool.pieces(claims.write(span), PIECE, |_, piece| piece.fill(1.0)),
                |cuda| cuda.fill(span, 1.0),
            )?;
        }
        let before = self.launched()?;
        if self.how.watch {
            self.on_gpu(|cuda| {
                cuda.watch_kernels();
                Ok(())
            })?;
        }
        let start = Instant::now();
        run(self)?;
        trial.queueing_ms = milliseconds(start);
        let after = self.launched()?;
        trial.total_ms = milliseconds(start);
        trial.kernels = after.zip(before).map(|(after, before)| after - before);
        if self.how.watch {
            trial.facts = self.on_gpu(|cuda| cuda.watched_kernels())?.unwrap_or_default();
        }
        Ok(())
    }

    /// Asks the GPU, if it is one.
    fn on_gpu<R>(&mut self, ask: impl FnOnce(&mut Cuda) -> Result<R>) -> Result<Option<R>> {
        let mut answer = None;
        self.tape.compute(
            |_, _| {},
            |cuda| {
                answer = Some(ask(cuda)?);
                Ok(())
            },
        )?;
        Ok(answer)
    }

    /// Waits for the device; kernels launched so far, if it is a GPU.
    fn launched(&mut self) -> Result<Option<u64>> {
        self.on_gpu(|cuda| {
            cuda.synchronize()?;
            Ok(cuda.launches())
        })
    }

    /// Some elements of a span; none on a device that only plans.
    fn pick(&mut self, span: Span, elements: &[usize]) -> Result<Vec<f32>> {
        if let Some(all) = self.on_gpu(|cuda| cuda.read(span))? {
            return Ok(pick(&all, elements));
        }
        let mut picked = Vec::new();
        self.tape.compute(|claims, _| picked = pick(claims.read(span), elements), |_| Ok(()))?;
        Ok(picked)
    }
}

pub(super) fn pick(all: &[f32], elements: &[usize]) -> Vec<f32> {
    elements.iter().map(|&i| all[i]).collect()
}

pub(super) fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Waits for the device; a CPU has no queue.
pub fn synchronize(context: &mut Context) -> Result<()> {
    context.as_cuda().map_or(Ok(()), |cuda| cuda.synchronize())
}
