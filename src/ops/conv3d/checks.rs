//! conv3d against nested f64 loops, for every kind of filter, group and destination.

use super::{Conv3d, OP, conv3d};
use crate::backend::cpu::Filter;
use crate::ops::conv2d::Output;
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    plain_3x3x3,
    dilation_per_axis,
    kernel_larger_than_the_volume,
    one_slice_is_a_picture,
    kernels_of_other_sizes,
    groups,
    tiles_that_reach_over_slices,
    enough_channels_for_wide_tiles,
    the_first_channels_of_a_larger_filter_and_gradient_into_them_alone,
    relu_on_the_output,
    the_second_path_adds_to_the_first,
    a_view_reads_and_feeds_its_channels_only,
);

/// A geometry under test; sizes are pairwise different and no multiples of a tile.
#[derive(Clone, Copy)]
struct Geometry {
    c: usize,
    k: usize,
    /// Slices, rows, columns.
    size: [usize; 3],
    n: usize,
    kernel: [usize; 3],
    dilation: [usize; 3],
    groups: usize,
    /// Channels [K', C'] of the stored filter if there are more.
    stored: Option<[usize; 2]>,
}

const PLAIN: Geometry =
    Geometry { c: 3, k: 10, size: [4, 5, 6], n: 2, kernel: [3, 3, 3], dilation: [1, 1, 1], groups: 1, stored: None };

impl Geometry {
    fn stored(self) -> [usize; 2] {
        self.stored.unwrap_or([self.k, self.c / self.groups])
    }

    fn weights(self) -> usize {
        self.stored().iter().chain(&self.kernel).product()
    }

    fn shape(self) -> Shape {
        Shape::new(self.c, self.size[1], self.size[2], self.n).with_depth(self.size[0])
    }

    /// Index of pixel `at` of image n of channel c; `None` in the padding.
    fn at(self, c: usize, at: [isize; 3], n: usize) -> Option<usize> {
        let inside = at.iter().zip(self.size).all(|(&i, len)| (0..len as isize).contains(&i));
        let [z, h, w] = at.map(|i| i as usize);
        inside.then(|| (((c * self.size[0] + z) * self.size[1] + h) * self.size[2] + w) * self.n + n)
    }

    /// y[k][o][p][q][n] by the definition.
    fn reference(self, x: &[f64], w: &[f64]) -> Vec<f64> {
        let [_, stored_c] = self.stored();
        let (kg, cg) = (self.k / self.groups, self.c / self.groups);
        let mut y = Vec::new();
        for k in 0..self.k {
            for (pixel, n) in indices(self.size).flat_map(|pixel| (0..self.n).map(move |n| (pixel, n))) {
                let mut sum = 0.0;
                for (tap, c) in indices(self.kernel).flat_map(|tap| (0..cg).map(move |c| (tap, c))) {
                    let along = |axis: usize| {
                        let from_centre = tap[axis] as isize - (self.kernel[axis] / 2) as isize;
                        pixel[axis] as isize + from_centre * self.dilation[axis] as isize
                    };
                    if let Some(at) = self.at(k / kg * cg + c, [0, 1, 2].map(along), n) {
                        let [_, r_len, s_len] = self.kernel;
                        let first = (k * stored_c + c) * self.kernel.iter().product::<usize>();
                        sum += x[at] * w[first + (tap[0] * r_len + tap[1]) * s_len + tap[2]];
                    }
                }
                y.push(sum);
            }
        }
        y
    }

    fn operands(self) -> Vec<Input> {
        vec![
            Input::random(self.shape(), 1),
            Input::random(Shape::vector(self.weights()), 2),
            Input::random(Shape::vector(1), 3),
        ]
    }

    fn config(self, slope: Option<f32>, output: Output) -> Conv3d {
        let ([k, c], [t, r, s]) = (self.stored(), self.kernel);
        let filter = Filter::centre([k, c, t * r, s], self.k, self.c / self.groups, [t * r, s], self.groups);
        Conv3d { filter, layers: t, dilation: self.dilation, slope, output }
    }

    fn depth(self) -> usize {
        self.k * self.kernel.iter().chain(&self.size).product::<usize>() * self.n
    }

    fn case(self) -> Case {
        self.case_with(None)
    }

    fn case_with(self, slope: Option<f32>) -> Case {
        let case = Case::new(
            self.operands(),
            self.depth(),
            move |tape, v| conv3d(tape, v[0], v[1], Some(v[2]), self.config(slope, Output::New)),
            move |v| {
                let leaky = |x: f64| if x > 0.0 { x } else { slope.map_or(1.0, f64::from) * x };
                self.reference(&v[0], &v[1]).iter().map(|y| leaky(y * v[2][0])).collect()
            },
        );
        if slope.is_some() { case.kinked() } else { case }
    }
}

