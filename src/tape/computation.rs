//! What a forward pass computed, written down for programs that run it elsewhere.
//!
//! ```text
//! value 0: the images    value i: the result of instruction i    the last value: the result of the pass
//! ```
//!
//! [`Tape::begin_computation`] makes the ops of a pass in evaluation mode say what they do ([`Tape::write_down`]):
//! fused ops as several instructions, weights with the numbers in use, sliced to the window that was used and
//! multiplied by the factor of their normalisation. Views become [`Operation::Channels`]. Extents are for one image,
//! without the batch. Not handled: trainings, and values that something else than an op or the images made.

use super::{Tape, Var};
use crate::backend::Span;
use crate::error::{Error, Result};
use crate::tensor::Shape;
use std::collections::HashMap;
use std::ops::Range;

/// Number of a value.
pub type ValueId = usize;

/// Numbers that belong to the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Name of the parameter or statistic it comes from: `block0.op3.w_in`.
    pub name: String,
    /// Extent, outermost first: [K, C / groups, taps...] of a filter, [K, C] of a matrix, `[C]` of a vector.
    pub dims: Vec<usize>,
    /// The numbers, innermost extent fastest.
    pub values: Vec<f32>,
}

/// What an instruction computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// The images: normalised, in the size of the network's input.
    Images,
    /// A convolution without bias, of stride 1, padded with zeros to the same size. The filter is [K, C / groups, R, S],
    /// or [K, C / groups, T, R, S] of a volume; the dilation has a number for each of its axes.
    Conv {
        /// [K, C / groups, taps...].
        filter: Constant,
        /// Distance of taps along each axis.
        dilation: Vec<usize>,
        /// Groups of channels that do not see each other.
        groups: usize,
    },
    /// `gamma[c] * (x[c] - mean[c]) / sqrt(var[c] + epsilon) + beta[c]`.
    BatchNorm {
        /// Scale of each channel.
        gamma: Constant,
        /// Shift of each channel.
        beta: Constant,
        /// Running mean of each channel.
        mean: Constant,
        /// Running variance of each channel.
        var: Constant,
        /// Added to the variance.
        epsilon: f32,
    },
    /// max(x, 0).
    Relu,
    /// x above zero, slope * x below.
    LeakyRelu {
        /// Below zero.
        slope: f32,
    },
    /// tanh x.
    Tanh,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The sum of two values.
    Add,
    /// The product of two values, element by element.
    Mul,
    /// The mean of values.
    Mean,
    /// The channels of one value after those of the other.
    Concat,
    /// Some channels of a value.
    Channels(Range<usize>),
    /// The mean of 2 x 2 pixels; of volumes of 2 x 2 x 2, or of 1 x 2 x 2 where there is one slice.
    AvgPool,
    /// The largest of 2 x 2 pixels.
    MaxPool,
    /// Every second pixel of every second row, beginning with the first.
    Subsample,
    /// The mean of each channel: [C, 1, 1, 1].
    GlobalAvgPool,
    /// `w x + b` of [C, 1, 1, 1]; w is [K, C].
    Linear {
        /// [K, C].
        w: Constant,
        /// `[K]`.
        b: Constant,
    },
}

/// An operation, what it reads, and what comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// What is computed.
    pub operation: Operation,
    /// From which values.
    pub from: Vec<ValueId>,
    /// Extent of the result for one image: channels, slices, rows, columns.
    pub shape: [usize; 4],
    /// The part of the network that it belongs to: `stem`, `block0.op3`, `transition0`, `head`; `block0` for what
    /// lies between ops. The constants of a part have its name and a dot in front.
    pub part: String,
    /// What the value is called where it lives on between parts, such as `bank3`; may be empty.
    pub label: String,
}

/// A forward pass, instruction by instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Computation {
    /// In the order of the pass; the first is [`Operation::Images`], the last one's value the result.
    pub instructions: Vec<Instruction>,
}

impl Operation {
    /// The constants it uses.
    pub fn constants(&self) -> Vec<&Constant> {
        match self {
            Self::Conv { filter, .. } => vec![filter],
            Self::BatchNorm { gamma, beta, mean, var, .. } => vec![gamma, beta, mean, var],
            Self::Linear { w, b } => vec![w, b],
            _ => Vec::new(),
        }
    }
}

impl Computation {
    /// How many instructions read each value; the result is read once more, by whoever asked for it.
    pub fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.instructions.len()];
        self.instructions.iter().flat_map(|instruction| &instruction.from).for_each(|&value| readers[value] += 1);
        if let Some(last) = readers.last_mut() {
            *last += 1;
        }
        readers
    }

    /// Leaves out what nothing reads, such as views that were taken and not used.
    fn without_unused(self) -> Self {
        let mut used = vec![false; self.instructions.len()];
        used[0] = true;
        if let Some(last) = used.last_mut() {
            *last = true;
        }
        for (i, instruction) in self.instructions.iter().enumerate().rev() {
            if used[i] {
                instruction.from.iter().for_each(|&value| used[value] = true);
            }
        }
        let mut renumbered = vec![0; used.len()];
        let mut instructions = Vec::new();
        for (i, mut instruction) in self.instructions.into_iter().enumerate().filter(|&(i, _)| used[i]) {
            instruction.from.iter_mut().for_each(|value| *value = renumbered[*value]);
            renumbered[i] = instructions.len();
            instructions.push(instruction);
        }
        Self { instructions }
    }
}

