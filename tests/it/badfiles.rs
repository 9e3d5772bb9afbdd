//! Files that are damaged, of something else, or too short: each is refused by name, in one
//! sentence, and left as it is.

use crate::scene::{DATA_FILES, IMAGES, RUN, SIDE, Scene, finished, idx_images, idx_labels, lines, text};
use std::io::Write;

const RESUME: &str = "run --config settings.toml --out run --resume";

/// Damages the file `name` of a finished run and expects the complaint of `line` to name it.
#[track_caller]
fn refused(name: &str, damage: impl Fn(&mut Vec<u8>), line: &str, status: i32) -> String {
    let scene = Scene::finished();
    let mut bytes = finished()[name].clone();
    damage(&mut bytes);
    assert!(bytes != finished()[name], "damage nothing, learn nothing");
    std::fs::write(scene.path("run").join(name), &bytes).unwrap();
    let message = scene.complaint(line, status);
    let place = if status == 5 { format!("checkpoint run/{name}: ") } else { format!("run/{name}: ") };
    assert!(message.starts_with(&format!("smash-engine: {place}")), "{message}");
    let after = scene.files("run");
    assert!(after[name] == bytes, "{name} did not stay");
    assert!(after.keys().eq(finished().keys()), "nothing else came or went");
    message
}

/// Replaces `from` by `to`, which has as many bytes.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn a_damaged_checkpoint_is_refused_and_stays() {
    let winner = text(&finished()["ranking.jsonl"]);
    let winner = lines(winner.as_bytes())[0]["id"].as_str().unwrap().to_string();
    for name in ["ckpt/smash.safetensors".to_string(), format!("ckpt/net-{winner}.safetensors")] {
        let size = finished()[&name].len();
        for keep in [0, 5, 300, size / 2, size - 1] {
            let message = refused(&name, |bytes| bytes.truncate(keep), RESUME, 5);
            assert!(message.contains("is damaged (") && message.contains("--overwrite"), "{message}");
        }
        for at in [3, size / 2, size - 1] {
            refused(&name, |bytes| bytes[at] ^= 0x10, RESUME, 5);
        }
        let message = refused(&name, |bytes| bytes.fill(b'x'), RESUME, 5);
        assert!(message.contains("is damaged ("), "{message}");
        let other = |bytes: &mut Vec<u8>| replace(bytes, "engine checkpoint 1", "engine checkpoint 7");
        let message = refused(&name, other, RESUME, 5);
        assert!(
            message.contains("is smash-engine checkpoint 7; this engine reads \"smash-engine checkpoint 1\""),
            "{message}"
        );
    }
    let name = "ckpt/smash.safetensors";
    let bit = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    assert!(refused(name, bit, RESUME, 5).contains("digest"), "one bit of one weight");
    refused(name, bit, "eval --out run --arch run/arch/ARCH.json".replace("ARCH", &winner).as_str(), 5);
    refused(&format!("ckpt/net-{winner}.safetensors"), bit, "eval --out run", 5);
    refused(&format!("ckpt/net-{winner}.safetensors"), |bytes| bytes.truncate(9), "retrain --out run --resume", 5);
}

#[test]
fn a_checkpoint_of_another_network_is_refused() {
    // Somebody edits the settings of a run: resuming agrees with them, the checkpoint does not.
    for (from, to) in
        [("growth = 2", "growth = 3"), ("expansion = 2", "expansion = 1"), ("empty = 0.0", "empty = -1.0")]
    {
        let scene = Scene::finished();
        let config = text(&finished()["config.toml"]).replace(from, to);
        assert!(config.contains(to), "{config}");
        std::fs::write(scene.path("run/config.toml"), &config).unwrap();
        std::fs::write(scene.path("edited.toml"), &config).unwrap();
        let message = scene.complaint("run --config edited.toml --out run --resume", 5);
        assert!(message.contains("checkpoint run/ckpt/smash.safetensors: belongs to another network"), "{message}");
        let files = scene.files("run");
        assert!(files["ckpt/smash.safetensors"] == finished()["ckpt/smash.safetensors"], "it stays");
    }
    let scene = Scene::finished();
    let other = finished().keys().find(|name| name.starts_with("ckpt/net-")).unwrap();
    std::fs::write(scene.path("run/ckpt/smash.safetensors"), &finished()[other]).unwrap();
    assert!(scene.complaint(RESUME, 5).contains("belongs to another network"));
}

