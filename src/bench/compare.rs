//! Is B faster or slower than A, row by row?
//!
//! The samples of a run come from rounds that each take one sample of every row, so that whatever disturbs the
//! machine for a while disturbs all rows, in some of their samples. Before, between and after the rounds the limits
//! of the machine are measured. With that:
//!
//! 1. The *ratio* is that of the medians, B / A. The *effect* is the ratio, or the ratio after correcting for how much
//!    slower the machine was in B (in the middle of the run) by the limit that binds the row: multiply-adds for rows
//!    bound by computing and for training steps, the large copy for rows bound by memory, none for rows that wait for
//!    the program. Of the two the one nearer to 1 counts, and 1 where they point in both directions.
//! 2. The *noise* of a row is how far its median may be off, in parts of it: by how much it moves within a run, half
//!    the distance between the highest and the lowest median of up to three stretches of rounds; or, if that is
//!    more, what the scatter of the samples amounts to, half of the range from 20 % to 80 % over the root of their
//!    number. The larger one of both runs counts, up to 25 % as what it may take away, -ln(1 - noise), beyond as what
//!    it may add, ln(1 + noise), in either direction.
//! 3. The *minimum* is the smallest effect worth a verdict: 5 % unless told otherwise, but 15 % for rows of less than
//!    20 us, which the place of their operands in memory makes that much faster or slower.
//! 4. SLOWER or FASTER is a row whose effect is beyond the minimum, beyond the noise, and beyond what the limit that
//!    binds it changed by; whose samples lie apart, the ranges from 20 % to 80 % of A and B having nothing in common;
//!    and have ranks (Mann-Whitney, two-sided) that chance would give to any of the rows in one of 100 comparisons at
//!    most: for a single row 1 % over the number of rows, but not less than 0.001 %, which 11 samples on each side
//!    reach.
//! 5. UNCLEAR is any other row whose ratio is beyond the minimum, also where the machine explains it; or whose noise
//!    is more than twice the minimum or than 25 %, for then it could not have been seen; or of which either run has
//!    fewer than 5 samples.
//! 6. SAME are all others, and a row whose samples are the very same in both.

use super::saved::{Bound, Content, Drift, Samples, Saved};
use super::stats::{median, quantile, rank_test, rarest, spread};
use super::table::{Cell, Table};
use serde::Serialize;

/// Effects smaller than this are not worth a verdict.
pub const MINIMUM: f64 = 0.05;
/// Rows shorter than so many milliseconds differ by up to so much from one start of the program to the next.
const SHORT_MS: f64 = 0.02;
const SHORT_MINIMUM: f64 = 0.15;
/// More noise than this hides everything that matters.
const LOUD: f64 = 0.25;
/// Differences of ranks that chance gives to any row as seldom are one; and for one of many rows no less than that.
const CHANCE: f64 = 0.01;
const LEAST_CHANCE: f64 = 1e-5;
/// With fewer samples on each side not even a single row without an overlap is that rare.
pub const FEWEST: usize = 5;
/// Stretches that a run is cut into, and the fewest samples of one: their median stands one outlier.
const STRETCHES: usize = 3;
const IN_A_STRETCH: usize = 3;
/// Rows that a warning names.
const NAMED: usize = 8;

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
    /// Their ratio, and the nearer to 1 of that and the one corrected for the machine.
    pub ratio: f64,
    pub effect: f64,
    /// What binds the row.
    pub bound: Bound,
    /// How far the medians may be off, as a part of them.
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
    /// Rows whose results are wrong, and in which run.
    pub wrong: Vec<String>,
    /// How many times slower the machine was in B.
    pub drift: Drift,
    pub minimum_effect: f64,
    /// What makes the comparison doubtful.
    pub warnings: Vec<String>,
}

/// What effects of a single row have to be.
struct Rule {
    minimum: f64,
    chance: f64,
}

/// Compares two runs.
pub fn compare(a: &Saved, b: &Saved, minimum: f64) -> Comparison {
    let drift = b.ceilings.drift_since(&a.ceilings);
    let (left, right) = (a.samples(), b.samples());
    let partner = |row: &Samples<'_>| right.iter().find(|other| other.name == row.name);
    let pairs: Vec<_> = left.iter().filter_map(|row| Some((row, partner(row)?))).collect();
    let rule = Rule { minimum, chance: (CHANCE / pairs.len().max(1) as f64).max(LEAST_CHANCE) };
    let missing = |from: &[Samples<'_>], others: &[Samples<'_>]| {
        let missing = from.iter().filter(|row| others.iter().all(|other| other.name != row.name));
        missing.map(|row| row.name.clone()).collect::<Vec<_>>()
    };
    let wrong = |rows: &[Samples<'_>], run: &str| {
        let wrong = rows.iter().filter(|row| row.wrong);
        wrong.map(|row| format!("{} in {run}", row.name)).collect::<Vec<_>>()
    };
    let mut comparison = Comparison {
        rows: pairs.iter().map(|(a, b)| rule.row(a, b.ms, drift)).collect(),
        only_a: missing(&left, &right),
        only_b: missing(&right, &left),
        wrong: [wrong(&left, "A"), wrong(&right, "B")].concat(),
        drift,
        minimum_effect: minimum,
        warnings: differences(a, b),
    };
    comparison.warnings.extend(rule.too_few(&pairs));
    comparison.warn_of_rows();
    comparison
}

