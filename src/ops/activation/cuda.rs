//! activation on the GPU.

use super::{Activation, LEAKY_SLOPE, OP};
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;

params! {
    struct ActivationParams {
        from: Address,
        y: Address,
        to: Address,
        len: u32,
        kind: u32,
        add: u32,
        slope: f32,
    }
}

/// y = f(x).
pub fn activation_forward(cuda: &mut Cuda, x: Span, y: Span, kind: Activation) -> Result<()> {
    let params = ActivationParams {
        from: cuda.address(x),
        y: Address::NULL,
        to: cuda.address(y),
        len: y.len as u32,
        kind: kind as u32,
        add: 0,
        slope: LEAKY_SLOPE,
    };
    cuda.launch(OP, "forward", Grid::elementwise(y.len), &params)
}

/// gx (+)= gy * f'(x), by way of y.
pub fn activation_backward(cuda: &mut Cuda, gy: Span, y: Span, gx: GradTarget, kind: Activation) -> Result<()> {
    let params = ActivationParams {
        from: cuda.address(gy),
        y: cuda.address(y),
        to: cuda.address(gx.span),
        len: y.len as u32,
        kind: kind as u32,
        add: gx.add.into(),
        slope: LEAKY_SLOPE,
    };
    cuda.launch(OP, "backward", Grid::elementwise(y.len), &params)
}
