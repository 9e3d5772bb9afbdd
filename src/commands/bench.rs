//! `bench`: measures, prints, saves, compares.
//!
//! What is measured and how is in [`crate::bench`]. A result that differs from f64 is exit code 1, a row that is
//! SLOWER than `--fail-on` allows exit code 4; both come after everything was printed and saved.

use super::device::{Chosen, choose};
use super::output::{print, print_json};
use crate::backend::Kind;
use crate::bench::compare::{Comparison, FEWEST, MINIMUM, compare};
use crate::bench::saved::{Content, Saved, place};
use crate::bench::table::Table;
use crate::bench::{Place, kernels, step};
use crate::cli::{BenchArgs, BenchCommand, BenchOutput, CompareArgs, Conv, Format, GlobalArgs, KernelsArgs, StepArgs};
use crate::error::{Error, Result};
use crate::machine::free_memory;
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
        let rows = kernels::list(args, device.kind())?;
        return match format(args.output.format, global) {
            Format::Json => print_json(&json!(rows)),
            _ => print(&rows.iter().map(kernels::Listed::line).collect::<String>()),
        };
    }
    measure(&Benchmark {
        name: "kernels",
        rounds: args.rounds,
        output: &args.output,
        global,
        device,
        run: &|place| kernels::run(args, place),
        profile: &|place| kernels::profile(args, place),
    })
}

fn run_step(args: &StepArgs, global: &GlobalArgs) -> Result<()> {
    let conv = args.conv.unwrap_or(if global.tf32 { Conv::Fast } else { Conv::Exact });
    measure(&Benchmark {
        name: "step",
        rounds: args.rounds,
        output: &args.output,
        global,
        device: choose(global)?,
        run: &|place| step::run(args, conv, place),
        profile: &|place| step::profile(args, conv, place),
    })
}

/// What is to be measured, and what becomes of it.
struct Benchmark<'a> {
    name: &'static str,
    rounds: usize,
    output: &'a BenchOutput,
    global: &'a GlobalArgs,
    device: Chosen,
    run: &'a dyn Fn(&Place<'_>) -> Result<Saved>,
    profile: &'a dyn Fn(&Place<'_>) -> Result<usize>,
}

