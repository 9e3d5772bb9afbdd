//! pointwise against a matrix product in f64, for every kind of view, filter and activation.

use super::{OP, Pointwise, pointwise};
use crate::backend::Kind;
use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::ops::activation::{Activation, LEAKY_SLOPE, activation};
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, Lab, checks};

checks!(
    OP,
    several_views_are_read_in_order,
    relu_and_leaky_relu_on_the_output,
    the_first_rows_and_columns_of_a_larger_filter_and_gradient_into_them_alone,
    every_number_of_output_channels_up_to_two_tiles,
    every_number_of_input_channels_up_to_two_tiles,
    more_output_channels_than_a_block_of_lanes,
    many_input_channels_are_summed_in_parts,
    planes_longer_than_a_task_and_a_stretch,
    views_may_be_channels_of_one_bigger_value_in_any_order,
    two_readers_of_overlapping_views_add_their_gradients,
    operands_without_gradient_get_none,
    constant_views_may_stand_beside_others,
    equals_concat_then_relu_then_conv2d_then_leaky_relu,
    volumes_are_multiplied_voxel_by_voxel,
);

/// A product under test; sizes are pairwise different and no multiples of a tile.
#[derive(Clone, Copy)]
struct Geometry {
    /// Channels of each view.
    views: &'static [usize],
    k: usize,
    depth: usize,
    size: [usize; 2],
    n: usize,
    /// Stored filter [K', C'] if larger than K, C.
    stored: Option<[usize; 2]>,
    relu: bool,
    scaled: bool,
    slope: Option<f32>,
}

const PLAIN: Geometry = Geometry {
    views: &[3, 1, 5],
    k: 10,
    depth: 1,
    size: [7, 5],
    n: 2,
    stored: None,
    relu: true,
    scaled: true,
    slope: None,
};

impl Geometry {
    fn c(self) -> usize {
        self.views.iter().sum()
    }

    fn plane(self) -> usize {
        self.depth * self.size[0] * self.size[1] * self.n
    }

    fn shape(self, channels: usize) -> Shape {
        Shape::new(channels, self.size[0], self.size[1], self.n).with_depth(self.depth)
    }

    fn stored(self) -> [usize; 2] {
        self.stored.unwrap_or([self.k, self.c()])
    }

    fn config(self) -> Pointwise {
        let [rows, columns] = self.stored();
        let filter = Filter::centre([rows, columns, 1, 1], self.k, self.c(), [1, 1], 1);
        Pointwise { filter, relu: self.relu, slope: self.slope }
    }

    /// The filter and the scale.
    fn weights(self) -> Vec<Input> {
        let scale = Input::random(Shape::vector(1), 3);
        let w = Input::random(Shape::vector(self.stored().iter().product()), 2);
        vec![w, if self.scaled { scale } else { scale.constant() }]
    }

    /// The op on views, filter and scale.
    fn build(self, tape: &mut Tape<'_>, views: &[Var], weights: &[Var]) -> Result<Var> {
        pointwise(tape, views, weights[0], self.scaled.then_some(weights[1]), self.config())
    }

    /// y[k][i] by the definition, from all C channels.
    fn reference(self, x: &[f64], weights: &[Vec<f64>]) -> Vec<f64> {
        let plane = self.plane();
        let scale = if self.scaled { weights[1][0] } else { 1.0 };
        let mut y = vec![0.0; self.k * plane];
        for (k, y) in y.chunks_mut(plane).enumerate() {
            for (c, x) in x.chunks(plane).enumerate() {
                let w = scale * weights[0][k * self.stored()[1] + c];
                for (y, &x) in y.iter_mut().zip(x) {
                    *y += w * if self.relu { x.max(0.0) } else { x };
                }
            }
        }
        let slope = self.slope.map_or(1.0, f64::from);
        y.into_iter().map(|z| if z > 0.0 { z } else { slope * z }).collect()
    }

    /// Each view is a value of its own.
    fn case(self) -> Case {
        let count = self.views.len();
        let mut inputs: Vec<Input> =
            self.views.iter().zip(10..).map(|(&c, seed)| Input::random(self.shape(c), seed)).collect();
        inputs.extend(self.weights());
        let case = Case::new(
            inputs,
            self.k * self.c() * self.plane(),
            move |tape, v| self.build(tape, &v[..count], &v[count..]),
            move |v| self.reference(&v[..count].concat(), &v[count..]),
        );
        if self.slope.is_some() { case.kinked() } else { case }
    }
}

fn several_views_are_read_in_order() -> Vec<Case> {
    let plain = [[false, false], [false, true], [true, false], [true, true]];
    let mut cases: Vec<Case> = plain.map(|[relu, scaled]| Geometry { relu, scaled, ..PLAIN }.case()).into();
    cases.push(Geometry { views: &[4], ..PLAIN }.case());
    cases.push(Geometry { views: &[1, 2, 1, 6, 3], k: 7, ..PLAIN }.case());
    cases
}

