//! global_avg_pool against nested f64 loops.

use super::{OP, global_avg_pool};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(OP, averages_each_image_of_each_channel, a_view_reads_and_feeds_its_channels_only,);

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let pixels = shape.pixels();
    let mut y = Vec::new();
    for (c, n) in (0..shape.c).flat_map(|c| (0..shape.n).map(move |n| (c, n))) {
        y.push((0..pixels).map(|i| x[(c * pixels + i) * shape.n + n]).sum::<f64>() / pixels as f64);
    }
    y
}

fn case(shape: Shape) -> Case {
    Case::new(
        vec![Input::random(shape, 1)],
        shape.pixels(),
        move |tape, v| global_avg_pool(tape, v[0]),
        move |v| reference(shape, &v[0]),
    )
}

fn averages_each_image_of_each_channel() -> Vec<Case> {
    vec![
        case(Shape::new(3, 7, 5, 11)),
        case(Shape::new(17, 4, 9, 1)),
        case(Shape::new(2, 1, 1, 5)),
        case(Shape::new(1, 23, 1, 19)),
        case(Shape::new(2, 3, 5, 7).with_depth(4)),
    ]
}

fn a_view_reads_and_feeds_its_channels_only() -> Vec<Case> {
    let shape = Shape::new(3, 7, 5, 11);
    vec![Case::new(
        vec![Input::random(shape.with_channels(6), 1)],
        35,
        move |tape, v| {
            let view = tape.channels(v[0], 1..4);
            global_avg_pool(tape, view)
        },
        move |v| reference(shape, &v[0][shape.plane()..4 * shape.plane()]),
    )]
}
