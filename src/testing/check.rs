//! Something that runs in any lab and measures an op.

use super::compare::{Precision, Row};
use super::lab::Lab;
use crate::error::Result;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// All comparisons.
    pub rows: Vec<Row>,
    /// The bits of all results: equal in every run on the same device.
    pub bits: Vec<u32>,
    /// Products of the kernels that ran.
    precision: Precision,
}

impl Measured {
    /// Products of the kernels that run.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Adds results that are not compared but must be the same in every run.
    pub fn keep(&mut self, got: &[f32]) {
        self.bits.extend(got.iter().map(|x| x.to_bits()));
    }

    /// Adds a comparison; see [`Row::close`].
    pub fn close(&mut self, what: impl Into<String>, got: &[f32], expected: &[f64], depth: usize) {
        self.keep(got);
        self.rows.push(Row::close(what, got, expected, self.precision, depth));
    }

    /// Adds a comparison of some elements of `got`, (index, value) pairs, all of which are results.
    pub fn samples(&mut self, what: impl Into<String>, got: &[f32], expected: &[(usize, f64)], depth: usize) {
        self.keep(got);
        let chosen: Vec<f32> = expected.iter().filter_map(|&(at, _)| got.get(at).copied()).collect();
        let expected: Vec<f64> = expected.iter().map(|&(_, value)| value).collect();
        self.rows.push(Row::close(what, &chosen, &expected, self.precision, depth));
    }

    /// Adds a comparison within a tolerance of its own.
    pub fn within(&mut self, what: impl Into<String>, got: &[f32], expected: &[f64], tolerance: f64) {
        self.keep(got);
        self.rows.push(Row::within(what, got, expected, tolerance));
    }

    /// Adds a comparison to the bit; see [`Row::exact`].
    pub fn exact(&mut self, what: impl Into<String>, got: &[f32], expected: &[f32]) {
        self.keep(got);
        self.rows.push(Row::exact(what, got, expected));
    }

    /// Adds something that is so or not.
    pub fn holds(&mut self, what: impl Into<String>, so: bool) {
        self.rows.push(Row::holds(what, so));
    }

    /// The row nearest to its tolerance or furthest beyond it.
    pub fn worst(&self) -> Option<&Row> {
        self.rows.iter().max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

/// What a check does: uses a lab, and measures.
type Body = dyn Fn(&Lab, &mut Measured) -> Result<()>;

/// A named measurement of an op.
pub struct Check {
    /// The op's folder.
    pub op: &'static str,
    /// What is special about it.
    pub name: String,
    body: Box<Body>,
}

impl Check {
    /// A check that has no name yet; `checks!` gives it one.
    pub fn new(body: impl Fn(&Lab, &mut Measured) -> Result<()> + 'static) -> Self {
        Self { op: "", name: String::new(), body: Box::new(body) }
    }

    /// Checks of one kind, named after it; several are numbered.
    pub fn named<T: Into<Self>>(op: &'static str, kind: &str, checks: Vec<T>) -> Vec<Self> {
        let (kind, count) = (kind.replace('_', " "), checks.len());
        let name = |i: usize| if count == 1 { kind.clone() } else { format!("{kind} ({} of {count})", i + 1) };
        let checks = checks.into_iter().map(Into::into).enumerate();
        checks.map(|(i, check): (usize, Self)| Self { op, name: name(i), ..check }).collect()
    }

    /// Measures in `lab`. Deviations are rows of the result.
    ///
    /// # Errors
    /// Whatever the op or the device reports.
    pub fn run(&self, lab: &Lab) -> Result<Measured> {
        let mut measured = Measured { precision: lab.variant().precision(), ..Measured::default() };
        (self.body)(lab, &mut measured)?;
        Ok(measured)
    }
}

/// Lists the checks of an op: `checks!(OP, name, ...)`, where each name is a function that returns
/// a `Vec` of checks or cases. Makes `pub fn checks()` and, for each name, a test on the CPU and one
/// on the CUDA device of the tests.
macro_rules! checks {
    ($op:ident, $($name:ident),+ $(,)?) => {
        /// All checks of this op.
        pub fn checks() -> Vec<$crate::testing::Check> {
            let mut all = Vec::new();
            $(all.extend($crate::testing::Check::named($op, stringify!($name), $name()));)+
            all
        }

        #[cfg(test)]
        mod on_the_cpu {
            use $crate::testing::{Check, harness};
            $(#[test]
            fn $name() {
                harness::on_the_cpu(&Check::named(super::$op, stringify!($name), super::$name()));
            })+
        }

        #[cfg(all(test, target_os = "linux"))] // where the emulator builds
        mod on_cuda {
            use $crate::testing::{Check, harness};
            $(#[test]
            fn $name() {
                harness::on_cuda(&Check::named(super::$op, stringify!($name), super::$name()));
            })+
        }
    };
}
pub(crate) use checks;
