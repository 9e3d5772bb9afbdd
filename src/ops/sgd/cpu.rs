//! sgd on the CPU: one task per piece of memory.

use super::Sgd;
use crate::backend::cpu::{Cpu, PIECE, SharedSlice};
use crate::backend::{Claims, Region, Span};
use std::ops::Range;

/// Moves velocity and parameters.
pub fn sgd(cpu: &Cpu, claims: &Claims<'_>, span: Span, config: Sgd, loss: Span) {
    if !claims.read(loss)[0].is_finite() {
        return;
    }
    let Sgd { lr, momentum, .. } = config;
    let grads = claims.read(span.in_region(Region::Grads));
    let velocity = SharedSlice::new(claims.write(span.in_region(Region::Moment1)));
    cpu.pool.pieces(claims.write(span), PIECE, |i, w| {
        // SAFETY: the same disjoint pieces as those of `w`.
        let v = unsafe { velocity.range(i * PIECE, w.len()) };
        let grads = &grads[i * PIECE..][..w.len()];
        let mut update = |range: Range<usize>, decay: f32| {
            for ((w, v), &g) in w[range.clone()].iter_mut().zip(&mut v[range.clone()]).zip(&grads[range]) {
                let g = g + decay * *w;
                *v = momentum * *v + g;
                *w -= lr * (g + momentum * *v);
            }
        };
        let spared = config.undecayed.saturating_sub(i * PIECE).min(grads.len());
        update(0..spared, 0.0);
        update(spared..grads.len(), config.decay);
    });
}
