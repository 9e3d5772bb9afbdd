//! Reverse-mode differentiation over one training step.
//!
//! A [`Tape`] belongs to a step and owns every value of it; a [`Var`] is a `Copy` handle.
//! An op allocates its output, computes it, and records a [`Backward`] node that says how
//! gradients flow back. [`Tape::backward`] visits the nodes in reverse.
//!
//! **Views.** [`Tape::channels`] is a range of channels of another value: the same memory,
//! the same gradient. Memory banks, DenseNet features and slices are views, never copies.
//!
//! **The gradient-writing contract.** A backward kernel asks [`Tape::grad_target`] where the
//! gradient of an input goes and whether to *add* to it or to *overwrite*; the tape decides:
//! the first reader of a channel overwrites, later ones add. Filters that are only partly
//! used ask [`Tape::grad_accumulator`], which is always added to. Parameter gradients live in
//! one flat region, zeroed once per step, and are always added to.
//!
//! **Life of a value.** Memory goes back to the arena as soon as no handle ([`Tape::release`])
//! and no recorded node needs it, in the forward as in the backward pass; a gradient when the
//! node that produced its value has run. Using a released value is a programming error and panics.

pub mod computation;
#[cfg(test)]
mod tests;
mod touched;

use crate::backend::{Claims, Context, Cpu, Cuda, Kind, Pending, Recording, Region, Span, cpu, cuda};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};
use crate::trace::{self, Level};
use computation::Writing;
use std::ffi::CStr;
use std::ops::Range;
use touched::Touched;

/// A value of the current step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var(u32);

/// The backward half of an op.
pub trait Backward {
    /// Reads the gradient of the output and writes those of the inputs.
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()>;
}

/// Where a gradient goes.
#[derive(Clone, Copy, Debug)]
pub struct GradTarget {
    /// Its memory, of the extent of the value.
    pub span: Span,
    /// Add to what is there (true) or overwrite it.
    pub add: bool,
}

/// Storage shared by a value and its views.
struct Root {
    tensor: Tensor,
    needs_grad: bool,
    /// Handles not yet released.
    handles: u32,
    /// Recorded nodes that read the value in the backward pass.
    saved: u32,
    /// Recorded nodes that write the value; its gradient is needed until all have run.
    producers: u32,
    grad: Option<Span>,
    /// Channels whose gradient holds something.
    touched: Touched,
}

/// A root and the channels of it that a handle stands for.
#[derive(Clone, Copy)]
struct Value {
    root: u32,
    first: usize,
    channels: usize,
    released: bool,
}

struct Node {
    op: Box<dyn Backward>,
    output: Var,
    saved: Vec<Var>,
}

/// See the module documentation.
pub struct Tape<'c> {
    context: &'c mut Context,
    roots: Vec<Root>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    writing: Option<Writing>,
}

impl<'c> Tape<'c> {
    /// An empty tape; forgets every arena allocation of the step before.
    pub fn new(context: &'c mut Context) -> Self {
        context.reset_arena();
        Self { context, roots: Vec::new(), values: Vec::new(), nodes: Vec::new(), writing: None }
    }

    fn push_root(&mut self, tensor: Tensor, needs_grad: bool) -> Var {
        self.roots.push(Root {
            tensor,
            needs_grad,
            handles: 1,
            saved: 0,
            producers: 0,
            grad: None,
            touched: Touched::default(),
        });
        self.push_value(Value {
            root: self.roots.len() as u32 - 1,
            first: 0,
            channels: tensor.shape.c,
            released: false,
        })
    }

    fn push_value(&mut self, value: Value) -> Var {
        self.values.push(value);
        Var(self.values.len() as u32 - 1)
    }

    fn value(&self, var: Var) -> Value {
        self.values[var.0 as usize]
    }

    fn root(&self, var: Var) -> &Root {
        &self.roots[self.value(var).root as usize]
    }

    fn root_mut(&mut self, var: Var) -> &mut Root {
        let root = self.value(var).root as usize;
        &mut self.roots[root]
    }

    /// A new value of `shape` with arbitrary contents, for an op to fill.
    pub fn alloc(&mut self, shape: Shape, needs_grad: bool) -> Result<Var> {
        let span = self.context.alloc(shape.len())?;
        Ok(self.push_root(Tensor { shape, span }, needs_grad))
    }

    /// A value that holds `data` (layout C, H, W, N); its gradient is kept when `needs_grad`.
    pub fn input(&mut self, shape: Shape, data: &[f32], needs_grad: bool) -> Result<Var> {
        let var = self.alloc(shape, needs_grad)?;
        self.context.write(self.tensor(var).span, data)?;
        Ok(var)
    }

