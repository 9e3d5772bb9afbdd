//! The report of `experiment table1`.

use super::{Column, Options};
use crate::commands::experiment::prediction::{Coefficient, Prediction};
use crate::commands::experiment::study::Study;
use crate::figures::Figure;
use crate::figures::chart::{Matrix, Point, Points, Scatter, matrix, scatter};
use crate::report::count;
use crate::report::p_value;
use crate::statistics::{mean, standard_deviation};

/// The rows of the table: a name, the weights of the HyperNet where it is one, and a prediction for each column.
fn rows(columns: &[Column]) -> Vec<(String, Option<usize>, Vec<&Prediction>)> {
    let Some(first) = columns.first() else { return Vec::new() };
    let cells = first.cells.iter().enumerate().map(|(i, cell)| {
        let predictions = columns.iter().map(|column| &column.cells[i].prediction).collect();
        (cell.hypernet.clone(), Some(cell.weights.hypernet), predictions)
    });
    let others =
        first.others.iter().enumerate().map(|(i, other)| {
            (other.predictor.clone(), None, columns.iter().map(|column| &column.others[i]).collect())
        });
    cells.chain(others).collect()
}

pub fn figures(study: &Study, columns: &[Column]) -> Vec<Figure> {
    let data = &study.job.dataset.name;
    let rows = rows(columns);
    let chart = Matrix {
        title: format!("Pearson's r of scores and test errors on {data}"),
        rows: rows.iter().map(|(name, ..)| name.clone()).collect(),
        columns: columns.iter().map(|column| format!("g = {}", column.g)).collect(),
        cells: rows.iter().map(|(.., all)| all.iter().map(|p| p.pearson.map(|r| r.value)).collect()).collect(),
        range: [-1.0, 1.0],
        decimals: 2,
    };
    let series = |column: &Column| Points {
        name: format!("g = {}", column.g),
        points: column
            .networks
            .iter()
            .map(|row| {
                let (x, y, spread) = (mean(&row.scores), mean(&row.test_err), standard_deviation(&row.test_err));
                Point { y_interval: spread.map(|s| [y - s, y + s]), ..Point::new(x, y) }
            })
            .collect(),
        fit: column.others[0].pearson.map(|r| format!("r = {:.2}", r.value)),
    };
    let means = Scatter {
        title: format!("Mean scores and errors after training from scratch on {data}"),
        x: "val_err with generated weights, mean (%)".into(),
        y: "test_err, mean of the seeds (%)".into(),
        series: columns.iter().map(series).collect(),
    };
    vec![Figure::new("table1", matrix(&chart)), Figure::new("table1-scores", scatter(&means))]
}

pub fn text(study: &Study, options: &Options, columns: &[Column]) -> String {
    let tests = columns.iter().map(|column| column.cells.len()).sum::<usize>();
    format!(
        "# How does the correlation depend on the HyperNet and on what it has to generate?\n\n{}\
         For each width g of the widest ops, {} random architectures were scored on {} validation images by {} for each of {} \
         HyperNets (growth x layers of each dense block) and ranked by their mean score; every {}. of them, {} in all, was \
         trained from scratch with {} (Table 1 of the paper). r is Pearson's, of score and mean test_err, p its two-sided \
         p-value.\n\n{}\n\
         The p-values are not corrected: of {tests} cells without any correlation {:.1} would be below 0.05. A positive r \
         means that the better-looking network tends to be the better one; for parameters and MACs that is the larger one. \
         Rank correlations and intervals are in `results.json` and `figures/table1.csv`.\n\n\
         ![Pearson's r](figures/table1.svg)\n\n![Mean scores and test errors](figures/table1-scores.svg)\n\n{}",
        study.setting(),
        options.architectures,
        study.job.validation.len(),
        if options.networks == 1 { "one SMASH network".into() } else { format!("{} SMASH networks", options.networks) },
        options.hypernets.len(),
        options.every,
        columns.first().map_or(0, |column| column.networks.len()),
        study.schedule(options.seeds),
        table(columns),
        0.05 * tests as f64,
        study.closing(),
    )
}

fn table(columns: &[Column]) -> String {
    let each = |of: &dyn Fn(&Column) -> String| columns.iter().map(of).collect::<String>();
    let mut text = format!("| HyperNet | weights |{}\n|---|---|", each(&|c| format!(" r, g={0} | p, g={0} |", c.g)));
    text += &format!("{}\n", each(&|_| "---|---|".into()));
    for (name, weights, predictions) in rows(columns) {
        let cells = predictions.iter().map(|prediction| match prediction.pearson {
            Some(r) => format!(" {:.2} | {} |", r.value, p_value(r.p)),
            None => " - | - |".into(),
        });
        let weights = weights.map_or("-".into(), |n| count(n as u64));
        text += &format!("| {name} | {weights} |{}\n", cells.collect::<String>());
    }
    text + &format!("| learned for every generated weight | - |{}\n", each(&|c| format!(" {:.2} | - |", c.ratio)))
}

/// Every cell with all its coefficients.
pub fn cells_csv(columns: &[Column]) -> String {
    let mut text = "g,predictor,hypernet_weights,learned,generated,ratio,statistic,value,p,low,high\n".to_string();
    for column in columns {
        let cells = column.cells.iter().map(|cell| {
            let w = cell.weights;
            (&cell.prediction, format!("{},{},{},{}", w.hypernet, w.learned, w.generated, w.ratio))
        });
        for (prediction, weights) in cells.chain(column.others.iter().map(|other| (other, ",,,".into()))) {
            let Prediction { predictor, pearson, spearman, kendall } = prediction;
            for (statistic, found) in [("pearson", pearson), ("spearman", spearman), ("kendall", kendall)] {
                let Some(Coefficient { value, p, interval }) = found else { continue };
                let interval = interval.map_or(",".into(), |[low, high]| format!("{low},{high}"));
                text += &format!("{},{predictor},{weights},{statistic},{value},{p},{interval}\n", column.g);
            }
        }
    }
    text
}

/// Every trained architecture with its scores and errors.
pub fn networks_csv(options: &Options, columns: &[Column]) -> String {
    let scores: Vec<String> = options.hypernets.iter().map(|name| format!("score {name}")).collect();
    let mut text = format!("g,rank,architecture,params,macs,{},test_err\n", scores.join(","));
    let numbers = |values: &[f64], between: &str| values.iter().map(f64::to_string).collect::<Vec<_>>().join(between);
    for column in columns {
        for row in &column.networks {
            let (scores, errors) = (numbers(&row.scores, ","), numbers(&row.test_err, ";"));
            text += &format!("{},{},{},{},{},{scores},{errors}\n", column.g, row.rank, row.id, row.params, row.macs);
        }
    }
    text
}
