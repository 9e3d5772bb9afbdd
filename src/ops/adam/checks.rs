//! adam against the f64 recurrence over 20 steps, two ranges, the second of which has no parameters without weight decay.

use super::{Adam, OP, adam};
use crate::backend::{Context, Region, Span};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::testing::{Check, Lab, Measured, checks};

checks!(
    OP,
    twenty_steps_follow_the_recurrence,
    what_lies_outside_the_range_is_left_alone,
    the_first_step_is_the_learning_rate_whatever_the_gradient,
    a_loss_that_is_no_number_updates_nothing,
);

/// More than two pieces of 16 Ki elements, not a multiple of anything.
const LEN: usize = 40_013;
/// (start, length, so many of the first without weight decay); what lies between and after them is
/// never updated.
const RANGES: [(usize, usize, usize); 2] = [(3, 35_001, 20_006), (35_011, 4_999, 0)];
const DECAY: f32 = 0.1;
const STEPS: u64 = 20;
/// What parameters, moments are; the step also has gradients.
const MOVED: [Region; 3] = [Region::Params, Region::Moment1, Region::Moment2];

fn config(step: u64, undecayed: usize) -> Adam {
    // Learning rate and step change; betas are far from 1 so that 20 steps show them.
    Adam { lr: 0.01 / step as f32, beta1: 0.8, beta2: 0.95, epsilon: 1e-3, decay: DECAY, undecayed, step }
}

fn draw(seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Init);
    (0..LEN).map(|_| rng.normal() as f32).collect()
}

/// Parameters and empty moments; State is somebody else's. Returns where the loss is.
fn prepare(context: &mut Context, loss: f32) -> Result<Span> {
    for region in MOVED.into_iter().chain([Region::Grads, Region::State]) {
        context.reserve(region, LEN)?;
    }
    context.write(Region::Params.span(LEN), &draw(100))?;
    context.fill(Region::State.span(LEN), 5.0)?;
    let span = context.alloc(1)?;
    context.write(span, &[loss])?;
    Ok(span)
}

/// Parameters and both moments after all steps.
fn run(lab: &Lab, measured: &mut Measured, loss: f32) -> Result<[Vec<f32>; 3]> {
    lab.run(1 << 10, |context| {
        let loss = prepare(context, loss)?;
        for step in 1..=STEPS {
            context.write(Region::Grads.span(LEN), &draw(step))?;
            for (start, len, undecayed) in RANGES {
                adam(context, Span { region: Region::Params, start, len }, config(step, undecayed), loss)?;
            }
        }
        measured.exact("gradients are read only", &context.read(Region::Grads.span(LEN))?, &draw(STEPS));
        let others = context.read(Region::State.span(LEN))?;
        measured.holds("other regions are left alone", others.iter().all(|&x| x == 5.0));
        let [w, m, v] = MOVED.map(|region| context.read(region.span(LEN)));
        Ok([w?, m?, v?])
    })
}

/// The same in f64.
fn reference() -> [Vec<f64>; 3] {
    let mut w: Vec<f64> = draw(100).iter().map(|&x| f64::from(x)).collect();
    let (mut m, mut v) = (vec![0.0; LEN], vec![0.0; LEN]);
    for step in 1..=STEPS {
        let grads = draw(step);
        for (start, len, undecayed) in RANGES {
            let Adam { lr, beta1, beta2, epsilon, decay, undecayed, .. } = config(step, undecayed);
            let [lr, beta1, beta2, epsilon, decay] = [lr, beta1, beta2, epsilon, decay].map(f64::from);
            for i in start..start + len {
                let g = f64::from(grads[i]) + if i < start + undecayed { 0.0 } else { decay } * w[i];
                m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                let first = m[i] / (1.0 - beta1.powi(step as i32));
                let second = v[i] / (1.0 - beta2.powi(step as i32));
                w[i] -= lr * first / (second.sqrt() + epsilon);
            }
        }
    }
    [w, m, v]
}

fn twenty_steps_follow_the_recurrence() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let got = run(lab, measured, 1.0)?;
        for ((name, got), expected) in ["w", "m", "v"].into_iter().zip(&got).zip(reference()) {
            measured.close(name, got, &expected, STEPS as usize);
        }
        Ok(())
    })]
}

fn what_lies_outside_the_range_is_left_alone() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let [w, m, v] = run(lab, measured, 1.0)?;
        let (before, inside) = (draw(100), |i: usize| RANGES.iter().any(|&(s, len, _)| (s..s + len).contains(&i)));
        measured.holds("parameters", (0..LEN).all(|i| (w[i] != before[i]) == inside(i)));
        measured.holds("moments", (0..LEN).all(|i| (m[i] != 0.0 && v[i] != 0.0) == inside(i)));
        Ok(())
    })]
}

fn the_first_step_is_the_learning_rate_whatever_the_gradient() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let span = Region::Params.span(4);
        let after = lab.run(1 << 10, |context| {
            let loss = prepare(context, 1.0)?;
            context.write(Region::Grads.span(4), &[1e-3, -1e-3, 1e3, -1e3])?;
            let config = Adam { lr: 0.5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0, undecayed: 0, step: 1 };
            adam(context, span, config, loss)?;
            context.read(span)
        })?;
        let moved = draw(100).into_iter().zip([-0.5, 0.5, -0.5, 0.5]).map(|(w, by)| f64::from(w) + by);
        measured.within("parameters", &after, &moved.collect::<Vec<_>>(), 1e-4);
        Ok(())
    })]
}

fn a_loss_that_is_no_number_updates_nothing() -> Vec<Check> {
    let check = |loss| {
        Check::new(move |lab, measured| {
            let [w, m, v] = run(lab, measured, loss)?;
            measured.exact("parameters", &w, &draw(100));
            measured.holds("moments", m.iter().chain(&v).all(|&x| x == 0.0));
            Ok(())
        })
    };
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(check).into()
}
