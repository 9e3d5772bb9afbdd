//! How fused ops write themselves down: as the plain operations that they are together (see `tape::computation`).

use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::tape::computation::{Operation, ValueId};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// The one value that an op makes of its views before anything else.
pub(super) fn concatenation(tape: &mut Tape<'_>, views: &[Var]) -> Result<ValueId> {
    let values = views.iter().map(|&view| tape.written(view)).collect::<Result<Vec<_>>>()?;
    if let [only] = values[..] {
        return Ok(only);
    }
    let channels = views.iter().map(|&view| tape.shape(view).c).sum();
    Ok(tape.write_value(Operation::Concat, values, tape.shape(views[0]).with_channels(channels)))
}

/// The (leaky) ReLU of a value, where there is one.
pub(super) fn rectified(tape: &mut Tape<'_>, x: ValueId, slope: Option<f32>, shape: Shape) -> ValueId {
    match slope {
        None => x,
        Some(0.0) => tape.write_value(Operation::Relu, vec![x], shape),
        Some(slope) => tape.write_value(Operation::LeakyRelu { slope }, vec![x], shape),
    }
}

/// The stored filter of a convolution, its normalisation, and the window of it that is used.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub w: Var,
    pub scale: Option<Var>,
    pub filter: Filter,
    /// Layers of a filter of volumes, which lie under one another in the window.
    pub layers: Option<usize>,
}

/// A convolution of `x` to `shape`; the dilation has a number for each axis of the filter.
pub(super) fn convolution(
    tape: &mut Tape<'_>,
    x: ValueId,
    window: Window,
    dilation: &[usize],
    shape: Shape,
) -> Result<ValueId> {
    let Window { w, scale, filter, layers } = window;
    let factor = match scale {
        Some(scale) => tape.read(scale)?[0],
        None => 1.0,
    };
    let [rows, columns] = filter.kernel;
    let mut dims = vec![filter.outputs(), filter.in_len];
    dims.extend(layers);
    dims.extend([rows / layers.unwrap_or(1), columns]);
    let picked = (0..filter.len()).map(|i| {
        let (tap, rest) = (i % filter.taps(), i / filter.taps());
        filter.index(rest / filter.in_len, rest % filter.in_len, tap / columns, tap % columns)
    });
    let filter_used = tape.constant(tape.tensor(w).span, dims, picked, factor)?;
    let operation = Operation::Conv { filter: filter_used, dilation: dilation.to_vec(), groups: filter.groups };
    Ok(tape.write_value(operation, vec![x], shape))
}

/// A convolution of the value `x`, and what comes behind it: `y` stands for the result.
pub(super) fn body_filter(
    tape: &mut Tape<'_>,
    x: Var,
    window: Window,
    dilation: &[usize],
    (slope, add): (Option<f32>, bool),
    y: Var,
) -> Result<()> {
    let x = tape.written(x)?;
    let convolved = convolution(tape, x, window, dilation, tape.shape(y))?;
    finished(tape, convolved, slope, add, y)
}

/// A convolution that was added to what `y` stood for, or whose rectified result it stands for now.
pub(super) fn finished(tape: &mut Tape<'_>, convolved: ValueId, slope: Option<f32>, add: bool, y: Var) -> Result<()> {
    let shape = tape.shape(y);
    let value = if add {
        let sum = vec![tape.written(y)?, convolved];
        tape.write_value(Operation::Add, sum, shape)
    } else {
        rectified(tape, convolved, slope, shape)
    };
    tape.stands_for(y, value);
    Ok(())
}
