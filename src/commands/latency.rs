//! How long a network takes for a batch: from normalised images to logits, both in memory.

use crate::bench::stats::{median, quantile};
use crate::error::Result;
use crate::export::Model;
use crate::nas::score::forward;
use std::time::{Duration, Instant};

/// Passes before the first one that counts: threads wake, memory is touched.
const WARM_UP: usize = 1;
/// Enough for a middle and quartiles, if that takes no longer than [`PATIENCE`]; otherwise one.
const LEAST: usize = 5;
const MOST: usize = 200;
const ENOUGH: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);

/// Times of one batch size, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Images in the batch.
    pub batch: usize,
    /// The middle.
    pub median_ms: f64,
    /// The first and the third quartile.
    pub quartiles_ms: [f64; 2],
    /// Passes that were timed.
    pub passes: usize,
}

/// Times passes over `batch` images.
///
/// # Errors
/// [`crate::Error::Run`] when the arena of the model has no room for so many.
pub fn latency(model: &mut Model, batch: usize) -> Result<Latency> {
    let shape = model.about.shape.batch(batch);
    let (network, context, _) = model.parts();
    // Numbers like normalised pixels; what they are does not matter to the time.
    let pixels: Vec<f32> = (0..shape.len()).map(|i| (i % 97) as f32 / 48.0 - 1.0).collect();
    let mut times = Vec::new();
    let begin = Instant::now();
    for pass in 0.. {
        let start = Instant::now();
        forward(context, network, shape, &pixels)?;
        if pass >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let least = if begin.elapsed() > PATIENCE { 1 } else { LEAST };
        if times.len() >= MOST || times.len() >= least && begin.elapsed() > ENOUGH {
            break;
        }
    }
    let quartiles_ms = [0.25, 0.75].map(|part| quantile(&times, part));
    Ok(Latency { batch, median_ms: median(&times), quartiles_ms, passes: times.len() })
}
