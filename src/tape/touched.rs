//! Which channels of a value hold a gradient: disjoint runs in ascending order, neighbours joined.
//!
//! Runs, not a flag per channel: the weights of a network are one vector, each a channel of its own.
//! 820 thousand flags, asked for one by one and from fresh pages, took 0.5 ms per reader.

use std::ops::Range;

/// See the module documentation.
#[derive(Default)]
pub struct Touched(Vec<Range<usize>>);

impl Touched {
    /// Does a channel of `range` hold a gradient?
    pub fn any(&self, range: &Range<usize>) -> bool {
        self.0.iter().any(|run| run.start < range.end && range.start < run.end)
    }

    /// Maximal runs of channels in `range` that hold no gradient yet.
    pub fn missing(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut missing = Vec::new();
        let mut next = range.start;
        for run in self.0.iter().filter(|run| range.start < run.end && run.start < range.end) {
            if next < run.start {
                missing.push(next..run.start);
            }
            next = run.end;
        }
        if next < range.end {
            missing.push(next..range.end);
        }
        missing
    }

    /// The channels of `range` hold a gradient from now on.
    pub fn insert(&mut self, range: Range<usize>) {
        let mut joined = range;
        self.0.retain(|run| {
            let apart = run.end < joined.start || joined.end < run.start;
            if !apart {
                joined = run.start.min(joined.start)..run.end.max(joined.end);
            }
            apart
        });
        self.0.insert(self.0.partition_point(|run| run.start < joined.start), joined);
    }

    /// No channel holds one.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    #[test]
    fn runs_say_what_a_flag_per_channel_would() {
        const CHANNELS: usize = 24;
        let mut rng = Rng::new(3, Stream::Search);
        for _ in 0..300 {
            let (mut touched, mut flags) = (Touched::default(), [false; CHANNELS]);
            for _ in 0..8 {
                let start = rng.below(CHANNELS);
                let range = start..start + 1 + rng.below(CHANNELS - start);
                assert_eq!(touched.any(&range), flags[range.clone()].contains(&true), "{range:?} of {flags:?}");
                let missing = touched.missing(&range);
                let expected: Vec<usize> = range.clone().filter(|&c| !flags[c]).collect();
                assert_eq!(missing.iter().cloned().flatten().collect::<Vec<_>>(), expected, "{range:?} of {flags:?}");
                assert!(missing.windows(2).all(|pair| pair[0].end < pair[1].start), "{missing:?} are not maximal");
                if rng.chance(0.6) {
                    touched.insert(range.clone());
                    flags[range].fill(true);
                }
                assert!(
                    touched.0.windows(2).all(|pair| pair[0].end < pair[1].start),
                    "{:?} have neighbours",
                    touched.0
                );
            }
        }
    }
}
