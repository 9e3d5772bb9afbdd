//! max_pool on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;
use crate::tensor::{Shape, Tensor};

const THREADS: u32 = 256;

params! {
    struct MaxPoolParams { x: Address, from: Address, to: Address, len: u32, columns: u32, n_len: u32, add: u32 }
}

/// y = maxima of the windows of x.
pub fn max_pool_forward(cuda: &mut Cuda, x: Span, y: Tensor) -> Result<()> {
    launch(cuda, "forward", [x, x], GradTarget { span: y.span, add: false }, y.shape)
}

/// gx (+)= gy where x is the first maximum of its window, 0 elsewhere; `shape` is that of gy.
pub fn max_pool_backward(cuda: &mut Cuda, x: Span, gy: Span, gx: GradTarget, shape: Shape) -> Result<()> {
    launch(cuda, "backward", [x, gy], gx, shape)
}

fn launch(cuda: &mut Cuda, pass: &'static str, [x, from]: [Span; 2], to: GradTarget, shape: Shape) -> Result<()> {
    let params = MaxPoolParams {
        x: cuda.address(x),
        from: cuda.address(from),
        to: cuda.address(to.span),
        len: shape.len() as u32,
        columns: shape.w as u32,
        n_len: shape.n as u32,
        add: to.add.into(),
    };
    cuda.launch(OP, pass, Grid::cover(shape.len(), THREADS), &params)
}
