//! One driver, many short cases: an op, the same function as f64 loops, and gradients.
//!
//! A [`Case`] compares the forward result, and the gradients under *random* upstream gradients
//! with central differences of the reference (all-ones upstream gradients miss most indexing
//! bugs). The op is applied twice to the same inputs, so that the second gradient has to add to
//! the first; every handle is released before the backward pass, so that an op must have saved
//! what it reads there; memory is exactly as large as a dry run says.

use super::check::{Check, Measured};
use super::compare::Precision;
use super::lab::Lab;
use crate::backend::{Context, Region};
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use std::cell::OnceCell;

/// Step of the central difference in f64: its error is about h^2 + 1e-16 / h, far below f32.
const DIFFERENCE: f64 = 1e-5;
/// Coordinates of an input that are differentiated.
const COORDINATES: usize = 48;

/// An operand of a case.
#[derive(Clone)]
pub struct Input {
    shape: Shape,
    values: Vec<f32>,
    differentiable: bool,
}

impl Input {
    /// Standard normal values that stay 0.02 away from zero, where a ReLU has its kink.
    pub fn random(shape: Shape, seed: u64) -> Self {
        let mut rng = Rng::new(seed, Stream::Init);
        let away = |x: f64| if x.abs() < 0.02 { x + 0.04 } else { x };
        let values = (0..shape.len()).map(|_| away(rng.normal()) as f32).collect();
        Self { shape, values, differentiable: true }
    }

    /// The same without a gradient.
    pub fn constant(mut self) -> Self {
        self.differentiable = false;
        self
    }
}

