//! conv3d on the GPU.

use super::{Conv3d, OP};
use crate::backend::Span;
use crate::backend::cpu::Direction;
use crate::backend::cuda::{
    Address, Correlation, Cuda, FilterGradient, FilterTarget, Pass, add_parts, correlate_pass, pack, params,
};
use crate::error::Result;
pub use crate::ops::conv2d::cuda::Operands;
use crate::tape::GradTarget;
use crate::tensor::{Shape, Tensor};

params! {
    struct Conv3dParams {
        x: Address, filter: Address, y: Address, parts: Address, slices: i32, height: i32, width: i32, batch: i32,
        kernel_d: i32, kernel_h: i32, kernel_w: i32, dilation_d: i32, dilation_h: i32, dilation_w: i32, groups: i32,
        rows: i32, depth: i32, part_count: i32, add: i32, slope: f32,
    }
}

params! {
    struct Conv3dWeightParams {
        x: Address, gy: Address, parts: Address, slices: i32, height: i32, width: i32, batch: i32, kernel_d: i32,
        kernel_h: i32, kernel_w: i32, dilation_d: i32, dilation_h: i32, dilation_w: i32, groups: i32, out_len: i32,
        in_len: i32, part_count: i32,
    }
}

const FORWARD: Pass = correlate_pass!("forward");
const BACKWARD_DATA: Pass = correlate_pass!("backward_data");

/// Workspace of the forward pass or the data gradient; `shape` is that of x.
pub fn workspace(config: &Conv3d, direction: Direction, shape: Shape) -> usize {
    correlation(config, direction, shape).workspace()
}

/// Workspace of the weight gradient; `shape` is that of x.
pub fn weight_workspace(config: &Conv3d, shape: Shape) -> usize {
    FilterGradient { filter: config.filter, plane: shape.plane() }.workspace()
}

fn correlation(config: &Conv3d, direction: Direction, shape: Shape) -> Correlation {
    Correlation { filter: config.filter, direction, plane: shape.plane() }
}

/// y = act(scale * w * x), or y += scale * w * x.
pub fn conv3d_forward(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Conv3d,
    x: Tensor,
    y: Span,
    add: bool,
) -> Result<()> {
    let job = correlation(config, Direction::Forward, x.shape);
    let planes = Planes { shape: x.shape, from: x.span, to: GradTarget { span: y, add } };
    run(cuda, &FORWARD, &job, operands, config, &planes, config.slope.unwrap_or(1.0))
}

/// gx (+)= scale * mirrored w * gy; `shape` is that of gx.
pub fn conv3d_backward_data(
    cuda: &mut Cuda,
    operands: &Operands,
    config: &Conv3d,
    gy: Span,
    shape: Shape,
    gx: GradTarget,
) -> Result<()> {
    let job = correlation(config, Direction::Backward, shape);
    run(cuda, &BACKWARD_DATA, &job, operands, config, &Planes { shape, from: gy, to: gx }, 1.0)
}

/// What a correlation reads and writes: planes of the extent of `shape`.
struct Planes {
    shape: Shape,
    from: Span,
    to: GradTarget,
}

fn run(
    cuda: &mut Cuda,
    pass: &Pass,
    job: &Correlation,
    operands: &Operands,
    config: &Conv3d,
    planes: &Planes,
    slope: f32,
) -> Result<()> {
    pack(cuda, (OP, pass.pack), job, operands.w, operands.scale, operands.workspace)?;
    let (shape, to) = (planes.shape, planes.to);
    let (x, y, filter) = (cuda.address(planes.from), cuda.address(to.span), cuda.address(operands.workspace));
    let chosen = job.choose(cuda, pass, x.vector(shape.n).min(y.vector(shape.n)));
    let params = Conv3dParams {
        x,
        filter,
        y,
        parts: filter.offset(job.packed_len()),
        slices: shape.d as i32,
        height: shape.h as i32,
        width: shape.w as i32,
        batch: shape.n as i32,
        kernel_d: config.layers as i32,
        kernel_h: config.layer(0).kernel[0] as i32,
        kernel_w: config.filter.kernel[1] as i32,
        dilation_d: config.dilation[0] as i32,
        dilation_h: config.dilation[1] as i32,
        dilation_w: config.dilation[2] as i32,
        groups: config.filter.groups as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        part_count: chosen.part_count as i32,
        add: to.add.into(),
        slope,
    };
    job.launch(cuda, OP, pass, &chosen, &params)
}

/// gw += scale * gy * x in the filter's window; gscale += the gradient of `scale`.
pub fn conv3d_backward_weight(
    cuda: &mut Cuda,
    config: &Conv3d,
    x: Tensor,
    gy: Span,
    target: &FilterTarget,
    workspace: Span,
) -> Result<()> {
    let job = FilterGradient { filter: config.filter, plane: x.shape.plane() };
    let (from, gy, parts) = (cuda.address(x.span), cuda.address(gy), cuda.address(workspace));
    let (name, grid) = job.choose(cuda, from.vector(x.shape.n).min(gy.vector(x.shape.n)));
    let params = Conv3dWeightParams {
        x: from,
        gy,
        parts,
        slices: x.shape.d as i32,
        height: x.shape.h as i32,
        width: x.shape.w as i32,
        batch: x.shape.n as i32,
        kernel_d: config.layers as i32,
        kernel_h: config.layer(0).kernel[0] as i32,
        kernel_w: config.filter.kernel[1] as i32,
        dilation_d: config.dilation[0] as i32,
        dilation_h: config.dilation[1] as i32,
        dilation_w: config.dilation[2] as i32,
        groups: config.filter.groups as i32,
        out_len: config.filter.out_len as i32,
        in_len: config.filter.in_len as i32,
        part_count: job.parts() as i32,
    };
    cuda.launch(OP, name, grid, &params)?;
    add_parts(cuda, OP, &job, target, workspace)
}
