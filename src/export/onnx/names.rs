//! Names that are given once: `Relu`, `Relu_1`, `Relu_2`.

use std::collections::HashMap;

/// All names so far, each with the last number that was put behind it.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    /// `wanted`, or where that is taken `wanted_1` and so on.
    pub fn unique(&mut self, wanted: String) -> String {
        let Some(last) = self.0.get(&wanted).copied() else {
            self.0.insert(wanted.clone(), 0);
            return wanted;
        };
        // One of the following may have been wanted by itself.
        let numbered = |n: usize| format!("{wanted}_{n}");
        let next = (last + 1..).find(|&n| !self.0.contains_key(&numbered(n))).unwrap_or_default();
        let name = numbered(next);
        self.0.insert(wanted, next);
        self.0.insert(name.clone(), 0);
        name
    }
}
