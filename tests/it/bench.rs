//! `bench`: what it measures, prints, saves and compares.

use crate::scene::{Scene, complaint, text};
use serde_json::{Value, json};
use std::process::Output;

/// Rows of the smallest kind.
pub const QUICK: &str = "bench kernels --quick --device cpu --threads 1";
/// The passes of a convolution, and of one op that only moves memory.
pub const FEW: &str = "-k *64->64*g4*";

pub const STEP: &str = "bench step --preset small --device cpu --threads 2 --count 2 --batch 4 --size 8 --score 1";

fn saved(scene: &Scene, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(scene.path(name)).unwrap()).unwrap()
}

/// Saves a run as `bench/a.json`, and what becomes of it under another name.
pub fn with_other(scene: &Scene, name: &str, change: impl Fn(&mut Value)) {
    if !scene.path("bench/a.json").exists() {
        scene.stdout(&format!("{QUICK} {FEW} --rounds 7 --save a"));
    }
    let mut run = saved(scene, "bench/a.json");
    change(&mut run);
    std::fs::write(scene.path(&format!("bench/{name}.json")), run.to_string()).unwrap();
}

/// Gives every row the samples that `sample` makes of a number of the round.
pub fn set_samples(run: &mut Value, sample: impl Fn(usize) -> f64) {
    for case in run["cases"].as_array_mut().unwrap() {
        case["samples_ms"] = (0..11).map(&sample).collect();
    }
    // The machine was as fast as ever.
    run["ceilings"] = json!({ "fma_gflops": [100.0, 100.0], "copy_gbytes": [10.0, 10.0] });
}

/// Times near 1 ms, all different.
pub fn steady(round: usize) -> f64 {
    1.0 + 0.001 * (round * 7 % 11) as f64
}

pub fn verdicts(comparison: &Value) -> Vec<&str> {
    comparison["rows"].as_array().unwrap().iter().map(|row| row["verdict"].as_str().unwrap()).collect()
}

pub fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// Rows of CSV, fields in quotes taken out of them.
fn csv(text: &str) -> Vec<Vec<String>> {
    let fields = |line: &str| {
        let (mut fields, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                _ => fields.last_mut().unwrap().push(c),
            }
        }
        fields
    };
    text.lines().map(fields).collect()
}

#[test]
fn every_op_and_pass_is_listed_and_a_pattern_chooses_among_them() {
    let scene = Scene::new();
    let all = scene.stdout("bench kernels --list --device cpu");
    for row in [
        "conv2d forward 64->64 3x3 d(1,1) g1 32x32 n50",
        "conv2d backward_weight 64->64 5x7 d(2,1) g4 16x16 n50",
        "conv2d backward_data 151->10 3x3 d(1,1) g1 8x400 n1",
        "pointwise backward_weight 4x32->64 32x32 n50",
        "adam update 4194304 parameters",
    ] {
        assert_eq!(all.lines().filter(|line| *line == row).count(), 1, "{row} in\n{all}");
    }
    let lines = all.lines().count();
    let backward = scene.stdout("bench kernels --list --device cpu -k conv2d*backward*");
    assert!(backward.lines().all(|line| line.starts_with("conv2d backward_")), "{backward}");
    let expected = all.lines().filter(|line| line.starts_with("conv2d backward_")).count();
    assert_eq!(backward.lines().count(), expected);
    assert!(expected > 20 && lines > 2 * expected, "{expected} of {lines}");
    let other = scene.stdout("bench kernels --list --device cpu --seed 2");
    assert!(other != all && other.lines().next() == all.lines().next(), "other architectures, the same fixed shapes");
    let message = scene.complaint("bench kernels --list --device cpu -k conv*sideways", 2);
    assert!(message.contains("no \"op pass shape\" matches \"conv*sideways\""), "{message}");
}

#[test]
fn every_row_is_right_and_says_what_bounds_it() {
    let run = Scene::new().json(&format!("{QUICK} --rounds 1"));
    let cases = run["cases"].as_array().unwrap();
    assert_eq!((&run["benchmark"], run["ceilings"]["fma_gflops"].as_array().unwrap().len()), (&json!("kernels"), 2));
    for case in cases {
        assert_eq!(case["verdict"], "ok", "{case}");
        assert!(case["error"].as_f64().unwrap() <= case["tolerance"].as_f64().unwrap(), "{case}");
        let [ms, flop, bytes] = ["median_ms", "flop", "bytes"].map(|key| case[key].as_f64().unwrap());
        assert!(ms > 0.0 && bytes > 0.0, "{case}");
        let rate = |key: &str, work: f64| {
            assert!((case[key].as_f64().unwrap() / (work / ms / 1e6) - 1.0).abs() < 1e-9 || work == 0.0)
        };
        rate("gflops", flop);
        rate("gbytes", bytes);
        assert!(["compute", "memory"].contains(&case["bound"].as_str().unwrap()), "{case}");
    }
    // Half of the taps of a 7x7 filter on a picture of 4x4 see it.
    let inside = |case: &&Value| case["shape"].as_str().unwrap().starts_with("64->64 7x7 d(1,1) g1 4x4 n3");
    let case = cases.iter().find(inside).unwrap();
    let share = case["flop_inside"].as_f64().unwrap() / case["flop"].as_f64().unwrap();
    assert_eq!(share, (16.0f64 / 28.0).powi(2));
}

