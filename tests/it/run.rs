//! A whole run and its stages: what they leave behind, what they print, and what they refuse.

use crate::scene::{IMAGES, RUN, STEPS, Scene, assert_alike, complaint, finished, lines, tensors, text, without};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Architecture ids of the trained networks and their roles, as results.json has them.
fn networks(results: &Value) -> Vec<(String, String)> {
    let word = |network: &Value, key: &str| network[key].as_str().unwrap().to_string();
    results["networks"].as_array().unwrap().iter().map(|n| (word(n, "role"), word(n, "id"))).collect()
}

/// What a report shows.
const FIGURES: [&str; 6] = [
    "figures/test-errors.svg",
    "figures/smash-training.svg",
    "figures/scores.svg",
    "figures/scores-and-cost.svg",
    "figures/winner.svg",
    "figures/trainings.svg",
];

#[test]
fn a_run_leaves_every_file_it_promises() {
    let files = finished();
    let results: Value = serde_json::from_slice(&files["results.json"]).unwrap();
    let trained = networks(&results);
    let mut expected: BTreeSet<String> =
        ["config.toml", "env.json", "metrics.jsonl", "archs.jsonl", "ranking.jsonl", "timing.json", "results.json"]
            .into_iter()
            .chain(["report.md", "report.html"])
            .chain(FIGURES)
            .chain(["ckpt/smash.safetensors", "ckpt/search.json"])
            .map(str::to_string)
            .collect();
    for (_, id) in &trained {
        expected.insert(format!("arch/{id}.json"));
        expected.insert(format!("ckpt/net-{id}.safetensors"));
    }
    let exported =
        ["README.md", "architecture.json", "architecture.svg", "model.onnx", "model.py", "model.safetensors"];
    expected.extend(exported.map(|name| format!("export/{}/{name}", trained[0].1)));
    assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let env: Value = serde_json::from_slice(&files["env.json"]).unwrap();
    assert_eq!((&env["threads"], &env["engine"]), (&json!(1), &json!(env!("CARGO_PKG_VERSION"))));
    for stage in ["smash", "search", "retrain"] {
        assert!(results["seconds"][stage].as_f64().unwrap() > 0.0, "{stage} takes time");
    }
}

#[test]
fn a_run_trains_the_winner_its_rivals_and_the_largest() {
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    let ranking = lines(&finished()["ranking.jsonl"]);
    let trained = networks(&results);
    let of = |role: &str| trained.iter().filter(|(r, _)| r == role).map(|(_, id)| id).collect::<Vec<_>>();
    assert_eq!(of("winner"), [ranking[0]["id"].as_str().unwrap()]);
    assert_eq!(of("rival").len(), 2);
    let macs = |id: &str| ranking.iter().find(|c| c["id"] == id).unwrap()["macs"].as_u64().unwrap();
    let most = trained.iter().map(|(_, id)| macs(id)).max();
    assert_eq!(most, ranking.iter().map(|c| c["macs"].as_u64().unwrap()).max(), "the largest is among them");
    assert_eq!(trained.len(), 3 + of("largest").len());
    for network in results["networks"].as_array().unwrap() {
        for error in ["val_err", "test_err", "smash_val_err"] {
            assert!((0.0..=100.0).contains(&network[error].as_f64().unwrap()), "{network}");
        }
        assert_eq!(network["test_images"], IMAGES[1]);
    }
    let best =
        results["networks"].as_array().unwrap().iter().map(|n| n["test_err"].as_f64().unwrap()).fold(100.0, f64::min);
    assert!(best < 70.0, "ten kinds of stripes can be told apart: {best} % of guesses wrong, 90 % is chance");
}

