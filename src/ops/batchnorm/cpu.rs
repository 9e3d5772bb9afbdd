//! batchnorm on the CPU: one task per channel, whose row of H*W*N numbers stays in cache
//! between the passes over it.

use super::{Batchnorm, EPSILON, MOMENTUM, Operands};
use crate::backend::cpu::{Cpu, SharedSlice, dot_shifted, sum};
use crate::backend::{Claims, Span};
use crate::tape::GradTarget;

/// The row of every channel of every view, in order.
fn rows<'a>(claims: &'a Claims<'_>, operands: &Operands) -> Vec<&'a [f32]> {
    operands.views.iter().flat_map(|t| claims.read(t.span).chunks(t.shape.plane())).collect()
}

/// y = act(gamma * (x - mean) * rstd + beta); fills `statistics` with [mean, rstd].
pub fn batchnorm_forward(cpu: &Cpu, claims: &Claims<'_>, operands: &Operands, config: &Batchnorm, y: &mut [f32]) {
    let x = rows(claims, operands);
    let plane = operands.y.shape.plane();
    let (gamma, beta) = (claims.read(operands.gamma), claims.read(operands.beta));
    let statistics = SharedSlice::new(claims.write(operands.statistics));
    let running = config.running.map(|span| SharedSlice::new(claims.write(span)));
    cpu.pool.pieces(y, plane, |c, y| {
        // SAFETY: element c of each vector belongs to task c alone.
        let [mean, rstd] = [c, x.len() + c].map(|i| unsafe { &mut statistics.range(i, 1)[0] });
        let [running_mean, running_var] = [0, 1].map(|i| unsafe { &mut running[i].range(c, 1)[0] });
        let variance;
        if config.train {
            let count = plane as f64;
            *mean = (sum(cpu, x[c]) / count) as f32;
            let squares = dot_shifted(cpu, x[c], *mean, x[c], *mean);
            variance = (squares / count) as f32;
            let sample = (squares / (count - 1.0).max(1.0)) as f32;
            *running_mean += MOMENTUM * (*mean - *running_mean);
            *running_var += MOMENTUM * (sample - *running_var);
        } else {
            (*mean, variance) = (*running_mean, *running_var);
        }
        *rstd = 1.0 / (variance + EPSILON).sqrt();
        let factor = gamma[c] * *rstd;
        let offset = beta[c] - factor * *mean;
        let slope = config.slope.unwrap_or(1.0);
        for (y, &x) in y.iter_mut().zip(x[c]) {
            let z = factor * x + offset;
            *y = z.max(slope * z);
        }
    });
}

/// With gz = gy * act': gbeta += sum gz, ggamma += sum gz * xhat, and
/// gx (+)= gamma * rstd * (gz - mean(gz) - xhat * mean(gz * xhat)), without the means in evaluation.
pub fn batchnorm_backward(
    cpu: &Cpu,
    claims: &Claims<'_>,
    operands: &Operands,
    config: &Batchnorm,
    gy: Span,
    vectors: [Option<Span>; 2],
    targets: &[Option<GradTarget>],
) {
    let x = rows(claims, operands);
    let plane = operands.y.shape.plane();
    let (gamma, y) = (claims.read(operands.gamma), claims.read(operands.y.span));
    let (mean, rstd) = claims.read(operands.statistics).split_at(x.len());
    let vectors = vectors.map(|span| span.map(|span| SharedSlice::new(claims.write(span))));
    let mut outputs: Vec<Option<(SharedSlice<'_>, bool)>> = Vec::with_capacity(x.len());
    for (view, target) in operands.views.iter().zip(targets) {
        match target {
            Some(target) => outputs.extend(
                claims.write(target.span).chunks_mut(plane).map(|row| Some((SharedSlice::new(row), target.add))),
            ),
            None => outputs.extend((0..view.shape.c).map(|_| None)),
        }
    }
    cpu.pool.pieces(claims.write(gy), plane, |c, g| {
        if let Some(slope) = config.slope {
            for (g, &y) in g.iter_mut().zip(&y[c * plane..]) {
                *g *= if y > 0.0 { 1.0 } else { slope };
            }
        }
        let gbeta = sum(cpu, g) as f32;
        let ggamma = dot_shifted(cpu, g, 0.0, x[c], mean[c]) as f32 * rstd[c];
        for (vector, gradient) in vectors.iter().zip([ggamma, gbeta]) {
            if let Some(vector) = vector {
                // SAFETY: element c belongs to task c alone.
                unsafe { vector.range(c, 1)[0] += gradient };
            }
        }
        let Some((out, add)) = &outputs[c] else { return };
        // SAFETY: each row belongs to one task.
        let out = unsafe { out.range(0, plane) };
        let count = plane as f32;
        let factor = gamma[c] * rstd[c];
        let (mean_g, mean_gx) = if config.train { (gbeta / count, ggamma / count * rstd[c]) } else { (0.0, 0.0) };
        for ((out, &g), &x) in out.iter_mut().zip(&*g).zip(x[c]) {
            let gx = factor * (g - mean_g - (x - mean[c]) * mean_gx);
            *out = if *add { *out + gx } else { gx };
        }
    });
}
