use super::*;
use crate::nas::sample::{SampleLimits, sample};
use crate::rng::{Rng, Stream};

fn conv() -> Option<Conv> {
    Some(Conv { kernel: [3, 5], dilation: [3, 2], groups: 4, activation: Nonlinearity::Relu })
}

/// v2, banks of 16, 24 and 32 channels: 4, 4 and 3 of them start written.
fn example() -> Architecture {
    let op = |read: &[usize], write: &[usize], width, active: [bool; 4]| Op {
        read: read.into(),
        write: write.into(),
        width,
        body: active.map(|active| if active { conv() } else { None }),
        gates: [false; 2],
    };
    let one = [true, false, false, false];
    let blocks = vec![
        Block { bank_size: 2, n_banks: 8, ops: vec![op(&[0, 2], &[1, 4], 4, one), op(&[4], &[5, 0], 2, [true; 4])] },
        Block { bank_size: 3, n_banks: 6, ops: vec![op(&[0, 3], &[4, 5], 6, one)] },
        Block { bank_size: 4, n_banks: 5, ops: vec![op(&[0, 1, 2], &[3], 4, [true, true, true, false])] },
    ];
    Architecture::new(Space::v2(), blocks)
}

#[test]
fn derived_sizes_follow_the_definitions() {
    let arch = example();
    arch.validate().unwrap();
    let (space, block) = (&arch.space, &arch.blocks[0]);
    let [first, second] = &block.ops[..] else { panic!() };
    assert_eq!(first.input_channels(block, space), 2 * 2 * 8);
    assert_eq!(first.output_channels(space), 32);
    assert_eq!(first.bottleneck_channels(block, space), 32, "as many as come in");
    assert_eq!(second.bottleneck_channels(block, space), 16);
    let wide = Op { read: vec![0, 1, 2, 3, 4], ..second.clone() };
    assert_eq!(wide.bottleneck_channels(block, space), 32, "at most twice what goes out");
    assert_eq!((first.slices(block, space), block.slices(space), arch.slices()), (2, 3, 3 + 3 + 6));
    assert_eq!(block.written_banks(0, space), [0, 1, 2, 3, 4, 5]);
    assert_eq!(block.output_channels(0, space), 6 * 16);
    let enters: Vec<usize> = arch.blocks.iter().enumerate().map(|(b, block)| block.input_channels(b, space)).collect();
    assert_eq!(enters, [64, 96, 96], "112 channels hold three whole banks of 32");
    assert_eq!(arch.layers(), 1 + (2 + 5) + 1 + 2 + 1 + 4 + 1);
    assert_eq!(first.body[0].unwrap().padding(), [3, 4]);
}

#[test]
fn placed_ops_occupy_all_slices_in_order() {
    let arch = example();
    let places: Vec<_> = arch.placed_ops().map(|placed| (placed.block_index, placed.columns)).collect();
    assert_eq!(places, [(0, 0..2), (0, 2..3), (1, 3..6), (2, 6..12)]);
    assert!(arch.placed_ops().all(|placed| arch.blocks[placed.block_index].ops.contains(placed.op)));
}

#[test]
fn writes_beyond_the_width_start_over_with_the_first_channels() {
    let arch = example();
    let (space, block) = (&arch.space, &arch.blocks[0]);
    let channels = |op: &Op| (0..op.write.len()).map(|j| op.write_channels(j, block, space)).collect::<Vec<_>>();
    assert_eq!(channels(&block.ops[0]), [0..16, 16..32]);
    assert_eq!(channels(&block.ops[1]), [0..16, 0..16]);
}

#[test]
fn json_round_trips_and_keeps_the_name() {
    let mut rng = Rng::new(1, Stream::Arch);
    let mut all = vec![example()];
    for space in [Space::v1(), Space::v2(), Space::fixture()] {
        all.extend((0..50).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)));
    }
    for arch in all {
        let text = arch.to_json();
        let read = Architecture::from_json(&text).unwrap();
        assert_eq!(read, arch);
        assert_eq!((read.to_json(), read.id()), (text, arch.id()));
        assert!(arch.id().len() == 12 && arch.id().bytes().all(|b| b.is_ascii_hexdigit()));
    }
    let mut other = example();
    other.blocks[0].ops[1].write = vec![0, 5];
    assert_ne!(other.id(), example().id());
}

/// Names are written into files, so they may not change with a version of the engine.
#[test]
fn names_are_golden() {
    assert_eq!(example().id(), "d6be5fc9545a");
}

