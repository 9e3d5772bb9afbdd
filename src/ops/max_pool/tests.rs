//! max_pool refuses what does not fit, and hides no NaN.

use super::max_pool;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn odd_sizes_and_volumes_are_refused() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    for (d, h, w) in [(1, 3, 4), (1, 4, 3), (2, 2, 4)] {
        let shape = Shape::new(2, h, w, 1).with_depth(d);
        let x = tape.input(shape, &vec![0.0; shape.len()], true).unwrap();
        let error = max_pool(&mut tape, x).unwrap_err().to_string();
        assert_eq!(error, format!("max_pool: expected pictures of even height and width, got {shape}"));
    }
}

#[test]
fn nan_anywhere_in_a_window_is_its_maximum() {
    for at in 0..4 {
        let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
        let mut tape = Tape::new(&mut context);
        let mut values = [1.0, 3.0, 2.0, 4.0];
        values[at] = f32::NAN;
        let x = tape.input(Shape::new(1, 2, 2, 1), &values, true).unwrap();
        let y = max_pool(&mut tape, x).unwrap();
        assert!(tape.read(y).unwrap()[0].is_nan(), "number {at} of the window");
    }
}
