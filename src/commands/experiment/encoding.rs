//! Does the HyperNet read the encoding? (Brock et al. 2018, section 4.2)
//!
//! Random architectures are scored with the weights that the HyperNet generates from their own encoding c, and from c's
//! that say something else about them ([`Corruption`]). If c means anything to the HyperNet, the true one gives the lowest
//! error. The differences are paired by architecture; p-values are corrected for the number of kinds (Holm).

use crate::cli::{EncodingArgs, GlobalArgs};
use crate::commands::experiment::comparison::{Difference, correct};
use crate::commands::experiment::study::{Outcome, Record, Study};
use crate::commands::search::outcome_with_encoding;
use crate::error::{Error, Result};
use crate::figures::Figure;
use crate::figures::chart::{Interval, Intervals, intervals};
use crate::nas::arch::Architecture;
use crate::nas::corrupt::{Corruption, corrupt};
use crate::nas::encode::Encoding;
use crate::report::p_value;
use crate::rng::{Rng, Stream};
use crate::statistics::{mean, spearman};
use serde::{Deserialize, Serialize};

/// Sub-stream of the search's of the first architecture's corruptions.
const CORRUPTIONS: u32 = 1 << 16;

/// What one architecture reaches on the validation images with the weights of one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reached {
    /// Error in percent.
    val_err: f64,
    /// Mean loss per image; none if it is not a number.
    val_loss: Option<f64>,
}

/// With a wrong encoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Lie {
    kind: Corruption,
    /// Part of the slices of which something else is said.
    changed: f64,
    #[serde(flatten)]
    reached: Reached,
}

/// The scores of one architecture: a line of `scores/encodings.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scored {
    id: String,
    truth: Reached,
    /// One of each kind that has something to change.
    lies: Vec<Lie>,
}

impl Record for Scored {
    fn name(&self) -> &str {
        &self.id
    }
}

/// What a kind of corruption does to the scores.
#[derive(Clone, Debug, Serialize)]
struct Effect {
    kind: Corruption,
    /// Mean part of the slices of which something else is said.
    changed: f64,
    /// Wrong less true, in percentage points.
    val_err: Difference,
    /// Wrong less true, per image.
    val_loss: Option<Difference>,
    /// Spearman's rho of the true and the wrong scores: what of the ranking is left.
    ranking: Option<f64>,
}

/// What all of them say.
#[derive(Clone, Debug, Serialize)]
struct Findings {
    /// Mean with the true encoding, in percent.
    true_val_err: f64,
    /// Part of the architectures that no wrong encoding scores as well as the true one.
    truth_is_best: f64,
    /// The same if all encodings were alike.
    by_chance: f64,
    effects: Vec<Effect>,
}

/// `smash-engine experiment encoding`.
///
/// # Errors
/// Usage errors; [`Error::Interrupted`] after saving; whatever training and scoring report.
pub fn run(args: &EncodingArgs, global: &GlobalArgs) -> Result<()> {
    if args.architectures == 0 {
        return Err(Error::config("--architectures", "0 leaves nothing to score"));
    }
    let study = Study::prepare("encoding", args, &args.study, global)?;
    let archs = study.architectures(&study.job.config.space, args.architectures)?;
    study.job.begin()?;
    let scored = score(&study, &archs)?;
    let findings = Findings::of(&scored, study.job.config.seed);
    let figures = vec![
        findings.figure("encoding", "val_err: wrong less true encoding (percentage points)", 2, |e| Some(e.val_err)),
        findings.figure("encoding-loss", "val_loss: wrong less true encoding", 3, |e| e.val_loss),
    ];
    let report = report(&study, scored.len(), &findings);
    let results = serde_json::json!({
        "experiment": "encoding", "data": study.job.dataset.name, "seed": study.job.config.seed,
        "scored": scored.len(), "validation_images": study.job.validation.len(), "findings": findings,
        "networks": scored, "seconds": study.seconds(),
    });
    study.finish(global, &results, &report, &Outcome { figures, tables: vec![("encoding", csv(&scored))] })
}

