//! weightnorm against f64 norms, with gaps between filters and filters of zeros.

use super::{OP, weightnorm};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, checks};
use std::ops::Range;

checks!(
    OP,
    one_factor_per_filter,
    weights_between_the_filters_count_for_nothing,
    filters_in_any_order_and_filters_that_share_weights,
    filters_longer_than_a_block_of_the_sum,
    a_filter_of_zeros_has_factor_and_gradient_zero,
);

fn case(len: usize, ranges: impl IntoIterator<Item = Range<usize>>) -> Case {
    let ranges: Vec<_> = ranges.into_iter().collect();
    let (filters, longest) = (ranges.clone(), ranges.iter().map(|r| r.len()).max().unwrap_or(0));
    Case::new(
        vec![Input::random(Shape::vector(len), 1)],
        longest,
        move |tape, v| weightnorm(tape, v[0], filters.clone()),
        move |v| ranges.iter().map(|r| v[0][r.clone()].iter().map(|w| w * w).sum::<f64>().powf(-0.5)).collect(),
    )
}

fn one_factor_per_filter() -> Vec<Case> {
    let all = 0..31;
    vec![case(31, [all]), case(40, [0..3, 3..4, 4..21, 21..40])]
}

fn weights_between_the_filters_count_for_nothing() -> Vec<Case> {
    vec![case(43, [2..13, 20..27, 28..29, 30..41])]
}

fn filters_in_any_order_and_filters_that_share_weights() -> Vec<Case> {
    vec![case(37, [20..37, 0..5, 3..23])]
}

fn filters_longer_than_a_block_of_the_sum() -> Vec<Case> {
    vec![
        // Blocks are 128, 256 or 512 elements.
        case(1400, [1..600, 600..1395]),
        // On a GPU, 8 blocks of 256 threads share a filter in the backward pass.
        case(2300, std::iter::once(3..2299)),
    ]
}

fn a_filter_of_zeros_has_factor_and_gradient_zero() -> Vec<Check> {
    let mut weights = [0.0; 19];
    weights[11..13].copy_from_slice(&[3.0, -4.0]);
    vec![Check::new(move |lab, measured| {
        lab.run(1 << 12, |context| {
            let mut tape = Tape::new(context);
            let w = tape.input(Shape::vector(19), &weights, true)?;
            let scale = weightnorm(&mut tape, w, vec![0..11, 11..13, 13..19])?;
            measured.close("factors", &tape.read(scale)?, &[0.0, 0.2, 0.0], 2);
            tape.backward_from(&[(scale, &[7.0, 5.0, -9.0])])?;
            let gradient = tape.read_grad(w)?.unwrap_or_default();
            // -5 * 0.2^3 * w.
            measured.samples("gradient", &gradient, &[(11, -0.12), (12, 0.16)], 4);
            let zero = |(i, &g): (usize, &f32)| g == 0.0 || (11..13).contains(&i);
            measured.holds("gradient of zeros", gradient.iter().enumerate().all(zero));
            Ok(())
        })
    })]
}
