//! Architectures written by hand: those of `examples/architectures` are what their comments say, every command takes
//! them, and mistakes are named.

use crate::scene::Scene;
use smash_engine::nas::arch::{Architecture, Op};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One example for each network of the paper's Figure 1, and one of everything else in JSON.
const EXAMPLES: [&str; 4] = ["densenet.toml", "fractalnet.toml", "resnet.toml", "two-paths.json"];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/architectures").join(name)
}

fn load(name: &str) -> Architecture {
    Architecture::load(example(name)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_example_is_shown_drawn_trained_and_evaluated() {
    let scene = Scene::new();
    let entries = std::fs::read_dir(example("")).unwrap();
    let files: BTreeSet<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, EXAMPLES.map(String::from).into());
    for name in EXAMPLES {
        let (arch, path) = (load(name), example(name).display().to_string());
        let text = scene.stdout(&format!("show {path}"));
        assert!(text.starts_with(&format!("architecture {}: ", arch.id())), "{text}");
        let drawn = scene.stdout(&format!("show {path} --svg"));
        assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
        let written_out = scene.json(&format!("show {path}"))["architecture"].to_string();
        assert_eq!(Architecture::from_json(&written_out).unwrap(), arch);
        // Two steps and an evaluation.
        let line = "retrain --config settings.toml --out run --overwrite --retrain-epochs 1 --retrain-batch 120";
        let trained = scene.json(&format!("{line} --arch {path}"))["network"].clone();
        assert_eq!(trained["id"], arch.id());
        let again = scene.json(&format!("eval --out run --network {}", arch.id()));
        assert_eq!(again["test_err"], trained["test_err"]);
    }
}

/// Banks that are not empty before each op of each block, and the op.
fn replay(arch: &Architecture) -> Vec<(usize, usize, &Op)> {
    let mut steps = Vec::new();
    for (b, block) in arch.blocks.iter().enumerate() {
        let mut written = block.initial_banks(b, &arch.space);
        for op in &block.ops {
            steps.push((b, written, op));
            written = written.max(op.write.iter().max().map_or(0, |bank| bank + 1));
        }
    }
    steps
}

fn channels(arch: &Architecture) -> [Vec<usize>; 2] {
    let blocks = || arch.blocks.iter().enumerate();
    [
        blocks().map(|(b, block)| block.input_channels(b, &arch.space)).collect(),
        blocks().map(|(b, block)| block.output_channels(b, &arch.space)).collect(),
    ]
}

#[test]
fn the_resnet_adds_every_op_to_its_whole_stream() {
    let arch = load("resnet.toml");
    assert_eq!(channels(&arch), [vec![16, 24, 24], vec![16, 32, 64]]);
    for (b, written, op) in replay(&arch) {
        let stream = arch.blocks[b].written_banks(b, &arch.space);
        assert_eq!((&op.read, &op.write), (&(0..written).collect(), &stream));
        assert_eq!(op.active(), [true, true, false, false]);
    }
}

/// The same layers as the built-in network of that name: as deep, as large, as expensive.
#[test]
fn the_densenet_is_densenet_bc_28_12() {
    let arch = load("densenet.toml");
    assert_eq!(channels(&arch), [vec![24, 36, 42], vec![72, 84, 90]]);
    for (b, written, op) in replay(&arch) {
        let new = 12 / (arch.blocks[b].bank_size * arch.space.unit);
        assert_eq!((&op.read, &op.write), (&(0..written).collect(), &(written..written + new).collect()));
    }
    let scene = Scene::new();
    let [own, builtin] = [example("densenet.toml").display().to_string(), "densenet-bc-28-12".into()]
        .map(|name| scene.json(&format!("show {name} --stem-kernel 3")));
    for (of_own, of_builtin) in [
        (&own["layers"], &builtin["layers"]),
        (&own["cost"]["params"], &builtin["cost"]["params"]),
        (&own["cost"]["macs"], &builtin["cost"]["macs"]),
    ] {
        assert!(of_own.is_u64() && of_own == of_builtin, "{of_own} {of_builtin}");
    }
}

/// Paths of 1, 2, 2 + 2 layers from the input to one bank, with a join half way: what each bank sums up, written as a
/// formula in the block's input x.
#[test]
fn the_fractalnet_has_columns_of_one_two_and_four_layers() {
    let arch = load("fractalnet.toml");
    let half = "f(x) + f(f(x))";
    let out = format!("f({half}) + f(f({half})) + f(x)");
    for (b, block) in arch.blocks.iter().enumerate() {
        let mut banks = vec![String::new(); block.n_banks];
        let initial = block.initial_banks(b, &arch.space);
        banks[..initial].fill("x".into());
        for op in &block.ops {
            let whole_input = (0..initial).collect::<Vec<_>>() == op.read;
            assert!(whole_input || op.read.len() == 1 && op.read[0] >= initial, "{:?}", op.read);
            let term = format!("f({})", banks[op.read[0]]);
            let [bank] = op.write[..] else { panic!("{:?}", op.write) };
            banks[bank] = if banks[bank].is_empty() { term } else { format!("{} + {term}", banks[bank]) };
        }
        assert_eq!([&banks[initial], &banks[initial + 2]], [half, &out], "block {b}");
    }
}

#[test]
fn mistakes_are_named_by_file_element_and_line() {
    let scene = Scene::new();
    let good = std::fs::read_to_string(example("resnet.toml")).unwrap();
    let line = 1 + good.lines().position(|line| line == "width = 4").unwrap();
    for (bad, says) in [
        (
            good.replacen("\nwidth = 4\n", "\nwidth = 5\n", 1),
            format!("blocks[0].ops[1].width (line {line}): width 5 is outside"),
        ),
        (
            good.replacen("\nwidth = 4\n", "\nwith = 4\n", 1),
            format!("blocks[0].ops[1].with (line {line}): unknown field"),
        ),
        (good.replacen("\nwidth = 4\n", "\nwidth = 4 4\n", 1), format!("line {line}: ")),
    ] {
        assert_ne!(bad, good);
        std::fs::write(scene.path("bad.toml"), bad).unwrap();
        for command in ["show bad.toml", "retrain --config settings.toml --out run --arch bad.toml"] {
            let message = scene.complaint(command, 3);
            assert!(message.starts_with(&format!("smash-engine: bad.toml: architecture, {says}")), "{message}");
        }
    }
    assert!(!scene.path("run").exists());
    std::fs::write(scene.path("good.toml"), &good).unwrap();
    let message = scene.complaint("show good.toml --svg good.toml", 2);
    assert!(message.contains("would replace good.toml by a drawing"), "{message}");
}
