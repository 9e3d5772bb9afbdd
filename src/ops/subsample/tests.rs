//! subsample refuses what does not fit.

use super::subsample;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn odd_sizes_and_volumes_are_refused() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let shapes = [Shape::new(2, 3, 4, 1), Shape::new(2, 4, 3, 1), Shape::new(1, 4, 2, 1).with_depth(3)];
    for shape in shapes {
        let x = tape.input(shape, &[0.0; 24], true).unwrap();
        let error = subsample(&mut tape, x).unwrap_err().to_string();
        assert_eq!(error, format!("subsample: expected pictures of even height and width, got {shape}"));
    }
}
