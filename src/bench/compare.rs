//! Is B faster or slower than A, row by row?
//!
//! The samples of a run come from rounds that each take one sample of every row, so that whatever disturbs the
//! machine for a while disturbs all rows, in some of their samples. Before, between and after the rounds the limits
//! of the machine are measured. With that:
//!
//! 1. The *effect* is the ratio of the medians, B / A. It is computed three times: as measured, and after
//!    correcting for how much slower multiply-adds were in B than in A (in the middle of the run), and for how much
//!    slower the large copy was. Which of these limits a row feels is not known for sure, so the effect that counts
//!    is the one nearest to 1, and 1 where they point in both directions.
//! 2. The *noise* of a row is how far its median may be off, in parts of it: by how much it moves within a run, half
//!    the distance between the highest and the lowest median of up to three stretches of rounds; or, if that is
//!    more, what the scatter of the samples amounts to, half of the range from 20 % to 80 % over the root of their
//!    number. The larger one of both runs counts.
//! 3. SLOWER or FASTER is a row whose effect is beyond the minimum effect (5 % unless told otherwise), beyond the
//!    noise, and beyond the drift of the machine's limits, which corrects only what they have in common with the row;
//!    and whose samples have ranks that chance would give in one of 100 cases at most (Mann-Whitney, two-sided).
//! 4. UNCLEAR is any other row whose effect is beyond the minimum; or whose noise is more than twice the minimum, for
//!    then it could not have been seen; or of which either run has fewer than 5 samples, which no rank test can tell
//!    apart.
//! 5. SAME are all others.

use super::saved::{Content, Saved};
use super::stats::{median, rank_test, spread};
use super::table::{Cell, Table};
use serde::Serialize;

/// Effects smaller than this are not worth a verdict.
pub const MINIMUM: f64 = 0.05;
/// A difference of ranks that chance gives as seldom is one.
const CHANCE: f64 = 0.01;
/// With fewer samples on each side not even disjoint ones are that rare.
const FEWEST: usize = 5;
/// Stretches that a run is cut into, and the fewest samples of one: their median stands one outlier.
const STRETCHES: usize = 3;
const IN_A_STRETCH: usize = 3;

/// What can be said about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Same,
    Faster,
    Slower,
    Unclear,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Same => "SAME",
            Self::Faster => "FASTER",
            Self::Slower => "SLOWER",
            Self::Unclear => "UNCLEAR",
        }
    }
}

/// A row of both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    pub row: String,
    pub verdict: Verdict,
    /// Medians in milliseconds.
    pub a_ms: f64,
    pub b_ms: f64,
    /// Their ratio, and that nearest to 1 after corrections for the drift of the machine.
    pub ratio: f64,
    pub effect: f64,
    /// How far the medians move within a run, as a part of them.
    pub noise: f64,
    /// Probability of ranks so far apart by chance.
    pub chance: f64,
}

/// Two runs.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub rows: Vec<Compared>,
    /// Rows of one run only.
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// How many times slower the machine was in B: its multiply-adds, its copy.
    pub drift: Vec<f64>,
    pub minimum_effect: f64,
    /// What makes the comparison doubtful.
    pub warnings: Vec<String>,
}

