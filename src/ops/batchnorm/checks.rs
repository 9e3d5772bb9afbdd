//! batchnorm against two-pass f64 statistics, in training and evaluation.

use super::{Batchnorm, EPSILON, MOMENTUM, OP, batchnorm};
use crate::backend::cuda::MAX_VIEWS;
use crate::backend::{Region, Span};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, Lab, checks};

checks!(
    OP,
    training_normalises_with_the_batch,
    evaluation_normalises_with_the_running_statistics,
    relu_and_leaky_relu_on_the_output,
    the_first_channels_of_longer_vectors_and_gradient_into_them_alone,
    planes_longer_than_a_block_of_the_sums_and_very_short_ones,
    planes_of_whole_vectors_and_as_many_views_as_a_kernel_takes,
    views_may_be_channels_of_one_bigger_value,
    some_gradients_add_and_others_overwrite,
    each_operand_may_be_constant,
    training_moves_the_running_statistics_of_its_channels_by_its_momentum,
    evaluation_leaves_the_running_statistics_alone,
    a_mean_far_from_zero_costs_no_more_than_its_own_rounding,
    a_constant_channel_gives_beta,
    volumes_are_normalised_over_all_voxels,
);

/// A normalisation under test; sizes are pairwise different and odd.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    /// Channels of each view.
    pub views: &'static [usize],
    pub depth: usize,
    pub size: [usize; 2],
    pub n: usize,
    /// Length of the stored gamma, beta, mean and variance.
    pub stored: usize,
    pub momentum: Option<f32>,
    pub slope: Option<f32>,
}

pub(super) const PLAIN: Geometry =
    Geometry { views: &[3, 1, 2], depth: 1, size: [5, 3], n: 7, stored: 6, momentum: Some(MOMENTUM), slope: None };

impl Geometry {
    fn c(self) -> usize {
        self.views.iter().sum()
    }

    pub(super) fn shape(self, channels: usize) -> Shape {
        Shape::new(channels, self.size[0], self.size[1], self.n).with_depth(self.depth)
    }

