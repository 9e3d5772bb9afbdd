//! `bench`: what it measures, prints, saves and compares.

use crate::scene::{Scene, complaint, text};
use serde_json::{Value, json};
use std::process::Output;

/// Rows of the smallest kind.
const QUICK: &str = "bench kernels --quick --device cpu --threads 1";
/// The passes of a convolution, and of one op that only moves memory.
const FEW: &str = "-k *64->64*g4*";

const STEP: &str = "bench step --preset small --device cpu --threads 2 --count 2 --batch 4 --size 8 --score 1";

fn saved(scene: &Scene, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(scene.path(name)).unwrap()).unwrap()
}

/// Saves a run as `bench/a.json`, and what becomes of it under another name.
fn with_other(scene: &Scene, name: &str, change: impl Fn(&mut Value)) {
    if !scene.path("bench/a.json").exists() {
        scene.stdout(&format!("{QUICK} {FEW} --rounds 5 --save a"));
    }
    let mut run = saved(scene, "bench/a.json");
    change(&mut run);
    std::fs::write(scene.path(&format!("bench/{name}.json")), run.to_string()).unwrap();
}

/// Gives every row the samples that `sample` makes of a number of the round.
fn set_samples(run: &mut Value, sample: impl Fn(usize) -> f64) {
    for case in run["cases"].as_array_mut().unwrap() {
        case["samples_ms"] = (0..11).map(&sample).collect();
    }
    // The machine was as fast as ever.
    run["ceilings"] = json!({ "fma_gflops": [100.0, 100.0], "copy_gbytes": [10.0, 10.0] });
}

/// Times near 1 ms, all different.
fn steady(round: usize) -> f64 {
    1.0 + 0.001 * (round * 7 % 11) as f64
}

fn verdicts(comparison: &Value) -> Vec<&str> {
    comparison["rows"].as_array().unwrap().iter().map(|row| row["verdict"].as_str().unwrap()).collect()
}

