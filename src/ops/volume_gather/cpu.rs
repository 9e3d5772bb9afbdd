//! volume_gather on the CPU: one task per output row.

use super::{VALUES, VolumeGather};
use crate::backend::cpu::Cpu;
use crate::data::Images;
use crate::data::augment::Placement;

/// Fills x [1, D, H, W, N].
pub fn volume_gather(
    cpu: &Cpu,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &VolumeGather,
    x: &mut [f32],
) {
    let ([d, h, w], n_len) = (config.size, indices.len());
    cpu.pool.pieces(x, w * n_len, |row, out| {
        let (z, y) = (row / h, row % h);
        for (n, (&index, placement)) in indices.iter().zip(placements).enumerate() {
            let view = &set.image(index as usize)[usize::from(placement.view) * config.view_bytes()..];
            let [dz, dy, dx] = config.roll(placement);
            let y = if placement.flip_rows { h - 1 - y } else { y };
            let first = ((z + dz) % d * h + (y + dy) % h) * w;
            for x in 0..w {
                let bit = first + (if placement.flip { w - 1 - x } else { x } + dx) % w;
                out[x * n_len + n] = VALUES[usize::from(view[bit / 8] >> (bit % 8) & 1)];
            }
        }
    });
}
