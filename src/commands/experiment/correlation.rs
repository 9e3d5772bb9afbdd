//! Does the SMASH score predict the error after training? (Brock et al. 2018, section 4.1 and Figure 4)
//!
//! Random architectures are scored and ranked by their scores; every j-th of the ranking is trained from scratch with S
//! seeds. Its mean test error is then compared with three predictors: the score, and what one would go by without any
//! search, the numbers of parameters and of multiply-accumulates (the larger network should be the better one).

use crate::cli::{CorrelationArgs, GlobalArgs};
use crate::commands::experiment::prediction::{Prediction, table};
use crate::commands::experiment::study::{Outcome, Score, Study};
use crate::commands::retrain::Trained;
use crate::error::{Error, Result};
use crate::figures::Figure;
use crate::figures::chart::{Point, Points, Scatter, scatter};
use crate::nas::arch::Architecture;
use crate::nas::cost::cost;
use crate::nas::design::Design;
use crate::statistics::{mean, spearman, standard_deviation};
use serde::Serialize;

/// More trainings of one architecture than anybody waits for.
const MOST_SEEDS: usize = 1000;

/// An architecture that was scored and trained.
#[derive(Clone, Debug, Serialize)]
struct Row {
    id: String,
    /// Place in the ranking by score, from 1.
    rank: usize,
    /// SMASH score: error on the validation images with generated weights, in percent.
    score_val_err: f64,
    score_val_loss: Option<f64>,
    params: u64,
    macs: u64,
    layers: usize,
    /// After training from scratch, one number for each seed, in percent.
    val_err: Vec<f64>,
    test_err: Vec<f64>,
}

/// `smash-engine experiment correlation`.
///
/// # Errors
/// Usage errors; [`Error::Interrupted`] after saving; whatever scoring and training report.
pub fn run(args: &CorrelationArgs, global: &GlobalArgs) -> Result<()> {
    check(args)?;
    let study = Study::prepare("correlation", args, &args.study, global)?;
    let archs = study.architectures(&study.job.config.space, args.architectures)?;
    study.job.begin()?;
    let base = study.base()?;
    let scores = study.scores(&base, &archs)?;
    let rows = train(&study, args, &archs, &scores)?;
    let predictions = predictions(&rows, study.job.config.seed);
    let outcome = Outcome { figures: figures(&study, &rows, &predictions), tables: vec![("correlation", csv(&rows))] };
    let report = report(&study, args, &rows, &predictions);
    let results = serde_json::json!({
        "experiment": "correlation", "data": study.job.dataset.name, "seed": study.job.config.seed,
        "scored": archs.len(), "networks": rows, "predictors": predictions, "seconds": study.seconds(),
    });
    study.finish(global, &results, &report, &outcome)
}

fn check(args: &CorrelationArgs) -> Result<()> {
    let positive = [("--every", args.every), ("--seeds", args.seeds)];
    if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
        return Err(Error::config(*name, "0 leaves nothing to train"));
    }
    if args.seeds > MOST_SEEDS {
        return Err(Error::config("--seeds", format!("{} are more than {MOST_SEEDS}", args.seeds)));
    }
    let trained = args.architectures.div_ceil(args.every);
    if trained < 3 {
        let message = format!(
            "every {} of {} are {trained} networks to train; a correlation needs 3 or more",
            args.every, args.architectures
        );
        return Err(Error::config("--architectures", message));
    }
    Ok(())
}

/// Trains every j-th of the ranking: lowest error first, of equal ones the lower loss.
fn train(study: &Study, args: &CorrelationArgs, archs: &[Architecture], scores: &[Score]) -> Result<Vec<Row>> {
    let mut order: Vec<usize> = (0..archs.len()).collect();
    let loss = |i: usize| scores[i].val_loss.unwrap_or(f64::INFINITY);
    order.sort_by(|&a, &b| scores[a].val_err.total_cmp(&scores[b].val_err).then(loss(a).total_cmp(&loss(b))));
    let chosen: Vec<(usize, usize)> = order.into_iter().enumerate().step_by(args.every).collect();
    let designs: Vec<Design> = chosen.iter().map(|&(_, i)| Design::from(&archs[i])).collect();
    let trained = study.trainings(&designs, args.seeds)?;
    let rows = chosen.iter().zip(&trained);
    Ok(rows.map(|(&(place, i), trained)| row(study, place + 1, &archs[i], &scores[i], trained)).collect())
}

