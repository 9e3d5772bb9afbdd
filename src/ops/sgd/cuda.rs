//! sgd on the GPU: one launch.

use super::{OP, Sgd};
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::backend::{Region, Span};
use crate::error::Result;

params! {
    struct SgdParams {
        w: Address,
        gradient: Address,
        velocity: Address,
        loss: Address,
        rate: Address,
        momentum: f32,
        decay: f32,
        undecayed: u32,
        len: u32,
    }
}

/// Moves velocity and parameters.
pub fn sgd(cuda: &mut Cuda, span: Span, config: Sgd, loss: Span) -> Result<()> {
    // What changes from step to step is uploaded, so that a captured step can be replayed.
    let rate = cuda.upload(&[config.lr])?;
    let params = SgdParams {
        w: cuda.address(span),
        gradient: cuda.address(span.in_region(Region::Grads)),
        velocity: cuda.address(span.in_region(Region::Moment1)),
        loss: cuda.address(loss),
        rate,
        momentum: config.momentum,
        decay: config.decay,
        undecayed: config.undecayed as u32,
        len: span.len as u32,
    };
    cuda.launch(OP, "update", Grid::elementwise(span.len), &params)
}
