//! cross_entropy against log-softmax in f64, with extreme logits, ties and wrong labels.

use super::cross_entropy;
use crate::backend::cpu::Isa;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, assert_close, poisoned_context};

/// Logits of image n.
fn column(x: &[f64], n: usize, images: usize) -> Vec<f64> {
    x[n..].iter().step_by(images).copied().collect()
}

/// softmax(x)[k] of one column.
fn softmax(x: &[f64], k: usize) -> f64 {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    (x[k] - max).exp() / x.iter().map(|x| (x - max).exp()).sum::<f64>()
}

fn mean_loss(x: &[f64], labels: &[u16]) -> f64 {
    let images = labels.len();
    let loss = |(n, &label): (usize, &u16)| {
        let x = column(x, n, images);
        let max = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
        max - x[usize::from(label)] + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
    };
    labels.iter().enumerate().map(loss).sum::<f64>() / images as f64
}

fn draw_labels(classes: usize, images: usize) -> Vec<u16> {
    let mut rng = Rng::new(3, Stream::Init);
    (0..images).map(|_| rng.below(classes) as u16).collect()
}

#[test]
fn the_loss_and_its_gradient() {
    for (classes, images) in [(7, 11), (10, 1), (2, 33), (3, 4), (1, 5)] {
        let labels = draw_labels(classes, images);
        Case {
            inputs: vec![Input::random(Shape::new(classes, 1, 1, images), 1)],
            build: &|tape, v| Ok(cross_entropy(tape, v[0], &labels)?.loss),
            reference: &|v| vec![mean_loss(&v[0], &labels)],
            depth: classes,
        }
        .check();
    }
}

#[test]
fn a_view_feeds_its_channels_only() {
    let labels = draw_labels(4, 6);
    Case {
        inputs: vec![Input::random(Shape::new(9, 1, 1, 6), 1)],
        build: &|tape, v| {
            let view = tape.channels(v[0], 3..7);
            Ok(cross_entropy(tape, view, &labels)?.loss)
        },
        reference: &|v| vec![mean_loss(&v[0][3 * 6..7 * 6], &labels)],
        depth: 4,
    }
    .check();
}

/// [loss, errors] and the gradient of the loss.
fn apply(logits: &[f32], labels: &[u16]) -> (Vec<f32>, Vec<f32>) {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let shape = Shape::new(logits.len() / labels.len(), 1, 1, labels.len());
    let x = tape.input(shape, logits, true).unwrap();
    let outcome = cross_entropy(&mut tape, x, labels).unwrap();
    let result = tape.read(outcome.result);
    assert_eq!(tape.read(outcome.loss), result[..1]);
    tape.backward(outcome.loss).unwrap();
    (result, tape.read_grad(x).unwrap().unwrap())
}

#[test]
fn extreme_logits_stay_finite() {
    // Two images, three classes; column by column: certain and right, certain and wrong.
    let logits = [1e4, -1e4, -1e4, 1e4, 0.0, 0.0];
    let (result, gradient) = apply(&logits, &[0, 0]);
    assert_eq!(result, [1e4, 1.0], "half of 2e4");
    assert_eq!(gradient, [0.0, -0.5, 0.0, 0.5, 0.0, 0.0]);
}

#[test]
fn a_common_offset_of_the_logits_costs_no_digits() {
    let (classes, images) = (5, 7);
    let labels = draw_labels(classes, images);
    let mut rng = Rng::new(9, Stream::Init);
    // Multiples of 1/64 near 1e4 are exact in f32.
    let logits: Vec<f32> = (0..classes * images).map(|_| 1e4 + (rng.normal() * 64.0).round() as f32 / 64.0).collect();
    let exact: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    let (result, gradient) = apply(&logits, &labels);
    assert_close("loss", &result[..1], &[mean_loss(&exact, &labels)], classes);
    let expected: Vec<f64> = (0..classes * images)
        .map(|i| {
            let (k, n) = (i / images, i % images);
            let target = f64::from(u8::from(k == usize::from(labels[n])));
            (softmax(&column(&exact, n, images), k) - target) / images as f64
        })
        .collect();
    assert_close("gradient", &gradient, &expected, classes);
}

#[test]
fn ties_count_for_the_lower_class() {
    // Three classes, four images, with the largest logit shared by classes 0 and 1, 1 and 2,
    // 0 and 2, and all.
    let logits = [2.0, -1.0, 5.0, 0.0, 2.0, 3.0, 4.0, 0.0, 1.0, 3.0, 5.0, 0.0];
    let errors = |labels: [u16; 4]| apply(&logits, &labels).0[1];
    assert_eq!(errors([0, 1, 0, 0]), 0.0);
    assert_eq!(errors([1, 1, 0, 0]), 1.0);
    assert_eq!(errors([1, 2, 0, 0]), 2.0);
    assert_eq!(errors([1, 2, 2, 0]), 3.0);
    assert_eq!(errors([1, 2, 2, 1]), 4.0);
    assert_eq!(errors([0, 1, 0, 2]), 1.0);
}

#[test]
fn errors_are_counted_and_carry_no_gradient() {
    let mut rng = Rng::new(2, Stream::Init);
    let (classes, images) = (6, 53);
    let logits: Vec<f32> = (0..classes * images).map(|_| rng.normal() as f32).collect();
    let labels = draw_labels(classes, images);
    let wrong = (0..images).filter(|&n| {
        let of = |k: usize| logits[k * images + n];
        (0..classes).any(|k| of(k) > of(usize::from(labels[n])))
    });
    let (result, gradient) = apply(&logits, &labels);
    assert_eq!(result[1], wrong.count() as f32);
    assert!((20.0..50.0).contains(&result[1]), "the test needs errors and hits: {}", result[1]);
    // A gradient given to the error count goes nowhere.
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(classes, 1, 1, images), &logits, true).unwrap();
    let outcome = cross_entropy(&mut tape, x, &labels).unwrap();
    tape.backward_from(&[(outcome.result, &[1.0, 100.0])]).unwrap();
    assert_eq!(tape.read_grad(x).unwrap().unwrap(), gradient);
}

#[test]
fn labels_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let x = tape.input(Shape::new(3, 1, 1, 2), &[0.0; 6], true).unwrap();
    let picture = tape.input(Shape::new(3, 1, 2, 2), &[0.0; 12], true).unwrap();
    let mut error = |x, labels: &[u16]| cross_entropy(&mut tape, x, labels).unwrap_err().to_string();
    let expected = "cross_entropy: expected logits [K, 1, 1, N] and N labels below K, got";
    assert_eq!(error(x, &[0, 3]), format!("{expected} [C 3, H 1, W 1, N 2] with 2 labels up to Some(3)"));
    assert_eq!(error(x, &[0]), format!("{expected} [C 3, H 1, W 1, N 2] with 1 labels up to Some(0)"));
    assert_eq!(error(picture, &[0, 1]), format!("{expected} [C 3, H 1, W 2, N 2] with 2 labels up to Some(1)"));
}
