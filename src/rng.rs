//! One master seed, five named random streams.
//!
//! Every random decision of a run comes from one of the [`Stream`]s below, so that drawing
//! more of one kind (say, architectures) never moves another (say, crops). Each stream is a
//! ChaCha8 generator with the master seed as key and the stream's number as nonce; its
//! position is a counter, so the state of a run is a handful of integers ([`RngState`]).
//! The distributions are written out here because a dependency may change theirs and the
//! golden test at the bottom must not move.

use rand::Rng as _;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What a stream of random numbers is for. The number is part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Initial weights.
    Init = 1,
    /// Architectures drawn while training.
    Arch = 2,
    /// Crops and flips.
    Augment = 3,
    /// Order of the training images, and the choice of the validation split.
    Shuffle = 4,
    /// Architectures drawn, perturbed and mutated while searching.
    Search = 5,
}

/// A position in a stream, as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    /// Master seed of the run.
    pub seed: u64,
    /// Number of the [`Stream`]; a sub-stream sets bit 63 and has its index in bits 8 to 39.
    pub stream: u64,
    /// 32-bit words drawn so far, in decimal (it may exceed what JSON numbers hold).
    pub word_pos: String,
}

/// A random stream.
#[derive(Debug)]
pub struct Rng {
    inner: ChaCha8Rng,
    seed: u64,
    stream: u64,
}

impl Rng {
    /// The stream `stream` of master seed `seed`, at its beginning.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self::numbered(seed, stream as u64)
    }

    /// Sub-stream `index` of `stream`: independent of the stream itself and of its other
    /// sub-streams (one per retrained network, one per validation pass).
    pub fn sub(seed: u64, stream: Stream, index: u32) -> Self {
        Self::numbered(seed, stream as u64 | u64::from(index) << 8 | 1 << 63)
    }

    fn numbered(seed: u64, stream: u64) -> Self {
        let mut inner = ChaCha8Rng::seed_from_u64(seed);
        inner.set_stream(stream);
        Self { inner, seed, stream }
    }

    /// Where the stream stands.
    pub fn state(&self) -> RngState {
        RngState { seed: self.seed, stream: self.stream, word_pos: self.inner.get_word_pos().to_string() }
    }

    /// Continues from `state`; `None` when its position is not a number.
    pub fn restore(state: &RngState) -> Option<Self> {
        let mut rng = Self::numbered(state.seed, state.stream);
        rng.inner.set_word_pos(state.word_pos.parse().ok()?);
        Some(rng)
    }

    /// Uniform in `[0, 1)`, 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.inner.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform integer in `0..n`, unbiased (Lemire's multiply and reject). `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0);
        let n = n as u64;
        loop {
            let wide = u128::from(self.inner.next_u64()) * u128::from(n);
            if wide as u64 >= n.wrapping_neg() % n {
                return (wide >> 64) as usize;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal (Box-Muller, one value per two uniforms, so no hidden state).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// An index drawn with probability proportional to its (non-negative) weight.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (i, &w) in weights.iter().enumerate() {
            left -= w;
            if left < 0.0 {
                return i;
            }
        }
        // Rounding left a sliver: the last index that can be drawn at all.
        weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `count` different items of `items`, in their original order.
    pub fn choose<T: Copy>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        for i in 0..count.min(items.len()) {
            let j = i + self.below(items.len() - i);
            order.swap(i, j);
        }
        order.truncate(count);
        order.sort_unstable();
        order.into_iter().map(|i| items[i]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_golden_and_independent() {
        let mut a = Rng::new(1, Stream::Arch);
        let mut b = Rng::new(1, Stream::Augment);
        let first: Vec<usize> = (0..6).map(|_| a.below(1000)).collect();
        let other: Vec<usize> = (0..6).map(|_| b.below(1000)).collect();
        assert_ne!(first, other);
        let mut sub = Rng::sub(1, Stream::Arch, 0);
        let nested: Vec<usize> = (0..6).map(|_| sub.below(1000)).collect();
        assert_ne!(first, nested);
        assert_eq!(first, GOLDEN, "the ChaCha stream or `below` changed: old runs cannot be repeated");
    }

    #[test]
    fn state_restores_the_exact_position() {
        let mut a = Rng::new(7, Stream::Search);
        for _ in 0..13 {
            a.normal();
        }
        let text = serde_json::to_string(&a.state()).unwrap();
        let mut b = Rng::restore(&serde_json::from_str(&text).unwrap()).unwrap();
        for _ in 0..100 {
            assert_eq!(a.uniform().to_bits(), b.uniform().to_bits());
        }
    }

    #[test]
    fn normal_has_unit_moments() {
        let mut rng = Rng::new(3, Stream::Init);
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03, "mean {mean}"); // 4 standard errors
        assert!((var - 1.0).abs() < 0.04, "variance {var}");
    }

    #[test]
    fn choose_keeps_order_and_repeats_nothing() {
        let mut rng = Rng::new(3, Stream::Init);
        for count in 0..=7 {
            let chosen = rng.choose(&[1, 2, 3, 4, 5, 6, 7], count);
            assert_eq!(chosen.len(), count);
            assert!(chosen.windows(2).all(|w| w[0] < w[1]));
        }
    }

    const GOLDEN: [usize; 6] = [876, 682, 336, 511, 961, 444];
}
