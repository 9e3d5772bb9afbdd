//! concat refuses what does not fit.

use super::concat;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

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
