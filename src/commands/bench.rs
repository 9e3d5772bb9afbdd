//! `bench`: measures, prints, saves, compares.
//!
//! What is measured and how is in [`crate::bench`]. A result that differs from f64 is exit code 1, a row that is
//! SLOWER than `--fail-on` allows exit code 4; both come after everything was printed and saved.

use super::device::{Chosen, choose};
use super::output::{print, print_json};
use crate::bench::compare::{Comparison, MINIMUM, compare};
use crate::bench::saved::{Content, Saved};
use crate::bench::table::Table;
use crate::bench::{Place, kernels, step};
use crate::cli::{BenchArgs, BenchCommand, BenchOutput, CompareArgs, Conv, Format, GlobalArgs, KernelsArgs, StepArgs};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;

/// Runs what was typed.
///
/// # Errors
/// As [`choose`], [`Saved::load`] and the measurements; [`Error::Run`] for wrong results, [`Error::Regression`] for
/// slow ones.
pub fn run(args: &BenchArgs, global: &GlobalArgs) -> Result<()> {
    match &args.command {
        BenchCommand::Kernels(args) => run_kernels(args, global),
        BenchCommand::Step(args) => run_step(args, global),
        BenchCommand::Compare(args) => run_compare(args, global),
    }
}

fn run_kernels(args: &KernelsArgs, global: &GlobalArgs) -> Result<()> {
    let device = choose(global)?;
    if args.list {
        return print(&kernels::list(args, device.kind())?);
    }
    let run = |place: &Place<'_>| kernels::run(args, place);
    let profile = |place: &Place<'_>| kernels::profile(args, place);
    measure(&device, global, &args.output, &run, &profile)
}

fn run_step(args: &StepArgs, global: &GlobalArgs) -> Result<()> {
    let conv = args.conv.unwrap_or(if global.tf32 { Conv::Fast } else { Conv::Exact });
    let run = |place: &Place<'_>| step::run(args, conv, place);
    let profile = |place: &Place<'_>| step::profile(args, conv, place);
    measure(&choose(global)?, global, &args.output, &run, &profile)
}

type Measure<'a> = dyn Fn(&Place<'_>) -> Result<Saved> + 'a;
type Profile<'a> = dyn Fn(&Place<'_>) -> Result<usize> + 'a;

fn measure(
    device: &Chosen,
    global: &GlobalArgs,
    output: &BenchOutput,
    run: &Measure<'_>,
    profile: &Profile<'_>,
) -> Result<()> {
    // What cannot be compared should be known before an hour of measuring.
    let baseline = output.baseline.as_deref().map(Saved::load).transpose()?;
    let say = |what: &str| {
        if !global.quiet {
            // Nobody may be reading it.
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    };
    say(&device.describe());
    let open = |len: usize| device.context(len, 1);
    let emulated = device.cuda().is_some_and(|gpu| gpu.is_emulator());
    let place = Place { kind: device.kind(), emulated, device: device.json(), open: &open, say: &say };
    if output.profile {
        let count = profile(&place)?;
        say(&format!("ran {count} of them once"));
        return Ok(());
    }
    let saved = run(&place)?;
    if let Some(name) = &output.save {
        let path = saved.save(name)?;
        say(&format!("saved as {}", path.display()));
    }
    let comparison = baseline.as_ref().map(|baseline| compare(baseline, &saved, MINIMUM));
    let format = format(output.format, global);
    match format {
        Format::Json => print_json(&with_comparison(saved.json()?, comparison.as_ref()))?,
        Format::Table => print(&text(&saved))?,
        _ => print(&rendered(&table(&saved), format))?,
    }
    match &saved.content {
        Content::Kernels(run) if !run.wrong().is_empty() => {
            let wrong = run.wrong();
            return Err(Error::Run(format!("{} results are WRONG: {}", wrong.len(), wrong.join("; "))));
        }
        _ => {}
    }
    match comparison {
        None => Ok(()),
        Some(comparison) => {
            if format != Format::Json {
                print("\n")?;
                print_comparison(&comparison, format, &say)?;
            }
            verdict(&comparison, output.fail_on)
        }
    }
}

fn run_compare(args: &CompareArgs, global: &GlobalArgs) -> Result<()> {
    let (a, b) = (Saved::load(&args.a)?, Saved::load(&args.b)?);
    if a.benchmark() != b.benchmark() {
        let message =
            format!("{} is a run of `bench {}`, {} one of `bench {}`", args.a, a.benchmark(), args.b, b.benchmark());
        return Err(Error::config("bench compare", message));
    }
    let comparison = compare(&a, &b, args.min_effect);
    let format = format(args.format, global);
    match format {
        Format::Json => print_json(&json!(comparison))?,
        _ => print_comparison(&comparison, format, &|what| {
            let _ = writeln!(std::io::stderr(), "{what}");
        })?,
    }
    verdict(&comparison, args.fail_on)
}

/// The form asked for; `--json` is one of them.
fn format(asked: Format, global: &GlobalArgs) -> Format {
    if global.json { Format::Json } else { asked }
}

fn rendered(table: &Table, format: Format) -> String {
    match format {
        Format::Csv => table.csv(),
        Format::Md => table.markdown(),
        _ => table.text(),
    }
}

fn table(saved: &Saved) -> Table {
    match &saved.content {
        Content::Kernels(run) => kernels::table(run),
        Content::Step(run) => step::table(run),
    }
}

/// The table, with what one has to know to read it.
fn text(saved: &Saved) -> String {
    let ceilings = &saved.ceilings;
    let mut text = format!(
        "measured limits: {:.1} GFLOP/s{}\n\n{}",
        ceilings.fma().unwrap_or(f64::NAN),
        ceilings.copy().map_or(String::new(), |copy| format!(", {copy:.1} GB/s")),
        table(saved).text()
    );
    if let Content::Step(run) = &saved.content {
        text += &format!("\n{}", step::summary(run));
    }
    text
}

fn with_comparison(mut value: Value, comparison: Option<&Comparison>) -> Value {
    if let (Some(fields), Some(comparison)) = (value.as_object_mut(), comparison) {
        fields.insert("comparison".into(), json!(comparison));
    }
    value
}

/// Warnings go to stderr, whatever the form: they are no data.
fn print_comparison(comparison: &Comparison, format: Format, say: &dyn Fn(&str)) -> Result<()> {
    for warning in &comparison.warnings {
        say(&format!("smash-engine: warning: {warning}"));
    }
    print(&rendered(&comparison.table(), format))?;
    match format {
        Format::Table => print(&format!("\n{}", comparison.summary())),
        _ => Ok(()),
    }
}

fn verdict(comparison: &Comparison, fail_on: Option<f64>) -> Result<()> {
    let Some(part) = fail_on else { return Ok(()) };
    let slower = comparison.slower_by(part);
    let Some(worst) = slower.iter().max_by(|a, b| a.effect.total_cmp(&b.effect)) else { return Ok(()) };
    Err(Error::Regression(format!(
        "{} of {} rows are slower by more than {} %, most of all {} by {:.1} %",
        slower.len(),
        comparison.rows.len(),
        100.0 * part,
        worst.row,
        100.0 * (worst.effect - 1.0)
    )))
}
