//! cross_entropy on the GPU: one thread per image; one block forward, which sums over the batch.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;
use crate::tape::GradTarget;
use crate::tensor::Tensor;

params! {
    struct CrossEntropyForwardParams {
        x: Address,
        labels: Address,
        result: Address,
        classes: i32,
        batch: i32,
    }
}

params! {
    struct CrossEntropyBackwardParams {
        x: Address,
        labels: Address,
        gloss: Address,
        gx: Address,
        classes: i32,
        batch: i32,
        add: i32,
    }
}

/// result = [mean loss, errors, errors of the five best].
pub fn cross_entropy_forward(cuda: &mut Cuda, x: Tensor, labels: &[u16], result: Span) -> Result<()> {
    let params = CrossEntropyForwardParams {
        x: cuda.address(x.span),
        labels: cuda.upload(labels)?,
        result: cuda.address(result),
        classes: x.shape.c as i32,
        batch: x.shape.n as i32,
    };
    cuda.launch(OP, "forward", Grid { blocks: [1, 1, 1], threads: 256 }, &params)
}

/// gx (+)= gloss / N * (softmax - one-hot).
pub fn cross_entropy_backward(cuda: &mut Cuda, x: Tensor, labels: &[u16], gloss: Span, gx: GradTarget) -> Result<()> {
    let params = CrossEntropyBackwardParams {
        x: cuda.address(x.span),
        labels: cuda.upload(labels)?,
        gloss: cuda.address(gloss),
        gx: cuda.address(gx.span),
        classes: x.shape.c as i32,
        batch: x.shape.n as i32,
        add: gx.add.into(),
    };
    cuda.launch(OP, "backward", Grid::cover(x.shape.n, 64), &params)
}
