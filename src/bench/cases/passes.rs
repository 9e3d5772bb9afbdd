//! Passes over memory, and the ends of a network.

use super::{Case, Of, Seen, index, input, parameter, place};
use crate::backend::{Region, Span};
use crate::bench::spec::Spec;
use crate::data::augment::Placement;
use crate::data::{ImageShape, Images};
use crate::error::Result;
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::batch_gather::{BatchGather, batch_gather};
use crate::ops::batchnorm::{Batchnorm, EPSILON, MOMENTUM, batchnorm};
use crate::ops::concat::concat;
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::gate::gate;
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::ops::max_pool::max_pool;
use crate::ops::mean::mean;
use crate::ops::subsample::subsample;
use crate::tensor::Shape;

/// Images of the data set that batches are gathered from.
const IMAGES: usize = 1000;

pub(super) fn case(spec: &Spec) -> Result<Option<Case>> {
    let picture = |c: usize, size: [usize; 2], n: usize| Shape::new(c, size[0], size[1], n);
    let case = match *spec {
        Spec::Batchnorm { views, c, size, n } => batchnorm_case(views, picture(c, size, n)),
        Spec::Add { c, size, n } => elementwise(2, picture(c, size, n), |tape, v| add(tape, v[0], v[1]), |a, b| a + b),
        Spec::Activation { c, size, n } => activation_case(picture(c, size, n)),
        Spec::Gate { c, size, n } => gate_case(picture(c, size, n)),
        Spec::Concat { views, c, size, n } => concat_case(views, picture(c, size, n)),
        Spec::AvgPool { c, size, n } => avg_pool_case(picture(c, size, n)),
        Spec::MaxPool { c, size, n } => max_pool_case(picture(c, size, n)),
        Spec::Mean { views, c, size, n } => mean_case(views, picture(c, size, n)),
        Spec::Subsample { c, size, n } => subsample_case(picture(c, size, n)),
        Spec::GlobalAvgPool { c, size, n } => global_avg_pool_case(picture(c, size, n)),
        Spec::BatchGather { c, size, n } => batch_gather_case(c, size, n),
        Spec::Linear { c, k, n } => linear_case(c, k, n),
        Spec::CrossEntropy { k, n } => cross_entropy_case(k, n),
        _ => return Ok(None),
    };
    case.map(Some)
}

/// A sum of operands of one shape.
fn elementwise(
    operands: usize,
    shape: Shape,
    build: impl Fn(&mut crate::tape::Tape<'_>, &[crate::tape::Var]) -> Result<crate::tape::Var> + 'static,
    reference: impl Fn(f64, f64) -> f64 + 'static,
) -> Result<Case> {
    let element = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => reference(seen.at(0, at), seen.at(operands - 1, at)),
        Of::Gradient(_) => f64::from(seen.gy[at]),
    };
    let case = Case::new(vec![input(shape); operands], operands, build, element)?;
    Ok(case.backward("backward", (0..operands).map(|i| (i, 1)), [], false))
}

fn activation_case(shape: Shape) -> Result<Case> {
    let reference = |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => seen.at(0, at).max(0.0),
        Of::Gradient(_) => seen.gradient(at, Some(0.0)),
    };
    let case = Case::new(vec![input(shape)], 1, |tape, v| activation(tape, v[0], Activation::Relu), reference)?;
    Ok(case.backward("backward", [(0, 1)], [], true))
}

fn gate_case(shape: Shape) -> Result<Case> {
    let reference = |seen: &Seen<'_>, of: Of, at: usize| {
        let (t, s, gy) = (seen.at(0, at).tanh(), 1.0 / (1.0 + (-seen.at(1, at)).exp()), f64::from(seen.gy[at]));
        match of {
            Of::Result => t * s,
            Of::Gradient(0) => gy * s * (1.0 - t * t),
            Of::Gradient(_) => gy * t * s * (1.0 - s),
        }
    };
    let case = Case::new(vec![input(shape); 2], 4, |tape, v| gate(tape, v[0], v[1]), reference)?;
    // Each gradient is a pass of its own over both operands.
    Ok(case.backward("backward", [(0, 4), (1, 4)], [0, 1], true))
}

fn concat_case(views: usize, shape: Shape) -> Result<Case> {
    let len = shape.len();
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => seen.at(at / len, at % len),
        Of::Gradient(view) => f64::from(seen.gy[view * len + at]),
    };
    let case = Case::new(vec![input(shape); views], 1, concat, reference)?;
    Ok(case.backward("backward", (0..views).map(|i| (i, 1)), [], false))
}

