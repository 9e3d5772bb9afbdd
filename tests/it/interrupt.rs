//! Runs that are interrupted: by signals, by kill -9, by a disk that is full. Whatever happens, the
//! files can be read and the same command with --resume ends like a run that was left alone.

use crate::scene::{RUN, STEPS, Scene, assert_finished_alike, complaint, finished, lines, signal, text, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// Saves after every step, so that the files tell how far a run is.
const SAVING: &str = "run --config settings.toml --out run --checkpoint-seconds 0";

/// The stages, each with the file that grows a line per step.
const STAGES: [(&str, &str); 3] = [("smash", "metrics.jsonl"), ("search", "archs.jsonl"), ("retrain", "metrics.jsonl")];

/// Steps of each stage that the files of `run` hold.
fn progress(run: &Path) -> [usize; 3] {
    let text = |name: &str| std::fs::read_to_string(run.join(name)).unwrap_or_default();
    let metrics = text("metrics.jsonl");
    // The last line may be half a line.
    let smash =
        metrics.lines().filter(|line| line.contains("\"network\":\"smash\"") && !line.contains("epoch")).count();
    let others = metrics.lines().filter(|line| line.starts_with('{') && !line.contains("\"smash\"")).count();
    [smash, text("archs.jsonl").lines().count(), others]
}

/// Starts a run, sends it a signal in `stage` and returns what it says.
fn interrupt(scene: &Scene, stage: usize, name: &str) -> Output {
    // On a busy machine the signal may come too late; then it is sent to another run.
    for _ in 0..5 {
        let child = scene.start(&format!("{SAVING} --overwrite"));
        let run = scene.path("run");
        wait_until("the stage has begun", || progress(&run)[stage] >= 3);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let all = [STEPS[0], STEPS[1], STEPS[2] * 3][stage];
        if progress(&run)[stage] < all {
            return output;
        }
    }
    panic!("no signal reached the program in stage {stage}");
}

fn a_signal_ends_the_run_where_it_can_go_on(name: &str, status: i32) {
    for (stage, (stage_name, growing)) in STAGES.into_iter().enumerate() {
        let scene = Scene::new();
        let output = interrupt(&scene, stage, name);
        let message = complaint(&output, status);
        let expected = format!("interrupted by SIG{name} after saving; continue with --resume");
        assert!(message.contains(&expected), "{stage_name}: {message}");
        assert!(!scene.path("run/results.json").exists());
        // What is there is the beginning of the whole.
        let part = scene.files("run");
        assert!(finished()[growing].starts_with(&part[growing]), "{growing}");
        scene.stdout(&format!("{RUN} --resume"));
        assert_finished_alike(&scene);
    }
}

#[test]
fn sigint_ends_the_run_where_it_can_go_on() {
    a_signal_ends_the_run_where_it_can_go_on("INT", 130);
}

#[test]
fn sigterm_ends_the_run_where_it_can_go_on() {
    a_signal_ends_the_run_where_it_can_go_on("TERM", 143);
}

#[test]
fn an_interrupted_network_is_neither_searched_with_nor_evaluated() {
    let scene = Scene::new();
    interrupt(&scene, 0, "INT");
    let message = scene.complaint("search --out run", 2);
    assert!(message.contains("run holds a SMASH network after ") && message.contains(" of 72 steps; "), "{message}");
    let trained = scene.json("train --config settings.toml --out run --resume");
    assert!(trained["steps"].as_u64().unwrap() < 72, "it went on: {trained}");
    scene.stdout("search --out run");

    let child = scene.start("retrain --out run --checkpoint-seconds 0");
    let run = scene.path("run");
    wait_until("the winner is being trained", || progress(&run)[2] >= 3);
    signal(&child, "TERM");
    complaint(&child.wait_with_output().unwrap(), 143);
    let message = scene.complaint("eval --out run", 2);
    assert!(message.contains("steps; `smash-engine retrain --resume` trains it to the end"), "{message}");
    let message = scene.complaint("retrain --out run --resume --retrain-epochs 3", 5);
    assert!(message.contains("was started for 96 steps from learning rate 0.1, not 72 from 0.1"), "{message}");
    let trained = scene.json("retrain --out run --resume");
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    assert_eq!(trained["network"], results["networks"][0]);
}

#[test]
fn networks_trained_in_turns_keep_each_others_metrics() {
    let scene = Scene::new();
    interrupt(&scene, 2, "INT");
    let results: Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    let id = |network: usize| results["networks"][network]["id"].as_str().unwrap();
    std::fs::write(scene.path("rival.json"), &finished()[&format!("arch/{}.json", id(1))]).unwrap();
    scene.stdout("retrain --out run --arch rival.json");
    scene.stdout("retrain --out run --resume");
    let metrics = lines(&scene.files("run")["metrics.jsonl"]);
    let of = |metrics: &[Value], id: &str| metrics.iter().filter(|l| l["network"] == id).cloned().collect::<Vec<_>>();
    for id in ["smash", id(0), id(1)] {
        assert_eq!(of(&metrics, id), of(&lines(&finished()["metrics.jsonl"]), id), "{id}");
    }
}

#[test]
fn an_interrupted_search_is_continued_by_its_own_command() {
    let scene = Scene::new();
    scene.stdout("train --config settings.toml --out run");
    let child = scene.start("search --out run --checkpoint-seconds 0");
    let run = scene.path("run");
    wait_until("some architectures are scored", || progress(&run)[1] >= 3);
    signal(&child, "INT");
    complaint(&child.wait_with_output().unwrap(), 130);
    assert!(scene.complaint("search --out run", 2).contains("already holds a search; --resume continues it"));
    assert!(scene.complaint("retrain --out run", 2).contains("holds no finished search"));
    scene.stdout("search --out run --resume");
    assert!(scene.files("run")["ranking.jsonl"] == finished()["ranking.jsonl"]);
}

/// Everything in a run directory can be read; only the last line of a growing file may be half.
#[track_caller]
fn assert_readable(files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        if name.ends_with(".tmp") {
            continue; // never looked at
        }
        match name.rsplit('.').next().unwrap() {
            "jsonl" => {
                let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                assert!(name != "ranking.jsonl" || whole == bytes.len(), "{name}");
                lines(&bytes[..whole]);
            }
            "json" => drop(serde_json::from_slice::<Value>(bytes).unwrap_or_else(|e| panic!("{name}: {e}"))),
            "toml" => drop(text(bytes).parse::<toml::Table>().unwrap_or_else(|e| panic!("{name}: {e}"))),
            "safetensors" => {
                drop(safetensors::SafeTensors::deserialize(bytes).unwrap_or_else(|e| panic!("{name}: {e}")))
            }
            "md" => assert!(text(bytes).ends_with('\n')),
            other => panic!("what is {other}?"),
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_like_one_left_alone() {
    let scene = Scene::new();
    let run = scene.path("run");
    // Kills by progress and not by time: at the very start, and all the way from stage to stage.
    let mut kills: Vec<(usize, usize)> = vec![(0, 0), (0, 1), (0, 37), (1, 0), (1, 14), (2, 1), (2, 120), (2, 230)];
    kills.push((2, 299));
    for (stage, step) in kills {
        let mut child = scene.start(&format!("{SAVING} --resume"));
        wait_until("it is time to kill", || progress(&run)[stage] >= step);
        signal(&child, "KILL");
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "killed in stage {stage}");
        if run.is_dir() {
            assert_readable(&scene.files("run"));
        }
    }
    scene.stdout(&format!("{RUN} --resume"));
    let left: Vec<String> = scene.files("run").into_keys().filter(|name| name.ends_with(".tmp")).collect();
    for name in left {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    assert_finished_alike(&scene);
}

#[test]
fn a_run_killed_before_it_had_settings_can_be_started_again() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("run")).unwrap();
    std::fs::write(scene.path("run/config.toml.tmp"), "pre").unwrap();
    scene.stdout(RUN);
    assert_finished_alike(&scene);
}

#[test]
fn an_overwriting_that_is_killed_is_completed_by_whatever_comes_next() {
    let scene = Scene::finished();
    // As it leaves the directory at the worst moment: the settings put aside, something deleted.
    std::fs::rename(scene.path("run/config.toml"), scene.path("run/config.toml.old")).unwrap();
    std::fs::remove_file(scene.path("run/metrics.jsonl")).unwrap();
    scene.stdout(&format!("{RUN} --resume"));
    assert_finished_alike(&scene);
}

/// Runs a command whose files cannot grow beyond `kib`: what a full disk looks like.
fn limited(scene: &Scene, kib: usize, line: &str) -> Output {
    let command = scene.command(&format!("{line} -q"));
    let limits = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    let mut shell = Command::new("bash");
    shell.args(["-c", &limits]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        assert!(value.is_none());
        shell.env_remove(name);
    }
    shell.current_dir(command.get_current_dir().unwrap()).output().unwrap()
}

#[test]
fn a_full_disk_ends_the_run_and_the_last_checkpoint_stays() {
    let scene = Scene::new();
    interrupt(&scene, 0, "INT");
    let before = scene.files("run");
    // Settings fit, the SMASH checkpoint does not.
    let message = complaint(&limited(&scene, 64, &format!("{SAVING} --resume")), 1);
    assert!(message.contains("cannot write run/ckpt/smash.safetensors: "), "{message}");
    let after = scene.files("run");
    assert!(after["ckpt/smash.safetensors"] == before["ckpt/smash.safetensors"]);
    assert!(!after.contains_key("ckpt/smash.safetensors.tmp"), "what did not fit is cleared away");
    // Neither do the settings: nothing of the run is lost.
    let message = complaint(&limited(&scene, 0, &format!("{SAVING} --resume")), 1);
    assert!(message.contains("cannot write run/config.toml: "), "{message}");
    assert!(scene.files("run") == after);
    scene.stdout(&format!("{RUN} --resume"));
    assert_finished_alike(&scene);
}

#[test]
fn a_disk_that_fills_up_in_any_stage_leaves_a_run_that_goes_on() {
    let scene = Scene::new();
    interrupt(&scene, 1, "INT");
    // The architectures scored so far take a few KiB, all of them about 90; the state 40.
    let message = complaint(&limited(&scene, 60, &format!("{SAVING} --resume")), 1);
    assert!(message.contains("cannot write run/archs.jsonl: "), "{message}");
    assert!(!scene.path("run/ranking.jsonl").exists());
    scene.stdout(&format!("{RUN} --resume"));
    assert_finished_alike(&scene);

    let scene = Scene::new();
    scene.stdout("train --config settings.toml --out run");
    scene.stdout("search --out run");
    let metrics = std::fs::metadata(scene.path("run/metrics.jsonl")).unwrap().len() as usize;
    // All files so far, and then some of the first training's metrics; its checkpoint is too large.
    let message = complaint(&limited(&scene, metrics / 1024 + 4, &format!("{RUN} --resume")), 1);
    assert!(message.contains("cannot write run/ckpt/net-"), "{message}");
    scene.stdout(&format!("{RUN} --resume"));
    assert_finished_alike(&scene);
}
