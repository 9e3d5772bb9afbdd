//! A place to run the program in: a small data set, settings whose whole run takes about a second,
//! and the finished run that interrupted ones are compared with.

use crate::cli::program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Side of an image in pixels.
pub const SIDE: usize = 12;

/// Images to train on (a fifth of them for validation) and to test on.
pub const IMAGES: [usize; 2] = [300, 100];

/// Steps of SMASH training, architectures to score, steps of each training from scratch.
pub const STEPS: [usize; 3] = [72, 48, 96];

const SETTINGS: &str = r#"
preset = "small"
seed = 1
checkpoint_seconds = 3600

[data]
source = "data"
size = 12
validation = 0.2
eval_batch = 30

[smash]
epochs = 3
batch = 10

[search]
random = 24
perturb = 12
markov = 12

[retrain]
epochs = 4
batch = 10
rivals = 2

[hyper]
stem = 2
layers = [1, 1, 1]
growth = 2

[space]
unit = 2
n_max = 4
max_bank_size = 2
kernels = [3]
groups = [1, 2]
depth = 3
widening = 1
"#;

/// The four files of an IDX set, in the order images, labels, test images, test labels.
pub const DATA_FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// A directory with `data/` and `settings.toml`, in which the program is started.
pub struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(scene.path("data")).unwrap();
        std::fs::write(scene.path("settings.toml"), SETTINGS).unwrap();
        for (files, count) in DATA_FILES.chunks(2).zip(IMAGES) {
            std::fs::write(scene.path("data").join(files[0]), idx_images(count)).unwrap();
            std::fs::write(scene.path("data").join(files[1]), idx_labels(count)).unwrap();
        }
        scene
    }

    /// A scene whose directory `run` holds the finished run of [`finished`].
    pub fn finished() -> Self {
        let scene = Self::new();
        for (name, bytes) in finished() {
            let path = scene.path("run").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with the words of `line`, started here.
    pub fn command(&self, line: &str) -> Command {
        let mut command = program(&line.split_whitespace().collect::<Vec<_>>());
        command.current_dir(self.dir.path());
        command
    }

    pub fn output(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What a command that succeeds prints; with -q it must be silent on stderr.
    #[track_caller]
    pub fn stdout(&self, line: &str) -> String {
        let output = self.output(&format!("{line} -q"));
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{line}");
        text(&output.stdout)
    }

    /// The JSON value that a command that succeeds prints.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.stdout(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line}: not one JSON value ({e}): {text}"))
    }

    /// The one sentence of a command that fails with exit status `status` and no result.
    #[track_caller]
    pub fn complaint(&self, line: &str, status: i32) -> String {
        complaint(&self.output(&format!("{line} -q")), status)
    }

    /// All files below `name`, by their path from there.
    pub fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        files(&self.path(name))
    }

    /// When each file below `name` was written, by its path from there.
    pub fn times(&self, name: &str) -> BTreeMap<String, SystemTime> {
        let time = |file: &String| std::fs::metadata(self.path(name).join(file)).unwrap().modified().unwrap();
        self.files(name).keys().map(|file| (file.clone(), time(file))).collect()
    }

    /// Starts a command that is to be interrupted; nothing it prints can block it.
    pub fn start(&self, line: &str) -> Child {
        self.command(&format!("{line} -q")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// The sentence of a failed command.
#[track_caller]
pub fn complaint(output: &Output, status: i32) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{message}");
    assert_eq!(text(&output.stdout), "", "a failed command has no result");
    assert!(message.starts_with("smash-engine: ") && message.ends_with('\n'), "{message:?}");
    assert_eq!(message.lines().count(), 1, "one sentence: {message}");
    message
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The JSON values of a file of lines.
#[track_caller]
pub fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The files of `run --config settings.toml --out run` that was never interrupted, on one thread.
pub fn finished() -> &'static BTreeMap<String, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let scene = Scene::new();
        scene.stdout(&format!("{RUN} --threads 1"));
        scene.files("run")
    })
}

/// The whole job.
pub const RUN: &str = "run --config settings.toml --out run";

/// Asserts that the run in `scene` gave what the one never interrupted gave.
#[track_caller]
pub fn assert_finished_alike(scene: &Scene) {
    assert_alike(&scene.files("run"), finished());
}

/// Asserts that two runs gave the same, apart from the time they took and how they were started.
#[track_caller]
pub fn assert_alike(run: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(run.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in run {
        match name.as_str() {
            // Times, threads and the command line.
            "timing.json" | "env.json" | "report.md" | "report.html" => {}
            // The card has times too.
            _ if name.starts_with("export/") && name.ends_with("/README.md") => {}
            "config.toml" => assert_eq!(without_saving(bytes), without_saving(&other[name])),
            _ if name.ends_with(".safetensors") => assert!(tensors(bytes) == tensors(&other[name]), "{name} differs"),
            "results.json" => assert_eq!(without_seconds(bytes), without_seconds(&other[name])),
            _ => assert!(*bytes == other[name], "{name} differs"),
        }
    }
    let untimed = |files: &BTreeMap<String, Vec<u8>>| {
        let report = text(&files["report.md"]);
        // How to repeat it ends with the command line and the threads.
        let (found, _) = report.split_once("## Repeat it").unwrap_or((&report, ""));
        found
            .lines()
            .filter(|line| !line.contains("Search cost") && !line.contains("for comparison:"))
            .collect::<String>()
    };
    assert_eq!(untimed(run), untimed(other));
}

/// Settings without how often to save.
fn without_saving(config: &[u8]) -> Vec<String> {
    text(config).lines().filter(|line| !line.starts_with("checkpoint_seconds")).map(str::to_string).collect()
}

/// A checkpoint's header, whose entries come in any order, and its tensors.
pub fn tensors(checkpoint: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = checkpoint.split_at(8);
    let (header, tensors) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    (serde_json::from_slice(header).unwrap(), tensors)
}

fn without_seconds(results: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(results).unwrap();
    assert!(value.as_object_mut().unwrap().remove("seconds").is_some());
    value
}

/// The other files.
pub fn without(mut files: BTreeMap<String, Vec<u8>>, name: &str) -> BTreeMap<String, Vec<u8>> {
    assert!(files.remove(name).is_some(), "no {name}");
    files
}

/// All files below `dir`, by their path from there.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, "", &mut found);
    found
}

/// Waits until `done`; a minute is far beyond what any of it takes.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends the signal `name` (INT, TERM, KILL) to `child`.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// An IDX image file. Each class has stripes of another width and direction, under noise.
pub fn idx_images(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for dim in [count, SIDE, SIDE] {
        bytes.extend((dim as u32).to_be_bytes());
    }
    let mut noise = 0x2545_f491_u32;
    for image in 0..count {
        let period = [2, 3, 4, 6, 12][image % 10 / 2];
        for pixel in 0..SIDE * SIDE {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let across = if image % 2 == 0 { pixel / SIDE } else { pixel % SIDE };
            bytes.push((noise >> 25) as u8 + if 2 * (across % period) < period { 120 } else { 0 });
        }
    }
    bytes
}

/// An IDX label file: 0, 1, ... 9, 0, ...
pub fn idx_labels(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1];
    bytes.extend((count as u32).to_be_bytes());
    bytes.extend((0..count).map(|i| (i % 10) as u8));
    bytes
}
