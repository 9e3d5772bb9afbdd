//! sgd on the CPU: one pass over the parameters without weight decay, one over the others.

use super::Sgd;
use crate::backend::cpu::{Cpu, update};
use crate::backend::{Claims, Region, Span};

/// Moves velocity and parameters.
pub fn sgd(cpu: &Cpu, claims: &Claims<'_>, span: Span, config: Sgd, loss: Span) {
    if !claims.read(loss)[0].is_finite() {
        return;
    }
    let Sgd { lr, momentum, .. } = config;
    let undecayed = config.undecayed.min(span.len);
    for (part, decay) in [(span.sub(0, undecayed), 0.0), (span.sub(undecayed, span.len - undecayed), config.decay)] {
        let moved = [part, part.in_region(Region::Moment1)].map(|span| claims.write(span));
        update(cpu, moved, [claims.read(part.in_region(Region::Grads))], move |[w, v], [g]| {
            let g = g + decay * w;
            let v = momentum * v + g;
            [w - lr * (g + momentum * v), v]
        });
    }
}