#[test]
fn json_has_one_op_per_line() {
    let text = example().to_json();
    let body = r#"[{"kernel":[3,5],"dilation":[3,2],"groups":4},null,null,null]"#;
    let line = format!(r#"      {{"read":[0,2],"write":[1,4],"width":4,"body":{body}}},"#);
    assert!(text.lines().any(|l| l == line), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("\"read\"")).count(), 4);
}

#[test]
fn files_are_read_and_their_errors_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arch.json");
    assert!(matches!(Architecture::load(&path), Err(Error::Io { action: "read", .. })));
    std::fs::write(&path, example().to_json()).unwrap();
    assert_eq!(Architecture::load(&path).unwrap(), example());
    std::fs::write(&path, "{}").unwrap();
    let message = Architecture::load(&path).unwrap_err().to_string();
    assert!(message.contains("arch.json: architecture, space: missing"), "{message}");
}

#[test]
fn the_format_is_told_from_name_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "space = \"v2\"\n".to_string();
    let cases = [
        ("a.json", example().to_json(), None),
        ("a", format!("\u{feff}\n  {}", example().to_json()), None),
        ("a.toml", format!("\u{feff}{toml}"), Some("architecture, blocks: missing")),
        ("a.txt", toml.clone(), Some("architecture, blocks: missing")),
        ("b.json", toml, Some("architecture, line 1 column 1: expected value")),
    ];
    for (name, text, error) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let found = Architecture::load(&path).map_err(|e| e.to_string());
        match error {
            None => assert_eq!(found, Ok(example())),
            Some(error) => assert_eq!(found, Err(format!("{}: {error}", path.display()))),
        }
    }
    std::fs::write(folder.path().join("c"), [0xff, 0xfe]).unwrap();
    let message = Architecture::load(folder.path().join("c")).unwrap_err().to_string();
    assert!(message.ends_with("c: is not text; an architecture is JSON or TOML"), "{message}");
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    let good = example().to_json();
    let cases = [
        (good.replace("\"schema\": 1", "\"schema\": 2"), "schema", "2 is unknown; this engine reads 1"),
        (good.replacen("\"width\":4", "\"width\":4,\"depth\":1", 1), "blocks[0].ops[0].depth", "unknown field"),
        (good.replacen("\"width\":4", "\"width\":-4", 1), "blocks[0].ops[0].width", "invalid value"),
        (good.replacen("\"unit\":8", "\"unit\":8,\"uint\":8", 1), "space.uint", "unknown field"),
        (good.replacen("\"unit\":8,", "", 1), "space.unit", "missing"),
        (good.replacen(",null,null,null]", "]", 1), "blocks[0].ops[0].body", "invalid length"),
        (good.replacen("},null,null,null]", ",}]", 1), "line 6 column", "trailing comma"),
    ];
    for (text, place, message) in cases {
        match Architecture::from_json(&text) {
            Err(Error::Architecture { place: found, message: said }) => {
                assert!(found.starts_with(place), "{place}: found {found}");
                assert!(said.contains(message) && !said.contains(" at line "), "{message}: said {said}");
            }
            other => panic!("{place}: {other:?}"),
        }
    }
}

