//! The shape of the source tree: who may use whom, what an op consists of, how many crates there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules from top to bottom: an arrow only ever points down this list.
const LAYERS: [&str; 24] = [
    "main",
    "commands",
    "bench",
    "parsers",
    "figures",
    "report",
    "checkpoint",
    "config",
    "cli",
    "export",
    "nas",
    "nn",
    "ops",
    "testing",
    "tape",
    "tensor",
    "backend",
    "data",
    "machine",
    "statistics",
    "rng",
    "trace",
    "error",
    "lib",
];

/// The arrows there may be: from a module, to a module or a path in one, and why. Every module
/// may use `error`, `rng` and `trace`. Naming an arrow here is a decision.
const ARROWS: &[(&str, &str, &str)] = &[
    ("main", "cli", "parses what was typed"),
    ("main", "commands", "runs it"),
    ("commands", "cli", "each takes the arguments typed for it"),
    ("commands", "config", "resolves them"),
    ("commands", "bench", "measures, prints and compares"),
    ("commands", "checkpoint", "saves and continues runs"),
    ("commands", "report", "prints progress and results"),
    ("commands", "nas", "trains, searches, shows, and checks that it trains"),
    ("commands", "ops", "selftest runs the checks of all of them"),
    ("commands", "testing", "on the device that was asked for"),
    ("commands", "nn", "counts and saves parameters"),
    ("commands", "backend", "opens the device"),
    ("commands", "data", "opens the data set"),
    ("commands", "machine", "says what a run computes on"),
    ("commands", "ops::batch_gather::BatchGather", "says how its images become batches"),
    ("commands", "ops::volume_gather::VolumeGather", "and its volumes"),
    ("commands", "tensor::Shape", "and of what extent those are"),
    ("commands", "figures", "draws what it found"),
    ("commands", "statistics", "experiments say how sure they are"),
    ("bench", "machine", "says where it measured, and how much memory that took"),
    ("bench", "report::table", "prints columns"),
    ("bench", "report::Align", "whose columns are aligned"),
    ("bench", "checkpoint::write_atomic", "runs are saved whole or not at all"),
    ("bench", "config::RunConfig", "steps are those that a preset trains"),
    ("bench", "cli", "takes the arguments typed for it"),
    ("bench", "nas", "draws architectures, takes steps"),
    ("bench", "nn", "with optimisers"),
    ("bench", "ops", "and times every op"),
    ("bench", "testing", "whose results it compares within the same tolerances"),
    ("bench", "tape", "on a tape"),
    ("bench", "tensor", "with shapes"),
    ("bench", "backend", "on every device, beside its limits"),
    ("bench", "data", "on images made up"),
    ("parsers", "data", "lists the readers of data files"),
    ("parsers", "nas::arch::Architecture", "that of architectures"),
    ("parsers", "config::RunConfig", "of settings"),
    ("parsers", "checkpoint", "and of checkpoints"),
    ("report", "checkpoint::write_atomic", "results are written whole or not at all"),
    ("checkpoint", "nn", "names the ranges it saves"),
    ("checkpoint", "export::weights::digest", "and digests them as exports do"),
    ("checkpoint", "backend", "reads and writes memory regions"),
    ("config", "cli", "flags are one source of settings"),
    ("config", "nas", "settings hold a search space and its HyperNet"),
    ("config", "nn", "settings hold an optimiser"),
    ("config", "data", "settings name a data set"),
    ("cli", "export::about::Dtype", "and those of --dtype those of exported weights"),
    ("cli", "nas::resulting::NormKind", "the choices of --norm are those of the networks"),
    ("cli", "nas::strategy::Strategy", "and those of --strategy the search's"),
    ("commands", "export", "hands networks to other programs, and takes them back"),
    ("parsers", "export", "and of exported networks"),
    ("export", "nas", "builds networks and asks them what they compute"),
    ("export", "nn", "names parameters"),
    ("export", "tape", "which a forward pass wrote down"),
    ("export", "backend", "and whose numbers are on a device"),
    ("export", "data", "takes images"),
    ("export", "ops::batch_gather::BatchGather", "and says how they become batches"),
    ("export", "ops::volume_gather::VolumeGather", "and volumes"),
    ("figures", "nas", "draws architectures"),
    ("nas", "nn", "networks are made of layers and parameters"),
    ("nas", "ops", "and of ops"),
    ("nas", "tape", "recorded on a tape"),
    ("nas", "tensor", "with shapes"),
    ("nas", "backend", "windows of stored filters are the backend's; training owns a context"),
    ("nas", "data", "training takes batches of images"),
    ("testing", "tape", "applies an op as training does"),
    ("testing", "tensor", "to operands of some shape"),
    ("testing", "backend", "on every device"),
    ("nas", "testing", "a training is checked on every device"),
    ("ops", "testing", "so is every op"),
    ("nn", "ops", "layers and optimisers call ops"),
    ("nn", "tape", "parameters become values of a tape"),
    ("nn", "tensor", "with shapes"),
    ("nn", "backend", "flat buffers are memory regions"),
    ("ops", "tape", "every op records itself"),
    ("ops", "tensor", "and checks shapes"),
    ("ops", "backend", "and calls kernels"),
    ("ops", "data::Images", "batch_gather and volume_gather collect images where they lie"),
    ("ops", "data::ImageShape", "is checked on images made up"),
    ("ops", "data::augment::Placement", "and is told where to look at each"),
    ("tape", "tensor", "values are tensors"),
    ("tape", "backend", "in a context"),
    ("tensor", "backend::Span", "a tensor is a shape and a span"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file below `dir`.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The top-level module a file belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = Path::new(inside.components().next().unwrap().as_os_str());
    first.file_stem().unwrap().to_str().unwrap().to_string()
}

/// Every path of this crate that a source text names, `use` trees taken apart: `backend::Span`.
fn paths(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for name in ["crate::", "smash_engine::"] {
        for (at, _) in code.match_indices(name) {
            expand(&code[at + name.len()..], String::new(), &mut found);
        }
    }
    found
}

/// Takes one `use` tree apart; returns what follows it.
fn expand<'a>(tree: &'a str, prefix: String, found: &mut BTreeSet<String>) -> &'a str {
    let mut tree = tree.trim_start();
    if let Some(inside) = tree.strip_prefix('{') {
        tree = inside;
        loop {
            tree = expand(tree, prefix.clone(), found).trim_start();
            match tree.strip_prefix(',') {
                Some(rest) => tree = rest,
                None => return tree.strip_prefix('}').unwrap_or(tree),
            }
        }
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let path = if prefix.is_empty() || name.is_empty() { prefix + name } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, path, found),
        None => {
            // No name is a glob or the end of a list after a last comma.
            if !name.is_empty() || rest.starts_with('*') {
                found.insert(path);
            }
            // `as name` and `*` stand before the next comma.
            &rest[rest.find([',', '}']).unwrap_or(rest.len())..]
        }
    }
}

