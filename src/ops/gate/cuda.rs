//! gate on the GPU: one launch for each gradient that is wanted.

use super::{OP, Operand};
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;

params! {
    struct GateParams {
        a: Address,
        b: Address,
        gy: Address,
        to: Address,
        len: u32,
        of_b: u32,
        add: u32,
    }
}

/// y = tanh(a) * sigmoid(b).
pub fn gate_forward(cuda: &mut Cuda, a: Span, b: Span, y: Span) -> Result<()> {
    let params = GateParams {
        a: cuda.address(a),
        b: cuda.address(b),
        gy: Address::NULL,
        to: cuda.address(y),
        len: y.len as u32,
        of_b: 0,
        add: 0,
    };
    cuda.launch(OP, "forward", Grid::elementwise(y.len), &params)
}

/// The gradient of one operand, added to where `gx` says so.
pub fn gate_backward(cuda: &mut Cuda, gy: Span, [a, b]: [Span; 2], gx: GradTarget, of: Operand) -> Result<()> {
    let params = GateParams {
        a: cuda.address(a),
        b: cuda.address(b),
        gy: cuda.address(gy),
        to: cuda.address(gx.span),
        len: gy.len as u32,
        of_b: (of == Operand::B).into(),
        add: gx.add.into(),
    };
    cuda.launch(OP, "backward", Grid::elementwise(gy.len), &params)
}
