//! Exported networks as a user meets them: written by `run` and `export`, evaluated, trained on, refused.

use crate::scene::{Scene, finished, text};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

/// The id of the winner of the finished run.
fn winner() -> String {
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    results["networks"][0]["id"].as_str().unwrap().to_string()
}

/// The folder that the finished run left its winner in.
fn exported() -> String {
    format!("run/export/{}", winner())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn a_run_leaves_its_winner_for_other_programs() {
    let scene = Scene::finished();
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    assert_eq!(results["export"].as_str(), Some(exported().as_str()));
    let files: Vec<String> = scene.files(&exported()).into_keys().collect();
    let expected =
        ["README.md", "architecture.json", "architecture.svg", "model.onnx", "model.py", "model.safetensors"];
    assert_eq!(files, expected);
    let evaluated = scene.json(&format!("eval --network {}", exported()));
    assert_eq!(evaluated["test_err"], results["networks"][0]["test_err"]);
    let of_run = scene.json("eval --out run");
    for what in ["architecture", "weights", "split", "images"] {
        assert_eq!(evaluated[what], of_run[what]);
    }
    // Sums over batches of another size.
    assert!((number(&evaluated["test_loss"]) - number(&of_run["test_loss"])).abs() < 1e-6);
    let file = format!("{}/model.safetensors", exported());
    assert_eq!(scene.json(&format!("eval --network {file} --data data")), evaluated);
}

#[test]
fn the_card_tells_what_the_results_say() {
    let scene = Scene::finished();
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    let network = &results["networks"][0];
    let card = text(&scene.files(&exported())["README.md"]);
    let says = [
        format!("# {}", winner()),
        format!("| test, 100 | {:.2} % +- ", number(&network["test_err"])),
        format!("| validation, 60 | {:.2} % +- ", number(&network["val_err"])),
        "![".into(),
        "](architecture.svg)".into(),
        "| 1 | ".into(),
        "| 128 | ".into(),
        "240 images to train on, 60 held out for validation (seed of the split: 1), 100 for test".into(),
        "## Limits".into(),
    ];
    for line in says {
        assert!(card.contains(&line), "{line}\n{card}");
    }
    let grouped = network["macs"].as_u64().unwrap().to_string();
    assert!(card.replace(',', "").contains(&format!("{grouped} multiply-accumulates")), "{card}");
    let (settings, _) = card.split_once("```toml\n").unwrap().1.split_once("```").unwrap();
    let run = text(&scene.files("run")["config.toml"]);
    let lines =
        |text: &str| text.lines().filter(|l| !l.starts_with("checkpoint")).map(String::from).collect::<Vec<_>>();
    assert_eq!(lines(settings), lines(&run));
}

#[test]
fn logits_are_written_for_every_test_image() {
    let scene = Scene::finished();
    scene.stdout(&format!("eval --network {} --logits exported.npy", exported()));
    scene.stdout("eval --out run --logits run.npy");
    let [exported, run] = ["exported.npy", "run.npy"].map(|name| std::fs::read(scene.path(name)).unwrap());
    assert!(exported == run, "they are the same network");
    let classes = scene.json("data stats data")["classes"].as_array().unwrap().len();
    assert_eq!(run.len(), 128 + 100 * classes * 4);
}

#[test]
fn sixteen_bits_cost_what_is_printed() {
    let scene = Scene::finished();
    for dtype in ["f16", "bf16"] {
        let told = scene.json(&format!("export --out run --dtype {dtype}"));
        let dir = PathBuf::from(told["dir"].as_str().unwrap());
        assert_eq!(dir, PathBuf::from(format!("{}-{dtype}", exported())));
        let evaluated = scene.json(&format!("eval --network {}", dir.display()));
        assert_eq!(evaluated["test_err"], told["errors"]["test_err"]);
        let before = scene.json("eval --out run")["test_err"].clone();
        assert_eq!(told["errors"]["unrounded_test_err"], before);
        let bytes = |name: &str| std::fs::metadata(scene.path(name)).unwrap().len();
        let [full, half] =
            [exported(), dir.display().to_string()].map(|dir| bytes(&format!("{dir}/model.safetensors")));
        assert!(half < full * 3 / 4, "{half} of {full} bytes");
        let printed = scene.stdout(&format!("export --out run --dtype {dtype}"));
        assert!(printed.contains(&format!("before weights were rounded to {dtype}")), "{printed}");
    }
}

#[test]
fn an_architecture_is_exported_with_generated_weights() {
    let scene = Scene::finished();
    let arch = format!("run/arch/{}.json", winner());
    let scored = scene.json(&format!("eval --out run --arch {arch}"));
    let told = scene.json(&format!("export --out run --arch {arch}"));
    assert_eq!((told["weights"].as_str(), &told["errors"]["test_err"]), (Some("generated"), &scored["test_err"]));
    let evaluated = scene.json(&format!("eval --network {}-generated", exported()));
    assert_eq!((&evaluated["weights"], &evaluated["test_err"]), (&"generated".into(), &scored["test_err"]));
    let difference = number(&evaluated["test_loss"]) - number(&scored["test_loss"]);
    assert!(difference.abs() < 1e-5, "{difference}");
}

#[test]
fn generated_weights_are_calibrated_as_for_a_score() {
    let scene = Scene::new();
    let settings = text(&std::fs::read(scene.path("settings.toml")).unwrap());
    // BatchNorm in bodies is shared by all ops of a block, and so are its statistics.
    std::fs::write(scene.path("settings.toml"), format!("{settings}body_norm = true\n")).unwrap();
    scene.stdout("train --config settings.toml --out run --max-steps 10");
    scene.stdout("search --out run --random 1 --perturb 0 --markov 0");
    let ranking = text(&std::fs::read(scene.path("run/ranking.jsonl")).unwrap());
    let best: Value = serde_json::from_str(ranking.lines().next().unwrap()).unwrap();
    std::fs::write(scene.path("best.json"), best["arch"].to_string()).unwrap();
    let scored = |flags: &str| number(&scene.json(&format!("eval --out run --arch best.json {flags}"))["test_loss"]);
    scene.stdout("export --out run --arch best.json --calibrate-bn 2 --to calibrated");
    let exported = number(&scene.json("eval --network calibrated")["test_loss"]);
    let (with, without) = (scored("--calibrate-bn 2"), scored(""));
    assert!((exported - with).abs() < 1e-5 && (with - without).abs() > 1e-4, "{exported} {with} {without}");
}

#[test]
fn a_card_tells_the_training_of_its_own_network() {
    let scene = Scene::finished();
    let before = text(&scene.files(&exported())["README.md"]);
    scene.stdout("retrain --out run --network resnet-8 --retrain-epochs 1 --retrain-lr 0.05 --retrain-batch 30");
    scene.stdout("export --out run");
    scene.stdout("export --out run --network resnet-8");
    let recipe = |card: &str| card.lines().find(|line| line.starts_with("- Trained by")).unwrap().to_string();
    assert_eq!(recipe(&text(&scene.files(&exported())["README.md"])), recipe(&before));
    let other = recipe(&text(&scene.files("run/export/resnet-8")["README.md"]));
    assert!(other.contains("1 epoch in batches of 30, learning rate 0.05"), "{other}");
}

#[test]
fn a_network_of_the_run_goes_before_a_folder_of_its_name() {
    let scene = Scene::finished();
    std::fs::create_dir(scene.path(&winner())).unwrap();
    let of_run = scene.json(&format!("eval --out run --network {}", winner()));
    assert_eq!(of_run, scene.json("eval --out run"));
    let message = scene.complaint("eval --network nothing", 2);
    assert!(message.contains("there is no exported network nothing"), "{message}");
    let message = scene.complaint(&format!("eval --network {} --calibrate-bn 2", exported()), 2);
    assert!(message.contains("--arch"), "{message}");
}

#[test]
fn weights_that_are_of_no_use_are_no_answer() {
    let scene = Scene::finished();
    let weights = std::fs::read(scene.path(&exported()).join("model.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&weights).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    metadata.remove("sha256");
    let file = SafeTensors::deserialize(&weights).unwrap();
    let changed = |name: &str, value: f32| {
        let bytes = value.to_le_bytes().repeat(file.tensor(name).unwrap().data().len() / 4);
        let mut all = file.tensors();
        let tensor = all.iter_mut().find(|(key, _)| key == name).unwrap();
        tensor.1 = safetensors::tensor::TensorView::new(tensor.1.dtype(), tensor.1.shape().to_vec(), &bytes).unwrap();
        std::fs::write(scene.path("changed.safetensors"), safetensors::serialize(all, Some(metadata.clone())).unwrap())
            .unwrap();
    };
    changed("head.bn.running_var", -1.0);
    let message = scene.complaint("eval --network changed.safetensors", 3);
    assert!(message.contains("\"head.bn.running_var\" that is not finite and 0 or more"), "{message}");
    changed("head.fc.weight", 3e38);
    let message = scene.complaint("eval --network changed.safetensors", 3);
    assert!(message.contains("computes logits that are no finite numbers"), "{message}");
    changed("head.fc.bias", 0.5);
    scene.stdout("eval --network changed.safetensors");
}

#[test]
fn a_training_starts_from_an_exported_network() {
    let scene = Scene::finished();
    let retrain = "retrain --config settings.toml --out tuned";
    let from = format!("--init-from {}", exported());
    let tuned = scene.json(&format!("{retrain} {from} --retrain-lr 0.001"))["network"].clone();
    assert_eq!(tuned["id"].as_str(), Some(winner().as_str()));
    let first = |dir: &str| {
        let metrics = text(&std::fs::read(scene.path(dir).join("metrics.jsonl")).unwrap());
        let line = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut own = line.filter(|line| line["network"].as_str() == Some(winner().as_str()));
        number(&own.next().unwrap()["train_loss"])
    };
    assert!(first("tuned") < first("run") / 2.0, "{} after a training, {} before", first("tuned"), first("run"));
    let message = scene.complaint(&format!("{retrain} --arch {} --resume --retrain-lr 0.001", exported()), 5);
    assert!(message.contains("was started from inherited weights, not random ones"), "{message}");
    assert_eq!(scene.json(&format!("{retrain} {from} --resume --retrain-lr 0.001"))["network"], tuned);
    scene.stdout(&format!("export --out tuned --network {}", winner()));
    let card = text(&scene.files(&format!("tuned/export/{}", winner()))["README.md"]);
    assert!(card.contains(&format!("from exported network {}", winner())), "{card}");
    let settings = text(&std::fs::read(scene.path("settings.toml")).unwrap());
    std::fs::write(scene.path("stem.toml"), format!("stem_kernel = 5\n{settings}")).unwrap();
    for (flags, says) in [
        ("--config settings.toml --norm full", "has ops normalised by sandwich; give --norm sandwich"),
        ("--config settings.toml --network resnet-8", "not of resnet-8; leave --arch and --network out"),
        ("--init-from-smash", "cannot be used with"),
        (
            "--config stem.toml",
            "is for pictures of 1 channels, 10 classes, a stem of 7 pixels and stride 1, and this run for",
        ),
    ] {
        let message = text(&scene.output(&format!("retrain --out new {from} {flags} -q")).stderr);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_built_in_network_is_exported_too() {
    let scene = Scene::finished();
    let trained = scene.json("retrain --out run --network densenet-7-4")["network"].clone();
    let told = scene.json("export --out run --network densenet-7-4 --to elsewhere --fold-batchnorm");
    assert_eq!((told["network"].as_str(), &told["errors"]["test_err"]), (Some("densenet-7-4"), &trained["test_err"]));
    assert_eq!(scene.json("eval --network elsewhere")["test_err"], trained["test_err"]);
    let again = scene.json("retrain --config settings.toml --out again --arch elsewhere")["network"].clone();
    assert_eq!((&again["id"], &again["test_err"]), (&trained["id"], &trained["test_err"]), "the same training");
}

#[test]
fn folders_of_others_are_left_alone() {
    let scene = Scene::finished();
    let other = scene.json("retrain --out run --network resnet-8");
    assert_eq!(other["network"]["id"].as_str(), Some("resnet-8"));
    std::fs::create_dir(scene.path("full")).unwrap();
    std::fs::write(scene.path("full/letter.txt"), "mine").unwrap();
    let message = scene.complaint("export --out run --to full", 2);
    assert!(message.contains("--to: full holds other files; name a new folder"), "{message}");
    let message = scene.complaint(&format!("export --out run --network resnet-8 --to {}", exported()), 2);
    assert!(message.contains(&format!("holds another export of {}; name a new folder", winner())), "{message}");
    let generated = format!("export --out run --arch run/arch/{}.json --to {}", winner(), exported());
    let before = scene.files(&exported());
    let message = scene.complaint(&generated, 2);
    assert!(message.contains("or replace its files with --overwrite"), "{message}");
    assert!(scene.files(&exported()) == before);
    std::fs::write(scene.path("file"), "").unwrap();
    let message = scene.complaint("export --out run --to file", 2);
    assert!(message.contains("--to: file is no folder"), "{message}");
    let weights = scene.path(&exported()).join("model.safetensors");
    std::fs::write(&weights, "broken").unwrap();
    let message = scene.complaint("export --out run", 2);
    assert!(message.contains("holds a damaged export"), "{message}");
    scene.stdout("export --out run --overwrite");
    assert!(std::fs::read(weights).unwrap().len() > 1000);
    assert_eq!(scene.files("full").len(), 1);
}

#[test]
fn what_is_no_exported_network_is_named() {
    let scene = Scene::finished();
    let weights = std::fs::read(scene.path(&exported()).join("model.safetensors")).unwrap();
    std::fs::write(scene.path("cut.safetensors"), &weights[..weights.len() / 2]).unwrap();
    std::fs::write(scene.path("text.safetensors"), "not at all").unwrap();
    let file = SafeTensors::deserialize(&weights).unwrap();
    let plain = safetensors::serialize(file.tensors(), None).unwrap();
    std::fs::write(scene.path("plain.safetensors"), plain).unwrap();
    let checkpoint = format!("run/ckpt/net-{}.safetensors", winner());
    for (path, says) in [
        ("cut.safetensors", "is no network that `smash-engine export` wrote"),
        ("text.safetensors", "is no network that `smash-engine export` wrote"),
        ("plain.safetensors", "its metadata have no \"smash_engine\""),
        (checkpoint.as_str(), "is a checkpoint of a run; `smash-engine export` makes a network of it"),
        ("data", "holds no model.safetensors; name a folder that `smash-engine export` wrote"),
    ] {
        for command in ["eval --network", "retrain --config settings.toml --out new --init-from"] {
            let message = scene.complaint(&format!("{command} {path}"), 3);
            assert!(message.contains(says), "{command}: {message}");
        }
    }
    assert!(!scene.path("new").exists());
    let message = scene.complaint("eval --network missing.safetensors", 1);
    assert!(message.contains("cannot read missing.safetensors"), "{message}");
    let message = scene.complaint(&format!("eval --network {} --data embedded", exported()), 2);
    assert!(message.contains("--data: the classes of embedded are not those"), "{message}");
    let message = scene.complaint(&format!("eval --network {} --split val", exported()), 2);
    assert!(message.contains("--split: val: an exported network brings no validation images"), "{message}");
    std::fs::rename(scene.path("data"), scene.path("moved")).unwrap();
    let message = scene.complaint(&format!("eval --network {}", exported()), 2);
    assert!(message.contains("data, which the network was trained on, is not here; name a copy of it"), "{message}");
    scene.stdout(&format!("eval --network {} --data moved", exported()));
    let message = scene.complaint("eval", 2);
    assert!(message.contains("--out: names no run; give its directory, or an exported network"), "{message}");
}
