//! The ops: hand-written forward and backward, one folder each (see `README.md` here).

pub mod activation;
pub mod adam;
pub mod add;
pub mod avg_pool;
pub mod batch_gather;
pub mod batchnorm;
pub mod concat;
pub mod conv2d;
pub mod conv3d;
pub mod cross_entropy;
pub mod gate;
pub mod gather_filters;
pub mod global_avg_pool;
pub mod linear;
pub mod max_pool;
pub mod mean;
pub mod pointwise;
pub mod sgd;
pub mod subsample;
pub mod volume_gather;
pub mod weightnorm;
mod written;

use crate::backend::cpu::{Filter, update};
use crate::backend::{Claims, Span, cuda};
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};
use crate::testing::Check;

/// The checks of all ops: what each must compute, on whatever device.
pub fn checks() -> Vec<Check> {
    let all = [
        activation::checks::checks(),
        adam::checks::checks(),
        add::checks::checks(),
        avg_pool::checks::checks(),
        batch_gather::checks::checks(),
        batchnorm::checks::checks(),
        concat::checks::checks(),
        conv2d::checks::checks(),
        conv3d::checks::checks(),
        cross_entropy::checks::checks(),
        gate::checks::checks(),
        gather_filters::checks::checks(),
        global_avg_pool::checks::checks(),
        linear::checks::checks(),
        max_pool::checks::checks(),
        mean::checks::checks(),
        pointwise::checks::checks(),
        sgd::checks::checks(),
        subsample::checks::checks(),
        volume_gather::checks::checks(),
        weightnorm::checks::checks(),
    ];
    all.into_iter().flatten().collect()
}

/// The value of an optional scale factor: 1 without.
fn scale_of(claims: &Claims<'_>, scale: Option<Span>) -> f32 {
    scale.map_or(1.0, |span| claims.read(span)[0])
}

/// The gradient of `y` before its (leaky) ReLU of slope `slope`, in place.
fn output_gradient(tape: &mut Tape<'_>, y: Var, slope: Option<f32>) -> Result<Span> {
    let gy = tape.grad(y)?;
    if let Some(slope) = slope {
        let y = tape.tensor(y).span;
        tape.compute(
            |claims, cpu| {
                // The sign of y is that of its input.
                update(cpu, [claims.write(gy)], [claims.read(y)], move |[g], [y]| {
                    [if y > 0.0 { g } else { slope * g }]
                });
            },
            |device| cuda::gate_leaky(device, gy, y, slope),
        )?;
    }
    Ok(gy)
}

/// Checks that the stored filter `w` holds the window `filter`, and that its scale, whose
/// gradient is a by-product of the filter's, can have the gradient it wants.
fn check_filter(tape: &Tape<'_>, op: &'static str, w: Var, scale: Option<Var>, filter: Filter) -> Result<()> {
    let last = |len: usize| len.max(1) - 1;
    let [r, s] = filter.kernel.map(last);
    let used = filter.index(last(filter.outputs()), last(filter.in_len), r, s) + 1;
    if tape.shape(w).len() < used {
        return Err(Error::shape(op, format!("at least {used} weights"), tape.shape(w)));
    }
    match scale.map(|s| (tape.shape(s), tape.needs_grad(s))) {
        Some((shape, needs_grad)) if shape.len() != 1 || (needs_grad && !tape.needs_grad(w)) => {
            Err(Error::shape(op, "one scale factor, with a gradient only if the filter has one", shape))
        }
        _ => Ok(()),
    }
}

/// Checks that several views have one picture size and batch; returns their channels in total.
fn common_channels(tape: &Tape<'_>, op: &'static str, views: &[Var]) -> Result<usize> {
    let Some(&first) = views.first() else {
        return Err(Error::shape(op, "at least one input", "none"));
    };
    let expected = tape.shape(first);
    for &view in views {
        let got = tape.shape(view);
        if got.with_channels(expected.c) != expected {
            return Err(Error::shape(op, format!("inputs like {expected}"), got));
        }
    }
    Ok(views.iter().map(|&v| tape.shape(v).c).sum())
}
