//! A network as plain operations: one forward pass in evaluation mode, written down (`tape::computation`).

use crate::backend::Context;
use crate::error::Result;
use crate::nas::train::Network;
use crate::nas::twin::NetworkShape;
use crate::nn::norm::Mode;
use crate::tape::Tape;
use crate::tape::computation::Computation;
use crate::trace::{Level, range_with};

/// What `network`, whose parameters are in `context`, computes from images of `shape`: from normalised pixels to logits.
///
/// # Errors
/// [`crate::Error::Run`] when the arena has no room for one image, or an op does not write itself down.
pub fn computation(context: &mut Context, network: &dyn Network, shape: &NetworkShape) -> Result<Computation> {
    let store = network.store();
    let params = store.params().iter().map(|param| (param.span, param.name.clone()));
    let names = params.chain(store.statistics().iter().map(|s| (s.span, s.name.clone()))).collect();
    let one = shape.batch(1);
    let _range = range_with(Level::Step, c"export", || network.number());
    let mut tape = Tape::new(context);
    let images = tape.input(one, &vec![0.0; one.len()], false)?;
    tape.begin_computation(images, names);
    let logits = network.logits(&mut tape, images, Mode::Eval)?;
    tape.end_computation(logits)
}