#[test]
fn shapes_come_from_a_file_and_one_that_is_none_is_refused() {
    let scene = Scene::new();
    let shapes = r#"[{"op": "conv2d", "c": 4, "k": 6, "kernel": [3, 5], "groups": 2, "size": [5, 7], "n": 3},
        {"op": "linear", "c": 9, "k": 4, "n": 5}, {"op": "linear", "c": 9, "k": 4, "n": 5}]"#;
    std::fs::write(scene.path("shapes.json"), shapes).unwrap();
    let run = scene.json("bench kernels --device cpu --rounds 2 --shapes shapes.json");
    let name = |case: &Value| format!("{} {}", case["pass"].as_str().unwrap(), case["shape"].as_str().unwrap());
    let names: Vec<String> = run["cases"].as_array().unwrap().iter().map(name).collect();
    let conv = "4->6 3x5 d(1,1) g2 5x7 n3";
    let convs = ["forward", "backward_data", "backward_weight"].map(|pass| format!("{pass} {conv}"));
    let linear = ["forward 9->4 n5", "backward 9->4 n5", "forward 9->4 n5 (2)", "backward 9->4 n5 (2)"];
    assert_eq!(names[..3], convs);
    assert_eq!(names[3..], linear);
    for (text, reason) in [
        ("[{\"op\": \"conv2d\"}]", "missing field"),
        ("{", "is not a list of shapes"),
        ("[{\"op\": \"add\", \"c\": 1, \"size\": [0, 1], \"n\": 1}]", "no extent may be 0"),
    ] {
        std::fs::write(scene.path("shapes.json"), text).unwrap();
        let message = scene.complaint("bench kernels --device cpu --shapes shapes.json", 3);
        assert!(message.contains("shapes.json: ") && message.contains(reason), "{message}");
    }
    let message = scene.complaint("bench kernels --device cpu --shapes spaces", 3);
    assert!(message.contains("spaces: there is no such file"), "{message}");
}

#[test]
fn the_same_rows_come_as_table_json_csv_and_markdown() {
    let scene = Scene::new();
    let run = |format: &str| scene.stdout(&format!("{QUICK} {FEW} --rounds 1 --format {format}"));
    let table = run("table");
    assert!(table.starts_with("measured limits: ") && table.contains("conv2d  forward"), "{table}");
    let value: Value = serde_json::from_str(&run("json")).unwrap();
    let names: Vec<&str> = value["cases"].as_array().unwrap().iter().map(|c| c["shape"].as_str().unwrap()).collect();
    assert_eq!(names, ["64->64 5x7 d(2,1) g4 2x2 n3"; 3]);
    let rows = csv(&run("csv"));
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
    let shape = rows[0].iter().position(|name| name == "shape").unwrap();
    assert_eq!(rows[1..].iter().map(|row| row[shape].as_str()).collect::<Vec<_>>(), names);
    let median = rows[0].iter().position(|name| name == "median ms").unwrap();
    assert!(rows[1..].iter().all(|row| row[median].parse::<f64>().unwrap() > 0.0));
    let markdown = run("md");
    let bars = |line: &str| line.matches('|').count();
    assert!(markdown.lines().all(|line| bars(line) == bars(markdown.lines().next().unwrap())), "{markdown}");
    assert_eq!(markdown.lines().count(), 2 + names.len());
}

#[test]
fn what_cannot_be_saved_or_compared_is_known_before_anything_is_measured() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("folder")).unwrap();
    std::fs::write(scene.path("file"), "").unwrap();
    let refused = |arguments: &[&str], status: i32, reason: &str| {
        let mut command = scene.command(QUICK);
        let message = complaint(&command.args(arguments).arg("-q").output().unwrap(), status);
        assert!(message.contains(reason), "{arguments:?}: {message}");
    };
    refused(&["--save", ""], 2, "--save: needs a name");
    refused(&["--save", "./folder"], 2, "folder is a folder");
    refused(&["--save", "new/"], 2, "new/ is a folder");
    refused(&["--save", "file/run.json"], 2, "cannot make the folder file");
    with_other(&scene, "kernels", |_| {});
    refused(&["--baseline", "kernels", "--rounds", "4", "--fail-on", "5%"], 2, "take --rounds 5 or more");
    let message = scene.complaint(&format!("{STEP} --baseline kernels"), 3);
    assert!(message.contains("kernels.json: is a run of `bench kernels`, this is `bench step`"), "{message}");
    assert!(!scene.path("new").exists());
    scene.stdout(&format!("{QUICK} {FEW} --rounds 1 --save new/run"));
    assert_eq!(std::fs::read_dir(scene.path("new")).unwrap().count(), 1, "nothing is left of the attempt");
}

