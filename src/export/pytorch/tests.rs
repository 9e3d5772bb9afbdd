//! Promises of the generated files: every weight has its module, of its extent, and every name is defined before it is
//! read. That they compute what the engine does is checked with PyTorch itself by `tools/check-exports.sh`.

use super::{text, write};
use crate::export::about::{About, Dtype, Weights};
use crate::export::keys::key;
use crate::export::tests::{PICTURES, about, drawn, network};
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::resulting::NormKind;
use crate::nas::space::Space;
use crate::nas::twin::NetworkShape;
use crate::tape::computation::{Computation, Constant, Instruction, Operation, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

const STRIDED: NetworkShape = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(1, 16, 5, 7) };
const VOLUMES: NetworkShape = NetworkShape { image_depth: 8, ..PICTURES };

/// Networks of all kinds.
fn networks() -> Vec<(&'static str, About)> {
    let nonlinearities = vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid];
    let options = |activation| Space {
        activation,
        nonlinearities: nonlinearities.clone(),
        gates: true,
        body_norm: true,
        ..Space::fixture()
    };
    let of = |name, design, shape, norm| (name, about(design, norm, shape, Dtype::F32));
    let mut all = vec![
        of("sandwich", drawn(&Space::fixture(), 1), PICTURES, NormKind::Sandwich),
        of("full", drawn(&Space::fixture(), 2), STRIDED, NormKind::Full),
        of("weightnorm", drawn(&Space::fixture(), 3), PICTURES, NormKind::Weightnorm),
        of("pre", drawn(&options(ActivationOrder::Pre), 4), PICTURES, NormKind::Full),
        of("post", drawn(&options(ActivationOrder::Post), 5), STRIDED, NormKind::Sandwich),
        of("v1", drawn(&Space::v1(), 5), PICTURES, NormKind::Sandwich),
        of("volumes", drawn(&Space::fixture(), 6), VOLUMES, NormKind::Sandwich),
        of("flat", drawn(&Space::fixture(), 7), NetworkShape { image_depth: 2, ..VOLUMES }, NormKind::Full),
    ];
    for name in ["wrn-16-2", "resnet-14", "densenet-13-4", "densenet-bc-16-4", "fractalnet-3-2"] {
        for shape in [PICTURES, STRIDED] {
            all.push(of(name, Design::Builtin(name.parse().unwrap()), shape, NormKind::Sandwich));
        }
    }
    all
}

fn computed(about: &About) -> Computation {
    let (network, mut context) = network(about);
    computation(&mut context, &*network, &about.shape).unwrap()
}

/// All networks, as files.
fn files() -> &'static [(&'static str, Computation, String)] {
    static FILES: OnceLock<Vec<(&'static str, Computation, String)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let written = |(name, about)| {
            let computation = computed(&about);
            let file = write(&computation, &about).unwrap();
            (name, computation, file)
        };
        networks().into_iter().map(written).collect()
    })
}

// ---------------------------------------------------------------- the files, read again

/// A class of a file, its statements on one line each.
#[derive(Debug, Default)]
struct Class {
    params: Vec<String>,
    init: Vec<String>,
    arguments: Vec<String>,
    forward: Vec<String>,
}

/// The classes of a file by their names.
fn classes(file: &str) -> BTreeMap<String, Class> {
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    let (mut current, mut method) = (String::new(), String::new());
    for line in joined(file) {
        let text = line.trim().to_string();
        if let Some(name) = text.strip_prefix("class ") {
            current = name.trim_end_matches("(nn.Module):").to_string();
            assert!(classes.insert(current.clone(), Class::default()).is_none(), "{current} is there twice");
        } else if line.starts_with("def ") {
            current.clear();
        }
        let Some(class) = classes.get_mut(&current) else { continue };
        if let Some(definition) = text.strip_prefix("def ") {
            let (name, params) = definition.trim_end_matches("):").split_once("(self").unwrap();
            method = name.to_string();
            let params = params.split(", ").filter(|param| !param.is_empty()).map(str::to_string).collect();
            *(if method == "forward" { &mut class.arguments } else { &mut class.params }) = params;
        } else if line.starts_with("        ") && !text.starts_with("super()") {
            (if method == "forward" { &mut class.forward } else { &mut class.init }).push(text);
        }
    }
    classes
}

