//! `y[c]` = mean over all pixels of `x[c]`, image by image: [C, D, H, W, N] -> [C, 1, 1, N].

pub mod checks;
mod cuda;

use crate::backend::cpu::map_row;
use crate::error::Result;
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "global_avg_pool";

/// The average over the picture or volume; see the module documentation.
pub fn global_avg_pool(tape: &mut Tape<'_>, x: Var) -> Result<Var> {
    let _range = tape.op_range(c"global_avg_pool_forward");
    let shape = tape.shape(x);
    let y = tape.alloc(Shape::new(shape.c, 1, 1, shape.n), tape.needs_grad(x))?;
    let (xt, yt) = (tape.tensor(x).span, tape.tensor(y).span);
    let scale = 1.0 / shape.pixels() as f32;
    tape.compute(
        |claims, cpu| {
            let x = claims.read(xt);
            cpu.pool.pieces(claims.write(yt), shape.n, |c, out| {
                out.fill(0.0);
                for pixel in x[c * shape.plane()..][..shape.plane()].chunks(shape.n) {
                    for (out, &x) in out.iter_mut().zip(pixel) {
                        *out += x;
                    }
                }
                out.iter_mut().for_each(|out| *out *= scale);
            });
        },
        |device| cuda::global_avg_pool_forward(device, xt, yt, shape),
    )?;
    tape.write_down(Operation::GlobalAvgPool, &[x], y)?;
    tape.record(GlobalAvgPoolNode { x, y }, y, &[]);
    Ok(y)
}

struct GlobalAvgPoolNode {
    x: Var,
    y: Var,
}

impl Backward for GlobalAvgPoolNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"global_avg_pool_backward");
        let gy = tape.grad(self.y)?;
        let shape = tape.shape(self.x);
        let scale = 1.0 / shape.pixels() as f32;
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let gy = claims.read(gy);
                    cpu.pool.pieces(claims.write(gx.span), shape.plane(), |c, out| {
                        for pixel in out.chunks_mut(shape.n) {
                            map_row(cpu, pixel, [&gy[c * shape.n..][..shape.n]], gx.add, move |[g]| scale * g);
                        }
                    });
                },
                |device| cuda::global_avg_pool_backward(device, gy, gx, shape),
            )?;
        }
        Ok(())
    }
}
