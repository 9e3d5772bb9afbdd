//! pointwise on the GPU: views are read and written in place, found through a table in the
//! parameters of the kernel.

use super::{OP, Operands, Pointwise};
use crate::backend::Span;
use crate::backend::cpu::{Direction, Filter};
use crate::backend::cuda::{
    Address, Correlation, Cuda, FilterGradient, FilterTarget, Grid, Names, add_parts, correlate_names, pack, params,
};
use crate::error::Result;
use crate::tape::GradTarget;

/// Views that a kernel takes: its parameters have 4 KiB.
pub const MAX_VIEWS: usize = 128;
/// Words of one bit per view.
const WORDS: usize = MAX_VIEWS / 32;

params! {
    struct PointwiseParams {
        filter: Address, y: Address, parts: Address, plane: i32, rows: i32, depth: i32, part_count: i32, relu: i32,
        slope: f32, view_count: i32, first: [i32; MAX_VIEWS + 1], views: [Address; MAX_VIEWS],
    }
}

params! {
    struct PointwiseDataParams {
        gy: Address, filter: Address, parts: Address, plane: i32, rows: i32, depth: i32, part_count: i32, relu: i32,
        view_count: i32, first: [i32; MAX_VIEWS + 1], add: [u32; WORDS], views: [Address; MAX_VIEWS],
        targets: [Address; MAX_VIEWS],
    }
}

params! {
    struct PointwiseWeightParams {
        gy: Address, parts: Address, plane: i32, out_len: i32, in_len: i32, part_count: i32, relu: i32,
        view_count: i32, first: [i32; MAX_VIEWS + 1], views: [Address; MAX_VIEWS],
    }
}

const FORWARD: Names = correlate_names!("forward");
const BACKWARD_DATA: Names = correlate_names!("backward_data");

/// Workspace of the forward pass or the data gradient.
pub fn workspace(filter: Filter, direction: Direction, plane: usize) -> usize {
    Correlation { filter, direction, plane }.workspace()
}

/// Workspace of the weight gradient.
pub fn weight_workspace(filter: Filter, plane: usize) -> usize {
    FilterGradient { filter, plane }.workspace()
}

/// The views as kernels take them.
struct Views {
    count: i32,
    first: [i32; MAX_VIEWS + 1],
    data: [Address; MAX_VIEWS],
    plane: usize,
    /// Floats per load that all of them allow.
    vector: usize,
}

impl Views {
    fn new(cuda: &Cuda, operands: &Operands) -> Self {
        let plane = operands.views[0].shape.plane();
        let count = operands.views.len() as i32;
        let mut views = Self { count, first: [0; MAX_VIEWS + 1], data: [Address::NULL; MAX_VIEWS], plane, vector: 4 };
        for (i, view) in operands.views.iter().enumerate() {
            views.data[i] = cuda.address(view.span);
            views.first[i + 1] = views.first[i] + view.shape.c as i32;
            views.vector = views.vector.min(views.data[i].vector(plane));
        }
        views
    }
}

/// y = act(scale * w * f(x)).
pub fn pointwise_forward(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    y: Span,
) -> Result<()> {
    let views = Views::new(cuda, operands);
    let job = Correlation { filter: config.filter, direction: Direction::Forward, plane: views.plane };
    let scale = operands.scale.map(|t| t.span);
    pack(cuda, (OP, "forward_pack"), &job, operands.w.span, scale, workspace)?;
    let (y, filter) = (cuda.address(y), cuda.address(workspace));
    let chosen = job.choose(cuda, &FORWARD, views.vector.min(y.vector(views.plane)));
    let params = PointwiseParams {
        filter,
        y,
        parts: filter.offset(job.packed_len()),
        plane: views.plane as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        part_count: chosen.part_count as i32,
        relu: config.relu.into(),
        slope: config.slope.unwrap_or(1.0),
        view_count: views.count,
        first: views.first,
        views: views.data,
    };
    cuda.launch(OP, chosen.name, chosen.grid, &params)?;
    if chosen.part_count > 1 {
        cuda.launch(OP, "forward_reduce", Grid::cover(job.result_len(), 256), &params)?;
    }
    Ok(())
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
    let views = Views::new(cuda, operands);
    let job = Correlation { filter: config.filter, direction: Direction::Backward, plane: views.plane };
    let scale = operands.scale.map(|t| t.span);
    pack(cuda, (OP, "backward_data_pack"), &job, operands.w.span, scale, workspace)?;
    let (gy, filter) = (cuda.address(gy), cuda.address(workspace));
    let (mut to, mut add) = ([Address::NULL; MAX_VIEWS], [0; WORDS]);
    let mut vector = views.vector.min(gy.vector(views.plane));
    for (i, target) in targets.iter().enumerate() {
        to[i] = cuda.address(target.span);
        add[i / 32] |= u32::from(target.add) << (i % 32);
        vector = vector.min(to[i].vector(views.plane));
    }
    let chosen = job.choose(cuda, &BACKWARD_DATA, vector);
    let params = PointwiseDataParams {
        gy,
        filter,
        parts: filter.offset(job.packed_len()),
        plane: views.plane as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        part_count: chosen.part_count as i32,
        relu: config.relu.into(),
        view_count: views.count,
        first: views.first,
        add,
        views: views.data,
        targets: to,
    };
    cuda.launch(OP, chosen.name, chosen.grid, &params)?;
    if chosen.part_count > 1 {
        cuda.launch(OP, "backward_data_reduce", Grid::cover(job.result_len(), 256), &params)?;
    }
    Ok(())
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
    let views = Views::new(cuda, operands);
    let job = FilterGradient { filter: config.filter, plane: views.plane };
    let gy = cuda.address(gy);
    let (name, grid) = job.choose(cuda, views.vector.min(gy.vector(views.plane)));
    let params = PointwiseWeightParams {
        gy,
        parts: cuda.address(workspace),
        plane: views.plane as i32,
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
