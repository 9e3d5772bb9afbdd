//! loss = -1/N * sum over n of log softmax(x[:, n])[label n], and the numbers of images whose
//! label has not the largest logit, or none of the five largest: log-softmax, negative log-likelihood and
//! error counts in one.
//!
//! | buffer | shape |
//! |---|---|
//! | x | logits [K, 1, 1, N] |
//! | labels | N class numbers below K |
//! | result | a vector: [mean loss, top-1 errors, top-5 errors]; only the loss has a gradient |
//!
//! Ties go to the lower class. The log of the sum of exponentials is taken around the maximum.

pub mod checks;
mod cpu;
mod cuda;
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
    /// Loss and numbers of errors, as one vector to read back.
    pub result: Var,
}

/// How many classes do not come after that of `label`, whose score is `own`: those with larger scores, equal ones of lower
/// classes, and what cannot be compared, so that NaN is always an error.
pub fn rank<T: PartialOrd>(scores: impl Iterator<Item = T>, own: T, label: u16) -> usize {
    let label = usize::from(label);
    scores.enumerate().filter(|(k, score)| !(*score < own || (*score == own && *k >= label))).count()
}

/// The loss; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when there is not one label below K for each image.
pub fn cross_entropy(tape: &mut Tape<'_>, x: Var, labels: &[u16]) -> Result<CrossEntropy> {
    let _range = tape.op_range(c"cross_entropy_forward");
    let shape = tape.shape(x);
    if shape.pixels() != 1 || labels.len() != shape.n || labels.iter().any(|&l| usize::from(l) >= shape.c) {
        let got = format!("{shape} with {} labels up to {:?}", labels.len(), labels.iter().max());
        return Err(Error::shape(OP, "logits [K, 1, 1, N] and N labels below K", got));
    }
    let result = tape.alloc(Shape::vector(3), tape.needs_grad(x))?;
    let (xt, rt) = (tape.tensor(x), tape.tensor(result).span);
    tape.compute(
        |claims, _| cpu::cross_entropy_forward(claims, xt, labels, rt),
        |device| cuda::cross_entropy_forward(device, xt, labels, rt),
    )?;
    let loss = tape.channels(result, 0..1);
    tape.record(CrossEntropyNode { x, result: loss, labels: labels.to_vec() }, loss, &[x]);
    Ok(CrossEntropy { loss, result })
}

struct CrossEntropyNode {
    x: Var,
    result: Var,
    labels: Vec<u16>,
}

impl Backward for CrossEntropyNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"cross_entropy_backward");
        let (gloss, x) = (tape.grad(self.result)?, tape.tensor(self.x));
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, _| cpu::cross_entropy_backward(claims, x, &self.labels, gloss, gx),
                |device| cuda::cross_entropy_backward(device, x, &self.labels, gloss, gx),
            )?;
        }
        Ok(())
    }
}
