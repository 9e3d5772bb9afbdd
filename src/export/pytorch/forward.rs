//! The forward pass of one module as statements.
//!
//! A value that is read once is written into the expression that reads it, as people do: `F.relu(self.bn(x))`, but not
//! what a convolution reads. The other values get names: that of a memory bank; else that of an input which is read no
//! more (`x = F.relu(x)`); else a new one.

use super::scope::{Item, Scope};
use super::steps::Step;
use super::text::is_name;
use crate::tape::computation::{Instruction, Operation, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Modules, functions and arguments in one expression, at most.
const LONGEST: usize = 6;
/// Names of values inside a part.
const NAMES: [&str; 8] = ["x", "y", "z", "a", "b", "c", "d", "e"];

/// A forward pass as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Its parameters behind `self`.
    pub params: String,
    /// What it does, the last of which is `return`.
    pub statements: Vec<Statement>,
}

/// `targets = expression`, or `return expression`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    /// Names of what is computed; none of what is returned.
    pub targets: Vec<String>,
    /// How.
    pub expression: String,
}

impl Statement {
    /// On one line.
    pub fn text(&self) -> String {
        let Self { targets, expression } = self;
        if targets.is_empty() {
            format!("return {expression}")
        } else {
            format!("{} = {expression}", targets.join(", "))
        }
    }
}

/// The forward pass of a module.
pub fn forward(steps: &[Step<'_>], scope: &Scope<'_>) -> Forward {
    let mut writer = Writer::new(steps, scope);
    let params = writer.params();
    let mut statements: Vec<Statement> = (0..writer.lines.len()).map(|number| writer.statement(number)).collect();
    // The last value is returned as it is computed, others by name.
    match (statements.last_mut(), writer.lines.last()) {
        (Some(last), Some(line)) if line.makes() == scope.outputs && scope.outputs.len() == 1 => last.targets.clear(),
        _ => {
            let names: Vec<&str> = scope.outputs.iter().map(|&value| writer.name(value)).collect();
            statements.push(Statement { targets: Vec::new(), expression: names.join(", ") });
        }
    }
    Forward { params, statements }
}

/// What becomes one statement.
enum Line<'s, 'a> {
    Value(ValueId),
    Call(&'s Scope<'a>),
}

impl Line<'_, '_> {
    fn makes(&self) -> Vec<ValueId> {
        match self {
            Line::Value(value) => vec![*value],
            Line::Call(part) => part.outputs.clone(),
        }
    }
}

/// How an expression binds its operands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Sum,
    Product,
    Tight,
}

struct Writer<'s, 'a> {
    steps: &'s [Step<'a>],
    scope: &'s Scope<'a>,
    /// Values that are written where they are read.
    inside: BTreeSet<ValueId>,
    lines: Vec<Line<'s, 'a>>,
    /// The last line that reads a value.
    last_read: BTreeMap<ValueId, usize>,
    names: BTreeMap<ValueId, String>,
    /// The arguments are one tuple, of this name.
    tuple: Option<&'static str>,
}

