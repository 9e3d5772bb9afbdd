//! gather_filters on the GPU: one thread per number written, with the table of filters uploaded.

use super::{GatherFilters, OP};
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tensor::Shape;

const THREADS: u32 = 256;

params! {
    struct GatherFiltersParams {
        from: Address,
        to: Address,
        filters: Address,
        filter_count: u32,
        slice_channels: u32,
        row_units: u32,
        height: u32,
        width: u32,
        len: u32,
    }
}

fn launch(
    cuda: &mut Cuda,
    pass: &'static str,
    config: &GatherFilters,
    shape: Shape,
    from: Span,
    to: Span,
) -> Result<()> {
    // Start in the output, rows, first slice, slices.
    let place = |(filter, range): (&super::FilterSlices, std::ops::Range<usize>)| {
        [range.start, filter.rows, filter.slices.start, filter.slices.len()].map(|v| v as u32)
    };
    let places: Vec<[u32; 4]> = config.filters.iter().zip(config.ranges()).map(place).collect();
    let params = GatherFiltersParams {
        from: cuda.address(from),
        to: cuda.address(to),
        filters: cuda.upload(&places)?,
        filter_count: places.len() as u32,
        slice_channels: config.slice_channels as u32,
        row_units: config.row_units as u32,
        height: shape.h as u32,
        width: shape.w as u32,
        len: to.len as u32,
    };
    cuda.launch(OP, pass, Grid::cover(to.len, THREADS), &params)
}

/// y = the weights of x that the filters take; `shape` is that of x.
pub fn gather_forward(cuda: &mut Cuda, config: &GatherFilters, shape: Shape, x: Span, y: Span) -> Result<()> {
    launch(cuda, "forward", config, shape, x, y)
}

/// gx += the gradients of the weights of x, wherever they were taken.
pub fn gather_backward(cuda: &mut Cuda, config: &GatherFilters, shape: Shape, gy: Span, gx: Span) -> Result<()> {
    launch(cuda, "backward", config, shape, gy, gx)
}
