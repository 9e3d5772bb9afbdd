//! linear refuses what does not fit.

use super::linear;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let mut input = |shape: Shape| tape.input(shape, &vec![0.0; shape.len()], true).unwrap();
    let (x, picture) = (input(Shape::new(6, 1, 1, 2)), input(Shape::new(3, 2, 1, 2)));
    let (narrow, ragged, b) = (input(Shape::vector(20)), input(Shape::vector(26)), input(Shape::vector(4)));
    let fitting = input(Shape::vector(24));
    let mut error = |x, w| linear(&mut tape, x, w, b).map_err(|e| e.to_string()).err();
    assert_eq!(
        error(x, narrow).as_deref(),
        Some("linear: expected [C <= 5, 1, 1, N] and 4 rows, got [C 6, H 1, W 1, N 2]")
    );
    assert!(error(x, ragged).is_some(), "26 weights are not 4 rows");
    assert!(error(picture, fitting).is_some(), "pixels are not channels");
    assert_eq!(error(x, fitting), None);
}
