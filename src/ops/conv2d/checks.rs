//! conv2d against nested f64 loops, for every kind of window, group and destination.

use super::{Conv2d, OP, Output, conv2d};
use crate::backend::cpu::Filter;
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    plain_3x3,
    rectangular_kernels,
    kernel_larger_than_the_picture,
    dilation_per_axis,
    groups,
    every_number_of_output_channels_up_to_two_tiles,
    many_channels_fill_several_vectors_of_the_weight_gradient,
    rows_longer_than_a_tile_and_a_stretch,
    several_blocks_of_channels_over_several_rows_and_segments,
    a_centre_window_of_a_larger_filter_and_gradient_into_it_alone,
    relu_and_leaky_relu_on_the_output,
    the_second_path_adds_to_the_first,
    dense_layers_write_into_one_feature_buffer,
);

/// A geometry under test; sizes are pairwise different and no multiples of a tile.
#[derive(Clone, Copy)]
struct Geometry {
    c: usize,
    k: usize,
    size: [usize; 2],
    n: usize,
    kernel: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
    /// Stored filter [K', C', R', S'] if larger than the window.
    stored: Option<[usize; 4]>,
}

const PLAIN: Geometry =
    Geometry { c: 3, k: 10, size: [7, 5], n: 2, kernel: [3, 3], dilation: [1, 1], groups: 1, stored: None };

impl Geometry {
    fn stored(self) -> [usize; 4] {
        self.stored.unwrap_or([self.k, self.c / self.groups, self.kernel[0], self.kernel[1]])
    }

    fn shape(self) -> Shape {
        Shape::new(self.c, self.size[0], self.size[1], self.n)
    }

    fn filter(self) -> Filter {
        Filter::centre(self.stored(), self.k, self.c / self.groups, self.kernel, self.groups)
    }

    /// Index of pixel (h, w) of image n of channel c; `None` in the padding.
    fn at(self, c: usize, h: isize, w: isize, n: usize) -> Option<usize> {
        let [rows, columns] = self.size.map(|s| s as isize);
        ((0..rows).contains(&h) && (0..columns).contains(&w))
            .then(|| ((c as isize * rows + h) * columns + w) as usize * self.n + n)
    }

    /// y[k][p][q][n] by the definition.
    fn reference(self, x: &[f64], w: &[f64]) -> Vec<f64> {
        let [_, stored_c, stored_r, stored_s] = self.stored();
        let [r_len, s_len] = self.kernel;
        let mut y = vec![0.0; self.k * self.size[0] * self.size[1] * self.n];
        let (kg, cg) = (self.k / self.groups, self.c / self.groups);
        for k in 0..self.k {
            for (p, q, n) in pixels(self.size, self.n) {
                let mut sum = 0.0;
                for c in 0..cg {
                    for (r, s) in (0..r_len).flat_map(|r| (0..s_len).map(move |s| (r, s))) {
                        let offset = |i: usize, len: usize, d: usize| (i as isize - (len / 2) as isize) * d as isize;
                        let h = p as isize + offset(r, r_len, self.dilation[0]);
                        let v = q as isize + offset(s, s_len, self.dilation[1]);
                        if let Some(at) = self.at(k / kg * cg + c, h, v, n) {
                            let (r, s) = (r + stored_r / 2 - r_len / 2, s + stored_s / 2 - s_len / 2);
                            sum += x[at] * w[((k * stored_c + c) * stored_r + r) * stored_s + s];
                        }
                    }
                }
                y[self.at(k, p as isize, q as isize, n).unwrap()] = sum;
            }
        }
        y
    }

    fn operands(self) -> Vec<Input> {
        vec![
            Input::random(self.shape(), 1),
            Input::random(Shape::vector(self.stored().iter().product()), 2),
            Input::random(Shape::vector(1), 3),
        ]
    }

    fn config(self, slope: Option<f32>, output: Output) -> Conv2d {
        Conv2d { filter: self.filter(), dilation: self.dilation, slope, output }
    }

    fn case(self) -> Case {
        self.case_with(None)
    }

    fn case_with(self, slope: Option<f32>) -> Case {
        let case = Case::new(
            self.operands(),
            self.k * self.kernel[0] * self.kernel[1] * self.size[0] * self.size[1] * self.n,
            move |tape, v| conv2d(tape, v[0], v[1], Some(v[2]), self.config(slope, Output::New)),
            move |v| {
                let leaky = |x: f64| if x > 0.0 { x } else { slope.map_or(1.0, f64::from) * x };
                self.reference(&v[0], &v[1]).iter().map(|y| leaky(y * v[2][0])).collect()
            },
        );
        if slope.is_some() { case.kinked() } else { case }
    }
}

fn pixels(size: [usize; 2], n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..size[0]).flat_map(move |p| (0..size[1]).flat_map(move |q| (0..n).map(move |n| (p, q, n))))
}

fn plain_3x3() -> Vec<Case> {
    vec![PLAIN.case()]
}

fn rectangular_kernels() -> Vec<Case> {
    vec![Geometry { kernel: [5, 3], ..PLAIN }.case(), Geometry { kernel: [1, 7], size: [4, 9], ..PLAIN }.case()]
}

fn kernel_larger_than_the_picture() -> Vec<Case> {
    vec![
        Geometry { kernel: [7, 7], size: [2, 3], n: 5, ..PLAIN }.case(),
        Geometry { kernel: [3, 3], dilation: [3, 2], size: [2, 2], n: 1, ..PLAIN }.case(),
    ]
}