/// Compares two runs.
pub fn compare(a: &Saved, b: &Saved, minimum: f64) -> Comparison {
    let drift = b.ceilings.drift_since(&a.ceilings);
    let (left, right) = (a.samples(), b.samples());
    let find = |rows: &[(String, &[f64])], name: &str| rows.iter().position(|(row, _)| row == name);
    let mut rows = Vec::new();
    for (name, before) in &left {
        if let Some(i) = find(&right, name) {
            rows.push(compare_row(name, before, right[i].1, &drift, minimum));
        }
    }
    let missing = |from: &[(String, &[f64])], rows: &[(String, &[f64])]| {
        from.iter().filter(|(name, _)| find(rows, name).is_none()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let (only_a, only_b) = (missing(&left, &right), missing(&right, &left));
    Comparison { rows, only_a, only_b, drift, minimum_effect: minimum, warnings: warnings(a, b) }
}

fn compare_row(name: &str, a: &[f64], b: &[f64], drift: &[f64], minimum: f64) -> Compared {
    let (a_ms, b_ms) = (median(a), median(b));
    let (ratio, chance) = (b_ms / a_ms, rank_test(a, b));
    let (effect, noise) = (nearest_to_one(ratio, drift), noise(a).max(noise(b)));
    let beyond = |limit: f64| effect.ln().abs() > limit.ln_1p();
    let beyond_drift = drift.iter().all(|drift| effect.ln().abs() > drift.ln().abs());
    let verdict = if a.len().min(b.len()) < FEWEST {
        Verdict::Unclear
    } else if beyond(minimum) && beyond(noise) && beyond_drift && chance <= CHANCE {
        if effect > 1.0 { Verdict::Slower } else { Verdict::Faster }
    } else if beyond(minimum) || noise > 2.0 * minimum {
        Verdict::Unclear
    } else {
        Verdict::Same
    };
    Compared { row: name.into(), verdict, a_ms, b_ms, ratio, effect, noise, chance }
}

/// The ratio nearest to 1 among that measured and those corrected; 1 when they lie on both sides of it.
fn nearest_to_one(ratio: f64, drift: &[f64]) -> f64 {
    let all: Vec<f64> = drift.iter().map(|drift| ratio / drift).chain([ratio]).collect();
    if all.iter().any(|&r| r >= 1.0) && all.iter().any(|&r| r <= 1.0) {
        return 1.0;
    }
    all.into_iter().min_by(|a, b| a.ln().abs().total_cmp(&b.ln().abs())).unwrap_or(ratio)
}

/// How far the median may be off, as a part of it.
fn noise(samples: &[f64]) -> f64 {
    let len = samples.len();
    let stretches = (len / IN_A_STRETCH).clamp(1, STRETCHES);
    let medians = (0..stretches).map(|i| median(&samples[i * len / stretches..(i + 1) * len / stretches]));
    let [lowest, highest] =
        medians.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], median| [low.min(median), high.max(median)]);
    let moves = (highest - lowest) / median(samples);
    0.5 * moves.max(spread(samples) / (len as f64).sqrt())
}

/// Is this a comparison of two programs, or of two machines?
fn warnings(a: &Saved, b: &Saved) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.machine != b.machine {
        let name = |saved: &Saved| {
            let processor = saved.machine.processor.as_deref().unwrap_or("unknown processor");
            format!("{processor}, {} cores, {}", saved.machine.cores, saved.machine.system)
        };
        warnings.push(format!("the machines differ: {} and {}", name(a), name(b)));
    }
    for key in ["device", "threads", "simd", "gpu", "tf32"] {
        let (left, right) = (&a.device[key], &b.device[key]);
        if left != right {
            warnings.push(format!("the devices differ: {key} {left} and {right}"));
        }
    }
    let settings = |saved: &Saved| match &saved.content {
        Content::Kernels(run) => run.settings(),
        Content::Step(run) => run.settings(),
    };
    let (left, right) = (settings(a), settings(b));
    if left != right {
        warnings.push(format!("the settings differ: {left} and {right}"));
    }
    warnings
}

impl Comparison {
    /// One line per row.
    pub fn table(&self) -> Table {
        let columns = vec!["verdict", "effect %", "B/A", "A ms", "B ms", "noise %", "chance", "row"];
        let row = |r: &Compared| {
            vec![
                Cell::from(r.verdict.name()),
                Cell::Number(100.0 * (r.effect - 1.0), 1),
                Cell::Number(r.ratio, 3),
                Cell::Number(r.a_ms, 4),
                Cell::Number(r.b_ms, 4),
                Cell::Number(100.0 * r.noise, 1),
                Cell::Number(r.chance, 4),
                Cell::from(r.row.as_str()),
            ]
        };
        Table { columns, rows: self.rows.iter().map(row).collect() }
    }

