//! `selftest` as a user starts it on the CPU.

use crate::cli::program;
use serde_json::Value;
use smash_engine::{nas, ops};
use std::collections::BTreeSet;

/// stdout, stderr and exit code; and the file it leaves.
fn selftest(args: &[&str]) -> (String, String, i32, Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["selftest", "--device", "cpu"], args].concat();
    let output = program(&args).current_dir(dir.path()).output().unwrap();
    let file = std::fs::read_to_string(dir.path().join("selftest.txt")).ok();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap(), file)
}

#[test]
fn every_check_of_every_op_passes_on_the_cpu() {
    let (stdout, stderr, code, file) = selftest(&["--quiet", "--json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let rows = json["checks"].as_array().unwrap();
    let checks = ops::checks().into_iter().chain(nas::checks::checks());
    let expected: BTreeSet<(String, String)> = checks.map(|check| (check.op.to_string(), check.name)).collect();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_string();
    let found: BTreeSet<_> = rows.iter().map(|row| (word(row, "op"), word(row, "check"))).collect();
    assert_eq!((found.len(), found), (rows.len(), expected), "each check has its row");
    for row in rows {
        assert!(row["failure"].is_null() && row["error_of_tolerance"].as_f64().unwrap() <= 1.0, "{row}");
    }
    assert_eq!(json["failed"], 0);
    let file = file.unwrap();
    for fact in ["processor", "kernels for gpus", "gradient of input 0", "checks passed"] {
        assert!(file.contains(fact), "{fact}: {file}");
    }
}

#[test]
fn one_op_may_be_asked_for() {
    let (stdout, stderr, code, file) = selftest(&["--only", "weightnorm", "--threads", "1", "--simd", "portable"]);
    assert_eq!(code, 0, "{stderr}");
    let rows = stdout.lines().filter(|row| row.starts_with("weightnorm")).count();
    let count = ops::weightnorm::checks::checks().len();
    assert_eq!(rows, count, "{stdout}");
    assert!(
        stdout.contains(&format!("\nall {count} checks passed"))
            && stdout.starts_with("device: cpu, 1 threads, portable"),
        "{stdout}"
    );
    assert!(stdout.lines().all(|row| !row.starts_with("add")), "{stdout}");
    assert!(stderr.contains(&format!("{count} checks")), "{stderr}");
    assert!(file.unwrap().ends_with(&stdout), "the file ends with what was printed");
}

#[test]
fn an_op_that_is_not_there_is_named() {
    let (stdout, stderr, code, file) = selftest(&["--only", "conv4d"]);
    assert_eq!((code, stdout.as_str(), file), (2, "", None));
    assert!(stderr.starts_with("smash-engine: --only: \"conv4d\" is none of activation, adam, "), "{stderr}");
}

#[test]
fn checks_may_be_chosen_by_a_part_of_their_names() {
    let (stdout, stderr, code, _) = selftest(&["--only", "conv2d:3x3"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\nconv2d  plain 3x3  ") && stdout.contains("\nall 1 checks passed"), "{stdout}");
    let (_, stderr, code, _) = selftest(&["--only", "linear:3x3"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("\"3x3\" is in none of \"multiplies and adds the bias"), "{stderr}");
}
