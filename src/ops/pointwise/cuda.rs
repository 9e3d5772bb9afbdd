//! pointwise on the GPU: views are read and written in place, found through a table in the
//! parameters of the kernel.

use super::{OP, Operands, Pointwise};
use crate::backend::Span;
use crate::backend::cpu::{Direction, Filter};
use crate::backend::cuda::{
    Address, Correlation, Cuda, FilterGradient, FilterTarget, MAX_VIEWS, Pass, Targets, Views, add_parts,
    correlate_pass, pack, params,
};
use crate::error::Result;
use crate::tape::GradTarget;

params! {
    struct PointwiseParams {
        filter: Address, y: Address, parts: Address, plane: i32, rows: i32, depth: i32, part_count: i32, relu: i32,
        slope: f32, view_count: i32, first: [i32; MAX_VIEWS + 1], views: [Address; MAX_VIEWS],
    }
}

params! {
    struct PointwiseDataParams {
        gy: Address, filter: Address, parts: Address, plane: i32, rows: i32, depth: i32, part_count: i32, relu: i32,
        view_count: i32, first: [i32; MAX_VIEWS + 1], add: [u32; MAX_VIEWS / 32], views: [Address; MAX_VIEWS],
        targets: [Address; MAX_VIEWS],
    }
}

params! {
    struct PointwiseWeightParams {
        gy: Address, parts: Address, plane: i32, out_len: i32, in_len: i32, part_count: i32, relu: i32,
        view_count: i32, first: [i32; MAX_VIEWS + 1], views: [Address; MAX_VIEWS],
    }
}

const FORWARD: Pass = correlate_pass!("forward");
const BACKWARD_DATA: Pass = correlate_pass!("backward_data");

/// Workspace of the forward pass or the data gradient.
pub fn workspace(filter: Filter, direction: Direction, plane: usize) -> usize {
    Correlation { filter, direction, plane }.workspace()
}

/// Workspace of the weight gradient.
pub fn weight_workspace(filter: Filter, plane: usize) -> usize {
    FilterGradient { filter, plane }.workspace()
}

fn views(cuda: &Cuda, operands: &Operands) -> Result<(Views, usize)> {
    let views = Views::new(cuda, OP, operands.views.iter().map(|t| (t.span, t.shape.c)))?;
    Ok((views, operands.views[0].shape.plane()))
}

/// y = act(scale * w * f(x)).
pub fn pointwise_forward(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    y: Span,
) -> Result<()> {
    let (views, plane) = views(cuda, operands)?;
    let job = Correlation { filter: config.filter, direction: Direction::Forward, plane };
    let scale = operands.scale.map(|t| t.span);
    pack(cuda, (OP, FORWARD.pack), &job, operands.w.span, scale, workspace)?;
    let (y, filter) = (cuda.address(y), cuda.address(workspace));
    let chosen = job.choose(cuda, &FORWARD, views.vector(plane).min(y.vector(plane)));
    let params = PointwiseParams {
        filter,
        y,
        parts: filter.offset(job.packed_len()),
        plane: plane as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        part_count: chosen.part_count as i32,
        relu: config.relu.into(),
        slope: config.slope.unwrap_or(1.0),
        view_count: views.count,
        first: views.first,
        views: views.data,
    };
    job.launch(cuda, OP, &FORWARD, &chosen, &params)
}

/// gx[c] (+)= f'(x[c]) * scale * sum over k of w[k][c] * gy[k], for every view.
pub fn pointwise_backward_data(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    gy: Span,
    targets: &[GradTarget],
) -> Result<()> {
    let (views, plane) = views(cuda, operands)?;
    let job = Correlation { filter: config.filter, direction: Direction::Backward, plane };
    let scale = operands.scale.map(|t| t.span);
    pack(cuda, (OP, BACKWARD_DATA.pack), &job, operands.w.span, scale, workspace)?;
    let (gy, filter) = (cuda.address(gy), cuda.address(workspace));
    let targets = Targets::new(cuda, targets.iter().map(|t| Some((t.span, t.add))));
    let vector = views.vector(plane).min(targets.vector(plane)).min(gy.vector(plane));
    let chosen = job.choose(cuda, &BACKWARD_DATA, vector);
    let params = PointwiseDataParams {
        gy,
        filter,
        parts: filter.offset(job.packed_len()),
        plane: plane as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        part_count: chosen.part_count as i32,
        relu: config.relu.into(),
        view_count: views.count,
        first: views.first,
        add: targets.add,
        views: views.data,
        targets: targets.data,
    };
    job.launch(cuda, OP, &BACKWARD_DATA, &chosen, &params)
}

/// gw += scale * gy * f(x); gscale += the gradient of `scale`.
pub fn pointwise_backward_weight(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    gy: Span,
    target: &FilterTarget,
) -> Result<()> {
    let (views, plane) = views(cuda, operands)?;
    let job = FilterGradient { filter: config.filter, plane };
    let gy = cuda.address(gy);
    let (name, grid) = job.choose(cuda, views.vector(plane).min(gy.vector(plane)));
    let params = PointwiseWeightParams {
        gy,
        parts: cuda.address(workspace),
        plane: plane as i32,
        out_len: config.filter.out_len as i32,
        in_len: config.filter.in_len as i32,
        part_count: job.parts() as i32,
        relu: config.relu.into(),
        view_count: views.count,
        first: views.first,
        views: views.data,
    };
    cuda.launch(OP, name, grid, &params)?;
    add_parts(cuda, OP, &job, target, workspace)
}
