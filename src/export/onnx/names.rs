//! Names that are taken once.

use std::collections::HashMap;

/// Names of one kind, each with how often it was asked for.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    /// `wanted`, or `wanted_1` and so on where that is taken.
    pub fn unique(&mut self, wanted: impl Into<String>) -> String {
        let wanted = wanted.into();
        let mut name = wanted.clone();
        while self.0.contains_key(&name) {
            let count = self.0.entry(wanted.clone()).or_default();
            *count += 1;
            name = format!("{wanted}_{count}");
        }
        self.0.insert(name.clone(), 0);
        name
    }
}