#[test]
fn a_checkpoint_of_other_data_is_refused() {
    let scene = Scene::new();
    scene.stdout("train --config settings.toml --out run --max-steps 3 --checkpoint-seconds 0");
    std::fs::write(scene.path("data").join(DATA_FILES[0]), idx_images(200)).unwrap();
    std::fs::write(scene.path("data").join(DATA_FILES[1]), idx_labels(200)).unwrap();
    let message = scene.complaint("train --config settings.toml --out run --max-steps 3 --resume", 5);
    assert!(message.contains("trained on 240 images, there are 160 now"), "{message}");
}

#[test]
fn a_damaged_search_is_refused_and_stays() {
    let name = "ckpt/search.json";
    for line in [RESUME, "search --out run --resume"] {
        let message = refused(name, |bytes| bytes.truncate(bytes.len() / 2), line, 5);
        assert!(message.contains("is damaged (") && message.contains("--overwrite"), "{message}");
        refused(name, |bytes| bytes.clear(), line, 5);
        refused(name, |bytes| bytes[40] = 0xff, line, 5);
        refused(name, |bytes| replace(bytes, "\"done\"", "\"gone\""), line, 5);
        let message = refused(name, |bytes| replace(bytes, "\"random\": 24", "\"random\": 42"), line, 5);
        assert!(message.contains("search.random: 24 now, 42 before"), "{message}");
        let message = refused(name, |bytes| replace(bytes, "\"n_max\": 4", "\"n_max\": 8"), line, 5);
        assert!(message.contains("space.n_max: 4 now, 8 before"), "{message}");
    }
}

#[test]
fn records_shorter_than_their_checkpoint_are_refused() {
    let scene = Scene::finished();
    let archs = finished()["archs.jsonl"].len();
    std::fs::remove_file(scene.path("run/ranking.jsonl")).unwrap();
    for len in [0, archs - 1] {
        std::fs::write(scene.path("run/archs.jsonl"), &finished()["archs.jsonl"][..len]).unwrap();
        let message = scene.complaint(RESUME, 5);
        let expected = format!("checkpoint run/archs.jsonl: has {len} bytes, its checkpoint expects {archs}");
        assert!(message.contains(&expected), "{message}");
        assert_eq!(scene.files("run")["archs.jsonl"].len(), len, "it stays");
    }
    // With the records complete the ranking is made again.
    std::fs::write(scene.path("run/archs.jsonl"), &finished()["archs.jsonl"]).unwrap();
    scene.stdout(RESUME);
    assert!(scene.files("run")["ranking.jsonl"] == finished()["ranking.jsonl"]);
}

#[test]
fn a_damaged_ranking_is_refused_and_stays() {
    for line in [RESUME, "eval --out run", "retrain --out run --resume"] {
        let message = refused("ranking.jsonl", |bytes| bytes.truncate(bytes.len() - 30), line, 3);
        assert!(message.contains("line 48: ") && message.contains("--overwrite"), "{message}");
        refused("ranking.jsonl", |bytes| bytes.clear(), line, 3);
        refused("ranking.jsonl", |bytes| bytes[9] = 0xff, line, 3);
        let message = refused("ranking.jsonl", |bytes| replace(bytes, "\"kernel\":[3,3]", "\"kernel\":[9,3]"), line, 3);
        assert!(message.contains("kernel 9 is outside this space (allowed 3)"), "{message}");
    }
}

#[test]
fn damaged_settings_of_a_run_are_refused_and_stay() {
    for line in [RESUME, "search --out run --resume", "eval --out run"] {
        let unknown = |bytes: &mut Vec<u8>| replace(bytes, "batch", "botch");
        assert!(refused("config.toml", unknown, line, 3).contains("botch"));
        refused("config.toml", |bytes| bytes.truncate(bytes.len() / 2), line, 3);
        refused("config.toml", |bytes| bytes[2] = 0xff, line, 3);
    }
    let scene = Scene::new();
    std::fs::write(scene.path("settings.toml"), "[smash]\nbatch = \"many\"\n").unwrap();
    let message = scene.complaint(RUN, 3);
    assert!(message.starts_with("smash-engine: settings.toml: ") && message.contains("batch"), "{message}");
}

