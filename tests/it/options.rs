//! Options of the paper that are off by default: a whole run with all of them, and what each of them does on its own.

use crate::scene::{Scene, finished, lines, tensors};
use serde_json::Value;

/// Settings of a run with every option on.
const ALL: &str = r#"
activation = "post"
nonlinearities = ["relu", "tanh", "sigmoid"]
gates = true
body_norm = true
"#;

/// A scene with a second settings file, `all.toml`: every option of the space.
fn scene() -> Scene {
    let scene = Scene::new();
    let settings = std::fs::read_to_string(scene.path("settings.toml")).unwrap();
    assert!(settings.trim_end().ends_with("widening = 1"), "the space comes last");
    std::fs::write(scene.path("all.toml"), settings + ALL).unwrap();
    scene
}

#[test]
fn a_run_with_every_option_goes_through_and_repeats_itself() {
    let scene = scene();
    let run = "run --config all.toml --calibrate-bn 2 --init-from-smash --epochs 1 --random 6 --perturb 3 --markov 3";
    let result = scene.json(&format!("{run} --out a --retrain-epochs 1"));
    scene.stdout(&format!("{run} --out b --retrain-epochs 1 --threads 1"));
    let [a, b] = ["a", "b"].map(|dir| scene.files(dir));
    for name in ["archs.jsonl", "ranking.jsonl", "metrics.jsonl", "config.toml"] {
        assert!(a[name] == b[name], "{name} differs");
    }
    for (name, checkpoint) in a.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        assert!(tensors(checkpoint) == tensors(&b[name]), "{name} differs");
    }
    let config = String::from_utf8(a["config.toml"].clone()).unwrap();
    for line in ["calibrate_bn = 2", "init_from_smash = true", "activation = \"post\"", "gates = true"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let drawn = String::from_utf8(a["archs.jsonl"].clone()).unwrap();
    for part in ["\"activation\":\"tanh\"", "\"activation\":\"sigmoid\"", "\"gates\":[true,", "\"gates\":[false,true]"]
    {
        assert!(drawn.contains(part), "{part}");
    }
    let id = result["networks"][0]["id"].as_str().unwrap();
    let table = scene.stdout(&format!("show a/arch/{id}.json --image-channels 1 --image-size 12"));
    assert!(table.contains("activations behind convolutions"), "{table}");
    scene.stdout("retrain --out a --resume");
    scene.stdout("eval --out a");
}

#[test]
fn calibrated_scores_are_others_and_leave_the_network_alone() {
    let scene = Scene::finished();
    let scored = |flags: &str| {
        scene.stdout(&format!("search --out run --overwrite --random 4 --perturb 0 --markov 0 {flags}"));
        lines(&scene.files("run")["archs.jsonl"])
    };
    let (plain, calibrated, again) = (scored(""), scored("--calibrate-bn 3"), scored("--calibrate-bn 3"));
    assert_eq!(plain, lines(&finished()["archs.jsonl"])[..4]);
    assert_eq!(calibrated, again);
    for (a, b) in plain.iter().zip(&calibrated) {
        assert_eq!(a["arch"], b["arch"], "the search draws the same architectures");
        assert_ne!(a["val_loss"], b["val_loss"]);
    }
    let smash = "ckpt/smash.safetensors";
    assert!(scene.files("run")[smash] == finished()[smash], "the network is written anew");

    // `eval` scores as the search did, unless told otherwise.
    let arch = serde_json::to_string(&calibrated[1]["arch"]).unwrap();
    std::fs::write(scene.path("arch.json"), arch).unwrap();
    let score =
        |flags: &str| scene.json(&format!("eval --out run --arch arch.json --split val {flags}"))["val_loss"].clone();
    assert_eq!(score(""), calibrated[1]["val_loss"]);
    assert_eq!(score("--calibrate-bn 0"), plain[1]["val_loss"]);
    let message = scene.complaint("search --out run --resume --random 4 --perturb 0 --markov 0 --calibrate-bn 1", 5);
    assert!(message.contains("search.calibrate_bn: 1 now, 3 before"), "{message}");
}

#[test]
fn a_training_may_start_from_the_weights_of_the_smash_network() {
    let scene = Scene::finished();
    let first_loss = |scene: &Scene, dir: &str, id: &Value| {
        let metrics = lines(&scene.files(dir)["metrics.jsonl"]);
        let mine: Vec<&Value> = metrics.iter().filter(|line| line["network"] == *id && line["step"] == 1).collect();
        mine.last().unwrap()["train_loss"].as_f64().unwrap()
    };
    let random = scene.json("retrain --out run --overwrite")["network"].clone();
    let before = first_loss(&scene, "run", &random["id"]);
    let message = scene.complaint("retrain --out run --resume --init-from-smash", 5);
    assert!(message.contains("was started from random weights, not inherited ones"), "{message}");
    let heir = scene.json("retrain --out run --overwrite --init-from-smash")["network"].clone();
    assert_eq!(heir["id"], random["id"]);
    assert_ne!(first_loss(&scene, "run", &heir["id"]), before);
    assert_ne!(heir["test_err"], Value::Null);
    // The setting is the run's from here on, and can be taken back.
    scene.stdout("retrain --out run --resume");
    let message = scene.complaint("retrain --out run --resume --init-from-smash=false", 5);
    assert!(message.contains("was started from inherited weights, not random ones"), "{message}");
}

#[test]
fn a_training_that_cannot_inherit_says_why_before_it_writes_anything() {
    let scene = Scene::finished();
    let arch = finished().iter().find(|(name, _)| name.starts_with("arch/")).unwrap();
    std::fs::write(scene.path("arch.json"), arch.1).unwrap();
    let message = scene.complaint("retrain --config settings.toml --out new --arch arch.json --init-from-smash", 2);
    assert!(message.contains("new holds no SMASH network; `smash-engine train` makes one"), "{message}");
    assert!(!scene.path("new").exists());
    // An architecture of another space.
    let text = String::from_utf8(arch.1.clone()).unwrap();
    let other = text.replace("\"depth\":3", "\"depth\":4");
    assert_ne!(text, other);
    std::fs::write(scene.path("other.json"), other).unwrap();
    let message = scene.complaint("retrain --out run --arch other.json --init-from-smash", 2);
    assert!(message.contains("--init-from-smash: ") && message.contains("another search space"), "{message}");
}
