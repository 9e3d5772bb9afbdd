//! The steps of a forward pass as PyTorch has them: modules with their arguments, and functions.
//!
//! A step computes the value of the same number. Where a convolution and a `Subsample` make one of stride 2, the second
//! of them does, and the first is left out: at every second pixel the engine's convolution, padded by
//! dilation (k - 1) / 2 on each side, is PyTorch's of stride 2, and a 1x1 one may come before or after the thinning.
//! Two steps are merged, never more.

use crate::error::{Error, Result};
use crate::export::keys::key;
use crate::tape::computation::{Computation, Instruction, Operation, ValueId};

/// What PyTorch's BatchNorm adds to the variance unless told otherwise.
const EPSILON: f32 = 1e-5;

/// A module with weights: `self.NAME = CLASS(channels.., options..)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name in its part: `bn_in`.
    pub name: String,
    /// `nn.Conv2d`.
    pub class: &'static str,
    /// Its first arguments: the channels that it reads and those that it makes; one number for BatchNorm.
    pub channels: Vec<usize>,
    /// All others.
    pub options: Vec<String>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The operation, its part and label, and the extent of the result.
    pub instruction: &'a Instruction,
    /// What it reads.
    pub from: Vec<ValueId>,
    /// The module, of operations that have weights.
    pub layer: Option<Layer>,
    /// Is it done by another step?
    pub is_left_out: bool,
}

impl Step<'_> {
    /// What is computed.
    pub fn operation(&self) -> &Operation {
        &self.instruction.operation
    }
}

/// The steps of `computation`.
///
/// # Errors
/// [`Error::Run`] when a weight belongs to another part than its instruction.
pub fn steps(computation: &Computation) -> Result<Vec<Step<'_>>> {
    let instructions = &computation.instructions;
    let is_volume = instructions[0].shape[1] > 1;
    let mut steps = Vec::with_capacity(instructions.len());
    for instruction in instructions {
        let layer = layer(instruction, is_volume)?;
        steps.push(Step { instruction, from: instruction.from.clone(), layer, is_left_out: false });
    }
    let readers = computation.readers();
    for i in 1..steps.len() {
        let Some(&x) = steps[i].from.first() else { continue };
        let is_private = readers[x] == 1 && instructions[x].part == instructions[i].part;
        // A step that was merged reads what the one before it read.
        let is_merged = steps[x].from != instructions[x].from;
        if let Some(layer) = halving(&steps[x], &steps[i]).filter(|_| is_private && !is_merged) {
            steps[i].from = steps[x].from.clone();
            steps[i].layer = Some(layer);
            steps[x].is_left_out = true;
        }
    }
    Ok(steps)
}

/// The convolution of stride 2 that two steps are together.
fn halving(first: &Step<'_>, second: &Step<'_>) -> Option<Layer> {
    let layer = match (first.operation(), second.operation()) {
        (Operation::Conv { filter, .. }, Operation::Subsample) if filter.dims.len() == 4 => &first.layer,
        (Operation::Subsample, Operation::Conv { filter, .. }) if filter.dims[2..] == [1, 1] => &second.layer,
        _ => return None,
    };
    let mut layer = layer.clone()?;
    layer.options.insert(1, "stride=2".into());
    Some(layer)
}

/// The module of an instruction with weights.
fn layer(instruction: &Instruction, is_volume: bool) -> Result<Option<Layer>> {
    let [conv, norm] = if is_volume { ["nn.Conv3d", "nn.BatchNorm3d"] } else { ["nn.Conv2d", "nn.BatchNorm2d"] };
    let (weight, class, channels, options) = match &instruction.operation {
        Operation::Conv { filter, dilation, groups } => {
            let channels = vec![filter.dims[1] * groups, filter.dims[0]];
            (filter, conv, channels, convolution_options(&filter.dims[2..], dilation, *groups))
        }
        Operation::BatchNorm { gamma, epsilon, .. } => {
            let options = if *epsilon == EPSILON { Vec::new() } else { vec![format!("eps={epsilon:?}")] };
            (gamma, norm, gamma.dims.clone(), options)
        }
        Operation::Linear { w, .. } => (w, "nn.Linear", vec![w.dims[1], w.dims[0]], Vec::new()),
        _ => return Ok(None),
    };
    let path = key(&weight.name);
    let inside = path.strip_prefix(&instruction.part).and_then(|rest| rest.strip_prefix('.'));
    match inside.and_then(|rest| rest.split_once('.')) {
        Some((name, "weight")) => Ok(Some(Layer { name: name.into(), class, channels, options })),
        _ => Err(Error::Run(format!("the weight {:?} is used in the part {:?}", weight.name, instruction.part))),
    }
}

/// What follows the channels in `nn.Conv2d(..)`.
fn convolution_options(kernel: &[usize], dilation: &[usize], groups: usize) -> Vec<String> {
    let padding: Vec<usize> = kernel.iter().zip(dilation).map(|(taps, dilation)| dilation * (taps - 1) / 2).collect();
    // A dilation along axes of one tap means nothing.
    let dilation: Vec<usize> =
        kernel.iter().zip(dilation).map(|(&taps, &dilation)| if taps == 1 { 1 } else { dilation }).collect();
    let mut options = vec![per_axis(kernel)];
    if padding.iter().any(|&padding| padding > 0) {
        options.push(format!("padding={}", per_axis(&padding)));
    }
    if dilation.iter().any(|&dilation| dilation > 1) {
        options.push(format!("dilation={}", per_axis(&dilation)));
    }
    if groups > 1 {
        options.push(format!("groups={groups}"));
    }
    options.push("bias=False".into());
    options
}

/// A number for each axis: one, if it is the same for all.
fn per_axis(numbers: &[usize]) -> String {
    if numbers.iter().all(|number| *number == numbers[0]) {
        return numbers[0].to_string();
    }
    format!("({})", numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}