/// Lines, those of a broken statement as one.
fn joined(file: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut depth = 0;
    for line in file.lines() {
        match (depth, lines.last_mut()) {
            (1.., Some(last)) => *last += &format!(" {}", line.trim()),
            _ => lines.push(line.to_string()),
        }
        depth += line.matches(['(', '[', '{']).count() as i32 - line.matches([')', ']', '}']).count() as i32;
    }
    let spaces = [("( ", "("), ("[ ", "["), (", )", ")"), (" )", ")"), (", ]", "]"), (" ]", "]"), (", }", "}")];
    let close = |line: String| spaces.iter().fold(line, |line, (wide, close)| line.replace(wide, close));
    lines.into_iter().map(|line| if line.trim().contains(' ') { close(line) } else { line }).collect()
}

/// What is called, with which arguments: `nn.Conv2d(1, (3, 5))`.
fn call(text: &str) -> (&str, Vec<&str>) {
    let (name, arguments) = text.strip_suffix(')').and_then(|text| text.split_once('(')).unwrap();
    (name, text::split(arguments).into_iter().filter(|argument| !argument.is_empty()).collect())
}

/// The state that a module has under `path`: names and extents.
fn state(classes: &BTreeMap<String, Class>, made: &str, path: &str) -> Vec<(String, Vec<usize>)> {
    let (name, values) = call(made);
    let Some(class) = classes.get(name) else { return layer(name, &values, path) };
    assert_eq!(values.len(), class.params.len(), "{made}");
    let mut found = Vec::new();
    for line in class.init.iter().filter(|line| !line.starts_with("self.register_buffer")) {
        let (attribute, made) = line.trim_start_matches("self.").split_once(" = ").unwrap();
        let inner = if path.is_empty() { attribute.to_string() } else { format!("{path}.{attribute}") };
        let Some(entries) = made.strip_prefix("nn.ModuleDict({").and_then(|rest| rest.strip_suffix("})")) else {
            let (name, arguments) = call(made);
            // A number for each parameter of the class.
            let given = arguments.into_iter().map(|argument| {
                class.params.iter().position(|param| param == argument).map_or(argument, |place| values[place])
            });
            found.extend(state(classes, &format!("{name}({})", given.collect::<Vec<_>>().join(", ")), &inner));
            continue;
        };
        for entry in text::split(entries) {
            let (key, made) = entry.split_once(": ").unwrap();
            found.extend(state(classes, made, &format!("{inner}.{}", key.trim_matches('"'))));
        }
    }
    found
}

/// The state of one of PyTorch's modules.
fn layer(name: &str, arguments: &[&str], path: &str) -> Vec<(String, Vec<usize>)> {
    let number = |text: &str| text.trim_matches(['(', ')']).parse::<usize>().unwrap();
    let option = |key: &str| arguments.iter().find_map(|argument| argument.strip_prefix(key)).map(number);
    let all =
        |names: &[&str], extent: Vec<usize>| names.iter().map(|n| (format!("{path}.{n}"), extent.clone())).collect();
    match name {
        "nn.Conv2d" | "nn.Conv3d" => {
            let axes = if name.ends_with("3d") { 3 } else { 2 };
            let kernel: Vec<usize> = arguments[2].split(", ").map(number).collect();
            let kernel = if kernel.len() == 1 { vec![kernel[0]; axes] } else { kernel };
            let groups = option("groups=").unwrap_or(1);
            all(&["weight"], [vec![number(arguments[1]), number(arguments[0]) / groups], kernel].concat())
        }
        "nn.BatchNorm2d" | "nn.BatchNorm3d" => {
            all(&["weight", "bias", "running_mean", "running_var"], vec![number(arguments[0])])
        }
        "nn.Linear" => {
            let [inputs, outputs] = [0, 1].map(|i| number(arguments[i]));
            vec![(format!("{path}.weight"), vec![outputs, inputs]), (format!("{path}.bias"), vec![outputs])]
        }
        other => panic!("no class {other:?}"),
    }
}