fn score(study: &Study, archs: &[Architecture]) -> Result<Vec<Scored>> {
    let (smash, seed) = (study.base()?, study.job.config.seed);
    let ids: Vec<String> = archs.iter().map(Architecture::id).collect();
    study.score_with("scores/encodings.jsonl", &smash, &ids, |i, network, context| {
        let (arch, job) = (&archs[i], &smash.job);
        let mut reach = |encoding: &Encoding| -> Result<Reached> {
            let batches = job.validation_batches();
            let outcome = outcome_with_encoding(job, network, context, arch, encoding, batches)?;
            Ok(Reached { val_err: outcome.percent(), val_loss: outcome.finite_loss() })
        };
        let c = network.encode(arch);
        let mut scored = Scored { id: ids[i].clone(), truth: reach(&c)?, lies: Vec::new() };
        let mut rng = Rng::sub(seed, Stream::Search, CORRUPTIONS + i as u32);
        for kind in Corruption::ALL {
            if let Some(wrong) = corrupt(arch, &c, kind, |other| network.encode(other), &mut rng) {
                scored.lies.push(Lie { kind, changed: wrong.changed, reached: reach(&wrong.encoding)? });
            }
        }
        Ok(scored)
    })
}

impl Findings {
    fn of(scored: &[Scored], seed: u64) -> Self {
        let mut effects: Vec<Effect> =
            Corruption::ALL.into_iter().filter_map(|kind| Effect::of(kind, scored, seed)).collect();
        correct(effects.iter_mut().map(|effect| &mut effect.val_err));
        correct(effects.iter_mut().filter_map(|effect| effect.val_loss.as_mut()));
        // Of equal errors the lower loss is the better score.
        let order = |reached: &Reached| (reached.val_err, reached.val_loss.unwrap_or(f64::INFINITY));
        let best = |s: &&Scored| s.lies.iter().all(|lie| order(&s.truth) < order(&lie.reached));
        let chances: Vec<f64> = scored.iter().map(|s| 1.0 / (1 + s.lies.len()) as f64).collect();
        Self {
            true_val_err: mean(&scored.iter().map(|s| s.truth.val_err).collect::<Vec<_>>()),
            truth_is_best: scored.iter().filter(best).count() as f64 / scored.len() as f64,
            by_chance: mean(&chances),
            effects,
        }
    }

    /// Kinds whose differences from the truth are there, as `of` takes them.
    fn read(&self, of: fn(&Effect) -> Option<Difference>) -> Vec<&'static str> {
        let found = self.effects.iter().filter(|effect| of(effect).is_some_and(|d| d.is_larger()));
        found.map(|effect| effect.kind.describe()).collect()
    }

    fn figure(&self, name: &str, x: &str, decimals: usize, of: fn(&Effect) -> Option<Difference>) -> Figure {
        let row = |effect: &Effect| {
            let Difference { mean, interval, p_holm, .. } = of(effect)?;
            let p = p_holm.map_or(String::new(), |p| format!(" (p = {})", p_value(p)).replace("= <", "<"));
            Some(Interval {
                label: effect.kind.describe().into(),
                value: mean,
                interval,
                note: format!("{mean:+.decimals$}{p}"),
            })
        };
        let chart = Intervals {
            title: "Scores with a wrong encoding: mean difference from the true one, 95 % interval".into(),
            x: x.into(),
            reference: Some(0.0),
            rows: self.effects.iter().filter_map(row).collect(),
        };
        Figure::new(name, intervals(&chart))
    }
}

impl Effect {
    /// The effect of `kind`; none when no architecture had anything of it to change.
    fn of(kind: Corruption, scored: &[Scored], seed: u64) -> Option<Self> {
        let pairs: Vec<(Reached, Lie)> = scored
            .iter()
            .filter_map(|s| s.lies.iter().find(|lie| lie.kind == kind).map(|lie| (s.truth, *lie)))
            .collect();
        let values = |of: fn(&Reached) -> f64| -> (Vec<f64>, Vec<f64>) {
            pairs.iter().map(|(truth, lie)| (of(truth), of(&lie.reached))).unzip()
        };
        let (truth, wrong) = values(|reached| reached.val_err);
        let (true_loss, wrong_loss) = values(|reached| reached.val_loss.unwrap_or(f64::NAN));
        Some(Self {
            kind,
            changed: mean(&pairs.iter().map(|(_, lie)| lie.changed).collect::<Vec<_>>()),
            val_err: Difference::of(&truth, &wrong, seed)?,
            val_loss: Difference::of(&true_loss, &wrong_loss, seed),
            ranking: spearman(&truth, &wrong).map(|rho| rho.coefficient),
        })
    }
}

