//! gather_filters against the index formula of its documentation.

use super::{FilterSlices, GatherFilters, OP, gather_filters};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, checks};
use std::ops::Range;

checks!(
    OP,
    units_as_wide_as_slices,
    more_units_than_channels_per_slice_and_fewer,
    a_filter_may_end_inside_a_width_row,
    ops_in_any_order_that_skip_or_share_slices,
);

pub(super) fn config(slice_channels: usize, row_units: usize, filters: &[(Range<usize>, usize)]) -> GatherFilters {
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

/// The case, and every element of its gradient.
fn both(config: &GatherFilters, [height, width]: [usize; 2]) -> [Check; 2] {
    let shape = Shape::new(config.slice_channels * config.row_units, height, width, 1);
    let sources = sources(config, shape);
    [case(config.clone(), shape, sources.clone()).into(), whole_gradient(config.clone(), shape, sources)]
}

fn case(config: GatherFilters, shape: Shape, sources: Vec<usize>) -> Case {
    Case::new(
        vec![Input::random(shape, 1)],
        2 * config.filters.len(),
        move |tape, v| gather_filters(tape, v[0], config.clone()),
        move |v| sources.iter().map(|&i| v[0][i]).collect(),
    )
}

/// Every element of the gradient, exactly: whole numbers add without rounding.
fn whole_gradient(config: GatherFilters, shape: Shape, sources: Vec<usize>) -> Check {
    let mut rng = Rng::new(5, Stream::Init);
    let gy: Vec<f32> = sources.iter().map(|_| 1.0 + rng.below(1000) as f32).collect();
    let mut expected = vec![0.0; shape.len()];
    for (&i, &g) in sources.iter().zip(&gy) {
        expected[i] += g;
    }
    Check::new(move |lab, measured| {
        lab.run(1 << 16, |context| {
            let mut tape = Tape::new(context);
            let x = tape.input(shape, &vec![1.0; shape.len()], true)?;
            let y = gather_filters(&mut tape, x, config.clone())?;
            tape.backward_from(&[(y, &gy)])?;
            measured.exact("whole gradient", &tape.read_grad(x)?.unwrap_or_default(), &expected);
            Ok(())
        })
    })
}

fn units_as_wide_as_slices() -> Vec<Check> {
    // As many units per row as channels per slice; the widest filter takes every row.
    both(&config(4, 4, &[(0..3, 12), (3..4, 4), (4..9, 8)]), [3, 9]).into()
}

fn more_units_than_channels_per_slice_and_fewer() -> Vec<Check> {
    [
        both(&config(2, 6, &[(0..2, 18), (2..7, 6), (7..8, 12)]), [3, 8]),
        both(&config(7, 3, &[(0..1, 6), (1..4, 3)]), [2, 5]),
        both(&config(1, 1, &[(0..5, 4)]), [4, 5]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn a_filter_may_end_inside_a_width_row() -> Vec<Check> {
    both(&config(3, 5, &[(0..2, 7), (2..3, 1), (3..6, 14)]), [3, 7]).into()
}

fn ops_in_any_order_that_skip_or_share_slices() -> Vec<Check> {
    // Slices 0 and 5 belong to nobody, slice 3 to two ops.
    both(&config(3, 2, &[(6..8, 4), (1..4, 6), (3..5, 2)]), [3, 8]).into()
}