impl Rule {
    fn row(&self, a: &Samples<'_>, b: &[f64], drift: Drift) -> Compared {
        let (row, bound, a) = (a.name.clone(), a.bound, a.ms);
        let (a_ms, b_ms, drift) = (median(a), median(b), drift.of(bound));
        let (ratio, chance, noise) = (b_ms / a_ms, rank_test(a, b), noise(a).max(noise(b)));
        let effect = nearer_to_one(ratio, ratio / drift);
        let minimum = if a_ms.min(b_ms) < SHORT_MS { self.minimum.max(SHORT_MINIMUM) } else { self.minimum };
        // As large as its inverse, so that B against A says the opposite of A against B.
        let size = |ratio: f64| ratio.ln().abs();
        let hidden = noise.ln_1p().max(-(-noise.min(LOUD)).ln_1p());
        let large = size(effect) > minimum.ln_1p().max(size(drift)).max(hidden);
        let verdict = if a == b {
            Verdict::Same
        } else if a.len().min(b.len()) < FEWEST {
            Verdict::Unclear
        } else if large && chance <= self.chance && apart(a, b) {
            if effect > 1.0 { Verdict::Slower } else { Verdict::Faster }
        } else if size(ratio) > minimum.ln_1p() || noise > LOUD.min(2.0 * minimum) {
            Verdict::Unclear
        } else {
            Verdict::Same
        };
        Compared { row, verdict, a_ms, b_ms, ratio, effect, bound, noise, chance }
    }

    /// A warning when rows could not be told apart whatever their samples are.
    fn too_few(&self, pairs: &[(&Samples<'_>, &Samples<'_>)]) -> Option<String> {
        let too_few = |n: usize, m: usize| n.min(m) < FEWEST || rarest(n, m) > self.chance;
        let rows = pairs.iter().filter(|(a, b)| too_few(a.ms.len(), b.ms.len())).count();
        let enough = (FEWEST..).find(|&rounds| !too_few(rounds, rounds))?;
        (rows > 0).then(|| {
            format!(
                "{rows} of {} rows have too few samples to be SLOWER or FASTER; --rounds {enough} are enough",
                pairs.len()
            )
        })
    }
}

/// Of two ratios the one nearer to 1; 1 when they lie on both sides of it.
fn nearer_to_one(a: f64, b: f64) -> f64 {
    match (a.ln(), b.ln()) {
        (x, y) if x * y <= 0.0 => 1.0,
        (x, y) if x.abs() < y.abs() => a,
        _ => b,
    }
}

