//! linear on the CPU: one task per row of what is written.

use super::Operands;
use crate::backend::cpu::Cpu;
use crate::backend::{Claims, Span};
use crate::tape::GradTarget;

/// y[k][n] = b[k] + sum over c of w[k][c] * x[c][n].
pub fn linear_forward(cpu: &Cpu, claims: &Claims<'_>, operands: &Operands, b: Span, y: Span) {
    let Operands { stored, batch, .. } = *operands;
    let (x, w, b) = (claims.read(operands.x), claims.read(operands.w), claims.read(b));
    cpu.pool.pieces(claims.write(y), batch, |k, y| {
        y.fill(b[k]);
        for (row, &w) in x.chunks(batch).zip(&w[k * stored..]) {
            for (y, &x) in y.iter_mut().zip(row) {
                *y += w * x;
            }
        }
    });
}

/// gw[k][c] += sum over n of gy[k][n] * x[c][n].
pub fn linear_backward_weight(cpu: &Cpu, claims: &Claims<'_>, operands: &Operands, gy: Span, gw: Span) {
    let n = operands.batch;
    let (gy, x) = (claims.read(gy), claims.read(operands.x));
    cpu.pool.pieces(claims.write(gw), operands.stored, |k, gw| {
        for (gw, x) in gw.iter_mut().zip(x.chunks(n)) {
            *gw += gy[k * n..][..n].iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
        }
    });
}

/// gb[k] += sum over n of gy[k][n].
pub fn linear_backward_bias(claims: &Claims<'_>, operands: &Operands, gy: Span, gb: Span) {
    for (gb, gy) in claims.write(gb).iter_mut().zip(claims.read(gy).chunks(operands.batch)) {
        *gb += gy.iter().sum::<f32>();
    }
}

/// gx[c][n] (+)= sum over k of w[k][c] * gy[k][n].
pub fn linear_backward_data(cpu: &Cpu, claims: &Claims<'_>, operands: &Operands, gy: Span, gx: GradTarget) {
    let Operands { stored, batch, .. } = *operands;
    let (gy, w) = (claims.read(gy), claims.read(operands.w));
    cpu.pool.pieces(claims.write(gx.span), batch, |c, out| {
        if !gx.add {
            out.fill(0.0);
        }
        for (gy, w) in gy.chunks(batch).zip(w[c..].iter().step_by(stored)) {
            for (out, &g) in out.iter_mut().zip(gy) {
                *out += w * g;
            }
        }
    });
}
