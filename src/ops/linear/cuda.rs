//! linear on the GPU: sums over channels in parts of a block, sums over the batch in warps.

use super::{OP, Operands};
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;

const THREADS: u32 = 256;
/// Lanes of a warp, and warps of a block.
const LANES: usize = 32;
const WARPS: usize = 8;

params! {
    struct LinearForwardParams {
        x: Address,
        w: Address,
        b: Address,
        y: Address,
        channels: i32,
        stored: i32,
        batch: i32,
    }
}

params! {
    struct LinearBackwardParams {
        x: Address,
        w: Address,
        gy: Address,
        out: Address,
        channels: i32,
        stored: i32,
        classes: i32,
        batch: i32,
        add: i32,
    }
}

/// y = w x + b.
pub fn linear_forward(cuda: &mut Cuda, operands: &Operands, b: Span, y: Span) -> Result<()> {
    let params = LinearForwardParams {
        x: cuda.address(operands.x),
        w: cuda.address(operands.w),
        b: cuda.address(b),
        y: cuda.address(y),
        channels: operands.channels as i32,
        stored: operands.stored as i32,
        batch: operands.batch as i32,
    };
    let blocks = [operands.classes as u32, operands.batch.div_ceil(LANES) as u32, 1];
    cuda.launch(OP, "forward", Grid { blocks, threads: THREADS }, &params)
}

fn backward_params(cuda: &Cuda, operands: &Operands, gy: Span, out: GradTarget) -> LinearBackwardParams {
    LinearBackwardParams {
        x: cuda.address(operands.x),
        w: cuda.address(operands.w),
        gy: cuda.address(gy),
        out: cuda.address(out.span),
        channels: operands.channels as i32,
        stored: operands.stored as i32,
        classes: operands.classes as i32,
        batch: operands.batch as i32,
        add: out.add.into(),
    }
}

/// gw += gy x^T.
pub fn linear_backward_weight(cuda: &mut Cuda, operands: &Operands, gy: Span, gw: Span) -> Result<()> {
    let params = backward_params(cuda, operands, gy, GradTarget { span: gw, add: true });
    let blocks = [(operands.classes * operands.channels).div_ceil(WARPS) as u32, 1, 1];
    cuda.launch(OP, "backward_weight", Grid { blocks, threads: THREADS }, &params)
}

/// gb += the sums of gy over the batch.
pub fn linear_backward_bias(cuda: &mut Cuda, operands: &Operands, gy: Span, gb: Span) -> Result<()> {
    let params = backward_params(cuda, operands, gy, GradTarget { span: gb, add: true });
    let blocks = [operands.classes.div_ceil(WARPS) as u32, 1, 1];
    cuda.launch(OP, "backward_bias", Grid { blocks, threads: THREADS }, &params)
}

/// gx (+)= w^T gy.
pub fn linear_backward_data(cuda: &mut Cuda, operands: &Operands, gy: Span, gx: GradTarget) -> Result<()> {
    let params = backward_params(cuda, operands, gy, gx);
    cuda.launch(OP, "backward_data", Grid::cover(gx.span.len, THREADS), &params)
}
