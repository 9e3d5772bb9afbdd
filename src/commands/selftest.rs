//! `selftest`: does every kernel compute on this device what it should?
//!
//! Runs the checks of all ops (those of `cargo test`), each twice: once in memory as a training
//! lays it out, once with guards around everything that kernels may write. Both must stay within
//! the tolerances and give the same bits. A short training follows, next to that of the CPU's plain
//! kernels. Everything goes to a file that says all about the machine: a bug report.

use super::device::{Chosen, choose};
use super::info::Info;
use super::output::print_result;
use crate::checkpoint::write_atomic;
use crate::cli::{GlobalArgs, SelftestArgs};
use crate::error::{Error, Result};
use crate::report::{Align, table};
use crate::testing::{Check, Lab, Measured, Variant};
use crate::{nas, ops};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;

/// Runs the checks.
///
/// # Errors
/// [`Error::Run`] when a check fails; as [`choose`]; [`Error::Io`] when the file cannot be written.
pub fn run(args: &SelftestArgs, global: &GlobalArgs) -> Result<()> {
    let device = choose(global)?;
    let checks = chosen_checks(args.only.as_deref())?;
    if !global.quiet {
        say(&format!("{}; {} checks", device.describe(), checks.len()));
    }
    let mut lab = Lab::new(device.context(0, 1)?);
    let mut lines = Vec::new();
    for check in &checks {
        for &variant in Variant::all(check.op, lab.kind()) {
            lab.choose(variant);
            if global.verbose {
                say(&format!("{}: {}", check.op, check.name));
            }
            lines.push(Line::of(check, &mut lab));
        }
    }
    let report = Report { device: &device, lines };
    let facts = Info::gather(device.clone())?.text();
    write_atomic(&args.out, format!("{facts}\n{}", report.text()).as_bytes())?;
    print_result(global, &report.json(), &report.text())?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Error::Run(format!(
            "{failed} of {} checks failed on this device; please report it with {}",
            report.lines.len(),
            args.out.display()
        ))),
    }
}

fn say(what: &str) {
    // Nobody may be reading it.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// All checks, or those of `OP` or `OP:TEXT`: of one op, with that text in their names.
fn chosen_checks(only: Option<&str>) -> Result<Vec<Check>> {
    let mut all: Vec<Check> = ops::checks().into_iter().chain(nas::checks::checks()).collect();
    let Some(only) = only else { return Ok(all) };
    let (op, text) = only.split_once(':').unwrap_or((only, ""));
    let names: BTreeSet<&str> = all.iter().map(|check| check.op).collect();
    if !names.contains(op) {
        let names: Vec<&str> = names.into_iter().collect();
        return Err(Error::config("--only", format!("{op:?} is none of {}", names.join(", "))));
    }
    all.retain(|check| check.op == op);
    let names: Vec<String> = all.iter().map(|check| format!("{:?}", check.name)).collect();
    all.retain(|check| check.name.contains(text));
    if all.is_empty() {
        return Err(Error::config("--only", format!("{text:?} is in none of {}", names.join(", "))));
    }
    Ok(all)
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Ok,
    /// And why.
    Failed(String),
}

/// A check in the report.
struct Line {
    op: &'static str,
    check: String,
    variant: &'static str,
    /// The comparison nearest to its tolerance, or furthest beyond it.
    what: String,
    /// Its error as a part of the tolerance.
    share: f64,
    verdict: Verdict,
}

impl Line {
    fn of(check: &Check, lab: &mut Lab) -> Self {
        let runs = [false, true].map(|guarded| {
            lab.guard(guarded);
            check.run(lab)
        });
        let (what, share, verdict) = judge(runs);
        Self { op: check.op, check: check.name.clone(), variant: lab.variant().name(), what, share, verdict }
    }
}

/// The worst comparison of two runs, its error as a part of the tolerance, and what follows.
fn judge([plain, guarded]: [Result<Measured>; 2]) -> (String, f64, Verdict) {
    let failed = |what: String, share, why: &str| (what, share, Verdict::Failed(why.into()));
    let (plain, guarded) = match (plain, guarded) {
        (Ok(plain), Ok(guarded)) => (plain, guarded),
        (Err(error), _) | (_, Err(error)) => return failed("nothing".into(), f64::INFINITY, &error.to_string()),
    };
    let rows = [plain.worst(), guarded.worst()];
    let Some(worst) = rows.into_iter().flatten().max_by(|a, b| a.share().total_cmp(&b.share())) else {
        return failed("nothing".into(), f64::INFINITY, "nothing was compared");
    };
    let (what, share) = (worst.what.clone(), worst.share());
    if !worst.ok() {
        let why = format!("the error is {:.2e}, the tolerance {:.2e}", worst.error, worst.tolerance);
        return failed(what, share, &why);
    }
    if plain.bits != guarded.bits {
        return failed(what, share, "two runs give different bits");
    }
    (what, share, Verdict::Ok)
}

/// All lines.
struct Report<'a> {
    device: &'a Chosen,
    lines: Vec<Line>,
}