#[test]
fn one_table_of_csv_and_a_list_in_json() {
    let scene = Scene::new();
    let listed = scene.json(&format!("{QUICK} {FEW} --list"));
    let passes: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["pass"].as_str().unwrap()).collect();
    assert_eq!(passes, ["forward", "backward_data", "backward_weight"]);
    assert_eq!(listed, scene.json(&format!("{QUICK} {FEW} --list --format json")));
    with_other(&scene, "before", |run| set_samples(run, steady));
    let rows = csv(&scene.stdout(&format!("{QUICK} {FEW} --rounds 5 --baseline before --format csv")));
    assert_eq!((rows.len(), rows[0][0].as_str()), (1 + 3, "verdict"));
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
}

#[test]
fn flags_that_say_nothing_are_refused() {
    let scene = Scene::new();
    for line in [
        "bench",
        "bench kernels --rounds 0",
        "bench kernels --format xml",
        "bench kernels --fail-on 5%",
        "bench kernels --cold --launches 3",
        "bench kernels --profile --save a",
        "bench step --size 30",
        "bench step --preset v3",
        "bench compare a",
        "bench compare a a --fail-on much",
        "bench compare a a --min-effect -3",
        "bench compare a a --min-effect 0%",
        "bench compare a a --fail-on 0.05",
        "bench kernels --launches 4097",
        "bench step --score 18446744073709551615",
        "bench step --score 100001",
        "bench step --score 2001 --batch 50 -q",
    ] {
        let output = scene.output(line);
        assert_eq!((code(&output), text(&output.stdout).as_str()), (Some(2), ""), "{line}");
    }
}