fn csv(scored: &[Scored]) -> String {
    let mut text = "architecture,encoding,changed,val_err,val_loss\n".to_string();
    let mut line = |id: &str, encoding: &str, changed: f64, reached: &Reached| {
        let loss = reached.val_loss.map_or(String::new(), |loss| loss.to_string());
        text += &format!("{id},{encoding},{changed},{},{loss}\n", reached.val_err);
    };
    for s in scored {
        line(&s.id, "true", 0.0, &s.truth);
        for lie in &s.lies {
            line(&s.id, lie.kind.describe(), lie.changed, &lie.reached);
        }
    }
    text
}

fn report(study: &Study, count: usize, findings: &Findings) -> String {
    let difference = |d: &Difference, decimals: usize| {
        let number = |value: f64| format!("{value:+.decimals$}");
        let interval =
            d.interval.map_or(String::new(), |[low, high]| format!(" ({} to {})", number(low), number(high)));
        format!("{}{interval} | {}", number(d.mean), d.p_holm.map_or("-".into(), p_value))
    };
    let row = |effect: &Effect| {
        let d = &effect.val_err;
        format!(
            "| {} | {:.0} % | {} | {} of {} | {} | {} |\n",
            effect.kind.describe(),
            100.0 * effect.changed,
            difference(d, 2),
            d.larger,
            d.pairs,
            effect.val_loss.as_ref().map_or("- | -".into(), |d| difference(d, 3)),
            effect.ranking.map_or("-".into(), |rho| format!("{rho:.2}")),
        )
    };
    format!(
        "# Does the HyperNet read the encoding?\n\n{}\
         {count} random architectures were scored on {} validation images with the weights that the HyperNet generates from \
         their own encoding c, and from c's that say something else about them (section 4.2 of the paper); the network that \
         computes is the same each time. With the true c the mean val_err is {:.2} %.\n\n{}\n\n\
         ![Differences of val_err](figures/encoding.svg)\n\n\
         | c | slices changed | val_err, wrong less true | p | true is better | val_loss, wrong less true | p | rho |\n\
         |---|---|---|---|---|---|---|---|\n{}\n\
         In parentheses: the middle 95 % of bootstrap resamples, of each kind by itself. p: Wilcoxon's signed-rank test, corrected for the number of \
         kinds (Holm). rho: rank correlation of the scores with the wrong and with the true c; near 1, the ranking does not \
         depend on what was changed.{}\n\n\
         ![Differences of val_loss](figures/encoding-loss.svg)\n\n{}",
        study.setting(),
        study.job.validation.len(),
        findings.true_val_err,
        verdict(findings),
        findings.effects.iter().map(row).collect::<String>(),
        unstated(findings),
        study.closing(),
    )
}

/// The answer in two sentences.
fn verdict(findings: &Findings) -> String {
    let best = format!(
        "The true c is the best of all for {:.0} % of the architectures ({:.0} % if all were alike).",
        100.0 * findings.truth_is_best,
        100.0 * findings.by_chance
    );
    let list = |read: Vec<&'static str>| if read.is_empty() { "none".into() } else { read.join(", ") };
    format!(
        "{best} Worse than the true c, beyond chance (p < 0.05): in val_err {}; in val_loss {}.",
        list(findings.read(|effect| Some(effect.val_err))),
        list(findings.read(|effect| effect.val_loss))
    )
}