    /// How many of each verdict, and what else there is to know.
    pub fn summary(&self) -> String {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let verdicts = [Verdict::Same, Verdict::Faster, Verdict::Slower, Verdict::Unclear];
        let counts: Vec<String> = verdicts.iter().map(|&v| format!("{} {}", count(v), v.name())).collect();
        let mut text = format!("{}, beyond {} %\n", counts.join(", "), 100.0 * self.minimum_effect);
        for (drift, limit) in self.drift.iter().zip(["multiply-adds", "copies"]) {
            text += &format!("in B, {limit} of the machine took {:.3} times as long as in A\n", drift);
        }
        for (rows, run) in [(&self.only_a, "A"), (&self.only_b, "B")] {
            if !rows.is_empty() {
                text += &format!("only in {run}: {}\n", rows.join("; "));
            }
        }
        text
    }

    /// Rows that are slower by more than a part.
    pub fn slower_by(&self, part: f64) -> Vec<&Compared> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Slower && row.effect > 1.0 + part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    /// Samples around `ms` with a spread of one part in fifty.
    fn samples(ms: f64, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, Stream::Init);
        (0..11).map(|_| ms * (1.0 + 0.02 * rng.uniform())).collect()
    }

    fn verdict(a: &[f64], b: &[f64], drift: &[f64]) -> Verdict {
        compare_row("row", a, b, drift, MINIMUM).verdict
    }

    #[test]
    fn effects_are_told_from_none() {
        let (a, b) = (samples(10.0, 1), samples(10.0, 2));
        assert_eq!(verdict(&a, &a, &[1.0]), Verdict::Same);
        assert_eq!(verdict(&a, &b, &[1.0]), Verdict::Same);
        assert_eq!(verdict(&a, &samples(10.3, 3), &[1.0]), Verdict::Same, "real, but below the minimum");
        assert_eq!(verdict(&a, &samples(11.0, 4), &[1.0]), Verdict::Slower);
        assert_eq!(verdict(&samples(11.0, 4), &a, &[1.0]), Verdict::Faster);
    }

    #[test]
    fn a_machine_that_was_slower_excuses_a_row_by_as_much() {
        let (a, b) = (samples(10.0, 1), samples(12.0, 2));
        assert_eq!(verdict(&a, &b, &[1.2]), Verdict::Same);
        assert_eq!(verdict(&a, &b, &[1.0, 1.2]), Verdict::Same, "only its copies were");
        assert_eq!(verdict(&a, &b, &[1.05]), Verdict::Slower);
        assert_eq!(verdict(&a, &b, &[1.1]), Verdict::Unclear, "after a change as large as what is left");
        assert_eq!(verdict(&a, &a, &[1.2]), Verdict::Same, "nor does a slower machine make a row faster");
        assert_eq!(nearest_to_one(1.2, &[1.1, 0.9]), 1.2 / 1.1);
        assert_eq!(nearest_to_one(0.8, &[0.9]), 0.8 / 0.9);
        assert_eq!(nearest_to_one(1.1, &[1.2]), 1.0);
    }

    #[test]
    fn what_noise_does_not_allow_to_tell_is_unclear() {
        let quiet = samples(10.0, 1);
        let mut stepped = samples(10.0, 2);
        stepped[4..].iter_mut().for_each(|ms| *ms *= 1.4);
        assert_eq!(verdict(&quiet, &stepped, &[1.0]), Verdict::Unclear, "40 %, but within the run");
        assert_eq!(verdict(&stepped, &stepped, &[1.0]), Verdict::Unclear);
        let mut rising = samples(11.0, 4);
        rising[7..].iter_mut().for_each(|ms| *ms *= 2.0);
        assert!(compare_row("row", &quiet, &rising, &[], MINIMUM).chance < CHANCE);
        assert_eq!(verdict(&quiet, &rising, &[]), Verdict::Unclear, "10 %, but the last rounds took twice as long");
        let slow = |seed| samples(20.0, seed);
        assert_eq!(verdict(&quiet[..4], &slow(3)[..4], &[]), Verdict::Unclear, "too few samples");
        let mut outlier = samples(10.0, 3);
        outlier[10] *= 30.0;
        assert_eq!(verdict(&quiet, &outlier, &[1.0]), Verdict::Same, "one sample says nothing");
        let scattered: Vec<f64> = (0..11).map(|i| if i % 2 == 0 { 9.0 } else { 12.0 }).collect();
        assert_eq!(verdict(&quiet, &scattered, &[1.0]), Verdict::Unclear, "its ranks say nothing");
    }
}