/// A computation being written.
#[derive(Debug)]
pub(super) struct Writing {
    /// Where parameters and statistics lie, and what they are called.
    names: Vec<(Span, String)>,
    /// The value that each handle stands for now.
    values: HashMap<Var, ValueId>,
    instructions: Vec<Instruction>,
    part: String,
}

impl Tape<'_> {
    /// Begins to write down what is computed from `images`; `names` are the places of all parameters and statistics.
    pub fn begin_computation(&mut self, images: Var, names: Vec<(Span, String)>) {
        let (values, shape) = (HashMap::from([(images, 0)]), extent(self.shape(images)));
        let first = Instruction {
            operation: Operation::Images,
            from: Vec::new(),
            shape,
            part: String::new(),
            label: "images".into(),
        };
        self.writing = Some(Writing { names, values, instructions: vec![first], part: String::new() });
    }

    /// The computation of `result`, written since [`Tape::begin_computation`].
    ///
    /// # Errors
    /// [`Error::Run`] when it was not computed from the images by ops that write themselves down.
    pub fn end_computation(&mut self, result: Var) -> Result<Computation> {
        let writing = self.writing.take().ok_or_else(|| Error::Run("no computation was begun".into()))?;
        let last = writing.value(result)?;
        let instructions = writing.instructions.into_iter().take(last + 1).collect();
        Ok(Computation { instructions }.without_unused())
    }

    /// Is a computation being written?
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Are the images of the computation volumes? Then so are values of one slice.
    pub fn writes_volumes(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| writing.instructions[0].shape[1] > 1)
    }

    /// What follows belongs to this part of the network.
    pub fn part(&mut self, name: impl FnOnce() -> String) {
        if let Some(writing) = &mut self.writing {
            writing.part = name();
        }
    }

    /// What a value is called between parts.
    pub fn label(&mut self, var: Var, name: impl FnOnce() -> String) {
        if let Some(writing) = &mut self.writing
            && let Some(&value) = writing.values.get(&var)
        {
            writing.instructions[value].label = name();
        }
    }

    /// Writes down that `y` is `operation` of the values `from`, if a computation is being written.
    ///
    /// # Errors
    /// [`Error::Run`] when one of them is not part of the computation.
    pub fn write_down(&mut self, operation: Operation, from: &[Var], y: Var) -> Result<()> {
        if !self.is_writing() {
            return Ok(());
        }
        let from = from.iter().map(|&x| self.written(x)).collect::<Result<Vec<_>>>()?;
        let value = self.write_value(operation, from, self.shape(y));
        self.stands_for(y, value);
        Ok(())
    }

    /// The value that a handle stands for.
    ///
    /// # Errors
    /// As [`Tape::write_down`].
    pub fn written(&self, var: Var) -> Result<ValueId> {
        self.writing.as_ref().ok_or_else(unknown)?.value(var)
    }

    /// One instruction of several that an op is; returns its value, 0 when nothing is written.
    pub fn write_value(&mut self, operation: Operation, from: Vec<ValueId>, shape: Shape) -> ValueId {
        let Some(writing) = &mut self.writing else { return 0 };
        let (part, label, shape) = (writing.part.clone(), String::new(), extent(shape));
        writing.instructions.push(Instruction { operation, from, shape, part, label });
        writing.instructions.len() - 1
    }

    /// From here on `var` stands for `value`.
    pub fn stands_for(&mut self, var: Var, value: ValueId) {
        if let Some(writing) = &mut self.writing {
            writing.values.insert(var, value);
        }
    }

    /// Numbers at `span` of a parameter or statistic: those whose places in it are `picked`, each times `factor`.
    ///
    /// # Errors
    /// As [`Tape::read`].
    pub fn constant(
        &mut self,
        span: Span,
        dims: Vec<usize>,
        picked: impl Iterator<Item = usize>,
        factor: f32,
    ) -> Result<Constant> {
        let stored = self.context.read(span)?;
        let names = self.writing.iter().flat_map(|writing| &writing.names);
        let Some(name) = names.filter(|(place, _)| *place == span).map(|(_, name)| name.clone()).next() else {
            return Err(Error::Run("a weight of the network is no parameter or statistic of its store".into()));
        };
        Ok(Constant { name, dims, values: picked.map(|place| stored[place] * factor).collect() })
    }

    /// A view, as an instruction; only of values that are part of the computation, which weights are not.
    pub(super) fn write_view(&mut self, of: Var, range: Range<usize>, view: Var) {
        let whole = range == (0..self.shape(of).c);
        let Ok(value) = self.written(of) else { return };
        let value = match whole {
            true => value,
            false => self.write_value(Operation::Channels(range), vec![value], self.shape(view)),
        };
        self.stands_for(view, value);
    }
}

impl Writing {
    fn value(&self, var: Var) -> Result<ValueId> {
        self.values.get(&var).copied().ok_or_else(unknown)
    }
}

fn unknown() -> Error {
    Error::Run("a value of the network was made by an op that does not write down what it computes".into())
}

/// Channels, slices, rows and columns.
fn extent(shape: Shape) -> [usize; 4] {
    [shape.c, shape.d, shape.h, shape.w]
}
