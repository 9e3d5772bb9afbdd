//! Built-in networks as a user meets them: trained, evaluated and shown by name, and as a baseline of
//! `experiment transfer`.

use crate::formats::{idx_images, idx_labels};
use crate::scene::{DATA_FILES, RUN, Scene, text};
use serde_json::Value;

const RETRAIN: &str = "retrain --config settings.toml --out run --network";

/// A second data set in the scene, of larger pictures.
fn with_another_set(scene: &Scene) {
    std::fs::create_dir(scene.path("other")).unwrap();
    let files = [idx_images(60, 16, 16), idx_labels(60), idx_images(30, 16, 16), idx_labels(30)];
    for (name, bytes) in DATA_FILES.iter().zip(files) {
        std::fs::write(scene.path("other").join(name), bytes).unwrap();
    }
}

#[test]
fn a_built_in_network_is_trained_and_evaluated_by_name() {
    let scene = Scene::new();
    for name in ["wrn-10-1", "fractalnet-2-2"] {
        let trained = scene.json(&format!("{RETRAIN} {name}"))["network"].clone();
        assert_eq!((trained["id"].as_str(), trained["role"].as_str()), (Some(name), Some("chosen")));
        let error = trained["test_err"].as_f64().unwrap();
        assert!((0.0..85.0).contains(&error), "of ten classes, it has learned something: {error}");
        let classes = scene.json("data stats data")["classes"].as_array().unwrap().len();
        let shown = scene.json(&format!("show {name} --image-channels 1 --image-size 12 --classes {classes}"));
        assert_eq!((&shown["cost"]["params"], &shown["cost"]["macs"]), (&trained["params"], &trained["macs"]));
        let again = scene.json(&format!("eval --out run --network {name}"));
        assert_eq!((&again["test_err"], &again["architecture"]), (&trained["test_err"], &trained["id"]));
        let message = scene.complaint(&format!("{RETRAIN} {name}"), 2);
        assert!(message.contains(&format!("{name} was trained here already; --resume continues it")), "{message}");
        assert_eq!(scene.json(&format!("{RETRAIN} {name} --resume"))["network"], trained);
    }
    let message = scene.complaint("eval --out run --network wrn-10-2", 2);
    assert!(message.contains("holds no trained network wrn-10-2"), "{message}");
}

#[test]
fn a_built_in_network_joins_a_run_and_changes_nothing_else_in_it() {
    let scene = Scene::finished();
    let before = scene.files("run");
    scene.stdout("retrain --out run --network resnet-8");
    let after = scene.files("run");
    let new: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(new, ["ckpt/net-resnet-8.safetensors"]);
    for name in before.keys().filter(|name| name.starts_with("ckpt") || name.starts_with("arch")) {
        assert!(before[name] == after[name], "{name}");
    }
}

#[test]
fn names_that_no_network_has_are_refused_before_anything_is_written() {
    let scene = Scene::new();
    for (name, says) in [
        ("wrn-17-2", "wrn-17-2: the depth 17 is not 6n + 4"),
        ("vgg-16", "vgg-16: is none of the built-in networks"),
        ("fractalnet-2-3", "fractalnet-2-3: halves pictures 3 times"),
        ("wrn-10-1 --arch some.json", "cannot be used with"),
    ] {
        let output = scene.output(&format!("{RETRAIN} {name} -q"));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert!(!scene.path("run").exists());
    }
    let message = scene.complaint("show wrn-17-2", 2);
    assert!(message.contains("wrn-17-2: the depth 17"), "{message}");
}