/// All indices of an array of this extent, in order.
fn indices([a, b, c]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k])))
}

fn plain_3x3x3() -> Vec<Case> {
    vec![PLAIN.case()]
}

fn dilation_per_axis() -> Vec<Case> {
    vec![
        Geometry { dilation: [3, 2, 1], size: [7, 4, 3], ..PLAIN }.case(),
        Geometry { dilation: [1, 2, 3], size: [2, 5, 8], n: 1, ..PLAIN }.case(),
    ]
}

fn kernel_larger_than_the_volume() -> Vec<Case> {
    vec![
        Geometry { dilation: [2, 3, 2], size: [2, 2, 3], n: 5, ..PLAIN }.case(),
        Geometry { dilation: [3, 1, 1], size: [3, 4, 2], n: 1, ..PLAIN }.case(),
    ]
}

fn one_slice_is_a_picture() -> Vec<Case> {
    vec![Geometry { size: [1, 6, 5], n: 3, ..PLAIN }.case()]
}

fn kernels_of_other_sizes() -> Vec<Case> {
    vec![
        Geometry { kernel: [5, 3, 1], c: 2, k: 3, n: 3, ..PLAIN }.case(),
        Geometry { kernel: [1, 3, 5], c: 2, k: 3, n: 1, ..PLAIN }.case(),
        Geometry { kernel: [1, 1, 1], c: 3, k: 2, ..PLAIN }.case(),
    ]
}

fn groups() -> Vec<Case> {
    vec![
        Geometry { c: 6, k: 10, groups: 2, size: [3, 4, 5], ..PLAIN }.case(),
        Geometry { c: 8, k: 8, groups: 8, size: [3, 4, 5], ..PLAIN }.case(),
    ]
}

fn tiles_that_reach_over_slices() -> Vec<Case> {
    // Planes of 9 * 12 positions: a tile of 128 begins in one slice and ends in the next.
    vec![Geometry { c: 2, k: 3, size: [5, 3, 3], n: 12, dilation: [2, 1, 1], ..PLAIN }.case()]
}

fn enough_channels_for_wide_tiles() -> Vec<Case> {
    vec![Geometry { c: 18, k: 33, size: [2, 3, 2], n: 3, ..PLAIN }.case()]
}

fn the_first_channels_of_a_larger_filter_and_gradient_into_them_alone() -> Vec<Case> {
    // Differences of the reference are 0 elsewhere, and so must the gradient be.
    vec![Geometry { c: 6, k: 4, groups: 2, stored: Some([7, 5]), size: [3, 4, 2], ..PLAIN }.case()]
}

fn relu_on_the_output() -> Vec<Case> {
    vec![Geometry { k: 5, ..PLAIN }.case_with(Some(0.0))]
}

fn the_second_path_adds_to_the_first() -> Vec<Case> {
    let first = Geometry { k: 4, ..PLAIN };
    let other = Geometry { dilation: [2, 1, 3], ..first };
    let mut inputs = first.operands();
    inputs.push(Input::random(Shape::vector(other.weights()), 4));
    vec![Case::new(
        inputs,
        2 * first.depth(),
        move |tape, v| {
            let y = conv3d(tape, v[0], v[1], Some(v[2]), first.config(None, Output::New))?;
            conv3d(tape, v[0], v[3], None, other.config(None, Output::AddTo(y)))
        },
        move |v| {
            let (a, b) = (first.reference(&v[0], &v[1]), other.reference(&v[0], &v[3]));
            a.iter().zip(b).map(|(a, b)| a * v[2][0] + b).collect()
        },
    )]
}

fn a_view_reads_and_feeds_its_channels_only() -> Vec<Case> {
    let geometry = Geometry { k: 4, size: [3, 2, 5], ..PLAIN };
    let plane = geometry.shape().plane();
    let mut inputs = geometry.operands();
    inputs[0] = Input::random(geometry.shape().with_channels(5), 1);
    vec![Case::new(
        inputs,
        geometry.depth(),
        move |tape, v| {
            let view = tape.channels(v[0], 1..4);
            conv3d(tape, view, v[1], Some(v[2]), geometry.config(None, Output::New))
        },
        move |v| geometry.reference(&v[0][plane..4 * plane], &v[1]).iter().map(|y| y * v[2][0]).collect(),
    )]
}