/// Variables that an expression reads.
fn read(expression: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '"';
    // What follows a bracket and a dot is a method.
    let firsts = expression.split(|c: char| !is_word(c)).filter_map(|word| word.split('.').next());
    let is_variable = |word: &&str| text::is_name(word) && *word != "return";
    firsts.filter(is_variable).map(str::to_string).collect()
}

// ---------------------------------------------------------------- promises

#[test]
fn every_weight_has_its_module_of_its_extent_and_no_other() {
    for (name, computation, file) in files() {
        let mut expected: Vec<(String, Vec<usize>)> = computation
            .instructions
            .iter()
            .flat_map(|instruction| instruction.operation.constants())
            .map(|constant| (key(&constant.name), constant.dims.clone()))
            .collect();
        let mut found = state(&classes(file), "Network()", "");
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_variable_is_assigned_before_it_is_read_and_read_before_it_is_assigned_again() {
    for (name, _, file) in files() {
        for (class, Class { arguments, forward, .. }) in classes(file) {
            let mut unread: BTreeSet<String> = BTreeSet::new();
            let mut known: BTreeSet<String> = arguments.iter().map(|name| name.trim_matches('*').to_string()).collect();
            for line in &forward {
                let returned = || line.strip_prefix("return ").map(|expression| ("", expression));
                let (targets, expression) = line.split_once(" = ").or_else(returned).unwrap();
                for variable in read(expression) {
                    assert!(known.contains(&variable), "{name}, {class}: {variable} of {line:?} is unknown");
                    unread.remove(&variable);
                }
                for target in targets.split(", ").filter(|target| !target.is_empty()) {
                    assert!(text::is_name(target), "{name}, {class}: {line}");
                    assert!(unread.insert(target.to_string()), "{name}, {class}: {line:?} takes an unread name");
                    known.insert(target.to_string());
                }
            }
            assert!(unread.is_empty(), "{name}, {class}: {unread:?} are for nothing");
        }
    }
}

#[test]
fn lines_are_as_long_as_people_have_them() {
    for (name, _, file) in files() {
        let longest = file.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 100, "{name}: {longest}");
    }
}

/// The text of class `name` in the file of the first network called `network`.
fn class_text(network: &str, name: &str) -> &'static str {
    let (_, _, file) = files().iter().find(|(other, ..)| *other == network).unwrap();
    let start = file.find(&format!("class {name}(")).unwrap_or_else(|| panic!("no class {name} in\n{file}"));
    file[start..].split("\n\n\n").next().unwrap()
}

