//! gather_filters against the index formula of its documentation.

use super::{FilterSlices, GatherFilters, gather_filters};
use crate::backend::cpu::Isa;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};
use std::ops::Range;

fn config(slice_channels: usize, row_units: usize, filters: &[(Range<usize>, usize)]) -> GatherFilters {
    let filters = filters.iter().map(|(slices, rows)| FilterSlices { slices: slices.clone(), rows: *rows }).collect();
    GatherFilters { slice_channels, row_units, filters }
}

/// For each element of the result the index in x it comes from.
fn sources(config: &GatherFilters, shape: Shape) -> Vec<usize> {
    let mut result = Vec::new();
    for filter in &config.filters {
        for row in 0..filter.rows {
            let (h, o) = (row / config.row_units, row % config.row_units);
            for t in filter.slices.clone() {
                for i in 0..config.slice_channels {
                    result.push(((o * config.slice_channels + i) * shape.h + h) * shape.w + t);
                }
            }
        }
    }
    result
}

fn check(config: &GatherFilters, [height, width]: [usize; 2]) {
    let shape = Shape::new(config.slice_channels * config.row_units, height, width, 1);
    let sources = sources(config, shape);
    Case {
        inputs: vec![Input::random(shape, 1)],
        build: &|tape, v| gather_filters(tape, v[0], config.clone()),
        reference: &|v| sources.iter().map(|&i| v[0][i]).collect(),
        depth: 2 * config.filters.len(),
    }
    .check();
    check_whole_gradient(config, shape, &sources);
}

/// Every element of the gradient, exactly: whole numbers add without rounding.
fn check_whole_gradient(config: &GatherFilters, shape: Shape, sources: &[usize]) {
    let mut rng = Rng::new(5, Stream::Init);
    let gy: Vec<f32> = sources.iter().map(|_| 1.0 + rng.below(1000) as f32).collect();
    let mut expected = vec![0.0; shape.len()];
    for (&i, &g) in sources.iter().zip(&gy) {
        expected[i] += g;
    }
    let mut context = poisoned_context(Isa::detect(), 3, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(shape, &vec![1.0; shape.len()], true).unwrap();
    let y = gather_filters(&mut tape, x, config.clone()).unwrap();
    tape.backward_from(&[(y, &gy)]).unwrap();
    assert_eq!(tape.read_grad(x).unwrap().unwrap(), expected);
}

#[test]
fn units_as_wide_as_slices() {
    // As many units per row as channels per slice; the widest filter takes every row.
    check(&config(4, 4, &[(0..3, 12), (3..4, 4), (4..9, 8)]), [3, 9]);
}

#[test]
fn more_units_than_channels_per_slice_and_fewer() {
    check(&config(2, 6, &[(0..2, 18), (2..7, 6), (7..8, 12)]), [3, 8]);
    check(&config(7, 3, &[(0..1, 6), (1..4, 3)]), [2, 5]);
    check(&config(1, 1, &[(0..5, 4)]), [4, 5]);
}

#[test]
fn a_filter_may_end_inside_a_width_row() {
    check(&config(3, 5, &[(0..2, 7), (2..3, 1), (3..6, 14)]), [3, 7]);
}

#[test]
fn ops_in_any_order_that_skip_or_share_slices() {
    // Slices 0 and 5 belong to nobody, slice 3 to two ops.
    check(&config(3, 2, &[(6..8, 4), (1..4, 6), (3..5, 2)]), [3, 8]);
}

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