fn measure(benchmark: &Benchmark<'_>) -> Result<()> {
    let Benchmark { output, global, device, .. } = benchmark;
    let baseline = prepare(benchmark)?;
    let say = |what: &str| {
        if !global.quiet {
            // Nobody may be reading it.
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    };
    say(&device.describe());
    let opens = |len: usize| device.context(len, 1);
    let (kind, emulated) = (device.kind(), device.cuda().is_some_and(|gpu| gpu.is_emulator()));
    // A GPU refuses what it does not have.
    let free = if kind == Kind::Cpu { free_memory() } else { None };
    let place = Place { kind, emulated, device: device.json(), opens: &opens, free, say: &say };
    if output.profile {
        let count = (benchmark.profile)(&place)?;
        say(&format!("ran {count} of them once"));
        return Ok(());
    }
    let saved = (benchmark.run)(&place)?;
    // Whether it can be saved or not: its results are printed.
    let kept = output.save.as_deref().map(|name| saved.save(name));
    for disturbed in saved.ceilings.disturbed() {
        say(&format!("smash-engine: warning: {disturbed}"));
    }
    let minimum = output.fail_on.map_or(MINIMUM, |part| part.min(MINIMUM));
    let comparison = baseline.as_ref().map(|baseline| compare(baseline, &saved, minimum));
    print_results(&saved, comparison.as_ref(), format(output.format, global))?;
    if let Some(path) = kept.transpose()? {
        say(&format!("saved as {}", path.display()));
    }
    match &saved.content {
        Content::Kernels(run) if !run.wrong().is_empty() => {
            let wrong = run.wrong();
            return Err(Error::Run(format!("{} results are WRONG: {}", wrong.len(), wrong.join("; "))));
        }
        _ => {}
    }
    match (comparison, &output.baseline) {
        (Some(comparison), Some(name)) => {
            has_rows(&comparison, name)?;
            verdict(&comparison, output.fail_on)
        }
        _ => Ok(()),
    }
}

/// The run to compare with. Whatever would make the measurements useless should be known before an hour of them.
fn prepare(benchmark: &Benchmark<'_>) -> Result<Option<Saved>> {
    let Benchmark { output, rounds, name, .. } = benchmark;
    if output.fail_on.is_some() && *rounds < FEWEST {
        let message = format!("nothing can be said about {rounds} samples; take --rounds {FEWEST} or more");
        return Err(Error::config("--fail-on", message));
    }
    let baseline = output.baseline.as_deref().map(|name| Ok::<_, Error>((name, Saved::load(name)?))).transpose()?;
    if let Some((path, baseline)) = &baseline
        && baseline.benchmark() != *name
    {
        let message = format!("is a run of `bench {}`, this is `bench {name}`", baseline.benchmark());
        return Err(Error::data(place(path), message));
    }
    if let Some(name) = &output.save {
        Saved::probe(name)?;
    }
    Ok(baseline.map(|(_, baseline)| baseline))
}

/// CSV is one table: that of the comparison if there is one.
fn print_results(saved: &Saved, comparison: Option<&Comparison>, format: Format) -> Result<()> {
    match (format, comparison) {
        (Format::Json, _) => print_json(&with_comparison(saved.json()?, comparison))?,
        (Format::Csv, Some(_)) => {}
        (Format::Table, _) => print(&text(saved))?,
        _ => print(&rendered(&table(saved), format))?,
    }
    let Some(comparison) = comparison else { return Ok(()) };
    if matches!(format, Format::Table | Format::Md) {
        print("\n")?;
    }
    warn_of(comparison);
    if format == Format::Json { Ok(()) } else { print_comparison(comparison, format) }
}

fn run_compare(args: &CompareArgs, global: &GlobalArgs) -> Result<()> {
    let (a, b) = (Saved::load(&args.a)?, Saved::load(&args.b)?);
    if a.benchmark() != b.benchmark() {
        let message = format!("is a run of `bench {}`, and {} one of `bench {}`", b.benchmark(), args.a, a.benchmark());
        return Err(Error::data(place(&args.b), message));
    }
    let minimum = args.fail_on.map_or(args.min_effect, |part| part.min(args.min_effect));
    let comparison = compare(&a, &b, minimum);
    has_rows(&comparison, &args.b)?;
    warn_of(&comparison);
    match format(args.format, global) {
        Format::Json => print_json(&json!(comparison))?,
        format => print_comparison(&comparison, format)?,
    }
    verdict(&comparison, args.fail_on)
}

/// Was anything compared with the run `name`?
fn has_rows(comparison: &Comparison, name: &str) -> Result<()> {
    match comparison.rows.is_empty() {
        true => Err(Error::data(place(name), "has no row in common with the other run")),
        false => Ok(()),
    }
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
    let mut text = format!("measured limits: {}\n\n{}", ceilings.describe(), table(saved).text());
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

/// Warnings go to stderr, whatever the form: they are no data. They are no progress either: -q does not silence them.
fn warn_of(comparison: &Comparison) {
    for warning in &comparison.warnings {
        let _ = writeln!(std::io::stderr(), "smash-engine: warning: {warning}");
    }
}

fn print_comparison(comparison: &Comparison, format: Format) -> Result<()> {
    print(&rendered(&comparison.table(), format))?;
    match format {
        Format::Table => print(&format!("\n{}", comparison.summary())),
        _ => Ok(()),
    }
}

/// Fails when rows are too slow, or compute something wrong: then their times mean nothing.
fn verdict(comparison: &Comparison, fail_on: Option<f64>) -> Result<()> {
    let Some(part) = fail_on else { return Ok(()) };
    let slower = comparison.slower_by(part);
    let mut reasons = Vec::new();
    if let Some(worst) = slower.iter().max_by(|a, b| a.effect.total_cmp(&b.effect)) {
        reasons.push(format!(
            "{} of {} rows are slower by more than {} %, most of all {} by {:.1} %",
            slower.len(),
            comparison.rows.len(),
            100.0 * part,
            worst.row,
            100.0 * (worst.effect - 1.0)
        ));
    }
    if !comparison.wrong.is_empty() {
        reasons.push(format!("results are WRONG: {}", comparison.wrong.join("; ")));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Error::Regression(reasons.join(", and "))) }
}
