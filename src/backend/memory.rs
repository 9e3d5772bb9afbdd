//! Memory regions, and the one place where a span becomes a slice.
//!
//! A region is one page-aligned buffer of f32. Kernels need several slices of it at
//! once, some of them mutable; [`Claims`] hands them out and checks that no mutable slice
//! overlaps any other, so that the aliasing rules of Rust hold whatever an op asks for.

use crate::error::{Error, Result};
use memmap2::MmapMut;
use std::cell::RefCell;
use std::marker::PhantomData;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// Everything that lives for one step: activations, their gradients, workspaces.
    Step = 0,
    /// Learned parameters.
    Params = 1,
    /// Gradients of the parameters, at the same offsets.
    Grads = 2,
    /// First moments (Adam) or velocities (SGD), at the same offsets.
    Moment1 = 3,
    /// Second moments (Adam), at the same offsets.
    Moment2 = 4,
    /// Running statistics of batch normalisation.
    State = 5,
}

const REGIONS: usize = 6;
const ALL: [Region; REGIONS] =
    [Region::Step, Region::Params, Region::Grads, Region::Moment1, Region::Moment2, Region::State];

impl Region {
    /// The first `len` elements.
    pub fn span(self, len: usize) -> Span {
        Span { region: self, start: 0, len }
    }
}

/// A range of a region, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The buffer.
    pub region: Region,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl Span {
    /// `len` elements from `offset` of this span.
    pub fn sub(self, offset: usize, len: usize) -> Self {
        assert!(offset + len <= self.len, "sub-span {offset}+{len} of {self:?}");
        Self { start: self.start + offset, len, ..self }
    }

    /// The same range of another region.
    pub fn in_region(self, region: Region) -> Self {
        Self { region, ..self }
    }

    fn overlaps(self, other: Self) -> bool {
        self.region == other.region && self.start < other.start + other.len && other.start < self.start + self.len
    }
}

/// All regions of a device. A region is an anonymous mapping: aligned to pages, zeroed, and
/// resident only where it was touched.
#[derive(Debug, Default)]
pub struct Memory {
    regions: [Option<MmapMut>; REGIONS],
}

impl Memory {
    /// Replaces a region by `len` zeros.
    ///
    /// # Errors
    /// [`Error::Run`] when the system has no such amount of address space left.
    pub fn resize(&mut self, region: Region, len: usize) -> Result<()> {
        let bytes = len * size_of::<f32>();
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|e| {
            Error::Run(format!(
                "cannot reserve {} MiB of memory ({e}); take smaller batches (--batch, --retrain-batch) or networks",
                bytes >> 20
            ))
        })?;
        // Kernels stride from channel to channel, each a page of its own: with 4 KiB pages they
        // wait for address translation. Where huge pages are refused it is only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        self.regions[region as usize] = Some(map);
        Ok(())
    }

    /// A whole region (empty before [`Memory::resize`]).
    pub fn region(&self, region: Region) -> &[f32] {
        self.regions[region as usize].as_ref().map_or(&[], |map| whole_f32(map))
    }

    /// A whole region, to write.
    pub fn region_mut(&mut self, region: Region) -> &mut [f32] {
        match &mut self.regions[region as usize] {
            Some(map) => {
                let len = map.len() / size_of::<f32>() * size_of::<f32>();
                bytemuck::cast_slice_mut(&mut map[..len])
            }
            None => &mut [],
        }
    }

    /// The elements of `span`.
    pub fn slice(&self, span: Span) -> &[f32] {
        &self.region(span.region)[span.start..][..span.len]
    }

    /// The elements of `span`, to write.
    pub fn slice_mut(&mut self, span: Span) -> &mut [f32] {
        &mut self.region_mut(span.region)[span.start..][..span.len]
    }

    /// Opens the memory for one kernel.
    pub fn claim(&mut self) -> Claims<'_> {
        let bases = ALL.map(|region| {
            let data = self.region_mut(region);
            (data.as_mut_ptr(), data.len())
        });
        Claims { bases, taken: RefCell::new(Vec::with_capacity(16)), memory: PhantomData }
    }
}

