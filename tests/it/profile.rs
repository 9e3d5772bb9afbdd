//! What a profiler is told: ranges, counted by tests/support/nvtx_counter.cpp.

use crate::scene::{Scene, assert_alike, complaint, lines, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Steps of SMASH training.
const STEPS: u64 = 3;

/// Architectures scored by the search.
const SCORED: u64 = 4;

/// Epochs and steps of each training from scratch, on 240 images.
const RETRAIN_EPOCHS: u64 = 2;
const RETRAIN_STEPS: u64 = 24 * RETRAIN_EPOCHS;

/// A short run of all three stages.
fn short_run() -> String {
    format!(
        "run --config settings.toml --out run --max-steps {STEPS} --random {SCORED} --perturb 0 --markov 0 \
         --retrain-epochs {RETRAIN_EPOCHS} --rivals 1"
    )
}

/// The counting library, built once.
fn counter() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/nvtx_counter.cpp");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libnvtx_counter.so");
        let flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"];
        let built = Command::new("g++").args(flags).arg(&library).arg(source).status().expect("this test needs g++");
        assert!(built.success());
        library
    })
}

/// What the counting library wrote.
#[derive(Default)]
struct Counts {
    /// Times of each `PARENT/NAME`, with its category.
    ranges: BTreeMap<String, (u64, u64)>,
    payloads: BTreeMap<String, Vec<u64>>,
    /// The other lines.
    rest: Vec<String>,
}

impl Counts {
    fn read(path: &Path) -> Self {
        let mut counts = Self::default();
        for line in text(&std::fs::read(path).unwrap()).lines() {
            let (kind, rest) = line.split_once(' ').unwrap();
            let words: Vec<&str> = rest.split(' ').collect();
            let number = |word: &str| word.parse::<u64>().unwrap();
            match kind {
                "range" => {
                    counts.ranges.insert(words[0].to_string(), (number(words[1]), number(words[2])));
                }
                "payload" => {
                    let values = words[1..].iter().map(|word| number(word)).collect();
                    counts.payloads.insert(words[0].to_string(), values);
                }
                _ => counts.rest.push(line.to_string()),
            }
        }
        counts
    }

    /// How often the range `path` (`PARENT/NAME`) was there.
    fn of(&self, path: &str) -> u64 {
        self.ranges.get(path).map_or(0, |&(_, count)| count)
    }

    /// How often `name` was there, within whatever.
    fn total(&self, name: &str) -> u64 {
        self.ranges.keys().filter(|path| path.ends_with(&format!("/{name}"))).map(|path| self.of(path)).sum()
    }
}

fn profiled(scene: &Scene, line: &str) -> Counts {
    let file = scene.path("counts");
    let output =
        scene.command(&format!("{line} -q")).env("NVTX_INJECTION64_PATH", counter()).env("NVTX_COUNTS", &file).output();
    let output = output.unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    Counts::read(&file)
}

/// Numbers of architecture ids.
fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| u64::from_str_radix(line["id"].as_str().unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_profiler_sees_every_step_phase_and_op_and_changes_nothing() {
    let scene = Scene::new();
    let counts = profiled(&scene, &short_run());
    let plain = Scene::new();
    plain.stdout(&short_run());
    let files = scene.files("run");
    assert_alike(&files, &plain.files("run"));

    assert_ranges_nest(&counts);
    let results: Value = serde_json::from_slice(&files["results.json"]).unwrap();
    let trained = numbers(results["networks"].as_array().unwrap());
    let networks = trained.len() as u64;
    let steps = STEPS + RETRAIN_STEPS * networks;
    // 240 training images, 60 to validate, 100 to test; in batches of 30 where nothing is learned.
    let validated = 2;
    let evaluated = ((RETRAIN_EPOCHS + 1) * validated + 4) * networks;
    // The export evaluates the winner again, writes one pass down, and times some.
    let evaluated = evaluated + validated + 4;
    let (exports, timed) = (1, counts.of("-/latency"));
    for (path, expected) in [
        ("-/epoch", 1 + RETRAIN_EPOCHS * networks),
        ("epoch/step", steps),
        ("step/zero", steps),
        ("step/gather", steps),
        ("gather/batch_gather_forward", steps + validated * (1 + SCORED) + evaluated),
        ("step/forward", steps),
        ("forward/hypernet", STEPS),
        ("forward/block", 3 * (steps + validated * (1 + SCORED) + evaluated)),
        ("step/loss", steps),
        ("loss/cross_entropy_forward", steps + validated * (1 + SCORED) + evaluated),
        ("step/backward", steps),
        ("backward/cross_entropy_backward", steps),
        ("backward/linear_backward", steps),
        ("step/update", steps),
        ("epoch/wait", steps),
        ("update/adam_update", STEPS),
        ("update/sgd_update", RETRAIN_STEPS * networks),
        // SMASH validation takes another architecture for each batch.
        ("epoch/score", validated),
        ("-/score", SCORED),
        ("score/hypernet", validated + SCORED),
        ("epoch/evaluate", RETRAIN_EPOCHS * networks),
        ("-/evaluate", 2 * networks + 2),
        ("-/export", exports),
        ("export/block", 3 * exports),
        ("latency/block", 3 * timed),
        ("score/gather", validated * (1 + SCORED)),
        ("score/forward", validated * (1 + SCORED)),
        ("evaluate/forward", evaluated),
        ("evaluate/loss", evaluated),
    ] {
        assert_eq!(counts.of(path), expected, "{path}");
    }
    assert!(timed >= 2, "one pass at least of each batch size");
    assert_eq!(counts.total("linear_forward"), steps + validated * (1 + SCORED) + evaluated + exports + timed);

    let step_ids = &counts.payloads["step"];
    let drawn = &step_ids[..STEPS as usize];
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2], "a new architecture every step: {drawn:?}");
    assert_eq!(counts.payloads["hypernet"][..STEPS as usize], *drawn);
    let repeated = |times: u64| trained.iter().flat_map(|&id| vec![id; times as usize]).collect::<Vec<_>>();
    assert_eq!(step_ids[STEPS as usize..], repeated(RETRAIN_STEPS));
    assert_eq!(counts.payloads["score"][validated as usize..], numbers(&lines(&files["archs.jsonl"])));
    assert_eq!(counts.payloads["evaluate"], [repeated(RETRAIN_EPOCHS + 2), vec![trained[0]; 2]].concat());
    assert_eq!(counts.payloads["epoch"], [vec![1], [1, 2].repeat(trained.len())].concat());
    assert_eq!(counts.payloads["block"][..6], [0, 1, 2, 0, 1, 2]);
}