fn dilation_per_axis() -> Vec<Case> {
    vec![
        Geometry { dilation: [2, 3], ..PLAIN }.case(),
        Geometry { kernel: [5, 3], dilation: [1, 3], size: [9, 8], ..PLAIN }.case(),
    ]
}

fn groups() -> Vec<Case> {
    vec![
        Geometry { c: 6, k: 10, groups: 2, ..PLAIN }.case(),
        Geometry { c: 4, k: 8, groups: 4, kernel: [3, 5], ..PLAIN }.case(),
        Geometry { c: 8, k: 8, groups: 8, ..PLAIN }.case(),
    ]
}

fn every_number_of_output_channels_up_to_two_tiles() -> Vec<Case> {
    (1..=17).map(|k| Geometry { c: 2, k, size: [3, 4], n: 3, ..PLAIN }.case()).collect()
}

fn many_channels_fill_several_vectors_of_the_weight_gradient() -> Vec<Case> {
    [31, 33, 50, 66].map(|k| Geometry { c: 13, k, size: [3, 2], n: 3, ..PLAIN }.case()).into()
}

fn rows_longer_than_a_tile_and_a_stretch() -> Vec<Case> {
    vec![
        Geometry { c: 2, k: 3, size: [3, 11], n: 53, ..PLAIN }.case(),
        Geometry { c: 2, k: 3, size: [2, 60], n: 1, kernel: [3, 7], ..PLAIN }.case(),
        Geometry { c: 1, k: 2, size: [2, 17], n: 50, ..PLAIN }.case(),
    ]
}

fn several_blocks_of_channels_over_several_rows_and_segments() -> Vec<Case> {
    // Taps that reach 150 elements leave room for 8 channels in a block, a row of 850 elements has two segments.
    vec![Geometry { c: 9, k: 1, size: [4, 17], n: 50, dilation: [2, 3], ..PLAIN }.case()]
}

fn a_centre_window_of_a_larger_filter_and_gradient_into_it_alone() -> Vec<Case> {
    // Differences of the reference are 0 outside the window, and so must the gradient be:
    // `check` samples the whole stored filter.
    let stored = Some([12, 9, 7, 7]);
    [[3, 3], [3, 7], [5, 3], [7, 5]]
        .map(|kernel| Geometry { c: 6, k: 10, groups: 2, kernel, stored, ..PLAIN }.case())
        .into()
}

fn relu_and_leaky_relu_on_the_output() -> Vec<Case> {
    vec![PLAIN.case_with(Some(0.0)), PLAIN.case_with(Some(0.02))]
}

fn the_second_path_adds_to_the_first() -> Vec<Case> {
    let other = Geometry { kernel: [5, 1], dilation: [1, 1], ..PLAIN };
    let mut inputs = PLAIN.operands();
    inputs.push(Input::random(Shape::vector(other.stored().iter().product()), 4));
    vec![Case::new(
        inputs,
        3 * 9 * 70,
        move |tape, v| {
            let y = conv2d(tape, v[0], v[1], Some(v[2]), PLAIN.config(None, Output::New))?;
            conv2d(tape, v[0], v[3], None, other.config(None, Output::AddTo(y)))
        },
        move |v| {
            let (a, b) = (PLAIN.reference(&v[0], &v[1]), other.reference(&v[0], &v[3]));
            a.iter().zip(b).map(|(a, b)| a * v[2][0] + b).collect()
        },
    )]
}

fn dense_layers_write_into_one_feature_buffer() -> Vec<Case> {
    // features = [x0 (3 channels), act(conv(x0)) (2), act(conv(all 5)) (4)]
    let first = Geometry { k: 2, ..PLAIN };
    let second = Geometry { c: 5, k: 4, ..PLAIN };
    let len = |g: Geometry| g.stored().iter().product::<usize>();
    vec![
        Case::new(
            vec![
                Input::random(PLAIN.shape(), 1),
                Input::random(Shape::vector(len(first)), 2),
                Input::random(Shape::vector(len(second)), 3),
            ],
            5 * 9 * 70,
            move |tape, v| {
                let features = tape.alloc(PLAIN.shape().with_channels(9), true)?;
                let identity = tape.input(Shape::vector(9), &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], false)?;
                let copy = Conv2d {
                    filter: Filter::whole(3, 3, [1, 1], 1),
                    dilation: [1, 1],
                    slope: None,
                    output: Output::Into(tape.channels(features, 0..3)),
                };
                conv2d(tape, v[0], identity, None, copy)?;
                let (x, y) = (tape.channels(features, 0..3), tape.channels(features, 3..5));
                conv2d(tape, x, v[1], None, first.config(Some(0.02), Output::Into(y)))?;
                let (x, y) = (tape.channels(features, 0..5), tape.channels(features, 5..9));
                conv2d(tape, x, v[2], None, second.config(Some(0.02), Output::Into(y)))?;
                Ok(features)
            },
            move |v| {
                let leaky = |y: Vec<f64>| y.into_iter().map(|x| if x > 0.0 { x } else { 0.02f32 as f64 * x });
                let mut features = v[0].clone();
                features.extend(leaky(first.reference(&v[0], &v[1])));
                let y = second.reference(&features, &v[2]);
                features.extend(leaky(y));
                features
            },
        )
        .kinked(),
    ]
}
