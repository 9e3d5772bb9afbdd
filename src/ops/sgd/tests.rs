//! sgd against the f64 recurrence over 20 steps, two ranges with weight decays of their own.

use super::{Sgd, sgd};
use crate::backend::cpu::Isa;
use crate::backend::{Region, Span};
use crate::rng::{Rng, Stream};
use crate::testing::{assert_close, poisoned_context};

/// More than two pieces of 16 Ki elements, not a multiple of anything.
const LEN: usize = 40_013;
/// (start, length, weight decay); what lies between and after them is never updated.
const RANGES: [(usize, usize, f32); 2] = [(3, 35_001, 0.0), (35_011, 4_999, 0.1)];
const STEPS: u64 = 20;

fn config(step: u64) -> Sgd {
    Sgd { lr: 0.01 / step as f32, momentum: 0.9 }
}

fn draw(seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Init);
    (0..LEN).map(|_| rng.normal() as f32).collect()
}

/// Parameters and velocities after all steps.
fn run(isa: Isa, threads: usize) -> [Vec<f32>; 2] {
    let mut context = poisoned_context(isa, threads, 16);
    for region in [Region::Params, Region::Grads, Region::Moment1, Region::Moment2] {
        context.memory_mut().resize(region, LEN).unwrap();
    }
    context.memory_mut().region_mut(Region::Params)[..LEN].copy_from_slice(&draw(100));
    for step in 1..=STEPS {
        let grads = draw(step);
        context.memory_mut().region_mut(Region::Grads)[..LEN].copy_from_slice(&grads);
        for (start, len, decay) in RANGES {
            sgd(&mut context, Span { region: Region::Params, start, len }, config(step), decay);
        }
        assert_eq!(context.memory().region(Region::Grads)[..LEN], grads, "gradients are read only");
    }
    assert!(context.memory().region(Region::Moment2).iter().all(|&x| x == 0.0), "other regions are left alone");
    assert!(context.memory().region(Region::Step).iter().all(|x| x.is_nan()), "other regions are left alone");
    [Region::Params, Region::Moment1].map(|r| context.memory().region(r)[..LEN].to_vec())
}

/// The same in f64.
fn reference() -> [Vec<f64>; 2] {
    let mut w: Vec<f64> = draw(100).iter().map(|&x| f64::from(x)).collect();
    let mut v = vec![0.0; LEN];
    for step in 1..=STEPS {
        let grads = draw(step);
        let [lr, momentum] = [config(step).lr, config(step).momentum].map(f64::from);
        for (start, len, decay) in RANGES {
            for i in start..start + len {
                let g = f64::from(grads[i]) + f64::from(decay) * w[i];
                v[i] = momentum * v[i] + g;
                w[i] -= lr * (g + momentum * v[i]);
            }
        }
    }
    [w, v]
}

#[test]
fn twenty_steps_follow_the_recurrence_on_any_number_of_threads() {
    let expected = reference();
    for isa in Isa::available() {
        let got = run(isa, 1);
        for ((name, got), expected) in ["w", "v"].iter().zip(&got).zip(&expected) {
            assert_close(&format!("{isa:?} {name}"), got, expected, STEPS as usize);
        }
        for threads in [2, 3] {
            assert_eq!(run(isa, threads), got, "{isa:?}: {threads} threads");
        }
    }
}

#[test]
fn what_lies_outside_the_range_is_left_alone() {
    let [w, v] = run(Isa::detect(), 2);
    let before = draw(100);
    let inside = |i: usize| RANGES.iter().any(|&(start, len, _)| (start..start + len).contains(&i));
    for i in 0..LEN {
        assert_eq!(w[i] != before[i], inside(i), "w[{i}]");
        assert_eq!(v[i] != 0.0, inside(i), "velocity of {i}");
    }
}
