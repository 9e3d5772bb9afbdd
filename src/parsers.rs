//! Every reader of a file that a user may hand to the program, as one list.
//!
//! Each takes any bytes and gives an error that names what is wrong with them, or nothing: no panic,
//! no memory beyond what the bytes can justify. `tests/it/parsers.rs` and `tests/fuzz` hold them to it.

pub use crate::data::parsers::Parser;

use crate::checkpoint;
use crate::config::RunConfig;
use crate::data;
use crate::export;
use crate::nas::arch::Architecture;

/// The readers that `data` does not have.
const OTHERS: [Parser; 4] = [
    // A table of a few characters, `{a=0}`, becomes two trees with the places of its parts.
    Parser { name: "architecture", check: Architecture::check, expansion: 32 },
    Parser { name: "checkpoint", check: checkpoint::check, expansion: 1 },
    Parser { name: "network", check: export::model::check, expansion: 1 },
    Parser { name: "settings", check: RunConfig::check, expansion: 1 },
];

/// All of them.
pub fn all() -> impl Iterator<Item = Parser> {
    data::parsers::PARSERS.into_iter().chain(OTHERS)
}

/// The one called `name`.
pub fn find(name: &str) -> Option<Parser> {
    all().find(|parser| parser.name == name)
}
