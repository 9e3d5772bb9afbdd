//! cross_entropy refuses what does not fit.

use super::cross_entropy;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn labels_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(3, 1, 1, 2), &[0.0; 6], true).unwrap();
    let picture = tape.input(Shape::new(3, 1, 2, 2), &[0.0; 12], true).unwrap();
    let mut error = |x, labels: &[u16]| cross_entropy(&mut tape, x, labels).unwrap_err().to_string();
    let expected = "cross_entropy: expected logits [K, 1, 1, N] and N labels below K, got";
    assert_eq!(error(x, &[0, 3]), format!("{expected} [C 3, H 1, W 1, N 2] with 2 labels up to Some(3)"));
    assert_eq!(error(x, &[0]), format!("{expected} [C 3, H 1, W 1, N 2] with 1 labels up to Some(0)"));
    assert_eq!(error(picture, &[0, 1]), format!("{expected} [C 3, H 1, W 2, N 2] with 2 labels up to Some(1)"));
}