#[test]
fn a_step_says_where_its_time_goes() {
    let scene = Scene::new();
    let run = scene.json(&format!("{STEP} --rounds 5 --archs archs --save runs/step.json"));
    assert_eq!(run, saved(&scene, "runs/step.json"));
    for key in ["preset", "network", "norm", "hyper", "optimizer", "lr", "batch", "image", "arithmetic", "conv"] {
        assert!(!run[key].is_null(), "{key} of {run}");
    }
    assert_eq!(run["row_ms_per_step"].as_array().unwrap().len(), 5);
    assert!(
        run["memory"]["peak_resident_bytes"].as_u64().unwrap_or(1 << 30)
            > run["memory"]["arena_bytes"].as_u64().unwrap()
    );
    for arch in run["archs"].as_array().unwrap() {
        let parts = ["data_ms", "hypernet_ms", "forward_ms", "backward_ms", "optimizer_ms", "other_ms"];
        for (speed, least) in [(arch, 5), (&arch["score"], 3)] {
            let part = |key: &str| speed["phases"][key].as_f64().unwrap();
            let (sum, total): (f64, f64) = (parts.iter().map(|key| part(key)).sum(), part("total_ms"));
            assert!((sum / total - 1.0).abs() < 0.05, "{sum} of {total}: {speed}");
            assert!(parts.iter().filter(|key| part(key) > 0.0).count() >= least, "{speed}");
            assert!((0.0..1.0).contains(&part("idle_share")), "{speed}");
            assert_eq!(speed["samples_ms"].as_array().unwrap().len(), 5);
        }
        assert!(arch["flop_inside_per_step"].as_f64().unwrap() < 0.9 * arch["flop_per_step"].as_f64().unwrap());
        assert!(scene.path("archs").join(arch["file"].as_str().unwrap()).exists());
    }
    // The architectures of the folder, not others; and a run is the same as itself.
    let again = scene.json(&format!("{STEP} --archs archs --seed 9 --network resulting --rounds 1"));
    let ids = |run: &Value| run["archs"].as_array().unwrap().iter().map(|arch| arch["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&run), &again["archs"][0]["score"]), (ids(&again), &Value::Null));
    let same = scene.output("bench compare runs/step.json runs/step.json --json");
    let verdicts = verdicts(&serde_json::from_slice(&same.stdout).unwrap()).join(" ");
    assert_eq!(verdicts, "SAME SAME SAME SAME SAME", "two steps, two scores, steps in a row");
    assert!(text(&same.stderr).contains("5 of 5 rows have too few samples"), "five of each, for five rows");
    std::fs::write(scene.path("archs/002.json"), "{}").unwrap();
    assert!(scene.complaint(&format!("{STEP} --archs archs"), 3).contains("002.json"));
}

#[cfg(target_os = "linux")]
#[test]
fn more_memory_than_there_is_is_refused() {
    let scene = Scene::new();
    let shapes = r#"[{"op": "activation", "c": 64, "size": [1024, 1024], "n": 1}]"#;
    std::fs::write(scene.path("shapes.json"), shapes).unwrap();
    for line in [
        "bench step --count 1 --batch 1048576 --size 1024 --score 0",
        "bench kernels --shapes shapes.json --launches 4096 -k forward",
    ] {
        let message = scene.complaint(&format!("{line} --device cpu"), 1);
        assert!(message.contains("MiB of step memory"), "{message}");
    }
}

#[test]
fn two_architectures_that_are_the_same_are_two_rows() {
    let scene = Scene::new();
    scene.stdout(&format!("{STEP} --rounds 1 --archs archs"));
    std::fs::copy(scene.path("archs/000.json"), scene.path("archs/001.json")).unwrap();
    scene.stdout(&format!("{STEP} --rounds 1 --archs archs --save twins"));
    let output = scene.output("bench compare twins twins --json");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |i: usize| rows["rows"][i]["row"].as_str().unwrap();
    assert_eq!(name(1), format!("{} (2)", name(0)));
}

#[test]
fn a_profile_runs_once_and_reports_nothing() {
    let scene = Scene::new();
    for line in [format!("{QUICK} {FEW} --profile"), format!("{STEP} --profile")] {
        let output = scene.output(&line);
        assert_eq!((code(&output), text(&output.stdout)), (Some(0), String::new()), "{line}");
        assert!(text(&output.stderr).ends_with(" of them once\n"), "{}", text(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
mod on_the_emulator {
    use super::*;
    use crate::support;
    use std::collections::BTreeMap;

    /// The program on a machine whose driver is the emulator; what it prints, and what the driver counted.
    fn run(scene: &Scene, line: &str) -> (String, BTreeMap<String, u64>) {
        let library = support::library().unwrap_or_else(|e| panic!("{e}"));
        let mut command = scene.command(&format!("{line} --device cuda:0 -q"));
        command.env("LD_LIBRARY_PATH", library.parent().unwrap()).env("SMASH_EMU_STATS", scene.path("counts"));
        let output = command.output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (Some(0), String::new()), "{line}");
        let counts = text(&std::fs::read(scene.path("counts")).unwrap());
        let pairs = counts.lines().map(|line| line.split_once(' ').unwrap());
        (text(&output.stdout), pairs.map(|(name, count)| (name.to_string(), count.parse().unwrap())).collect())
    }

    #[test]
    fn every_kind_of_kernels_is_right_and_known_by_name() {
        let scene = Scene::new();
        let line = "bench kernels --quick --rounds 1 -k *?8->8?3x3* --format json";
        let (output, _) = run(&scene, line);
        let value: Value = serde_json::from_str(&output).unwrap();
        let cases = value["cases"].as_array().unwrap();
        let kinds: Vec<&str> = cases.iter().take(5).map(|case| case["conv"].as_str().unwrap()).collect();
        assert_eq!((cases.len(), kinds), (15, vec!["exact", "fast", "tiled", "direct", "tf32"]));
        for case in cases {
            assert_eq!(case["verdict"], "ok", "{case}");
            let kernels = case["kernels"].as_array().unwrap();
            let names: Vec<&str> = kernels.iter().map(|kernel| kernel["name"].as_str().unwrap()).collect();
            assert!(names.iter().any(|name| name.starts_with("conv2d_")), "{names:?}");
            assert!(case["kernels_per_launch"].as_f64().unwrap() >= names.len() as f64, "{case}");
        }
    }

    #[test]
    fn steps_and_profiles_work_on_a_gpu() {
        let scene = Scene::new();
        let step = "bench step --preset small --count 1 --rounds 1 --batch 1 --size 4 --score 0";
        let (output, _) = run(&scene, &format!("{step} --json"));
        let value: Value = serde_json::from_str(&output).unwrap();
        let arch = &value["archs"][0];
        assert!(arch["kernels_per_step"].as_u64().unwrap() > 50, "{arch}");
        let parts = ["data_ms", "hypernet_ms", "forward_ms", "backward_ms", "optimizer_ms", "other_ms"];
        let part = |key: &str| arch["phases"][key].as_f64().unwrap();
        let sum: f64 = parts.iter().map(|key| part(key)).sum();
        assert!((sum / part("total_ms") - 1.0).abs() < 0.05, "{arch}");
        // Boundaries are waited for: the backward pass is not just queued.
        assert!(part("backward_ms") > 0.2 * sum, "{arch}");
        let (output, counts) = run(&scene, "bench kernels --quick -k add*forward* --profile");
        assert_eq!((output, counts["profiler_starts"], counts["profiler_stops"]), (String::new(), 1, 1));
    }
}
