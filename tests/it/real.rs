//! Files that others made: those of `tools/setup-real-data.sh`, where it has been run. CI runs it and
//! sets `SMASH_REQUIRE_REAL_DATA`; elsewhere these tests say that they had nothing to read.

use crate::cli::program;
use crate::parsers::{damaged, judge};
use smash_engine::parsers::{Parser, find};
use std::path::{Path, PathBuf};

/// A folder of real files, if there is one.
fn real(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".data/real").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("SMASH_REQUIRE_REAL_DATA").is_none(), "{} is missing", folder.display());
    eprintln!("skipped: no {}; tools/setup-real-data.sh gets it", folder.display());
    None
}

/// All files of a folder that `keep` wants, sorted by name.
fn files(folder: &Path, keep: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
    let mut files: Vec<_> = named.filter(|(name, _)| keep(name)).collect();
    files.sort();
    files
}

/// What `parser` says of each file, the file itself and some damaged copies of it being judged as in `parsers`.
fn verdicts(parser: &str, files: &[(String, Vec<u8>)]) -> Vec<(String, Option<String>)> {
    let parser: Parser = find(parser).unwrap();
    let mut verdicts = Vec::new();
    for (name, bytes) in files {
        let fault = |fault: String| -> Option<String> { panic!("{name}: {fault}") };
        verdicts.push((name.clone(), judge(&parser, bytes).unwrap_or_else(fault)));
        for copy in damaged(bytes, 10) {
            judge(&parser, &copy).unwrap_or_else(fault);
        }
    }
    verdicts
}

/// The names of the files that `parser` refuses.
fn refused(parser: &str, files: &[(String, Vec<u8>)]) -> Vec<String> {
    assert!(!files.is_empty());
    verdicts(parser, files).into_iter().filter_map(|(name, refusal)| refusal.map(|_| name)).collect()
}

#[test]
fn fashion_mnist_is_verified_and_trained_on() {
    let Some(folder) = real("fashion-mnist") else { return };
    let folder = folder.to_str().unwrap();
    let run = |args: &[&str], dir: &Path| {
        let output = program(args).current_dir(dir).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{args:?}: {stderr}");
        stdout
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["data", "verify", folder], dir.path()).matches("  ok  ").count(), 4);
    let stats = run(&["data", "stats", folder], dir.path());
    assert!(stats.starts_with("fashion-mnist: 10 classes"), "{stats}");
    assert_eq!(stats.matches("  6,000  1,000\n").count(), 10, "{stats}");
    run(&["train", "--data", folder, "--out", "run", "--max-steps", "2", "--batch", "4", "--quiet"], dir.path());
    let metrics = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() >= 2, "{metrics}");
}

#[test]
fn meshes_of_geomview_are_read_but_for_those_in_four_dimensions_and_a_list_of_objects() {
    let Some(folder) = real("off") else { return };
    let files = files(&folder, |_| true);
    assert!(files.len() > 20, "{} files", files.len());
    for (name, refusal) in verdicts("off", &files) {
        let text = &files.iter().find(|(other, _)| *other == name).unwrap().1;
        let first = text.split(|byte| byte.is_ascii_whitespace()).next().unwrap();
        match first {
            b"4OFF" => assert!(refusal.unwrap().contains("not three-dimensional"), "{name}"),
            b"appearance" => assert!(refusal.unwrap().contains("where the keyword OFF was expected"), "{name}"),
            _ => assert_eq!(refusal, None, "{name}"),
        }
    }
}

#[test]
fn pickled_arrays_of_animal_mnist_are_read() {
    let Some(folder) = real("pickle") else { return };
    assert_eq!(refused("pickle", &files(&folder, |_| true)), [""; 0]);
}

#[test]
fn arrays_and_pictures_of_scikit_image_are_read() {
    let (Some(numpy), Some(pictures)) = (real("numpy"), real("pictures")) else { return };
    assert_eq!(refused("npy", &files(&numpy, |name| name.ends_with(".npy"))), [""; 0]);
    assert_eq!(refused("npz", &files(&numpy, |name| name.ends_with(".npz"))), [""; 0]);
    assert_eq!(refused("picture", &files(&pictures, |_| true)), [""; 0]);
}
