//! global_avg_pool against nested f64 loops.

use super::global_avg_pool;
use crate::tensor::Shape;
use crate::testing::{Case, Input};

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let pixels = shape.h * shape.w;
    let mut y = Vec::new();
    for (c, n) in (0..shape.c).flat_map(|c| (0..shape.n).map(move |n| (c, n))) {
        y.push((0..pixels).map(|i| x[(c * pixels + i) * shape.n + n]).sum::<f64>() / pixels as f64);
    }
    y
}

fn check(shape: Shape) {
    Case {
        inputs: vec![Input::random(shape, 1)],
        build: &|tape, v| global_avg_pool(tape, v[0]),
        reference: &|v| reference(shape, &v[0]),
        depth: shape.h * shape.w,
    }
    .check();
}

#[test]
fn averages_each_image_of_each_channel() {
    check(Shape::new(3, 7, 5, 11));
    check(Shape::new(17, 4, 9, 1));
    check(Shape::new(2, 1, 1, 5));
    check(Shape::new(1, 23, 1, 19));
}

#[test]
fn a_view_reads_and_feeds_its_channels_only() {
    let shape = Shape::new(3, 7, 5, 11);
    Case {
        inputs: vec![Input::random(shape.with_channels(6), 1)],
        build: &|tape, v| {
            let view = tape.channels(v[0], 1..4);
            global_avg_pool(tape, view)
        },
        reference: &|v| reference(shape, &v[0][shape.plane()..4 * shape.plane()]),
        depth: 35,
    }
    .check();
}
