//! Single passes over memory: what is bound by bandwidth, not by arithmetic.

use super::Cpu;
use super::dispatch::on_isa;
use super::simd::Simd;

/// Elements per task: 64 KiB of f32, a fraction of a second-level cache.
pub const PIECE: usize = 16 << 10;

/// g *= 1 where y > 0, `slope` elsewhere: the gradient of a (leaky) ReLU from its output,
/// whose sign is that of its input.
pub fn gate_leaky(cpu: &Cpu, g: &mut [f32], y: &[f32], slope: f32) {
    cpu.pool.pieces(g, PIECE, |i, g| {
        for (g, &y) in g.iter_mut().zip(&y[i * PIECE..]) {
            *g *= if y > 0.0 { 1.0 } else { slope };
        }
    });
}

/// `out[i] = f(a[i], b[i])`, or added to it.
pub fn zip_map(cpu: &Cpu, out: &mut [f32], a: &[f32], b: &[f32], add: bool, f: impl Fn(f32, f32) -> f32 + Sync) {
    cpu.pool.pieces(out, PIECE, |i, out| {
        let start = i * PIECE;
        for ((out, &a), &b) in out.iter_mut().zip(&a[start..]).zip(&b[start..]) {
            *out = if add { *out + f(a, b) } else { f(a, b) };
        }
    });
}

/// `out[i] = f(a[i])`, or added to it.
pub fn map(cpu: &Cpu, out: &mut [f32], a: &[f32], add: bool, f: impl Fn(f32) -> f32 + Sync) {
    cpu.pool.pieces(out, PIECE, |i, out| {
        for (out, &a) in out.iter_mut().zip(&a[i * PIECE..]) {
            *out = if add { *out + f(a) } else { f(a) };
        }
    });
}

/// Sums of at most this many f32 per lane before going to f64: keeps the rounding error of a
/// sum near that of its terms whatever its length.
const BLOCK_VECTORS: usize = 32;

on_isa!(
    /// # Safety
    /// `isa` is available and `a.len() == b.len()`.
    fn dot_about_on / dot_about(a: &[f32], a0: f32, b: &[f32], b0: f32) -> f64
);

#[inline(always)]
unsafe fn dot_about<S: Simd>(a: &[f32], a0: f32, b: &[f32], b0: f32) -> f64 {
    let mut total = 0.0f64;
    let mut i = 0;
    // SAFETY: every load is masked to the length of the slices; lanes fit 16 elements.
    unsafe {
        let (shift_a, shift_b, zero) = (S::splat(-a0), S::splat(-b0), S::splat(0.0));
        while i < a.len() {
            let mut acc = [zero; 2];
            for step in 0..BLOCK_VECTORS {
                let left = a.len() as isize - i as isize;
                if left <= 0 {
                    break;
                }
                let (x, y);
                if left >= S::LANES as isize {
                    x = S::add(S::load(a.as_ptr().add(i)), shift_a);
                    y = S::add(S::load(b.as_ptr().add(i)), shift_b);
                } else {
                    let mask = S::mask(0, left);
                    // Lanes beyond the end must contribute nothing: both factors would be the shift.
                    let ones = [1.0f32; 16];
                    let inside = S::load_masked(ones.as_ptr(), mask);
                    x = S::mul(inside, S::add(S::load_masked(a.as_ptr().add(i), mask), shift_a));
                    y = S::add(S::load_masked(b.as_ptr().add(i), mask), shift_b);
                }
                acc[step % 2] = S::fma(x, y, acc[step % 2]);
                i += S::LANES;
            }
            let mut lanes = [0.0f32; 16];
            S::store(lanes.as_mut_ptr(), S::add(acc[0], acc[1]));
            total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
    }
    total
}

/// Sum over i of `(a[i] - a0) * (b[i] - b0)`, accumulated in f64 blocks.
pub fn dot_shifted(cpu: &Cpu, a: &[f32], a0: f32, b: &[f32], b0: f32) -> f64 {
    assert_eq!(a.len(), b.len());
    // SAFETY: the instruction set of a `Cpu` was detected; lengths are equal.
    unsafe { dot_about_on(cpu.isa, a, a0, b, b0) }
}

on_isa!(
    /// # Safety
    /// `isa` is available.
    fn sum_on / sum_lanes(a: &[f32]) -> f64
);

#[inline(always)]
unsafe fn sum_lanes<S: Simd>(a: &[f32]) -> f64 {
    let mut total = 0.0f64;
    for block in a.chunks(BLOCK_VECTORS * S::LANES) {
        // SAFETY: full vectors of the block, then a masked rest.
        unsafe {
            let mut acc = S::splat(0.0);
            let full = block.len() / S::LANES * S::LANES;
            for i in (0..full).step_by(S::LANES) {
                acc = S::add(acc, S::load(block.as_ptr().add(i)));
            }
            let rest = S::mask(0, (block.len() - full) as isize);
            acc = S::add(acc, S::load_masked(block.as_ptr().add(full), rest));
            let mut lanes = [0.0f32; 16];
            S::store(lanes.as_mut_ptr(), acc);
            total += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
    }
    total
}

/// Sum of all elements, accumulated in f64 blocks.
pub fn sum(cpu: &Cpu, a: &[f32]) -> f64 {
    // SAFETY: the instruction set of a `Cpu` was detected.
    unsafe { sum_on(cpu.isa, a) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Isa;

    #[test]
    fn sums_agree_with_f64_for_every_length_and_instruction_set() {
        let mut rng = crate::rng::Rng::new(11, crate::rng::Stream::Init);
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(1, isa);
            for len in [0, 1, 3, 4, 15, 16, 17, 63, 511, 512, 513, 2049] {
                let mut draw = || (0..len).map(|_| rng.normal() as f32).collect::<Vec<_>>();
                let (a, b) = (draw(), draw());
                let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| (f64::from(x) - 0.5) * (f64::from(y) + 2.0)).sum();
                let scale = len as f64 + 1.0;
                assert!((dot_shifted(&cpu, &a, 0.5, &b, -2.0) - exact).abs() < 1e-6 * scale, "{isa:?} {len}");
                let exact: f64 = a.iter().map(|&x| f64::from(x)).sum();
                assert!((sum(&cpu, &a) - exact).abs() < 1e-6 * scale, "{isa:?} {len}");
            }
        }
    }
}
