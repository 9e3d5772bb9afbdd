//! The parts of a network as modules in modules: `Network` holds `stem`, `block0`, .., `head`; `block0` holds `op0`, ..
//!
//! A scope is one module: what it is given, what it hands on, and in between its own values and the parts it calls.
//! Parts without weights are no modules; whoever would call them computes their values.

use super::steps::Step;
use crate::error::{Error, Result};
use crate::tape::computation::ValueId;
use std::collections::BTreeSet;
use std::ops::Range;

/// A module.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The part's name, empty of the network itself.
    pub path: &'a str,
    /// Arguments of its forward pass.
    pub inputs: Vec<ValueId>,
    /// What it returns.
    pub outputs: Vec<ValueId>,
    /// What it does, in this order.
    pub items: Vec<Item<'a>>,
}

/// Something that a module does.
#[derive(Debug)]
pub enum Item<'a> {
    /// Computes a value.
    Value(ValueId),
    /// Calls a module in it.
    Part(Scope<'a>),
}

impl<'a> Scope<'a> {
    /// The network of `steps`.
    ///
    /// # Errors
    /// [`Error::Run`] when the instructions of a part with weights are not in one place.
    pub fn network(steps: &'a [Step<'a>]) -> Result<Self> {
        let mut last_read = vec![0; steps.len()];
        for (i, step) in steps.iter().enumerate().filter(|(_, step)| !step.is_left_out) {
            step.from.iter().for_each(|&value| last_read[value] = i);
        }
        if let Some(last) = last_read.last_mut() {
            *last = usize::MAX;
        }
        let mut network = Self::of(steps, "", 1..steps.len(), &last_read)?;
        network.hand_on(&last_read);
        Ok(network)
    }

    /// The scope `path`, which computes the values of `range`.
    fn of(steps: &'a [Step<'a>], path: &'a str, range: Range<usize>, last_read: &[usize]) -> Result<Self> {
        // The network calls its blocks, and these their ops.
        let called = |value: ValueId| -> &'a str {
            let part = steps[value].instruction.part.as_str();
            if path.is_empty() { part.split('.').next().unwrap_or(part) } else { part }
        };
        let (mut items, mut names) = (Vec::new(), BTreeSet::new());
        let values: Vec<ValueId> = range.clone().collect();
        for run in values.chunk_by(|&a, &b| called(a) == called(b)) {
            let part = called(run[0]);
            let is_module = part != path && run.iter().any(|&value| steps[value].layer.is_some());
            if !is_module {
                items.extend(run.iter().filter(|&&value| !steps[value].is_left_out).map(|&value| Item::Value(value)));
            } else if names.insert(part) {
                items.push(Item::Part(Self::of(steps, part, run[0]..run[0] + run.len(), last_read)?));
            } else {
                return Err(Error::Run(format!("the part {part:?} of the network is computed in two places")));
            }
        }
        let mut inputs = Vec::new();
        for value in range.clone().filter(|&i| !steps[i].is_left_out).flat_map(|i| steps[i].from.iter().copied()) {
            if value < range.start && !inputs.contains(&value) {
                inputs.push(value);
            }
        }
        let outputs = range.clone().filter(|&value| last_read[value] >= range.end).collect();
        Ok(Self { path, inputs, outputs, items })
    }

    /// The number after that of the last value computed in it.
    fn end(&self) -> ValueId {
        let last = |item: &Item<'_>| match item {
            Item::Value(value) => value + 1,
            Item::Part(part) => part.end(),
        };
        self.items.last().map_or(0, last)
    }

    /// Where a part reads all that the one in front of it computed and maybe some of what that one was given, and is alone
    /// in doing so, that one returns exactly what it reads: `features = self.block0(x)`, `self.transition0(*features)`.
    fn hand_on(&mut self, last_read: &[usize]) {
        for i in 1..self.items.len() {
            let (before, after) = self.items.split_at_mut(i);
            let (Some(Item::Part(giver)), Some(Item::Part(taker))) = (before.last_mut(), after.first()) else {
                continue;
            };
            let (given, end) = (&taker.inputs, taker.end());
            let is_all = giver.outputs.iter().all(|value| given.contains(value) && last_read[*value] < end);
            let is_known = given.iter().all(|value| giver.outputs.contains(value) || giver.inputs.contains(value));
            if given.len() > 1 && is_all && is_known {
                giver.outputs = given.clone();
            }
        }
    }

    /// The modules it calls.
    pub fn parts(&self) -> impl Iterator<Item = &Scope<'a>> {
        self.items.iter().filter_map(|item| match item {
            Item::Part(part) => Some(part),
            Item::Value(_) => None,
        })
    }

    /// The values it computes itself.
    pub fn own(&self) -> impl Iterator<Item = ValueId> {
        self.items.iter().filter_map(|item| match item {
            Item::Value(value) => Some(*value),
            Item::Part(_) => None,
        })
    }
}
