//! weightnorm on the GPU: one block per filter, all filters in one launch.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use std::ops::Range;

/// Blocks that share a filter in the backward pass, which has nothing to sum.
const BLOCKS_PER_FILTER: u32 = 8;

params! {
    struct WeightnormForwardParams {
        w: Address,
        filters: Address,
        scale: Address,
    }
}

params! {
    struct WeightnormBackwardParams {
        w: Address,
        filters: Address,
        scale: Address,
        gscale: Address,
        gw: Address,
    }
}

/// Start and length of each filter.
fn upload(cuda: &mut Cuda, ranges: &[Range<usize>]) -> Result<Address> {
    let filters: Vec<[u32; 2]> = ranges.iter().map(|r| [r.start as u32, r.len() as u32]).collect();
    cuda.upload(&filters)
}

/// scale[i] = 1 / ||w[ranges[i]]||.
pub fn weightnorm_forward(cuda: &mut Cuda, w: Span, ranges: &[Range<usize>], scale: Span) -> Result<()> {
    let filters = upload(cuda, ranges)?;
    let params = WeightnormForwardParams { w: cuda.address(w), filters, scale: cuda.address(scale) };
    cuda.launch(OP, "forward", Grid { blocks: [ranges.len() as u32, 1, 1], threads: 512 }, &params)
}

/// gw += -gscale * scale^3 * w.
pub fn weightnorm_backward(
    cuda: &mut Cuda,
    w: Span,
    scale: Span,
    gscale: Span,
    ranges: &[Range<usize>],
    gw: Span,
) -> Result<()> {
    for run in disjoint_runs(ranges) {
        let filters = upload(cuda, &ranges[run.clone()])?;
        let params = WeightnormBackwardParams {
            w: cuda.address(w),
            filters,
            scale: cuda.address(scale.sub(run.start, run.len())),
            gscale: cuda.address(gscale.sub(run.start, run.len())),
            gw: cuda.address(gw),
        };
        let blocks = [run.len() as u32, BLOCKS_PER_FILTER, 1];
        cuda.launch(OP, "backward", Grid { blocks, threads: 256 }, &params)?;
    }
    Ok(())
}

/// Filters that follow one another and share no weights, whose gradients may be added to at once:
/// all of them in every network there is.
fn disjoint_runs(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut runs, mut first) = (Vec::new(), 0);
    for (i, range) in ranges.iter().enumerate() {
        if ranges[first..i].iter().any(|before| before.start < range.end && range.start < before.end) {
            runs.push(first..i);
            first = i;
        }
    }
    runs.push(first..ranges.len());
    runs
}