#[test]
fn times_and_machine_are_no_results_and_may_be_damaged() {
    let scene = Scene::finished();
    for name in ["timing.json", "env.json", "metrics.jsonl", "results.json", "report.md", "report.html"] {
        std::fs::write(scene.path("run").join(name), [0xff, 0x00]).unwrap();
    }
    let results = scene.json(RESUME);
    let before: serde_json::Value = serde_json::from_slice(&finished()["results.json"]).unwrap();
    assert_eq!(results["networks"], before["networks"]);
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A way to damage a data file: which one, its new bytes, and what is said about them.
type Damage = (usize, Vec<u8>, &'static str);

fn damages() -> Vec<Damage> {
    let images = idx_images(IMAGES[0]);
    let edit = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        bytes
    };
    let labels = idx_labels(IMAGES[0]);
    let packed = gz(&images);
    let middle = packed.len() / 2;
    vec![
        (0, images[..images.len() - 1].to_vec(), "byte"),
        (0, images[..7].to_vec(), "byte"),
        (0, Vec::new(), "is empty"),
        (0, edit(&images, 2, 9), "where IDX images start with 00 00 08 03"),
        (0, idx_labels(IMAGES[0]), "where IDX images start with 00 00 08 03"),
        (0, edit(&images, 7, 43), "byte"),
        (0, [&images[..], b"more"].concat(), "byte"),
        (0, packed[..middle].to_vec(), "bad gzip"),
        (0, edit(&packed, packed.len() - 6, !packed[packed.len() - 6]), "bad gzip"),
        (1, edit(&labels, 100, 10), "label 10 of image 92, at byte 100, is not in 0 to 9"),
        (1, idx_labels(IMAGES[0] - 1), "holds 299 labels, but data/train-images-idx3-ubyte has 300 images"),
        (3, idx_labels(IMAGES[1] + 5), "holds 105 labels"),
        (2, idx_images(IMAGES[1])[..900].to_vec(), "byte"),
    ]
}

#[test]
fn bad_data_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    for (which, bytes, part) in damages() {
        let path = scene.path("data").join(DATA_FILES[which]);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let message = scene.complaint(RUN, 3);
        assert!(message.starts_with(&format!("smash-engine: data/{}: ", DATA_FILES[which])), "{message}");
        assert!(message.contains(part), "{part:?} is missing from: {message}");
        assert!(!scene.path("run").exists());
        std::fs::write(&path, good).unwrap();
    }
    std::fs::remove_file(scene.path("data").join(DATA_FILES[3])).unwrap();
    assert!(scene.complaint(RUN, 3).contains("data/t10k-labels-idx1-ubyte: is missing"));
    let message = scene.complaint("run --config settings.toml --out run --data nowhere", 3);
    assert!(message.contains("nowhere: does not exist"), "{message}");
    assert!(!scene.path("run").exists());
}

#[test]
fn bad_data_does_not_harm_the_run_that_is_there() {
    let scene = Scene::finished();
    let (which, bytes, _) = &damages()[0];
    std::fs::write(scene.path("data").join(DATA_FILES[*which]), bytes).unwrap();
    for flag in ["--overwrite", "--resume"] {
        scene.complaint(&format!("{RUN} {flag}"), 3);
    }
    assert!(scene.files("run") == *finished());
}

#[test]
fn data_may_be_packed_and_images_too_large_are_refused() {
    let scene = Scene::new();
    for name in DATA_FILES {
        let path = scene.path("data").join(name);
        std::fs::write(scene.path("data").join(format!("{name}.gz")), gz(&std::fs::read(&path).unwrap())).unwrap();
        std::fs::remove_file(path).unwrap();
    }
    scene.stdout("train --config settings.toml --out run --epochs 1");
    assert!(finished()["metrics.jsonl"].starts_with(b"{") && scene.files("run").contains_key("ckpt/smash.safetensors"));
    let settings = text(&std::fs::read(scene.path("settings.toml")).unwrap());
    std::fs::write(scene.path("small.toml"), settings.replace("size = 12", "size = 8")).unwrap();
    let message = scene.complaint("run --config small.toml --out other", 2);
    assert!(message.contains(&format!("data.size: 8 is smaller than the images ({SIDE} x {SIDE})")), "{message}");
}

