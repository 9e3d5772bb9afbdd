//! What may be written shorter in an architecture file, written out.
//!
//! ```text
//! space           "v2"                         that preset
//!                 preset = "v2", depth = 20    that preset, with other fields
//! n_banks         left out                     the most that the space allows
//! read, write     "0-3,7"                      [0, 1, 2, 3, 7]
//! body            "3x5 d1x2 g4, 3x3 | 7 tanh"  path A, and behind the bar path B, as `show` prints them
//!                 { w0 = .., w2 = .. }         the active convolutions by name
//! kernel, dilation   3                         [3, 3]
//! dilation, groups, gates   left out           [1, 1], 1, no gates
//! ```
//!
//! An element of a wrong type stays as it is: the strict reader names it.

use std::fmt::Display;

use serde_json::{Map, Value, json};

use super::Conv;
use crate::nas::check::{self, within};
use crate::nas::options::Nonlinearity;
use crate::nas::space::Space;
use crate::{Error, Result};

/// The convolutions of a body, in the order of the strict form's list.
const CONVOLUTIONS: [&str; 4] = ["w0", "w1", "w2", "w3"];

/// All fields of a space of which a preset was named.
pub(super) fn write_out_space(space: &mut Value) -> Result<()> {
    match space {
        Value::String(name) => *space = preset("space", name)?.into(),
        Value::Object(own) => {
            let Some(name) = own.remove("preset") else { return Ok(()) };
            let Some(name) = name.as_str() else {
                return Err(Error::architecture("space.preset", format!("{name} is no name of a preset")));
            };
            let mut whole = preset("space.preset", name)?;
            whole.append(own);
            *space = whole.into();
        }
        _ => {}
    }
    Ok(())
}

fn preset(place: &str, name: &str) -> Result<Map<String, Value>> {
    let fields = Space::preset(name).and_then(|space| serde_json::to_value(space).ok());
    match fields {
        Some(Value::Object(fields)) => Ok(fields),
        _ => {
            let known = Space::PRESETS.join(", ");
            Err(Error::architecture(place, format!("there is no preset of this name (there are {known})")))
        }
    }
}

/// All fields of all blocks of `space`, which is valid.
pub(super) fn write_out_blocks(root: &mut Map<String, Value>, space: &Space) -> Result<()> {
    if let Some(Value::Array(blocks)) = root.get("blocks") {
        check::block_count(blocks.len())?;
    }
    for (b, block) in tables(root.get_mut("blocks")) {
        let size = block.get("bank_size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let Some(size) = size else {
            // Banks cannot be counted without a size: the strict reader is to name that, not what is said of them.
            block.insert("ops".into(), json!([]));
            return Ok(());
        };
        check::bank_size(space, b, size).map_err(|e| within(&format!("blocks[{b}]."), e))?;
        let most = space.bank_count(b, size, 1.0);
        block.entry("n_banks").or_insert(most.into());
        for (i, op) in tables(block.get_mut("ops")) {
            write_out_op(op, most).map_err(|e| within(&format!("blocks[{b}].ops[{i}]."), e))?;
        }
    }
    Ok(())
}

/// The tables of a list with their numbers.
fn tables(list: Option<&mut Value>) -> impl Iterator<Item = (usize, &mut Map<String, Value>)> {
    let items = list.and_then(Value::as_array_mut).into_iter().flatten();
    items.enumerate().filter_map(|(i, item)| Some((i, item.as_object_mut()?)))
}

