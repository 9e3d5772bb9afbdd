//! Errors and tolerances.

use approx::abs_diff_eq;

/// How exact the products of a kernel are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Operands as they are.
    #[default]
    F32,
    /// Operands rounded to a mantissa of 10 bits, as the tensor cores of a GPU do.
    Tf32,
}

/// The tolerance of a sum of `depth` products whose result is of magnitude `scale`.
///
/// Rounding errors of f32 sums add up like a random walk, each eps / 2 of a partial sum; 16 covers
/// the spread over many elements. TF32 adds 2^-11 of each *product*, in random directions: that
/// sums up as the products themselves do, to 2^-11 of the result's magnitude; 8 covers its spread.
pub fn tolerance(precision: Precision, depth: usize, scale: f64) -> f64 {
    let scale = scale.max(1e-3);
    let sums = 16.0 * f64::from(f32::EPSILON) * (depth as f64).sqrt() * scale;
    match precision {
        Precision::F32 => sums,
        Precision::Tf32 => sums + 8.0 * 2f64.powi(-11) * scale,
    }
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was compared.
    pub what: String,
    /// The largest deviation of an element; infinite when there is nothing to compare.
    pub error: f64,
    /// What it may be.
    pub tolerance: f64,
}

impl Row {
    /// Compares within [`tolerance`], `scale` being the largest expected magnitude. A number alone,
    /// a sum over everything, may have cancelled: its scale is at least that of its terms, 1, or of
    /// a sum of as many, where each term has an error of its own.
    pub fn close(what: impl Into<String>, got: &[f32], expected: &[f64], precision: Precision, depth: usize) -> Self {
        let terms = match (expected.len(), precision) {
            (1, Precision::F32) => 1.0,
            (1, Precision::Tf32) => (depth as f64).sqrt(),
            _ => 0.0,
        };
        let scale = expected.iter().fold(terms, |m: f64, x| m.max(x.abs()));
        Self::within(what, got, expected, tolerance(precision, depth, scale))
    }

    /// Compares within a tolerance of its own.
    pub fn within(what: impl Into<String>, got: &[f32], expected: &[f64], tolerance: f64) -> Self {
        let errors = got.iter().zip(expected).map(|(&got, expected)| (f64::from(got) - expected).abs());
        let error = if got.len() == expected.len() { errors.fold(0.0, worse) } else { f64::INFINITY };
        Self { what: what.into(), error, tolerance }
    }

    /// Nothing but the very numbers will do: the error counts those that differ.
    pub fn exact(what: impl Into<String>, got: &[f32], expected: &[f32]) -> Self {
        // By value, so that -0 is 0; a NaN differs from everything.
        let different = got.iter().zip(expected).filter(|(got, expected)| got != expected).count();
        let error = if got.len() == expected.len() { different as f64 } else { f64::INFINITY };
        Self { what: what.into(), error, tolerance: 0.0 }
    }

    /// Something that is so or not.
    pub fn holds(what: impl Into<String>, so: bool) -> Self {
        Self { what: what.into(), error: if so { 0.0 } else { f64::INFINITY }, tolerance: 0.0 }
    }

    /// Is the error within the tolerance? One that is no finite number never is.
    pub fn ok(&self) -> bool {
        self.error.is_finite() && abs_diff_eq!(self.error, 0.0, epsilon = self.tolerance)
    }

    /// The error as a part of the tolerance.
    pub fn share(&self) -> f64 {
        match self.ok() {
            true if self.tolerance == 0.0 => 0.0,
            false if self.tolerance == 0.0 || !self.error.is_finite() => f64::INFINITY,
            _ => self.error / self.tolerance,
        }
    }
}

/// The larger error, a NaN being larger than any.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fails_on_what_is_off_missing_or_no_number() {
        let close = |got: &[f32]| Row::close("x", got, &[1.0, 2.0], Precision::F32, 1);
        assert!(close(&[1.0, 2.0]).ok() && close(&[1.0, 2.000_001]).ok());
        for wrong in [&[1.0, 2.0001][..], &[1.0], &[1.0, 2.0, 3.0], &[f32::NAN, 2.0], &[1.0, f32::NAN]] {
            assert!(!close(wrong).ok(), "{wrong:?}");
            assert!(close(wrong).share() > 1.0, "{wrong:?}");
        }
        let endless = Row::close("x", &[0.0, 2.0], &[f64::INFINITY, 2.0], Precision::F32, 1);
        assert!(!endless.ok() && endless.share() > 1.0, "a tolerance without end");
        assert!(Row::close("x", &[1.0, 2.002], &[1.0, 2.0], Precision::Tf32, 1).ok());
        assert!(!Row::close("x", &[1.0, 2.02], &[1.0, 2.0], Precision::Tf32, 1).ok());
    }

    #[test]
    fn exact_rows_allow_nothing() {
        assert_eq!(Row::exact("x", &[1.0, -0.0], &[1.0, 0.0]).share(), 0.0);
        for wrong in [&[1.0, f32::MIN_POSITIVE][..], &[1.0], &[1.0, f32::NAN]] {
            assert!(!Row::exact("x", wrong, &[1.0, 0.0]).ok(), "{wrong:?}");
        }
        assert!(Row::holds("x", true).ok() && !Row::holds("x", false).ok());
    }
}
