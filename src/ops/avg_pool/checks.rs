//! avg_pool against nested f64 loops.

use super::{OP, avg_pool};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(OP, halves_height_and_width, halves_volumes_along_each_axis, a_view_reads_and_feeds_its_channels_only,);

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let Shape { c, d, h, w, n } = shape;
    let depth = d.min(2);
    let mut y = Vec::new();
    // A slice pooled comes from `depth` slices of the same channel.
    for slice in 0..c * d / depth {
        for (p, q) in (0..h / 2).flat_map(|p| (0..w / 2).map(move |q| (p, q))) {
            for image in 0..n {
                let at =
                    |s: usize, row: usize, column: usize| x[(((slice * depth + s) * h + row) * w + column) * n + image];
                let square = [[0, 0], [0, 1], [1, 0], [1, 1]];
                let window = (0..depth).flat_map(|s| square.map(|[r, t]| at(s, 2 * p + r, 2 * q + t)));
                y.push(window.sum::<f64>() / (4 * depth) as f64);
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

fn halves_volumes_along_each_axis() -> Vec<Case> {
    vec![
        case(Shape::new(3, 6, 10, 5).with_depth(4)),
        case(Shape::new(1, 2, 4, 7).with_depth(2)),
        case(Shape::new(2, 4, 2, 1).with_depth(6)),
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
