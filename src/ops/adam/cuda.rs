//! adam on the GPU: one launch.

use super::{Adam, OP};
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::backend::{Region, Span};
use crate::error::Result;

params! {
    struct AdamParams {
        w: Address,
        gradient: Address,
        first: Address,
        second: Address,
        loss: Address,
        rates: Address,
        beta1: f32,
        beta2: f32,
        epsilon: f32,
        decay: f32,
        undecayed: u32,
        len: u32,
    }
}

/// Moves moments and parameters.
pub fn adam(cuda: &mut Cuda, span: Span, config: Adam, loss: Span) -> Result<()> {
    let [c1, c2] = config.corrections();
    // What changes from step to step is uploaded, so that a captured step can be replayed.
    let rates = cuda.upload(&[config.lr, c1, c2])?;
    let params = AdamParams {
        w: cuda.address(span),
        gradient: cuda.address(span.in_region(Region::Grads)),
        first: cuda.address(span.in_region(Region::Moment1)),
        second: cuda.address(span.in_region(Region::Moment2)),
        loss: cuda.address(loss),
        rates,
        beta1: config.beta1,
        beta2: config.beta2,
        epsilon: config.epsilon,
        decay: config.decay,
        undecayed: config.undecayed as u32,
        len: span.len as u32,
    };
    cuda.launch(OP, "update", Grid::elementwise(span.len), &params)
}