fn write_out_op(op: &mut Map<String, Value>, banks: usize) -> Result<()> {
    for name in ["read", "write"] {
        if let Some(Value::String(text)) = op.get(name) {
            let list = ranges(text, banks).map_err(|message| Error::architecture(name, message))?;
            op.insert(name.into(), list.into());
        }
    }
    let Some(body) = op.get_mut("body") else { return Ok(()) };
    match body {
        Value::String(text) => *body = convolutions(text).map_err(|message| Error::architecture("body", message))?,
        Value::Object(named) => {
            let list = CONVOLUTIONS.map(|name| named.remove(name).unwrap_or_default());
            if let Some(name) = named.keys().next() {
                let known = CONVOLUTIONS.join(", ");
                return Err(Error::architecture("body", format!("unknown convolution {name:?}; a body has {known}")));
            }
            *body = Vec::from(list).into();
        }
        _ => {}
    }
    for (_, conv) in tables(Some(body)) {
        for name in ["kernel", "dilation"] {
            if let Some(size) = conv.get(name).filter(|size| size.is_number()) {
                conv.insert(name.into(), json!([size, size]));
            }
        }
        conv.entry("dilation").or_insert(json!([1, 1]));
        conv.entry("groups").or_insert(json!(1));
    }
    Ok(())
}

/// Banks as `show` prints them, `0-3,7`; no more than there are.
fn ranges(text: &str, banks: usize) -> Result<Vec<usize>, String> {
    let mut list = Vec::new();
    for run in text.split(',').map(str::trim) {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let [first, last] = [first, last].map(|bank| bank.trim().parse::<usize>().ok());
        let (Some(first), Some(last)) = (first, last) else {
            return Err(format!("{run:?} is no bank and no run of banks such as 0-3"));
        };
        if last < first {
            return Err(format!("{run:?} runs backwards"));
        }
        if last >= banks {
            return Err(format!("bank {last} does not exist (the block has {banks} at most)"));
        }
        list.extend(first..=last);
        if list.len() > banks {
            return Err(format!("more than the {banks} banks that the block has at most"));
        }
    }
    Ok(list)
}

/// A body as `show` prints it: one or two convolutions, and behind a bar those of the other path.
fn convolutions(text: &str) -> Result<Value, String> {
    let paths: Vec<&str> = text.split('|').collect();
    if paths.len() > 2 {
        return Err(format!("{} paths given, a body has two", paths.len()));
    }
    let mut body: [Option<Conv>; 4] = [None; 4];
    for (path, first) in paths.iter().zip([0, 2]) {
        let convs: Vec<&str> = path.split(',').collect();
        if convs.len() > 2 {
            return Err(format!("{} convolutions given, a path has two at most", convs.len()));
        }
        for (conv, place) in convs.iter().zip(&mut body[first..]) {
            *place = Some(convolution(conv)?);
        }
    }
    Ok(json!(body))
}

/// `3x5 d1x2 g4 tanh`; one number is for both axes.
fn convolution(text: &str) -> Result<Conv, String> {
    let wrong = |what: &dyn Display| Err(format!("{what} is no convolution; write such as 3x5 d1x2 g4 tanh"));
    let mut words = text.split_whitespace();
    let Some(kernel) = words.next() else { return wrong(&"nothing") };
    let Some(kernel) = pair(kernel) else { return wrong(&format!("{kernel:?}")) };
    let (mut dilation, mut groups, mut activation) = (None, None, None);
    for word in words {
        // What was given before would be lost.
        let again = if let Some(value) = word.strip_prefix('d').and_then(pair) {
            dilation.replace(value).is_some()
        } else if let Some(value) = word.strip_prefix('g').and_then(|groups| groups.parse().ok()) {
            groups.replace(value).is_some()
        } else if let Some(value) = Nonlinearity::ALL.into_iter().find(|kind| kind.name() == word) {
            activation.replace(value).is_some()
        } else {
            return Err(format!("{word:?} is none of a dilation (d2, d1x2), groups (g4), relu, tanh and sigmoid"));
        };
        if again {
            return Err(format!("{word:?} says again what was said of this convolution"));
        }
    }
    let (dilation, groups) = (dilation.unwrap_or([1; 2]), groups.unwrap_or(1));
    Ok(Conv { kernel, dilation, groups, activation: activation.unwrap_or_default() })
}

/// `3x5`, or `3` for both.
fn pair(text: &str) -> Option<[usize; 2]> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    Some([height.parse().ok()?, width.parse().ok()?])
}
