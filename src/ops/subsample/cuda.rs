//! subsample on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;
use crate::tensor::{Shape, Tensor};

const THREADS: u32 = 256;

params! {
    struct SubsampleParams { from: Address, to: Address, len: u32, columns: u32, n_len: u32, add: u32 }
}

/// y = every second pixel of x.
pub fn subsample_forward(cuda: &mut Cuda, x: Span, y: Tensor) -> Result<()> {
    launch(cuda, "forward", x, GradTarget { span: y.span, add: false }, y.shape)
}

/// gx (+)= gy at every second pixel, 0 elsewhere; `shape` is that of gx.
pub fn subsample_backward(cuda: &mut Cuda, gy: Span, gx: GradTarget, shape: Shape) -> Result<()> {
    launch(cuda, "backward", gy, gx, shape)
}

fn launch(cuda: &mut Cuda, pass: &'static str, from: Span, to: GradTarget, written: Shape) -> Result<()> {
    let params = SubsampleParams {
        from: cuda.address(from),
        to: cuda.address(to.span),
        len: written.len() as u32,
        columns: written.w as u32,
        n_len: written.n as u32,
        add: to.add.into(),
    };
    cuda.launch(OP, pass, Grid::cover(written.len(), THREADS), &params)
}
