//! For tests: runs checks on every instruction set of this machine, with several numbers of threads,
//! and on the CUDA device of the tests under several schedules.

use super::check::{Check, Measured};
use super::compare::{Precision, Row};
use super::lab::Lab;
#[cfg(target_os = "linux")]
use super::{device, lab::Variant};
use crate::backend::cpu::Isa;
use crate::backend::{Context, Cpu, Region};

/// A CPU context of `len` f32, filled with NaN.
pub fn poisoned_context(isa: Isa, threads: usize, len: usize) -> Context {
    let mut context = Context::cpu(Cpu::with_isa(threads, isa), len).expect("memory for a test");
    context.fill(context.whole(Region::Step), f32::NAN).expect("a CPU has no faults");
    context
}

/// Fails the test unless a comparison is within its tolerance; see [`Row::close`].
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], depth: usize) {
    assert_row(what, &Row::close("", got, expected, Precision::F32, depth));
}

#[track_caller]
fn assert_row(place: &str, row: &Row) {
    let Row { what, error, tolerance } = row;
    assert!(
        row.ok(),
        "{place} {what}: error {error:.2e} is {:.0} % of the tolerance {tolerance:.2e}",
        100.0 * row.share()
    );
}

/// Measures, and demands that all is within tolerance.
#[track_caller]
fn measure(check: &Check, lab: &Lab, place: &str) -> Measured {
    let place = format!("{}: {} on {place}, kernel {}:", check.op, check.name, lab.variant().name());
    let measured = check.run(lab).unwrap_or_else(|error| panic!("{place} {error}"));
    assert!(!measured.rows.is_empty() && !measured.bits.is_empty(), "{place} nothing was compared");
    measured.rows.iter().for_each(|row| assert_row(&place, row));
    measured
}

/// Every instruction set; 1, 2 and 3 threads give the same bits, and so does memory with guards.
#[track_caller]
pub fn on_the_cpu(checks: &[Check]) {
    for isa in Isa::available() {
        let labs = [1, 2, 3].map(|threads| {
            let mut lab = Lab::new(Context::cpu(Cpu::with_isa(threads, isa), 0).expect("no memory yet"));
            lab.guard(threads == 3);
            (lab, format!("{isa:?} with {threads} threads"))
        });
        for check in checks {
            let [one, others @ ..] = &labs;
            let expected = measure(check, &one.0, &one.1);
            for (lab, place) in others {
                let same = measure(check, lab, place).bits == expected.bits;
                assert!(same, "{}: {} on {place} gives other bits than 1 thread", check.op, check.name);
            }
        }
    }
}

/// Every variant of the op's kernels; the same bits under all schedules of the emulator, or in two
/// runs on a GPU, with and without guards around what kernels write.
#[cfg(target_os = "linux")]
#[track_caller]
pub fn on_cuda(checks: &[Check]) {
    let device = device::open();
    let mut lab = Lab::new(Context::cuda(device.cuda, 0).expect("a little memory"));
    for check in checks {
        for &variant in Variant::all(check.op, lab.kind()) {
            lab.choose(variant);
            let mut expected: Option<Vec<u32>> = None;
            for (i, schedule) in device.schedules.iter().enumerate() {
                schedule.set();
                lab.guard(i != 1);
                let bits = measure(check, &lab, &format!("{} {schedule:?}", device.name)).bits;
                let same = expected.get_or_insert_with(|| bits.clone()) == &bits;
                assert!(same, "{}: {} gives other bits on {} {schedule:?}", check.op, check.name, device.name);
            }
        }
    }
}
