//! How every op is tested, on whatever device there is.
//!
//! A [`Check`] applies an op to data and measures how far the results are from the same function
//! written as plain f64 loops. It runs in a [`Lab`], which opens a device, and returns [`Row`]s
//! (what was compared, the error, what it may be) and the bits of all results. Nothing here is
//! for tests alone: `smash-engine selftest` runs the same checks on the user's own device that
//! `cargo test` runs on every instruction set and on the CUDA device of the tests.
//!
//! Most checks are a [`Case`]: one driver that also takes gradients. Each op lists its checks in
//! `ops/<op>/checks.rs`; `checks!` makes the list and one test for each entry.
//!
//! | file | what |
//! |---|---|
//! | `case.rs` | an op, its reference, and gradients by finite differences |
//! | `check.rs` | something that runs in any lab |
//! | `compare.rs` | errors and tolerances |
//! | `lab.rs` | a device, memory filled with NaN, guards around every allocation |
//! | `device.rs` | for tests: a GPU if there is one, otherwise the emulator |
//! | `harness.rs` | for tests: all instruction sets, numbers of threads, thread schedules |

mod case;
mod check;
mod compare;
#[cfg(all(test, target_os = "linux"))]
mod device;
#[cfg(test)]
pub mod harness;
mod lab;

pub use case::{Case, Input};
pub(crate) use check::checks;
pub use check::{Check, Measured};
pub use compare::{Precision, Row, tolerance};
#[cfg(test)]
pub use harness::{assert_close, poisoned_context};
pub use lab::{Lab, Variant};
