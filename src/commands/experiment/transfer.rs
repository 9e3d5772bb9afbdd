//! Is an architecture that was found on one data set, A, good for another one, B? (Brock et al. 2018, section 4.3)
//!
//! Both sets are searched with the same settings. All of these are trained from scratch on B alike: what was found on A,
//! what was found on B, random architectures of B's search of similar cost, and a network that nobody searched for.
//! Intervals say what other test images would change and, of several trainings with seeds of their own, other seeds.

use crate::cli::{GlobalArgs, TransferArgs};
use crate::commands::design;
use crate::commands::experiment::study::{Outcome, Study};
use crate::commands::retrain::{Role, Trained, choose};
use crate::error::{Error, Result};
use crate::figures::Figure;
use crate::figures::chart::{Interval, Intervals, intervals};
use crate::figures::network;
use crate::nas::builtin::Builtin;
use crate::nas::design::Design;
use crate::report::{count, duration, error_margin};
use crate::statistics::{mean, standard_deviation};
use serde::Serialize;

/// Name of B's part of the experiment's directory.
const TO: &str = "to";

/// A network that was trained on B.
#[derive(Clone, Debug, Serialize)]
struct Row {
    /// Why.
    what: String,
    /// Name of the architecture, or of the built-in network.
    id: String,
    params: u64,
    macs: u64,
    /// One number for each seed, in percent.
    val_err: Vec<f64>,
    test_err: Vec<f64>,
    test_images: usize,
}

/// `smash-engine experiment transfer`.
///
/// # Errors
/// Usage errors; [`Error::Interrupted`] after saving; whatever searching and training report.
pub fn run(args: &TransferArgs, global: &GlobalArgs) -> Result<()> {
    if args.seeds == 0 {
        return Err(Error::config("--seeds", "0 leaves nothing to train"));
    }
    let builtin: Builtin = args.network.parse()?;
    let from = Study::prepare("transfer", args, &args.study, global)?;
    let to = from.on_images(TO, &args.to)?;
    design::check(&to.job, &Design::Builtin(builtin))?;
    if args.study.from.is_some() {
        from.found()?;
    }
    from.job.begin()?;
    to.job.enter()?;
    let designs = designs(&from, &to, builtin)?;
    let rows = train(&to, args, &designs)?;
    let drawing = |name: &str, design: &Design| match design {
        Design::Searched(arch) => Some(Figure::new(name, network::svg(arch, &to.job.shape))),
        Design::Builtin(_) => None,
    };
    let mut figures = vec![Figure::new("transfer", chart(names(&from, &to)[1], &rows))];
    // One picture where both searches found the same.
    let found = designs.iter().filter(|(what, _)| what.starts_with(FOUND)).map(|(_, design)| design);
    figures.extend(["found-there", "found-here"].iter().zip(found).filter_map(|(name, design)| drawing(name, design)));
    let report = report(&from, &to, args, &rows, &figures);
    let results = serde_json::json!({
        "experiment": "transfer", "seed": from.job.config.seed, "networks": rows,
        "from": { "data": from.job.config.data.source, "seconds": from.seconds() },
        "to": { "data": to.job.config.data.source, "seconds": to.seconds() },
    });
    let outcome = Outcome { figures, tables: vec![("transfer", csv(&rows))] };
    from.finish(global, &results, &report, &outcome)
}

/// How rows of what a search found begin.
const FOUND: &str = "found on";

/// What to train on B, and why: no network twice.
fn designs(from: &Study, to: &Study, builtin: Builtin) -> Result<Vec<(String, Design)>> {
    let there = from.best()?;
    let here = to.search()?;
    let [there_name, here_name] = names(from, to);
    let mut designs = vec![(format!("{FOUND} {there_name}"), Design::from(there.arch))];
    let mut random = 0;
    for (role, candidate) in choose(&here, to.job.config.retrain.rivals) {
        let what = match role {
            Role::Winner => format!("{FOUND} {here_name}"),
            Role::Rival => {
                random += 1;
                format!("random {random}, of similar cost")
            }
            Role::Largest | Role::Chosen => continue,
        };
        let design = Design::from(&candidate.arch);
        match designs.iter_mut().find(|(_, known)| *known == design) {
            Some((name, _)) => *name = format!("{name}; {what}"),
            None => designs.push((what, design)),
        }
    }
    designs.push((format!("built-in {builtin}"), Design::Builtin(builtin)));
    Ok(designs)
}

/// What to call A and B: two sets of one kind by where they lie.
fn names<'a>(from: &'a Study, to: &'a Study) -> [&'a str; 2] {
    let names = [from, to].map(|study| study.job.dataset.name.as_str());
    if names[0] != names[1] { names } else { [from, to].map(|study| study.job.config.data.source.as_str()) }
}

fn train(to: &Study, args: &TransferArgs, designs: &[(String, Design)]) -> Result<Vec<Row>> {
    let networks: Vec<Design> = designs.iter().map(|(_, design)| design.clone()).collect();
    let trained = to.trainings(&networks, args.seeds)?;
    Ok(designs.iter().zip(&trained).map(|((what, _), trained)| row(what, trained)).collect())
}

/// Trainings of one network with several seeds.
fn row(what: &str, trained: &[Trained]) -> Row {
    let first = &trained[0];
    Row {
        what: what.into(),
        id: first.id.clone(),
        params: first.params,
        macs: first.macs,
        val_err: trained.iter().filter_map(|t| t.val_err).collect(),
        test_err: trained.iter().map(|t| t.test_err).collect(),
        test_images: first.test_images,
    }
}

