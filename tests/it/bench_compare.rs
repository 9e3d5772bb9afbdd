//! `bench compare` and `--baseline`: what they say about pairs of saved runs, and when they fail.

use crate::bench::{FEW, QUICK, STEP, code, set_samples, steady, verdicts, with_other};
use crate::scene::{Scene, complaint, text};
use serde_json::{Value, json};

#[test]
fn a_run_is_the_same_as_itself_and_slower_samples_are_slower() {
    let scene = Scene::new();
    with_other(&scene, "before", |run| set_samples(run, steady));
    with_other(&scene, "after", |run| set_samples(run, |round| 1.2 * steady(round)));
    with_other(&scene, "noisy", |run| set_samples(run, |round| steady(round) * if round > 5 { 2.0 } else { 1.0 }));
    let compare = |pair: &str| scene.json(&format!("bench compare {pair}"));
    assert_eq!(verdicts(&compare("a a")), ["SAME"; 3], "a run, whatever its noise");
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
    // An effect below the minimum is one where it must not be.
    with_other(&scene, "little", |run| set_samples(run, |round| 1.03 * steady(round)));
    assert_eq!(code(&scene.output("bench compare before little --fail-on 5%")), Some(0));
    assert_eq!(code(&scene.output("bench compare before little --fail-on 2%")), Some(4));
    assert_eq!(compare("bench/before.json after"), slower, "a path says the same as a name");
}

#[test]
fn only_the_limit_that_binds_a_row_excuses_it() {
    let scene = Scene::new();
    let bound = |run: &mut Value| {
        for (case, bound) in run["cases"].as_array_mut().unwrap().iter_mut().zip(["compute", "memory", "launch"]) {
            case["bound"] = bound.into();
        }
    };
    with_other(&scene, "before", |run| {
        set_samples(run, steady);
        bound(run);
    });
    with_other(&scene, "after", |run| {
        set_samples(run, |round| 1.2 * steady(round));
        bound(run);
        run["ceilings"]["fma_gflops"] = json!([84.0, 84.0]);
    });
    let compared = scene.json("bench compare before after");
    assert_eq!(verdicts(&compared), ["UNCLEAR", "SLOWER", "SLOWER"]);
    assert_eq!(compared["drift"], json!({ "compute": 100.0 / 84.0, "memory": 1.0 }));
}

#[test]
fn rows_that_are_wrong_missing_or_too_few_are_told_in_every_form() {
    let scene = Scene::new();
    let wrong = |run: &mut Value| run["cases"][1]["verdict"] = "WRONG".into();
    with_other(&scene, "steady", |run| set_samples(run, steady));
    with_other(&scene, "wrong", |run| {
        set_samples(run, steady);
        wrong(run);
    });
    with_other(&scene, "one", |run| {
        run["cases"].as_array_mut().unwrap().truncate(1);
        set_samples(run, steady);
        run["cases"][0]["samples_ms"].as_array_mut().unwrap().truncate(4);
    });
    for form in ["table", "json", "csv", "md"] {
        let said = |pair: &str| {
            let output = scene.output(&format!("bench compare {pair} --format {form}"));
            assert_eq!(code(&output), Some(0));
            text(&output.stderr)
        };
        let name = "conv2d backward_data 64->64 5x7 d(2,1) g4 2x2 n3";
        assert_eq!(said("steady wrong"), format!("smash-engine: warning: results are WRONG: {name} in B\n"));
        let few = said("one steady");
        assert!(few.contains("warning: only in B: ") && few.contains(name), "{few}");
        assert!(few.contains("1 of 1 rows have too few samples") && few.contains("--rounds 5 are enough"), "{few}");
    }
    for pair in ["steady wrong", "wrong steady"] {
        let output = scene.output(&format!("bench compare {pair} --fail-on 50%"));
        assert!(code(&output) == Some(4) && text(&output.stderr).contains("smash-engine: results are WRONG"));
    }
    with_other(&scene, "other", |run| {
        for case in run["cases"].as_array_mut().unwrap() {
            case["shape"] = format!("{}0", case["shape"].as_str().unwrap()).into();
        }
    });
    let message = complaint(&scene.output("bench compare steady other"), 3);
    assert!(message.contains("other.json: has no row in common"), "{message}");
    let output = scene.output(&format!("{QUICK} {FEW} --rounds 5 --baseline other --format csv -q"));
    assert!(code(&output) == Some(3) && text(&output.stderr).contains("no row in common"), "{output:?}");
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
    let changes: [(&str, Change); 10] = [
        ("\"format\"", |run| drop(run.as_object_mut().unwrap().remove("format"))),
        ("its format is \"smash-engine bench 9\"", |run| run["format"] = "smash-engine bench 9".into()),
        ("missing field `machine`", |run| drop(run.as_object_mut().unwrap().remove("machine"))),
        ("no results", |run| run["cases"] = json!([])),
        ("are no times", |run| run["cases"][1]["samples_ms"] = json!([])),
        ("are no times", |run| run["cases"][0]["samples_ms"][2] = json!(-1.0)),
        ("unknown variant `speed`", |run| run["benchmark"] = "speed".into()),
        ("ceilings are no speeds", |run| run["ceilings"]["copy_gbytes"][0] = json!(0.0)),
        ("ceilings are no speeds", |run| run["ceilings"]["fma_gflops"] = json!([1.0, -1.0])),
        ("there are two rows \"conv2d forward", |run| run["cases"][1] = run["cases"][0].clone()),
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
    let message = complaint(&scene.output("bench compare a step"), 3);
    assert!(message.contains("step.json: is a run of `bench step`, and a one of `bench kernels`"), "{message}");
}
