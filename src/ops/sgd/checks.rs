//! sgd against the f64 recurrence over 20 steps, two ranges, the second of which has no parameters without weight decay.

use super::{OP, Sgd, sgd};
use crate::backend::{Region, Span};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::testing::{Check, Lab, Measured, checks};

checks!(
    OP,
    twenty_steps_follow_the_recurrence,
    what_lies_outside_the_range_is_left_alone,
    a_loss_that_is_no_number_updates_nothing,
);

/// More than two pieces of 16 Ki elements, not a multiple of anything.
const LEN: usize = 40_013;
/// (start, length, so many of the first without weight decay); what lies between and after them is
/// never updated.
const RANGES: [(usize, usize, usize); 2] = [(3, 35_001, 20_006), (35_011, 4_999, 0)];
const DECAY: f32 = 0.1;
const STEPS: u64 = 20;

fn config(step: u64, undecayed: usize) -> Sgd {
    Sgd { lr: 0.01 / step as f32, momentum: 0.9, decay: DECAY, undecayed }
}

fn draw(seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Init);
    (0..LEN).map(|_| rng.normal() as f32).collect()
}

/// Parameters and velocities after all steps.
fn run(lab: &Lab, measured: &mut Measured, loss: f32) -> Result<[Vec<f32>; 2]> {
    lab.run(1 << 10, |context| {
        for region in [Region::Params, Region::Grads, Region::Moment1, Region::Moment2] {
            context.reserve(region, LEN)?;
        }
        context.write(Region::Params.span(LEN), &draw(100))?;
        let span = context.alloc(1)?;
        context.write(span, &[loss])?;
        for step in 1..=STEPS {
            context.write(Region::Grads.span(LEN), &draw(step))?;
            for (start, len, undecayed) in RANGES {
                sgd(context, Span { region: Region::Params, start, len }, config(step, undecayed), span)?;
            }
        }
        measured.exact("gradients are read only", &context.read(Region::Grads.span(LEN))?, &draw(STEPS));
        let others = context.read(Region::Moment2.span(LEN))?;
        measured.holds("other regions are left alone", others.iter().all(|&x| x == 0.0));
        Ok([context.read(Region::Params.span(LEN))?, context.read(Region::Moment1.span(LEN))?])
    })
}

/// The same in f64.
fn reference() -> [Vec<f64>; 2] {
    let mut w: Vec<f64> = draw(100).iter().map(|&x| f64::from(x)).collect();
    let mut v = vec![0.0; LEN];
    for step in 1..=STEPS {
        let grads = draw(step);
        for (start, len, undecayed) in RANGES {
            let Sgd { lr, momentum, decay, undecayed } = config(step, undecayed);
            let [lr, momentum, decay] = [lr, momentum, decay].map(f64::from);
            for i in start..start + len {
                let g = f64::from(grads[i]) + if i < start + undecayed { 0.0 } else { decay } * w[i];
                v[i] = momentum * v[i] + g;
                w[i] -= lr * (g + momentum * v[i]);
            }
        }
    }
    [w, v]
}

fn twenty_steps_follow_the_recurrence() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let got = run(lab, measured, 1.0)?;
        for ((name, got), expected) in ["w", "v"].into_iter().zip(&got).zip(reference()) {
            measured.close(name, got, &expected, STEPS as usize);
        }
        Ok(())
    })]
}

fn what_lies_outside_the_range_is_left_alone() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let [w, v] = run(lab, measured, 1.0)?;
        let (before, inside) = (draw(100), |i: usize| RANGES.iter().any(|&(s, len, _)| (s..s + len).contains(&i)));
        measured.holds("parameters", (0..LEN).all(|i| (w[i] != before[i]) == inside(i)));
        measured.holds("velocities", (0..LEN).all(|i| (v[i] != 0.0) == inside(i)));
        Ok(())
    })]
}

fn a_loss_that_is_no_number_updates_nothing() -> Vec<Check> {
    let check = |loss| {
        Check::new(move |lab, measured| {
            let [w, v] = run(lab, measured, loss)?;
            measured.exact("parameters", &w, &draw(100));
            measured.holds("velocities", v.iter().all(|&x| x == 0.0));
            Ok(())
        })
    };
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(check).into()
}
