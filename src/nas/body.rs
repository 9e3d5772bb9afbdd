//! What one op computes between the banks it reads and those it writes: `y = body(conv1x1(x))`.
//!
//! ```text
//! path A: w0 then w1 \\  sum, or gate: tanh(A) * sigmoid(B)
//! path B: w2 then w3 //  (a gate behind w0 and w2 makes one value, from which w1 and w3 go on)
//! ```
//!
//! Each convolution comes with a nonlinearity and, where the weights have it, BatchNorm: in front of it (`pre`, the
//! paper's order: x is rectified, h passes through that of w0 or w2) or behind it (`post`: x is read as it is, h is
//! rectified, both paths end with theirs). A gate takes the place of the nonlinearities of the convolutions that
//! read it (`pre`) or that it joins (`post`). ReLUs are applied by the kernel that writes a value.

use crate::error::{Error, Result};
use crate::nas::arch::{Conv, Op};
use crate::nas::mainnet::Pass;
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::weights::{FilterVar, OpWeights};
use crate::nn::norm::Norm;
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::conv2d::Output;
use crate::ops::gate::gate;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::tape::{Tape, Var};

/// The two paths: their first and their second convolution.
const PATHS: [[usize; 2]; 2] = [[0, 1], [2, 3]];

/// What a value passes through between the convolution that computes it and whoever reads it.
#[derive(Clone, Copy, Default)]
struct Between {
    norm: Option<Norm>,
    nonlinearity: Option<Nonlinearity>,
}

impl Between {
    /// Slope of the ReLU that the convolution can apply as it writes the value, where that is all there is.
    fn slope(self) -> Option<f32> {
        (self.norm.is_none() && self.rectifies()).then_some(0.0)
    }

    fn rectifies(self) -> bool {
        self.nonlinearity == Some(Nonlinearity::Relu)
    }
}

/// An op of a forward pass.
pub(super) struct Body<'a> {
    pass: &'a Pass<'a>,
    op: &'a Op,
    weights: &'a OpWeights,
    order: ActivationOrder,
}

impl<'a> Body<'a> {
    pub fn new(pass: &'a Pass<'a>, op: &'a Op, weights: &'a OpWeights) -> Self {
        Self { pass, op, weights, order: pass.space.activation }
    }

    /// y of the op, from the banks it reads.
    pub fn run(&self, tape: &mut Tape<'_>, views: &[Var]) -> Result<Var> {
        let h = self.input(tape, views)?;
        let ends = if self.op.gates[0] { self.gated_paths(tape, h)? } else { self.paths(tape, h)? };
        match ends[..] {
            [y] => Ok(y),
            [a, b] => self.join(tape, a, b),
            _ => Err(Error::architecture("body", "no convolution is active")),
        }
    }

    /// What each path reads: the result of the op's 1x1 convolution, which goes nowhere else. Both read one
    /// value unless their first nonlinearities differ.
    fn input(&self, tape: &mut Tape<'_>, views: &[Var]) -> Result<[Var; 2]> {
        let kinds = PATHS.map(|[first, _]| self.op.body[first].map(|conv| self.entry(conv)));
        let kinds = [kinds[0], kinds[1].or(kinds[0])];
        let shared = kinds[0] == kinds[1];
        let between = Between { norm: self.weights.norm_mid, nonlinearity: kinds[0].filter(|_| shared) };
        let h = self.pointwise(tape, views, between.slope())?;
        let h = self.finish(tape, h, between)?;
        if shared {
            return Ok([h; 2]);
        }
        let mut inputs = [h; 2];
        for (input, kind) in inputs.iter_mut().zip(kinds) {
            *input = kind.map_or(Ok(h), |kind| activation(tape, h, activation_of(kind)))?;
        }
        tape.release(h);
        Ok(inputs)
    }

    /// What h passes through before a path that begins with `conv`.
    fn entry(&self, conv: Conv) -> Nonlinearity {
        if self.order == ActivationOrder::Pre { conv.activation } else { Nonlinearity::Relu }
    }

    /// The 1x1 convolution; releases its filter.
    fn pointwise(&self, tape: &mut Tape<'_>, views: &[Var], slope: Option<f32>) -> Result<Var> {
        let FilterVar { w, filter, scale, .. } = self.weights.input;
        let h = match self.weights.norm_in {
            None => {
                let relu = self.order == ActivationOrder::Pre;
                pointwise(tape, views, w, scale, Pointwise { filter, relu, slope })?
            }
            Some(norm) => {
                let x = norm.relu(tape, self.pass.weights.store(), views, self.pass.mode)?;
                let h = pointwise(tape, &[x], w, scale, Pointwise { filter, relu: false, slope })?;
                tape.release(x);
                h
            }
        };
        // A factor computed for this batch would otherwise stay until the tape ends.
        for var in [Some(w), scale].into_iter().flatten() {
            tape.release(var);
        }
        Ok(h)
    }

