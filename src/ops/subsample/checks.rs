//! subsample against nested f64 loops, alone and as the stride of a convolution.

use super::{OP, subsample};
use crate::backend::cpu::Filter;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    takes_every_second_pixel,
    a_view_reads_and_feeds_its_channels_only,
    after_a_convolution_it_is_that_of_stride_two,
);

fn reference(shape: Shape, x: &[f64]) -> Vec<f64> {
    let Shape { c, h, w, n, .. } = shape;
    let mut y = Vec::new();
    for (channel, p) in (0..c).flat_map(|channel| (0..h / 2).map(move |p| (channel, p))) {
        for (q, image) in (0..w / 2).flat_map(|q| (0..n).map(move |image| (q, image))) {
            y.push(x[((channel * h + 2 * p) * w + 2 * q) * n + image]);
        }
    }
    y
}

fn case(shape: Shape) -> Case {
    Case::new(vec![Input::random(shape, 1)], 1, move |tape, v| subsample(tape, v[0]), move |v| reference(shape, &v[0]))
}

fn takes_every_second_pixel() -> Vec<Case> {
    vec![case(Shape::new(3, 6, 10, 7)), case(Shape::new(5, 14, 2, 3)), case(Shape::new(1, 2, 2, 17))]
}

fn a_view_reads_and_feeds_its_channels_only() -> Vec<Case> {
    let shape = Shape::new(3, 6, 10, 7);
    vec![Case::new(
        vec![Input::random(shape.with_channels(6), 1)],
        1,
        move |tape, v| {
            let view = tape.channels(v[0], 2..5);
            subsample(tape, view)
        },
        move |v| reference(shape, &v[0][2 * shape.plane()..5 * shape.plane()]),
    )]
}

/// y[k][p][q][n] = sum over c, r, s of w[k][c][r][s] * x[c][2p + r - 1][2q + s - 1][n].
fn stride_two(shape: Shape, k_len: usize, x: &[f64], w: &[f64]) -> Vec<f64> {
    let mut y = Vec::new();
    for (k, p) in (0..k_len).flat_map(|k| (0..shape.h / 2).map(move |p| (k, p))) {
        for (q, n) in (0..shape.w / 2).flat_map(|q| (0..shape.n).map(move |n| (q, n))) {
            let mut sum = 0.0;
            for (c, tap) in (0..shape.c).flat_map(|c| (0..9).map(move |tap| (c, tap))) {
                // One less than row and column, so that 0 is the padding.
                let (row, column) = (2 * p + tap / 3, 2 * q + tap % 3);
                if (1..=shape.h).contains(&row) && (1..=shape.w).contains(&column) {
                    let at = ((c * shape.h + row - 1) * shape.w + column - 1) * shape.n + n;
                    sum += w[(k * shape.c + c) * 9 + tap] * x[at];
                }
            }
            y.push(sum);
        }
    }
    y
}

fn after_a_convolution_it_is_that_of_stride_two() -> Vec<Case> {
    let (shape, k) = (Shape::new(2, 4, 6, 3), 5);
    let config = Conv2d { filter: Filter::whole(k, 2, [3, 3], 1), dilation: [1, 1], slope: None, output: Output::New };
    vec![Case::new(
        vec![Input::random(shape, 1), Input::random(Shape::vector(k * 2 * 9), 2)],
        k * 9 * shape.plane(),
        move |tape, v| {
            let y = conv2d(tape, v[0], v[1], None, config)?;
            let strided = subsample(tape, y)?;
            tape.release(y);
            Ok(strided)
        },
        move |v| stride_two(shape, k, &v[0], &v[1]),
    )]
}