    /// Running statistics lie one after the other in the state region.
    pub(super) fn config(self) -> Batchnorm {
        let span = |start| Span { region: Region::State, start, len: self.c() };
        Batchnorm { running: [span(0), span(self.stored)], momentum: self.momentum, slope: self.slope }
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
            let (mean, variance) = if self.momentum.is_some() {
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

    fn case(self) -> Case {
        self.case_on(self.inputs())
    }

    fn case_on(self, inputs: Vec<Input>) -> Case {
        let (c, count) = (self.c(), self.views.len());
        Case::new(
            inputs,
            4 * self.shape(1).len(),
            move |tape, v| {
                let vectors = [v[count], v[count + 1]].map(|stored| tape.channels(stored, 0..c));
                let y = batchnorm(tape, &v[..count], vectors[0], vectors[1], self.config())?;
                vectors.into_iter().for_each(|view| tape.release(view));
                Ok(y)
            },
            move |v| self.reference(&v[..count].concat(), &v[count], &v[count + 1]),
        )
        .with_state(self.state())
    }
}

/// Mean, and sum of squares about it.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum())
}

fn training_normalises_with_the_batch() -> Vec<Case> {
    vec![PLAIN.case(), Geometry { views: &[4], stored: 4, ..PLAIN }.case()]
}

fn evaluation_normalises_with_the_running_statistics() -> Vec<Case> {
    vec![
        Geometry { momentum: None, ..PLAIN }.case(),
        Geometry { momentum: None, slope: Some(0.02), stored: 9, ..PLAIN }.case(),
    ]
}

fn relu_and_leaky_relu_on_the_output() -> Vec<Case> {
    let cases = |slope| {
        let train = Geometry { slope: Some(slope), ..PLAIN };
        [train.case(), Geometry { momentum: None, ..train }.case()]
    };
    [0.0, 0.02].into_iter().flat_map(cases).collect()
}

fn the_first_channels_of_longer_vectors_and_gradient_into_them_alone() -> Vec<Case> {
    vec![Geometry { views: &[2, 3], stored: 11, ..PLAIN }.case()]
}

fn planes_longer_than_a_block_of_the_sums_and_very_short_ones() -> Vec<Case> {
    vec![
        // 7 * 11 * 13 = 1001; blocks are 128, 256 or 512 elements.
        Geometry { views: &[2, 1], stored: 3, size: [7, 11], n: 13, ..PLAIN }.case(),
        Geometry { views: &[1, 3], stored: 5, size: [1, 1], n: 3, ..PLAIN }.case(),
    ]
}

fn planes_of_whole_vectors_and_as_many_views_as_a_kernel_takes() -> Vec<Case> {
    vec![
        // On a GPU, 4 numbers at a time by 512 threads: less than one round, and more.
        Geometry { n: 4, slope: Some(0.02), ..PLAIN }.case(),
        Geometry { views: &[2, 1], stored: 3, size: [7, 11], n: 28, ..PLAIN }.case(),
        Geometry { views: &[1; MAX_VIEWS], stored: MAX_VIEWS, size: [1, 3], ..PLAIN }.case(),
    ]
}

fn views_may_be_channels_of_one_bigger_value() -> Vec<Case> {
    let plane = PLAIN.shape(1).len();
    let case = Geometry { views: &[2, 3], stored: 5, slope: Some(0.02), ..PLAIN };
    let vectors = [1, 2].map(|seed| Input::random(Shape::vector(5), seed));
    vec![
        Case::new(
            [Input::random(case.shape(8), 3)].into_iter().chain(vectors).collect(),
            4 * plane,
            move |tape, v| {
                let views = [tape.channels(v[0], 5..7), tape.channels(v[0], 1..4)];
                batchnorm(tape, &views, v[1], v[2], case.config())
            },
            move |v| {
                let x = [&v[0][5 * plane..7 * plane], &v[0][plane..4 * plane]].concat();
                case.reference(&x, &v[1], &v[2])
            },
        )
        .with_state(case.state()),
    ]
}

fn some_gradients_add_and_others_overwrite() -> Vec<Case> {
    // Views 17 and 37 are read once more, later, and so have a gradient when the others do not.
    let many = Geometry { views: &[1; 40], stored: 42, ..PLAIN };
    let few = Geometry { views: &[40, 1, 1], ..many };
    let vectors = [1, 2].map(|seed| Input::random(Shape::vector(42), seed));
    let views = (0..40).map(|seed| Input::random(many.shape(1), 10 + seed));
    vec![
        Case::new(
            views.chain(vectors).collect(),
            16 * many.shape(1).len(),
            move |tape, v| {
                let [gamma, beta] = [v[40], v[41]].map(|stored| tape.channels(stored, 0..40));
                let inner = batchnorm(tape, &v[..40], gamma, beta, many.config())?;
                let y = batchnorm(tape, &[inner, v[17], v[37]], v[40], v[41], few.config())?;
                [gamma, beta, inner].into_iter().for_each(|var| tape.release(var));
                Ok(y)
            },
            move |v| {
                let inner = many.reference(&v[..40].concat(), &v[40], &v[41]);
                few.reference(&[&inner[..], &v[17], &v[37]].concat(), &v[40], &v[41])
            },
        )
        .with_state(many.state()),
    ]
}

fn each_operand_may_be_constant() -> Vec<Case> {
    let case = |constant: usize| {
        let mut inputs = PLAIN.inputs();
        inputs[constant] = inputs[constant].clone().constant();
        PLAIN.case_on(inputs)
    };
    (0..PLAIN.inputs().len()).map(case).collect()
}

/// A batch with some mean.
pub(super) fn draw(geometry: Geometry, mean: f64) -> Vec<f32> {
    let mut rng = Rng::new(6, Stream::Init);
    (0..geometry.shape(geometry.c()).len()).map(|_| (mean + rng.normal()) as f32).collect()
}

/// Running statistics after one application to `x`, and what the op gave.
fn apply(geometry: Geometry, lab: &Lab, x: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
    let (state, c) = (geometry.state(), geometry.c());
    let statistics = Region::State.span(state.len());
    lab.run(1 << 16, |context| {
        context.reserve(Region::State, state.len())?;
        context.write(statistics, &state)?;
        let mut tape = Tape::new(context);
        let x = tape.input(geometry.shape(c), x, true)?;
        let gamma = tape.input(Shape::vector(c), &vec![1.0; c], true)?;
        let beta = tape.input(Shape::vector(c), &vec![0.0; c], true)?;
        let y = batchnorm(&mut tape, &[x], gamma, beta, geometry.config())?;
        let y = tape.read(y)?;
        Ok((context.read(statistics)?, y))
    })
}

fn training_moves_the_running_statistics_of_its_channels_by_its_momentum() -> Vec<Check> {
    // That of training, and those with which a calibration takes the mean of batches.
    [MOMENTUM, 0.5, 1.0].map(moves_the_running_statistics).into()
}

fn moves_the_running_statistics(momentum: f32) -> Check {
    let case = Geometry { views: &[4], stored: 6, momentum: Some(momentum), ..PLAIN };
    let (x, plane, before) = (draw(case, -1.0), case.shape(1).len(), case.state());
    let mut expected: Vec<f64> = before.iter().map(|&s| f64::from(s)).collect();
    for (c, x) in x.chunks(plane).enumerate() {
        let (mean, squares) = moments(&x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let weight = f64::from(momentum);
        expected[c] = (1.0 - weight) * expected[c] + weight * mean;
        expected[6 + c] = (1.0 - weight) * expected[6 + c] + weight * squares / (plane - 1) as f64;
    }
    Check::new(move |lab, measured| {
        let (after, _) = apply(case, lab, &x)?;
        measured.close("running statistics", &after, &expected, 4);
        let unused = |state: &[f32]| [&state[4..6], &state[10..]].concat();
        measured.exact("unused channels", &unused(&after), &unused(&before));
        measured.holds("momentum of the paper", MOMENTUM == 0.1);
        Ok(())
    })
}

fn evaluation_leaves_the_running_statistics_alone() -> Vec<Check> {
    let case = Geometry { views: &[4], momentum: None, ..PLAIN };
    vec![Check::new(move |lab, measured| {
        measured.exact("running statistics", &apply(case, lab, &draw(case, -1.0))?.0, &case.state());
        Ok(())
    })]
}

fn a_mean_far_from_zero_costs_no_more_than_its_own_rounding() -> Vec<Check> {
    // The textbook E[x^2] - E[x]^2 would lose all digits of a variance of 1 here.
    let case = Geometry { views: &[2], stored: 2, ..PLAIN };
    let x = draw(case, 3000.0);
    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let expected = case.reference(&exact, &[1.0; 2], &[0.0; 2]);
    vec![Check::new(move |lab, measured| {
        let (_, y) = apply(case, lab, &x)?;
        measured.within("normalised", &y, &expected, 3000.0 * f64::from(f32::EPSILON));
        Ok(())
    })]
}

fn volumes_are_normalised_over_all_voxels() -> Vec<Case> {
    let volumes = Geometry { depth: 4, n: 2, slope: Some(0.0), ..PLAIN };
    vec![volumes.case(), Geometry { momentum: None, ..volumes }.case()]
}

fn a_constant_channel_gives_beta() -> Vec<Check> {
    let case = Geometry { views: &[3], stored: 3, ..PLAIN };
    let x = vec![2.5; 3 * case.shape(1).len()];
    vec![Check::new(move |lab, measured| {
        let (state, y) = apply(case, lab, &x)?;
        measured.exact("beta", &y, &vec![0.0; x.len()]);
        measured.holds("finite statistics", state.iter().all(|s| s.is_finite()));
        Ok(())
    })]
}