    /// The ends of the paths, each of two convolutions at most; releases what they read. Where nothing comes between
    /// them and their sum, the second one is added to the first as it is computed.
    fn paths(&self, tape: &mut Tape<'_>, [a, b]: [Var; 2]) -> Result<Vec<Var>> {
        let mut ends: Vec<Var> = Vec::new();
        for ([first, second], h) in PATHS.into_iter().zip([a, b]) {
            if self.op.body[first].is_none() {
                continue;
            }
            let last = if self.op.body[second].is_some() { second } else { first };
            let sum = ends.first().copied().filter(|_| self.order == ActivationOrder::Pre && !self.op.gates[1]);
            let output = sum.map_or(Output::New, Output::AddTo);
            let end = if last == first {
                self.convolution(tape, h, first, self.exit(first), output)?
            } else {
                let t = self.convolution(tape, h, first, self.inside(first, second), Output::New)?;
                let end = self.convolution(tape, t, second, self.exit(second), output)?;
                tape.release(t);
                end
            };
            match sum {
                Some(_) => ends = vec![end],
                None => ends.push(end),
            }
        }
        self.release(tape, [a, b]);
        Ok(ends)
    }

    /// The ends of what goes on from the gate behind w0 and w2; releases what these read.
    fn gated_paths(&self, tape: &mut Tape<'_>, [a, b]: [Var; 2]) -> Result<Vec<Var>> {
        let [own, other] = [0, 2].map(|first| Between { norm: self.behind(first), nonlinearity: None });
        let tanh = self.convolution(tape, a, 0, own, Output::New)?;
        let sigmoid = self.convolution(tape, b, 2, other, Output::New)?;
        self.release(tape, [a, b]);
        let u = gate(tape, tanh, sigmoid)?;
        tape.release(tanh);
        tape.release(sigmoid);
        let mut ends: Vec<Var> = Vec::new();
        for second in [1, 3].into_iter().filter(|&j| self.op.body[j].is_some()) {
            let store = self.pass.weights.store();
            let x = match self.in_front(second) {
                Some(norm) => norm.apply(tape, store, &[u], self.pass.mode, None)?,
                None => u,
            };
            ends.push(self.convolution(tape, x, second, self.exit(second), Output::New)?);
            if x != u {
                tape.release(x);
            }
        }
        tape.release(u);
        Ok(ends)
    }

    /// The sum of both ends, or their gate; releases them.
    fn join(&self, tape: &mut Tape<'_>, a: Var, b: Var) -> Result<Var> {
        let y = if self.op.gates[1] { gate(tape, a, b)? } else { add(tape, a, b)? };
        tape.release(a);
        tape.release(b);
        Ok(y)
    }

    /// Convolution `j` of the body and what its result passes through.
    fn convolution(&self, tape: &mut Tape<'_>, x: Var, j: usize, then: Between, output: Output) -> Result<Var> {
        let (Some(filter), Some(conv)) = (&self.weights.body[j], &self.op.body[j]) else {
            return Err(Error::architecture("body", format!("convolution {j} has no weights")));
        };
        let dilation = self.pass.weights.shape().body(conv).dilation;
        let y = self.pass.convolve(tape, x, filter, dilation, then.slope(), output)?;
        self.finish(tape, y, then)
    }

    /// The rest of `between`, which the convolution that wrote x did not apply; releases x unless it is returned.
    fn finish(&self, tape: &mut Tape<'_>, mut x: Var, between: Between) -> Result<Var> {
        if let Some(norm) = between.norm {
            let slope = between.rectifies().then_some(0.0);
            let y = norm.apply(tape, self.pass.weights.store(), &[x], self.pass.mode, slope)?;
            tape.release(std::mem::replace(&mut x, y));
        }
        if let Some(kind) = between.nonlinearity.filter(|_| !between.rectifies()) {
            let y = activation(tape, x, activation_of(kind))?;
            tape.release(std::mem::replace(&mut x, y));
        }
        Ok(x)
    }

    /// Between two convolutions of a path.
    fn inside(&self, first: usize, second: usize) -> Between {
        match self.order {
            ActivationOrder::Pre => Between { norm: self.weights.norm_body[second], nonlinearity: self.kind(second) },
            ActivationOrder::Post => Between { norm: self.weights.norm_body[first], nonlinearity: self.kind(first) },
        }
    }

    /// Behind the last convolution of a path.
    fn exit(&self, last: usize) -> Between {
        let nonlinearity = self.kind(last).filter(|_| self.order == ActivationOrder::Post && !self.op.gates[1]);
        Between { norm: self.behind(last), nonlinearity }
    }

    fn kind(&self, j: usize) -> Option<Nonlinearity> {
        self.op.body[j].map(|conv| conv.activation)
    }

    /// BatchNorm in front of convolution `j`.
    fn in_front(&self, j: usize) -> Option<Norm> {
        self.weights.norm_body[j].filter(|_| self.order == ActivationOrder::Pre)
    }

    /// BatchNorm behind convolution `j`.
    fn behind(&self, j: usize) -> Option<Norm> {
        self.weights.norm_body[j].filter(|_| self.order == ActivationOrder::Post)
    }

    /// Releases what the paths read, which may be one value.
    fn release(&self, tape: &mut Tape<'_>, [a, b]: [Var; 2]) {
        tape.release(a);
        if b != a {
            tape.release(b);
        }
    }
}

fn activation_of(kind: Nonlinearity) -> Activation {
    match kind {
        Nonlinearity::Relu => Activation::Relu,
        Nonlinearity::Tanh => Activation::Tanh,
        Nonlinearity::Sigmoid => Activation::Sigmoid,
    }
}
