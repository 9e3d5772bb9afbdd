//! cross_entropy against log-softmax in f64, with extreme logits, ties and wrong labels.

use super::{OP, cross_entropy};
use crate::backend::Context;
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, checks};

checks!(
    OP,
    the_loss_and_its_gradient,
    a_view_feeds_its_channels_only,
    extreme_logits_stay_finite,
    a_common_offset_of_the_logits_costs_no_digits,
    ties_count_for_the_lower_class,
    five_guesses_are_one_more_count,
    not_a_number_is_wrong,
    errors_are_counted_and_carry_no_gradient,
);

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

fn the_loss_and_its_gradient() -> Vec<Case> {
    let case = |(classes, images)| {
        let labels = draw_labels(classes, images);
        let expected = labels.clone();
        Case::new(
            vec![Input::random(Shape::new(classes, 1, 1, images), 1)],
            classes,
            move |tape, v| Ok(cross_entropy(tape, v[0], &labels)?.loss),
            move |v| vec![mean_loss(&v[0], &expected)],
        )
    };
    // More images than a block has threads are among them.
    [(7, 11), (10, 1), (2, 33), (3, 4), (1, 5), (3, 259)].map(case).into()
}

fn a_view_feeds_its_channels_only() -> Vec<Case> {
    let labels = draw_labels(4, 6);
    let expected = labels.clone();
    vec![Case::new(
        vec![Input::random(Shape::new(9, 1, 1, 6), 1)],
        4,
        move |tape, v| {
            let view = tape.channels(v[0], 3..7);
            Ok(cross_entropy(tape, view, &labels)?.loss)
        },
        move |v| vec![mean_loss(&v[0][3 * 6..7 * 6], &expected)],
    )]
}

/// What the op makes of some logits.
struct Applied {
    /// Loss, errors, errors of the five best.
    result: Vec<f32>,
    /// Of the loss.
    gradient: Vec<f32>,
    /// The same when the errors get an upstream gradient too.
    gradient_of_both: Vec<f32>,
}

fn apply(context: &mut Context, logits: &[f32], labels: &[u16]) -> Result<Applied> {
    let shape = Shape::new(logits.len() / labels.len(), 1, 1, labels.len());
    let mut gradient = |both: bool| {
        let mut tape = Tape::new(context);
        let x = tape.input(shape, logits, true)?;
        let outcome = cross_entropy(&mut tape, x, labels)?;
        let result = tape.read(outcome.result)?;
        if both {
            tape.backward_from(&[(outcome.result, &[1.0, 100.0, 50.0])])?;
        } else {
            tape.backward(outcome.loss)?;
        }
        Ok((result, tape.read_grad(x)?.unwrap_or_default()))
    };
    let (result, gradient_of_loss) = gradient(false)?;
    Ok(Applied { result, gradient: gradient_of_loss, gradient_of_both: gradient(true)?.1 })
}

fn extreme_logits_stay_finite() -> Vec<Check> {
    // Two images, three classes; column by column: certain and right, certain and wrong.
    let logits = [1e4, -1e4, -1e4, 1e4, 0.0, 0.0];
    vec![Check::new(move |lab, measured| {
        let Applied { result, gradient, .. } = lab.run(1 << 12, |context| apply(context, &logits, &[0, 0]))?;
        measured.exact("half of 2e4, one error", &result, &[1e4, 1.0, 0.0]);
        measured.exact("gradient", &gradient, &[0.0, -0.5, 0.0, 0.5, 0.0, 0.0]);
        Ok(())
    })]
}

fn a_common_offset_of_the_logits_costs_no_digits() -> Vec<Check> {
    let (classes, images) = (5, 7);
    let labels = draw_labels(classes, images);
    let mut rng = Rng::new(9, Stream::Init);
    // Multiples of 1/64 near 1e4 are exact in f32.
    let logits: Vec<f32> = (0..classes * images).map(|_| 1e4 + (rng.normal() * 64.0).round() as f32 / 64.0).collect();
    vec![Check::new(move |lab, measured| {
        let Applied { result, gradient, .. } = lab.run(1 << 12, |context| apply(context, &logits, &labels))?;
        let exact: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        measured.samples("loss", &result, &[(0, mean_loss(&exact, &labels))], classes);
        let expected = |i: usize| {
            let (k, n) = (i / images, i % images);
            let target = f64::from(u8::from(k == usize::from(labels[n])));
            (softmax(&column(&exact, n, images), k) - target) / images as f64
        };
        let expected: Vec<f64> = (0..classes * images).map(expected).collect();
        measured.close("gradient", &gradient, &expected, classes);
        Ok(())
    })]
}

