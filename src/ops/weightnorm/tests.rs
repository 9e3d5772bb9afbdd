//! weightnorm against f64 norms, with gaps between filters and filters of zeros.

use super::weightnorm;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};
use std::ops::Range;

fn check<const COUNT: usize>(len: usize, ranges: [Range<usize>; COUNT]) {
    let longest = ranges.iter().map(|r| r.len()).max().unwrap();
    Case {
        inputs: vec![Input::random(Shape::vector(len), 1)],
        build: &|tape, v| weightnorm(tape, v[0], ranges.to_vec()),
        reference: &|v| ranges.iter().map(|r| v[0][r.clone()].iter().map(|w| w * w).sum::<f64>().powf(-0.5)).collect(),
        depth: longest,
    }
    .check();
}

#[test]
fn one_factor_per_filter() {
    let all = 0..31;
    check(31, [all]);
    check(40, [0..3, 3..4, 4..21, 21..40]);
}

#[test]
fn weights_between_the_filters_count_for_nothing() {
    check(43, [2..13, 20..27, 28..29, 30..41]);
}

#[test]
fn filters_in_any_order_and_filters_that_share_weights() {
    check(37, [20..37, 0..5, 3..23]);
}

#[test]
fn filters_longer_than_a_block_of_the_sum() {
    // Blocks are 128, 256 or 512 elements.
    check(1400, [1..600, 600..1395]);
}

#[test]
fn a_filter_of_zeros_has_factor_and_gradient_zero() {
    for isa in Isa::available() {
        let mut context = poisoned_context(isa, 2, 1 << 12);
        let mut tape = Tape::new(&mut context);
        let mut weights = vec![0.0; 19];
        weights[11..13].copy_from_slice(&[3.0, -4.0]);
        let w = tape.input(Shape::vector(19), &weights, true).unwrap();
        let scale = weightnorm(&mut tape, w, vec![0..11, 11..13, 13..19]).unwrap();
        assert_eq!(tape.read(scale), [0.0, 0.2, 0.0]);
        tape.backward_from(&[(scale, &[7.0, 5.0, -9.0])]).unwrap();
        let gradient = tape.read_grad(w).unwrap().unwrap();
        assert!(gradient[..11].iter().chain(&gradient[13..]).all(|&g| g == 0.0), "{gradient:?}");
        // -5 * 0.2^3 * w.
        assert!((gradient[11] + 0.12).abs() < 1e-6 && (gradient[12] - 0.16).abs() < 1e-6, "{gradient:?}");
    }
}

#[test]
fn a_range_outside_the_weights_is_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let w = tape.input(Shape::vector(19), &[1.0; 19], true).unwrap();
    let error = weightnorm(&mut tape, w, vec![0..11, 12..20]).unwrap_err().to_string();
    assert_eq!(error, "weightnorm: expected filters within 19 weights, got 12..20");
}
