//! adam against the f64 recurrence over 20 steps, two ranges with weight decays of their own.

use super::{Adam, adam};
use crate::backend::cpu::Isa;
use crate::backend::{Context, Region, Span};
use crate::rng::{Rng, Stream};
use crate::testing::{assert_close, poisoned_context};

/// More than two pieces of 16 Ki elements, not a multiple of anything.
const LEN: usize = 40_013;
/// (start, length, weight decay); what lies between and after them is never updated.
const RANGES: [(usize, usize, f32); 2] = [(3, 35_001, 0.0), (35_011, 4_999, 0.1)];
const STEPS: u64 = 20;

fn config(step: u64) -> Adam {
    // Learning rate and step change; betas are far from 1 so that 20 steps show them.
    Adam { lr: 0.01 / step as f32, beta1: 0.8, beta2: 0.95, epsilon: 1e-3, step }
}

fn draw(seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Init);
    (0..LEN).map(|_| rng.normal() as f32).collect()
}

fn context(isa: Isa, threads: usize) -> Context {
    let mut context = poisoned_context(isa, threads, 16);
    for region in [Region::Params, Region::Grads, Region::Moment1, Region::Moment2, Region::State] {
        context.memory_mut().resize(region, LEN).unwrap();
    }
    context.memory_mut().region_mut(Region::Params)[..LEN].copy_from_slice(&draw(100));
    context.memory_mut().region_mut(Region::State).fill(5.0);
    context
}

/// Parameters and both moments after all steps.
fn run(isa: Isa, threads: usize) -> [Vec<f32>; 3] {
    let mut context = context(isa, threads);
    for step in 1..=STEPS {
        let grads = draw(step);
        context.memory_mut().region_mut(Region::Grads)[..LEN].copy_from_slice(&grads);
        for (start, len, decay) in RANGES {
            adam(&mut context, Span { region: Region::Params, start, len }, config(step), decay);
        }
        assert_eq!(context.memory().region(Region::Grads)[..LEN], grads, "gradients are read only");
    }
    assert!(context.memory().region(Region::State).iter().all(|&x| x == 5.0), "other regions are left alone");
    assert!(context.memory().region(Region::Step).iter().all(|x| x.is_nan()), "other regions are left alone");
    [Region::Params, Region::Moment1, Region::Moment2].map(|r| context.memory().region(r)[..LEN].to_vec())
}

/// The same in f64.
fn reference() -> [Vec<f64>; 3] {
    let mut w: Vec<f64> = draw(100).iter().map(|&x| f64::from(x)).collect();
    let (mut m, mut v) = (vec![0.0; LEN], vec![0.0; LEN]);
    for step in 1..=STEPS {
        let grads = draw(step);
        let Adam { lr, beta1, beta2, epsilon, .. } = config(step);
        let [lr, beta1, beta2, epsilon] = [lr, beta1, beta2, epsilon].map(f64::from);
        for (start, len, decay) in RANGES {
            for i in start..start + len {
                let g = f64::from(grads[i]) + f64::from(decay) * w[i];
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

#[test]
fn twenty_steps_follow_the_recurrence_on_any_number_of_threads() {
    let expected = reference();
    for isa in Isa::available() {
        let got = run(isa, 1);
        for ((name, got), expected) in ["w", "m", "v"].iter().zip(&got).zip(&expected) {
            assert_close(&format!("{isa:?} {name}"), got, expected, STEPS as usize);
        }
        for threads in [2, 3] {
            assert_eq!(run(isa, threads), got, "{isa:?}: {threads} threads");
        }
    }
}

#[test]
fn what_lies_outside_the_range_is_left_alone() {
    let [w, m, v] = run(Isa::detect(), 2);
    let before = draw(100);
    let inside = |i: usize| RANGES.iter().any(|&(start, len, _)| (start..start + len).contains(&i));
    for i in 0..LEN {
        assert_eq!(w[i] != before[i], inside(i), "w[{i}]");
        assert_eq!(m[i] != 0.0 && v[i] != 0.0, inside(i), "moments of {i}");
    }
}

#[test]
fn the_first_step_is_the_learning_rate_whatever_the_gradient() {
    let mut context = context(Isa::detect(), 1);
    let grads = context.memory_mut().region_mut(Region::Grads);
    grads[..4].copy_from_slice(&[1e-3, -1e-3, 1e3, -1e3]);
    let before = draw(100);
    let config = Adam { lr: 0.5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 1 };
    adam(&mut context, Span { region: Region::Params, start: 0, len: 4 }, config, 0.0);
    for (i, sign) in [1.0, -1.0, 1.0, -1.0].into_iter().enumerate() {
        let moved = before[i] - context.memory().region(Region::Params)[i];
        assert!((moved - 0.5 * sign).abs() < 1e-4, "parameter {i} moved by {moved}");
    }
}