#[test]
fn units_that_differ_in_channels_share_a_class_and_their_halving_is_a_stride() {
    let expected = r#"class Unit2(nn.Module):
    """block1.unit0 to block2.unit0: 2 alike."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(inputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x):
        x = F.relu(self.bn0(x))
        y = F.relu(self.bn1(self.conv0(x)))
        return self.conv1(y) + self.shortcut(x)"#;
    assert_eq!(class_text("wrn-16-2", "Unit2"), expected);
    let shortcut = "return F.relu(torch.cat([y[:, :16] + x[..., ::2, ::2], y[:, 16:]], 1))";
    assert!(class_text("resnet-14", "Block1Unit0").ends_with(shortcut));
}

#[test]
fn ops_of_a_search_are_written_as_people_would() {
    let expected = r#"class Block0Op2(nn.Module):
    """[N, 16, 8, 8] -> [N, 16, 8, 8]"""

    def __init__(self):
        super().__init__()
        self.bn_in = nn.BatchNorm2d(16)
        self.w_in = nn.Conv2d(16, 16, 1, bias=False)
        self.bn_mid = nn.BatchNorm2d(16)
        self.w0 = nn.Conv2d(16, 16, (3, 5), padding=(3, 4), dilation=(3, 2), groups=4, bias=False)
        self.w1 = nn.Conv2d(16, 16, (5, 7), padding=(4, 3), dilation=(2, 1), groups=2, bias=False)
        self.w2 = nn.Conv2d(16, 16, (7, 5), padding=(3, 4), dilation=(1, 2), groups=2, bias=False)
        self.w3 = nn.Conv2d(16, 16, 5, padding=(2, 4), dilation=(1, 2), groups=4, bias=False)

    def forward(self, x):
        x = F.relu(self.bn_in(x))
        x = F.relu(self.bn_mid(self.w_in(x)))
        y = F.relu(self.w0(x))
        x = F.relu(self.w2(x))
        return self.w1(y) + self.w3(x)"#;
    assert_eq!(class_text("sandwich", "Block0Op2"), expected);
    let banks = "x = F.relu(self.bn_in(torch.cat(banks, 1)))";
    assert!(class_text("sandwich", "Block1Op0").contains(banks));
    let gate = "x = torch.tanh(self.w0(x)) * torch.sigmoid(self.w2(x))";
    assert!(class_text("pre", "Block0Op1").contains(gate));
}

#[test]
fn blocks_keep_memory_banks_and_the_network_calls_its_parts() {
    let block = "\
        bank0 = x[:, :12]
        bank1 = x[:, 12:]
        y = self.op0(bank0, bank1)
        bank1 = bank1 + y[:, :12]
        bank2 = y[:, 12:]
        y = self.op1(bank0, bank2)
        bank0 = bank0 + y[:, :12]
        bank2 = bank2 + y[:, 12:]
        return bank0, bank1, bank2";
    assert!(class_text("sandwich", "Block1").ends_with(block));
    let network = "\
        x = F.pad(images, (0, 1, 1, 1))
        x = (x - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        x = self.stem(x)
        x = self.block0(x)
        x = self.transition0(x)
        banks = self.block1(x)
        x = self.transition1(*banks)
        banks = self.block2(x)
        return self.head(*banks)";
    assert!(class_text("sandwich", "Network").ends_with(network));
    let columns = "\
        column2 = self.column2[\"layer0\"](x)
        join4 = (column0 + column1 + column2) / 3
        return F.max_pool2d(join4, 2)";
    assert!(class_text("fractalnet-3-2", "Block1").ends_with(columns));
}

/// A computation by hand in one part: operations, what each reads, and the extent of the result.
fn by_hand(images: [usize; 4], rest: &[(Operation, &[ValueId], [usize; 4])]) -> Computation {
    let value = |(operation, from, shape): &(Operation, &[ValueId], [usize; 4])| Instruction {
        operation: operation.clone(),
        from: from.to_vec(),
        shape: *shape,
        part: "stem".into(),
        label: String::new(),
    };
    let images = Instruction { part: String::new(), ..value(&(Operation::Images, &[], images)) };
    Computation { instructions: std::iter::once(images).chain(rest.iter().map(value)).collect() }
}

/// A filter [1, 1, taps..] of the stem.
fn conv(name: &str, taps: [usize; 2]) -> Operation {
    let filter = Constant { name: format!("stem.{name}.w"), dims: vec![1, 1, taps[0], taps[1]], values: Vec::new() };
    Operation::Conv { filter, dilation: vec![1, 1], groups: 1 }
}

/// The lines of the part in the file of a computation by hand.
fn lines_by_hand(computation: &Computation, shape: NetworkShape) -> Class {
    let about = about(Design::Builtin("wrn-10-1".parse().unwrap()), NormKind::Sandwich, shape, Dtype::F32);
    classes(&write(computation, &about).unwrap()).remove("Stem").unwrap()
}

#[test]
fn no_convolution_is_lost_where_several_could_be_halved() {
    let [whole, half, quarter] = [8, 4, 2].map(|size| [1, 1, size, size]);
    let between = by_hand(
        whole,
        &[
            (conv("conv0", [3, 3]), &[0], whole),
            (Operation::Subsample, &[1], half),
            (conv("conv1", [1, 1]), &[2], half),
            (Operation::Subsample, &[3], quarter),
        ],
    );
    let stem = lines_by_hand(&between, PICTURES);
    let strided = [
        "self.conv0 = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)",
        "self.conv1 = nn.Conv2d(1, 1, 1, stride=2, bias=False)",
    ];
    assert_eq!(stem.init, strided);
    assert_eq!(stem.forward, ["x = self.conv0(x)", "return self.conv1(x)"]);
    let around = by_hand(
        whole,
        &[
            (Operation::Subsample, &[0], half),
            (conv("conv1", [1, 1]), &[1], half),
            (Operation::Subsample, &[2], quarter),
        ],
    );
    let stem = lines_by_hand(&around, PICTURES);
    assert_eq!(stem.init, strided[1..]);
    assert_eq!(stem.forward, ["x = self.conv1(x)", "return x[..., ::2, ::2]"]);
}

#[test]
fn every_function_is_that_of_its_operation() {
    let pixel = Operation::LeakyRelu { slope: 0.25 };
    // Each reads the one before; the last makes a part with weights of them.
    let chain = [Operation::Relu, pixel, Operation::Tanh, Operation::Sigmoid, Operation::MaxPool, Operation::AvgPool];
    for (depth, shape, expected) in [
        (1, PICTURES, ["F.max_pool2d(x, 2)", "F.avg_pool2d(x, 2)", "x.mean((2, 3))"]),
        (4, VOLUMES, ["F.max_pool3d(x, (1, 2, 2))", "F.avg_pool3d(x, 2)", "x.mean((2, 3, 4))"]),
        (1, VOLUMES, ["F.max_pool3d(x, (1, 2, 2))", "F.avg_pool3d(x, (1, 2, 2))", "x.mean((2, 3, 4))"]),
    ] {
        let images = [1, if shape.is_volume() { 4 } else { 1 }, 8, 8];
        let fc = |name: &str, dims| Constant { name: format!("stem.fc.{name}"), dims, values: Vec::new() };
        let head = [Operation::GlobalAvgPool, Operation::Linear { w: fc("w", vec![5, 1]), b: fc("b", vec![5]) }];
        let all: Vec<Operation> = chain.iter().chain(&head).cloned().collect();
        let from: Vec<ValueId> = (0..all.len()).collect();
        let values = all.into_iter().zip(&from).map(|(op, x)| (op, std::slice::from_ref(x), [1, depth, 8, 8]));
        let computation = by_hand(images, &values.collect::<Vec<_>>());
        let forward = lines_by_hand(&computation, shape).forward.join("\n");
        let [max, avg, mean] = expected;
        let body = "torch.sigmoid(torch.tanh(F.leaky_relu(F.relu(x), 0.25)))";
        let avg = avg.replace("(x", &format!("({max}"));
        assert_eq!(forward, format!("x = {body}\nx = {avg}\nreturn self.fc({mean})"));
    }
}

#[test]
fn images_are_normalised_channel_by_channel() {
    let number = |name: &str, value: f32| {
        format!("self.register_buffer(\"{name}\", torch.tensor([{value:?}]), persistent=False)")
    };
    for (network, axes, [mean, std]) in
        [("weightnorm", "-1, 1, 1", [0.3, 0.25]), ("volumes", "-1, 1, 1, 1", [1.0 / 6.0, 1.0 / 6.0])]
    {
        let text = class_text(network, "Network");
        assert!(text.contains(&number("mean", mean)) && text.contains(&number("std", std)), "{text}");
        let expected = format!("(x - self.mean.view({axes})) / self.std.view({axes})");
        assert!(text.replace("images", "x").contains(&expected), "{text}");
    }
}

#[test]
fn generated_weights_are_not_called_trained() {
    let mut about = about(drawn(&Space::fixture(), 1), NormKind::Sandwich, PICTURES, Dtype::F32);
    about.errors.val_err = Some(20.0);
    let computation = computed(&about);
    let said = |about: &About| {
        let file = write(&computation, about).unwrap();
        let docstring = file.split("\"\"\"").nth(1).unwrap();
        docstring.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let trained = said(&about);
    assert!(trained.contains(" parameters, trained on 10 images for 1 epoch. "), "{trained}");
    assert!(trained.contains(" 20.00 % on the images held out. "), "{trained}");
    about.weights = Weights::Generated;
    let generated = said(&about);
    let origin =
        "parameters of a SMASH network: filters of 1x1 convolutions generated by its HyperNet, the rest shared";
    assert!(generated.contains(origin) && !generated.contains("trained"), "{generated}");
    assert!(generated.contains(" 20.00 % on the images by which architectures were chosen. "), "{generated}");
}
