//! mean refuses what does not fit.

use super::mean;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn nothing_and_different_shapes_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let error = mean(&mut tape, &[]).unwrap_err().to_string();
    assert_eq!(error, "mean: expected at least one input, got none");
    let a = tape.input(Shape::new(2, 3, 5, 1), &[0.0; 30], true).unwrap();
    let b = tape.input(Shape::new(2, 5, 3, 1), &[0.0; 30], true).unwrap();
    let error = mean(&mut tape, &[a, b]).unwrap_err().to_string();
    assert_eq!(error, "mean: expected [C 2, H 3, W 5, N 1], got [C 2, H 5, W 3, N 1]");
}
