//! pointwise against a matrix product in f64, for every kind of view, filter and activation.

use super::{Pointwise, pointwise};
use crate::backend::cpu::{Filter, Isa};
use crate::ops::activation::{Activation, LEAKY_SLOPE, activation};
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::testing::{Case, Input, assert_close, poisoned_context};

/// A product under test; sizes are pairwise different and no multiples of a tile.
#[derive(Clone, Copy)]
struct Geometry {
    /// Channels of each view.
    views: &'static [usize],
    k: usize,
    size: [usize; 2],
    n: usize,
    /// Stored filter [K', C'] if larger than K, C.
    stored: Option<[usize; 2]>,
    relu: bool,
    scaled: bool,
    slope: Option<f32>,
}

const PLAIN: Geometry =
    Geometry { views: &[3, 1, 5], k: 10, size: [7, 5], n: 2, stored: None, relu: true, scaled: true, slope: None };

impl Geometry {
    fn c(self) -> usize {
        self.views.iter().sum()
    }

    fn plane(self) -> usize {
        self.size[0] * self.size[1] * self.n
    }

    fn shape(self, channels: usize) -> Shape {
        Shape::new(channels, self.size[0], self.size[1], self.n)
    }

    fn stored(self) -> [usize; 2] {
        self.stored.unwrap_or([self.k, self.c()])
    }

    fn config(self) -> Pointwise {
        let [rows, columns] = self.stored();
        let filter = Filter::centre([rows, columns, 1, 1], self.k, self.c(), [1, 1], 1);
        Pointwise { filter, relu: self.relu, slope: self.slope }
    }

    /// The filter and the scale.
    fn weights(self) -> Vec<Input> {
        let scale = Input::random(Shape::vector(1), 3);
        let w = Input::random(Shape::vector(self.stored().iter().product()), 2);
        vec![w, if self.scaled { scale } else { scale.constant() }]
    }

    /// The op on views, filter and scale.
    fn build(self, tape: &mut Tape<'_>, views: &[Var], weights: &[Var]) -> crate::Result<Var> {
        pointwise(tape, views, weights[0], self.scaled.then_some(weights[1]), self.config())
    }

    /// y[k][i] by the definition, from all C channels.
    fn reference(self, x: &[f64], weights: &[Vec<f64>]) -> Vec<f64> {
        let plane = self.plane();
        let scale = if self.scaled { weights[1][0] } else { 1.0 };
        let mut y = vec![0.0; self.k * plane];
        for (k, y) in y.chunks_mut(plane).enumerate() {
            for (c, x) in x.chunks(plane).enumerate() {
                let w = scale * weights[0][k * self.stored()[1] + c];
                for (y, &x) in y.iter_mut().zip(x) {
                    *y += w * if self.relu { x.max(0.0) } else { x };
                }
            }
        }
        let slope = self.slope.map_or(1.0, f64::from);
        y.into_iter().map(|z| if z > 0.0 { z } else { slope * z }).collect()
    }

    /// Each view is a value of its own.
    fn check(self) {
        let count = self.views.len();
        let mut inputs: Vec<Input> =
            self.views.iter().zip(10..).map(|(&c, seed)| Input::random(self.shape(c), seed)).collect();
        inputs.extend(self.weights());
        Case {
            inputs,
            build: &|tape, v| self.build(tape, &v[..count], &v[count..]),
            reference: &|v| self.reference(&v[..count].concat(), &v[count..]),
            depth: self.k * self.c() * self.plane(),
        }
        .check();
    }
}

#[test]
fn several_views_are_read_in_order() {
    for relu in [false, true] {
        for scaled in [false, true] {
            Geometry { relu, scaled, ..PLAIN }.check();
        }
    }
    Geometry { views: &[4], ..PLAIN }.check();
    Geometry { views: &[1, 2, 1, 6, 3], k: 7, ..PLAIN }.check();
}

#[test]
fn relu_and_leaky_relu_on_the_output() {
    for slope in [0.0, 0.02] {
        Geometry { slope: Some(slope), ..PLAIN }.check();
        Geometry { slope: Some(slope), relu: false, scaled: false, ..PLAIN }.check();
    }
}

#[test]
fn the_first_rows_and_columns_of_a_larger_filter_and_gradient_into_them_alone() {
    // Differences of the reference are 0 outside the used part; `check` samples all of it.
    Geometry { views: &[2, 3], k: 4, stored: Some([6, 8]), ..PLAIN }.check();
    Geometry { views: &[2, 3], k: 4, stored: Some([4, 7]), slope: Some(0.02), ..PLAIN }.check();
    Geometry { views: &[5], k: 3, stored: Some([9, 5]), ..PLAIN }.check();
}

#[test]
fn every_number_of_output_channels_up_to_two_tiles() {
    for k in 1..=17 {
        Geometry { views: &[2, 1], k, size: [3, 4], n: 3, ..PLAIN }.check();
    }
}

