//! adam on the CPU: one pass over the parameters without weight decay, one over the others.

use super::Adam;
use crate::backend::cpu::{Cpu, update};
use crate::backend::{Claims, Region, Span};

/// Moves moments and parameters.
pub fn adam(cpu: &Cpu, claims: &Claims<'_>, span: Span, config: Adam, loss: Span) {
    if !claims.read(loss)[0].is_finite() {
        return;
    }
    let Adam { lr, beta1, beta2, epsilon, .. } = config;
    let [c1, c2] = config.corrections();
    let undecayed = config.undecayed.min(span.len);
    for (part, decay) in [(span.sub(0, undecayed), 0.0), (span.sub(undecayed, span.len - undecayed), config.decay)] {
        let moved = [part, part.in_region(Region::Moment1), part.in_region(Region::Moment2)];
        let grads = claims.read(part.in_region(Region::Grads));
        update(cpu, moved.map(|span| claims.write(span)), [grads], move |[w, m, v], [g]| {
            let g = g + decay * w;
            let m = m + (1.0 - beta1) * (g - m);
            let v = beta2 * v + (1.0 - beta2) * g * g;
            [w - lr * (m / c1) / ((v / c2).sqrt() + epsilon), m, v]
        });
    }
}