impl<'s, 'a> Writer<'s, 'a> {
    fn new(steps: &'s [Step<'a>], scope: &'s Scope<'a>) -> Self {
        let inside = written_inside(steps, scope);
        let lines: Vec<Line<'s, 'a>> = scope
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Value(value) => (!inside.contains(value)).then_some(Line::Value(*value)),
                Item::Part(part) => Some(Line::Call(part)),
            })
            .collect();
        let mut writer =
            Self { steps, scope, inside, lines, last_read: BTreeMap::new(), names: BTreeMap::new(), tuple: None };
        for number in 0..writer.lines.len() {
            for value in writer.reads(number) {
                writer.last_read.insert(value, number);
            }
        }
        for &value in &scope.outputs {
            writer.last_read.insert(value, usize::MAX);
        }
        writer
    }

    /// What line `number` reads.
    fn reads(&self, number: usize) -> Vec<ValueId> {
        match self.lines[number] {
            Line::Value(value) => self.leaves(value),
            Line::Call(part) => part.inputs.clone(),
        }
    }

    fn leaves(&self, value: ValueId) -> Vec<ValueId> {
        let operands = &self.steps[value].from;
        operands.iter().flat_map(|&x| if self.inside.contains(&x) { self.leaves(x) } else { vec![x] }).collect()
    }

    /// Names the arguments.
    fn params(&mut self) -> String {
        let inputs = &self.scope.inputs;
        if inputs.len() > 1 && self.concatenates_all() {
            let tuple = self.tuple_name(inputs);
            self.tuple = Some(tuple);
            return format!("*{tuple}");
        }
        for &value in inputs {
            let label = self.label(value).filter(|label| self.is_free(label, None));
            let name = label.map_or_else(|| self.fresh(None, 0), str::to_string);
            self.names.insert(value, name);
        }
        inputs.iter().map(|&value| self.name(value)).collect::<Vec<_>>().join(", ")
    }

    /// Is all that is done with the arguments that they are concatenated?
    fn concatenates_all(&self) -> bool {
        let is_input = |value: &ValueId| self.scope.inputs.contains(value);
        let mut readers = self.scope.own().filter(|&value| self.steps[value].from.iter().any(is_input));
        let reader = readers.next().map(|value| &self.steps[value]);
        let is_all = |step: &Step<'_>| *step.operation() == Operation::Concat && step.from == self.scope.inputs;
        let goes_elsewhere = self.scope.parts().any(|part| part.inputs.iter().any(is_input));
        reader.is_some_and(is_all) && readers.next().is_none() && !goes_elsewhere
    }

    /// The name that the network gives a value, where ops and banks are.
    fn label(&self, value: ValueId) -> Option<&'a str> {
        let Instruction { label, operation, .. } = self.steps[value].instruction;
        let is_block = !self.scope.path.is_empty() && self.scope.parts().next().is_some();
        (is_block && *operation != Operation::Images && is_name(label)).then_some(label)
    }

    fn name(&self, value: ValueId) -> &str {
        self.names.get(&value).map_or("", String::as_str)
    }

    /// Does no value have this name that is read after line `number`?
    fn is_free(&self, name: &str, number: Option<usize>) -> bool {
        let is_over = |value: &ValueId| number.is_some_and(|n| self.last_read.get(value).is_none_or(|&last| last <= n));
        self.names.iter().all(|(value, taken)| taken != name || is_over(value))
    }

    /// A new name, not one of the first `skipped`.
    fn fresh(&self, number: Option<usize>, skipped: usize) -> String {
        let more = (0..).map(|i| format!("x{i}"));
        let mut names = NAMES[skipped..].iter().map(|name| name.to_string()).chain(more);
        names.find(|name| self.is_free(name, number)).unwrap_or_default()
    }

    /// Line `number`, and names for what it makes.
    fn statement(&mut self, number: usize) -> Statement {
        let expression = match self.lines[number] {
            Line::Value(value) => self.expression(value).0,
            Line::Call(part) => self.call(part, number),
        };
        let made = self.lines[number].makes();
        let mut targets = Vec::new();
        if self.is_handed_on(number) {
            targets.push(self.tuple_name(&made).to_string());
        } else {
            for value in made {
                let name = self.choose(value, number);
                self.names.insert(value, name.clone());
                targets.push(name);
            }
        }
        Statement { targets, expression }
    }

    /// Does the next line take all that this one makes as its arguments?
    fn is_handed_on(&self, number: usize) -> bool {
        match (&self.lines[number], self.lines.get(number + 1)) {
            (Line::Call(giver), Some(Line::Call(taker))) => giver.outputs.len() > 1 && giver.outputs == taker.inputs,
            _ => false,
        }
    }

    /// What several values are called together.
    fn tuple_name(&self, values: &[ValueId]) -> &'static str {
        let are_banks = values.iter().all(|&value| self.steps[value].instruction.label.starts_with("bank"));
        if are_banks { "banks" } else { "features" }
    }

    fn call(&self, part: &Scope<'_>, number: usize) -> String {
        let callee = reference(self.scope.path, part.path);
        if number > 0 && self.is_handed_on(number - 1) {
            return format!("{callee}(*{})", self.tuple_name(&part.inputs));
        }
        let arguments: Vec<&str> = part.inputs.iter().map(|&value| self.name(value)).collect();
        format!("{callee}({})", arguments.join(", "))
    }

    /// A name for what line `number` makes.
    fn choose(&self, value: ValueId, number: usize) -> String {
        let is_free = |name: &&str| self.is_free(name, Some(number));
        let ends = |x: &ValueId| self.last_read.get(x) == Some(&number) && self.label(*x).is_none();
        // Those that came as one tuple have no name of their own.
        let over = self.reads(number).into_iter().filter(ends).find_map(|x| self.names.get(&x).map(String::as_str));
        let over = over.filter(is_free);
        let (part, key) = attribute(self.scope.path, &self.steps[value].instruction.part);
        let part = Some(part).filter(|name| !self.scope.path.is_empty() && is_name(name) && is_free(name));
        // Several modules of one name follow each other, and so do their results.
        let is_column = key.is_some() || matches!(self.lines[number], Line::Value(_));
        let is_kept = self.is_long_lived(value, number);
        let names = [self.label(value).filter(is_free), part.filter(|_| is_column), over, part.filter(|_| is_kept)];
        let fresh = || {
            // What a part returns is not taken for what its caller was given.
            let is_result = !self.scope.path.is_empty() && matches!(self.lines[number], Line::Call(_));
            self.fresh(Some(number), usize::from(is_result))
        };
        names.into_iter().flatten().next().map_or_else(fresh, str::to_string)
    }

    /// Is the value read by other calls?
    fn is_long_lived(&self, value: ValueId, number: usize) -> bool {
        let next = (number + 1..self.lines.len()).find(|&n| matches!(self.lines[n], Line::Call(_)));
        self.last_read.get(&value).is_some_and(|&last| last >= next.unwrap_or(usize::MAX))
    }

    /// An operand as text.
    fn operand(&self, value: ValueId) -> (String, Binding) {
        if self.inside.contains(&value) { self.expression(value) } else { (self.name(value).into(), Binding::Tight) }
    }

    /// The operand, in brackets unless it binds its own operands at least as tightly as `least`.
    fn bound(&self, value: ValueId, least: Binding) -> String {
        let (text, binding) = self.operand(value);
        if binding < least { format!("({text})") } else { text }
    }

    /// A value as text.
    fn expression(&self, value: ValueId) -> (String, Binding) {
        let step = &self.steps[value];
        if let (Some(layer), Some(&x)) = (&step.layer, step.from.first()) {
            return (format!("self.{}({})", layer.name, self.operand(x).0), Binding::Tight);
        }
        let x = || step.from.first().map(|&x| self.operand(x).0).unwrap_or_default();
        let axes = if self.steps[0].instruction.shape[1] > 1 { 3 } else { 2 };
        let text = match step.operation() {
            Operation::Add | Operation::Mean => return self.sum(step),
            Operation::Mul => return (self.product(&step.from), Binding::Product),
            Operation::Relu => format!("F.relu({})", x()),
            Operation::LeakyRelu { slope } => format!("F.leaky_relu({}, {slope:?})", x()),
            Operation::Tanh => format!("torch.tanh({})", x()),
            Operation::Sigmoid => format!("torch.sigmoid({})", x()),
            Operation::Concat if self.tuple.is_some() && step.from == self.scope.inputs => {
                format!("torch.cat({}, 1)", self.tuple.unwrap_or_default())
            }
            Operation::Concat => {
                let operands: Vec<String> = step.from.iter().map(|&x| self.operand(x).0).collect();
                format!("torch.cat([{}], 1)", operands.join(", "))
            }
            Operation::Channels(range) => {
                let all = step.from.first().map_or(0, |&x| self.steps[x].instruction.shape[0]);
                let start = if range.start == 0 { String::new() } else { range.start.to_string() };
                let end = if range.end == all { String::new() } else { range.end.to_string() };
                format!("{}[:, {start}:{end}]", x())
            }
            Operation::AvgPool => {
                let slices = step.from.first().map_or(1, |&x| self.steps[x].instruction.shape[1]);
                let window = if axes == 3 && slices == 1 { "(1, 2, 2)" } else { "2" };
                format!("F.avg_pool{axes}d({}, {window})", x())
            }
            Operation::MaxPool => {
                let window = if axes == 3 { "(1, 2, 2)" } else { "2" };
                format!("F.max_pool{axes}d({}, {window})", x())
            }
            Operation::Subsample => format!("{}[..., ::2, ::2]", x()),
            Operation::GlobalAvgPool => format!("{}.mean({})", x(), if axes == 3 { "(2, 3, 4)" } else { "(2, 3)" }),
            // Those with weights have layers; the images are given.
            Operation::Images | Operation::Conv { .. } | Operation::BatchNorm { .. } | Operation::Linear { .. } => x(),
        };
        (text, Binding::Tight)
    }

    /// The sum of values or their mean; added from left to right.
    fn sum(&self, step: &Step<'_>) -> (String, Binding) {
        let terms = step.from.iter().enumerate();
        let terms: Vec<String> =
            terms.map(|(i, &x)| self.bound(x, if i == 0 { Binding::Sum } else { Binding::Product })).collect();
        let sum = terms.join(" + ");
        if *step.operation() == Operation::Mean {
            return (format!("({sum}) / {}", terms.len()), Binding::Product);
        }
        (sum, Binding::Sum)
    }

    fn product(&self, factors: &[ValueId]) -> String {
        let factors = factors.iter().enumerate();
        let factors: Vec<String> =
            factors.map(|(i, &x)| self.bound(x, if i == 0 { Binding::Product } else { Binding::Tight })).collect();
        factors.join(" * ")
    }
}

