//! conv3d refuses what does not fit.

use super::{Conv3d, conv3d};
use crate::backend::cpu::{Filter, Isa};
use crate::ops::conv2d::Output;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn operands_that_do_not_fit_are_named() {
    let filter = Filter::whole(4, 3, [9, 3], 1);
    let config = Conv3d { filter, layers: 3, dilation: [1; 3], slope: None, output: Output::New };
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(2, 3, 3, 1).with_depth(2), &[0.0; 36], false).unwrap();
    let w = tape.input(Shape::vector(90), &[0.0; 90], true).unwrap();
    let error = conv3d(&mut tape, x, w, None, config).unwrap_err().to_string();
    assert_eq!(error, "conv3d: expected 3 input channels, got [C 2, D 2, H 3, W 3, N 1]");
    let x = tape.input(Shape::new(3, 3, 3, 1).with_depth(2), &[0.0; 54], false).unwrap();
    let error = conv3d(&mut tape, x, w, None, config).unwrap_err().to_string();
    assert!(error.starts_with("conv3d: expected at least 324 weights"), "{error}");
    for (kernel, layers, dilation) in
        [([9, 3], 3, [1, 0, 1]), ([6, 3], 3, [1; 3]), ([9, 3], 2, [1; 3]), ([9, 2], 3, [1; 3])]
    {
        let wrong = Conv3d { filter: Filter::whole(4, 3, kernel, 1), layers, dilation, ..config };
        let error = conv3d(&mut tape, x, w, None, wrong).unwrap_err().to_string();
        assert!(error.starts_with("conv3d: expected odd kernels and dilations of 1 and more"), "{error}");
    }
}
