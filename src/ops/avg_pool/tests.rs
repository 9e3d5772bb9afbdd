//! avg_pool against nested f64 loops.

use super::avg_pool;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};

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

fn check(shape: Shape) {
    Case {
        inputs: vec![Input::random(shape, 1)],
        build: &|tape, v| avg_pool(tape, v[0]),
        reference: &|v| reference(shape, &v[0]),
        depth: 4,
    }
    .check();
}

#[test]
fn halves_height_and_width() {
    check(Shape::new(3, 6, 10, 7));
    check(Shape::new(5, 14, 2, 3));
    check(Shape::new(2, 2, 6, 1));
    check(Shape::new(1, 2, 2, 17));
}

#[test]
fn a_view_reads_and_feeds_its_channels_only() {
    let shape = Shape::new(3, 6, 10, 7);
    Case {
        inputs: vec![Input::random(shape.with_channels(6), 1)],
        build: &|tape, v| {
            let view = tape.channels(v[0], 2..5);
            avg_pool(tape, view)
        },
        reference: &|v| reference(shape, &v[0][2 * shape.plane()..5 * shape.plane()]),
        depth: 4,
    }
    .check();
}

#[test]
fn odd_sizes_are_refused() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    for (h, w) in [(3, 4), (4, 3)] {
        let x = tape.input(Shape::new(2, h, w, 1), &[0.0; 24], true).unwrap();
        let error = avg_pool(&mut tape, x).unwrap_err().to_string();
        assert_eq!(error, format!("avg_pool: expected even height and width, got [C 2, H {h}, W {w}, N 1]"));
    }
}
