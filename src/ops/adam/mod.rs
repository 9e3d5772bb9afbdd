//! Adam over flat buffers, all parameters in one pass (Kingma & Ba 2014).
//!
//! With g = gradient + decay * w:  m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,
//! w -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
//!
//! Weight decay is the L2 form, per range: the HyperNet has none (Brock et al. 2018, appendix C).

#[cfg(test)]
mod tests;

use crate::backend::cpu::{PIECE, SharedSlice};
use crate::backend::{Context, Region, Span};

/// Constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Number of this step, from 1.
    pub step: u64,
}

/// Updates the parameters in `span` (region `Params`) with weight decay `decay`.
pub fn adam(context: &mut Context, span: Span, config: Adam, decay: f32) {
    let _range = crate::trace::range(crate::trace::Kind::Op, c"adam_update");
    let Adam { lr, beta1, beta2, epsilon, step } = config;
    // In f64: 1 - 0.999^t loses half its digits in f32.
    let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
    let (c1, c2) = (correction(beta1), correction(beta2));
    context.compute(|claims, cpu| {
        let grads = claims.read(span.in_region(Region::Grads));
        let first = SharedSlice::new(claims.write(span.in_region(Region::Moment1)));
        let second = SharedSlice::new(claims.write(span.in_region(Region::Moment2)));
        cpu.pool.pieces(claims.write(span), PIECE, |i, w| {
            // SAFETY: the same disjoint pieces as those of `w`.
            let (m, v) = unsafe { (first.range(i * PIECE, w.len()), second.range(i * PIECE, w.len())) };
            for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(&grads[i * PIECE..]) {
                let g = g + decay * *w;
                *m += (1.0 - beta1) * (g - *m);
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w -= lr * (*m / c1) / ((*v / c2).sqrt() + epsilon);
            }
        });
    });
}
