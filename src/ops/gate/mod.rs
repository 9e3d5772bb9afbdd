//! `y = tanh(a) * sigmoid(b)`, element by element, all of one shape: a gate. What one path says is let through as far
//! as the other one opens (van den Oord et al. 2016).
//!
//! With t = tanh(a), s = sigmoid(b): `ga = gy * s * (1 - t^2)`, `gb = gy * t * s * (1 - s)`. Both are computed
//! from a and b again, which are all that is kept.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::cpu::map;
use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};

const OP: &str = "gate";

/// One of the two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    A,
    B,
}

/// The gate; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn gate(tape: &mut Tape<'_>, a: Var, b: Var) -> Result<Var> {
    let _range = tape.op_range(c"gate_forward");
    let shape = tape.shape(a);
    if tape.shape(b) != shape {
        return Err(Error::shape(OP, shape, tape.shape(b)));
    }
    let y = tape.alloc(shape, tape.needs_grad(a) || tape.needs_grad(b))?;
    let (at, bt, yt) = (tape.tensor(a).span, tape.tensor(b).span, tape.tensor(y).span);
    tape.compute(
        |claims, cpu| {
            map(cpu, claims.write(yt), [claims.read(at), claims.read(bt)], false, |[a, b]| a.tanh() * sigmoid(b));
        },
        |device| cuda::gate_forward(device, at, bt, yt),
    )?;
    if tape.is_writing() {
        write_down(tape, a, b, y)?;
    }
    tape.record(GateNode { a, b, y }, y, &[a, b]);
    Ok(y)
}

fn write_down(tape: &mut Tape<'_>, a: Var, b: Var, y: Var) -> Result<()> {
    let ([a, b], shape) = ([tape.written(a)?, tape.written(b)?], tape.shape(y));
    let tanh = tape.write_value(Operation::Tanh, vec![a], shape);
    let sigmoid = tape.write_value(Operation::Sigmoid, vec![b], shape);
    let product = tape.write_value(Operation::Mul, vec![tanh, sigmoid], shape);
    tape.stands_for(y, product);
    Ok(())
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

struct GateNode {
    a: Var,
    b: Var,
    y: Var,
}

impl Backward for GateNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"gate_backward");
        let (gy, a, b) = (tape.grad(self.y)?, tape.tensor(self.a).span, tape.tensor(self.b).span);
        for (x, operand) in [(self.a, Operand::A), (self.b, Operand::B)] {
            let Some(gx) = tape.grad_target(x)? else { continue };
            tape.compute(
                |claims, cpu| {
                    let read = [gy, a, b].map(|span| claims.read(span));
                    let out = claims.write(gx.span);
                    match operand {
                        Operand::A => map(cpu, out, read, gx.add, |[g, a, b]| {
                            let t = a.tanh();
                            g * (sigmoid(b) * (1.0 - t * t))
                        }),
                        Operand::B => map(cpu, out, read, gx.add, |[g, a, b]| {
                            let s = sigmoid(b);
                            g * (a.tanh() * (s * (1.0 - s)))
                        }),
                    }
                },
                |device| cuda::gate_backward(device, gy, [a, b], gx, operand),
            )?;
        }
        Ok(())
    }
}
