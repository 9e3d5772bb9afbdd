//! gather_filters says where each filter lies, and refuses what does not fit.

use super::checks::config;
use super::gather_filters;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn ranges_cover_the_result_op_by_op() {
    let config = config(3, 2, &[(6..8, 4), (1..4, 6)]);
    assert_eq!(config.ranges(), [0..24, 24..78]);
    assert_eq!([config.filter_len(0), config.filter_len(1)], [24, 54]);
}

#[test]
fn what_x_does_not_hold_is_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(6, 3, 8, 1), &[0.0; 144], true).unwrap();
    let batch = tape.input(Shape::new(6, 3, 4, 2), &[0.0; 144], true).unwrap();
    let mut error = |x, slice, units, slices, rows| {
        gather_filters(&mut tape, x, config(slice, units, &[(0..1, 1), (slices, rows)]))
            .map_err(|e| e.to_string())
            .err()
    };
    assert_eq!(error(x, 3, 2, 0..8, 6), None, "all of x");
    let message = error(x, 3, 2, 0..8, 7).expect("three width rows of two units");
    assert!(message.starts_with("gather_filters: expected 2 x 3 channels that cover ["), "{message}");
    assert!(message.ends_with("got [C 6, H 3, W 8, N 1]"), "{message}");
    assert!(error(x, 3, 2, 4..9, 6).is_some(), "eight slices");
    assert!(error(x, 2, 2, 0..8, 6).is_some(), "six channels are not two times two");
    assert!(error(batch, 3, 2, 0..4, 6).is_some(), "a batch of HyperNet outputs");
}
