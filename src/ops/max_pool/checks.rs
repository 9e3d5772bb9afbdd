//! max_pool against nested f64 loops.

use super::{OP, max_pool};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(OP, keeps_the_largest_of_four, a_view_reads_and_feeds_its_channels_only, a_gradient_is_added_to_another_one,);

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let Shape { c, h, w, n, .. } = shape;
    let mut y = Vec::new();
    for (channel, p) in (0..c).flat_map(|channel| (0..h / 2).map(move |p| (channel, p))) {
        for (q, image) in (0..w / 2).flat_map(|q| (0..n).map(move |image| (q, image))) {
            let at = |[r, s]: [usize; 2]| x[((channel * h + 2 * p + r) * w + 2 * q + s) * n + image];
            y.push([[0, 0], [0, 1], [1, 0], [1, 1]].map(at).into_iter().fold(f64::NEG_INFINITY, f64::max));
        }
    }
    y
}

fn case(shape: Shape) -> Case {
    Case::new(vec![Input::random(shape, 1)], 1, move |tape, v| max_pool(tape, v[0]), move |v| reference(shape, &v[0]))
}

fn keeps_the_largest_of_four() -> Vec<Case> {
    vec![
        case(Shape::new(3, 6, 10, 7)),
        case(Shape::new(5, 14, 2, 3)),
        case(Shape::new(2, 2, 6, 1)),
        case(Shape::new(1, 2, 2, 17)),
    ]
}

fn a_view_reads_and_feeds_its_channels_only() -> Vec<Case> {
    let shape = Shape::new(3, 6, 10, 7);
    vec![Case::new(
        vec![Input::random(shape.with_channels(6), 1)],
        1,
        move |tape, v| {
            let view = tape.channels(v[0], 2..5);
            max_pool(tape, view)
        },
        move |v| reference(shape, &v[0][2 * shape.plane()..5 * shape.plane()]),
    )]
}

/// The maxima of one value, taken twice and added: the second to run backwards adds.
fn a_gradient_is_added_to_another_one() -> Vec<Case> {
    let shape = Shape::new(2, 4, 6, 5);
    vec![Case::new(
        vec![Input::random(shape, 1)],
        2,
        |tape, v| {
            let [a, b] = [max_pool(tape, v[0])?, max_pool(tape, v[0])?];
            crate::ops::add::add(tape, a, b)
        },
        move |v| reference(shape, &v[0]).into_iter().map(|y| 2.0 * y).collect(),
    )]
}
