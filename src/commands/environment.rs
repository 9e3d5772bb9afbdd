//! `env.json`: engine, machine and command of the latest start of a run, and the command that began it.

use crate::cli::Cli;
use crate::commands::job::Job;
use crate::error::Result;
use crate::report::write_json;
use clap::CommandFactory;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Writes down where and how the run was started this time.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write(job: &Job) -> Result<()> {
    let before = read(job);
    let began = before.as_ref().map_or_else(|| json!(job.command), began_with);
    let mut record = json!({
        "engine": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "command": words(),
        "began_with": began,
    });
    if let (Some(record), Value::Object(device)) = (record.as_object_mut(), job.device.json()) {
        record.extend(device);
    }
    // Not a stop: whoever resumes elsewhere may have no other machine.
    if let Some(before) = before.filter(|old| ["device", "gpu", "simd", "tf32"].iter().any(|k| old[k] != record[k])) {
        let name = |env: &Value| ["device", "gpu", "simd"].map(|k| env[k].as_str().unwrap_or("").to_string()).join(" ");
        job.say(&format!("this run was last worked on by {}, which rounds differently", name(&before).trim()));
    }
    write_json(&job.path("env.json"), &record)
}

/// The command that began the run, as one types it; none where that is not known.
pub fn command(job: &Job) -> Option<String> {
    Some(began_with(&read(job)?).as_str()?.to_string())
}

/// The file as it is; what cannot be read is no result, and counts as nothing.
fn read(job: &Job) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(job.path("env.json")).ok()?).ok()
}

fn began_with(env: &Value) -> Value {
    env["began_with"].clone()
}

/// The command that this program was started with.
pub fn typed() -> String {
    typed_again(&words())
}

fn words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A command with the variables that add to it, quoted for a shell. It begins a run wherever it is typed: without
/// `--resume` and `--overwrite`.
fn typed_again(command: &[String]) -> String {
    let known = variables(&Cli::command());
    let set = known.iter().filter_map(|name| Some((name.to_string_lossy(), std::env::var_os(name)?)));
    let variables = set.map(|(name, value)| format!("{name}={}", quoted(&value.to_string_lossy())));
    let words = command.iter().skip(1).filter(|word| !["--resume", "--overwrite"].contains(&word.as_str()));
    let words = std::iter::once("smash-engine".to_string()).chain(words.map(|word| quoted(word)));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// The variables that stand for flags of a command and those below it.
fn variables(command: &clap::Command) -> BTreeSet<OsString> {
    let own = command.get_arguments().filter_map(|flag| flag.get_env()).map(OsString::from);
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// A word that a shell reads as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_words_as_they_are() {
        let words = ["", "a b", "it's", "$HOME", "plain-1.5/x", "two\nlines", "*", "ünï"];
        let script = format!("printf '%s|' {}", words.map(quoted).join(" "));
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words.map(|w| format!("{w}|")).concat());
        assert_eq!(quoted("plain-1.5/x"), "plain-1.5/x");
    }

    #[test]
    fn the_command_that_began_a_run_begins_another() {
        let words = ["/somewhere/smash-engine", "run", "--out", "a b", "--resume", "--overwrite", "--seed", "3"];
        let text = typed_again(&words.map(str::to_string));
        assert!(text.ends_with("smash-engine run --out 'a b' --seed 3"), "{text}");
    }
}
