//! batchnorm on the GPU: one block per channel, one launch per pass.

use super::{Batchnorm, EPSILON, OP, Operands};
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, MAX_VIEWS, Targets, Views, params};
use crate::error::Result;
use crate::tape::GradTarget;

const THREADS: u32 = 512;

params! {
    struct BatchnormForwardParams {
        gamma: Address,
        beta: Address,
        running_mean: Address,
        running_var: Address,
        statistics: Address,
        y: Address,
        channels: i32,
        plane: i32,
        train: i32,
        slope: f32,
        epsilon: f32,
        momentum: f32,
        view_count: i32,
        first: [i32; MAX_VIEWS + 1],
        views: [Address; MAX_VIEWS],
    }
}

params! {
    struct BatchnormBackwardParams {
        gamma: Address,
        beta: Address,
        statistics: Address,
        gy: Address,
        ggamma: Address,
        gbeta: Address,
        channels: i32,
        plane: i32,
        train: i32,
        slope: f32,
        view_count: i32,
        first: [i32; MAX_VIEWS + 1],
        add: [u32; MAX_VIEWS / 32],
        views: [Address; MAX_VIEWS],
        targets: [Address; MAX_VIEWS],
    }
}

fn views(cuda: &Cuda, operands: &Operands) -> Result<Views> {
    Views::new(cuda, OP, operands.views.iter().map(|t| (t.span, t.shape.c)))
}

fn grid(operands: &Operands) -> Grid {
    Grid { blocks: [operands.y.shape.c as u32, 1, 1], threads: THREADS }
}

/// y = act(gamma * (x - mean) * rstd + beta); fills `statistics` with [mean, rstd].
pub fn batchnorm_forward(cuda: &mut Cuda, operands: &Operands, config: &Batchnorm) -> Result<()> {
    let (views, plane) = (views(cuda, operands)?, operands.y.shape.plane());
    let params = BatchnormForwardParams {
        gamma: cuda.address(operands.gamma),
        beta: cuda.address(operands.beta),
        running_mean: cuda.address(config.running[0]),
        running_var: cuda.address(config.running[1]),
        statistics: cuda.address(operands.statistics),
        y: cuda.address(operands.y.span),
        channels: operands.y.shape.c as i32,
        plane: plane as i32,
        train: config.momentum.is_some().into(),
        slope: config.slope.unwrap_or(1.0),
        epsilon: EPSILON,
        momentum: config.momentum.unwrap_or(0.0),
        view_count: views.count,
        first: views.first,
        views: views.data,
    };
    let wide = views.vector(plane).min(params.y.vector(plane)) == 4;
    cuda.launch(OP, if wide { "forward_v4" } else { "forward_v1" }, grid(operands), &params)
}

/// The gradients of gamma, beta and the views, where wanted.
pub fn batchnorm_backward(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Batchnorm,
    gy: Span,
    vectors: [Option<Span>; 2],
    targets: &[Option<GradTarget>],
) -> Result<()> {
    let (views, plane) = (views(cuda, operands)?, operands.y.shape.plane());
    let targets = Targets::new(cuda, targets.iter().map(|target| target.map(|t| (t.span, t.add))));
    let [ggamma, gbeta] = vectors.map(|span| span.map_or(Address::NULL, |span| cuda.address(span)));
    let params = BatchnormBackwardParams {
        gamma: cuda.address(operands.gamma),
        beta: cuda.address(operands.beta),
        statistics: cuda.address(operands.statistics),
        gy: cuda.address(gy),
        ggamma,
        gbeta,
        channels: operands.y.shape.c as i32,
        plane: plane as i32,
        train: config.momentum.is_some().into(),
        slope: config.slope.unwrap_or(1.0),
        view_count: views.count,
        first: views.first,
        add: targets.add,
        views: views.data,
        targets: targets.data,
    };
    let wide = views.vector(plane).min(targets.vector(plane)).min(params.gy.vector(plane)) == 4;
    cuda.launch(OP, if wide { "backward_v4" } else { "backward_v1" }, grid(operands), &params)
}