    /// A learned parameter at `span` of the parameter region; differentiable when `needs_grad`.
    pub fn param(&mut self, shape: Shape, span: Span, needs_grad: bool) -> Var {
        self.push_root(Tensor { shape, span }, needs_grad)
    }

    /// Channels `range` of `var`: the same memory and the same gradient.
    ///
    /// # Panics
    /// When the value was released, or `range` leaves it.
    pub fn channels(&mut self, var: Var, range: Range<usize>) -> Var {
        let value = self.value(var);
        assert!(range.start <= range.end && range.end <= value.channels, "channels {range:?} of {}", value.channels);
        assert!(!value.released, "{var:?} was released");
        self.root_mut(var).handles += 1;
        let view = self.push_value(Value { first: value.first + range.start, channels: range.len(), ..value });
        if self.is_writing() {
            self.write_view(var, range, view);
        }
        view
    }

    /// Shape and place of a value.
    ///
    /// # Panics
    /// When the value was released and its memory given back.
    pub fn tensor(&self, var: Var) -> Tensor {
        let (value, root) = (self.value(var), self.root(var));
        assert!(root.handles > 0 || root.saved > 0 || root.tensor.span.len == 0, "{var:?} was released");
        root.tensor.channels(value.first..value.first + value.channels)
    }

    /// Shape of a value.
    pub fn shape(&self, var: Var) -> Shape {
        let value = self.value(var);
        self.root(var).tensor.shape.with_channels(value.channels)
    }

    /// Does a gradient flow to this value?
    pub fn needs_grad(&self, var: Var) -> bool {
        self.root(var).needs_grad
    }

    /// Declares that the forward pass is done with this handle.
    ///
    /// # Panics
    /// When the handle was released before.
    pub fn release(&mut self, var: Var) {
        let value = &mut self.values[var.0 as usize];
        assert!(!value.released, "{var:?} released twice");
        value.released = true;
        self.root_mut(var).handles -= 1;
        self.free_if_unused(var);
    }

    fn free_if_unused(&mut self, var: Var) {
        let root = self.root(var);
        if root.handles == 0 && root.saved == 0 {
            let span = root.tensor.span;
            self.context.free(span);
        }
    }

    /// Workspace of `len` f32 with arbitrary contents; give it back with [`Tape::free`].
    pub fn workspace(&mut self, len: usize) -> Result<Span> {
        self.context.alloc(len)
    }

    /// Gives workspace back.
    pub fn free(&mut self, span: Span) {
        self.context.free(span);
    }

    /// The kind of device that computes or is planned for.
    pub fn kind(&self) -> Kind {
        self.context.kind()
    }

    /// Runs the kernel of the device; none when it only plans.
    ///
    /// # Errors
    /// As [`Context::compute`].
    pub fn compute(
        &mut self,
        cpu: impl FnOnce(&Claims<'_>, &Cpu),
        cuda: impl FnOnce(&mut Cuda) -> Result<()>,
    ) -> Result<()> {
        self.context.compute(cpu, cuda)
    }

    /// Runs a pass of something that repeats itself; see [`Context::replay`].
    ///
    /// # Errors
    /// As [`Context::replay`].
    pub fn replay<R>(&mut self, recording: &mut Recording, pass: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.context.begin_replay(recording)?;
        let result = pass(self);
        self.context.end_replay(recording, result)
    }

    /// to (+)= from.
    ///
    /// # Errors
    /// As [`Context::compute`].
    pub fn accumulate(&mut self, to: Span, from: Span, add: bool) -> Result<()> {
        self.compute(
            |claims, device| cpu::map(device, claims.write(to), [claims.read(from)], add, |[x]| x),
            |device| cuda::accumulate(device, to, from, add),
        )
    }

    /// A range for profilers around one pass of an op; none when the device only plans.
    pub fn op_range(&self, name: &'static CStr) -> Option<trace::Range> {
        (!self.context.is_plan()).then(|| trace::range(Level::Op, name))
    }

    /// A range with a number; none when the device only plans.
    pub fn range_with(&self, level: Level, name: &'static CStr, payload: impl FnOnce() -> u64) -> Option<trace::Range> {
        (!self.context.is_plan()).then(|| trace::range_with(level, name, payload))
    }

    /// Records how gradients flow back from `output`; `saved` values stay until then.
    /// Dropped when nothing upstream wants a gradient.
    pub fn record(&mut self, op: impl Backward + 'static, output: Var, saved: &[Var]) {
        if !self.needs_grad(output) {
            return;
        }
        for &var in saved {
            self.root_mut(var).saved += 1;
        }
        self.root_mut(output).producers += 1;
        self.nodes.push(Node { op: Box::new(op), output, saved: saved.to_vec() });
    }

    /// The elements of a value, copied off the device; empty when the device only plans.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read(&mut self, var: Var) -> Result<Vec<f32>> {
        self.context.read(self.tensor(var).span)
    }

