//! batchnorm against two-pass f64 statistics, in training and evaluation.

use super::{Batchnorm, EPSILON, MOMENTUM, batchnorm};
use crate::backend::cpu::Isa;
use crate::backend::{Region, Span};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, assert_close, poisoned_context};

/// A normalisation under test; sizes are pairwise different and odd.
#[derive(Clone, Copy)]
struct Geometry {
    /// Channels of each view.
    views: &'static [usize],
    size: [usize; 2],
    n: usize,
    /// Length of the stored gamma, beta, mean and variance.
    stored: usize,
    train: bool,
    slope: Option<f32>,
}

const PLAIN: Geometry = Geometry { views: &[3, 1, 2], size: [5, 3], n: 7, stored: 6, train: true, slope: None };

impl Geometry {
    fn c(self) -> usize {
        self.views.iter().sum()
    }

    fn shape(self, channels: usize) -> Shape {
        Shape::new(channels, self.size[0], self.size[1], self.n)
    }

    /// Running statistics lie one after the other in the state region.
    fn config(self) -> Batchnorm {
        let span = |start| Span { region: Region::State, start, len: self.c() };
        Batchnorm { running: [span(0), span(self.stored)], train: self.train, slope: self.slope }
    }

    /// Running means around 0.5 and variances around 2, unlike those of any batch here.
    fn state(self) -> Vec<f32> {
        let mut rng = Rng::new(4, Stream::Init);
        let means: Vec<f32> = (0..self.stored).map(|_| (0.5 + 0.3 * rng.normal()) as f32).collect();
        let variances = (0..self.stored).map(|_| (1.5 + rng.uniform()) as f32);
        means.iter().copied().chain(variances).collect()
    }

    fn reference(self, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let (plane, state) = (self.shape(1).len(), self.state());
        let mut y = Vec::with_capacity(x.len());
        for (c, x) in x.chunks(plane).enumerate() {
            let (mean, variance) = if self.train {
                let (mean, squares) = moments(x);
                (mean, squares / plane as f64)
            } else {
                (f64::from(state[c]), f64::from(state[self.stored + c]))
            };
            let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let slope = self.slope.map_or(1.0, f64::from);
            y.extend(x.iter().map(|x| {
                let z = gamma[c] * (x - mean) * rstd + beta[c];
                if z > 0.0 { z } else { slope * z }
            }));
        }
        y
    }

    fn inputs(self) -> Vec<Input> {
        let views = self.views.iter().zip(10..).map(|(&c, seed)| Input::random(self.shape(c), seed));
        views.chain([1, 2].map(|seed| Input::random(Shape::vector(self.stored), seed))).collect()
    }

    fn check(self) {
        self.check_on(self.inputs());
    }

    fn check_on(self, inputs: Vec<Input>) {
        let (c, count) = (self.c(), self.views.len());
        Case {
            inputs,
            build: &|tape, v| {
                let vectors = [v[count], v[count + 1]].map(|stored| tape.channels(stored, 0..c));
                let y = batchnorm(tape, &v[..count], vectors[0], vectors[1], self.config())?;
                vectors.into_iter().for_each(|view| tape.release(view));
                Ok(y)
            },
            reference: &|v| self.reference(&v[..count].concat(), &v[count], &v[count + 1]),
            depth: 4 * self.shape(1).len(),
        }
        .check_with_state(&self.state());
    }
}

/// Mean, and sum of squares about it.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum())
}

#[test]
fn training_normalises_with_the_batch() {
    PLAIN.check();
    Geometry { views: &[4], stored: 4, ..PLAIN }.check();
}

#[test]
fn evaluation_normalises_with_the_running_statistics() {
    Geometry { train: false, ..PLAIN }.check();
    Geometry { train: false, slope: Some(0.02), stored: 9, ..PLAIN }.check();
}

#[test]
fn relu_and_leaky_relu_on_the_output() {
    for slope in [0.0, 0.02] {
        Geometry { slope: Some(slope), ..PLAIN }.check();
        Geometry { slope: Some(slope), train: false, ..PLAIN }.check();
    }
}

#[test]
fn the_first_channels_of_longer_vectors_and_gradient_into_them_alone() {
    Geometry { views: &[2, 3], stored: 11, ..PLAIN }.check();
}

#[test]
fn planes_longer_than_a_block_of_the_sums_and_very_short_ones() {
    // 7 * 11 * 13 = 1001; blocks are 128, 256 or 512 elements.
    Geometry { views: &[2, 1], stored: 3, size: [7, 11], n: 13, ..PLAIN }.check();
    Geometry { views: &[1, 3], stored: 5, size: [1, 1], n: 3, ..PLAIN }.check();
}

#[test]
fn views_may_be_channels_of_one_bigger_value() {
    let plane = PLAIN.shape(1).len();
    let case = Geometry { views: &[2, 3], stored: 5, slope: Some(0.02), ..PLAIN };
    let vectors = [1, 2].map(|seed| Input::random(Shape::vector(5), seed));
    Case {
        inputs: [Input::random(case.shape(8), 3)].into_iter().chain(vectors).collect(),
        build: &|tape, v| {
            let views = [tape.channels(v[0], 5..7), tape.channels(v[0], 1..4)];
            batchnorm(tape, &views, v[1], v[2], case.config())
        },
        reference: &|v| {
            let x = [&v[0][5 * plane..7 * plane], &v[0][plane..4 * plane]].concat();
            case.reference(&x, &v[1], &v[2])
        },
        depth: 4 * plane,
    }
    .check_with_state(&case.state());
}

