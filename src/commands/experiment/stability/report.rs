//! The report of `experiment stability`.

use super::{Kind, Rankings, Scorer, mean_scores};
use crate::commands::experiment::prediction::{Prediction, table};
use crate::commands::experiment::study::Study;
use crate::commands::experiment::trained::Truth;
use crate::nas::arch::Architecture;
use crate::report::count;
use crate::statistics::spearman;

pub fn text(
    study: &Study,
    archs: &[Architecture],
    scorers: &[Scorer],
    rankings: &Rankings,
    truth: Option<&Truth>,
) -> String {
    let seeds = scorers.iter().filter(|s| s.kind == Kind::Seed).count();
    format!(
        "# Do SMASH networks agree?\n\n{}\
         {} random architectures were scored on {} validation images by {seeds} SMASH networks that differ in their seed, by \
         their mean{} (appendix C of the paper).\n\n\
         ![Scores against rank](figures/stability.svg)\n\n\
         {}\n\n{}\n\
         HyperNet: its weights. Learned, generated: weights that a random architecture of the network's own space uses, on \
         average; ratio: the former for each of the latter. rho: rank correlation with the mean score of the seeds, of a \
         seed with that of the others. Shared: how much of the best tenth is in that of the mean of all seeds. Scores of networks with \
         different ratios cannot be compared with each other.\n\n\
         ![Spearman's rho](figures/spearman.svg)\n\n![Kendall's tau](figures/kendall.svg)\n\n{}{}",
        study.setting(),
        archs.len(),
        study.job.validation.len(),
        others(scorers),
        agreement(seeds, rankings),
        scorer_table(scorers),
        truth.map_or(String::new(), |truth| compared_with(scorers, truth)),
        study.closing(),
    )
}

/// The other networks, each with a comma before it.
fn others(scorers: &[Scorer]) -> String {
    let words = |scorer: &Scorer| match (scorer.kind, scorer.weights) {
        (Kind::Crippled, Some(weights)) => {
            Some(format!("one with a crippled HyperNet of {} weights", count(weights.hypernet as u64)))
        }
        (Kind::Wide, Some(weights)) => Some(format!(
            "one that was trained on ops {}, with {:.1} learned weights for every generated one",
            scorer.name, weights.ratio
        )),
        _ => None,
    };
    let words: Vec<String> = scorers.iter().filter_map(words).collect();
    let last = words.len().saturating_sub(1);
    words.iter().enumerate().map(|(i, words)| format!(", {}by {words}", if i == last { "and " } else { "" })).collect()
}

fn agreement(seeds: usize, rankings: &Rankings) -> String {
    let rho = |value: Option<f64>| value.map_or("no defined rho".into(), |value| format!("rho = {value:.2}"));
    let mut text = format!(
        "The rankings of two seeds agree with {} on average, that of one seed and the mean of the others with {}.",
        rho(rankings.between_seeds),
        rho(rankings.with_the_others)
    );
    if let Some(expected) = rankings.expected_of_ensembles {
        text += &format!(
            " From this, the mean of {seeds} and that of {seeds} new seeds may be expected to agree with rho = {expected:.2} \
             (Spearman and Brown)."
        );
    }
    text
}

/// Rank correlation with the mean score of the seeds; of a seed with that of the others. None of that mean itself.
fn with_other_seeds(scorers: &[Scorer], i: usize) -> Option<f64> {
    let others = scorers.iter().enumerate().filter(|(j, s)| *j != i && s.kind == Kind::Seed).map(|(_, s)| s);
    let rho = (scorers[i].kind != Kind::Ensemble).then(|| spearman(&scorers[i].val_err, &mean_scores(others)));
    rho.flatten().map(|rho| rho.coefficient)
}

fn scorer_table(scorers: &[Scorer]) -> String {
    let mut text = "| scorer | HyperNet | learned | generated | ratio | mean val_err | best | rho | shared |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
        .to_string();
    for (i, scorer) in scorers.iter().enumerate() {
        let weights = scorer.weights.map_or("- | - | - | -".into(), |w| {
            let [hypernet, learned] = [w.hypernet, w.learned as usize].map(|n| count(n as u64));
            format!("{hypernet} | {learned} | {} | {:.1}", count(w.generated as u64), w.ratio)
        });
        text += &format!(
            "| {} | {weights} | {:.2} % | {:.2} % | {} | {:.0} % |\n",
            scorer.name,
            scorer.mean_val_err,
            scorer.best_val_err,
            with_other_seeds(scorers, i).map_or("-".into(), |rho| format!("{rho:.2}")),
            100.0 * scorer.best_tenth
        );
    }
    text
}

fn compared_with(scorers: &[Scorer], truth: &Truth) -> String {
    let predictions: Vec<Prediction> = scorers.iter().filter_map(|s| s.prediction.clone()).collect();
    format!(
        "{} of the architectures were trained from scratch. How well each scorer predicts their test errors:\n\n{}\n\
         ![Scores and test errors](figures/truth.svg)\n\n",
        truth.count(),
        table("test_err", &predictions)
    )
}