/// Every push has its pop, categories have names, and ops lie within a phase, block or evaluation: those of dry runs
/// are not shown.
fn assert_ranges_nest(counts: &Counts) {
    let all: u64 = counts.ranges.values().map(|&(_, count)| count).sum();
    let expected =
        ["domain smash-engine", "category 1 epoch", "category 2 step", "category 3 phase", "category 4 block"];
    let expected = expected.map(str::to_string).into_iter().chain(["category 5 op".to_string()]);
    let balance = [format!("pops {all}"), "stray 0".to_string(), "open 0".to_string()];
    assert_eq!(counts.rest, expected.chain(balance).collect::<Vec<_>>());
    for (path, &(category, _)) in &counts.ranges {
        let (parent, name) = path.split_once('/').unwrap();
        let parents: &[&str] = match name {
            "epoch" => &["-"],
            "step" => &["epoch"],
            "score" | "evaluate" => &["-", "epoch"],
            "export" | "latency" => &["-"],
            "gather" | "forward" | "loss" => &["step", "score", "evaluate"],
            "zero" | "backward" | "update" => &["step"],
            "wait" => &["epoch"],
            "hypernet" => &["forward", "score"],
            "block" => &["forward", "export", "latency"],
            op if op.ends_with("_backward") => &["backward"],
            op if op.ends_with("_update") => &["update"],
            _ => &["gather", "forward", "hypernet", "block", "loss", "export", "latency"],
        };
        assert!(parents.contains(&parent), "{path}");
        let kind = match name {
            "epoch" => 1,
            "step" | "score" | "evaluate" | "export" | "latency" => 2,
            "block" => 4,
            name if name.contains('_') => 5,
            _ => 3,
        };
        assert_eq!(category, kind, "{path}");
    }
}

#[test]
fn without_a_profiler_that_works_the_run_goes_on_with_one_warning() {
    let plain = Scene::new();
    let train = "train --config settings.toml --out run --max-steps 3";
    plain.stdout(train);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    for (library, part) in [
        ("missing.so", "missing.so"),
        (readme, "README.md"),
        ("libm.so.6", "InitializeInjectionNvtx2"),
        // NVTX_COUNTS is not set.
        (counter().to_str().unwrap(), "libnvtx_counter.so refuses to profile"),
    ] {
        let scene = Scene::new();
        let output = scene.command(&format!("{train} -q")).env("NVTX_INJECTION64_PATH", library).output().unwrap();
        let warning = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{warning}");
        assert_eq!(warning.lines().count(), 1, "{library}: {warning}");
        let (start, end) = ("smash-engine: NVTX_INJECTION64_PATH: ", "; going on without a profiler\n");
        assert!(warning.starts_with(start) && warning.ends_with(end), "{warning}");
        assert!(warning.contains(part), "{warning}");
        assert_eq!(scene.files("run")["metrics.jsonl"], plain.files("run")["metrics.jsonl"]);
    }
}

#[test]
fn steps_to_profile_are_refused_where_nothing_could_record_them() {
    let scene = Scene::new();
    for command in ["run", "train", "retrain"] {
        let line = format!("{command} --config settings.toml --out run --profile-steps");
        let message = scene.complaint(&format!("{line} 2:4 --device cpu"), 2);
        assert!(message.contains("--profile-steps") && message.contains("--device cuda:N"), "{message}");
        let message = scene.complaint(&format!("{line} 4:2"), 2);
        assert!(message.contains("\"4:2\" is not A:B") && message.contains("such as 10:20"), "{message}");
    }
    let message = complaint(&scene.output("search --out run --profile-steps 2:4 -q"), 2);
    assert!(message.contains("search trains nothing"), "{message}");
    assert!(!scene.path("run").exists());
}
