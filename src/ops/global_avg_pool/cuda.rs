//! global_avg_pool on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;
use crate::tensor::Shape;

const THREADS: u32 = 128;

params! {
    struct GlobalAvgPoolParams { from: Address, to: Address, len: u32, pixels: u32, n_len: u32, add: u32 }
}

/// y = means over the pixels of x; `shape` is that of x.
pub fn global_avg_pool_forward(cuda: &mut Cuda, x: Span, y: Span, shape: Shape) -> Result<()> {
    launch(cuda, "forward", x, GradTarget { span: y, add: false }, shape)
}

/// gx (+)= gy / pixels; `shape` is that of gx.
pub fn global_avg_pool_backward(cuda: &mut Cuda, gy: Span, gx: GradTarget, shape: Shape) -> Result<()> {
    launch(cuda, "backward", gy, gx, shape)
}

fn launch(cuda: &mut Cuda, pass: &'static str, from: Span, to: GradTarget, shape: Shape) -> Result<()> {
    let params = GlobalAvgPoolParams {
        from: cuda.address(from),
        to: cuda.address(to.span),
        len: to.span.len as u32,
        pixels: shape.pixels() as u32,
        n_len: shape.n as u32,
        add: to.add.into(),
    };
    cuda.launch(OP, pass, Grid::cover(to.span.len, THREADS), &params)
}
