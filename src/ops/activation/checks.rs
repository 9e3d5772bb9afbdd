//! activation against the f64 functions, and at the places where they are special.

use super::{Activation, LEAKY_SLOPE, OP, activation, activation_into};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, checks};

checks!(
    OP,
    every_kind_and_its_derivative,
    values_longer_than_one_piece,
    a_view_reads_and_feeds_its_channels_only,
    the_result_may_fill_channels_of_an_existing_value,
    the_kink_belongs_to_the_left,
    far_from_zero_everything_is_finite_and_saturates,
);

const ALL: [Activation; 4] = [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Sigmoid];

fn exact(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Relu if x < 0.0 => 0.0,
        Activation::LeakyRelu if x < 0.0 => f64::from(LEAKY_SLOPE) * x,
        Activation::Relu | Activation::LeakyRelu => x,
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

fn case(kind: Activation, shape: Shape) -> Case {
    Case::new(
        vec![Input::random(shape, 1)],
        2,
        move |tape, v| activation(tape, v[0], kind),
        move |v| v[0].iter().map(|&x| exact(kind, x)).collect(),
    )
}

fn every_kind_and_its_derivative() -> Vec<Case> {
    ALL.map(|kind| case(kind, Shape::new(3, 7, 5, 2))).into()
}

fn values_longer_than_one_piece() -> Vec<Case> {
    ALL.map(|kind| case(kind, Shape::new(3, 79, 139, 1))).into()
}

fn a_view_reads_and_feeds_its_channels_only() -> Vec<Case> {
    let plane = 7 * 5 * 2;
    vec![Case::new(
        vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
        2,
        move |tape, v| {
            let view = tape.channels(v[0], 1..4);
            activation(tape, view, Activation::Tanh)
        },
        move |v| v[0][plane..4 * plane].iter().map(|x| x.tanh()).collect(),
    )]
}

fn the_result_may_fill_channels_of_an_existing_value() -> Vec<Case> {
    let (shape, plane) = (Shape::new(2, 7, 5, 3), 7 * 5 * 3);
    vec![Case::new(
        vec![Input::random(shape, 1), Input::random(shape.with_channels(1), 2)],
        2,
        move |tape, v| {
            let y = tape.alloc(shape.with_channels(3), true)?;
            let (first, last) = (tape.channels(y, 0..2), tape.channels(y, 2..3));
            activation_into(tape, v[0], first, Activation::Sigmoid)?;
            activation_into(tape, v[1], last, Activation::Relu)?;
            Ok(y)
        },
        move |v| {
            let x = [&v[0][..], &v[1]].concat();
            let kind = |i: usize| if i < 2 * plane { Activation::Sigmoid } else { Activation::Relu };
            x.iter().enumerate().map(|(i, &x)| exact(kind(i), x)).collect()
        },
    )]
}

/// Values and derivatives at two places, to the bit.
fn special(kind: Activation, x: [f32; 2], values: [f32; 2], derivatives: [f32; 2]) -> Check {
    Check::new(move |lab, measured| {
        lab.run(1 << 12, |context| {
            let mut tape = Tape::new(context);
            let input = tape.input(Shape::vector(2), &x, true)?;
            let y = activation(&mut tape, input, kind)?;
            measured.exact(format!("{kind:?}"), &tape.read(y)?, &values);
            tape.backward_from(&[(y, &[1.0; 2])])?;
            let gradient = tape.read_grad(input)?.unwrap_or_default();
            measured.exact(format!("derivative of {kind:?}"), &gradient, &derivatives);
            Ok(())
        })
    })
}

fn the_kink_belongs_to_the_left() -> Vec<Check> {
    vec![
        special(Activation::Relu, [0.0, -0.0], [0.0; 2], [0.0; 2]),
        special(Activation::LeakyRelu, [0.0, -0.0], [0.0; 2], [LEAKY_SLOPE; 2]),
    ]
}

fn far_from_zero_everything_is_finite_and_saturates() -> Vec<Check> {
    let far = [-1e4, 1e4];
    vec![
        special(Activation::Tanh, far, [-1.0, 1.0], [0.0; 2]),
        special(Activation::Sigmoid, far, [0.0, 1.0], [0.0; 2]),
        special(Activation::Relu, far, [0.0, 1e4], [0.0, 1.0]),
        special(Activation::LeakyRelu, far, [-200.0, 1e4], [LEAKY_SLOPE, 1.0]),
    ]
}