fn ties_count_for_the_lower_class() -> Vec<Check> {
    // Three classes, four images, with the largest logit shared by classes 0 and 1, 1 and 2,
    // 0 and 2, and all.
    let logits = [2.0, -1.0, 5.0, 0.0, 2.0, 3.0, 4.0, 0.0, 1.0, 3.0, 5.0, 0.0];
    vec![Check::new(move |lab, measured| {
        let expected = [
            ([0, 1, 0, 0], 0.0),
            ([1, 1, 0, 0], 1.0),
            ([1, 2, 0, 0], 2.0),
            ([1, 2, 2, 0], 3.0),
            ([1, 2, 2, 1], 4.0),
            ([0, 1, 0, 2], 1.0),
        ];
        for (labels, errors) in expected {
            let applied = lab.run(1 << 12, |context| apply(context, &logits, &labels))?;
            measured.exact(
                format!("errors of {labels:?}"),
                applied.result.get(1..).unwrap_or_default(),
                &[errors, 0.0],
            );
        }
        Ok(())
    })]
}

fn five_guesses_are_one_more_count() -> Vec<Check> {
    // Seven classes, two images: descending logits, and all the same.
    let logits: Vec<f32> = (0..7).flat_map(|k| [-(k as f32), 0.5]).collect();
    vec![Check::new(move |lab, measured| {
        for (labels, expected) in
            [([0, 0], [0.0, 0.0]), ([1, 4], [2.0, 0.0]), ([4, 5], [2.0, 1.0]), ([5, 6], [2.0, 2.0])]
        {
            let applied = lab.run(1 << 12, |context| apply(context, &logits, &labels))?;
            measured.exact(format!("errors of {labels:?}"), applied.result.get(1..).unwrap_or_default(), &expected);
        }
        Ok(())
    })]
}

fn not_a_number_is_wrong() -> Vec<Check> {
    // Six classes, three images: all NaN, the label's alone, another one.
    let mut logits = [1.0; 18];
    (0..6).for_each(|k| logits[3 * k] = f32::NAN);
    (logits[3 * 2 + 1], logits[3 * 5 + 2]) = (f32::NAN, f32::NAN);
    logits[3 * 2 + 2] = 2.0;
    vec![Check::new(move |lab, measured| {
        let applied = lab.run(1 << 12, |context| apply(context, &logits, &[2, 2, 2]))?;
        measured.exact("errors", applied.result.get(1..).unwrap_or_default(), &[3.0, 2.0]);
        Ok(())
    })]
}

fn errors_are_counted_and_carry_no_gradient() -> Vec<Check> {
    let mut rng = Rng::new(2, Stream::Init);
    let (classes, images) = (9, 53);
    let logits: Vec<f32> = (0..classes * images).map(|_| rng.normal() as f32).collect();
    let labels = draw_labels(classes, images);
    let wrong = |allowed: usize| {
        let above = |n: usize| {
            let of = |k: usize| logits[k * images + n];
            (0..classes).filter(|&k| of(k) > of(usize::from(labels[n]))).count()
        };
        (0..images).filter(|&n| above(n) >= allowed).count() as f32
    };
    let (wrong, top5_wrong) = (wrong(1), wrong(5));
    vec![Check::new(move |lab, measured| {
        let applied = lab.run(1 << 12, |context| apply(context, &logits, &labels))?;
        measured.holds("both errors and hits", (20.0..53.0).contains(&wrong) && (10.0..40.0).contains(&top5_wrong));
        measured.exact("errors", applied.result.get(1..).unwrap_or_default(), &[wrong, top5_wrong]);
        measured.exact("gradient given to the count", &applied.gradient_of_both, &applied.gradient);
        Ok(())
    })]
}
