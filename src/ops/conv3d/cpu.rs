//! conv3d on the CPU: for each layer of the filter a 2-D convolution from slice to slice, by the micro-kernels of
//! `backend::cpu`. Layer t leads from slice z of the output to slice z + (t - T/2) * dilation of the input; where that
//! lies outside of the volume, there is nothing to add. The layers are added in order.

use super::Conv3d;
use crate::backend::cpu::{
    Correlation, Cpu, Direction, FilterGradient, OutChannel, PackedFilter, Planes, correlate, filter_gradient,
};
pub use crate::ops::conv2d::cpu::Operands;
use crate::ops::scale_of;
use crate::tensor::Shape;

/// Workspace in f32 of the forward pass or the data gradient: all layers, packed.
pub fn workspace(config: &Conv3d, direction: Direction) -> usize {
    config.layers * PackedFilter::workspace(config.layer(0), direction)
}

/// All layers of the filter, packed.
fn pack<'a>(cpu: &Cpu, operands: &Operands<'a>, config: &Conv3d, direction: Direction) -> Vec<PackedFilter<'a>> {
    let (claims, workspace) = (operands.claims, operands.workspace);
    let (weights, scale) = (claims.read(operands.w.span), scale_of(claims, operands.scale));
    let layers = claims.write(workspace).chunks_mut(PackedFilter::workspace(config.layer(0), direction));
    let pack = |(t, place)| PackedFilter::pack(cpu, config.layer(t), direction, weights, scale, place);
    layers.take(config.layers).enumerate().map(pack).collect()
}

/// The slice of the input that layer `t` leads to from slice `z` of the output, and the other way round.
fn met(config: &Conv3d, shape: Shape, direction: Direction, t: usize, z: usize) -> Option<usize> {
    let (step, centre) = (config.dilation[0], config.layers / 2);
    let behind = match direction {
        Direction::Forward => t >= centre,
        Direction::Backward => t <= centre,
    };
    let away = t.abs_diff(centre) * step;
    if behind { Some(z + away).filter(|&z| z < shape.d) } else { z.checked_sub(away) }
}

/// Slice `z` of all channels of `data`.
fn slices(data: &[f32], shape: Shape, z: usize) -> Vec<&[f32]> {
    data.chunks(shape.plane()).map(|plane| &plane[z * shape.slice()..][..shape.slice()]).collect()
}

/// A slice of each channel as the kernels take them.
fn planes<'a>(shape: Shape, config: &Conv3d, channels: &'a [&'a [f32]]) -> Planes<'a> {
    let [_, dilation @ ..] = config.dilation;
    Planes { rows: shape.h, row_len: shape.w * shape.n, pixel: shape.n, dilation, channels, relu: false }
}

/// y = act(scale * w * x), or y += scale * w * x.
pub fn conv3d_forward(cpu: &Cpu, operands: &Operands<'_>, config: &Conv3d, y: &mut [f32], add: bool) {
    let x = operands.claims.read(operands.x.span);
    correlate_slices(cpu, operands, config, (Direction::Forward, config.slope), x, y, add);
}

/// gx (+)= scale * mirrored w * gy.
pub fn conv3d_backward_data(
    cpu: &Cpu,
    operands: &Operands<'_>,
    config: &Conv3d,
    gy: &[f32],
    gx: &mut [f32],
    add: bool,
) {
    correlate_slices(cpu, operands, config, (Direction::Backward, None), gy, gx, add);
}

fn correlate_slices(
    cpu: &Cpu,
    operands: &Operands<'_>,
    config: &Conv3d,
    (direction, slope): (Direction, Option<f32>),
    from: &[f32],
    to: &mut [f32],
    add: bool,
) {
    let shape = operands.x.shape;
    let layers = pack(cpu, operands, config, direction);
    for z in 0..shape.d {
        let met = |(t, filter)| met(config, shape, direction, t, z).map(|source| (source, filter));
        let mut sources = layers.iter().enumerate().filter_map(met).peekable();
        let mut add = add;
        while let Some((source, filter)) = sources.next() {
            let channels = slices(from, shape, source);
            let outputs = to
                .chunks_mut(shape.plane())
                .map(|plane| OutChannel { data: &mut plane[z * shape.slice()..][..shape.slice()], add, gate: None })
                .collect();
            let input = Correlation { planes: planes(shape, config, &channels), filter };
            let last = sources.peek().is_none();
            correlate(cpu, &input, outputs, if last { slope } else { None });
            add = true;
        }
    }
}

/// gw += scale * gy * x in the used channels of the filter; returns the gradient of `scale`.
pub fn conv3d_backward_weight(cpu: &Cpu, operands: &Operands<'_>, config: &Conv3d, gy: &[f32], gw: &mut [f32]) -> f32 {
    let shape = operands.x.shape;
    let x = operands.claims.read(operands.x.span);
    let (weights, scale) = (operands.claims.read(operands.w.span), scale_of(operands.claims, operands.scale));
    let workspace = operands.claims.write(operands.workspace);
    let mut product = 0.0f64;
    for (t, z) in (0..config.layers).flat_map(|t| (0..shape.d).map(move |z| (t, z))) {
        let Some(source) = met(config, shape, Direction::Forward, t, z) else { continue };
        let channels = slices(x, shape, source);
        let planes = planes(shape, config, &channels);
        let (gy, gy_pitch) = (&gy[z * shape.slice()..], shape.plane());
        let job = FilterGradient { planes, gy, gy_pitch, filter: config.layer(t), scale };
        product += f64::from(filter_gradient(cpu, &job, weights, gw, workspace));
    }
    product as f32
}