/// How the module `scope` calls the part `part`: `self.op0`, `self.column0["layer1"]`.
fn reference(scope: &str, part: &str) -> String {
    match attribute(scope, part) {
        (name, None) => format!("self.{name}"),
        (name, Some(key)) => format!("self.{name}[\"{key}\"]"),
    }
}

/// The attribute of `scope` that holds the part, and its key in that where it holds several.
pub fn attribute<'t>(scope: &str, part: &'t str) -> (&'t str, Option<&'t str>) {
    let inside = part.strip_prefix(scope).map_or(part, |rest| rest.trim_start_matches('.'));
    inside.split_once('.').map_or((inside, None), |(name, key)| (name, Some(key)))
}

/// Values that are written into the expression which reads them.
fn written_inside(steps: &[Step<'_>], scope: &Scope<'_>) -> BTreeSet<ValueId> {
    let mut readers = vec![0; steps.len()];
    let read = steps.iter().filter(|step| !step.is_left_out).flat_map(|step| &step.from);
    read.chain(&scope.outputs).for_each(|&value| readers[value] += 1);
    let (mut inside, mut lengths) = (BTreeSet::new(), BTreeMap::new());
    for value in scope.own() {
        let step = &steps[value];
        let mut length = own_length(step, scope);
        for &x in &step.from {
            let is_short = lengths.get(&x).is_some_and(|of_x| length + of_x <= LONGEST);
            if is_short && readers[x] == 1 && goes_inside(&steps[x], step) {
                length += lengths[&x];
                inside.insert(x);
            }
        }
        lengths.insert(value, length);
    }
    inside
}

/// What a step adds to an expression.
fn own_length(step: &Step<'_>, scope: &Scope<'_>) -> usize {
    match step.operation() {
        Operation::Add | Operation::Mul | Operation::Mean => 0,
        // Of arguments that are one tuple, only its name.
        Operation::Concat if step.from != scope.inputs => step.from.len(),
        _ => 1,
    }
}

/// May `x` be written inside of `reader`?
fn goes_inside(x: &Step<'_>, reader: &Step<'_>) -> bool {
    if !x.instruction.label.is_empty() {
        return false;
    }
    match reader.operation() {
        Operation::Conv { .. }
        | Operation::Subsample
        | Operation::Channels(_)
        | Operation::MaxPool
        | Operation::GlobalAvgPool => false,
        Operation::Linear { .. } => *x.operation() == Operation::GlobalAvgPool,
        _ => true,
    }
}
