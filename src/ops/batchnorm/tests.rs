//! batchnorm keeps nothing that it does not need, and refuses what does not fit.

use super::batchnorm;
use super::checks::{Geometry, PLAIN, draw};
use crate::backend::Region;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn what_the_backward_pass_would_need_is_given_back_without_one() {
    let case = Geometry { views: &[4], stored: 4, ..PLAIN };
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    context.reserve(Region::State, 8).unwrap();
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
