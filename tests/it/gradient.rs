//! `search --strategy gradient`: after the random search as it always was, perturbations chosen by dE/dc, and a
//! comparison of both at equal cost.

use crate::scene::{Scene, finished, lines};
#[cfg(unix)]
use crate::scene::{complaint, signal, wait_until};
use serde_json::{Value, json};

/// Passes that a gradient costs.
const COST: u64 = 3;

fn archs(scene: &Scene) -> Vec<Value> {
    lines(&scene.files("run")["archs.jsonl"])
}

#[test]
fn the_random_search_stays_and_the_guided_one_costs_no_more() {
    let scene = Scene::finished();
    let found = scene.json("search --out run --overwrite --strategy gradient");
    let (archs, random) = (archs(&scene), lines(&finished()["archs.jsonl"]));
    let guided = &archs[random.len()..];
    assert_eq!(archs[..random.len()], random, "the same candidates as without the gradient");
    assert!(guided.iter().all(|c| c["predicted"].is_f64() && c["origin"].to_string().contains("gradient")));
    assert!(guided.iter().any(|c| c["origin"]["gradient-markov"]["of"].is_u64()));
    assert_eq!(found["scored"], archs.len());
    assert_eq!(lines(&scene.files("run")["ranking.jsonl"]).len(), archs.len());

    let number = |value: &Value| value.as_u64().unwrap();
    let (by_chance, by_gradient) = (&found["gradient"]["random"], &found["gradient"]["gradient"]);
    assert_eq!(
        (number(&by_chance["passes"]), number(&by_chance["scored"]), number(&by_chance["gradients"])),
        (24, 24, 0)
    );
    assert_eq!(number(&by_gradient["scored"]), guided.len() as u64);
    let passes = number(&by_gradient["passes"]);
    assert_eq!(passes, guided.len() as u64 + COST * number(&by_gradient["gradients"]));
    assert!((21..=24).contains(&passes), "{passes}");
    assert_eq!((number(&by_chance["perturbations"]), number(&by_gradient["perturbations"])), (12, 9));
    assert_eq!(by_chance["prediction"]["pairs"].as_array().unwrap().len(), 12);

    // The numbers are those of the candidates.
    let base = archs.iter().find(|c| c["index"] == found["gradient"]["base"]["index"]).unwrap();
    let error = |c: &Value| c["val_err"].as_f64().unwrap();
    let lowest = random[..24].iter().map(error).fold(f64::INFINITY, f64::min);
    assert_eq!(error(base), lowest, "the best random one");
    let changed = guided.iter().filter(|c| c["origin"]["gradient"].is_object());
    let changes: Vec<f64> = changed.map(|c| error(c) - error(base)).collect();
    let mean = changes.iter().sum::<f64>() / changes.len() as f64;
    assert!((by_gradient["changes"]["val_err"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    let best = guided.iter().map(error).fold(error(base), f64::min);
    assert_eq!(by_gradient["best"]["val_err"], best);
    assert_eq!(scene.json("search --out run --resume"), found, "a finished search only tells");
    let text = scene.stdout("search --out run --resume");
    assert!(text.contains("random perturbations; rank correlation") && text.contains("by gradient"), "{text}");
}

#[test]
fn a_search_without_gradient_leaves_nothing_of_one_before() {
    let scene = Scene::finished();
    let few = "search --out run --overwrite --random 3 --perturb 4 --markov 4";
    assert!(scene.json(&format!("{few} --strategy gradient"))["gradient"].is_object());
    assert!(scene.path("run/gradient.json").is_file());
    let message = scene.complaint("search --out run --resume --strategy random", 5);
    assert!(message.contains("search.strategy: unset now, \"gradient\" before"), "{message}");
    let plain = scene.json(&format!("{few} --strategy random"));
    assert_eq!((plain["scored"].clone(), plain["gradient"].clone()), (json!(11), Value::Null));
    assert!(!scene.path("run/gradient.json").exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_guided_search_ends_like_one_that_was_left_alone() {
    const SEARCH: &str = "search --out run --strategy gradient --random 2 --perturb 3 --markov 150";
    let scene = Scene::finished();
    scene.stdout(&format!("{SEARCH} --overwrite"));
    let whole = scene.files("run");
    // Or what the search before left would be taken for this one's.
    std::fs::remove_file(scene.path("run/archs.jsonl")).unwrap();
    let child = scene.start(&format!("{SEARCH} --overwrite --checkpoint-seconds 0"));
    wait_until("guided perturbations are scored", || {
        let text = std::fs::read_to_string(scene.path("run/archs.jsonl")).unwrap_or_default();
        text.contains("gradient-markov")
    });
    signal(&child, "TERM");
    complaint(&child.wait_with_output().unwrap(), 143);
    assert!(!scene.path("run/ranking.jsonl").exists() && !scene.path("run/gradient.json").exists());
    scene.stdout("search --out run --resume");
    let again = scene.files("run");
    for name in ["archs.jsonl", "ranking.jsonl", "gradient.json"] {
        assert!(again[name] == whole[name], "{name}");
    }
}
