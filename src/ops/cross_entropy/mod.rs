//! loss = -1/N * sum over n of log softmax(x[:, n])[label n], and the number of images whose
//! largest logit is not the label's: log-softmax, negative log-likelihood and error count in one.
//!
//! | buffer | shape |
//! |---|---|
//! | x | logits [K, 1, 1, N] |
//! | labels | N class numbers below K |
//! | result | a vector: [mean loss, errors]; only the loss has a gradient |
//!
//! Ties go to the lower class. The log of the sum of exponentials is taken around the maximum.

pub mod checks;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "cross_entropy";

/// Loss and errors of one batch.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Mean loss, differentiable.
    pub loss: Var,
    /// Loss and number of errors, as one vector to read back.
    pub result: Var,
}

/// The loss; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when there is not one label below K for each image.
pub fn cross_entropy(tape: &mut Tape<'_>, x: Var, labels: &[u16]) -> Result<CrossEntropy> {
    let _range = tape.op_range(c"cross_entropy_forward");
    let shape = tape.shape(x);
    if shape.h * shape.w != 1 || labels.len() != shape.n || labels.iter().any(|&l| usize::from(l) >= shape.c) {
        let got = format!("{shape} with {} labels up to {:?}", labels.len(), labels.iter().max());
        return Err(Error::shape(OP, "logits [K, 1, 1, N] and N labels below K", got));
    }
    let result = tape.alloc(Shape::vector(2), tape.needs_grad(x))?;
    let (xt, rt) = (tape.tensor(x).span, tape.tensor(result).span);
    tape.compute(
        |claims, _| {
            let x = claims.read(xt);
            let (mut loss, mut errors) = (0.0f64, 0);
            for (n, &label) in labels.iter().enumerate() {
                let column = Column { x, n, shape };
                loss += column.log_sum_exp() - f64::from(column.logit(label));
                errors += usize::from(column.best() != usize::from(label));
            }
            claims.write(rt).copy_from_slice(&[(loss / shape.n as f64) as f32, errors as f32]);
        },
        |_cuda| todo!("cuda"),
    )?;
    let loss = tape.channels(result, 0..1);
    tape.record(CrossEntropyNode { x, result: loss, labels: labels.to_vec() }, loss, &[x]);
    Ok(CrossEntropy { loss, result })
}

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

    fn best(&self) -> usize {
        let better = |best: (usize, f32), (k, x): (usize, f32)| if x > best.1 { (k, x) } else { best };
        self.logits().enumerate().fold((0, f32::NEG_INFINITY), better).0
    }
}

struct CrossEntropyNode {
    x: Var,
    result: Var,
    labels: Vec<u16>,
}

impl Backward for CrossEntropyNode {
    /// gx[k][n] (+)= gloss / N * (softmax(x[:, n])[k] - [k = label n]).
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"cross_entropy_backward");
        let gy = tape.grad(self.result)?;
        let (shape, xt) = (tape.shape(self.x), tape.tensor(self.x).span);
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, _| {
                    let (x, out) = (claims.read(xt), claims.write(gx.span));
                    let scale = f64::from(claims.read(gy)[0]) / shape.n as f64;
                    for (n, &label) in self.labels.iter().enumerate() {
                        let column = Column { x, n, shape };
                        let total = column.log_sum_exp();
                        for (k, x) in column.logits().enumerate() {
                            let target = f64::from(u8::from(k == usize::from(label)));
                            let g = (scale * ((f64::from(x) - total).exp() - target)) as f32;
                            let out = &mut out[k * shape.n + n];
                            *out = if gx.add { *out + g } else { g };
                        }
                    }
                },
                |_cuda| todo!("cuda"),
            )?;
        }
        Ok(())
    }
}