#[test]
fn metrics_have_every_step_and_epoch_of_every_training() {
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    let metrics = lines(&finished()["metrics.jsonl"]);
    let ids = networks(&results).into_iter().map(|(_, id)| (id, STEPS[2], 4));
    for (name, steps, epochs) in std::iter::once(("smash".to_string(), STEPS[0], 3)).chain(ids) {
        let (of_epochs, of_steps): (Vec<&Value>, Vec<&Value>) =
            metrics.iter().filter(|line| line["network"] == name).partition(|line| line.get("epoch").is_some());
        let numbers = |lines: &[&Value], key: &str| lines.iter().map(|l| l[key].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(numbers(&of_steps, "step"), (1..=steps as u64).collect::<Vec<_>>(), "{name}");
        assert_eq!(numbers(&of_epochs, "epoch"), (1..=epochs).collect::<Vec<_>>(), "{name}");
        assert!(of_steps.iter().all(|l| l["train_loss"].is_f64() && l["train_err"].is_f64()));
        assert!(of_epochs.iter().all(|l| l["val_err"].is_f64()));
    }
}

#[test]
fn the_ranking_is_the_scored_architectures_best_first() {
    let scored = lines(&finished()["archs.jsonl"]);
    let ranking = lines(&finished()["ranking.jsonl"]);
    assert_eq!(scored.len(), STEPS[1]);
    let indices: Vec<u64> = scored.iter().map(|c| c["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (0..STEPS[1] as u64).collect::<Vec<_>>());
    let error = |candidate: &Value| candidate["val_err"].as_f64().unwrap();
    assert!(ranking.is_sorted_by(|a, b| error(a) <= error(b)));
    let mut again = ranking.clone();
    again.sort_by_key(|c| c["index"].as_u64());
    assert_eq!(again, scored);
    let random = scored.iter().filter(|c| c["origin"] == "random").count();
    assert_eq!(random, 24);
}

#[test]
fn the_same_command_prints_a_report_or_its_results_as_json() {
    let scene = Scene::finished();
    let resume = format!("{RUN} --resume");
    let report = scene.stdout(&resume);
    for part in ["val_err", "test_err", "winner", "rival", "Search cost"] {
        assert!(report.contains(part), "{part} is missing from:\n{report}");
    }
    assert!(text(&scene.files("run")["report.md"]).starts_with(&report), "it begins with the outcome");
    let printed = scene.json(&resume);
    assert_eq!(printed, serde_json::from_slice::<Value>(&scene.files("run")["results.json"]).unwrap());
}

#[test]
fn a_run_says_what_it_will_cost_and_how_it_goes() {
    let scene = Scene::new();
    let output = scene.output(RUN);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    for part in ["results go to run", "smash: 72 steps of 10 images", "MiB of memory", "72/72", "search: 48 archit"] {
        assert!(said.contains(part), "{part} is missing from:\n{said}");
    }
    assert!(!said.contains('\x1b'), "no bars where stderr is no terminal");
    assert_alike(&scene.files("run"), finished());
}

#[test]
fn threads_do_not_change_the_results_and_seeds_do() {
    let scene = Scene::new();
    scene.stdout(&format!("{RUN} --threads 2"));
    assert_alike(&scene.files("run"), finished());
    scene.stdout("run --config settings.toml --out other --seed 2 --rivals 0");
    let other = scene.files("other");
    for name in ["metrics.jsonl", "ranking.jsonl", "ckpt/smash.safetensors"] {
        assert!(other[name] != finished()[name], "{name} does not depend on the seed");
    }
}

#[test]
fn the_written_settings_repeat_the_run() {
    let scene = Scene::new();
    std::fs::write(scene.path("again.toml"), &finished()["config.toml"]).unwrap();
    scene.stdout("run --config again.toml --out run");
    assert_alike(&scene.files("run"), finished());
}

#[test]
fn a_directory_with_a_run_is_not_touched_unasked() {
    let scene = Scene::finished();
    let before = scene.files("run");
    let times = scene.times("run");
    for command in ["run", "train"] {
        let message = scene.complaint(&format!("{command} --config settings.toml --out run"), 2);
        for part in ["--out: run already holds a run", "--resume", "--overwrite"] {
            assert!(message.contains(part), "{part} is missing from: {message}");
        }
    }
    assert!(scene.complaint("search --out run", 2).contains("already holds a search"));
    assert!(scene.complaint("retrain --out run", 2).contains("was trained here already"));
    assert_eq!(scene.output(&format!("{RUN} --resume --overwrite")).status.code(), Some(2), "one of them");
    assert!(scene.files("run") == before && scene.times("run") == times);
}

#[test]
fn overwrite_starts_anew_and_deletes_only_what_a_run_writes() {
    let scene = Scene::finished();
    std::fs::write(scene.path("run/notes.txt"), "mine").unwrap();
    std::fs::write(scene.path("run/arch/000000000000.json"), "an older network").unwrap();
    scene.stdout(&format!("{RUN} --overwrite --seed 2 --rivals 0"));
    let files = scene.files("run");
    assert_eq!(files["notes.txt"], b"mine");
    assert!(!files.contains_key("arch/000000000000.json"));
    let fresh = Scene::new();
    fresh.stdout(&format!("{RUN} --seed 2 --rivals 0"));
    assert_alike(&without(files, "notes.txt"), &fresh.files("run"));
}

#[test]
fn resuming_with_other_settings_names_each_of_them() {
    let scene = Scene::finished();
    let before = scene.files("run");
    let message = scene.complaint(&format!("{RUN} --resume --batch 8 --lr 0.5 --checkpoint-seconds 9"), 5);
    for part in ["checkpoint run: ", "smash.batch: 8 now, 10 before", "smash.lr: 0.5 now, 0.00"] {
        assert!(message.contains(part), "{part} is missing from: {message}");
    }
    assert!(!message.contains("checkpoint_seconds"), "does not affect results: {message}");
    let message = scene.complaint("search --out run --seed 3 --resume", 5);
    assert!(message.contains("seed: 3 now, 1 before"), "{message}");
    assert!(scene.files("run") == before);
}

#[test]
fn a_directory_that_is_somebody_elses_is_refused() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("run")).unwrap();
    std::fs::write(scene.path("run/thesis.tex"), "").unwrap();
    for flag in ["", "--resume", "--overwrite"] {
        let message = scene.complaint(&format!("{RUN} {flag}"), 2);
        assert!(message.contains("run is not empty and holds no run"), "{message}");
    }
    assert_eq!(scene.files("run").len(), 1);
}

#[test]
fn an_empty_directory_is_a_place_for_a_run() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("run")).unwrap();
    scene.stdout("train --config settings.toml --out run --epochs 1");
    assert!(scene.path("run/ckpt/smash.safetensors").is_file());
}

