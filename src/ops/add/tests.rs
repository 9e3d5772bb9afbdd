//! add against sums of f64 vectors.

use super::add;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn check(shape: Shape, differentiable: [bool; 2]) {
    let input = |seed, wanted| {
        let input = Input::random(shape, seed);
        if wanted { input } else { input.constant() }
    };
    Case {
        inputs: vec![input(1, differentiable[0]), input(2, differentiable[1])],
        build: &|tape, v| add(tape, v[0], v[1]),
        reference: &|v| sum(&v[0], &v[1]),
        depth: 2,
    }
    .check();
}

#[test]
fn adds_and_hands_the_gradient_to_both() {
    check(Shape::new(3, 7, 5, 2), [true; 2]);
    check(Shape::vector(1), [true; 2]);
}

#[test]
fn only_one_operand_wants_a_gradient() {
    check(Shape::new(3, 7, 5, 2), [true, false]);
    check(Shape::new(3, 7, 5, 2), [false, true]);
}

#[test]
fn values_longer_than_one_piece() {
    check(Shape::new(3, 79, 139, 1), [true; 2]);
}

#[test]
fn a_value_plus_itself_gets_the_gradient_twice() {
    Case {
        inputs: vec![Input::random(Shape::new(3, 7, 5, 2), 1)],
        build: &|tape, v| add(tape, v[0], v[0]),
        reference: &|v| sum(&v[0], &v[0]),
        depth: 4,
    }
    .check();
}

#[test]
fn channels_of_one_value_can_be_added() {
    let plane = 7 * 5 * 2;
    Case {
        inputs: vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
        build: &|tape, v| {
            let (a, b) = (tape.channels(v[0], 0..3), tape.channels(v[0], 2..5));
            add(tape, a, b)
        },
        reference: &|v| sum(&v[0][..3 * plane], &v[0][2 * plane..]),
        depth: 4,
    }
    .check();
}

#[test]
fn different_shapes_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let a = tape.input(Shape::new(2, 3, 5, 1), &[0.0; 30], true).unwrap();
    let b = tape.input(Shape::new(2, 5, 3, 1), &[0.0; 30], true).unwrap();
    let error = add(&mut tape, a, b).unwrap_err().to_string();
    assert_eq!(error, "add: expected [C 2, H 3, W 5, N 1], got [C 2, H 5, W 3, N 1]");
}