#[test]
fn every_number_of_input_channels_up_to_two_tiles() {
    const VIEWS: [&[usize]; 17] = [
        &[1],
        &[1, 1],
        &[2, 1],
        &[1, 3],
        &[5],
        &[2, 4],
        &[7],
        &[3, 5],
        &[4, 5],
        &[9, 1],
        &[11],
        &[5, 7],
        &[13],
        &[3, 11],
        &[8, 7],
        &[7, 9],
        &[17],
    ];
    for views in VIEWS {
        Geometry { views, k: 3, size: [3, 4], n: 3, ..PLAIN }.check();
    }
}

#[test]
fn more_output_channels_than_a_block_of_lanes() {
    for k in [66, 131] {
        Geometry { views: &[2, 5], k, size: [3, 5], n: 2, ..PLAIN }.check();
    }
    // More than 512: the transposed stretch leaves its fixed buffer.
    Geometry { views: &[2, 1], k: 530, size: [3, 7], n: 2, ..PLAIN }.check();
}

#[test]
fn planes_longer_than_a_task_and_a_stretch() {
    // 7 * 11 * 13 = 1001: a segment of 768 and a rest, a stretch of 512 and a rest.
    Geometry { views: &[2, 3], k: 5, size: [7, 11], n: 13, ..PLAIN }.check();
    // 9 * 19 * 29 = 4959: more stretches than parts, so that a part holds several.
    Geometry { views: &[1, 2], k: 3, size: [9, 19], n: 29, relu: false, ..PLAIN }.check();
    Geometry { views: &[1], k: 70, size: [11, 17], n: 7, ..PLAIN }.check();
    // Exactly one segment, and a multiple of every tile.
    Geometry { views: &[3], k: 2, size: [8, 12], n: 8, ..PLAIN }.check();
}

#[test]
fn views_may_be_channels_of_one_bigger_value_in_any_order() {
    let case = Geometry { views: &[3, 2], k: 4, ..PLAIN };
    let plane = case.plane();
    let mut inputs = vec![Input::random(case.shape(9), 1)];
    inputs.extend(case.weights());
    Case {
        inputs,
        // Channels 4..7, then 0..2; the others get no gradient.
        build: &|tape, v| {
            let views = [tape.channels(v[0], 4..7), tape.channels(v[0], 0..2)];
            case.build(tape, &views, &v[1..])
        },
        reference: &|v| {
            let x = [&v[0][4 * plane..7 * plane], &v[0][..2 * plane]].concat();
            case.reference(&x, &v[1..])
        },
        depth: 4 * 5 * plane,
    }
    .check();
}

#[test]
fn two_readers_of_overlapping_views_add_their_gradients() {
    // The first reader sees channels 0..3, the second 2..5: backward, 2..5 is overwritten and of
    // 0..3 channel 2 is added to while 0 and 1 start from zero.
    let one = Geometry { views: &[3], k: 4, ..PLAIN };
    let plane = one.plane();
    let mut inputs = vec![Input::random(one.shape(5), 1)];
    inputs.extend(one.weights());
    inputs.extend(one.weights());
    Case {
        inputs,
        build: &|tape, v| {
            let views = [tape.channels(v[0], 0..3), tape.channels(v[0], 2..5)];
            let y = [one.build(tape, &views[..1], &v[1..3])?, one.build(tape, &views[1..], &v[3..])?];
            concat(tape, &y)
        },
        reference: &|v| {
            [one.reference(&v[0][..3 * plane], &v[1..3]), one.reference(&v[0][2 * plane..], &v[3..])].concat()
        },
        depth: 2 * 4 * 3 * plane,
    }
    .check();
}

#[test]
fn operands_without_gradient_get_none() {
    let inputs = |data: bool, weights: bool| {
        let choose = |input: Input, wanted: bool| if wanted { input } else { input.constant() };
        let views = [3, 1, 5].into_iter().zip(10..).map(|(c, seed)| choose(Input::random(PLAIN.shape(c), seed), data));
        views.chain(PLAIN.weights().into_iter().map(|w| choose(w, weights))).collect::<Vec<_>>()
    };
    for (data, weights) in [(true, false), (false, true)] {
        Case {
            inputs: inputs(data, weights),
            build: &|tape, v| PLAIN.build(tape, &v[..3], &v[3..]),
            reference: &|v| PLAIN.reference(&v[..3].concat(), &v[3..]),
            depth: 10 * 9 * 70,
        }
        .check();
    }
}

/// One way to compute a geometry with three views, from views and weights.
type Compute<'a> = dyn Fn(&mut Tape<'_>, &[Var], &[Var]) -> crate::Result<Var> + 'a;

