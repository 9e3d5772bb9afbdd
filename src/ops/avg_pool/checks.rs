//! avg_pool against nested f64 loops.

use super::{OP, avg_pool};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(OP, halves_height_and_width, a_view_reads_and_feeds_its_channels_only,);

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let Shape { c, h, w, n } = shape;
    let mut y = Vec::new();
    for channel in 0..c {
        for (p, q) in (0..h / 2).flat_map(|p| (0..w / 2).map(move |q| (p, q))) {
            for image in 0..n {
                let at = |row: usize, column: usize| x[((channel * h + row) * w + column) * n + image];
                let window = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[r, s]| at(2 * p + r, 2 * q + s));
                y.push(window.iter().sum::<f64>() / 4.0);
            }
        }
    }
    y
}

fn case(shape: Shape) -> Case {
    Case::new(vec![Input::random(shape, 1)], 4, move |tape, v| avg_pool(tape, v[0]), move |v| reference(shape, &v[0]))
}

fn halves_height_and_width() -> Vec<Case> {
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
        4,
        move |tape, v| {
            let view = tape.channels(v[0], 2..5);
            avg_pool(tape, view)
        },
        move |v| reference(shape, &v[0][2 * shape.plane()..5 * shape.plane()]),
    )]
}
