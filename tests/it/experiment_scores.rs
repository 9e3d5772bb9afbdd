//! The experiments about scores: what they find in a small space, what they leave behind, and that they continue.

use crate::scene::{Scene, text};
use serde_json::Value;

const ENCODING: &str = "experiment encoding --config settings.toml --out encoding --architectures 8";

/// The numbers of a JSON list.
fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Does the report show every figure that is there, and is there every figure that it shows?
fn figures_are_shown(scene: &Scene, dir: &str) -> Vec<String> {
    let files = scene.files(dir);
    let (markdown, html) = (text(&files["report.md"]), text(&files["report.html"]));
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".svg")).cloned().collect();
    assert!(names.iter().all(|name| markdown.contains(&format!("({name})"))), "{names:?} in {markdown}");
    assert_eq!((markdown.matches("](figures/").count(), html.matches("<svg").count()), (names.len(), names.len()));
    names
}

#[test]
fn wrong_encodings_are_scored_beside_the_true_one() {
    let scene = Scene::new();
    let results = scene.json(ENCODING);
    let networks = results["networks"].as_array().unwrap();
    assert_eq!((results["experiment"].as_str(), networks.len()), (Some("encoding"), 8));
    let effects = results["findings"]["effects"].as_array().unwrap();
    let kinds: Vec<&str> = effects.iter().map(|effect| effect["kind"].as_str().unwrap()).collect();
    // The space has one size of filters.
    assert_eq!(kinds, ["dilation", "groups", "reads", "writes", "width", "body", "another"]);
    let err = |reached: &Value| reached["val_err"].as_f64().unwrap();
    for (effect, kind) in effects.iter().zip(kinds) {
        let differences: Vec<f64> = networks
            .iter()
            .flat_map(|n| n["lies"].as_array().unwrap().iter().map(move |lie| (n, lie)))
            .filter(|(_, lie)| lie["kind"] == kind)
            .map(|(n, lie)| err(lie) - err(&n["truth"]))
            .collect();
        assert_eq!(effect["val_err"]["pairs"], differences.len());
        assert!((effect["val_err"]["mean"].as_f64().unwrap() - mean(&differences)).abs() < 1e-9, "{effect}");
        let changed = effect["changed"].as_f64().unwrap();
        assert!(changed > 0.0 && changed <= 1.0, "{effect}");
    }
    // The loss has enough digits to tell whether weights are others at all.
    let loss = |reached: &Value| reached["val_loss"].as_f64().unwrap();
    let another = |n: &Value| loss(n["lies"].as_array().unwrap().last().unwrap());
    assert!(networks.iter().all(|n| loss(&n["truth"]) != another(n)));
    assert_eq!(figures_are_shown(&scene, "encoding"), ["figures/encoding-loss.svg", "figures/encoding.svg"]);
    let lies: usize = networks.iter().map(|n| n["lies"].as_array().unwrap().len()).sum();
    let csv = text(&scene.files("encoding")["figures/encoding.csv"]);
    assert_eq!(csv.lines().count(), 1 + networks.len() + lies);
}

#[test]
fn an_interrupted_experiment_says_the_same_wrong_things_when_resumed() {
    let scene = Scene::new();
    let whole = scene.json(ENCODING);
    let (path, before) = (scene.path("encoding/scores/encodings.jsonl"), scene.files("encoding"));
    let lines: Vec<&str> = std::str::from_utf8(&before["scores/encodings.jsonl"]).unwrap().lines().collect();
    assert_eq!(lines.len(), 8);
    // Killed in the middle of the sixth line.
    std::fs::write(&path, format!("{}\n{}", lines[..5].join("\n"), &lines[5][..20])).unwrap();
    let resumed = scene.json(&format!("{ENCODING} --resume"));
    let after = scene.files("encoding");
    assert_eq!((&resumed["networks"], &resumed["findings"]), (&whole["networks"], &whole["findings"]));
    for name in ["scores/encodings.jsonl", "smash/base/ckpt/smash.safetensors", "figures/encoding.svg"] {
        assert!(before[name] == after[name], "{name}");
    }
    assert!(scene.complaint(&format!("{ENCODING} --resume --seed 2"), 5).contains("seed: 2 now, 1 before"));
}