/// Output and gradients of views, filter and scale.
fn outcome(isa: Isa, geometry: Geometry, compute: &Compute<'_>) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(8, Stream::Init);
    let mut context = poisoned_context(isa, 2, 1 << 19);
    let mut tape = Tape::new(&mut context);
    let shapes = geometry.views.iter().map(|&c| geometry.shape(c));
    let shapes = shapes.chain([Shape::vector(geometry.k * geometry.c()), Shape::vector(1)]);
    let mut draw = |len: usize| (0..len).map(|_| rng.normal() as f32).collect::<Vec<_>>();
    let v: Vec<Var> = shapes.map(|shape| tape.input(shape, &draw(shape.len()), true).unwrap()).collect();
    let y = compute(&mut tape, &v[..3], &v[3..]).unwrap();
    let mut results = vec![tape.read(y)];
    let gy = draw(results[0].len());
    tape.backward_from(&[(y, &gy)]).unwrap();
    results.extend(v.iter().map(|&v| tape.read_grad(v).unwrap().unwrap()));
    results
}

#[test]
fn equals_concat_then_relu_then_conv2d_then_leaky_relu() {
    // The second has 18810 outputs: more than one piece of the passes over memory.
    let geometries = [PLAIN, Geometry { size: [9, 19], n: 11, ..PLAIN }];
    for (isa, geometry) in Isa::available().into_iter().flat_map(|isa| geometries.map(|g| (isa, g))) {
        for slope in [None, Some(LEAKY_SLOPE)] {
            let geometry = Geometry { slope, ..geometry };
            let fused = outcome(isa, geometry, &|tape, views, w| geometry.build(tape, views, w));
            let plain = outcome(isa, geometry, &|tape, views, w| {
                let x = concat(tape, views)?;
                let x = activation(tape, x, Activation::Relu)?;
                let (filter, dilation) = (geometry.config().filter, [1, 1]);
                let y =
                    conv2d(tape, x, w[0], Some(w[1]), Conv2d { filter, dilation, slope: None, output: Output::New })?;
                if slope.is_some() { activation(tape, y, Activation::LeakyRelu) } else { Ok(y) }
            });
            let what = format!("{isa:?}, slope {slope:?}, plane {}", geometry.plane());
            // Output and data gradients add up in the same order; sums over pixels are cut differently.
            assert!(fused[..4] == plain[..4], "{what}: output or gradients of the views differ");
            for (name, i) in [("filter", 4), ("scale", 5)] {
                let plain: Vec<f64> = plain[i].iter().map(|&x| f64::from(x)).collect();
                assert_close(&format!("{what}, {name}"), &fused[i], &plain, geometry.plane());
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let mut input = |shape: Shape, grad| tape.input(shape, &vec![0.0; shape.len()], grad).unwrap();
    let (a, b) = (input(Shape::new(2, 3, 5, 1), true), input(Shape::new(3, 3, 5, 1), false));
    let (tall, w) = (input(Shape::new(3, 5, 3, 1), true), input(Shape::vector(20), true));
    let scale = input(Shape::vector(1), true);
    let constant = input(Shape::vector(20), false);
    let mut error = |views: &[Var], w, scale, filter| {
        let config = Pointwise { filter, relu: true, slope: None };
        pointwise(&mut tape, views, w, scale, config).unwrap_err().to_string()
    };
    let filter = Filter::whole(4, 5, [1, 1], 1);
    assert_eq!(
        error(&[a, b], w, None, filter),
        "pointwise: expected views that all need a gradient, or none, got a mixture"
    );
    assert_eq!(
        error(&[a, tall], w, None, filter),
        "pointwise: expected inputs like [C 2, H 3, W 5, N 1], got [C 3, H 5, W 3, N 1]"
    );
    assert_eq!(error(&[], w, None, filter), "pointwise: expected at least one input, got none");
    assert!(error(&[a], w, None, filter).starts_with("pointwise: expected 2 input channels, 1x1, got Filter"));
    let grouped = Filter::whole(4, 1, [1, 1], 2);
    assert!(error(&[a], w, None, grouped).contains("groups: 2"), "groups are refused");
    let wide = Filter::whole(1, 2, [3, 3], 1);
    assert!(error(&[a], w, None, wide).contains("kernel: [3, 3]"), "taps are refused");
    let larger = Filter::whole(11, 2, [1, 1], 1);
    assert_eq!(error(&[a], w, None, larger), "pointwise: expected at least 22 weights, got [C 20, H 1, W 1, N 1]");
    let small = Filter::whole(4, 2, [1, 1], 1);
    assert_eq!(
        error(&[a], constant, Some(scale), small),
        "pointwise: expected one scale factor, with a gradient only if the filter has one, got [C 1, H 1, W 1, N 1]"
    );
    assert_eq!(
        error(&[a], w, Some(w), small),
        "pointwise: expected one scale factor, with a gradient only if the filter has one, got [C 20, H 1, W 1, N 1]"
    );
}