impl Report<'_> {
    fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict != Verdict::Ok).count()
    }

    fn text(&self) -> String {
        let head =
            ["op", "check", "kernel", "compared (worst)", "error, % of tolerance", "verdict"].map(str::to_string);
        let rows: Vec<[String; 6]> = [head].into_iter().chain(self.lines.iter().map(Line::cells)).collect();
        let aligns = [Align::Left, Align::Left, Align::Left, Align::Left, Align::Right, Align::Left];
        let verdict = match self.failed() {
            0 => format!("all {} checks passed", self.lines.len()),
            failed => format!("{failed} of {} checks FAILED", self.lines.len()),
        };
        format!(
            "{}\n{}{verdict}; each ran twice, with equal bits unless it says otherwise\n",
            self.device.describe(),
            table(&aligns, &rows)
        )
    }

    fn json(&self) -> Value {
        let lines: Vec<Value> = self.lines.iter().map(Line::json).collect();
        json!({ "device": self.device.json(), "checks": lines, "failed": self.failed() })
    }
}

impl Line {
    fn cells(&self) -> [String; 6] {
        let verdict = match &self.verdict {
            Verdict::Ok => "ok".into(),
            Verdict::Failed(why) => format!("FAILED: {why}"),
        };
        let share = format!("{:.1}", 100.0 * self.share);
        [self.op.into(), self.check.clone(), self.variant.into(), self.what.clone(), share, verdict]
    }

    fn json(&self) -> Value {
        let failure = match &self.verdict {
            Verdict::Ok => None,
            Verdict::Failed(why) => Some(why),
        };
        // JSON has no infinity: what cannot be compared has no share.
        let share = self.share.is_finite().then_some(self.share);
        json!({
            "op": self.op,
            "check": self.check,
            "kernel": self.variant,
            "compared": self.what,
            "error_of_tolerance": share,
            "failure": failure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Context, Cpu};

    fn line(check: impl Fn(&Lab, &mut Measured) -> Result<()> + 'static) -> Line {
        let check = &Check::named("add", "some_check", vec![Check::new(check)])[0];
        Line::of(check, &mut Lab::new(Context::cpu(Cpu::new(1), 0).unwrap()))
    }

    fn report(lines: Vec<Line>) -> (usize, String, Value) {
        let cli: crate::cli::Cli = clap::Parser::parse_from(["smash-engine", "--device", "cpu"]);
        let device = choose(&cli.global).unwrap();
        let report = Report { device: &device, lines };
        (report.failed(), report.text(), report.json())
    }

    #[test]
    fn whatever_is_wrong_fails_and_is_told() {
        let right = line(|_, measured| {
            measured.close("sum", &[1.0], &[1.0 + 1e-7], 1);
            Ok(())
        });
        let off = line(|_, measured| {
            measured.close("sum", &[1.0], &[1.0], 1);
            measured.close("product", &[1.0], &[1.1], 1);
            Ok(())
        });
        let nan = line(|_, measured| {
            measured.close("sum", &[f32::NAN], &[1.0], 1);
            Ok(())
        });
        let empty = line(|_, _| Ok(()));
        let error = line(|_, _| Err(Error::Run("a fault".into())));
        let times = std::cell::Cell::new(0.0);
        let drifting = line(move |_, measured| {
            times.set(times.get() + 1e-7);
            measured.close("sum", &[1.0 + times.get() as f32], &[1.0], 1);
            Ok(())
        });
        let beside = line(|lab, measured| {
            measured.exact("sum", &[1.0], &[1.0]);
            lab.run(1024, |context| {
                let span = context.alloc(20)?;
                context.fill(crate::backend::Span { len: 21, ..span }, 0.0)
            })
        });
        assert_eq!(right.verdict, Verdict::Ok);
        let (failed, text, json) = report(vec![right, off, nan, empty, error, drifting, beside]);
        assert_eq!((failed, &json["failed"]), (6, &json!(6)));
        let rows: Vec<&str> = text.lines().filter(|row| row.starts_with("add")).collect();
        let told = ["product", "NaN", "nothing was compared", "a fault", "different bits", "beside the operands"];
        for (row, told) in rows[1..].iter().zip(told) {
            assert!(row.contains("FAILED") && row.contains(told), "{row}");
        }
        assert!(rows[0].ends_with("ok"), "{text}");
        assert!(text.contains("6 of 7 checks FAILED"), "{text}");
        assert_eq!(report(Vec::new()).0, 0);
    }
}
