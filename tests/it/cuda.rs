//! The program on a GPU: the emulated one, started as a user would.

use crate::scene::{RUN, STEPS, Scene, complaint, finished, lines, text};
use crate::support;
use serde_json::Value;
use std::process::{Command, Output};

/// The program with the words of `line`, on a machine whose driver is the emulator.
fn command(scene: &Scene, line: &str) -> Command {
    let library = support::library().unwrap_or_else(|e| panic!("{e}"));
    let mut command = scene.command(line);
    command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    command
}

fn output(scene: &Scene, line: &str) -> Output {
    command(scene, line).output().unwrap()
}

/// The value at `key` of every line that has it.
fn series(lines: &[Value], key: &str) -> Vec<f64> {
    lines.iter().filter_map(|line| line[key].as_f64()).collect()
}

#[test]
fn a_run_on_the_gpu_follows_the_one_on_the_cpu() {
    let scene = Scene::new();
    let run = output(&scene, &format!("{RUN} -q --device cuda:0"));
    assert_eq!(text(&run.stderr), "");
    let (gpu, cpu) = (scene.files("run"), finished());
    let env: Value = serde_json::from_slice(&gpu["env.json"]).unwrap();
    assert_eq!((&env["device"], &env["gpu"]), (&"cuda:0".into(), &"smash CPU emulator".into()));
    assert_eq!(gpu.keys().collect::<Vec<_>>(), cpu.keys().collect::<Vec<_>>(), "the same networks were trained");
    let [gpu_metrics, cpu_metrics] = [gpu, cpu.clone()].map(|files| lines(&files["metrics.jsonl"]));
    let losses = [&gpu_metrics, &cpu_metrics].map(|metrics| series(metrics, "train_loss"));
    assert!(losses[0].len() > STEPS[0] && losses[0].len() == losses[1].len());
    for (i, (gpu, cpu)) in losses[0].iter().zip(&losses[1]).enumerate() {
        println!("{i}: {gpu} {cpu} {:.1e}", (gpu - cpu).abs());
    }
}
