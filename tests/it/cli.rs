//! The program as a user starts it: what it prints, where, and with which exit status.

use assert_cmd::assert::Assert;
use clap::CommandFactory;
use serde_json::Value;
use smash_engine::nas::arch::Architecture;
use smash_engine::nas::sample::{SampleLimits, sample};
use smash_engine::nas::space::Space;
use smash_engine::rng::{Rng, Stream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, without the settings of whoever runs the tests.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("smash-engine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SMASH_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

fn run(args: &[&str]) -> Assert {
    assert_cmd::Command::from_std(program(args)).assert()
}

/// What a run that succeeds prints; it must be silent on stderr.
#[track_caller]
fn stdout(args: &[&str]) -> String {
    let output = run(args).success().stderr("").get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

#[track_caller]
fn json(args: &[&str]) -> Value {
    let text = stdout(args);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("not one JSON value ({e}): {text}"))
}

/// The one line a failing run leaves on stderr; `status` is its exit code.
#[track_caller]
fn complaint(args: &[&str], status: i32) -> String {
    let output = run(args).code(status).get_output().stderr.clone();
    String::from_utf8(output).unwrap()
}

/// An architecture of the small space.
fn architecture() -> Architecture {
    let space = Space::small();
    sample(&space, &SampleLimits::full(&space), &mut Rng::new(3, Stream::Arch))
}

/// A file of `text` in a folder that lives as long as the guard.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("arch.json");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_string();
    (dir, path)
}

/// The packed files of the embedded set, which are also a folder to read.
fn embedded_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist-12k")
}

