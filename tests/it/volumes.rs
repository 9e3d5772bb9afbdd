//! Meshes as a user has them, from the folder or the archive to a trained network.

use crate::scene::{Scene, lines};
use std::path::Path;

/// A run of all three stages on three volumes a class for training, and one step each.
const SETTINGS: &str = r#"
preset = "small"
seed = 1

[data]
source = "ModelNet3"
validation = 0.34
eval_batch = 3

[smash]
epochs = 1
batch = 3

[search]
random = 2
perturb = 1
markov = 1

[retrain]
epochs = 1
batch = 3
rivals = 0

[hyper]
stem = 2
layers = [1, 1, 1]
growth = 2

[space]
unit = 2
n_max = 4
max_bank_size = 2
kernels = [3]
groups = [1]
depth = 3
widening = 1
"#;

/// A box of these sides, in the layout of ModelNet, its first line as its files often have it.
pub fn block([a, b, c]: [u32; 3]) -> String {
    let corner = |i: u32| format!("{} {} {}\n", i / 4 * a, i / 2 % 2 * b, i % 2 * c);
    let corners: String = (0..8).map(corner).collect();
    format!("OFF8 6 0\n{corners}4 0 1 3 2\n4 4 5 7 6\n4 0 1 5 4\n4 2 3 7 6\n4 0 2 6 4\n4 1 3 7 5\n")
}

/// Rods, plates and cubes: three of each to train on and one to test on.
fn write_meshes(folder: &Path) {
    for (class, [wide, high]) in [("cube", [9, 9]), ("plate", [9, 1]), ("rod", [1, 9])] {
        for i in 0..4 {
            let split = if i < 3 { "train" } else { "test" };
            let dir = folder.join(class).join(split);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("{class}_{i:04}.off")), block([wide + i, wide, high + i])).unwrap();
        }
    }
}

fn scene() -> Scene {
    let scene = Scene::new();
    write_meshes(&scene.path("ModelNet3"));
    std::fs::write(scene.path("settings.toml"), SETTINGS).unwrap();
    scene
}

#[test]
fn a_run_on_meshes_voxelises_them_once_and_trains_networks_of_volumes() {
    let scene = scene();
    let output = scene.output("run --config settings.toml --out run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("12 objects become voxels once, kept in "), "{said}");
    assert_eq!(std::fs::metadata(scene.path("ModelNet3.voxels")).unwrap().len(), 4096 + 12 * 24 * 4096);
    let results: serde_json::Value = serde_json::from_slice(&scene.files("run")["results.json"]).unwrap();
    assert_eq!(results["networks"][0]["test_images"], 3);
    // The same from the file that is there now, on another number of threads, and in silence.
    let written = || std::fs::metadata(scene.path("ModelNet3.voxels")).unwrap().modified().unwrap();
    let before = written();
    scene.stdout("run --config settings.toml --out again --data ModelNet3.voxels --threads 2");
    assert_eq!(written(), before);
    let losses = |run: &str| {
        lines(&scene.files(run)["metrics.jsonl"]).iter().map(|l| l["train_loss"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(losses("run"), losses("again"));
    let output = scene.output("train --config settings.toml --out third");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("become voxels"), "they are there already");
}

#[test]
fn meshes_can_be_converted_and_looked_at_ahead_of_a_run() {
    let scene = scene();
    let made = scene.json("data convert ModelNet3 --out elsewhere.voxels");
    let (bytes, views) = (4096 + 12 * 24 * 4096, 24);
    assert_eq!(
        made,
        serde_json::json!({ "file": "elsewhere.voxels", "bytes": bytes, "train": 9, "test": 3, "views": views, "classes": 3 })
    );
    assert!(!scene.path("ModelNet3.voxels").exists());
    let stats = scene.json("data stats elsewhere.voxels");
    assert_eq!(stats["image"], serde_json::json!({ "channels": 1, "depth": 32, "height": 32, "width": 32 }));
    assert_eq!((&stats["classes"], &stats["views"]), (&serde_json::json!(["cube", "plate", "rod"]), &views.into()));
    let filled = stats["train_mean"][0].as_f64().unwrap();
    assert!((0.01..0.2).contains(&filled), "surfaces fill {filled} of their volume");
    let text = scene.stdout("data stats elsewhere.voxels");
    assert!(text.contains("C x D x H x W, views") && text.contains("1 x 32 x 32 x 32, 24"), "{text}");
}

#[test]
fn damaged_meshes_and_voxels_end_with_exit_3_and_their_place() {
    let scene = scene();
    let mesh = scene.path("ModelNet3/rod/test/rod_0003.off");
    std::fs::write(&mesh, block([1, 1, 9]).replace("4 1 3 7 5", "4 1 3 8 5")).unwrap();
    let message = scene.complaint("train --config settings.toml --out run", 3);
    assert!(
        message.contains("rod_0003.off: has vertex 8 in face 5 at byte 107; its vertices are 0 to 7; copy"),
        "{message}"
    );
    assert!(!scene.path("ModelNet3.voxels").exists() && !scene.path("ModelNet3.voxels.part").exists());
    write_meshes(&scene.path("ModelNet3"));
    scene.stdout("data convert ModelNet3");
    let file = scene.path("ModelNet3.voxels");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let message = scene.complaint("data stats ModelNet3.voxels", 3);
    assert!(
        message.contains("has 1183743 bytes where its header promises 1183744; delete it and make it again"),
        "{message}"
    );
    assert!(scene.complaint("data convert data", 3).contains("data: holds IDX, which is read as it is"));
}