fn whole_f32(map: &MmapMut) -> &[f32] {
    bytemuck::cast_slice(&map[..map.len() / size_of::<f32>() * size_of::<f32>()])
}

/// Slices of the memory for one kernel; see the module documentation.
pub struct Claims<'m> {
    bases: [(*mut f32, usize); REGIONS],
    /// Spans handed out so far; true = mutable.
    taken: RefCell<Vec<(Span, bool)>>,
    memory: PhantomData<&'m mut Memory>,
}

impl Claims<'_> {
    fn base(&self, span: Span) -> *mut f32 {
        let (base, len) = self.bases[span.region as usize];
        // Without a sum: it could wrap around.
        assert!(span.len <= len && span.start <= len - span.len, "{span:?} lies outside its region of {len}");
        // SAFETY: start <= len of the buffer, checked above.
        unsafe { base.add(span.start) }
    }

    /// The elements of `span`.
    ///
    /// # Panics
    /// When part of it was claimed for writing: an error in an op, not in its input.
    pub fn read(&self, span: Span) -> &[f32] {
        let mut taken = self.taken.borrow_mut();
        assert!(taken.iter().all(|&(s, write)| !write || !s.overlaps(span)), "read of {span:?} while written");
        taken.push((span, false));
        // SAFETY: in bounds (see `base`); no mutable slice overlaps it, checked above and by
        // every later `write`; `self` borrows the memory mutably, so nothing else refers to it.
        unsafe { std::slice::from_raw_parts(self.base(span), span.len) }
    }

    /// The elements of `span`, to write.
    ///
    /// # Panics
    /// When part of it was claimed before: an error in an op, not in its input.
    #[allow(clippy::mut_from_ref)] // exclusive by the check below, not by the borrow of `self`
    pub fn write(&self, span: Span) -> &mut [f32] {
        let mut taken = self.taken.borrow_mut();
        assert!(taken.iter().all(|&(s, _)| !s.overlaps(span)), "write of {span:?} while in use");
        taken.push((span, true));
        // SAFETY: in bounds (see `base`); it overlaps no slice handed out before (checked above)
        // or after (checked there); the memory is borrowed mutably by `self`.
        unsafe { std::slice::from_raw_parts_mut(self.base(span), span.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, len: usize) -> Span {
        Span { region: Region::Step, start, len }
    }

    #[test]
    fn disjoint_claims_coexist() {
        let mut memory = Memory::default();
        memory.resize(Region::Step, 32).unwrap();
        let claims = memory.claim();
        let (a, b) = (claims.write(span(0, 4)), claims.write(span(4, 4)));
        a.fill(1.0);
        b.copy_from_slice(a);
        assert_eq!(claims.read(span(16, 2)), [0.0, 0.0]);
        drop(claims);
        assert_eq!(memory.slice(span(2, 4)), [1.0; 4]);
    }

    #[test]
    #[should_panic(expected = "outside its region")]
    fn a_span_whose_end_wraps_around_is_refused() {
        let mut memory = Memory::default();
        memory.resize(Region::Step, 32).unwrap();
        memory.claim().read(span(usize::MAX, 2));
    }

    #[test]
    #[should_panic(expected = "while in use")]
    fn a_second_writer_is_refused() {
        let mut memory = Memory::default();
        memory.resize(Region::Step, 32).unwrap();
        let claims = memory.claim();
        claims.write(span(0, 4));
        claims.write(span(3, 4));
    }

    #[test]
    #[should_panic(expected = "while written")]
    fn reading_what_is_written_is_refused() {
        let mut memory = Memory::default();
        memory.resize(Region::Step, 32).unwrap();
        let claims = memory.claim();
        claims.write(span(0, 4));
        claims.read(span(3, 1));
    }
}
