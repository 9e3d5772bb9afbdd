//! pointwise on the CPU: the micro-kernels of conv2d with one tap and one row per plane.

use super::{Operands, Pointwise};
use crate::backend::cpu::{
    Correlation, Cpu, Direction, FilterGradient, OutChannel, PackedFilter, Planes, correlate, filter_gradient,
};
use crate::backend::{Claims, Span};
use crate::ops::scale_of;
use crate::tape::GradTarget;

fn pack<'a>(
    cpu: &Cpu,
    claims: &'a Claims<'_>,
    operands: &Operands,
    config: &Pointwise,
    direction: Direction,
    workspace: Span,
) -> PackedFilter<'a> {
    let scale = scale_of(claims, operands.scale.map(|t| t.span));
    let weights = claims.read(operands.w.span);
    PackedFilter::pack(cpu, config.filter, direction, weights, scale, claims.write(workspace))
}

/// The plane of every channel of every view, in order.
fn planes<'a>(claims: &'a Claims<'_>, operands: &Operands) -> Vec<&'a [f32]> {
    operands.views.iter().flat_map(|t| claims.read(t.span).chunks(t.shape.plane())).collect()
}

/// y = act(scale * w * f(x)).
pub fn pointwise_forward(
    cpu: &Cpu,
    claims: &Claims<'_>,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    y: &mut [f32],
) {
    let packed = pack(cpu, claims, operands, config, Direction::Forward, workspace);
    let channels = planes(claims, operands);
    let plane = operands.views[0].shape.plane();
    let input = Correlation { planes: Planes::pixels(plane, &channels, config.relu), filter: &packed };
    let outputs = y.chunks_mut(plane).map(|data| OutChannel { data, add: false, gate: None }).collect();
    correlate(cpu, &input, outputs, config.slope);
}

/// gx[c] (+)= f'(x[c]) * scale * sum over k of w[k][c] * gy[k], for every view.
pub fn pointwise_backward_data(
    cpu: &Cpu,
    claims: &Claims<'_>,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    gy: &[f32],
    targets: &[GradTarget],
) {
    let packed = pack(cpu, claims, operands, config, Direction::Backward, workspace);
    let plane = operands.views[0].shape.plane();
    let channels: Vec<&[f32]> = gy.chunks(plane).collect();
    let mut outputs = Vec::with_capacity(config.filter.inputs());
    for (view, target) in operands.views.iter().zip(targets) {
        let x = claims.read(view.span).chunks(plane);
        let gx = claims.write(target.span).chunks_mut(plane);
        let gated = x.zip(gx).map(|(x, data)| OutChannel { data, add: target.add, gate: config.relu.then_some(x) });
        outputs.extend(gated);
    }
    let input = Correlation { planes: Planes::pixels(plane, &channels, false), filter: &packed };
    correlate(cpu, &input, outputs, None);
}

/// gw += scale * gy * f(x); returns the gradient of `scale`.
pub fn pointwise_backward_weight(
    cpu: &Cpu,
    claims: &Claims<'_>,
    operands: &Operands,
    config: &Pointwise,
    workspace: Span,
    gy: &[f32],
    gw: &mut [f32],
) -> f32 {
    let channels = planes(claims, operands);
    let planes = Planes::pixels(operands.views[0].shape.plane(), &channels, config.relu);
    let scale = scale_of(claims, operands.scale.map(|t| t.span));
    let job = FilterGradient { planes, gy, gy_pitch: planes.plane(), filter: config.filter, scale };
    filter_gradient(cpu, &job, claims.read(operands.w.span), gw, claims.write(workspace))
}
