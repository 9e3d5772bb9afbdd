//! conv2d refuses what does not fit.

use super::{Conv2d, Output, conv2d};
use crate::backend::cpu::{Filter, Isa};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn operands_that_do_not_fit_are_named() {
    let filter = Filter::whole(10, 3, [3, 3], 1);
    let config = Conv2d { filter, dilation: [1, 1], slope: None, output: Output::New };
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(2, 3, 3, 1), &[0.0; 18], false).unwrap();
    let w = tape.input(Shape::vector(90), &[0.0; 90], true).unwrap();
    let error = conv2d(&mut tape, x, w, None, config).unwrap_err().to_string();
    assert_eq!(error, "conv2d: expected 3 input channels, got [C 2, H 3, W 3, N 1]");
    let x = tape.input(Shape::new(3, 3, 3, 1), &[0.0; 27], false).unwrap();
    let error = conv2d(&mut tape, x, w, None, config).unwrap_err().to_string();
    assert!(error.starts_with("conv2d: expected at least 270 weights"), "{error}");
    for (kernel, dilation) in [([3, 3], [0, 1]), ([3, 2], [1, 1])] {
        let wrong = Conv2d { filter: Filter::whole(10, 3, kernel, 1), dilation, ..config };
        let error = conv2d(&mut tape, x, w, None, wrong).unwrap_err().to_string();
        assert!(error.starts_with("conv2d: expected odd kernels and dilations of 1 and more"), "{error}");
    }
}
