use super::super::Conv;
use super::*;
use crate::nas::options::Nonlinearity;

/// An op of one convolution for each block of the small space, in the shortest form.
const SHORT: &str = r#"
space = "small"
[[blocks]]
bank_size = 2
ops = [{ read = [0], write = [1], width = 2, body = "3x3" }]
[[blocks]]
bank_size = 2
ops = [{ read = [0], write = [1], width = 2, body = "3x3" }]
[[blocks]]
bank_size = 2
[[blocks.ops]]
read = [0]
write = [1]
width = 2
body = "3x5, 3 d2 g2 | 7 tanh"
"#;

/// With the space that the last convolution needs.
fn short() -> String {
    SHORT.replace("\"small\"", r#"{ preset = "small", nonlinearities = ["relu", "tanh"] }"#)
}

/// The place and message with which `text` is refused.
#[track_caller]
fn refused(read: fn(&str) -> Result<Architecture>, text: &str) -> (String, String) {
    match read(text) {
        Err(Error::Architecture { place, message }) => (place, message),
        other => panic!("{other:?} of {text}"),
    }
}

#[test]
fn short_forms_are_written_out() {
    let arch = from_toml(&short()).unwrap();
    assert_eq!(arch.space, Space { nonlinearities: vec![Nonlinearity::Relu, Nonlinearity::Tanh], ..Space::small() });
    assert_eq!(arch.schema, SCHEMA_IF_MISSING);
    let op = &arch.blocks[2].ops[0];
    let conv = |kernel, dilation, groups, activation| Some(Conv { kernel, dilation, groups, activation });
    let relu = Nonlinearity::Relu;
    assert_eq!(op.body[0], conv([3, 5], [1, 1], 1, relu));
    assert_eq!(op.body[1], conv([3, 3], [2, 2], 2, relu));
    assert_eq!(op.body[2..], [conv([7, 7], [1, 1], 1, Nonlinearity::Tanh), None]);
    assert_eq!(op.gates, [false; 2]);
    let most: Vec<usize> = (0..3).map(|b| arch.space.bank_count(b, 2, 1.0)).collect();
    assert_eq!(arch.blocks.iter().map(|block| block.n_banks).collect::<Vec<_>>(), most);
}

#[test]
fn all_forms_of_an_element_are_the_same_architecture() {
    let arch = from_toml(&short()).unwrap();
    assert_eq!(from_json(&arch.to_json()).unwrap(), arch, "what the engine writes");
    let same = [
        ("read = [0]\nwrite", "read = \"0\"\nwrite"),
        ("body = \"3x5,", "body = \" 3x5 g1 d1x1 relu ,"),
        (
            "body = \"3x5, 3 d2 g2 | 7 tanh\"",
            "body = { w2 = { kernel = 7, activation = \"tanh\" }, w0 = { kernel = [3, 5] },
             w1 = { kernel = 3, dilation = 2, groups = 2 } }",
        ),
        ("width = 2\nbody", "gates = [false, false]\nwidth = 2\nbody"),
    ];
    for (short_form, other) in same {
        let text = short().replace(short_form, other);
        assert_ne!(text, short(), "{short_form}");
        assert_eq!(from_toml(&text).unwrap().id(), arch.id(), "{other}");
    }
    let wide = "{ read = \"0-1\", write = \"3,0-2\", width = 4, body = \"3\" }";
    let text = short().replacen(
        "ops = [",
        &format!(
            "ops = [{{ read = [0], write = \"1\", width = 2, body = \"3\" }},
        {{ read = \"0-1\", write = [2], width = 2, body = \"3\" }}, {wide},"
        ),
        1,
    );
    let (place, _) = refused(from_toml, &text);
    assert_eq!(place, "blocks[0].ops[2].write (line 6)", "four writes of two are too many, and not an unknown form");
}

/// Each error of a hand-written file: what is replaced by what, the element named, and a part of the message.
#[test]
fn each_mistake_names_its_element_and_line() {
    let cases = [
        // Missing.
        ("space = ", "# ", "space", "missing"),
        ("[[blocks", "[[bloks", "bloks (line 3)", "unknown field; known here: schema, space, blocks"),
        ("bank_size = 2\n[[", "[[", "blocks[2].bank_size (line 9)", "missing"),
        ("width = 2\n", "", "blocks[2].ops[0].width (line 11)", "missing"),
        ("[0], write = [1], ", "[0], ", "blocks[0].ops[0].write (line 5)", "missing"),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w0 = { groups = 2 } }",
            "blocks[2].ops[0].body[0].kernel (line 15)",
            "missing",
        ),
        // Unknown.
        (
            "width = 2\n",
            "width = 2\ndepth = 1\n",
            "blocks[2].ops[0].depth (line 15)",
            "known here: read, write, width,",
        ),
        ("bank_size = 2\n[[", "bank_size = 2\nbanks = 2\n[[", "blocks[2].banks (line 11)", "bank_size, n_banks, ops"),
        ("nonlinearities", "nonlinearity", "space.nonlinearity (line 2)", "unknown field; known here: unit, n_max,"),
        ("preset = \"small\"", "preset = \"tiny\"", "space.preset (line 2)", "(there are v1, v2, small, small-v1)"),
        ("preset = \"small\",", "", "space.unit (line 2)", "missing"),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w0 = { kernel = 3, dilatation = 2 } }",
            "blocks[2].ops[0].body[0].dilatation (line 15)",
            "known here: kernel, dilation, groups, activation",
        ),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w4 = { kernel = 3 } }",
            "blocks[2].ops[0].body (line 15)",
            "\"w4\"; a body has w0,",
        ),
        // Of the wrong type.
        ("schema", "schema = \"one\"", "schema (line 2)", "invalid type: string \"one\", expected a whole number"),
        ("preset = \"small\"", "preset = 2", "space.preset (line 2)", "2 is no name of a preset"),
        ("\"tanh\"]", "\"tanh\"], depth = -1", "space.depth (line 2)", "integer `-1`, expected a whole number"),
        ("\"tanh\"]", "\"tanh\"], gates = 1", "space.gates (line 2)", "integer `1`, expected true or false"),
        (
            "\"relu\", \"tanh\"",
            "\"relu\", \"selu\"",
            "space.nonlinearities[1] (line 2)",
            "variant `selu`, expected one of",
        ),
        ("width = 2\n", "width = \"2\"\n", "blocks[2].ops[0].width (line 14)", "string \"2\", expected a whole number"),
        ("width = 2\n", "width = 2.5\n", "blocks[2].ops[0].width (line 14)", "number `2.5`, expected a whole number"),
        ("write = [1]\n", "write = 1\n", "blocks[2].ops[0].write (line 13)", "integer `1`, expected a list"),
        (
            "write = [1]\n",
            "write = [true]\n",
            "blocks[2].ops[0].write[0] (line 13)",
            "boolean `true`, expected a whole",
        ),
        ("bank_size = 2\n[[", "bank_size = []\n[[", "blocks[2].bank_size (line 10)", "list, expected a whole number"),
        (
            "width = 2\n",
            "width = 2\ngates = [true]\n",
            "blocks[2].ops[0].gates (line 15)",
            "length 1, expected a list of 2",
        ),
        (
            "write = [1]\n",
            "write = [-1]\n",
            "blocks[2].ops[0].write[0] (line 13)",
            "integer `-1`, expected a whole number of 0 or more",
        ),
        ("width = 2\n", "width = 99999999999999999999\n", "blocks[2].ops[0].width (line 14)", "is too large"),
        ("width = 2\n", &format!("width = {}\n", "9".repeat(50)), "blocks[2].ops[0].width (line 14)", "is too large"),
        ("width = 2\n", "width = 1e999\n", "blocks[2].ops[0].width (line 14)", "is too large"),
        ("width = 2\n", "width = -inf\n", "blocks[2].ops[0].width (line 14)", "-inf is no finite number"),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w0 = { kernel = 3 }, w1 = nan }",
            "blocks[2].ops[0].body.w1 (line 15)",
            "NaN is no finite number",
        ),
        ("schema", "schema = 4294967296", "schema (line 2)", "a whole number from 0 to 4294967295"),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w0 = { kernel = [3] } }",
            "blocks[2].ops[0].body[0].kernel (line 15)",
            "invalid length 1, expected a list of 2",
        ),
        (
            "\"3x5, 3 d2 g2 | 7 tanh\"",
            "{ w0 = 3 }",
            "blocks[2].ops[0].body[0] (line 15)",
            "integer `3`, expected a table of fields",
        ),
        // Short forms.
        (
            "write = [1]\n",
            "write = \"1-\"\n",
            "blocks[2].ops[0].write (line 13)",
            "\"1-\" is no bank and no run of banks",
        ),
        ("write = [1]\n", "write = \"2-1\"\n", "blocks[2].ops[0].write (line 13)", "\"2-1\" runs backwards"),
        (
            "write = [1]\n",
            "write = \"0-99\"\n",
            "blocks[2].ops[0].write (line 13)",
            "bank 99 does not exist (the block has 4",
        ),
        ("write = [1]\n", "write = \"0-3,0-3\"\n", "blocks[2].ops[0].write (line 13)", "more than the 4 banks"),
        ("\"3x5, ", "\"3x5, 3, ", "blocks[2].ops[0].body (line 15)", "3 convolutions given, a path has two at most"),
        (" | 7 tanh", " | 7 | 7", "blocks[2].ops[0].body (line 15)", "3 paths given, a body has two"),
        (" | 7 tanh", " | ", "blocks[2].ops[0].body (line 15)", "nothing is no convolution; write such as 3x5 d1x2 g4"),
        (" | 7 tanh", " | 7x tanh", "blocks[2].ops[0].body (line 15)", "\"7x\" is no convolution"),
        (
            " | 7 tanh",
            " | 7 selu",
            "blocks[2].ops[0].body (line 15)",
            "\"selu\" is none of a dilation (d2, d1x2), groups",
        ),
        (" | 7 tanh", " | 7 d1 d2", "blocks[2].ops[0].body (line 15)", "\"d2\" says again"),
        // Rules.
        ("\"tanh\"]", "\"tanh\"], groups = [3]", "space.groups (line 2)", "3 does not divide the unit, 4"),
        ("bank_size = 2\n[[", "bank_size = 9\n[[", "blocks[2].bank_size (line 10)", "size 9 is outside this space"),
        ("width = 2\n", "width = 3\n", "blocks[2].ops[0].width (line 14)", "allowed: multiples of 2 up to 4"),
        ("write = [1]\n", "write = [3]\n", "blocks[2].ops[0].write (line 13)", "bank 3 leaves bank 1 empty"),
        (" | 7 tanh", " | 9 tanh", "blocks[2].ops[0].body[2].kernel (line 15)", "kernel 9 is outside this space"),
    ];
    let mut faults = Vec::new();
    for (from, to, place, message) in cases {
        let text = match from {
            "schema" => format!("\n{to}{}", short()),
            _ => short().replacen(from, to, if from == "[[blocks" { 9 } else { 1 }),
        };
        assert_ne!(text, short(), "{from:?} is not there");
        let (found, said) = refused(from_toml, &text);
        if found != place || !said.contains(message) {
            faults.push(format!("{place}: {message}\n  became {found}: {said}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Banks are counted by their size: what is wrong with it comes before what cannot be counted.
#[test]
fn a_wrong_bank_size_is_reported_before_the_banks() {
    let banks = short().replace("read = [0]", "read = \"0\"");
    let cases = [
        ("bank_size = 999", "blocks[2].bank_size (line 10)", "size 999 is outside this space (allowed 1, 2"),
        ("bank_size = 0", "blocks[2].bank_size (line 10)", "size 0 is outside this space"),
        ("bank_size = -2", "blocks[2].bank_size (line 10)", "integer `-2`, expected a whole number"),
        ("bank_size = 2.0", "blocks[2].bank_size (line 10)", "number `2.0`, expected a whole number"),
        ("bank_size = \"2\"", "blocks[2].bank_size (line 10)", "string \"2\", expected a whole number"),
        ("bank_sise = 2", "blocks[2].bank_sise (line 10)", "unknown field; known here: bank_size"),
        ("", "blocks[2].bank_size (line 9)", "missing"),
    ];
    for (to, place, message) in cases {
        let (before, behind) = banks.rsplit_once("bank_size = 2").unwrap();
        let (found, said) = refused(from_toml, &format!("{before}{to}{behind}"));
        assert!(found == place && said.contains(message), "{to}: {found}: {said}");
    }
    let (place, message) =
        refused(from_toml, &format!("{banks}[[blocks]]\nbank_size = 2\nops = [{{ read = \"0\" }}]\n"));
    assert_eq!((&place[..], &message[..]), ("blocks (line 3)", "4 given, a network has 3"));
}

#[test]
fn what_is_no_table_of_fields_or_no_text_of_its_format_is_refused_with_its_line() {
    type Reader = fn(&str) -> Result<Architecture>;
    let cases: [(Reader, &str, &str, &str); 8] = [
        (from_json, "nonsense", "line 1 column 2", "expected ident"),
        (from_json, "{\n  \"blocks\": [],\n}", "line 3 column 1", "trailing comma"),
        (from_json, "[1]", "file", "is no table of fields"),
        (from_json, "{\"blocks\": [], \"blocks\": []}", "line 1 column 28", "`blocks` is given twice"),
        (from_json, "{\"schema\": 2}", "schema", "2 is unknown; this engine reads 1"),
        (from_toml, "space = \"v2\"\nblocks\n", "line 2", "key with no value, expected `=`"),
        (from_toml, "space = \"v2\"\nspace = 3\n", "line 2", "duplicate key"),
        (from_toml, "\nschema = 2\n", "schema (line 2)", "2 is unknown; this engine reads 1"),
    ];
    for (read, text, place, message) in cases {
        let (found, said) = refused(read, text);
        assert!(found == place && said.contains(message), "{text:?}: {found}: {said}");
    }
}

#[test]
fn long_and_strange_names_make_short_errors_of_one_line() {
    for name in ["x".repeat(5000), "\\u0007\\n".into()] {
        let (place, message) = refused(from_json, &format!("{{\"space\": \"{name}\", \"{name}\": 1}}"));
        assert_eq!(place, "space", "{message}");
        let text = short().replace("width = 2\n", &format!("width = \"{name}\"\n\"{name}\" = 1\n"));
        let (place, message) = refused(from_toml, &text);
        assert!(place.len() + message.len() < 1000, "{place}: {message}");
        assert!(!format!("{place}{message}").contains(char::is_control), "{place:?}: {message:?}");
    }
}
