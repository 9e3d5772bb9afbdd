//! avg_pool refuses what does not fit.

use super::avg_pool;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn odd_sizes_are_refused() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    for (h, w) in [(3, 4), (4, 3)] {
        let x = tape.input(Shape::new(2, h, w, 1), &[0.0; 24], true).unwrap();
        let error = avg_pool(&mut tape, x).unwrap_err().to_string();
        assert_eq!(error, format!("avg_pool: expected even height and width, got [C 2, H {h}, W {w}, N 1]"));
    }
    let x = tape.input(Shape::new(2, 2, 4, 1).with_depth(3), &[0.0; 48], true).unwrap();
    let error = avg_pool(&mut tape, x).unwrap_err().to_string();
    assert_eq!(error, "avg_pool: expected even depth, height and width, got [C 2, D 3, H 2, W 4, N 1]");
}
