//! activation against the f64 functions, and at the places where they are special.

use super::{Activation, LEAKY_SLOPE, activation, activation_into};
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};

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

fn check(kind: Activation, shape: Shape) {
    Case {
        inputs: vec![Input::random(shape, 1)],
        build: &|tape, v| activation(tape, v[0], kind),
        reference: &|v| v[0].iter().map(|&x| exact(kind, x)).collect(),
        depth: 2,
    }
    .check();
}

#[test]
fn every_kind_and_its_derivative() {
    for kind in ALL {
        check(kind, Shape::new(3, 7, 5, 2));
    }
}

#[test]
fn values_longer_than_one_piece() {
    for kind in ALL {
        check(kind, Shape::new(3, 79, 139, 1));
    }
}

#[test]
fn a_view_reads_and_feeds_its_channels_only() {
    let plane = 7 * 5 * 2;
    Case {
        inputs: vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
        build: &|tape, v| {
            let view = tape.channels(v[0], 1..4);
            activation(tape, view, Activation::Tanh)
        },
        reference: &|v| v[0][plane..4 * plane].iter().map(|x| x.tanh()).collect(),
        depth: 2,
    }
    .check();
}

#[test]
fn the_result_may_fill_channels_of_an_existing_value() {
    let (shape, plane) = (Shape::new(2, 7, 5, 3), 7 * 5 * 3);
    Case {
        inputs: vec![Input::random(shape, 1), Input::random(shape.with_channels(1), 2)],
        build: &|tape, v| {
            let y = tape.alloc(shape.with_channels(3), true)?;
            let (first, last) = (tape.channels(y, 0..2), tape.channels(y, 2..3));
            activation_into(tape, v[0], first, Activation::Sigmoid)?;
            activation_into(tape, v[1], last, Activation::Relu)?;
            Ok(y)
        },
        reference: &|v| {
            let x = [&v[0][..], &v[1]].concat();
            let kind = |i: usize| if i < 2 * plane { Activation::Sigmoid } else { Activation::Relu };
            x.iter().enumerate().map(|(i, &x)| exact(kind(i), x)).collect()
        },
        depth: 2,
    }
    .check();
}

#[test]
fn a_destination_of_another_shape_is_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(2, 3, 5, 1), &[0.0; 30], true).unwrap();
    let y = tape.alloc(Shape::new(2, 5, 3, 1), true).unwrap();
    let error = activation_into(&mut tape, x, y, Activation::Tanh).unwrap_err().to_string();
    assert_eq!(error, "activation: expected [C 2, H 3, W 5, N 1], got [C 2, H 5, W 3, N 1]");
}

/// Values and derivatives at `x`.
fn at(kind: Activation, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let shape = Shape::vector(x.len());
    let input = tape.input(shape, x, true).unwrap();
    let y = activation(&mut tape, input, kind).unwrap();
    let values = tape.read(y);
    tape.backward_from(&[(y, &vec![1.0; x.len()])]).unwrap();
    (values, tape.read_grad(input).unwrap().unwrap())
}

#[test]
fn the_kink_belongs_to_the_left() {
    assert_eq!(at(Activation::Relu, &[0.0, -0.0]), (vec![0.0; 2], vec![0.0; 2]));
    assert_eq!(at(Activation::LeakyRelu, &[0.0, -0.0]), (vec![0.0; 2], vec![LEAKY_SLOPE; 2]));
}

#[test]
fn far_from_zero_everything_is_finite_and_saturates() {
    let far = [-1e4, 1e4];
    assert_eq!(at(Activation::Tanh, &far), (vec![-1.0, 1.0], vec![0.0; 2]));
    assert_eq!(at(Activation::Sigmoid, &far), (vec![0.0, 1.0], vec![0.0; 2]));
    assert_eq!(at(Activation::Relu, &far), (vec![0.0, 1e4], vec![0.0, 1.0]));
    assert_eq!(at(Activation::LeakyRelu, &far), (vec![-200.0, 1e4], vec![LEAKY_SLOPE, 1.0]));
}