#[test]
fn a_place_that_cannot_be_written_is_an_operating_system_error() {
    let scene = Scene::new();
    for out in ["data/train-labels-idx1-ubyte", "settings.toml/run", "/dev/null", "/proc/run"] {
        let message = scene.complaint(&format!("run --config settings.toml --out {out}"), 1);
        assert!(message.starts_with(&format!("smash-engine: cannot create {out}: ")), "{message}");
    }
    assert!(scene.complaint("run --config nowhere.toml --out run", 1).contains("cannot read nowhere.toml: "));
    assert!(!scene.path("run").exists());
}

#[test]
fn the_stages_one_by_one_make_the_same_run() {
    let scene = Scene::new();
    let trained = scene.json("train --config settings.toml --out run");
    assert_eq!((&trained["dir"], &trained["steps"]), (&json!("run"), &json!(STEPS[0])));
    let searched = scene.json("search --out run");
    assert_eq!((&searched["scored"], &searched["best"]), (&json!(STEPS[1]), &lines(&finished()["ranking.jsonl"])[0]));
    let retrained = scene.json("retrain --out run");
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    assert_eq!(retrained["network"], results["networks"][0]);
    let (files, winner) = (scene.files("run"), results["networks"][0]["id"].as_str().unwrap());
    let net = format!("ckpt/net-{winner}.safetensors");
    for name in ["archs.jsonl", "ranking.jsonl", "ckpt/search.json"] {
        assert!(files[name] == finished()[name], "{name} differs");
    }
    for name in ["ckpt/smash.safetensors", &net] {
        assert!(tensors(&files[name]) == tensors(&finished()[name]), "{name} differs");
    }
    assert!(finished()["metrics.jsonl"].starts_with(&files["metrics.jsonl"]));
    let table = scene.stdout("retrain --out run --resume");
    assert!(table.contains(winner) && table.contains("test_err"), "{table}");
}

#[test]
fn eval_repeats_the_errors_of_the_results() {
    let scene = Scene::finished();
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    for (i, network) in results["networks"].as_array().unwrap().iter().enumerate() {
        // The winner is what eval takes by itself.
        let name = if i == 0 { String::new() } else { format!("--network {}", network["id"].as_str().unwrap()) };
        let validation = scene.json(&format!("eval --out run --split val {name}"));
        let test = scene.json(&format!("eval --out run {name}"));
        assert_eq!((&validation["val_err"], &test["test_err"]), (&network["val_err"], &network["test_err"]));
        assert_eq!((&validation["images"], &test["images"]), (&json!(IMAGES[0] / 5), &json!(IMAGES[1])));
        assert_eq!((&test["architecture"], &test["weights"]), (&network["id"], &json!("trained")));
        assert!(test.get("val_err").is_none() && validation.get("test_err").is_none());
    }
    let said = scene.stdout("eval --out run --split val");
    assert!(said.contains("trained weights: val_err ") && said.contains(" on 60 images"), "{said}");
}