impl Row {
    /// Mean over the seeds, and half the 95 % interval that the test images leave it, and the seeds if there are several.
    fn error(&self) -> (f64, f64) {
        let error = mean(&self.test_err);
        let of_seeds =
            standard_deviation(&self.test_err).map_or(0.0, |s| 1.96 * s / (self.test_err.len() as f64).sqrt());
        (error, error_margin(error, self.test_images).hypot(of_seeds))
    }
}

/// The difference of two errors on the same images, and half its 95 % interval, taken as if the images were others:
/// too wide rather than too narrow.
fn difference(a: &Row, b: &Row) -> (f64, f64) {
    let ((a, margin_a), (b, margin_b)) = (a.error(), b.error());
    (a - b, margin_a.hypot(margin_b))
}

fn chart(to: &str, rows: &[Row]) -> String {
    let interval = |row: &Row| {
        let (value, margin) = row.error();
        let note = format!("{value:.2} % +- {margin:.2}, {} parameters", count(row.params));
        Interval { label: row.what.clone(), value, interval: Some([value - margin, value + margin]), note }
    };
    let title = format!("Error after training from scratch on {to}");
    let x = "test_err with its 95 % interval (%)".into();
    intervals(&Intervals { title, x, reference: None, rows: rows.iter().map(interval).collect() })
}

fn csv(rows: &[Row]) -> String {
    let numbers = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(";");
    let mut text = "network,id,params,macs,val_err,test_err,test_images\n".to_string();
    for row in rows {
        let (val_err, test_err) = (numbers(&row.val_err), numbers(&row.test_err));
        text += &format!(
            "\"{}\",{},{},{},{val_err},{test_err},{}\n",
            row.what, row.id, row.params, row.macs, row.test_images
        );
    }
    text
}

fn table(rows: &[Row]) -> String {
    let seeds = rows.iter().any(|row| row.test_err.len() > 1);
    let spread = if seeds { (" spread of seeds |", "---|") } else { ("", "") };
    let mut text = format!(
        "| network | name | parameters | MACs | val_err | test_err |{}\n|---|---|---|---|---|---|{}\n",
        spread.0, spread.1
    );
    for row in rows {
        let (error, margin) = row.error();
        let deviation = standard_deviation(&row.test_err).map_or(String::new(), |s| format!(" {s:.2} |"));
        text += &format!(
            "| {} | {} | {} | {} | {:.2} % | {error:.2} % +- {margin:.2} |{deviation}\n",
            row.what,
            row.id,
            count(row.params),
            count(row.macs),
            mean(&row.val_err)
        );
    }
    text
}

/// One sentence on each comparison with what was found on A.
fn verdict(rows: &[Row]) -> String {
    let Some((there, others)) = rows.split_first() else { return String::new() };
    let mut text = String::new();
    for other in others {
        let (difference, margin) = difference(there, other);
        let verdict = match difference {
            d if d.abs() <= margin => "no difference that can be told",
            d if d < 0.0 => "better",
            _ => "worse",
        };
        text += &format!(
            "- {} against {}: {difference:+.2} percentage points (+- {margin:.2}): {verdict}.\n",
            there.what, other.what
        );
    }
    text
}

fn report(from: &Study, to: &Study, args: &TransferArgs, rows: &[Row], figures: &[Figure]) -> String {
    let [there, here] = names(from, to);
    let captions = ["Test errors".into(), format!("Found on {there}"), format!("Found on {here}")];
    let pictures: Vec<String> =
        figures.iter().zip(&captions).map(|(figure, caption)| figure.markdown(caption)).collect();
    let seconds = from.seconds();
    let spent = |stage: &str| duration(seconds[stage].as_f64().unwrap_or(0.0));
    let interval = match args.seeds {
        1 => "of other test images; another seed differs too, and `--seeds` shows by how much",
        _ => "of other test images and other seeds",
    };
    format!(
        "# Is an architecture found on {there} good for {here}?\n\n{}{}\
         All networks were trained from scratch on {here} with {}, from the same images and crops (section 4.3 of the \
         paper), and evaluated on {} test images.\n\n{}\n{}\nAfter +-: half the 95 % interval {interval}.\n\n{}\n{}\n\
         On {there}: {} to train a SMASH network, {} to search. On {here}:\n\n{}",
        from.setting(),
        to.setting(),
        to.schedule(args.seeds),
        to.job.dataset.test.len(),
        pictures[0],
        table(rows),
        verdict(rows),
        pictures[1..].join("\n"),
        spent("smash"),
        spent("scores"),
        to.closing(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(what: &str, test_err: &[f64], test_images: usize) -> Row {
        let (what, id) = (what.into(), what.into());
        Row { what, id, params: 1, macs: 2, val_err: vec![1.0], test_err: test_err.to_vec(), test_images }
    }

    #[test]
    fn differences_are_called_so_only_outside_their_interval() {
        // At 10 % of 10,000 images half an interval is 0.588; of a difference of two such it is 0.85.
        let rows = [
            row("A", &[10.0], 10_000),
            row("B", &[10.8], 10_000),
            row("C", &[11.0, 11.2], 10_000),
            row("D", &[9.0], 10_000),
        ];
        let (error, margin) = rows[0].error();
        assert!(error == 10.0 && (margin - 0.588).abs() < 1e-9, "{margin}");
        let text = verdict(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "- A against B: -0.80 percentage points (+- 0.85): no difference that can be told.");
        assert_eq!(lines[1], "- A against C: -1.10 percentage points (+- 0.87): better.");
        assert_eq!(lines[2], "- A against D: +1.00 percentage points (+- 0.81): worse.");
        assert!(!table(&rows[..2]).contains("spread") && table(&rows).contains("| 11.10 % +- 0.65 | 0.14 |"));
    }
}