    /// Asks for the elements of a small value; see [`Context::read_later`].
    ///
    /// # Errors
    /// As [`Context::read_later`].
    pub fn read_later(&mut self, var: Var) -> Result<Pending> {
        self.context.read_later(self.tensor(var).span)
    }

    /// What [`Tape::read_later`] promised.
    ///
    /// # Errors
    /// As [`Context::wait`].
    pub fn wait(&mut self, pending: Pending) -> Result<Vec<f32>> {
        self.context.wait(pending)
    }

    /// The gradient of a value after [`Tape::backward`], copied off the device; `None` when
    /// no gradient reached it or it was not kept (only values that no op produced keep theirs).
    pub fn read_grad(&mut self, var: Var) -> Result<Option<Vec<f32>>> {
        let root = self.root(var);
        if root.grad.is_none() && root.tensor.span.region != Region::Params {
            return Ok(None);
        }
        let span = self.grad(var)?;
        if self.context.is_plan() { Ok(None) } else { self.context.read(span).map(Some) }
    }

    /// Back-propagates from the scalar `loss`: its gradient is 1.
    pub fn backward(&mut self, loss: Var) -> Result<()> {
        self.backward_from(&[(loss, &[1.0])])
    }

    /// Back-propagates from several values with their upstream gradients (layout and length of
    /// the value). Outputs that share channels add up.
    pub fn backward_from(&mut self, outputs: &[(Var, &[f32])]) -> Result<()> {
        for &(output, gy) in outputs {
            if let Some(target) = self.grad_target(output)? {
                let given = self.workspace(gy.len())?;
                self.context.write(given, gy)?;
                self.accumulate(target.span, given, target.add)?;
                self.free(given);
            }
        }
        while let Some(node) = self.nodes.pop() {
            if self.is_touched(node.output) {
                node.op.backward(self)?;
            }
            self.root_mut(node.output).producers -= 1;
            self.free_grad_if_done(node.output);
            for &var in &node.saved {
                self.root_mut(var).saved -= 1;
                self.free_if_unused(var);
            }
        }
        Ok(())
    }

    fn is_touched(&self, var: Var) -> bool {
        let value = self.value(var);
        self.root(var).touched.any(&(value.first..value.first + value.channels))
    }

    fn free_grad_if_done(&mut self, var: Var) {
        let root = self.root_mut(var);
        if root.producers == 0
            && let Some(span) = root.grad.take()
        {
            root.touched.clear();
            self.context.free(span);
        }
    }

    /// The gradient of an output, complete: every later reader has run. Channels that nobody
    /// read are zero.
    pub fn grad(&mut self, var: Var) -> Result<Span> {
        Ok(self.grad_range(var, true)?.span)
    }

    /// Where the gradient of an input goes; `None` when it needs none.
    pub fn grad_target(&mut self, var: Var) -> Result<Option<GradTarget>> {
        if self.needs_grad(var) { self.grad_range(var, false).map(Some) } else { Ok(None) }
    }

    /// Where the gradient of an input goes that is added to in places: zeroed at first.
    /// `None` when it needs none.
    pub fn grad_accumulator(&mut self, var: Var) -> Result<Option<Span>> {
        if self.needs_grad(var) { self.grad_range(var, true).map(|t| Some(t.span)) } else { Ok(None) }
    }

    /// The gradient's memory. Untouched channels are zeroed when `zero` is set or when others
    /// of the range are touched; otherwise the caller overwrites them all.
    fn grad_range(&mut self, var: Var, zero: bool) -> Result<GradTarget> {
        let value = self.value(var);
        let root = self.root(var);
        let shape = root.tensor.shape;
        if root.tensor.span.region == Region::Params {
            let tensor = root.tensor.channels(value.first..value.first + value.channels);
            return Ok(GradTarget { span: tensor.span.in_region(Region::Grads), add: true });
        }
        let span = match root.grad {
            Some(span) => span,
            None => {
                let span = self.context.alloc(shape.len())?;
                self.root_mut(var).grad = Some(span);
                span
            }
        };
        let plane = shape.plane();
        let range = value.first..value.first + value.channels;
        let touched = &mut self.root_mut(var).touched;
        let add = zero || touched.any(&range);
        let missing = if add { touched.missing(&range) } else { Vec::new() };
        touched.insert(range.clone());
        for run in missing {
            self.context.fill(span.sub(run.start * plane, run.len() * plane), 0.0)?;
        }
        Ok(GradTarget { span: span.sub(range.start * plane, range.len() * plane), add })
    }
}
