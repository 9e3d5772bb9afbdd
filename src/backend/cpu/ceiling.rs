//! What this machine can do at most, measured: the yardsticks every speed is compared with.

use super::Cpu;
use super::dispatch::on_isa;
use super::pool::SharedSlice;
use super::simd::Simd;
use std::time::Instant;

/// Independent multiply-adds in flight: 12 hide a latency of 4 cycles at up to 3 per cycle.
const CHAINS: usize = 12;
/// Multiply-adds per chain and task.
const LENGTH: usize = 200_000;

on_isa!(
    /// # Safety
    /// `isa` is available.
    fn chains_on / chains(seed: f32) -> f32
);

#[inline(always)]
unsafe fn chains<S: Simd>(seed: f32) -> f32 {
    // SAFETY: registers only, and one store of LANES <= 16 elements into 16.
    unsafe {
        let (a, b) = (S::splat(0.999), S::splat(seed));
        let mut acc = [b; CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut acc {
                *chain = S::fma(*chain, a, b);
            }
        }
        let mut sum = acc[0];
        for &chain in &acc[1..] {
            sum = S::add(sum, chain);
        }
        let mut out = [0.0; 16];
        S::store(out.as_mut_ptr(), sum);
        out[0]
    }
}

/// Peak f32 arithmetic in GFLOP/s over all threads (one multiply-add is two), best of 5.
pub fn fma_gflops(cpu: &Cpu) -> f64 {
    best_of_5(|| fma_sample(cpu))
}

/// Copy bandwidth in GB/s over all threads, bytes read plus bytes written, best of 5.
pub fn copy_gbytes(cpu: &Cpu) -> f64 {
    let mut copy = Copy::default();
    best_of_5(|| copy.sample(cpu))
}

/// f32 arithmetic in GFLOP/s over all threads, measured once: 6 ms.
pub fn fma_sample(cpu: &Cpu) -> f64 {
    let tasks = 8 * cpu.pool.threads();
    let flops = (2 * cpu.isa.lanes() * CHAINS * LENGTH * tasks) as f64;
    rate(flops, || {
        // SAFETY: the instruction set of a `Cpu` was detected.
        cpu.pool.run(tasks, |i| unsafe {
            std::hint::black_box(chains_on(cpu.isa, i as f32 * 1e-3));
        });
    })
}

/// A large copy that can be measured again and again.
#[derive(Debug)]
pub struct Copy {
    source: Vec<f32>,
    target: Vec<f32>,
}

impl Default for Copy {
    fn default() -> Self {
        // 128 MiB per side: far beyond any cache share of two cores.
        const LEN: usize = 32 << 20;
        Self { source: vec![1.0; LEN], target: vec![0.0; LEN] }
    }
}

impl Copy {
    /// Bandwidth in GB/s over all threads, bytes read plus bytes written, measured once: 8 ms.
    pub fn sample(&mut self, cpu: &Cpu) -> f64 {
        const PIECES: usize = 64;
        let (source, piece) = (&self.source, self.source.len() / PIECES);
        let out = SharedSlice::new(&mut self.target);
        rate((2 * 4 * PIECES * piece) as f64, || {
            cpu.pool.run(PIECES, |i| {
                // SAFETY: one piece per task.
                unsafe { out.range(i * piece, piece) }.copy_from_slice(&source[i * piece..][..piece]);
            });
        })
    }
}

/// Billions per second.
fn rate(work: f64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    work / start.elapsed().as_secs_f64() / 1e9
}

fn best_of_5(mut sample: impl FnMut() -> f64) -> f64 {
    sample(); // touches the pages, wakes the threads
    (0..5).map(|_| sample()).fold(0.0, f64::max)
}