#[test]
fn an_architecture_that_is_none_is_refused_before_anything_is_written() {
    let scene = Scene::finished();
    let name = finished().keys().find(|name| name.starts_with("arch/")).unwrap();
    let good = text(&finished()[name]);
    for (bad, part) in [
        (good.replacen("[3,3]", "[5,3]", 1), "kernel 5 is outside this space (allowed 3)"),
        (good.replacen("\"schema\": 1", "\"schema\": 2", 1), "schema: 2 is unknown"),
        (good[..good.len() - 40].to_string(), "line "),
    ] {
        std::fs::write(scene.path("bad.json"), bad).unwrap();
        for line in [
            "retrain --config settings.toml --out other --arch bad.json",
            "retrain --out run --arch bad.json",
            "eval --out run --arch bad.json",
            "show bad.json",
        ] {
            let message = scene.complaint(line, 3);
            assert!(message.starts_with("smash-engine: bad.json: architecture, "), "{line}: {message}");
            assert!(message.contains(part), "{part:?} is missing from: {message}");
        }
    }
    assert!(!scene.path("other").exists() && scene.files("run") == *finished());
    // Valid, but of a space that the SMASH network was not trained for.
    let other = good.replacen("\"expansion\":2", "\"expansion\":3", 1);
    assert_ne!(other, good);
    std::fs::write(scene.path("other.json"), other).unwrap();
    let message = scene.complaint("eval --out run --arch other.json", 3);
    assert!(message.contains("other.json: belongs to another search space than the run"), "{message}");
}

#[test]
fn damaged_cifar_files_are_refused_by_name() {
    let scene = Scene::new();
    let folder = scene.path("cifar");
    std::fs::create_dir(&folder).unwrap();
    // 20 records of one label and 3 x 32 x 32 pixels, as in the official files of 10,000.
    let records: Vec<u8> = (0..20).flat_map(|i| [vec![i % 10], vec![i * 7; 3072]].concat()).collect();
    let names = [1, 2, 3, 4, 5].map(|i| format!("data_batch_{i}.bin"));
    for name in names.iter().map(String::as_str).chain(["test_batch.bin"]) {
        std::fs::write(folder.join(name), &records).unwrap();
    }
    let stats = scene.stdout("data stats cifar");
    assert!(stats.contains("3 x 32 x 32"), "{stats}");
    // Packed by the system's own tar, in every format it has, the set is the same.
    for format in ["gnu", "pax", "ustar", "v7"] {
        let tar = |options: &str, archive: &str| {
            let mut command = std::process::Command::new("tar");
            command.args(["--format", format, options, archive, "cifar"]).current_dir(scene.path(""));
            assert!(command.status().unwrap().success(), "{format}");
        };
        tar("-cf", "cifar.tar");
        tar("-czf", "cifar.tar.gz");
        for archive in ["cifar.tar", "cifar.tar.gz"] {
            assert_eq!(scene.stdout(&format!("data stats {archive}")), stats, "{archive}, {format}");
        }
    }
    let packed = std::fs::read(scene.path("cifar.tar.gz")).unwrap();
    std::fs::write(scene.path("half.tar.gz"), &packed[..packed.len() / 2]).unwrap();
    let message = scene.complaint("train --data half.tar.gz --out run", 3);
    assert!(message.starts_with("smash-engine: half.tar.gz/cifar/"), "{message}");
    assert!(message.contains(".bin: truncated, or followed by something else"), "{message}");
    let mut wrong_label = records.clone();
    wrong_label[3073 * 4] = 10;
    for (bytes, part) in [(&records[..records.len() - 1], "3073"), (&wrong_label[..], "label 10")] {
        std::fs::write(folder.join("data_batch_3.bin"), bytes).unwrap();
        let message = scene.complaint("train --data cifar --out run", 3);
        assert!(message.contains("data_batch_3.bin") && message.contains(part), "{part}: {message}");
        assert!(!scene.path("run").exists());
    }
}
