//! For tests: a GPU if there is one, otherwise the emulator. One of them there always is.
//!
//! With SMASH_TEST_EMULATOR set, it is the emulator in any case; with SMASH_REQUIRE_GPU never.

#[path = "../../tests/support/emulator.rs"]
#[allow(dead_code)] // other tests look at its counters
mod emulator;

use crate::backend::{Cuda, cuda};
use emulator::Emulator;

/// The CUDA device of the tests.
pub struct Device {
    pub cuda: Cuda,
    pub name: String,
    /// Under all of these a kernel gives the same bits.
    pub schedules: Vec<Schedule>,
}

/// How a run differs from another that must give the same bits.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// A GPU picks its threads as it likes; there it is just another run.
    Again,
    /// The emulator's order of threads and blocks.
    Emulated(emulator::Schedule),
}

impl Schedule {
    /// Makes it that of the kernels that this thread waits for.
    pub fn set(self) {
        if let Self::Emulated(schedule) = self {
            load().set_schedule(schedule);
        }
    }
}

fn load() -> &'static Emulator {
    Emulator::load().unwrap_or_else(|message| panic!("no CUDA device for the tests: {message}"))
}

/// Opens it.
///
/// # Panics
/// When there is none: a test that needs one has failed.
pub fn open() -> Device {
    let forced = std::env::var_os("SMASH_TEST_EMULATOR").is_some_and(|value| !value.is_empty());
    match cuda::probe(0) {
        Ok(_) if !forced => {}
        Err(error) if std::env::var_os("SMASH_REQUIRE_GPU").is_some() => panic!("{error}"),
        _ => drop(load()),
    }
    let cuda = Cuda::open(0).unwrap_or_else(|error| panic!("{error}; SMASH_TEST_EMULATOR=1 needs no GPU"));
    let name = cuda.info().name.clone();
    let schedules = match cuda.info().is_emulator() {
        true => emulator::Schedule::ALL.map(Schedule::Emulated).into(),
        false => vec![Schedule::Again; 2],
    };
    Device { cuda, name, schedules }
}
