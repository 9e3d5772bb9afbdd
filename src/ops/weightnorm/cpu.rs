//! weightnorm on the CPU: one task per filter.

use crate::backend::cpu::{Cpu, dot_shifted};
use std::ops::Range;

/// scale[i] = 1 / ||w[ranges[i]]||.
pub fn weightnorm_forward(cpu: &Cpu, w: &[f32], ranges: &[Range<usize>], scale: &mut [f32]) {
    cpu.pool.pieces(scale, 1, |i, scale| {
        let filter = &w[ranges[i].clone()];
        let norm = dot_shifted(cpu, filter, 0.0, filter, 0.0).sqrt();
        scale[0] = if norm > 0.0 { (1.0 / norm) as f32 } else { 0.0 };
    });
}

/// gw += gscale * d(1/||w||)/dw = -gscale * scale^3 * w.
pub fn weightnorm_backward(w: &[f32], scale: &[f32], gscale: &[f32], ranges: &[Range<usize>], gw: &mut [f32]) {
    for ((range, &s), &g) in ranges.iter().zip(scale).zip(gscale) {
        let factor = -g * s * s * s;
        for (gw, &w) in gw[range.clone()].iter_mut().zip(&w[range.clone()]) {
            *gw += factor * w;
        }
    }
}
