//! conv2d on the CPU: three calls of the micro-kernels of `backend::cpu`.

use super::Conv2d;
use crate::backend::cpu::{
    Correlation, Cpu, Direction, FilterGradient, OutChannel, PackedFilter, Planes, correlate, filter_gradient,
};
use crate::backend::{Claims, Span};
use crate::ops::scale_of;
use crate::tensor::{Shape, Tensor};

/// Where the operands of one pass lie.
pub struct Operands<'a> {
    /// The memory.
    pub claims: &'a Claims<'a>,
    /// Input [C, H, W, N].
    pub x: Tensor,
    /// Stored filter.
    pub w: Tensor,
    /// Scale factor, one number.
    pub scale: Option<Span>,
    /// Workspace of the pass.
    pub workspace: Span,
}

impl Operands<'_> {
    fn pack(&self, cpu: &Cpu, config: &Conv2d, direction: Direction) -> PackedFilter<'_> {
        PackedFilter::pack(
            cpu,
            config.filter,
            direction,
            self.claims.read(self.w.span),
            scale_of(self.claims, self.scale),
            self.claims.write(self.workspace),
        )
    }
}

/// Planes of `shape` as the kernels take them.
fn planes<'a>(shape: Shape, config: &Conv2d, channels: &'a [&'a [f32]]) -> Planes<'a> {
    let (rows, row_len, pixel) = (shape.h, shape.w * shape.n, shape.n);
    Planes { rows, row_len, pixel, dilation: config.dilation, channels, relu: false }
}

/// y = act(scale * w * x), or y += scale * w * x.
pub fn conv2d_forward(cpu: &Cpu, operands: &Operands<'_>, config: &Conv2d, y: &mut [f32], add: bool) {
    let shape = operands.x.shape;
    let packed = operands.pack(cpu, config, Direction::Forward);
    let channels: Vec<&[f32]> = operands.claims.read(operands.x.span).chunks(shape.plane()).collect();
    let outputs = y.chunks_mut(shape.plane()).map(|data| OutChannel { data, add, gate: None }).collect();
    let input = Correlation { planes: planes(shape, config, &channels), filter: &packed };
    correlate(cpu, &input, outputs, config.slope);
}

/// gx (+)= scale * mirrored w * gy.
pub fn conv2d_backward_data(
    cpu: &Cpu,
    operands: &Operands<'_>,
    config: &Conv2d,
    gy: &[f32],
    gx: &mut [f32],
    add: bool,
) {
    let shape = operands.x.shape;
    let packed = operands.pack(cpu, config, Direction::Backward);
    let channels: Vec<&[f32]> = gy.chunks(shape.plane()).collect();
    let outputs = gx.chunks_mut(shape.plane()).map(|data| OutChannel { data, add, gate: None }).collect();
    let input = Correlation { planes: planes(shape, config, &channels), filter: &packed };
    correlate(cpu, &input, outputs, None);
}

/// gw += scale * gy * x in the filter's window; returns the gradient of `scale`.
pub fn conv2d_backward_weight(cpu: &Cpu, operands: &Operands<'_>, config: &Conv2d, gy: &[f32], gw: &mut [f32]) -> f32 {
    let shape = operands.x.shape;
    let channels: Vec<&[f32]> = operands.claims.read(operands.x.span).chunks(shape.plane()).collect();
    let scale = scale_of(operands.claims, operands.scale);
    let job = FilterGradient {
        planes: planes(shape, config, &channels),
        gy,
        gy_pitch: shape.plane(),
        filter: config.filter,
        scale,
    };
    let weights = operands.claims.read(operands.w.span);
    filter_gradient(cpu, &job, weights, gw, operands.claims.write(operands.workspace))
}
