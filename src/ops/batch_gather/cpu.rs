//! batch_gather on the CPU: one task per output row of a channel.

use super::BatchGather;
use crate::backend::cpu::Cpu;
use crate::data::Images;
use crate::data::augment::Placement;

/// Fills x [C, H, W, N].
pub fn batch_gather(
    cpu: &Cpu,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &BatchGather,
    x: &mut [f32],
) {
    let ([_, h, w], [rows, columns], n_len) = (config.image, config.size, indices.len());
    let [top, left] = config.origin();
    cpu.pool.pieces(x, columns * n_len, |row, out| {
        let (channel, p) = (row / rows, row % rows);
        let values = config.values(channel);
        for (n, (&index, placement)) in indices.iter().zip(placements).enumerate() {
            let plane = &set.image(index as usize)[channel * h * w..][..h * w];
            let y = p as i64 + i64::from(placement.dy) + top;
            for q in 0..columns {
                let q_source = if placement.flip { columns - 1 - q } else { q };
                let x = q_source as i64 + i64::from(placement.dx) + left;
                let inside = (0..h as i64).contains(&y) && (0..w as i64).contains(&x);
                let pixel = if inside { plane[y as usize * w + x as usize] } else { 0 };
                out[q * n_len + n] = values[usize::from(pixel)];
            }
        }
    });
}
