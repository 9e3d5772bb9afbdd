//! The pictures of `experiment stability`: scores against rank (Figure 5b), agreement, and scores against test errors (5a).

use super::{Kind, Rankings, Scorer};
use crate::commands::experiment::study::Study;
use crate::commands::experiment::trained::Truth;
use crate::figures::Figure;
use crate::figures::chart::{Matrix, Point, Points, Scatter, matrix, scatter};
use crate::statistics::ascending;

pub fn all(study: &Study, scorers: &[Scorer], rankings: &Rankings, truth: Option<&Truth>) -> Vec<Figure> {
    let data = &study.job.dataset.name;
    let mut figures = vec![by_rank(data, scorers)];
    for (name, statistic, cells) in
        [("spearman", "Spearman's rho", &rankings.spearman), ("kendall", "Kendall's tau", &rankings.kendall)]
    {
        let chart = Matrix {
            title: format!("Agreement of rankings on {data}: {statistic}"),
            rows: rankings.scorers.clone(),
            columns: rankings.scorers.clone(),
            cells: cells.clone(),
            range: [0.0, 1.0],
            decimals: 2,
        };
        figures.push(Figure::new(name, matrix(&chart)));
    }
    figures.extend(truth.map(|truth| against_truth(data, scorers, truth)));
    figures
}

/// The scores of every seed over the ranking by their mean.
fn by_rank(data: &str, scorers: &[Scorer]) -> Figure {
    let mean = scorers.iter().find(|s| s.kind == Kind::Ensemble);
    let order = mean.map_or(Vec::new(), |mean| ascending(&mean.val_err));
    let series = |scorer: &Scorer| Points {
        name: scorer.name.clone(),
        points: order.iter().enumerate().map(|(place, &i)| Point::new(place as f64 + 1.0, scorer.val_err[i])).collect(),
        fit: None,
    };
    let chart = Scatter {
        title: format!("Scores by SMASH networks of different seeds on {data}"),
        x: "rank by the mean score of all seeds".into(),
        y: "val_err with generated weights (%)".into(),
        series: scorers.iter().filter(|s| s.kind == Kind::Seed).map(series).collect(),
    };
    Figure::new("stability", scatter(&chart))
}

fn against_truth(data: &str, scorers: &[Scorer], truth: &Truth) -> Figure {
    let series = |scorer: &Scorer| {
        let known = scorer.val_err.iter().zip(&truth.test_err).filter_map(|(score, truth)| truth.map(|t| (*score, t)));
        let pearson = scorer.prediction.as_ref().and_then(|p| p.pearson);
        Points {
            name: scorer.name.clone(),
            points: known.map(|(score, truth)| Point::new(score, truth)).collect(),
            fit: pearson.map(|r| format!("r = {:.2}", r.value)),
        }
    };
    let chart = Scatter {
        title: format!("Scores and errors after training from scratch on {data}"),
        x: "val_err with generated weights (%)".into(),
        y: "test_err (%)".into(),
        series: scorers.iter().filter(|s| s.kind != Kind::Seed).map(series).collect(),
    };
    Figure::new("truth", scatter(&chart))
}