/// Builds the op under test on the given operands.
pub type Build = dyn Fn(&mut Tape<'_>, &[Var]) -> Result<Var>;
/// The same function in f64, from the operands' elements to the result's.
pub type Reference = dyn Fn(&[Vec<f64>]) -> Vec<f64>;

/// An op with its reference.
pub struct Case {
    inputs: Vec<Input>,
    state: Vec<f32>,
    build: Box<Build>,
    reference: Box<Reference>,
    depth: usize,
    kinked: bool,
    expected: OnceCell<Expected>,
}

/// What the reference says.
struct Expected {
    y: Vec<f64>,
    /// One for each application.
    upstream: [Vec<f32>; 2],
    /// (index, derivative) samples of each differentiable input.
    gradients: Vec<Option<Vec<(usize, f64)>>>,
}

/// What one run of a case computes.
struct Outcome {
    y: [Vec<f32>; 2],
    gradients: Vec<Option<Vec<f32>>>,
}

impl Case {
    /// A case on `inputs`; the longest sum of any pass has `depth` terms: it sets the tolerance.
    pub fn new(
        inputs: Vec<Input>,
        depth: usize,
        build: impl Fn(&mut Tape<'_>, &[Var]) -> Result<Var> + 'static,
        reference: impl Fn(&[Vec<f64>]) -> Vec<f64> + 'static,
    ) -> Self {
        let (build, reference) = (Box::new(build), Box::new(reference));
        Self { inputs, state: Vec::new(), build, reference, depth, kinked: false, expected: OnceCell::new() }
    }

    /// The same with `state` in the state region before each run.
    pub fn with_state(self, state: Vec<f32>) -> Self {
        Self { state, ..self }
    }

    /// Says that a (leaky) ReLU follows the sums. Kernels of less precision see another sign where a
    /// sum is nearly zero: their gradients there are another function's and not compared.
    pub fn kinked(self) -> Self {
        Self { kinked: true, ..self }
    }

    fn measure(&self, lab: &Lab, measured: &mut Measured) -> Result<()> {
        let expected = self.expected.get_or_init(|| self.expect());
        let mut plan = lab.plan()?;
        self.run(&mut plan, &expected.upstream)?;
        let planned = plan.arena().high_water();
        let (outcome, used) = lab.run(planned, |context| {
            context.reserve(Region::State, self.state.len())?;
            context.write(Region::State.span(self.state.len()), &self.state)?;
            Ok((self.run(context, &expected.upstream)?, context.arena().high_water()))
        })?;
        measured.holds("memory as planned", used == planned);
        measured.close("forward", &outcome.y[0], &expected.y, self.depth);
        measured.exact("forward once more", &outcome.y[1], &outcome.y[0]);
        let compared = !self.kinked || measured.precision() == Precision::F32;
        for (i, pair) in outcome.gradients.iter().zip(&expected.gradients).enumerate() {
            match pair {
                (Some(got), Some(_)) if !compared => measured.keep(got),
                (Some(got), Some(samples)) => {
                    let what = format!("gradient of input {i}");
                    measured.samples(what, got, samples, 4 * self.depth);
                    measured
                        .holds(format!("size of the gradient of input {i}"), got.len() == self.inputs[i].values.len());
                }
                (got, expected) => {
                    measured.holds(format!("input {i} has a gradient"), got.is_some() == expected.is_some())
                }
            }
        }
        Ok(())
    }

    fn run(&self, context: &mut Context, upstream: &[Vec<f32>; 2]) -> Result<Outcome> {
        let mut tape = Tape::new(context);
        let mut inputs = Vec::new();
        for input in &self.inputs {
            inputs.push(tape.input(input.shape, &input.values, input.differentiable)?);
        }
        let outputs = [(self.build)(&mut tape, &inputs)?, (self.build)(&mut tape, &inputs)?];
        for (output, upstream) in outputs.iter().zip(upstream) {
            if tape.shape(*output).len() != upstream.len() {
                return Err(Error::shape("result", format!("{} elements", upstream.len()), tape.shape(*output)));
            }
        }
        let y = [tape.read(outputs[0])?, tape.read(outputs[1])?];
        inputs.iter().chain(&outputs).for_each(|&v| tape.release(v));
        tape.backward_from(&[(outputs[0], &upstream[0]), (outputs[1], &upstream[1])])?;
        let gradients = inputs.iter().map(|&v| tape.read_grad(v)).collect::<Result<_>>()?;
        Ok(Outcome { y, gradients })
    }

    /// Asks the reference, which takes longer than the op.
    fn expect(&self) -> Expected {
        let exact: Vec<Vec<f64>> =
            self.inputs.iter().map(|i| i.values.iter().map(|&x| f64::from(x)).collect()).collect();
        let y = (self.reference)(&exact);
        let mut rng = Rng::new(99, Stream::Init);
        let upstream = [0, 1].map(|_| (0..y.len()).map(|_| rng.normal() as f32).collect::<Vec<_>>());
        let both: Vec<f64> = upstream[0].iter().zip(&upstream[1]).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
        let gradients = self.differentiate(&exact, &both, &mut rng);
        Expected { y, upstream, gradients }
    }

    /// Central differences of `<reference(inputs), upstream>`: (index, derivative) samples.
    fn differentiate(&self, inputs: &[Vec<f64>], upstream: &[f64], rng: &mut Rng) -> Vec<Option<Vec<(usize, f64)>>> {
        let objective =
            |inputs: &[Vec<f64>]| -> f64 { (self.reference)(inputs).iter().zip(upstream).map(|(y, u)| y * u).sum() };
        let mut moved = inputs.to_vec();
        (0..inputs.len())
            .map(|i| {
                self.inputs[i].differentiable.then(|| {
                    let all: Vec<usize> = (0..inputs[i].len()).collect();
                    let chosen = rng.choose(&all, COORDINATES.min(all.len()));
                    let mut slope = |at: usize| {
                        let mut side = |step: f64| {
                            moved[i][at] = inputs[i][at] + step;
                            objective(&moved)
                        };
                        let slope = (side(DIFFERENCE) - side(-DIFFERENCE)) / (2.0 * DIFFERENCE);
                        moved[i][at] = inputs[i][at];
                        slope
                    };
                    chosen.into_iter().map(|at| (at, slope(at))).collect()
                })
            })
            .collect()
    }
}

impl From<Case> for Check {
    fn from(case: Case) -> Self {
        Self::new(move |lab, measured| case.measure(lab, measured))
    }
}