#[test]
fn scorers_are_compared_with_each_other_and_with_trainings() {
    let scene = Scene::new();
    let settings = "--config settings.toml --architectures 12";
    let correlation = scene.json(&format!("experiment correlation {settings} --out trained --every 4"));
    let stability = format!("experiment stability {settings} --out stability --networks 2 --wide 2");
    let results = scene.json(&format!("{stability} --trained trained"));
    let scorers = results["scorers"].as_array().unwrap();
    let kinds: Vec<&str> = scorers.iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["seed", "seed", "ensemble", "crippled", "wide"]);
    let [first, second, both, crippled, wide] = [0, 1, 2, 3, 4].map(|i| numbers(&scorers[i]["val_err"]));
    assert_ne!(first, second);
    for i in 0..12 {
        assert!((both[i] - (first[i] + second[i]) / 2.0).abs() < 1e-12);
    }
    assert!(first != crippled && first != wide);
    let weights = |i: usize, name: &str| scorers[i]["weights"][name].as_f64().unwrap();
    assert!(weights(3, "hypernet") < weights(0, "hypernet") && weights(3, "learned") == weights(0, "learned"));
    assert!(weights(4, "ratio") > 1.2 * weights(0, "ratio"));
    for matrix in ["spearman", "kendall"] {
        let matrix = &results["rankings"][matrix];
        assert!((0..5).all(|i| matrix[i][i] == 1.0 && matrix[i][0] == matrix[0][i]), "{matrix}");
    }
    // Opened by itself, the network of another seed finds the images that it was validated on.
    let id = correlation["networks"][0]["id"].as_str().unwrap();
    let place = results["architectures"].as_array().unwrap().iter().position(|other| *other == id).unwrap();
    let arch = format!("trained/trained/{id}-s1/arch/{id}.json");
    let alone = scene.json(&format!("eval --out stability/smash/s2 --arch {arch} --split val"));
    assert_eq!(alone["val_err"].as_f64(), Some(second[place]));
    // The same three architectures, and of the same network the same scores.
    let truth = &results["truth"]["test_err"];
    for row in correlation["networks"].as_array().unwrap() {
        let ids = results["architectures"].as_array().unwrap();
        let i = ids.iter().position(|id| *id == row["id"]).unwrap();
        assert_eq!((&truth[i], row["score_val_err"].as_f64()), (&row["test_err"][0], Some(first[i])));
    }
    assert_eq!(truth.as_array().unwrap().iter().filter(|error| !error.is_null()).count(), 3);
    assert!(scorers.iter().all(|s| s["prediction"]["spearman"]["p"].is_number()), "{scorers:?}");
    assert_eq!(figures_are_shown(&scene, "stability").len(), 4);
    let elsewhere = stability.replace("--out stability", "--out stability2");
    let other = scene.complaint(&format!("{elsewhere} --trained trained --seed 2"), 5);
    assert!(other.contains("seed: 2 now, 1 before"), "{other}");
    assert!(scene.complaint(&format!("{elsewhere} --trained data"), 2).contains("--trained: data holds no experiment"));
    assert!(!scene.path("stability2").exists(), "what is refused leaves nothing behind");
}

#[test]
fn a_table_has_a_cell_for_each_hypernet_and_width() {
    let scene = Scene::new();
    let line = "experiment table1 --config settings.toml --out table1 --hypernets 1x1-1,3x2-1 --g 1,2 --architectures 9 \
                --every 3 --seeds 2";
    let results = scene.json(line);
    let columns = results["columns"].as_array().unwrap();
    assert_eq!(columns.iter().map(|c| c["g"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    let mut ratios = Vec::new();
    for column in columns {
        let [cells, rows] = ["cells", "networks"].map(|key| column[key].as_array().unwrap());
        assert_eq!(rows.iter().map(|row| row["rank"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 7]);
        assert!(rows.iter().all(|row| numbers(&row["test_err"]).len() == 2));
        let means: Vec<f64> = rows.iter().map(|row| mean(&numbers(&row["scores"]))).collect();
        assert!(means.windows(2).all(|pair| pair[0] <= pair[1]), "ranked by the mean score: {means:?}");
        for (cell, name) in cells.iter().zip(["1x1-1", "3x2-1"]) {
            assert_eq!((&cell["hypernet"], &cell["prediction"]["predictor"]), (&name.into(), &name.into()));
        }
        assert!(cells[0]["weights"]["hypernet"].as_u64() < cells[1]["weights"]["hypernet"].as_u64());
        ratios.push(column["ratio"].as_f64().unwrap());
    }
    assert!(ratios[0] < ratios[1], "{ratios:?}");
    assert_eq!(figures_are_shown(&scene, "table1").len(), 2);
    let before = scene.times("table1/trained");
    assert_eq!(scene.json(&format!("{line} --resume"))["columns"], results["columns"]);
    let results_of = |name: &String| name.ends_with("results.json") || name.ends_with(".safetensors");
    let after = scene.times("table1/trained");
    assert!(before.iter().filter(|(name, _)| results_of(name)).all(|(name, time)| after[name] == *time));
    let line = line.replace("--config settings.toml", "--from table1");
    let with_source = scene.complaint(&line, 2);
    assert!(with_source.contains("--from"), "{with_source}");
}
