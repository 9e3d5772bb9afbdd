//! Which images make the next batch.
//!
//! Training walks through fresh shuffles of the training indices, evaluation through them in order.
//! The order is a function of the generator's state at the start of the epoch, so an epoch number,
//! a position and that state continue it exactly.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rng::{Rng, RngState};

/// Where a [`BatchOrder`] stands, as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderState {
    /// Epochs finished before the current one.
    pub epoch: u64,
    /// Images of the current epoch given out.
    pub position: u64,
    /// Images the order runs over; a restored order must have as many.
    pub images: u64,
    /// The generator before it shuffled the current epoch.
    pub rng: RngState,
}

/// An endless stream of training batches: every epoch is a fresh shuffle of the same indices, cut into
/// batches of equal size; the rest that fills no batch is left out of that epoch.
#[derive(Debug)]
pub struct BatchOrder {
    indices: Vec<u32>,
    batch: usize,
    rng: Rng,
    epoch: u64,
    position: usize,
    epoch_start: RngState,
    shuffled: Vec<u32>,
}

impl BatchOrder {
    /// Batches of `batch` of the given image indices, in an order drawn from `rng`.
    ///
    /// # Errors
    /// `Config` when `batch` is 0 or larger than the number of indices.
    pub fn new(indices: Vec<u32>, batch: usize, rng: Rng) -> Result<Self> {
        if batch == 0 || batch > indices.len() {
            let message = format!("{batch} is not between 1 and the {} training images", indices.len());
            return Err(Error::config("batch size", message));
        }
        let epoch_start = rng.state();
        let mut order = Self { shuffled: Vec::new(), indices, batch, rng, epoch: 0, position: 0, epoch_start };
        order.shuffle();
        Ok(order)
    }

    /// Continues from `state`, taken from an order over the same indices and batch size that was
    /// stored in `checkpoint`.
    ///
    /// # Errors
    /// `Config` as for [`new`](Self::new); `Checkpoint` when the state cannot belong to such an order.
    pub fn restore(indices: Vec<u32>, batch: usize, state: &OrderState, checkpoint: &Path) -> Result<Self> {
        let Some(rng) = Rng::restore(&state.rng) else {
            let message =
                format!("the shuffle position {:?} is not a number; use an older checkpoint", state.rng.word_pos);
            return Err(Error::checkpoint(checkpoint, message));
        };
        let mut order = Self::new(indices, batch, rng)?;
        let images = order.indices.len() as u64;
        if state.images != images {
            let message = format!(
                "it was trained on {} images, there are {images} now; use the same data and validation split",
                state.images
            );
            return Err(Error::checkpoint(checkpoint, message));
        }
        let position = usize::try_from(state.position).unwrap_or(usize::MAX);
        if position > order.batches_per_epoch() * batch || position % batch != 0 {
            let message = format!(
                "it stopped after {position} images of an epoch, which is no number of batches of {batch}; use the \
                 same batch size"
            );
            return Err(Error::checkpoint(checkpoint, message));
        }
        order.epoch = state.epoch;
        order.position = position;
        Ok(order)
    }

    /// Where the order stands: the next batch of a restored order is the next one of this.
    pub fn state(&self) -> OrderState {
        OrderState {
            epoch: self.epoch,
            position: self.position as u64,
            images: self.indices.len() as u64,
            rng: self.epoch_start.clone(),
        }
    }

    /// The next batch: exactly the batch size of image indices.
    pub fn next_batch(&mut self) -> &[u32] {
        if self.position + self.batch > self.shuffled.len() {
            self.epoch += 1;
            self.position = 0;
            self.epoch_start = self.rng.state();
            self.shuffle();
        }
        let start = self.position;
        self.position += self.batch;
        &self.shuffled[start..self.position]
    }

    /// Epochs finished before the one of the latest batch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whole batches in an epoch, at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        self.indices.len() / self.batch
    }

    /// From the given order every time, so that an epoch depends on nothing but the generator.
    fn shuffle(&mut self) {
        self.shuffled.clone_from(&self.indices);
        self.rng.shuffle(&mut self.shuffled);
    }
}

