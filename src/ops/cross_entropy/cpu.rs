//! cross_entropy on the CPU, image by image.

use super::rank;
use crate::backend::{Claims, Span};
use crate::tape::GradTarget;
use crate::tensor::{Shape, Tensor};

/// The logits of one image.
struct Column<'a> {
    x: &'a [f32],
    n: usize,
    shape: Shape,
}

impl Column<'_> {
    fn logits(&self) -> impl Iterator<Item = f32> + '_ {
        self.x[self.n..].iter().step_by(self.shape.n).copied()
    }

    fn logit(&self, label: u16) -> f32 {
        self.x[usize::from(label) * self.shape.n + self.n]
    }

    /// In f64: with logits of 1e4 an f32 would be off by 5e-4, and so would the loss.
    fn log_sum_exp(&self) -> f64 {
        let max = f64::from(self.logits().fold(f32::NEG_INFINITY, f32::max));
        max + self.logits().map(|x| (f64::from(x) - max).exp()).sum::<f64>().ln()
    }
}

/// result = [mean loss, errors, errors of the five best].
pub fn cross_entropy_forward(claims: &Claims<'_>, x: Tensor, labels: &[u16], result: Span) {
    let shape = x.shape;
    let x = claims.read(x.span);
    let (mut loss, mut errors, mut top5_errors) = (0.0f64, 0, 0);
    for (n, &label) in labels.iter().enumerate() {
        let column = Column { x, n, shape };
        loss += column.log_sum_exp() - f64::from(column.logit(label));
        let rank = rank(column.logits(), column.logit(label), label);
        errors += usize::from(rank >= 1);
        top5_errors += usize::from(rank >= 5);
    }
    claims.write(result).copy_from_slice(&[(loss / shape.n as f64) as f32, errors as f32, top5_errors as f32]);
}

/// gx[k][n] (+)= gloss / N * (softmax(x[:, n])[k] - [k = label n]).
pub fn cross_entropy_backward(claims: &Claims<'_>, x: Tensor, labels: &[u16], gloss: Span, gx: GradTarget) {
    let shape = x.shape;
    let (x, out) = (claims.read(x.span), claims.write(gx.span));
    let scale = f64::from(claims.read(gloss)[0]) / shape.n as f64;
    for (n, &label) in labels.iter().enumerate() {
        let column = Column { x, n, shape };
        let total = column.log_sum_exp();
        for (k, x) in column.logits().enumerate() {
            let target = f64::from(u8::from(k == usize::from(label)));
            let g = (scale * ((f64::from(x) - total).exp() - target)) as f32;
            let out = &mut out[k * shape.n + n];
            *out = if gx.add { *out + g } else { g };
        }
    }
}