fn relu_and_leaky_relu_on_the_output() -> Vec<Case> {
    let cases = |slope| {
        let plain = Geometry { slope: Some(slope), ..PLAIN };
        [plain.case(), Geometry { relu: false, scaled: false, ..plain }.case()]
    };
    [0.0, 0.02].into_iter().flat_map(cases).collect()
}

fn the_first_rows_and_columns_of_a_larger_filter_and_gradient_into_them_alone() -> Vec<Case> {
    vec![
        // Differences of the reference are 0 outside the used part; `check` samples all of it.
        Geometry { views: &[2, 3], k: 4, stored: Some([6, 8]), ..PLAIN }.case(),
        Geometry { views: &[2, 3], k: 4, stored: Some([4, 7]), slope: Some(0.02), ..PLAIN }.case(),
        Geometry { views: &[5], k: 3, stored: Some([9, 5]), ..PLAIN }.case(),
    ]
}

fn every_number_of_output_channels_up_to_two_tiles() -> Vec<Case> {
    (1..=17).map(|k| Geometry { views: &[2, 1], k, size: [3, 4], n: 3, ..PLAIN }.case()).collect()
}

fn every_number_of_input_channels_up_to_two_tiles() -> Vec<Case> {
    const VIEWS: [&[usize]; 17] = [
        &[1],
        &[1, 1],
        &[2, 1],
        &[1, 3],
        &[5],
        &[2, 4],
        &[7],
        &[3, 5],
        &[4, 5],
        &[9, 1],
        &[11],
        &[5, 7],
        &[13],
        &[3, 11],
        &[8, 7],
        &[7, 9],
        &[17],
    ];
    VIEWS.map(|views| Geometry { views, k: 3, size: [3, 4], n: 3, ..PLAIN }.case()).into()
}

fn more_output_channels_than_a_block_of_lanes() -> Vec<Case> {
    vec![
        Geometry { views: &[2, 5], k: 66, size: [3, 5], n: 2, ..PLAIN }.case(),
        Geometry { views: &[2, 5], k: 131, size: [3, 5], n: 2, ..PLAIN }.case(),
        // More than 512: the transposed stretch leaves its fixed buffer.
        Geometry { views: &[2, 1], k: 530, size: [3, 7], n: 2, ..PLAIN }.case(),
    ]
}

fn many_input_channels_are_summed_in_parts() -> Vec<Case> {
    // On a GPU a part has 64 channels: two parts, one of them longer.
    [false, true].map(|relu| Geometry { views: &[70, 61], k: 3, size: [3, 2], n: 3, relu, ..PLAIN }.case()).into()
}

fn planes_longer_than_a_task_and_a_stretch() -> Vec<Case> {
    vec![
        // 7 * 11 * 13 = 1001: a segment of 768 and a rest, a stretch of 512 and a rest.
        Geometry { views: &[2, 3], k: 5, size: [7, 11], n: 13, ..PLAIN }.case(),
        // 9 * 19 * 29 = 4959: more stretches than parts, so that a part holds several.
        Geometry { views: &[1, 2], k: 3, size: [9, 19], n: 29, relu: false, ..PLAIN }.case(),
        Geometry { views: &[1], k: 70, size: [11, 17], n: 7, ..PLAIN }.case(),
        // Exactly one segment, and a multiple of every tile.
        Geometry { views: &[3], k: 2, size: [8, 12], n: 8, ..PLAIN }.case(),
    ]
}

fn views_may_be_channels_of_one_bigger_value_in_any_order() -> Vec<Case> {
    let case = Geometry { views: &[3, 2], k: 4, ..PLAIN };
    let plane = case.plane();
    let mut inputs = vec![Input::random(case.shape(9), 1)];
    inputs.extend(case.weights());
    vec![Case::new(
        inputs,
        4 * 5 * plane,
        move |tape, v| {
            let views = [tape.channels(v[0], 4..7), tape.channels(v[0], 0..2)];
            case.build(tape, &views, &v[1..])
        },
        move |v| {
            let x = [&v[0][4 * plane..7 * plane], &v[0][..2 * plane]].concat();
            case.reference(&x, &v[1..])
        },
    )]
}

fn two_readers_of_overlapping_views_add_their_gradients() -> Vec<Case> {
    // The first reader sees channels 0..3, the second 2..5: backward, 2..5 is overwritten and of
    // 0..3 channel 2 is added to while 0 and 1 start from zero.
    let one = Geometry { views: &[3], k: 4, ..PLAIN };
    let plane = one.plane();
    let mut inputs = vec![Input::random(one.shape(5), 1)];
    inputs.extend(one.weights());
    inputs.extend(one.weights());
    vec![Case::new(
        inputs,
        2 * 4 * 3 * plane,
        move |tape, v| {
            let views = [tape.channels(v[0], 0..3), tape.channels(v[0], 2..5)];
            let y = [one.build(tape, &views[..1], &v[1..3])?, one.build(tape, &views[1..], &v[3..])?];
            concat(tape, &y)
        },
        move |v| [one.reference(&v[0][..3 * plane], &v[1..3]), one.reference(&v[0][2 * plane..], &v[3..])].concat(),
    )]
}

