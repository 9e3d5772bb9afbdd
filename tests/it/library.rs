//! The crate as a library: its examples run, and runs from Rust are those of the program.

use crate::scene::{Scene, finished, tensors, text};
use serde_json::Value;
use smash_engine::{Design, Run, RunConfig, Setup};
use std::path::Path;
use std::process::{Command, Output};

/// Runs an example that cargo built beside this test.
fn example(name: &str, arguments: &[&Path]) -> Output {
    let test = std::env::current_exe().unwrap(); // target/PROFILE/deps/it-HASH
    let built =
        test.ancestors().nth(2).unwrap().join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        built.is_file(),
        "no {}; `cargo test` builds the examples, as `cargo build --examples` does",
        built.display()
    );
    Command::new(built).args(arguments).output().unwrap()
}

/// What an example that succeeds prints; it must be silent on stderr.
#[track_caller]
fn stdout(name: &str, arguments: &[&Path]) -> String {
    let output = example(name, arguments);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{name}");
    text(&output.stdout)
}

/// The number in front of ` % of N test images` or the like.
#[track_caller]
fn percent(printed: &str, before: &str) -> f64 {
    let rest = printed.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {printed}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_op_of_ones_own_agrees_with_f64_and_learns() {
    let printed = stdout("custom_op", &[]);
    for row in ["forward", "gradient of input 0", "gradient of input 1"] {
        assert!(printed.contains(row), "{row} is not compared:\n{printed}");
    }
    let error = percent(&printed, "test_err ");
    assert!(error < 50.0, "{error} % of test images are wrong, 90 % is chance");
    // Swish as other programs see it.
    let operations: Vec<&str> = printed.lines().filter(|line| line.contains("layer0")).collect();
    let names = ["Conv", "Conv", "Sigmoid", "Mul", "AvgPool"];
    assert_eq!(operations.len(), names.len(), "{printed}");
    assert!(operations.iter().zip(names).all(|(line, name)| line.contains(name)), "{printed}");
}

#[test]
fn what_the_search_example_finds_the_predict_example_loads() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let printed = stdout("search", &[&run]);
    let error = percent(&printed, "test_err ");
    assert!(error < 60.0, "{error} % of test images are wrong, 90 % is chance");
    let exported = printed.split("exported to ").nth(1).unwrap().trim();
    let asked = stdout("predict", &[Path::new(exported)]);
    assert_eq!(percent(&asked, "test images: "), error, "the network that comes back is the one that was trained");
    assert_eq!(percent(&asked, "its file says: wrong about "), error, "{asked}");
    // Started again, it goes on where it was: at the end.
    assert_eq!(stdout("search", &[&run]), printed);
}

#[test]
fn a_run_from_rust_is_that_of_the_program() {
    let scene = Scene::new();
    let settings = scene.path("settings");
    std::fs::write(&settings, &finished()["config.toml"]).unwrap();
    let mut config = RunConfig::load(&settings).unwrap();
    config.data.source = scene.path("data").display().to_string();
    let setup = Setup { device: "cpu".into(), ..Setup::default() };
    let run = Run::create(config.clone(), scene.path("run"), &setup).unwrap();
    assert!(!scene.path("run").exists(), "nothing is written before the first stage");
    // Stage by stage, and then all of it, which finds these done.
    run.train().unwrap();
    let ranking = run.search().unwrap();
    let score = run.scorer().unwrap().score(&ranking[3].arch).unwrap();
    assert_eq!(score.percent(), ranking[3].val_err, "scored by hand as in the search");
    let winner = run.retrain(&ranking[0].arch).unwrap();
    let networks = run.whole().unwrap();
    assert_eq!((winner.id, winner.test_err), (networks[0].id.clone(), networks[0].test_err));

    let files = scene.files("run");
    assert_eq!(files.keys().collect::<Vec<_>>(), finished().keys().collect::<Vec<_>>());
    // The others name the folder of the images.
    for name in ["metrics.jsonl", "archs.jsonl", "ranking.jsonl"] {
        assert!(files[name] == finished()[name], "{name} differs");
    }
    for name in files.keys().filter(|name| name.starts_with("ckpt/") && name.ends_with(".safetensors")) {
        assert!(tensors(&files[name]) == tensors(&finished()[name]), "{name} differs");
    }
    let env: Value = serde_json::from_slice(&files["env.json"]).unwrap();
    assert_eq!(env["began_with"], Value::Null, "no command of smash-engine began it");
    let again = Run::open(scene.path("run"), &setup).unwrap();
    assert_eq!(again.config(), run.config());
    assert_eq!(again.retrain(Design::from(&ranking[0].arch)).unwrap().test_err, networks[0].test_err);

    config.smash.lr *= 2.0;
    let refused = Run::create(config, scene.path("run"), &setup).err().unwrap();
    assert_eq!(refused.exit_code(), 5, "{refused}");
    assert!(refused.to_string().contains("smash.lr"), "{refused}");
}