/// Kinds that no architecture had anything of to change.
fn unstated(findings: &Findings) -> String {
    let missing = Corruption::ALL.into_iter().filter(|kind| findings.effects.iter().all(|effect| effect.kind != *kind));
    let missing: Vec<&str> = missing.map(Corruption::describe).collect();
    match missing.len() {
        0 => String::new(),
        _ => format!(" Not there, because the encodings of this space do not state it: {}.", missing.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(val_err: f64, val_loss: f64) -> Reached {
        Reached { val_err, val_loss: Some(val_loss).filter(|loss| loss.is_finite()) }
    }

    fn lie(kind: Corruption, changed: f64, val_err: f64, val_loss: f64) -> Lie {
        Lie { kind, changed, reached: reached(val_err, val_loss) }
    }

    /// Six architectures: kernels matter to all, groups to none, dilations are the same in one of them.
    fn scored() -> Vec<Scored> {
        (0..6)
            .map(|i| {
                let (err, loss) = (20.0 + f64::from(i), 1.0 + 0.1 * f64::from(i));
                let mut lies = vec![
                    lie(Corruption::Kernel, 0.5, err + 2.0 + 0.1 * f64::from(i), loss + 0.2 + 0.01 * f64::from(i)),
                    lie(Corruption::Groups, 0.25, err, loss + if i % 2 == 0 { 0.001 } else { -0.0011 }),
                ];
                if i > 0 {
                    lies.insert(0, lie(Corruption::Dilation, 0.1 * f64::from(i), err - 1.0, f64::NAN));
                }
                Scored { id: format!("{i}"), truth: reached(err, loss), lies }
            })
            .collect()
    }

    #[test]
    fn effects_are_paired_by_architecture_and_corrected_for_their_number() {
        let findings = Findings::of(&scored(), 1);
        let kinds: Vec<Corruption> = findings.effects.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Corruption::Dilation, Corruption::Kernel, Corruption::Groups]);
        let [dilation, kernel, groups] = &findings.effects[..] else { panic!("three kinds") };
        assert_eq!((dilation.val_err.pairs, dilation.val_err.mean, dilation.val_err.smaller), (5, -1.0, 5));
        assert!((dilation.changed - 0.3).abs() < 1e-12 && dilation.val_loss.is_none());
        assert!((kernel.val_err.mean - 2.25).abs() < 1e-12);
        assert_eq!((kernel.val_err.larger, kernel.ranking), (6, Some(1.0)));
        // Six differences above zero: p is 2 / 64. The five equal ones of the dilations have a smaller one (their ranks tie, and
        // it is that of a normal distribution), which counts twice and bounds the next.
        let doubled = dilation.val_err.p.map(|p| 2.0 * p);
        assert_eq!((kernel.val_err.p, kernel.val_err.p_holm), (Some(2.0 / 64.0), doubled));
        assert!(doubled.is_some_and(|p| p > 2.0 / 64.0 && p < 4.0 / 64.0), "{doubled:?}");
        assert_eq!((groups.val_err.p, groups.val_err.p_holm), (None, None));
        assert_eq!(kernel.val_loss.unwrap().p_holm, Some(4.0 / 64.0));
        assert_eq!(findings.read(|e| Some(e.val_err)), [""; 0]);
        assert!((findings.true_val_err - 22.5).abs() < 1e-12);
    }

    #[test]
    fn the_truth_is_best_where_no_lie_is_as_good() {
        let findings = Findings::of(&scored(), 1);
        // The first has no dilation that helps, and its loss with other groups is higher.
        assert!((findings.truth_is_best - 1.0 / 6.0).abs() < 1e-12);
        assert!((findings.by_chance - (1.0 / 3.0 + 5.0 / 4.0) / 6.0).abs() < 1e-12);
        let mut better = scored();
        better.iter_mut().for_each(|s| s.lies.retain(|lie| lie.kind == Corruption::Kernel));
        let findings = Findings::of(&better, 1);
        assert_eq!((findings.truth_is_best, findings.by_chance), (1.0, 0.5));
        assert_eq!(findings.read(|e| Some(e.val_err)), ["filter sizes shuffled"]);
        assert!(verdict(&findings).starts_with("The true c is the best of all for 100 % of the architectures (50 %"));
        let unstated = unstated(&findings);
        assert!(unstated.contains("groups shuffled") && !unstated.contains("filter sizes"), "{unstated}");
    }

    #[test]
    fn every_score_is_in_the_table_of_numbers() {
        let text = csv(&scored());
        assert_eq!(text.lines().count(), 1 + 6 + 17);
        assert!(text.contains("\n3,true,0,23,1.3\n3,dilations shuffled,0.30000000000000004,22,\n"), "{text}");
    }
}