#[test]
fn each_operand_may_be_constant() {
    for constant in 0..PLAIN.inputs().len() {
        let inputs = PLAIN.inputs().into_iter().enumerate();
        PLAIN.check_on(inputs.map(|(i, input)| if i == constant { input.constant() } else { input }).collect());
    }
}

/// The state region after one application to `x`, and what the op gave.
fn apply(geometry: Geometry, isa: Isa, threads: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let state = geometry.state();
    let mut context = poisoned_context(isa, threads, 1 << 16);
    context.memory_mut().resize(Region::State, state.len()).unwrap();
    context.memory_mut().region_mut(Region::State)[..state.len()].copy_from_slice(&state);
    let mut tape = Tape::new(&mut context);
    let c = geometry.c();
    let x = tape.input(geometry.shape(c), x, true).unwrap();
    let [gamma, beta] = [1.0, 0.0].map(|v| tape.input(Shape::vector(c), &vec![v; c], true).unwrap());
    let y = batchnorm(&mut tape, &[x], gamma, beta, geometry.config()).unwrap();
    let y = tape.read(y);
    (context.memory().region(Region::State)[..state.len()].to_vec(), y)
}

fn draw(geometry: Geometry, mean: f64) -> Vec<f32> {
    let mut rng = Rng::new(6, Stream::Init);
    (0..geometry.shape(geometry.c()).len()).map(|_| (mean + rng.normal()) as f32).collect()
}

#[test]
fn training_moves_the_running_statistics_of_its_channels_only() {
    let case = Geometry { views: &[4], stored: 6, ..PLAIN };
    let (x, plane, before) = (draw(case, -1.0), case.shape(1).len(), case.state());
    let mut expected: Vec<f64> = before.iter().map(|&s| f64::from(s)).collect();
    for (c, x) in x.chunks(plane).enumerate() {
        let (mean, squares) = moments(&x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let weight = f64::from(MOMENTUM);
        expected[c] = (1.0 - weight) * expected[c] + weight * mean;
        expected[6 + c] = (1.0 - weight) * expected[6 + c] + weight * squares / (plane - 1) as f64;
    }
    assert_eq!(MOMENTUM, 0.1);
    for isa in Isa::available() {
        let (after, _) = apply(case, isa, 1, &x);
        assert_close(&format!("{isa:?} running statistics"), &after, &expected, 4);
        assert_eq!([&after[4..6], &after[10..]], [&before[4..6], &before[10..]], "{isa:?}: unused channels");
        assert_eq!(apply(case, isa, 3, &x).0, after, "{isa:?}: 3 threads");
    }
}

#[test]
fn evaluation_leaves_the_running_statistics_alone() {
    let case = Geometry { views: &[4], train: false, ..PLAIN };
    for isa in Isa::available() {
        assert_eq!(apply(case, isa, 2, &draw(case, -1.0)).0, case.state(), "{isa:?}");
    }
}

#[test]
fn a_mean_far_from_zero_costs_no_more_than_its_own_rounding() {
    // The textbook E[x^2] - E[x]^2 would lose all digits of a variance of 1 here.
    let case = Geometry { views: &[2], stored: 2, ..PLAIN };
    let x = draw(case, 3000.0);
    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let expected = case.reference(&exact, &[1.0; 2], &[0.0; 2]);
    for isa in Isa::available() {
        let (_, y) = apply(case, isa, 1, &x);
        let worst = y.iter().zip(&expected).map(|(&y, e)| (f64::from(y) - e).abs()).fold(0.0, f64::max);
        assert!(worst < 3000.0 * f64::from(f32::EPSILON), "{isa:?}: error {worst:e}");
    }
}

#[test]
fn a_constant_channel_gives_beta() {
    let case = Geometry { views: &[3], stored: 3, ..PLAIN };
    let (state, y) = apply(case, Isa::detect(), 2, &vec![2.5; 3 * case.shape(1).len()]);
    assert!(y.iter().all(|&y| y == 0.0), "{y:?}");
    assert!(state.iter().all(|s| s.is_finite()));
}

#[test]
fn what_the_backward_pass_would_need_is_given_back_without_one() {
    let case = Geometry { views: &[4], stored: 4, ..PLAIN };
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    context.memory_mut().resize(Region::State, 8).unwrap();
    let mut tape = Tape::new(&mut context);
    let x = tape.input(case.shape(4), &draw(case, 0.0), false).unwrap();
    let vector = tape.input(Shape::vector(4), &[1.0; 4], false).unwrap();
    // More statistics than the whole arena could hold.
    for _ in 0..1000 {
        let y = batchnorm(&mut tape, &[x], vector, vector, case.config()).unwrap();
        tape.release(y);
    }
}

#[test]
fn vectors_of_another_length_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let mut input = |c| tape.input(Shape::vector(c), &vec![0.0; c], true).unwrap();
    let (x, short, right) = (input(6), input(5), input(6));
    let mut error = |gamma, beta, config| batchnorm(&mut tape, &[x], gamma, beta, config).unwrap_err().to_string();
    let expected = "batchnorm: expected vectors of 6 channels, got";
    assert_eq!(error(short, right, PLAIN.config()), format!("{expected} [5, 6, 6, 6]"));
    assert_eq!(error(right, short, PLAIN.config()), format!("{expected} [6, 5, 6, 6]"));
    let other = Geometry { views: &[4], ..PLAIN };
    assert_eq!(error(right, right, other.config()), format!("{expected} [6, 6, 4, 4]"));
}
