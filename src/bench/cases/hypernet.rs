//! What follows the HyperNet's convolutions: gather_filters and weightnorm.

use super::{Case, Of, Seen, input, parameter};
use crate::bench::spec::Spec;
use crate::error::Result;
use crate::ops::gather_filters::{FilterSlices, GatherFilters, gather_filters};
use crate::ops::weightnorm::weightnorm;
use crate::tensor::Shape;
use std::ops::Range;

/// `len` cut into `parts`.
fn cut(len: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts).map(|i| i * len / parts..(i + 1) * len / parts).collect()
}

pub(super) fn case(spec: &Spec) -> Result<Option<Case>> {
    match *spec {
        Spec::GatherFilters { slices, height, slice_channels, row_units, filters } => {
            let rows = height * row_units;
            let filters = cut(slices, filters).into_iter().map(|slices| FilterSlices { slices, rows }).collect();
            let shape = Shape::new(slice_channels * row_units, height, slices, 1);
            gather_case(GatherFilters { slice_channels, row_units, filters }, shape).map(Some)
        }
        Spec::Weightnorm { filters, weights } => weightnorm_case(cut(weights, filters), weights).map(Some),
        _ => Ok(None),
    }
}

/// For each element of the result the one of x that it comes from: the formula of `ops/gather_filters`.
fn sources(config: &GatherFilters, shape: Shape) -> Vec<usize> {
    let mut sources = Vec::new();
    for filter in &config.filters {
        for row in 0..filter.rows {
            let (h, unit) = (row / config.row_units, row % config.row_units);
            for slice in filter.slices.clone() {
                let channels = (0..config.slice_channels).map(|i| unit * config.slice_channels + i);
                sources.extend(channels.map(|channel| (channel * shape.h + h) * shape.w + slice));
            }
        }
    }
    sources
}

fn gather_case(config: GatherFilters, shape: Shape) -> Result<Case> {
    let sources = sources(&config, shape);
    // Every slice belongs to one filter, every row is used: the gather is a permutation.
    let mut targets = vec![0; shape.len()];
    for (target, &source) in sources.iter().enumerate() {
        targets[source] = target;
    }
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => seen.at(0, sources[at]),
        Of::Gradient(_) => f64::from(seen.gy[targets[at]]),
    };
    let build =
        move |tape: &mut crate::tape::Tape<'_>, v: &[crate::tape::Var]| gather_filters(tape, v[0], config.clone());
    Ok(Case::new(vec![input(shape)], 1, build, reference)?.backward("backward", [(0, 1)], [], false))
}

fn weightnorm_case(ranges: Vec<Range<usize>>, weights: usize) -> Result<Case> {
    let (filters, longest) = (ranges.clone(), ranges.iter().map(Range::len).max().unwrap_or(0));
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| {
        let scale = |filter: usize| {
            let squares: f64 = filters[filter].clone().map(|i| seen.at(0, i).powi(2)).sum();
            squares.powf(-0.5)
        };
        match of {
            Of::Result => scale(at),
            Of::Gradient(_) => {
                let filter = filters.partition_point(|range| range.end <= at);
                -f64::from(seen.gy[filter]) * scale(filter).powi(3) * seen.at(0, at)
            }
        }
    };
    let case =
        Case::new(vec![parameter(weights)], longest, move |tape, v| weightnorm(tape, v[0], ranges.clone()), reference)?;
    Ok(case.backward("backward", [(0, longest)], [0], false))
}