/// Is `path` the module or item `allowed`, or inside it?
fn within(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn use_trees_are_taken_apart() {
    let source = "use crate::{Error, a::{b::{C, d as e}, f::*,},\n  g};\nlet x = $crate::h::i(); // crate::no";
    let found: Vec<String> = paths(source).into_iter().collect();
    assert_eq!(found, ["Error", "a::b::C", "a::b::d", "a::f", "g", "h::i"].map(|p| p.to_string()));
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    // A file of unit tests may build what it tests from anything: a tape is tested with ops.
    let is_test = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs"));
    for file in rust_files(&root().join("src")).into_iter().filter(|file| !is_test(file)) {
        let from = module_of(&file);
        assert!(LAYERS.contains(&from.as_str()), "{from} has no place in LAYERS");
        for path in paths(&read(&file)) {
            let to = path.split("::").next().unwrap_or_default();
            // Error and Result at the root are those of `error`.
            let common = ["error", "rng", "trace", "Error", "Result"];
            let allowed = to == from
                || common.contains(&to)
                || ARROWS.iter().any(|&(source, target, _)| source == from && within(&path, target));
            if !allowed {
                wrong.push(format!("{}: crate::{path}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that tests/it/tree.rs does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn allowed_arrows_point_down() {
    let height = |module: &str| LAYERS.iter().position(|&m| m == module).unwrap_or_else(|| panic!("no {module}"));
    for &(from, to, reason) in ARROWS {
        let module = to.split("::").next().unwrap_or_default();
        assert!(height(from) < height(module), "{from} -> {to} points up");
        assert!(!reason.is_empty());
    }
}

#[test]
fn an_op_is_a_folder_with_its_checks() {
    let ops = root().join("src/ops");
    let list = read(ops.join("mod.rs"));
    let mut count = 0;
    for entry in std::fs::read_dir(&ops).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let op = path.file_name().unwrap().to_str().unwrap();
        for file in ["mod.rs", "checks.rs"] {
            assert!(path.join(file).is_file(), "ops/{op} has no {file}");
        }
        let source = read(path.join("mod.rs"));
        assert!(source.contains("\npub mod checks;"), "ops/{op}/mod.rs does not name its checks");
        assert!(list.contains(&format!("{op}::checks::checks()")), "ops/mod.rs does not run the checks of {op}");
        let pass = if matches!(op, "adam" | "sgd") { "update" } else { "forward" };
        assert!(source.contains(&format!("c\"{op}_{pass}\"")), "profilers do not see ops/{op}");
        let has_backward = source.contains("impl Backward for");
        assert_eq!(source.contains(&format!("c\"{op}_backward\"")), has_backward, "profilers and ops/{op} backwards");
        assert!(list.contains(&format!("\npub mod {op};")), "ops/mod.rs does not list {op}");
        count += 1;
    }
    assert_eq!(count, list.matches("\npub mod ").count(), "ops/mod.rs lists something that is no folder");
}

#[test]
fn every_file_says_what_it_is() {
    for file in ["src", "examples"].into_iter().flat_map(|folder| rust_files(&root().join(folder))) {
        let is_test = file.file_name().is_some_and(|name| name == "tests.rs");
        assert!(is_test || read(&file).starts_with("//! "), "{} has no header", file.display());
    }
}

#[test]
fn the_readme_states_how_many_crates_there_are() {
    let packages = read(root().join("Cargo.lock")).matches("[[package]]").count() - 1;
    let statement = format!("`Cargo.lock` lists {packages} packages");
    let readme = read(root().join("README.md"));
    assert!(readme.contains(&statement), "README.md does not say: {statement}");
}

#[test]
fn the_readme_lists_every_command() {
    use clap::CommandFactory;
    let readme = read(root().join("README.md"));
    for command in smash_engine::cli::Cli::command().get_subcommands() {
        let row = format!("| `{}", command.get_name());
        assert!(readme.contains(&row), "README.md has no row for {}", command.get_name());
    }
}

#[test]
fn the_package_holds_what_the_build_reads_and_what_one_reads() {
    let package: toml::Table = read(root().join("Cargo.toml")).parse().unwrap();
    let included = package["package"]["include"].as_array().unwrap();
    let included: Vec<&str> = included.iter().filter_map(|pattern| pattern.as_str()).collect();
    let holds = |path: &str| included.iter().any(|pattern| matches(pattern, &format!("/{path}")));
    let embedded = read(root().join("src/data/embedded.rs"));
    let embedded: Vec<&str> = embedded.split("include_bytes!(\"../../").skip(1).map(until_quote).collect();
    assert_eq!(embedded.len(), 4);
    let named = ["build.rs", "src/main.rs", "README.md", "LICENSE-MIT", "kernels/conv2d.cu", "kernels/common.cuh"];
    for path in named.into_iter().chain(embedded) {
        assert!(root().join(path).is_file() && holds(path), "the package has no {path}");
    }
    for path in ["tests/it/main.rs", "benches/runs/README.md", "kernels/emu/cuda.h", ".ci/run", "tools/fuzz.sh"] {
        assert!(!holds(path), "the package has {path}, which only this repository needs");
    }
}

/// Does a pattern of `include` cover a path, which begins with a slash? One `*`, within a folder.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else {
        return path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    };
    let inside = path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    inside.is_some_and(|inside| !inside.contains('/'))
}

fn until_quote(text: &str) -> &str {
    text.split('"').next().unwrap_or(text)
}

#[test]
fn the_architecture_page_names_every_file() {
    let page = read(root().join("ARCHITECTURE.md"));
    for file in rust_files(&root().join("src")) {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let of_an_op = inside.starts_with("ops");
        let for_tests =
            ["tests.rs", "testdata.rs", "testarrays.rs", "mod.rs"].iter().any(|name| inside.ends_with(name));
        let name = inside.file_name().unwrap().to_str().unwrap();
        assert!(of_an_op || for_tests || page.contains(name), "ARCHITECTURE.md does not name {}", inside.display());
    }
}
