//! weightnorm refuses what does not fit.

use super::weightnorm;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn a_range_outside_the_weights_is_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let w = tape.input(Shape::vector(19), &[1.0; 19], true).unwrap();
    let error = weightnorm(&mut tape, w, vec![0..11, 12..20]).unwrap_err().to_string();
    assert_eq!(error, "weightnorm: expected filters within 19 weights, got 12..20");
}
