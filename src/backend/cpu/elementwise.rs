//! Single passes over memory: what is bound by bandwidth, not by arithmetic.
//!
//! | function | what | runs on |
//! |---|---|---|
//! | [`update`] | `out[k][i] = f([out[0][i], ..], [inputs[0][i], ..])[k]` | all threads |
//! | [`map`] | `out[i] = f([inputs[0][i], ..])`, or added to it | all threads |
//! | [`map_row`] | the same | the caller's thread: inside a task |
//! | [`sum_row`], [`sum_two_row`] | sums of `f([inputs[0][i], ..])` | the caller's thread |
//!
//! `f` computes one element. The loops around it are plain Rust, compiled once for each instruction
//! set by `on_isa!`, where the compiler makes them as wide as its vectors: outside of them a closure
//! stays at what the whole program is compiled for, SSE2. A product and a sum are never contracted,
//! and sums have the same lanes everywhere, so every instruction set gives the same bits.
//!
//! `f` should own what it captures (`move`): what lies behind a reference is read again for every
//! element, since for all the compiler knows an output may lie there.

use super::Cpu;
use super::dispatch::on_isa;
use super::pool::SharedSlice;
use super::simd::Simd;

/// Elements per task: 64 KiB of f32, a fraction of a second-level cache.
pub const PIECE: usize = 16 << 10;

on_isa!(
    /// # Safety
    /// `isa` is available.
    fn each_on / each(len: usize, f: impl Fn(usize))
);

#[allow(clippy::extra_unused_type_parameters)] // it names the instruction set this is compiled for
#[inline(always)]
unsafe fn each<S>(len: usize, f: impl Fn(usize)) {
    (0..len).for_each(f);
}

fn update_row<const O: usize, const I: usize>(
    cpu: &Cpu,
    out: [&mut [f32]; O],
    inputs: [&[f32]; I],
    f: impl Fn([f32; O], [f32; I]) -> [f32; O],
) {
    let len = out[0].len();
    assert!(out.iter().all(|x| x.len() == len) && inputs.iter().all(|x| x.len() == len));
    let out = out.map(|x| x.as_mut_ptr());
    let element = move |i: usize| {
        // SAFETY: i < len, the length of all; the outputs are borrowed mutably, so nothing overlaps them.
        unsafe {
            let new = f(std::array::from_fn(|k| *out[k].add(i)), std::array::from_fn(|k| *inputs[k].get_unchecked(i)));
            for k in 0..O {
                *out[k].add(i) = new[k];
            }
        }
    };
    // SAFETY: the instruction set of a `Cpu` was detected.
    unsafe { each_on(cpu.isa, len, element) }
}

/// `out[k][i] = f([out[0][i], ..], [inputs[0][i], ..])[k]`; all are of one length.
pub fn update<const O: usize, const I: usize>(
    cpu: &Cpu,
    out: [&mut [f32]; O],
    inputs: [&[f32]; I],
    f: impl Fn([f32; O], [f32; I]) -> [f32; O] + Sync + Copy,
) {
    let len = out[0].len();
    assert!(out.iter().all(|x| x.len() == len) && inputs.iter().all(|x| x.len() == len));
    let out = out.map(SharedSlice::new);
    cpu.pool.run(len.div_ceil(PIECE), |piece| {
        let (start, len) = (piece * PIECE, PIECE.min(len - piece * PIECE));
        // SAFETY: pieces of different tasks do not overlap, each task runs once.
        let out = std::array::from_fn(|k| unsafe { out[k].range(start, len) });
        update_row(cpu, out, inputs.map(|x| &x[start..][..len]), f);
    });
}

/// `out[i] = f([inputs[0][i], ..])`, or added to it; all are of one length.
pub fn map<const I: usize>(
    cpu: &Cpu,
    out: &mut [f32],
    inputs: [&[f32]; I],
    add: bool,
    f: impl Fn([f32; I]) -> f32 + Sync + Copy,
) {
    if add {
        update(cpu, [out], inputs, move |[old], x| [old + f(x)]);
    } else {
        update(cpu, [out], inputs, move |_, x| [f(x)]);
    }
}

/// [`map`] on the caller's thread.
pub fn map_row<const I: usize>(
    cpu: &Cpu,
    out: &mut [f32],
    inputs: [&[f32]; I],
    add: bool,
    f: impl Fn([f32; I]) -> f32 + Copy,
) {
    if add {
        update_row(cpu, [out], inputs, move |[old], x| [old + f(x)]);
    } else {
        update_row(cpu, [out], inputs, move |_, x| [f(x)]);
    }
}

/// Lanes of a sum, on every instruction set.
const LANES: usize = 16;
/// Terms that a lane adds in f32 before they go to f64: keeps the rounding error of a sum near that
/// of its terms whatever its length.
const RUN: usize = 32;

on_isa!(
    /// # Safety
    /// `isa` is available.
    fn sums_on / sums(len: usize, f: impl Fn(usize) -> [f32; 2]) -> [f64; 2]
);

