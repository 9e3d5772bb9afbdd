//! Modules as classes. Parts that are alike but for their numbers of channels share one, whose arguments these are.

use super::forward::{Forward, attribute, forward};
use super::scope::Scope;
use super::steps::{Layer, Step};
use super::text::{class_name, statement};
use crate::tape::computation::{Operation, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Names of the classes in a file that are not parts of the network.
const TAKEN: [&str; 1] = ["Network"];

/// How parts without parts in them are made.
#[derive(Debug, Default)]
pub struct Classes {
    /// For each part, its class and the arguments.
    calls: BTreeMap<String, String>,
    /// For each part that is the first of its class, the class.
    texts: BTreeMap<String, String>,
}

/// A part: its layers, and where it stands in the network.
struct Leaf<'s, 'a> {
    scope: &'s Scope<'a>,
    layers: Vec<Layer>,
}

/// Parts are alike when all of this is the same.
type Likeness = (Forward, Vec<(String, &'static str, Vec<String>)>);

impl Classes {
    /// The classes of all parts of `network` that call no others.
    pub fn new(steps: &[Step<'_>], network: &Scope<'_>) -> Self {
        let mut alike: Vec<(Likeness, Vec<Leaf<'_, '_>>)> = Vec::new();
        for scope in leaves(network) {
            let leaf = Leaf { scope, layers: layers(steps, scope) };
            let shapes = leaf.layers.iter().map(|layer| (layer.name.clone(), layer.class, layer.options.clone()));
            let likeness = (forward(steps, scope), shapes.collect());
            match alike.iter_mut().find(|(other, _)| *other == likeness) {
                Some((_, leaves)) => leaves.push(leaf),
                None => alike.push((likeness, vec![leaf])),
            }
        }
        let (mut classes, mut taken) = (Self::default(), BTreeSet::from(TAKEN.map(str::to_string)));
        for ((forward, _), leaves) in &alike {
            let wanted = shared_name(leaves);
            let numbered = (2..).map(|i| format!("{wanted}{i}"));
            let free = |name: &String| !taken.contains(name);
            let name = std::iter::once(wanted.clone()).chain(numbered).find(free).unwrap_or_default();
            taken.insert(name.clone());
            classes.add(steps, &name, forward, leaves);
        }
        classes
    }

    fn add(&mut self, steps: &[Step<'_>], name: &str, forward: &Forward, leaves: &[Leaf<'_, '_>]) {
        let arguments = Arguments::new(leaves);
        for (leaf, values) in leaves.iter().zip(&arguments.values) {
            let values: Vec<String> = values.iter().map(usize::to_string).collect();
            self.calls.insert(leaf.scope.path.into(), format!("{name}({})", values.join(", ")));
        }
        let Some(first) = leaves.first() else { return };
        let layers: Vec<String> =
            first.layers.iter().zip(&arguments.texts).map(|(layer, channels)| layer_text(layer, channels)).collect();
        let about = match leaves {
            [only] => extents(steps, only.scope),
            [.., last] => format!("{} to {}: {} alike.", first.scope.path, last.scope.path, leaves.len()),
            [] => String::new(),
        };
        self.texts.insert(first.scope.path.into(), class(name, &about, &arguments.names, &layers, forward));
    }

    /// The classes that the parts of `scope` are the first to use, and its own.
    pub fn of(&self, steps: &[Step<'_>], scope: &Scope<'_>) -> String {
        if let Some(text) = self.texts.get(scope.path) {
            return text.clone();
        }
        if self.calls.contains_key(scope.path) {
            return String::new();
        }
        let parts: String = scope.parts().map(|part| self.of(steps, part)).collect();
        let own = layers(steps, scope);
        let numbers = |layer: &Layer| layer.channels.iter().map(usize::to_string).collect::<Vec<_>>();
        let mut lines: Vec<String> = own.iter().map(|layer| layer_text(layer, &numbers(layer))).collect();
        lines.extend(self.members(scope));
        let name = class_name(scope.path);
        parts + &class(&name, &extents(steps, scope), &[], &lines, &forward(steps, scope))
    }

    /// Lines that make the parts of `scope`.
    pub fn members(&self, scope: &Scope<'_>) -> Vec<String> {
        let mut members: Vec<(&str, Vec<String>)> = Vec::new();
        for part in scope.parts() {
            let call = self.calls.get(part.path).cloned().unwrap_or_else(|| format!("{}()", class_name(part.path)));
            let (name, key) = attribute(scope.path, part.path);
            let Some(key) = key else {
                members.push((name, vec![call]));
                continue;
            };
            let entry = format!("\"{key}\": {call}");
            match members.iter_mut().find(|(other, _)| *other == name) {
                Some((_, entries)) => entries.push(entry),
                None => members.push((name, vec![entry])),
            }
        }
        let text = |(name, made): (&str, Vec<String>)| match &made[..] {
            [only] if !only.starts_with('"') => format!("self.{name} = {only}"),
            entries => format!("self.{name} = nn.ModuleDict({{{}}})", entries.join(", ")),
        };
        members.into_iter().map(text).collect()
    }
}

/// All parts that call no others, in the order of the forward pass.
fn leaves<'s, 'a>(scope: &'s Scope<'a>) -> Vec<&'s Scope<'a>> {
    let inside: Vec<_> = scope.parts().flat_map(leaves).collect();
    if inside.is_empty() { vec![scope] } else { inside }
}

/// The modules with weights that `scope` uses itself.
fn layers(steps: &[Step<'_>], scope: &Scope<'_>) -> Vec<Layer> {
    scope.own().filter_map(|value: ValueId| steps[value].layer.clone()).collect()
}

/// The name of a single part, or what several are: `Unit` of `block0.unit0` and `block1.unit3`.
fn shared_name(leaves: &[Leaf<'_, '_>]) -> String {
    let kind = |leaf: &Leaf<'_, '_>| {
        let last = leaf.scope.path.rsplit('.').next().unwrap_or_default();
        class_name(last.trim_end_matches(|c: char| c.is_ascii_digit()))
    };
    match leaves {
        [only] => class_name(only.scope.path),
        [first, ..] => kind(first),
        [] => String::new(),
    }
}

/// What goes in and what comes out, for one image.
fn extents(steps: &[Step<'_>], scope: &Scope<'_>) -> String {
    let texts = |values: &[ValueId]| {
        let runs = values.chunk_by(|&a, &b| steps[a].instruction.shape == steps[b].instruction.shape);
        let text = |run: &[ValueId]| {
            let extent = extent(steps, run[0]);
            if run.len() > 1 { format!("{} times {extent}", run.len()) } else { extent }
        };
        runs.map(text).collect::<Vec<_>>().join(", ")
    };
    format!("{} -> {}", texts(&scope.inputs), texts(&scope.outputs))
}

/// Extent of a value as PyTorch has it: `[N, 16, 32, 32]`.
fn extent(steps: &[Step<'_>], value: ValueId) -> String {
    let [channels, slices, rows, columns] = steps[value].instruction.shape;
    match steps[value].operation() {
        Operation::GlobalAvgPool | Operation::Linear { .. } => format!("[N, {channels}]"),
        _ if steps[0].instruction.shape[1] > 1 => format!("[N, {channels}, {slices}, {rows}, {columns}]"),
        _ => format!("[N, {channels}, {rows}, {columns}]"),
    }
}

fn layer_text(layer: &Layer, channels: &[String]) -> String {
    let arguments: Vec<&str> = channels.iter().chain(&layer.options).map(String::as_str).collect();
    format!("self.{} = {}({})", layer.name, layer.class, arguments.join(", "))
}

/// A class with these lines in `__init__`.
pub fn class(name: &str, about: &str, params: &[String], lines: &[String], forward: &Forward) -> String {
    let params: String = params.iter().map(|param| format!(", {param}")).collect();
    let lines: String = lines.iter().map(|line| statement(8, line)).collect();
    let does: String = forward.statements.iter().map(|s| statement(8, &s.text())).collect();
    let arguments = &forward.params;
    format!(
        "class {name}(nn.Module):\n    \"\"\"{about}\"\"\"\n\n    def __init__(self{params}):\n        \
         super().__init__()\n{lines}\n    def forward(self, {arguments}):\n{does}\n\n"
    )
}

/// Arguments of a class that several parts share.
struct Arguments {
    names: Vec<String>,
    /// For each part, one for each name.
    values: Vec<Vec<usize>>,
    /// For each layer, its channels: numbers or names.
    texts: Vec<Vec<String>>,
}

impl Arguments {
    /// What differs between the parts gets a name, the same one where it differs in the same way.
    fn new(leaves: &[Leaf<'_, '_>]) -> Self {
        let layers = leaves.first().map_or(&[][..], |leaf| &leaf.layers);
        let column = |layer: usize, place: usize| -> Vec<usize> {
            leaves.iter().map(|leaf| leaf.layers[layer].channels[place]).collect()
        };
        let (mut names, mut columns): (Vec<String>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        let mut texts = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let mut channels = Vec::new();
            for place in 0..layer.channels.len() {
                let numbers = column(i, place);
                if numbers.iter().all(|number| *number == numbers[0]) {
                    channels.push(numbers[0].to_string());
                    continue;
                }
                let known = columns.iter().position(|other| *other == numbers);
                let known = known.unwrap_or_else(|| {
                    let wanted = role(layers, &numbers, column);
                    let numbered = (2..).map(|n| format!("{wanted}{n}"));
                    let mut free = std::iter::once(wanted.to_string()).chain(numbered).filter(|n| !names.contains(n));
                    let name = free.next().unwrap_or_default();
                    names.push(name);
                    columns.push(numbers);
                    names.len() - 1
                });
                channels.push(names[known].clone());
            }
            texts.push(channels);
        }
        let values = (0..leaves.len()).map(|part| columns.iter().map(|column| column[part]).collect()).collect();
        Self { names, values, texts }
    }
}

/// What channels are, by the first convolution or matrix that has them.
fn role(layers: &[Layer], numbers: &[usize], column: impl Fn(usize, usize) -> Vec<usize>) -> &'static str {
    let pairs = layers.iter().enumerate().filter(|(_, layer)| layer.channels.len() == 2);
    let mut roles = pairs.filter_map(|(i, _)| match [0, 1].map(|place| column(i, place) == numbers) {
        [true, true] => Some("channels"),
        [true, false] => Some("inputs"),
        [false, true] => Some("outputs"),
        [false, false] => None,
    });
    roles.next().unwrap_or("channels")
}
