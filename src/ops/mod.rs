//! The ops: hand-written forward and backward, one folder each (see `README.md` here).

pub mod activation;
pub mod adam;
pub mod add;
pub mod avg_pool;
pub mod batch_gather;
pub mod batchnorm;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod gather_filters;
pub mod global_avg_pool;
pub mod linear;
pub mod pointwise;
pub mod sgd;
pub mod weightnorm;

use crate::backend::{Claims, Span};
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};

/// The value of an optional scale factor: 1 without.
fn scale_of(claims: &Claims<'_>, scale: Option<Span>) -> f32 {
    scale.map_or(1.0, |span| claims.read(span)[0])
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