/// A copy of them, to damage.
fn embedded_copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(embedded_folder()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn without_arguments_the_three_first_commands_are_shown() {
    let text = stdout(&[]);
    for command in ["smash-engine run", "smash-engine info", "smash-engine run --data FOLDER", "--help"] {
        assert!(text.contains(command), "{command} is missing from:\n{text}");
    }
    assert!(text.lines().count() <= 12, "short enough to be read");
}

#[test]
fn every_command_flag_and_choice_has_a_help_text() {
    fn walk(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no help");
        for arg in command.get_arguments() {
            let name = format!("{path} {}", arg.get_id());
            assert!(arg.get_help().is_some_and(|help| !help.to_string().is_empty()), "{name} has no help");
            for choice in arg.get_possible_values() {
                let bare = ["true", "false"].contains(&choice.get_name());
                assert!(bare || choice.get_help().is_some(), "{name}: choice {} has no help", choice.get_name());
            }
        }
        for sub in command.get_subcommands() {
            walk(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    walk(&smash_engine::cli::Cli::command(), "smash-engine");
}

#[test]
fn show_prints_the_ops_and_the_totals() {
    let arch = architecture();
    let (_dir, path) = file(&arch.to_json());
    let text = stdout(&["show", &path]);
    assert!(text.starts_with(&format!("architecture {}: image 3 x 32 x 32, 10 classes\n", arch.id())), "{text}");
    let ops: usize = arch.blocks.iter().map(|block| block.ops.len()).sum();
    let total = text.lines().last().unwrap();
    assert!(total.starts_with(&format!("total: {ops} ops, {} layers with weights, ", arch.layers())), "{total}");
    for word in ["parameters", "MACs", "FLOPs"] {
        assert!(total.contains(word), "{total}");
    }
}

#[test]
fn show_as_json_has_the_cost_and_the_architecture_itself() {
    let arch = architecture();
    let (_dir, path) = file(&arch.to_json());
    let shown = json(&["show", &path, "--json"]);
    assert_eq!(shown["id"], arch.id());
    assert_eq!(shown["layers"], arch.layers());
    let cost = &shown["cost"];
    assert!(cost["params"].as_u64().unwrap() > 0);
    assert_eq!(cost["flops"].as_u64().unwrap(), 2 * cost["macs"].as_u64().unwrap());
    let sum = |field: &str| cost["parts"].as_array().unwrap().iter().map(|part| part[field].as_u64().unwrap()).sum();
    assert_eq!((cost["params"].as_u64(), cost["macs"].as_u64()), (Some(sum("params")), Some(sum("macs"))));
    let again = Architecture::from_json(&shown["architecture"].to_string()).unwrap();
    assert_eq!(again, arch);
}

#[test]
fn show_draws_to_stdout_or_into_a_file() {
    let (dir, path) = file(&architecture().to_json());
    for (flag, start, end) in [("--svg", "<svg xmlns=", "</svg>\n"), ("--dot", "digraph ", "}\n")] {
        let drawn = stdout(&["show", &path, flag]);
        assert!(drawn.starts_with(start) && drawn.ends_with(end), "{drawn}");
        let out = dir.path().join("drawing").to_str().unwrap().to_string();
        assert_eq!(stdout(&["show", &path, flag, &out, "--image-size", "64"]), "");
        let larger = std::fs::read_to_string(&out).unwrap();
        assert!(larger != drawn && larger.starts_with(start), "{larger}");
        assert!(complaint(&["show", &path, flag, "--json"], 2).contains("cannot be used with"));
        assert!(
            complaint(&["show", &path, flag, "no/such/folder/a.svg"], 1).contains("cannot write no/such/folder/a.svg")
        );
    }
    assert!(complaint(&["show", &path, "--svg", "--dot"], 2).contains("cannot be used with"));
}

#[test]
fn a_drawing_replaces_no_architecture() {
    let text = architecture().to_json();
    let (_dir, path) = file(&text);
    let message = complaint(&["show", &path, "--svg", &path], 2);
    assert!(message.contains("name a file that does not end in .json"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_cost_follows_the_picture_and_the_classes() {
    let (_dir, path) = file(&architecture().to_json());
    let cost = |extra: &[&str]| {
        let shown = json(&[&["show", &path, "--json"], extra].concat());
        ["params", "macs"].map(|field| shown["cost"][field].as_u64().unwrap())
    };
    let ([params, macs], [more_params, same]) = (cost(&[]), cost(&["--classes", "100"]));
    assert!(more_params > params && same > macs, "a larger classifier");
    let [params_small, macs_small] = cost(&["--image-size", "16"]);
    assert!(params_small == params && macs_small < macs, "a smaller picture");
    let message = complaint(&["show", &path, "--image-size", "30"], 2);
    assert!(message.contains("--image-size: 30 is not a multiple of 4"), "{message}");
    assert!(complaint(&["show", &path, "--classes", "0"], 2).contains("--classes: 0 is not between 1 and"));
}

#[test]
fn a_file_that_is_no_architecture_is_refused_where_it_goes_wrong() {
    let text = architecture().to_json();
    let cases = [
        (text.replacen("\"ops\"", "\"oops\"", 1), "blocks[0].oops: unknown field; known here: bank_size, n_banks, ops"),
        (text[..text.len() / 2].to_string(), "line "),
        (text.replacen("\"schema\": 1", "\"schema\": 99", 1), "schema: 99 is unknown; this engine reads 1"),
        ("{}".to_string(), "space: missing"),
    ];
    for (text, place) in cases {
        let (_dir, path) = file(&text);
        let message = complaint(&["show", &path], 3);
        assert!(message.starts_with(&format!("smash-engine: {path}: architecture, ")), "{message}");
        assert!(message.contains(place), "{place:?} is missing from: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let (_dir, path) = file("");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(complaint(&["show", &path], 3).contains("is not text; an architecture is JSON"));
}

#[test]
fn a_kernel_outside_the_space_is_named_with_what_is_allowed() {
    let mut arch = architecture();
    let conv = arch.blocks[1].ops[0].body[0].as_mut().unwrap();
    conv.kernel = [9, 3];
    let (_dir, path) = file(&arch.to_json());
    let message = complaint(&["show", &path], 3);
    let expected = "blocks[1].ops[0].body[0].kernel: kernel 9 is outside this space (allowed 3, 5, 7)";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_missing_file_is_an_operating_system_error() {
    let message = complaint(&["show", "no/such/arch.json"], 1);
    assert!(message.starts_with("smash-engine: cannot read no/such/arch.json: "), "{message}");
}

#[test]
fn data_stats_describe_the_embedded_set() {
    let text = stdout(&["data", "stats"]);
    for part in ["fashion-mnist-12k: 10 classes", "10,000", "1 x 28 x 28", "0.2867", "Ankle boot"] {
        assert!(text.contains(part), "{part} is missing from:\n{text}");
    }
    let stats = json(&["data", "stats", "embedded", "--json"]);
    assert_eq!(stats["image"], serde_json::json!({ "channels": 1, "depth": 1, "height": 28, "width": 28 }));
    assert_eq!((&stats["train"]["images"], &stats["test"]["images"]), (&10_000.into(), &2000.into()));
    assert_eq!(stats["train"]["class_counts"], Value::from(vec![1000; 10]));
    assert_eq!((&stats["classes"][9], &stats["test"]["class_counts"][9]), (&"Ankle boot".into(), &200.into()));
    assert_eq!((stats["train_mean"].as_array().unwrap().len(), stats["train_std"].as_array().unwrap().len()), (1, 1));
}

#[test]
fn data_stats_of_the_folder_are_those_of_the_embedded_set() {
    let folder = embedded_folder();
    assert_eq!(stdout(&["data", "stats", folder.to_str().unwrap()]), stdout(&["data", "stats"]));
}

#[test]
fn data_that_is_not_there_is_a_data_error() {
    for command in ["stats", "verify"] {
        let message = complaint(&["data", command, "no/such/folder"], 3);
        assert!(message.starts_with("smash-engine: no/such/folder: does not exist; "), "{message}");
        let empty = tempfile::tempdir().unwrap();
        let message = complaint(&["data", command, empty.path().to_str().unwrap()], 3);
        assert!(message.contains("holds no data set; looked for "), "{message}");
    }
}

#[test]
fn data_list_says_what_to_download() {
    let text = stdout(&["data", "list"]);
    for set in ["fashion-mnist-12k", "mnist", "cifar-100", "stl-10", "imagenet32", "modelnet10"] {
        assert!(text.lines().any(|line| line.split_whitespace().next() == Some(set)), "{set} is missing from:\n{text}");
    }
    assert!(text.contains("2,640,397,119  http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"), "{text}");
    let sets = json(&["data", "list", "--json"]);
    let cifar = sets["sets"].as_array().unwrap().iter().find(|set| set["name"] == "cifar-10").unwrap();
    let file = &cifar["releases"][0]["downloads"][0]["file"];
    assert_eq!((&file["name"], &file["bytes"]), (&"cifar-10-binary.tar.gz".into(), &170_052_171.into()));
    assert_eq!(file["digest"]["kind"], "sha256");
}

#[test]
fn data_verify_accepts_the_official_files() {
    let folder = embedded_folder();
    let text = stdout(&["data", "verify", folder.to_str().unwrap()]);
    assert_eq!(text.lines().count(), 5, "a header and four files:\n{text}");
    assert_eq!(text.matches(" ok ").count(), 4, "{text}");
    let report = json(&["data", "verify", folder.to_str().unwrap(), "--json"]);
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!((&file["verdict"], &file["digest"]["kind"]), (&"ok".into(), &"sha256".into()));
        assert_eq!(file["bytes"]["actual"], file["bytes"]["expected"]);
        assert_eq!(file["digest"]["actual"], file["digest"]["expected"]);
    }
}

#[test]
fn data_verify_names_the_first_bad_file_and_the_remedy() {
    let dir = embedded_copy();
    let folder = dir.path().to_str().unwrap();
    let labels = dir.path().join("t10k-labels-idx1-ubyte.gz");
    std::fs::remove_file(&labels).unwrap();
    let assert = run(&["data", "verify", folder]).code(3);
    let output = assert.get_output();
    let (table, message) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(table.matches(" ok ").count(), 3, "the table is complete:\n{table}");
    assert_eq!(message, format!("smash-engine: {}: missing: copy or download it into this folder\n", labels.display()));
    let report: Value = serde_json::from_slice(&run(&["data", "verify", folder, "--json"]).code(3).get_output().stdout)
        .expect("the report is complete JSON all the same");
    assert_eq!(report["files"][3]["verdict"], "missing");
}

#[test]
fn data_verify_finds_a_file_that_was_cut_short() {
    let dir = embedded_copy();
    let images = dir.path().join("t10k-images-idx3-ubyte.gz");
    let bytes = std::fs::read(&images).unwrap();
    std::fs::write(&images, &bytes[..bytes.len() / 2]).unwrap();
    let message = complaint(&["data", "verify", dir.path().to_str().unwrap()], 3);
    assert!(message.contains("t10k-images-idx3-ubyte.gz: wrong size: its gzip stream is broken"), "{message}");
}

#[test]
fn info_tells_what_is_used_and_what_was_measured() {
    let text = stdout(&["info", "--threads", "1", "--simd", "portable"]);
    for part in [
        concat!("smash-engine ", env!("CARGO_PKG_VERSION")),
        "cpu, 1 threads, portable (auto: ",
        "kernels for gpus",
        "1 of ",
        "portable (available: ",
        "GFLOP/s measured",
        "GB/s measured, bytes read plus bytes written",
        "fashion-mnist-12k inside this program",
    ] {
        assert!(text.contains(part), "{part} is missing from:\n{text}");
    }
}

#[test]
fn info_as_json_holds_the_same() {
    let info = json(&["info", "--json", "--threads", "2", "--device", "cpu"]);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&info["device"]["device"], &info["device"]["reason"]), (&"cpu".into(), &"asked for".into()));
    assert_eq!(info["threads"], 2);
    assert!(info["simd"]["available"].as_array().unwrap().contains(&info["simd"]["chosen"]));
    for path in ["/fma_gflops/one_thread", "/fma_gflops/all_threads", "/copy_gbytes_read_plus_written"] {
        assert!(info.pointer(path).and_then(Value::as_f64).unwrap() > 0.0, "{path}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_name_the_flag() {
    for (args, part) in [
        (["info", "--no-such-flag"].as_slice(), "--no-such-flag"),
        (&["no-such-command"], "no-such-command"),
        (&["show"], "<FILE|NAME>"),
        (&["info", "--device", "gpu"], "--device: \"gpu\" is not auto, cpu or cuda:N"),
        (&["info", "--device", "cuda:x"], "--device: \"cuda:x\" is not"),
        (&["info", "--threads", "0"], "--threads: 0 is not between 1 and 1024"),
        (&["info", "--threads", "many"], "--threads"),
        (&["info", "--simd", "mmx"], "--simd: \"mmx\" is not an instruction set of this machine (available: "),
    ] {
        let message = complaint(args, 2);
        assert!(message.contains(part), "{args:?}: {part:?} is missing from: {message}");
        run(args).code(2).stdout("");
    }
}

#[test]
fn a_device_that_is_absent_exits_with_6_and_is_never_replaced() {
    let message = complaint(&["info", "--device", "cuda:99"], 6);
    assert!(message.starts_with("smash-engine: device cuda:99: "), "{message}");
    run(&["info", "--device", "cuda:99"]).code(6).stdout("");
}

#[test]
fn the_environment_is_read_and_flags_win_over_it() {
    let mut bad = program(&["info", "--json"]);
    bad.env("SMASH_THREADS", "0");
    assert_cmd::Command::from_std(bad).assert().code(2);
    let mut overridden = program(&["info", "--json", "--threads", "1"]);
    overridden.env("SMASH_THREADS", "0");
    assert_cmd::Command::from_std(overridden).assert().success();
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let (_dir, path) = file(&architecture().to_json());
    for args in [&[][..], &["show", &path], &["show", &path, "--json"], &["data", "stats"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program(args).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{args:?}: {:?}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn nobody_reading_the_error_does_not_change_the_exit_status() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = program(&["data", "stats", "no/such/folder"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
#[cfg(target_os = "linux")]
fn a_result_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program(&["data", "stats"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.starts_with("smash-engine: cannot write to stdout: "), "{message}");
}
