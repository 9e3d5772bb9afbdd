//! How every op is tested: one driver, many short cases.
//!
//! A [`Case`] is an op applied to inputs, and the same function written as plain f64 loops.
//! [`Case::check`] compares the forward result, and the gradients under *random* upstream
//! gradients with central differences of the reference (all-ones upstream gradients miss most
//! indexing bugs). The op is applied twice to the same inputs, so that the second gradient has
//! to add to the first; every handle is released before the backward pass, so that an op must
//! have saved what it reads there; memory is filled with NaN beforehand and is exactly as large
//! as a dry run says; every instruction set of the machine runs; 1, 2 and 3 threads must give
//! the same bits.

use crate::backend::{Context, Cpu, Region, cpu::Isa};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use approx::abs_diff_eq;

/// Step of the central difference in f64: its error is about h^2 + 1e-16 / h, far below f32.
const DIFFERENCE: f64 = 1e-5;
/// Coordinates of an input that are differentiated.
const COORDINATES: usize = 48;

/// An operand of a case.
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

    /// Given values.
    pub fn new(shape: Shape, values: Vec<f32>) -> Self {
        Self { shape, values, differentiable: true }
    }

    /// The same without a gradient.
    pub fn constant(mut self) -> Self {
        self.differentiable = false;
        self
    }
}

/// Builds the op under test on the given operands.
pub type Build<'a> = dyn Fn(&mut Tape<'_>, &[Var]) -> Result<Var> + 'a;
/// The same function in f64, from the operands' elements to the result's.
pub type Reference<'a> = dyn Fn(&[Vec<f64>]) -> Vec<f64> + 'a;

/// An op with its reference.
pub struct Case<'a> {
    /// Operands.
    pub inputs: Vec<Input>,
    /// The op.
    pub build: &'a Build<'a>,
    /// The op in f64.
    pub reference: &'a Reference<'a>,
    /// Longest sum of any pass: sets the tolerance.
    pub depth: usize,
}

/// The tolerance of a sum of `depth` f32 products whose result is of magnitude `scale`:
/// rounding errors add up like a random walk, each eps / 2 of a partial sum; 16 covers the
/// spread over many elements.
pub fn tolerance(depth: usize, scale: f64) -> f64 {
    16.0 * f64::from(f32::EPSILON) * (depth as f64).sqrt() * scale.max(1e-3)
}

/// Compares with the tolerance above, `scale` being the largest expected magnitude. A number
/// alone, a sum over everything, may have cancelled: its scale is at least that of its terms, 1.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], depth: usize) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let terms = if expected.len() == 1 { 1.0 } else { 0.0 };
    let scale = expected.iter().fold(terms, |m: f64, x| m.max(x.abs()));
    let epsilon = tolerance(depth, scale);
    let worst = (0..got.len()).max_by(|&a, &b| {
        let error = |i: usize| (f64::from(got[i]) - expected[i]).abs();
        // A NaN is the worst of all.
        error(a).partial_cmp(&error(b)).unwrap_or(if error(a).is_nan() {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Less
        })
    });
    if let Some(i) = worst {
        let (got, expected) = (f64::from(got[i]), expected[i]);
        assert!(
            abs_diff_eq!(got, expected, epsilon = epsilon),
            "{what}: element {i} is {got}, expected {expected}: {:.0} % of the tolerance {epsilon:.2e}",
            100.0 * (got - expected).abs() / epsilon
        );
    }
}

/// What one run of a case computes.
#[derive(PartialEq)]
struct Outcome {
    y: Vec<f32>,
    gradients: Vec<Option<Vec<f32>>>,
}

impl Outcome {
    fn bits(&self) -> Vec<u32> {
        let gradients = self.gradients.iter().flatten().flatten();
        self.y.iter().chain(gradients).map(|x| x.to_bits()).collect()
    }
}

/// A context of `len` f32, filled with NaN.
pub fn poisoned_context(isa: Isa, threads: usize, len: usize) -> Context {
    let mut context = Context::cpu(Cpu::with_isa(threads, isa), len).expect("memory for a test");
    context.memory_mut().region_mut(Region::Step).fill(f32::NAN);
    context
}

impl Case<'_> {
    fn run(&self, context: &mut Context, upstream: &[Vec<f32>; 2]) -> Outcome {
        let mut tape = Tape::new(context);
        let inputs: Vec<Var> = self
            .inputs
            .iter()
            .map(|i| tape.input(i.shape, &i.values, i.differentiable).expect("arena is large enough"))
            .collect();
        let outputs = [0, 1].map(|_| (self.build)(&mut tape, &inputs).expect("the case is valid"));
        let y = tape.read(outputs[0]);
        assert!(tape.read(outputs[1]).iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits()), "a second run differs");
        inputs.iter().chain(&outputs).for_each(|&v| tape.release(v));
        tape.backward_from(&[(outputs[0], &upstream[0]), (outputs[1], &upstream[1])]).expect("backward");
        let gradients = inputs.iter().map(|&v| tape.read_grad(v).expect("arena is large enough")).collect();
        Outcome { y, gradients }
    }

    /// Runs all the checks of the module documentation.
    #[track_caller]
    pub fn check(&self) {
        self.check_with_state(&[]);
    }

    /// The same, with `state` in the state region before each run.
    #[track_caller]
    pub fn check_with_state(&self, state: &[f32]) {
        let exact: Vec<Vec<f64>> =
            self.inputs.iter().map(|i| i.values.iter().map(|&x| f64::from(x)).collect()).collect();
        let y = (self.reference)(&exact);
        let mut rng = Rng::new(99, Stream::Init);
        let upstream = [0, 1].map(|_| (0..y.len()).map(|_| rng.normal() as f32).collect::<Vec<_>>());
        let both: Vec<f64> = upstream[0].iter().zip(&upstream[1]).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
        let expected = self.differentiate(&exact, &both, &mut rng);
        let mut plan = Context::plan(Kind::Cpu);
        self.run(&mut plan, &upstream);
        let arena_len = plan.arena().high_water();
        let run = |isa, threads| {
            let mut context = poisoned_context(isa, threads, arena_len);
            context.memory_mut().resize(Region::State, state.len()).unwrap();
            context.memory_mut().region_mut(Region::State)[..state.len()].copy_from_slice(state);
            let outcome = self.run(&mut context, &upstream);
            assert_eq!(context.arena().high_water(), arena_len, "{isa:?}: the dry run found another peak");
            outcome
        };
        for isa in Isa::available() {
            let outcome = run(isa, 1);
            assert_close(&format!("{isa:?} forward"), &outcome.y, &y, self.depth);
            for (i, expected) in expected.iter().enumerate() {
                match (&outcome.gradients[i], expected) {
                    (Some(got), Some(samples)) => {
                        let got: Vec<f32> = samples.iter().map(|&(at, _)| got[at]).collect();
                        let expected: Vec<f64> = samples.iter().map(|&(_, g)| g).collect();
                        assert_close(&format!("{isa:?} gradient of input {i}"), &got, &expected, 4 * self.depth);
                    }
                    (None, None) => {}
                    (got, _) => panic!("{isa:?}: input {i} has a gradient: {}", got.is_some()),
                }
            }
            for threads in [2, 3] {
                let other = run(isa, threads);
                assert_eq!(outcome.bits(), other.bits(), "{isa:?}: {threads} threads give other bits than 1");
            }
        }
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