/// Every rule: what breaks it, the element named, and a part of the message.
#[test]
fn each_broken_rule_names_its_element() {
    type Break = fn(&mut Architecture);
    let cases: Vec<(Break, &str, &str)> = vec![
        (|a| a.schema = 2, "schema", "2 is unknown"),
        (|a| a.space.groups = vec![3], "space.groups", "3 does not divide the unit, 8"),
        (|a| drop(a.blocks.pop()), "blocks", "2 given, a network has 3"),
        (
            |a| a.blocks[0].bank_size = 5,
            "blocks[0].bank_size",
            "size 5 is outside this space (allowed 1, 2, 3, 4, 6, 8)",
        ),
        (|a| a.blocks[0].bank_size = 0, "blocks[0].bank_size", "size 0"),
        (|a| a.blocks[1].n_banks = 3, "blocks[1].n_banks", "3 banks are outside this space (allowed 4 to 9)"),
        (|a| a.blocks[1].n_banks = 10, "blocks[1].n_banks", "10 banks"),
        (|a| a.blocks[2].ops.clear(), "blocks[2].ops", "at least one op"),
        (|a| a.blocks[0].ops[0].read = vec![], "blocks[0].ops[0].read", "0 banks are not whole slices"),
        (|a| a.blocks[1].ops[0].read = vec![0, 1, 2], "blocks[1].ops[0].read", "allowed: multiples of 2"),
        (|a| a.blocks[0].ops[0].read[1] = 8, "blocks[0].ops[0].read[1]", "bank 8 does not exist (the block has 8)"),
        (|a| a.blocks[0].ops[0].read[1] = 4, "blocks[0].ops[0].read[1]", "bank 4 is still empty (written so far: 4)"),
        (|a| a.blocks[0].ops[0].read = vec![2, 2], "blocks[0].ops[0].read[1]", "bank 2 follows bank 2; reads ascend"),
        (
            |a| {
                let op = a.blocks[0].ops[1].clone();
                a.blocks[0].ops.extend(vec![Op { read: vec![0, 1], ..op }; 25]);
            },
            "blocks[0].ops[26].read",
            "needs 2 slices, the block's budget has 1 left",
        ),
        (|a| a.blocks[0].ops[0].width = 0, "blocks[0].ops[0].width", "width 0"),
        (|a| a.blocks[0].ops[0].width = 10, "blocks[0].ops[0].width", "allowed: multiples of 2 up to 8"),
        (|a| a.blocks[0].ops[0].width = 3, "blocks[0].ops[0].width", "width 3"),
        (|a| a.blocks[0].ops[0].write[1] = 9, "blocks[0].ops[0].write[1]", "bank 9 does not exist"),
        (|a| a.blocks[0].ops[0].write[1] = 1, "blocks[0].ops[0].write[1]", "bank 1 is written twice"),
        (|a| a.blocks[0].ops[0].write = vec![1], "blocks[0].ops[0].write", "1 banks written (allowed 2 to 2)"),
        (|a| a.blocks[0].ops[0].write = vec![0, 1, 2], "blocks[0].ops[0].write", "3 banks written (allowed 2 to 2)"),
        (|a| a.blocks[0].ops[0].write[1] = 5, "blocks[0].ops[0].write", "bank 5 leaves bank 4 empty"),
        (|a| a.blocks[0].ops[1].write = vec![5, 6], "blocks[0].ops[1].write", "2 empty banks filled, the width has 1"),
        (
            |a| a.blocks[0].ops[1].body[2] = None,
            "blocks[0].ops[1].body",
            "[1, 1, 0, 1] is outside this space (allowed [1, 0, 0, 0]",
        ),
        (
            |a| a.blocks[0].ops[1].body[1] = conv_with(|c| c.kernel[1] = 9),
            "blocks[0].ops[1].body[1].kernel",
            "kernel 9 is outside this space (allowed 3, 5, 7)",
        ),
        (
            |a| a.blocks[0].ops[1].body[2] = conv_with(|c| c.dilation[1] = 3),
            "blocks[0].ops[1].body[2].dilation",
            "dilation 3 of kernel 5 is outside this space (allowed 1 to 2)",
        ),
        (
            |a| a.blocks[0].ops[1].body[2] = conv_with(|c| c.dilation[0] = 0),
            "blocks[0].ops[1].body[2].dilation",
            "dilation 0",
        ),
        (
            |a| a.blocks[0].ops[1].body[3] = conv_with(|c| c.groups = 3),
            "blocks[0].ops[1].body[3].groups",
            "groups 3 is outside this space (allowed 1, 2, 4, 8)",
        ),
        (
            |a| a.space.square_kernels = true,
            "blocks[0].ops[0].body[0].kernel",
            "[3, 5] is outside this space (allowed equal",
        ),
        (
            |a| {
                a.space.square_kernels = true;
                a.blocks[0].ops[0].body[0] = conv_with(|c| c.kernel = [3, 3]);
            },
            "blocks[0].ops[0].body[0].dilation",
            "dilation [3, 2] is outside this space (allowed equal",
        ),
    ];
    for (corrupt, place, message) in cases {
        let mut arch = example();
        corrupt(&mut arch);
        match arch.validate() {
            Err(Error::Architecture { place: found, message: said }) => {
                assert_eq!(found, place, "{said}");
                assert!(said.contains(message), "{place}: {said}");
            }
            other => panic!("{place}: {other:?}"),
        }
    }
}

fn conv_with(change: impl Fn(&mut Conv)) -> Option<Conv> {
    let mut conv = conv();
    conv.iter_mut().for_each(change);
    conv
}
