//! The CPU: threads, SIMD and the micro-kernels everything heavy runs on.
//!
//! | file | what |
//! |---|---|
//! | `pool.rs` | a fixed set of threads that work through numbered tasks |
//! | `scratch.rs` | a thread's own memory for what a kernel packs |
//! | `simd.rs` | one vector type per instruction set, chosen at run time |
//! | `dispatch.rs` | from a generic micro-kernel to a function per instruction set |
//! | `filter.rs` | windows of filters, packed for the kernels |
//! | `correlate.rs` | y += w * x, the forward pass and the data gradient of every convolution |
//! | `planes.rs` | the planes it reads, and packed copies of what a task needs |
//! | `tile.rs` | its micro-kernel |
//! | `filter_gradient.rs` | gw += gy * x, the weight gradient of every convolution |
//! | `columns.rs`, `dots.rs` | its two ways to sum: channels in the lanes, or positions |
//! | `elementwise.rs` | single passes over memory: maps, updates, sums |
//! | `ceiling.rs` | what this machine can do at most: multiply-adds and copies per second |

#![allow(clippy::needless_range_loop)] // register tiles are indexed, several with one variable

pub mod ceiling;
mod columns;
mod correlate;
mod dispatch;
mod dots;
mod elementwise;
mod filter;
mod filter_gradient;
mod planes;
mod pool;
mod scratch;
mod simd;
mod tile;

pub use correlate::{Correlation, OutChannel, correlate};
pub use elementwise::{PIECE, map, map_row, sum_row, sum_two_row, update};
pub use filter::{Direction, Filter, PackedFilter};
pub use filter_gradient::{FilterGradient, filter_gradient, filter_gradient_workspace};
pub use planes::Planes;
pub use pool::{Pool, SharedSlice};
pub use simd::Isa;

/// A CPU as a device: its threads and its instruction set.
#[derive(Debug)]
pub struct Cpu {
    /// The threads.
    pub pool: Pool,
    /// The instruction set of the kernels; private, because the kernels rely on its presence.
    isa: Isa,
}

impl Cpu {
    /// `threads` threads (at least one) with the best instruction set of this machine.
    pub fn new(threads: usize) -> Self {
        Self { pool: Pool::new(threads), isa: Isa::detect() }
    }

    /// The same on the instruction set `isa`.
    ///
    /// # Panics
    /// When this machine does not have it ([`Isa::available`]).
    pub fn with_isa(threads: usize, isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this machine has no {}", isa.name());
        Self { pool: Pool::new(threads), isa }
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