fn row(study: &Study, rank: usize, arch: &Architecture, score: &Score, trained: &[Trained]) -> Row {
    let cost = cost(arch, &study.job.shape);
    Row {
        id: arch.id(),
        rank,
        score_val_err: score.val_err,
        score_val_loss: score.val_loss,
        params: cost.params,
        macs: cost.macs,
        layers: arch.layers(),
        val_err: trained.iter().filter_map(|t| t.val_err).collect(),
        test_err: trained.iter().map(|t| t.test_err).collect(),
    }
}

/// What may predict the mean test error, each turned so that a smaller value promises a smaller error.
fn predictors(rows: &[Row]) -> [(&'static str, Vec<f64>); 4] {
    let of = |value: fn(&Row) -> f64| rows.iter().map(value).collect();
    [
        ("SMASH score (val_err)", of(|row| row.score_val_err)),
        ("SMASH loss (val_loss)", of(|row| row.score_val_loss.unwrap_or(f64::INFINITY))),
        ("parameters only", of(|row| -(row.params as f64))),
        ("MACs only", of(|row| -(row.macs as f64))),
    ]
}

fn test_errors(rows: &[Row]) -> Vec<f64> {
    rows.iter().map(|row| mean(&row.test_err)).collect()
}

fn predictions(rows: &[Row], seed: u64) -> Vec<Prediction> {
    let truth = test_errors(rows);
    predictors(rows).into_iter().map(|(name, values)| Prediction::of(name, &values, &truth, seed)).collect()
}

/// Mean rank correlation between the test errors of two seeds: no predictor can know what they disagree about.
fn agreement_of_seeds(rows: &[Row]) -> Option<f64> {
    let seeds = rows.first().map_or(0, |row| row.test_err.len());
    let of = |seed: usize| rows.iter().map(|row| row.test_err[seed]).collect::<Vec<_>>();
    let pairs = (0..seeds).flat_map(|a| (0..a).map(move |b| (a, b)));
    let found: Option<Vec<f64>> = pairs.map(|(a, b)| spearman(&of(a), &of(b)).map(|s| s.coefficient)).collect();
    found.filter(|found| !found.is_empty()).map(|found| mean(&found))
}

fn figures(study: &Study, rows: &[Row], predictions: &[Prediction]) -> Vec<Figure> {
    let data = &study.job.dataset.name;
    let charts = [
        (
            "correlation",
            "SMASH score: val_err with generated weights (%)",
            0,
            (|row| row.score_val_err) as fn(&Row) -> f64,
        ),
        ("parameters", "parameters (thousands)", 2, |row| row.params as f64 / 1e3),
        ("macs", "multiply-accumulates per image (millions)", 3, |row| row.macs as f64 / 1e6),
    ];
    let figure = |(name, x, predictor, of): (&str, &str, usize, fn(&Row) -> f64)| {
        let point = |row: &Row| {
            let (y, spread) = (mean(&row.test_err), standard_deviation(&row.test_err));
            Point { x: of(row), y, x_interval: None, y_interval: spread.map(|s| [y - s, y + s]) }
        };
        let fit = predictions[predictor].pearson.map(|r| {
            // Size is turned round as a predictor, not in the picture.
            let sign = if predictor >= 2 { -1.0 } else { 1.0 };
            format!("least squares, r = {:.2}", sign * r.value)
        });
        let series =
            Points { name: format!("{} architectures", rows.len()), points: rows.iter().map(point).collect(), fit };
        let title = format!("Error after training from scratch on {data}");
        let chart = Scatter {
            title,
            x: x.into(),
            y: "test_err: mean and standard deviation of the seeds (%)".into(),
            series: vec![series],
        };
        Figure { name: name.into(), svg: scatter(&chart) }
    };
    charts.into_iter().map(figure).collect()
}

fn csv(rows: &[Row]) -> String {
    let numbers = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(";");
    let mut text = "rank,architecture,score_val_err,score_val_loss,params,macs,layers,val_err,test_err\n".to_string();
    for row in rows {
        let loss = row.score_val_loss.map_or(String::new(), |loss| loss.to_string());
        text += &format!(
            "{},{},{},{loss},{},{},{},{},{}\n",
            row.rank,
            row.id,
            row.score_val_err,
            row.params,
            row.macs,
            row.layers,
            numbers(&row.val_err),
            numbers(&row.test_err)
        );
    }
    text
}

fn report(study: &Study, args: &CorrelationArgs, rows: &[Row], predictions: &[Prediction]) -> String {
    let quarter = rows.len().div_ceil(4);
    let truth = test_errors(rows);
    let (best, worst) = (mean(&truth[..quarter]), mean(&truth[truth.len() - quarter..]));
    let seeds = match agreement_of_seeds(rows) {
        Some(rho) => format!(
            "Two trainings of the same architectures with different seeds agree with rho = {rho:.2}; what they disagree \
             about no predictor can know.\n\n"
        ),
        None => String::new(),
    };
    let diverged = rows.iter().flat_map(|row| &row.test_err).filter(|err| **err == 100.0).count();
    let diverged = match diverged {
        0 => String::new(),
        n => format!("{n} of the trainings ended without a finite loss and count as 100 % errors.\n\n"),
    };
    format!(
        "# Does the SMASH score predict the error after training?\n\n{}\
         {} random architectures were scored on {} validation images with generated weights and ranked; of the ranking one in \
         {}, {} in all, was trained from scratch with {} and evaluated on {} test images (section 4.1 of the paper).\n\n\
         ![Score and test error](figures/correlation.svg)\n\n{}\n{seeds}\
         The best-scored quarter of the trained architectures has a mean test_err of {best:.2} %, the worst-scored \
         {worst:.2} %.\n\n{diverged}\
         ![Parameters and test error](figures/parameters.svg)\n\n![MACs and test error](figures/macs.svg)\n\n{}",
        study.setting(),
        args.architectures,
        study.job.validation.len(),
        args.every,
        rows.len(),
        study.schedule(args.seeds),
        study.job.dataset.test.len(),
        table("test_err", predictions),
        study.closing(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(score: f64, macs: u64, test_err: &[f64]) -> Row {
        Row {
            id: format!("{score}"),
            rank: 1,
            score_val_err: score,
            score_val_loss: Some(score / 10.0),
            params: 2 * macs,
            macs,
            layers: 3,
            val_err: vec![],
            test_err: test_err.to_vec(),
        }
    }

    #[test]
    fn scores_and_sizes_predict_in_the_same_direction() {
        // Errors rise with the score; the larger networks are the better ones but for one.
        let rows = [
            row(10.0, 90, &[1.0, 2.0]),
            row(20.0, 95, &[3.0, 2.5]),
            row(30.0, 50, &[4.0, 4.5]),
            row(40.0, 10, &[6.0, 5.0]),
        ];
        let all = predictions(&rows, 1);
        let rho: Vec<f64> = all.iter().map(|p| p.spearman.unwrap().value).collect();
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(rho.iter().zip([1.0, 1.0, 0.8, 0.8]).all(|(&found, expected)| close(found, expected)), "{rho:?}");
        assert!(agreement_of_seeds(&rows).is_some_and(|rho| close(rho, 1.0)));
        assert_eq!(agreement_of_seeds(&[row(1.0, 1, &[1.0])]), None);
    }

    #[test]
    fn too_few_trainings_for_a_correlation_are_refused() {
        let args = |architectures, every| CorrelationArgs { study: Default::default(), architectures, every, seeds: 1 };
        assert!(check(&args(11, 5)).is_ok());
        let message = check(&args(10, 5)).unwrap_err().to_string();
        assert!(message.starts_with("--architectures: every 5 of 10 are 2 networks"), "{message}");
        assert!(check(&args(10, 0)).is_err());
    }
}
