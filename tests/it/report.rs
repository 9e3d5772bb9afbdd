//! The report of a run: one page that holds all it shows, tells how to repeat it, and goes when it is no longer true.

use crate::scene::{RUN, Scene, assert_finished_alike, finished, text};
use serde_json::Value;

const REPORT: [&str; 4] = ["report.md", "report.html", "figures/winner.svg", "results.json"];

/// Is the report there, all of it or nothing?
#[track_caller]
fn has_report(scene: &Scene) -> bool {
    let files = scene.files("run");
    let there = REPORT.iter().filter(|name| files.contains_key(**name)).count();
    assert!([0, REPORT.len()].contains(&there), "a part of it: {:?}", files.keys());
    there > 0
}

#[test]
fn the_page_holds_every_figure_and_every_number_of_the_report() {
    let files = finished();
    let (page, report) = (text(&files["report.html"]), text(&files["report.md"]));
    let figures: Vec<&String> = files.keys().filter(|name| name.starts_with("figures/")).collect();
    assert!(figures.len() >= 6);
    for name in figures {
        assert!(page.contains(text(&files[name]).trim_end()), "{name} is not on the page");
        assert!(report.contains(&format!("]({name})")), "{name} is not in the report");
    }
    assert!(!page.contains("figures/") && !page.contains("<img"), "it needs no other file");
    let results: Value = serde_json::from_slice(&files["results.json"]).unwrap();
    for network in results["networks"].as_array().unwrap() {
        let error = format!("{:.2}% +- ", network["test_err"].as_f64().unwrap());
        assert!(report.contains(&error) && page.contains(&error), "{error}");
    }
    assert_eq!(page.matches("<html").count(), 1);
    assert!(page.contains("<title>SMASH on "), "{}", page.lines().nth(5).unwrap_or_default());
}

#[test]
fn the_report_repeats_the_run() {
    let scene = Scene::new();
    scene.stdout(&format!("{RUN} --threads 1 --checkpoint-seconds 0"));
    let began = "smash-engine run --config settings.toml --out run --threads 1 --checkpoint-seconds 0";
    let said = |scene: &Scene| text(&scene.files("run")["report.md"]);
    assert!(said(&scene).contains(began), "{}", said(&scene));
    scene.stdout(&format!("{RUN} --resume --checkpoint-seconds 0"));
    assert!(said(&scene).contains(began) && !said(&scene).contains("--resume"), "{}", said(&scene));
    let report = said(&scene);
    let (settings, _) = report.split_once("```toml\n").unwrap().1.split_once("```").unwrap();
    let again = Scene::new();
    std::fs::write(again.path("settings.toml"), settings).unwrap();
    again.stdout(RUN);
    assert_finished_alike(&again);
}

#[test]
fn a_report_goes_with_the_run_it_is_about() {
    let scene = Scene::finished();
    assert!(has_report(&scene));
    scene.stdout("retrain --out run --overwrite");
    assert!(has_report(&scene), "the same training again changes nothing");
    scene.stdout("retrain --out run --overwrite --retrain-epochs 1");
    assert!(!has_report(&scene), "it told of another training");
    let scene = Scene::finished();
    scene.stdout("search --out run --overwrite --random 3 --perturb 0 --markov 0");
    assert!(!has_report(&scene), "it told of another search");
    let scene = Scene::finished();
    scene.stdout("train --config settings.toml --out run --overwrite --max-steps 1");
    assert!(!has_report(&scene), "it told of another network");
}