/// Have the middle parts of both nothing in common?
fn apart(a: &[f64], b: &[f64]) -> bool {
    quantile(a, 0.8) < quantile(b, 0.2) || quantile(b, 0.8) < quantile(a, 0.2)
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
fn differences(a: &Saved, b: &Saved) -> Vec<String> {
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
        for (drift, limit) in [(self.drift.compute, "multiply-adds"), (self.drift.memory, "copies")] {
            if let Some(drift) = drift {
                text += &format!("in B, {limit} of the machine took {drift:.3} times as long as in A\n");
            }
        }
        text
    }

    /// Adds what is to be said about rows that are wrong, or alone.
    fn warn_of_rows(&mut self) {
        let wrong = (&self.wrong, "results are WRONG");
        for (rows, what) in [(&self.only_a, "only in A"), (&self.only_b, "only in B"), wrong] {
            if !rows.is_empty() {
                let more = rows.len().saturating_sub(NAMED);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                self.warnings.push(format!("{what}: {}{more}", rows[..rows.len().min(NAMED)].join("; ")));
            }
        }
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

    /// What binds the row of the tests changed by that much.
    fn compared(a: &[f64], b: &[f64], drift: f64) -> Compared {
        let a = Samples { name: "row".into(), ms: a, bound: Bound::Memory, wrong: false };
        Rule { minimum: MINIMUM, chance: CHANCE / 100.0 }.row(&a, b, Drift { compute: Some(9.0), memory: Some(drift) })
    }

    /// The verdict on `b`; the other way around it must be the opposite.
    #[track_caller]
    fn verdict(a: &[f64], b: &[f64], drift: f64) -> Verdict {
        let verdict = compared(a, b, drift).verdict;
        let opposite = match verdict {
            Verdict::Faster => Verdict::Slower,
            Verdict::Slower => Verdict::Faster,
            other => other,
        };
        assert_eq!(compared(b, a, 1.0 / drift).verdict, opposite);
        verdict
    }

    #[test]
    fn effects_are_told_from_none() {
        let (a, b) = (samples(10.0, 1), samples(10.0, 2));
        assert_eq!(verdict(&a, &b, 1.0), Verdict::Same);
        assert_eq!(verdict(&a, &samples(10.3, 3), 1.0), Verdict::Same, "real, but below the minimum");
        assert_eq!(verdict(&a, &samples(11.0, 4), 1.0), Verdict::Slower);
        let scattered = [1.0, 9.0, 2.0, 7.0];
        assert_eq!(verdict(&scattered, &scattered, 1.3), Verdict::Same, "the very same samples");
    }

    #[test]
    fn the_limit_that_binds_a_row_excuses_it_by_as_much() {
        let (a, b) = (samples(10.0, 1), samples(12.0, 2));
        assert_eq!(verdict(&a, &b, 1.2), Verdict::Unclear, "explained, but not the same");
        assert_eq!(verdict(&a, &b, 1.05), Verdict::Slower);
        assert_eq!(verdict(&a, &b, 1.1), Verdict::Unclear, "after a change as large as what is left");
        assert_eq!(verdict(&a, &samples(10.0, 3), 1.2), Verdict::Same, "nor does a slower machine make a row faster");
        assert!((compared(&a, &b, 1.1).effect / (compared(&a, &b, 1.0).ratio / 1.1) - 1.0).abs() < 1e-12);
        let drift = Drift { compute: Some(1.2), memory: None };
        assert_eq!([Bound::Compute, Bound::Memory, Bound::Launch].map(|bound| drift.of(bound)), [1.2, 1.0, 1.0]);
        assert_eq!(nearer_to_one(1.2, 1.1), 1.1);
        assert_eq!(nearer_to_one(0.8, 0.9), 0.9);
        assert_eq!(nearer_to_one(1.1, 0.9), 1.0);
    }

    #[test]
    fn what_noise_does_not_allow_to_tell_is_unclear() {
        let quiet = samples(10.0, 1);
        let mut stepped = samples(10.0, 2);
        stepped[4..].iter_mut().for_each(|ms| *ms *= 1.4);
        assert_eq!(verdict(&quiet, &stepped, 1.0), Verdict::Unclear, "40 %, but within the run");
        let mut rising = samples(11.0, 4);
        rising[7..].iter_mut().for_each(|ms| *ms *= 2.0);
        assert!(compared(&quiet, &rising, 1.0).chance < LEAST_CHANCE && apart(&quiet, &rising));
        assert_eq!(verdict(&quiet, &rising, 1.0), Verdict::Unclear, "10 %, but the last rounds took twice as long");
        let slow = |seed| samples(20.0, seed);
        assert_eq!(verdict(&quiet[..4], &slow(3)[..4], 1.0), Verdict::Unclear, "too few samples");
        let mut outlier = samples(10.0, 3);
        outlier[10] *= 30.0;
        assert_eq!(verdict(&quiet, &outlier, 1.0), Verdict::Same, "one sample says nothing");
        let scattered: Vec<f64> = (0..11).map(|i| if i % 2 == 0 { 9.0 } else { 12.0 }).collect();
        assert_eq!(verdict(&quiet, &scattered, 1.0), Verdict::Unclear, "its ranks say nothing");
    }

    #[test]
    fn ranks_alone_are_not_enough_and_few_of_them_are_chance() {
        let quiet = samples(10.0, 1);
        let even: Vec<f64> = (0..22).map(|i| 10.0 + 0.01 * f64::from(i)).collect();
        // Every fourth of them as fast as the slower ones of those.
        let mixed: Vec<f64> = (0..22).map(|i| if i % 4 == 0 { 10.16 } else { 11.0 } + 0.0001 * f64::from(i)).collect();
        let row = compared(&even, &mixed, 1.0);
        assert!(row.chance < LEAST_CHANCE && row.noise < 0.02 && row.effect > 1.08, "{row:?}");
        assert_eq!(row.verdict, Verdict::Unclear, "their ranges overlap");
        let (a, b) = (&quiet[..6], &samples(20.0, 2)[..6]);
        assert!(rank_test(a, b) < CHANCE);
        assert_eq!(verdict(a, b, 1.0), Verdict::Unclear, "in a hundred rows that may be chance");
        assert_eq!(verdict(&quiet, &samples(20.0, 2), 1.0), Verdict::Slower);
    }

    #[test]
    fn short_rows_must_differ_by_more() {
        let (a, b, c) = (samples(0.01, 1), samples(0.011, 2), samples(0.013, 3));
        assert_eq!(verdict(&a, &b, 1.0), Verdict::Same);
        assert_eq!(verdict(&a, &c, 1.0), Verdict::Slower);
    }
}