fn avg_pool_case(shape: Shape) -> Result<Case> {
    let half = Shape { h: shape.h / 2, w: shape.w / 2, ..shape };
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => {
            let [c, p, q, n] = place(half, at);
            let window = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[i, j]| index(shape, [c, 2 * p + i, 2 * q + j, n]));
            window.iter().map(|&i| seen.at(0, i)).sum::<f64>() / 4.0
        }
        Of::Gradient(_) => {
            let [c, h, w, n] = place(shape, at);
            f64::from(seen.gy[index(half, [c, h / 2, w / 2, n])]) / 4.0
        }
    };
    Ok(Case::new(vec![input(shape)], 4, |tape, v| avg_pool(tape, v[0]), reference)?.backward(
        "backward",
        [(0, 1)],
        [],
        false,
    ))
}

fn max_pool_case(shape: Shape) -> Result<Case> {
    let half = Shape { h: shape.h / 2, w: shape.w / 2, ..shape };
    let window = move |[c, p, q, n]: [usize; 4]| {
        [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[i, j]| index(shape, [c, 2 * p + i, 2 * q + j, n]))
    };
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| {
        let most = |place| window(place).map(|i| seen.at(0, i)).into_iter().fold(f64::NEG_INFINITY, f64::max);
        match of {
            Of::Result => most(place(half, at)),
            Of::Gradient(_) => {
                let [c, h, w, n] = place(shape, at);
                let pooled = [c, h / 2, w / 2, n];
                let first = window(pooled).into_iter().find(|&i| seen.at(0, i) == most(pooled));
                if first == Some(at) { f64::from(seen.gy[index(half, pooled)]) } else { 0.0 }
            }
        }
    };
    let case = Case::new(vec![input(shape)], 1, |tape, v| max_pool(tape, v[0]), reference)?;
    Ok(case.backward("backward", [(0, 1)], [], false))
}

fn mean_case(views: usize, shape: Shape) -> Result<Case> {
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => (0..views).map(|view| seen.at(view, at)).sum::<f64>() / views as f64,
        Of::Gradient(_) => f64::from(seen.gy[at]) / views as f64,
    };
    let case = Case::new(vec![input(shape); views], views, mean, reference)?;
    Ok(case.backward("backward", (0..views).map(|i| (i, 1)), [], false))
}

fn subsample_case(shape: Shape) -> Result<Case> {
    let half = Shape { h: shape.h / 2, w: shape.w / 2, ..shape };
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => {
            let [c, p, q, n] = place(half, at);
            seen.at(0, index(shape, [c, 2 * p, 2 * q, n]))
        }
        Of::Gradient(_) => match place(shape, at) {
            [c, h, w, n] if h % 2 == 0 && w % 2 == 0 => f64::from(seen.gy[index(half, [c, h / 2, w / 2, n])]),
            _ => 0.0,
        },
    };
    let case = Case::new(vec![input(shape)], 1, |tape, v| subsample(tape, v[0]), reference)?;
    Ok(case.backward("backward", [(0, 1)], [], false))
}

fn global_avg_pool_case(shape: Shape) -> Result<Case> {
    let (pixels, n_len) = (shape.h * shape.w, shape.n);
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| match of {
        Of::Result => {
            let (c, n) = (at / n_len, at % n_len);
            (0..pixels).map(|pixel| seen.at(0, (c * pixels + pixel) * n_len + n)).sum::<f64>() / pixels as f64
        }
        Of::Gradient(_) => {
            let (c, n) = (at / (pixels * n_len), at % n_len);
            f64::from(seen.gy[c * n_len + n]) / pixels as f64
        }
    };
    let case = Case::new(vec![input(shape)], pixels, |tape, v| global_avg_pool(tape, v[0]), reference)?;
    Ok(case.backward("backward", [(0, 1)], [], false))
}

/// Running statistics lie at the start of the state region, see [`super::super::trial`].
fn batchnorm_case(views: usize, view: Shape) -> Result<Case> {
    let (channels, plane) = (views * view.c, view.plane());
    let span = |start| Span { region: Region::State, start, len: channels };
    let config = Batchnorm { running: [span(0), span(channels)], momentum: Some(MOMENTUM), slope: Some(0.0) };
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| {
        let c = match of {
            Of::Result => at / plane,
            Of::Gradient(i) if i < views => i * view.c + at / plane,
            Of::Gradient(_) => at,
        };
        let x = |i: usize| seen.at(c / view.c, (c % view.c) * plane + i);
        let g = |i: usize| seen.gradient(c * plane + i, Some(0.0));
        let mean = |f: &dyn Fn(usize) -> f64| (0..plane).map(f).sum::<f64>() / plane as f64;
        let centre = mean(&x);
        let rstd = (mean(&|i| (x(i) - centre).powi(2)) + f64::from(EPSILON)).powf(-0.5);
        let normal = |i: usize| (x(i) - centre) * rstd;
        let (gamma, beta) = (seen.at(views, c), seen.at(views + 1, c));
        match of {
            Of::Result => (gamma * normal(at % plane) + beta).max(0.0),
            Of::Gradient(i) if i < views => {
                let at = at % plane;
                gamma * rstd * (g(at) - mean(&g) - normal(at) * mean(&|i| g(i) * normal(i)))
            }
            Of::Gradient(i) if i == views => plane as f64 * mean(&|i| g(i) * normal(i)),
            Of::Gradient(_) => plane as f64 * mean(&g),
        }
    };
    let operands = vec![input(view); views].into_iter().chain([parameter(channels); 2]).collect();
    let case = Case::new(
        operands,
        4 * plane,
        move |tape, v| batchnorm(tape, &v[..views], v[views], v[views + 1], config),
        reference,
    )?;
    // Four sums over the plane enter each element.
    Ok(case.backward("backward", (0..views + 2).map(|i| (i, 16 * plane)), 0..views + 1, true))
}