/// `f(start) .. f(start + count - 1)` and zeros, as vectors.
#[inline(always)]
fn terms(start: usize, count: usize, f: &impl Fn(usize) -> [f32; 2]) -> [[f32; LANES]; 2] {
    let mut terms = [[0.0; LANES]; 2];
    for lane in 0..count {
        [terms[0][lane], terms[1][lane]] = f(start + lane);
    }
    terms
}

#[inline(always)]
unsafe fn sums<S: Simd>(len: usize, f: impl Fn(usize) -> [f32; 2]) -> [f64; 2] {
    let mut totals = [[0.0f64; LANES]; 2];
    for run in (0..len).step_by(RUN * LANES) {
        // SAFETY: loads and stores stay within arrays of LANES, which all vectors divide.
        unsafe {
            // Vectors by name: as arrays, compilers keep the sums in memory and add at a third of the speed.
            let mut sums = [[S::splat(0.0); LANES / 4]; 2];
            for start in (run..len.min(run + RUN * LANES)).step_by(LANES) {
                // The extent of almost all loops is a constant.
                let terms = if len - start >= LANES { terms(start, LANES, &f) } else { terms(start, len - start, &f) };
                for (sums, terms) in sums.iter_mut().zip(&terms) {
                    for (v, sum) in sums[..LANES / S::LANES].iter_mut().enumerate() {
                        *sum = S::add(*sum, S::load(terms.as_ptr().add(v * S::LANES)));
                    }
                }
            }
            for (totals, sums) in totals.iter_mut().zip(&sums) {
                let mut lanes = [0.0f32; LANES];
                for (v, &sum) in sums[..LANES / S::LANES].iter().enumerate() {
                    S::store(lanes.as_mut_ptr().add(v * S::LANES), sum);
                }
                for (total, lane) in totals.iter_mut().zip(lanes) {
                    *total += f64::from(lane);
                }
            }
        }
    }
    totals.map(|lanes| lanes.iter().sum())
}

/// The sums over i of the two numbers `f([inputs[0][i], ..])`, in one pass; all inputs are of one length.
pub fn sum_two_row<const I: usize>(cpu: &Cpu, inputs: [&[f32]; I], f: impl Fn([f32; I]) -> [f32; 2]) -> [f64; 2] {
    let len = inputs[0].len();
    assert!(inputs.iter().all(|x| x.len() == len));
    // SAFETY: the instruction set of a `Cpu` was detected; i < len, the length of all.
    unsafe { sums_on(cpu.isa, len, move |i| f(std::array::from_fn(|k| *inputs[k].get_unchecked(i)))) }
}

/// The sum over i of `f([inputs[0][i], ..])`; all inputs are of one length.
pub fn sum_row<const I: usize>(cpu: &Cpu, inputs: [&[f32]; I], f: impl Fn([f32; I]) -> f32) -> f64 {
    sum_two_row(cpu, inputs, move |x| [f(x), 0.0])[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Isa;

    fn draw(len: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::rng::Rng::new(seed, crate::rng::Stream::Init);
        (0..len).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    fn sums_agree_with_f64_and_give_the_same_bits_on_every_instruction_set() {
        for len in [0, 1, 3, 15, 16, 17, 511, 512, 513, 5000] {
            let (a, b) = (draw(len, 11), draw(len, 12));
            let of = |isa| {
                let cpu = Cpu::with_isa(1, isa);
                sum_two_row(&cpu, [&a, &b], |[a, b]| [a, (a - 0.5) * (b + 2.0)])
            };
            let exact = a.iter().zip(&b).map(|(&a, &b)| [f64::from(a), (f64::from(a) - 0.5) * (f64::from(b) + 2.0)]);
            let exact = exact.fold([0.0; 2], |sum, x| [sum[0] + x[0], sum[1] + x[1]]);
            for isa in Isa::available() {
                let sums = of(isa);
                assert_eq!(sums.map(f64::to_bits), of(Isa::Portable).map(f64::to_bits), "{isa:?} {len}");
                for (sum, exact) in sums.iter().zip(exact) {
                    assert!((sum - exact).abs() < 1e-6 * (len as f64 + 1.0), "{isa:?} {len}: {sum}, not {exact}");
                }
            }
        }
    }

    #[test]
    fn updates_move_every_element_once_whatever_the_pieces() {
        for isa in Isa::available() {
            for len in [0, 1, 15, 17, 1000, PIECE - 1, PIECE, 2 * PIECE + 21] {
                let cpu = Cpu::with_isa(2, isa);
                let (a, b, x) = (draw(len, 1), draw(len, 2), draw(len, 3));
                let (mut new_a, mut new_b) = (a.clone(), b.clone());
                update(&cpu, [&mut new_a, &mut new_b], [&x], |[a, b], [x]| [a * x + b, b - x]);
                for i in 0..len {
                    assert_eq!([new_a[i], new_b[i]], [a[i] * x[i] + b[i], b[i] - x[i]], "{isa:?} {len} {i}");
                }
                map(&cpu, &mut new_a, [&x], false, |[x]| x * x);
                map(&cpu, &mut new_a, [&b, &x], true, |[b, x]| b * x);
                for i in 0..len {
                    assert_eq!(new_a[i], x[i] * x[i] + b[i] * x[i], "{isa:?} {len} {i}");
                }
            }
        }
    }
}
