//! The step arena: addresses for everything that lives no longer than one training step.
//!
//! Hands out ranges of one big buffer, lowest address first, and takes them back in any
//! order; neighbouring free ranges merge. Because the addresses depend only on the order of
//! calls, a dry run of a step finds exactly the high-water mark of the real one. At the end
//! of a step everything is forgotten at once. Lengths are in f32, rounded up to 64 bytes.
//!
//! A *guarded* arena, for checks of kernels, hands out no address twice and leaves gaps that
//! nobody may touch: what a kernel writes beside its operands stays visible there.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// Alignment of every allocation in f32: one cache line and one AVX-512 register.
const ALIGN: usize = 16;
/// f32 between two allocations of a guarded arena.
const GAP: usize = 64;

/// See the module documentation.
#[derive(Debug)]
pub struct Arena {
    capacity: usize,
    /// Free ranges below `top`, start -> length.
    free: BTreeMap<usize, usize>,
    /// First address never used in this step.
    top: usize,
    high_water: usize,
    /// Everything a guarded arena ever handed out, in ascending order.
    guarded: Option<Vec<Range<usize>>>,
}

impl Arena {
    /// An arena of `capacity` f32.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, free: BTreeMap::new(), top: 0, high_water: 0, guarded: None }
    }

    /// A guarded arena of `capacity` f32, gaps included.
    pub fn guarded(capacity: usize) -> Self {
        Self { guarded: Some(Vec::new()), ..Self::with_capacity(capacity) }
    }

    /// f32 it may hand out.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The start of `len` free elements.
    ///
    /// # Errors
    /// [`Error::Run`] when the arena is full: the plan of the run did not foresee this step.
    pub fn alloc(&mut self, len: usize) -> Result<usize> {
        if self.guarded.is_some() {
            return self.alloc_guarded(len);
        }
        let len = len.next_multiple_of(ALIGN);
        if let Some((&start, &room)) = self.free.iter().find(|&(_, &room)| room >= len) {
            self.free.remove(&start);
            if room > len {
                self.free.insert(start + len, room - len);
            }
            return Ok(start);
        }
        // The last free range may touch the top: grow it instead of leaving a hole.
        let start = match self.free.last_key_value() {
            Some((&start, &room)) if start + room == self.top => {
                self.free.remove(&start);
                start
            }
            _ => self.top,
        };
        if len > self.capacity - start {
            return Err(self.full());
        }
        self.top = start + len;
        self.high_water = self.high_water.max(self.top);
        Ok(start)
    }

    fn full(&self) -> Error {
        let mib = (self.capacity * size_of::<f32>()) >> 20;
        Error::Run(format!("the step needs more than the {mib} MiB of memory planned for it"))
    }

    fn alloc_guarded(&mut self, len: usize) -> Result<usize> {
        let start = self.top + GAP;
        let top = start + len.next_multiple_of(ALIGN);
        if top + GAP > self.capacity {
            return Err(self.full());
        }
        (self.top, self.high_water) = (top, top + GAP);
        if let Some(taken) = &mut self.guarded {
            taken.push(start..start + len);
        }
        Ok(start)
    }

    /// What a guarded arena never handed out; nothing of another.
    pub fn gaps(&self) -> Vec<Range<usize>> {
        let Some(taken) = &self.guarded else { return Vec::new() };
        let starts = [0].into_iter().chain(taken.iter().map(|range| range.end));
        let ends = taken.iter().map(|range| range.start).chain([self.capacity]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Takes back what `alloc(len)` handed out at `start`.
    pub fn free(&mut self, start: usize, len: usize) {
        let (mut start, mut len) = (start, len.next_multiple_of(ALIGN));
        if len == 0 || self.guarded.is_some() {
            return;
        }
        if let Some((&before, &room)) = self.free.range(..start).next_back()
            && before + room == start
        {
            self.free.remove(&before);
            (start, len) = (before, room + len);
        }
        if let Some(room) = self.free.remove(&(start + len)) {
            len += room;
        }
        self.free.insert(start, len);
    }

    /// Forgets every allocation; the high-water mark stays. A guarded arena goes on behind them.
    pub fn reset(&mut self) {
        if self.guarded.is_some() {
            return;
        }
        self.free.clear();
        self.top = 0;
    }

    /// f32 in use now.
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.top - self.free.values().sum::<usize>()
    }

    /// Most f32 ever in use at once, holes included.
    pub fn high_water(&self) -> usize {
        self.high_water
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_neighbours_merge_and_are_used_again() {
        let mut arena = Arena::with_capacity(160);
        let starts: Vec<usize> = (0..5).map(|_| arena.alloc(20).unwrap()).collect();
        assert_eq!(starts, [0, 32, 64, 96, 128]);
        arena.free(32, 20);
        arena.free(96, 20);
        arena.free(64, 20);
        assert_eq!(arena.alloc(96).unwrap(), 32, "three neighbours form one hole");
        assert!(arena.alloc(1).is_err(), "full");
        arena.free(128, 20);
        assert_eq!(arena.alloc(32).unwrap(), 128);
        assert_eq!(arena.high_water(), 160);
    }

    #[test]
    fn a_hole_at_the_top_grows() {
        let mut arena = Arena::with_capacity(160);
        arena.alloc(32).unwrap();
        let last = arena.alloc(32).unwrap();
        arena.free(last, 32);
        assert_eq!(arena.alloc(128).unwrap(), last, "the hole and what lies above it");
        assert_eq!(arena.high_water(), 160);
    }

    #[test]
    fn live_ranges_never_overlap() {
        let mut rng = crate::rng::Rng::new(5, crate::rng::Stream::Search);
        let mut arena = Arena::with_capacity(usize::MAX);
        let mut live: Vec<(usize, usize)> = Vec::new();
        for _ in 0..3000 {
            if live.len() > 20 || (!live.is_empty() && rng.chance(0.45)) {
                let (start, len) = live.swap_remove(rng.below(live.len()));
                arena.free(start, len);
            } else {
                let len = 1 + rng.below(500);
                let start = arena.alloc(len).unwrap();
                assert!(live.iter().all(|&(s, l)| start >= s + l || s >= start + len), "overlap at {start}");
                live.push((start, len));
            }
        }
    }

    #[test]
    fn a_guarded_arena_never_reuses_and_knows_its_gaps() {
        let mut arena = Arena::guarded(400);
        let first = arena.alloc(5).unwrap();
        arena.free(first, 5);
        arena.reset();
        assert_eq!([first, arena.alloc(32).unwrap()], [64, 144]);
        assert_eq!(arena.gaps(), [0..64, 69..144, 176..400]);
        assert_eq!(arena.high_water(), 240);
        assert!(arena.alloc(97).is_err(), "the gap behind it would be missing");
        assert_eq!(arena.alloc(96).unwrap(), 240);
    }
}