#[test]
fn eval_of_an_architecture_is_its_smash_score() {
    let scene = Scene::finished();
    for candidate in lines(&finished()["archs.jsonl"]).iter().step_by(7) {
        std::fs::write(scene.path("arch.json"), candidate["arch"].to_string()).unwrap();
        let score = scene.json("eval --out run --arch arch.json --split val");
        assert_eq!(score["val_err"], candidate["val_err"]);
        assert_eq!(score["val_loss"], candidate["val_loss"]);
        assert_eq!((&score["architecture"], &score["weights"]), (&candidate["id"], &json!("generated")));
    }
    assert!(scene.json("eval --out run --arch arch.json")["test_err"].is_f64());
}

#[test]
fn an_architecture_can_be_trained_alone() {
    let scene = Scene::new();
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    let rival = &results["networks"][1];
    let id = rival["id"].as_str().unwrap();
    std::fs::write(scene.path("arch.json"), &finished()[&format!("arch/{id}.json")]).unwrap();
    let line = "retrain --config settings.toml --out alone --arch arch.json";
    let trained = scene.json(line);
    assert_eq!((&trained["network"]["role"], &trained["network"]["id"]), (&json!("chosen"), &rival["id"]));
    for error in ["val_err", "test_err"] {
        assert_eq!(trained["network"][error], rival[error], "the same images and draws give the same network");
    }
    assert_eq!(scene.json(&format!("eval --out alone --network {id}"))["test_err"], rival["test_err"]);
    assert!(scene.complaint(line, 2).contains("was trained here already"), "not twice unasked");
    assert_eq!(scene.json(&format!("{line} --resume"))["network"], trained["network"]);
}

/// A scene with the architecture of a finished run in `arch.json`.
fn with_architecture() -> Scene {
    let scene = Scene::new();
    let (_, arch) = finished().iter().find(|(name, _)| name.starts_with("arch/")).unwrap();
    std::fs::write(scene.path("arch.json"), arch).unwrap();
    scene
}

#[test]
fn a_network_may_be_trained_on_all_images() {
    let scene = with_architecture();
    let line = "retrain --config settings.toml --out all --arch arch.json --validation 0 --retrain-batch 150";
    let network = &scene.json(line)["network"];
    assert!(network["test_err"].is_f64() && network.get("val_err").is_none(), "{network}");
    let metrics = lines(&scene.files("all")["metrics.jsonl"]);
    let steps = metrics.iter().filter(|line| line.get("epoch").is_none()).count();
    assert_eq!(steps, IMAGES[0] / 150 * 4, "two steps an epoch, none of its images held out");
    assert!(scene.complaint("eval --out all --split val", 2).contains("held none out"));
    let message = scene.complaint("train --config settings.toml --out run --validation 0", 2);
    assert!(message.contains("data.validation: 0 leaves no images to score"), "{message}");
}

#[test]
fn a_diverged_network_is_no_result() {
    let scene = with_architecture();
    // One step: its loss is looked at before it changes the network, so only the evaluation can notice.
    let flags = "--epochs 1 --retrain-epochs 1 --retrain-batch 240 --retrain-lr 1e30";
    let message = scene.complaint(&format!("retrain --config settings.toml --out bad --arch arch.json {flags}"), 1);
    assert!(message.contains("--retrain-lr"), "{message}");
    scene.stdout("train --config settings.toml --out run --epochs 1 --batch 240 --max-steps 1 --lr 1e30");
    let best = scene.json("search --out run --random 3 --perturb 1 --markov 1")["best"].clone();
    assert_eq!((&best["val_err"], &best["val_loss"]), (&json!(100.0), &Value::Null), "NaN is no hit");
    scene.stdout("search --out run --resume");
}

#[test]
fn other_images_in_the_directory_of_a_run_are_named_before_they_are_looked_at() {
    let scene = Scene::finished();
    let message = scene.complaint("retrain --out run --data elsewhere --resume", 5);
    assert!(message.contains("data.source: \"elsewhere\" now, \"data\" before"), "{message}");
}

#[test]
fn stages_out_of_order_say_what_is_missing() {
    let scene = Scene::new();
    let complaint = |line: &str, part: &str| {
        let message = scene.complaint(line, 2);
        assert!(message.contains(part), "{line}: {part:?} is missing from: {message}");
    };
    for line in ["search --out run", "retrain --out run", "eval --out run"] {
        complaint(line, "run holds no run; `smash-engine train --out DIR` makes one");
    }
    assert!(!scene.path("run").exists());
    scene.stdout("train --config settings.toml --out run --max-steps 2");
    complaint("retrain --out run", "run holds no finished search; `smash-engine search` makes one");
    complaint("eval --out run", "run holds no finished search; `smash-engine search` makes one");
    complaint("eval --out run --network 0123456789ab", "run holds no trained network 0123456789ab");
    scene.stdout("search --out run --random 2 --perturb 0 --markov 0");
    complaint("eval --out run", "holds no trained network ");
    complaint("search --out run --preset v1", "the run directory has its settings; leave it out");
    std::fs::create_dir(scene.path("alone")).unwrap();
    std::fs::write(scene.path("alone/config.toml"), &finished()["config.toml"]).unwrap();
    complaint("search --out alone", "alone holds no SMASH network; `smash-engine train` makes one");
}

