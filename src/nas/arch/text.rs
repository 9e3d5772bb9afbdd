//! Reading architectures: the JSON that the engine writes, and JSON or TOML that people write.
//!
//! ```text
//! text --Distinct--> tree --short.rs--> every field written out --serde--> Architecture --check.rs--> valid
//! ```
//!
//! There is one strict reader. An error of it, or a broken rule, is named by the place of its element, such as
//! `blocks[1].ops[3].body[0].kernel`, in TOML with the line it is on. Not handled: lines in JSON, except those of
//! syntax errors.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Architecture, short};
use crate::error::one_line;
use crate::nas::check;
use crate::nas::space::Space;
use crate::{Error, Result};

/// The architecture that `text`, in JSON, describes.
pub(super) fn from_json(text: &str) -> Result<Architecture> {
    let tree = serde_json::from_str::<Distinct>(text).map_err(|e| {
        let message = e.to_string();
        // serde_json repeats the position at the end of its message.
        let message = message.split(" at line ").next().unwrap_or(&message);
        Error::architecture(format!("line {} column {}", e.line(), e.column()), one_line(message))
    })?;
    architecture(tree.0)
}

/// The architecture that `text`, in TOML, describes.
pub(super) fn from_toml(text: &str) -> Result<Architecture> {
    let tree = toml::Deserializer::parse(text).map_err(|e| {
        let place = e.span().map_or("TOML".into(), |span| format!("line {}", line(text, span.start)));
        Error::architecture(place, one_line(e.message()))
    })?;
    let tree = element::<Distinct, _>(tree, "", |e| e.message().into());
    tree.and_then(|tree| architecture(tree.0)).map_err(|e| match e {
        Error::Architecture { place, message } => {
            let place = line_of(text, &place).map_or(place.clone(), |line| format!("{place} (line {line})"));
            Error::Architecture { place, message }
        }
        other => other,
    })
}

fn architecture(tree: Value) -> Result<Architecture> {
    let Value::Object(mut root) = tree else { return Err(Error::architecture("file", "is no table of fields")) };
    // The version is looked at first: another schema would only be an obscure unknown field.
    let schema = root.entry("schema").or_insert(SCHEMA_IF_MISSING.into());
    check::schema(field(schema, "schema")?)?;
    let Some(space) = root.get_mut("space") else { return Err(Error::architecture("space", MISSING)) };
    short::write_out_space(space)?;
    let space: Space = field(space, "space")?;
    check::space(&space)?;
    short::write_out_blocks(&mut root, &space)?;
    let arch: Architecture = field(&Value::Object(root), "")?;
    arch.validate()?;
    Ok(arch)
}

/// What a file without `schema` is written in, whatever [`SCHEMA`] will be.
const SCHEMA_IF_MISSING: u32 = 1;

const MISSING: &str = "missing";

/// The element at `place` as a T.
fn field<T: DeserializeOwned>(value: &Value, place: &str) -> Result<T> {
    element(value, place, ToString::to_string)
}

/// What `source`, the element at `place`, says as a T; `text` is the message of an error, without its position.
fn element<'de, T, D>(source: D, place: &str, text: impl Fn(&D::Error) -> String) -> Result<T>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    serde_path_to_error::deserialize(source).map_err(|e| {
        let inner = match e.path().to_string() {
            inner if inner == "." => String::new(),
            inner => inner,
        };
        let message = text(e.inner());
        let mut place = [place, &inner].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        // A list in a list: `body[0]` and `[1]` need no dot.
        place = place.replace(".[", "[");
        let (inside, message) = in_words(&message);
        if let Some(name) = inside {
            place = if place.is_empty() { name } else { format!("{place}.{name}") };
        }
        Error::architecture(one_line(&place), one_line(&message))
    })
}

/// A message of serde in the words of this file, and the missing field it is about.
fn in_words(message: &str) -> (Option<String>, String) {
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return (Some(name.into()), MISSING.into());
    }
    if let Some((_, known)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected ")) {
        return (None, format!("unknown field; known here: {}", known.trim_start_matches("one of ").replace('`', "")));
    }
    let mut message = message.replace("floating point", "number");
    if let Some((found, _)) = message.split_once("expected struct ") {
        message = format!("{found}expected a table of fields");
    }
    for (theirs, ours) in [
        ("expected usize", "expected a whole number of 0 or more"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected f64", "expected a number"),
        ("expected an array of length", "expected a list of"),
        ("expected a sequence", "expected a list"),
        ("expected a boolean", "expected true or false"),
        ("invalid type: map", "invalid type: table"),
        ("invalid type: sequence", "invalid type: list"),
        ("integer number overflowed", "is too large"),
        ("floating-point number overflowed", "is too large"),
    ] {
        message = message.replace(theirs, ours);
    }
    (None, message)
}

/// Number of the line that byte `at` is on.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// The line in which the element at `place` of a TOML file begins, or the innermost one around it.
fn line_of(text: &str, place: &str) -> Option<usize> {
    let tree = DeTable::parse(text).ok()?;
    let mut found: Option<&Spanned<DeValue<'_>>> = None;
    for step in place.split(['.', '[']) {
        let next = match (step.strip_suffix(']').map(str::parse::<usize>), found) {
            (Some(Ok(index)), Some(list)) => list.get_ref().get(index),
            (None, Some(table)) => table.get_ref().get(step),
            (None, None) => tree.get_ref().get(step),
            _ => None,
        };
        let Some(next) = next else { break };
        found = Some(next);
    }
    found.map(|value| line(text, value.span().start))
}

/// A tree in which every field is given once; serde_json would keep the last of several.
struct Distinct(Value);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Tree).map(Self)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    /// What TOML passes on when it fits into none of the above.
    fn visit_i128<E: de::Error>(self, value: i128) -> std::result::Result<Value, E> {
        Err(de::Error::custom(format!("{value} is too large")))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> std::result::Result<Value, E> {
        Err(de::Error::custom(format!("{value} is too large")))
    }

    /// A tree holds finite numbers; others would become null, which is no convolution.
    fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        if value.is_finite() {
            Ok(value.into())
        } else {
            Err(de::Error::custom(format!("{value} is no finite number")))
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: de::Error>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Distinct(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((name, Distinct(value))) = fields.next_entry::<String, Distinct>()? {
            if values.contains_key(&name) {
                return Err(de::Error::custom(format!("`{name}` is given twice")));
            }
            values.insert(name, value);
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests;