fn operands_without_gradient_get_none() -> Vec<Case> {
    let inputs = |data: bool, weights: bool| {
        let choose = |input: Input, wanted: bool| if wanted { input } else { input.constant() };
        let views = [3, 1, 5].into_iter().zip(10..).map(|(c, seed)| choose(Input::random(PLAIN.shape(c), seed), data));
        views.chain(PLAIN.weights().into_iter().map(|w| choose(w, weights))).collect::<Vec<_>>()
    };
    let case = |(data, weights)| {
        Case::new(
            inputs(data, weights),
            10 * 9 * 70,
            |tape, v| PLAIN.build(tape, &v[..3], &v[3..]),
            |v| PLAIN.reference(&v[..3].concat(), &v[3..]),
        )
    };
    [(true, false), (false, true)].map(case).into()
}

fn constant_views_may_stand_beside_others() -> Vec<Case> {
    let case = |constant: usize| {
        let views = [3, 1, 5].into_iter().zip(10..).map(|(c, seed)| Input::random(PLAIN.shape(c), seed));
        let mut inputs: Vec<Input> = views.chain(PLAIN.weights()).collect();
        inputs[constant] = inputs[constant].clone().constant();
        Case::new(
            inputs,
            10 * 9 * 70,
            |tape, v| PLAIN.build(tape, &v[..3], &v[3..]),
            |v| PLAIN.reference(&v[..3].concat(), &v[3..]),
        )
    };
    (0..3).map(case).collect()
}

/// One way to compute a geometry with three views, from views and weights.
type Compute<'a> = dyn Fn(&mut Tape<'_>, &[Var], &[Var]) -> Result<Var> + 'a;

/// Output and gradients of views, filter and scale.
fn outcome(lab: &Lab, geometry: Geometry, compute: &Compute<'_>) -> Result<Vec<Vec<f32>>> {
    let mut rng = Rng::new(8, Stream::Init);
    let mut draw = |len: usize| (0..len).map(|_| rng.normal() as f32).collect::<Vec<_>>();
    let shapes = geometry.views.iter().map(|&c| geometry.shape(c));
    let shapes = shapes.chain([Shape::vector(geometry.k * geometry.c()), Shape::vector(1)]);
    lab.run(1 << 19, |context| {
        let mut tape = Tape::new(context);
        let mut v = Vec::new();
        for shape in shapes {
            v.push(tape.input(shape, &draw(shape.len()), true)?);
        }
        let y = compute(&mut tape, &v[..3], &v[3..])?;
        let mut results = vec![tape.read(y)?];
        tape.backward_from(&[(y, &draw(geometry.k * geometry.plane()))])?;
        for v in v {
            results.push(tape.read_grad(v)?.unwrap_or_default());
        }
        Ok(results)
    })
}

/// Without fusion: concat, ReLU, convolution, leaky ReLU.
fn plain(geometry: Geometry, tape: &mut Tape<'_>, views: &[Var], w: &[Var]) -> Result<Var> {
    let x = concat(tape, views)?;
    let x = activation(tape, x, Activation::Relu)?;
    let (filter, dilation) = (geometry.config().filter, [1, 1]);
    let y = conv2d(tape, x, w[0], Some(w[1]), Conv2d { filter, dilation, slope: None, output: Output::New })?;
    if geometry.slope.is_some() { activation(tape, y, Activation::LeakyRelu) } else { Ok(y) }
}

fn equals_plain(geometry: Geometry) -> Check {
    Check::new(move |lab, measured| {
        let fused = outcome(lab, geometry, &|tape, views, w| geometry.build(tape, views, w))?;
        let plain = outcome(lab, geometry, &|tape, views, w| plain(geometry, tape, views, w))?;
        let names = ["output", "gradient of view 0", "of view 1", "of view 2", "of the filter", "of the scale"];
        for (i, name) in names.into_iter().enumerate() {
            // On a CPU output and data gradients add up in the same order; sums over pixels are cut differently.
            if i < 4 && lab.kind() == Kind::Cpu {
                measured.exact(name, &fused[i], &plain[i]);
            } else {
                let plain: Vec<f64> = plain[i].iter().map(|&x| f64::from(x)).collect();
                measured.close(name, &fused[i], &plain, geometry.plane());
            }
        }
        Ok(())
    })
}

fn volumes_are_multiplied_voxel_by_voxel() -> Vec<Case> {
    vec![Geometry { depth: 3, size: [2, 5], ..PLAIN }.case()]
}

fn equals_concat_then_relu_then_conv2d_then_leaky_relu() -> Vec<Check> {
    // The second has 18810 outputs: more than one piece of the passes over memory.
    let sizes = [PLAIN, Geometry { size: [9, 19], n: 11, ..PLAIN }];
    let both = |geometry| [None, Some(LEAKY_SLOPE)].map(|slope| equals_plain(Geometry { slope, ..geometry }));
    sizes.into_iter().flat_map(both).collect()
}
