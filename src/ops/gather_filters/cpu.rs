//! gather_filters on the CPU: forward by rows of the filters, backward by channels of x.

use super::GatherFilters;
use crate::backend::cpu::Cpu;
use crate::tensor::Shape;

/// filters[op][row][column] = x[(row % RN) * DN + i][row / RN][t].
pub fn gather_forward(cpu: &Cpu, config: &GatherFilters, shape: Shape, x: &[f32], y: &mut [f32]) {
    let inputs = config.slice_channels;
    let mut rest = y;
    for filter in &config.filters {
        let columns = filter.slices.len() * inputs;
        let (piece, after) = rest.split_at_mut(filter.rows * columns);
        cpu.pool.pieces(piece, columns, |row, out| {
            let (h, unit) = (row / config.row_units, row % config.row_units);
            for (t, out) in filter.slices.clone().zip(out.chunks_mut(inputs)) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = x[((unit * inputs + i) * shape.h + h) * shape.w + t];
                }
            }
        });
        rest = after;
    }
}

/// gx[(row % RN) * DN + i][row / RN][t] += gfilters[op][row][column].
pub fn gather_backward(cpu: &Cpu, config: &GatherFilters, shape: Shape, gy: &[f32], gx: &mut [f32]) {
    let (inputs, units, ranges) = (config.slice_channels, config.row_units, config.ranges());
    cpu.pool.pieces(gx, shape.h * shape.w, |channel, gx| {
        let (unit, i) = (channel / inputs, channel % inputs);
        for (filter, range) in config.filters.iter().zip(&ranges) {
            let columns = filter.slices.len() * inputs;
            for (h, row) in (unit..filter.rows).step_by(units).enumerate() {
                for (column, t) in filter.slices.clone().enumerate() {
                    gx[h * shape.w + t] += gy[range.start + row * columns + column * inputs + i];
                }
            }
        }
    });
}