fn code(output: &Output) -> Option<i32> {
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
    let backward = scene.stdout("bench kernels --list --device cpu -k conv*backward*");
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
fn a_run_is_the_same_as_itself_and_slower_samples_are_slower() {
    let scene = Scene::new();
    with_other(&scene, "before", |run| set_samples(run, steady));
    with_other(&scene, "after", |run| set_samples(run, |round| 1.2 * steady(round)));
    with_other(&scene, "noisy", |run| set_samples(run, |round| steady(round) * if round > 5 { 2.0 } else { 1.0 }));
    let compare = |pair: &str| scene.json(&format!("bench compare {pair}"));
    assert_eq!(verdicts(&compare("a a --min-effect 1000%")), ["SAME"; 3], "a run, and its own noise");
    assert_eq!(verdicts(&compare("before before")), ["SAME"; 3]);
    let slower = compare("before after");
    assert_eq!(verdicts(&slower), ["SLOWER"; 3]);
    assert!((slower["rows"][0]["effect"].as_f64().unwrap() - 1.2).abs() < 1e-9);
    assert_eq!(verdicts(&compare("after before")), ["FASTER"; 3]);
    assert_eq!(verdicts(&compare("before after --min-effect 25%")), ["SAME"; 3]);
    assert_eq!(verdicts(&compare("before noisy")), ["UNCLEAR"; 3]);
    assert_eq!(code(&scene.output("bench compare before after --fail-on 10%")), Some(4));
    assert_eq!(code(&scene.output("bench compare before after --fail-on 25%")), Some(0));
    assert_eq!(code(&scene.output("bench compare after before --fail-on 5%")), Some(0));
    let message = text(&scene.output("bench compare before after --fail-on 10").stderr);
    assert!(message.contains("3 of 3 rows are slower by more than 10 %") && message.contains("20.0 %"), "{message}");
    // A path says the same as a name, and so does a row that only one of them has.
    assert_eq!(compare("bench/before.json after"), slower);
    with_other(&scene, "fewer", |run| {
        set_samples(run, steady);
        run["cases"].as_array_mut().unwrap().pop();
    });
    let fewer = compare("before fewer");
    assert_eq!((verdicts(&fewer).len(), fewer["only_a"].as_array().unwrap().len()), (2, 1));
}

#[test]
fn other_machines_and_settings_are_warned_of() {
    let scene = Scene::new();
    with_other(&scene, "b", |run| run["machine"]["processor"] = "a faster one".into());
    with_other(&scene, "c", |run| run["device"]["threads"] = 64.into());
    with_other(&scene, "d", |run| run["cold"] = true.into());
    for (other, warning) in
        [("b", "the machines differ"), ("c", "threads 1 and 64"), ("d", "settings differ: quick, warm")]
    {
        let output = scene.output(&format!("bench compare a {other}"));
        let said = text(&output.stderr);
        assert!(
            code(&output) == Some(0) && said.starts_with("smash-engine: warning: ") && said.contains(warning),
            "{said}"
        );
    }
    assert_eq!(text(&scene.output("bench compare a a").stderr), "");
}

#[test]
fn a_baseline_is_compared_with_and_a_regression_is_exit_4() {
    let scene = Scene::new();
    // A baseline that nothing can reach, on a machine as fast as this one may be.
    with_other(&scene, "fast", |run| {
        set_samples(run, |round| 1e-7 * steady(round));
        run["ceilings"] = json!({ "fma_gflops": [], "copy_gbytes": [] });
    });
    let line = format!("{QUICK} {FEW} --rounds 5 --baseline fast");
    let output = scene.output(&format!("{line} --fail-on 5% -q"));
    let (results, message) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((code(&output), message.lines().count()), (Some(4), 1), "{message}");
    assert!(results.contains("3 SLOWER") && message.contains("3 of 3 rows are slower by more than 5 %"), "{message}");
    let run = scene.json(&line);
    assert_eq!(verdicts(&run["comparison"]), ["SLOWER"; 3]);
    let output = scene.output(&format!("{QUICK} --baseline slow -q"));
    let message = complaint(&output, 3);
    assert!(message.contains("no saved run \"slow\"; beside it there are a, fast"), "{message}");
    assert_eq!(text(&output.stdout), "", "known before anything is measured");
}

#[test]
fn what_is_no_saved_run_is_refused_with_the_reason() {
    let scene = Scene::new();
    with_other(&scene, "a", |_| {});
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 7] = [
        ("\"format\"", |run| drop(run.as_object_mut().unwrap().remove("format"))),
        ("its format is \"smash-engine bench 9\"", |run| run["format"] = "smash-engine bench 9".into()),
        ("missing field `machine`", |run| drop(run.as_object_mut().unwrap().remove("machine"))),
        ("no results", |run| run["cases"] = json!([])),
        ("are no times", |run| run["cases"][1]["samples_ms"] = json!([])),
        ("are no times", |run| run["cases"][0]["samples_ms"][2] = json!(-1.0)),
        ("unknown variant `speed`", |run| run["benchmark"] = "speed".into()),
    ];
    for (reason, change) in changes {
        with_other(&scene, "broken", change);
        for line in ["bench compare a broken", "bench compare broken a"] {
            let message = complaint(&scene.output(line), 3);
            assert!(message.contains("broken.json: is no saved benchmark: ") && message.contains(reason), "{message}");
        }
    }
    let bytes = std::fs::read(scene.path("bench/a.json")).unwrap();
    std::fs::write(scene.path("bench/broken.json"), &bytes[..bytes.len() / 2]).unwrap();
    complaint(&scene.output("bench compare a broken"), 3);
    scene.stdout(&format!("{STEP} --rounds 1 --save step"));
    let message = complaint(&scene.output("bench compare a step"), 2);
    assert!(message.contains("a is a run of `bench kernels`, step one of `bench step`"), "{message}");
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
    let same = scene.json("bench compare runs/step.json runs/step.json --min-effect 1000%");
    assert_eq!(verdicts(&same), ["SAME"; 5], "two steps, two scores, steps in a row");
    std::fs::write(scene.path("archs/002.json"), "{}").unwrap();
    assert!(scene.complaint(&format!("{STEP} --archs archs"), 3).contains("002.json"));
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
