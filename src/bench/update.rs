//! Trials of the optimisers: a step over all parameters, and the same in f64.

use super::cases::{Of, spread};
use super::trial::{APART, Expected, FLUSH, How, Numbers, Trial, milliseconds, pick, synchronize};
use crate::backend::{Context, Region};
use crate::error::Result;
use crate::ops::adam::{Adam, adam};
use crate::ops::sgd::{Sgd, sgd};
use std::time::Instant;

const ADAM: Adam = Adam { lr: 0.1, beta1: 0.5, beta2: 0.999, epsilon: 1e-4, decay: 1e-4, undecayed: 0, step: 3 };
const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.9, decay: 1e-4, undecayed: 0 };
/// Parameters, gradients and moments at the beginning, and where the numbers of each start. The second moment is a
/// square.
const BUFFERS: [(Region, usize); 4] =
    [(Region::Params, 0), (Region::Grads, APART), (Region::Moment1, 2 * APART), (Region::Moment2, 3 * APART)];

/// The number that buffer `b` begins with at `i`: the same ones over and over.
fn initial(numbers: &Numbers, b: usize, i: usize) -> f32 {
    let period = numbers.0.len() - 4 * APART;
    let x = numbers.0[BUFFERS[b].1 + i % period];
    if b == 3 { x * x } else { x }
}

pub(super) fn update_trial(
    context: &mut Context,
    numbers: &Numbers,
    (is_adam, parameters): (bool, usize),
    how: How,
    look: &[Expected],
) -> Result<Trial> {
    context.reset_arena();
    let flush = how.cold.then(|| context.alloc(FLUSH)).transpose()?;
    let loss = context.alloc(1)?;
    context.fill(loss, 0.0)?;
    if context.is_plan() {
        return Ok(Trial::default());
    }
    let period = numbers.0.len() - 4 * APART;
    for (b, (region, _)) in BUFFERS.into_iter().enumerate() {
        let values: Vec<f32> = (0..period.min(parameters)).map(|i| initial(numbers, b, i)).collect();
        for start in (0..parameters).step_by(period) {
            let len = period.min(parameters - start);
            context.write(region.span(parameters).sub(start, len), &values[..len])?;
        }
    }
    if let Some(span) = flush {
        context.fill(span, 1.0)?;
    }
    synchronize(context)?;
    let before = context.as_cuda().map(|cuda| cuda.launches());
    if let (Some(cuda), true) = (context.as_cuda(), how.watch) {
        cuda.watch_kernels();
    }
    let start = Instant::now();
    for launch in 0..how.launches as u64 {
        let span = Region::Params.span(parameters);
        match is_adam {
            true => adam(context, span, Adam { step: ADAM.step + launch, ..ADAM }, loss)?,
            false => sgd(context, span, SGD, loss)?,
        }
    }
    let queueing_ms = milliseconds(start);
    synchronize(context)?;
    let total_ms = milliseconds(start);
    let kernels = context.as_cuda().map(|cuda| cuda.launches()).zip(before).map(|(after, before)| after - before);
    let mut results = Vec::new();
    for expected in look {
        results.push(pick(&context.read(Region::Params.span(parameters))?, &expected.elements));
    }
    let facts = match context.as_cuda() {
        Some(cuda) if how.watch => cuda.watched_kernels()?,
        _ => Vec::new(),
    };
    Ok(Trial { total_ms, queueing_ms, kernels, facts, results })
}

/// The updates in f64.
pub(super) fn expected_updates(numbers: &Numbers, is_adam: bool, parameters: usize, launches: usize) -> Vec<Expected> {
    let elements = spread(parameters, 200);
    let updated = |&i: &usize| {
        let [mut w, gradient, mut m, mut v] = [0, 1, 2, 3].map(|b| f64::from(initial(numbers, b, i)));
        for launch in 0..launches as i32 {
            if is_adam {
                let [lr, beta1, beta2, epsilon, decay] =
                    [ADAM.lr, ADAM.beta1, ADAM.beta2, ADAM.epsilon, ADAM.decay].map(f64::from);
                let (g, step) = (gradient + decay * w, ADAM.step as i32 + launch);
                (m, v) = (beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * g * g);
                w -= lr * (m / (1.0 - beta1.powi(step))) / ((v / (1.0 - beta2.powi(step))).sqrt() + epsilon);
            } else {
                let [lr, momentum, decay] = [SGD.lr, SGD.momentum, SGD.decay].map(f64::from);
                let g = gradient + decay * w;
                m = momentum * m + g;
                w -= lr * (g + momentum * m);
            }
        }
        w
    };
    let values = elements.iter().map(updated).collect();
    vec![Expected { of: Of::Result, elements, values, depth: launches }]
}
