//! weightnorm on the CPU: forward one task per filter, backward one task per piece of the weights.

use crate::backend::cpu::{Cpu, PIECE, map_row, sum_row};
use std::ops::Range;

/// scale[i] = 1 / ||w[ranges[i]]||.
pub fn weightnorm_forward(cpu: &Cpu, w: &[f32], ranges: &[Range<usize>], scale: &mut [f32]) {
    cpu.pool.pieces(scale, 1, |i, scale| {
        let norm = sum_row(cpu, [&w[ranges[i].clone()]], |[w]| w * w).sqrt();
        scale[0] = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
    });
}

/// gw += gscale * d(1/||w||)/dw = -gscale * scale^3 * w.
pub fn weightnorm_backward(
    cpu: &Cpu,
    w: &[f32],
    scale: &[f32],
    gscale: &[f32],
    ranges: &[Range<usize>],
    gw: &mut [f32],
) {
    cpu.pool.pieces(gw, PIECE, |piece, gw| {
        let start = piece * PIECE;
        for ((range, &s), &g) in ranges.iter().zip(scale).zip(gscale) {
            let (from, to) = (range.start.max(start), range.end.min(start + gw.len()));
            if from < to {
                let factor = -g * s * s * s;
                map_row(cpu, &mut gw[from - start..to - start], [&w[from..to]], true, move |[w]| factor * w);
            }
        }
    });
}