fn batch_gather_case(channels: usize, [h, w]: [usize; 2], n: usize) -> Result<Case> {
    let gather =
        BatchGather { image: [channels, h, w], size: [h, w], mean: vec![0.5; channels], std: vec![0.25; channels] };
    let shape = ImageShape::picture(channels, h, w);
    let pixel = |i: usize| ((i * 7919) >> 3) as u8;
    let set = Images::from_pixels((0..IMAGES * shape.pixels()).map(pixel).collect(), vec![0; IMAGES], shape)?;
    let images: Vec<u32> = (0..n).map(|i| (i * 19 % IMAGES) as u32).collect();
    let placements = vec![Placement::window(2, -3, true); n];
    let chosen = images.clone();
    let reference = move |_: &Seen<'_>, _: Of, at: usize| {
        let [c, p, q, n] = place(Shape::new(channels, h, w, n), at);
        let (row, column) = (p as isize + 2, (w - 1 - q) as isize - 3);
        let inside = (0..h as isize).contains(&row) && (0..w as isize).contains(&column);
        let at = ((chosen[n] as usize * channels + c) * h) as isize + row;
        let value = if inside { pixel((at * w as isize + column) as usize) } else { 0 };
        (f64::from(value) / 255.0 - 0.5) / 0.25
    };
    Case::new(Vec::new(), 1, move |tape, _| batch_gather(tape, &set, &images, &placements, &gather), reference)
}

fn linear_case(c_len: usize, k_len: usize, n_len: usize) -> Result<Case> {
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| {
        let (x, w) = (|c: usize, n: usize| seen.at(0, c * n_len + n), |k: usize, c: usize| seen.at(1, k * c_len + c));
        let g = |k: usize, n: usize| f64::from(seen.gy[k * n_len + n]);
        let (row, column) = (at / n_len, at % n_len);
        match of {
            Of::Result => seen.at(2, row) + (0..c_len).map(|c| w(row, c) * x(c, column)).sum::<f64>(),
            Of::Gradient(0) => (0..k_len).map(|k| w(k, row) * g(k, column)).sum(),
            Of::Gradient(1) => (0..n_len).map(|n| g(at / c_len, n) * x(at % c_len, n)).sum(),
            Of::Gradient(_) => (0..n_len).map(|n| g(at, n)).sum(),
        }
    };
    let operands = vec![input(Shape::new(c_len, 1, 1, n_len)), parameter(k_len * c_len), parameter(k_len)];
    let case = Case::new(operands, c_len + 1, |tape, v| linear(tape, v[0], v[1], v[2]), reference)?;
    let flop = 2 * c_len * k_len * n_len;
    let mut case = case.backward("backward", [(0, k_len), (1, n_len), (2, n_len)], [0, 1], false).flop(flop, flop);
    // Both gradients are products of that size.
    case.passes[1].flop *= 2.0;
    case.passes[1].flop_inside *= 2.0;
    Ok(case)
}

fn cross_entropy_case(classes: usize, n_len: usize) -> Result<Case> {
    let labels: Vec<u16> = (0..n_len).map(|i| (i % classes) as u16).collect();
    let given = labels.clone();
    let reference = move |seen: &Seen<'_>, of: Of, at: usize| {
        // Logits lie between -1/2 and 1/2: no offset is needed.
        let x = |k: usize, n: usize| seen.at(0, k * n_len + n);
        let sum = |n: usize| (0..classes).map(|k| x(k, n).exp()).sum::<f64>();
        match of {
            Of::Result => {
                let loss = |(n, &label): (usize, &u16)| sum(n).ln() - x(usize::from(label), n);
                labels.iter().enumerate().map(loss).sum::<f64>() / n_len as f64
            }
            Of::Gradient(_) => {
                let (k, n) = (at / n_len, at % n_len);
                let hit = f64::from(u8::from(k == usize::from(labels[n])));
                f64::from(seen.gy[0]) / n_len as f64 * (x(k, n).exp() / sum(n) - hit)
            }
        }
    };
    let build = move |tape: &mut crate::tape::Tape<'_>, v: &[crate::tape::Var]| {
        let loss = cross_entropy(tape, v[0], &given)?;
        tape.release(loss.result);
        Ok(loss.loss)
    };
    let case = Case::new(vec![input(Shape::new(classes, 1, 1, n_len))], classes * n_len, build, reference)?;
    Ok(case.backward("backward", [(0, classes)], [0], false))
}