/// All `indices` in order, in batches of `batch` (at least 1); the last one may be shorter.
pub fn sequential_batches(indices: &[u32], batch: usize) -> impl ExactSizeIterator<Item = &[u32]> {
    indices.chunks(batch.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn order(images: u32, batch: usize, seed: u64) -> BatchOrder {
        BatchOrder::new((100..100 + images).collect(), batch, Rng::new(seed, Stream::Shuffle)).unwrap()
    }

    fn take(order: &mut BatchOrder, batches: usize) -> Vec<Vec<u32>> {
        (0..batches).map(|_| order.next_batch().to_vec()).collect()
    }

    #[test]
    fn an_epoch_gives_no_image_twice_and_drops_only_the_rest() {
        let mut order = order(23, 5, 1);
        assert_eq!(order.batches_per_epoch(), 4);
        let mut epochs = Vec::new();
        for epoch in 0..3 {
            let batches = take(&mut order, 4);
            assert_eq!(order.epoch(), epoch);
            assert!(batches.iter().all(|batch| batch.len() == 5));
            let flat = batches.concat();
            let mut sorted = flat.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 20);
            assert!(sorted.iter().all(|i| (100..123).contains(i)));
            epochs.push(flat);
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2], "epochs are shuffled afresh");
    }

    #[test]
    fn orders_of_one_seed_agree_and_of_two_do_not() {
        assert_eq!(take(&mut order(23, 5, 1), 9), take(&mut order(23, 5, 1), 9));
        assert_ne!(take(&mut order(23, 5, 1), 9), take(&mut order(23, 5, 2), 9));
    }

    #[test]
    fn a_restored_order_continues_exactly_from_anywhere() {
        for stop in 0..12 {
            let mut whole = order(23, 5, 1);
            take(&mut whole, stop);
            let text = serde_json::to_string(&whole.state()).unwrap();
            let state = serde_json::from_str(&text).unwrap();
            let mut restored = BatchOrder::restore((100..123).collect(), 5, &state, Path::new("c")).unwrap();
            assert_eq!(restored.state(), whole.state());
            assert_eq!(take(&mut restored, 10), take(&mut whole, 10), "stopped after {stop}");
            assert_eq!(restored.epoch(), whole.epoch());
        }
    }

    #[test]
    fn a_state_of_another_order_is_a_checkpoint_error() {
        let mut order = order(23, 5, 1);
        take(&mut order, 3);
        let good = order.state();
        let restore = |images: u32, batch, state: &OrderState| {
            BatchOrder::restore((0..images).collect(), batch, state, Path::new("c")).unwrap_err().to_string()
        };
        assert!(restore(22, 5, &good).contains("trained on 23 images, there are 22"));
        assert!(restore(23, 4, &good).contains("15 images of an epoch, which is no number of batches of 4"));
        assert!(restore(23, 5, &OrderState { position: u64::MAX, ..good.clone() }).contains("same batch size"));
        let rng = RngState { word_pos: "x".into(), ..good.rng.clone() };
        assert!(restore(23, 5, &OrderState { rng, ..good }).contains("\"x\" is not a number"));
    }

    #[test]
    fn impossible_batch_sizes_are_config_errors() {
        for (images, batch) in [(4, 0), (4, 5), (0, 1)] {
            let error = BatchOrder::new((0..images).collect(), batch, Rng::new(1, Stream::Shuffle)).unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{error}");
        }
        assert_eq!(order(4, 4, 1).next_batch().len(), 4);
    }

    #[test]
    fn evaluation_sees_every_image_once_and_in_order() {
        let indices: Vec<u32> = (0..7).collect();
        let batches: Vec<&[u32]> = sequential_batches(&indices, 3).collect();
        assert_eq!(batches, [&[0, 1, 2][..], &[3, 4, 5], &[6]]);
    }
}
