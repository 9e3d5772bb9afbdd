//! Stochastic gradient descent with Nesterov momentum over flat buffers, in one pass.
//!
//! With g = gradient + decay * w:  v = momentum * v + g,  w -= lr * (g + momentum * v)
//! (Sutskever et al. 2013, in the form common to today's libraries).

#[cfg(test)]
mod tests;

use crate::backend::cpu::{PIECE, SharedSlice};
use crate::backend::{Context, Region, Span};

/// Constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the velocity.
    pub momentum: f32,
}

/// Updates the parameters in `span` (region `Params`) with weight decay `decay`; the velocity
/// lies in region `Moment1`.
pub fn sgd(context: &mut Context, span: Span, config: Sgd, decay: f32) {
    let _range = crate::trace::range(crate::trace::Kind::Op, c"sgd_update");
    let Sgd { lr, momentum } = config;
    context.compute(|claims, cpu| {
        let grads = claims.read(span.in_region(Region::Grads));
        let velocity = SharedSlice::new(claims.write(span.in_region(Region::Moment1)));
        cpu.pool.pieces(claims.write(span), PIECE, |i, w| {
            // SAFETY: the same disjoint pieces as those of `w`.
            let v = unsafe { velocity.range(i * PIECE, w.len()) };
            for ((w, v), &g) in w.iter_mut().zip(v).zip(&grads[i * PIECE..]) {
                let g = g + decay * *w;
                *v = momentum * *v + g;
                *w -= lr * (g + momentum * *v);
            }
        });
    });
}
