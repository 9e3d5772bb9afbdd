//! pointwise refuses what does not fit.

use super::{Pointwise, pointwise};
use crate::backend::cpu::{Filter, Isa};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::testing::poisoned_context;

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let mut input = |shape: Shape, grad| tape.input(shape, &vec![0.0; shape.len()], grad).unwrap();
    let a = input(Shape::new(2, 3, 5, 1), true);
    let (tall, w) = (input(Shape::new(3, 5, 3, 1), true), input(Shape::vector(20), true));
    let scale = input(Shape::vector(1), true);
    let constant = input(Shape::vector(20), false);
    let mut error = |views: &[Var], w, scale, filter| {
        let config = Pointwise { filter, relu: true, slope: None };
        pointwise(&mut tape, views, w, scale, config).unwrap_err().to_string()
    };
    let filter = Filter::whole(4, 5, [1, 1], 1);
    assert_eq!(
        error(&[a, tall], w, None, filter),
        "pointwise: expected inputs like [C 2, H 3, W 5, N 1], got [C 3, H 5, W 3, N 1]"
    );
    assert_eq!(error(&[], w, None, filter), "pointwise: expected at least one input, got none");
    assert!(error(&[a], w, None, filter).starts_with("pointwise: expected 2 input channels, 1x1, got Filter"));
    let grouped = Filter::whole(4, 1, [1, 1], 2);
    assert!(error(&[a], w, None, grouped).contains("groups: 2"), "groups are refused");
    let wide = Filter::whole(1, 2, [3, 3], 1);
    assert!(error(&[a], w, None, wide).contains("kernel: [3, 3]"), "taps are refused");
    let larger = Filter::whole(11, 2, [1, 1], 1);
    assert_eq!(error(&[a], w, None, larger), "pointwise: expected at least 22 weights, got [C 20, H 1, W 1, N 1]");
    let small = Filter::whole(4, 2, [1, 1], 1);
    assert_eq!(
        error(&[a], constant, Some(scale), small),
        "pointwise: expected one scale factor, with a gradient only if the filter has one, got [C 1, H 1, W 1, N 1]"
    );
    assert_eq!(
        error(&[a], w, Some(w), small),
        "pointwise: expected one scale factor, with a gradient only if the filter has one, got [C 20, H 1, W 1, N 1]"
    );
}
