//! avg_pool on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;
use crate::tensor::{Shape, Tensor};

const THREADS: u32 = 256;

params! {
    struct AvgPoolParams { from: Address, to: Address, len: u32, rows: u32, columns: u32, n_len: u32, slices: u32, add: u32 }
}

/// y = means of the windows of x, of `slices` slices.
pub fn avg_pool_forward(cuda: &mut Cuda, x: Span, y: Tensor, slices: usize) -> Result<()> {
    launch(cuda, "forward", x, GradTarget { span: y.span, add: false }, y.shape, slices)
}

/// gx (+)= gy over the size of a window; `shape` is that of gy.
pub fn avg_pool_backward(cuda: &mut Cuda, gy: Span, gx: GradTarget, shape: Shape, slices: usize) -> Result<()> {
    launch(cuda, "backward", gy, gx, shape, slices)
}

fn launch(cuda: &mut Cuda, pass: &'static str, from: Span, to: GradTarget, shape: Shape, slices: usize) -> Result<()> {
    let params = AvgPoolParams {
        from: cuda.address(from),
        to: cuda.address(to.span),
        len: shape.len() as u32,
        rows: shape.h as u32,
        columns: shape.w as u32,
        n_len: shape.n as u32,
        slices: slices as u32,
        add: to.add.into(),
    };
    cuda.launch(OP, pass, Grid::cover(shape.len(), THREADS), &params)
}