#[test]
fn show_prints_a_built_in_network_part_by_part() {
    let scene = Scene::new();
    let table = scene.stdout("show wrn-16-2");
    assert!(table.starts_with("wrn-16-2: image 3 x 32 x 32, 10 classes\n"), "{table}");
    let line = table.lines().find(|line| line.starts_with("block1.unit0")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let expected = "block1.unit0 16 x 16 32 64 bn relu, 1x1 s2, 3x3 s2, bn relu, 3x3, add 57.5 k 14.68 M";
    assert_eq!(words.join(" "), expected);
    assert!(
        table.ends_with("total: 17 layers with weights, 691.7 k parameters, 101.11 M MACs (202.21 M FLOPs)\n"),
        "{table}"
    );
    // A file of that name is what is meant.
    std::fs::write(scene.path("wrn-16-2"), "{}").unwrap();
    assert!(scene.complaint("show wrn-16-2", 3).contains("wrn-16-2: "));
}

const TRANSFER: &str = "experiment transfer --config settings.toml --to other --out study --network wrn-10-1 --rivals 1 --seeds 2 --jobs 2";

fn what(results: &Value) -> Vec<&str> {
    results["networks"].as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect()
}

#[test]
fn transfer_trains_what_both_sets_found_on_the_second_one() {
    let scene = Scene::new();
    with_another_set(&scene);
    let results = scene.json(TRANSFER);
    let expected = ["found on data", "found on other", "random 1, of similar cost", "built-in wrn-10-1"];
    assert_eq!(what(&results), expected);
    for row in results["networks"].as_array().unwrap() {
        assert_eq!((row["test_err"].as_array().unwrap().len(), row["test_images"].as_u64()), (2, Some(30)), "{row}");
    }
    // The searches are those of plain runs with these settings.
    scene.stdout(RUN);
    let winner = |ranking: &str| {
        let bytes = std::fs::read(scene.path(ranking)).unwrap();
        crate::scene::lines(&bytes)[0]["id"].clone()
    };
    assert_eq!(results["networks"][0]["id"], winner("run/ranking.jsonl"));
    assert_eq!(results["networks"][1]["id"], winner("study/to/smash/base/ranking.jsonl"));
    // And so are the trainings, in the size that is usual for the images.
    let settings = text(&std::fs::read(scene.path("settings.toml")).unwrap()).replace("size = 12\n", "");
    std::fs::write(scene.path("usual.toml"), settings).unwrap();
    scene.stdout("retrain --config usual.toml --data other --out plain --network wrn-10-1");
    let plain = scene.json("eval --out plain --network wrn-10-1");
    assert_eq!(results["networks"][3]["test_err"][0], plain["test_err"]);
    let report = text(&std::fs::read(scene.path("study/report.md")).unwrap());
    for words in ["# Is an architecture found on data good for other?", "| built-in wrn-10-1 | wrn-10-1 | ", "spread"] {
        assert!(report.contains(words), "{report}");
    }
    assert!(
        ["transfer.svg", "found-there.svg", "transfer.csv"]
            .iter()
            .all(|f| scene.path("study/figures").join(f).is_file())
    );
    // All is there already: nothing is trained, and the report is the same.
    let trained = || {
        let times = scene.times("study/to/trained").into_iter();
        times.filter(|(name, _)| name.ends_with(".safetensors")).collect::<Vec<_>>()
    };
    let before = trained();
    assert_eq!(before.len(), 8);
    assert_eq!(scene.json(&format!("{TRANSFER} --resume"))["networks"], results["networks"]);
    assert_eq!(trained(), before);
}

#[test]
fn transfer_takes_what_a_run_has_found() {
    let scene = Scene::finished();
    with_another_set(&scene);
    let before = scene.times("run");
    let line = "experiment transfer --from run --to other --out study --network resnet-8 --rivals 0";
    let results = scene.json(line);
    assert_eq!(what(&results), ["found on data", "found on other", "built-in resnet-8"]);
    let report = scene.json("retrain --out run --resume");
    assert_eq!(results["networks"][0]["id"], report["network"]["id"]);
    assert_eq!(before.get("ranking.jsonl"), scene.times("run").get("ranking.jsonl"), "the run is only read");
    assert!(!scene.path("study/smash").exists());
}

#[test]
fn transfers_that_cannot_be_are_refused_before_anything_is_written() {
    let scene = Scene::finished();
    with_another_set(&scene);
    std::fs::remove_file(scene.path("run/ranking.jsonl")).unwrap();
    let line = "experiment transfer --out study --config settings.toml";
    for (flags, status, says) in [
        ("--to other --seeds 0", 2, "--seeds: 0"),
        ("--to other --network wrn-17-2", 2, "wrn-17-2: the depth 17"),
        ("--to other --network fractalnet-2-5", 2, "fractalnet-2-5: halves pictures 5 times"),
        ("--to nowhere", 3, "nowhere"),
    ] {
        let message = scene.complaint(&format!("{line} {flags}"), status);
        assert!(message.contains(says), "{message}");
        assert!(!scene.path("study").exists(), "{flags}");
    }
    let message = scene.complaint("experiment transfer --from run --to other --out study", 2);
    assert!(message.contains("run holds no finished search") && !scene.path("study").exists(), "{message}");
}
