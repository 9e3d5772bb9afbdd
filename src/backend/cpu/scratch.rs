//! A thread's own memory for what a kernel packs: it grows to the largest need and stays.

use std::cell::RefCell;

/// A cache line; the buffer starts at one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: 16 f32 without padding, for which all bytes zero are a value.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, and any bits are a value.
unsafe impl bytemuck::Pod for Line {}

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` f32 of this thread's memory, aligned to a cache line; what they hold is
/// left from earlier calls.
///
/// # Panics
/// When `work` asks for scratch memory itself.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|lines| {
        let needed = len.div_ceil(16);
        if lines.len() < needed {
            lines.resize(needed, Line([0.0; 16]));
        }
        work(&mut bytemuck::cast_slice_mut(lines)[..len])
    })
}
