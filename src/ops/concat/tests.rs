//! concat against copied vectors.

use super::concat;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};

fn shape(c: usize) -> Shape {
    Shape::new(c, 7, 5, 3)
}

#[test]
fn views_follow_one_another() {
    Case {
        inputs: vec![Input::random(shape(3), 1), Input::random(shape(1), 2), Input::random(shape(4), 3)],
        build: &|tape, v| concat(tape, v),
        reference: &|v| v.concat(),
        depth: 1,
    }
    .check();
    Case {
        inputs: vec![Input::random(shape(2), 1)],
        build: &|tape, v| concat(tape, v),
        reference: &|v| v[0].clone(),
        depth: 1,
    }
    .check();
}

#[test]
fn an_input_without_gradient_is_skipped() {
    Case {
        inputs: vec![Input::random(shape(2), 1), Input::random(shape(4), 2).constant(), Input::random(shape(3), 3)],
        build: &|tape, v| concat(tape, v),
        reference: &|v| v.concat(),
        depth: 1,
    }
    .check();
}

#[test]
fn a_view_may_appear_twice_and_be_part_of_another() {
    let plane = shape(1).len();
    Case {
        inputs: vec![Input::random(shape(5), 1)],
        build: &|tape, v| {
            let (middle, end) = (tape.channels(v[0], 1..3), tape.channels(v[0], 3..5));
            concat(tape, &[end, middle, v[0], middle])
        },
        reference: &|v| {
            let (middle, end) = (&v[0][plane..3 * plane], &v[0][3 * plane..]);
            [end, middle, &v[0], middle].concat()
        },
        depth: 4,
    }
    .check();
}

#[test]
fn planes_longer_than_one_piece() {
    let shape = |c| Shape::new(c, 79, 139, 1);
    Case {
        inputs: vec![Input::random(shape(1), 1), Input::random(shape(3), 2)],
        build: &|tape, v| concat(tape, v),
        reference: &|v| v.concat(),
        depth: 1,
    }
    .check();
}

#[test]
fn views_of_other_sizes_and_an_empty_list_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let a = tape.input(Shape::new(2, 3, 5, 1), &[0.0; 30], true).unwrap();
    let b = tape.input(Shape::new(2, 3, 5, 2), &[0.0; 60], true).unwrap();
    let error = concat(&mut tape, &[a, b]).unwrap_err().to_string();
    assert_eq!(error, "concat: expected inputs like [C 2, H 3, W 5, N 1], got [C 2, H 3, W 5, N 2]");
    let error = concat(&mut tape, &[]).unwrap_err().to_string();
    assert_eq!(error, "concat: expected at least one input, got none");
}
