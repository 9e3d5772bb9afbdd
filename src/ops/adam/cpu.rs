//! adam on the CPU: one task per piece of memory.

use super::Adam;
use crate::backend::cpu::{Cpu, PIECE, SharedSlice};
use crate::backend::{Claims, Region, Span};
use std::ops::Range;

/// Moves moments and parameters.
pub fn adam(cpu: &Cpu, claims: &Claims<'_>, span: Span, config: Adam, loss: Span) {
    if !claims.read(loss)[0].is_finite() {
        return;
    }
    let Adam { lr, beta1, beta2, epsilon, .. } = config;
    let [c1, c2] = config.corrections();
    let grads = claims.read(span.in_region(Region::Grads));
    let first = SharedSlice::new(claims.write(span.in_region(Region::Moment1)));
    let second = SharedSlice::new(claims.write(span.in_region(Region::Moment2)));
    cpu.pool.pieces(claims.write(span), PIECE, |i, w| {
        // SAFETY: the same disjoint pieces as those of `w`.
        let (m, v) = unsafe { (first.range(i * PIECE, w.len()), second.range(i * PIECE, w.len())) };
        let grads = &grads[i * PIECE..][..w.len()];
        let mut update = |range: Range<usize>, decay: f32| {
            let moments = m[range.clone()].iter_mut().zip(&mut v[range.clone()]);
            for ((w, (m, v)), &g) in w[range.clone()].iter_mut().zip(moments).zip(&grads[range]) {
                let g = g + decay * *w;
                *m += (1.0 - beta1) * (g - *m);
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w -= lr * (*m / c1) / ((*v / c2).sqrt() + epsilon);
            }
        };
        let spared = config.undecayed.saturating_sub(i * PIECE).min(grads.len());
        update(0..spared, 0.0);
        update(spared..grads.len(), config.decay);
    });
}