#[test]
fn a_search_is_continued_with_its_own_settings_only() {
    let scene = Scene::finished();
    let message = scene.complaint("search --out run --resume --random 5", 5);
    assert!(message.contains("search.random: 5 now, 24 before"), "{message}");
    let again = scene.json("search --out run --overwrite --random 5 --perturb 0 --markov 0");
    assert_eq!(again["scored"], 5);
    assert_eq!(lines(&scene.files("run")["archs.jsonl"]), lines(&finished()["archs.jsonl"])[..5]);
    assert_eq!(lines(&scene.files("run")["ranking.jsonl"]).len(), 5);
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_written() {
    let scene = Scene::new();
    for (flags, part) in [
        ("--batch 0", "batch: 0 is not between 1 and"),
        ("--batch 241", "batch: 241 is more than the 240 training images"),
        ("--epochs 18446744073709551615", "epochs: 18446744073709551615 is not between"),
        ("--seed 18446744073709551615", "seed: 18446744073709551615 is more than"),
        ("--lr nan", "lr: NaN is not a positive number"),
        ("--random 0", "random: 0 is not between 1 and"),
        ("--device cuda:9", "device cuda:9"),
        ("--threads 0", "--threads: 0 is not"),
    ] {
        let status = if flags.contains("cuda") { 6 } else { 2 };
        let message = complaint(&scene.output(&format!("{RUN} {flags} -q")), status);
        assert!(message.contains(part), "{flags}: {part:?} is missing from: {message}");
        assert!(!scene.path("run").exists(), "{flags}");
    }
}

#[test]
fn retraining_a_file_in_the_default_directory_leaves_the_run_there() {
    let scene = Scene::new();
    let run = RUN.replace("--out run", "");
    assert!(!run.contains("--out"));
    scene.stdout(&run);
    let directory = "runs/data-small-s1";
    let before = scene.files(directory);
    let network = before.keys().find(|name| name.starts_with("arch/")).unwrap();
    std::fs::copy(scene.path(directory).join(network), scene.path("mine.json")).unwrap();
    let flags = run.trim_start_matches("run ");
    scene.stdout(&format!("retrain {flags} --arch mine.json --overwrite"));
    let after = scene.files(directory);
    for name in ["ckpt/smash.safetensors", "ranking.jsonl", "results.json"] {
        assert_eq!(before[name], after[name], "{name}");
    }
}

#[test]
fn another_norm_does_not_take_the_settings_of_networks_trained_before() {
    let scene = Scene::finished();
    let before = scene.files("run");
    let message = scene.complaint("retrain --out run --norm full --overwrite", 5);
    assert!(message.contains("retrain.norm"), "{message}");
    assert_eq!(scene.files("run"), before);
}

#[test]
fn evaluation_batches_larger_than_training_batches_fit_the_memory() {
    let scene = Scene::new();
    scene.stdout("train --config settings.toml --data data --out run --batch 1 --max-steps 2");
}

/// The space of the paper's second network at full size on 32x32 pixels; a batch of 4 keeps it short.
#[test]
fn the_papers_space_trains_within_the_memory_it_states() {
    let scene = Scene::new();
    std::fs::write(scene.path("v2.toml"), "preset = \"v2\"\n[data]\naugment = \"none\"\neval_batch = 20\n").unwrap();
    let output = scene.output("train --data data --out v2 --batch 4 --max-steps 6 --config v2.toml -v");
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("peak resident memory")).unwrap_or_else(|| panic!("{log}"));
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [peak, stated] = numbers[..] else { panic!("{line}") };
    assert!((peak - stated).abs() <= 0.1 * stated, "{line}");
    assert!(peak < 1536.0, "{line}");
    let losses = lines(&std::fs::read(scene.path("v2/metrics.jsonl")).unwrap());
    assert!(losses.iter().all(|line| line["train_loss"].as_f64().is_some_and(f64::is_finite)), "{losses:?}");
}
