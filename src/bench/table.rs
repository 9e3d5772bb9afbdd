//! Results as rows and columns: text for people, Markdown for reports, CSV for programs.

use crate::report::{Align, table};
use std::fmt::Write;

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing to say.
    Empty,
    Text(String),
    /// A number, and how many digits behind the point people see; CSV has them all.
    Number(f64, usize),
}

impl Cell {
    /// A number, or nothing if there is none.
    pub fn number(value: Option<f64>, digits: usize) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::Empty, |value| Self::Number(value, digits))
    }

    fn shown(&self) -> String {
        match self {
            Self::Empty => "-".into(),
            Self::Text(text) => text.clone(),
            Self::Number(value, digits) => format!("{value:.digits$}"),
        }
    }

    fn csv(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Number(value, _) => format!("{value}"),
            Self::Text(text) if text.contains([',', '"', '\n']) => format!("\"{}\"", text.replace('"', "\"\"")),
            Self::Text(text) => text.clone(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A table: names of the columns, and rows of as many cells.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Columns as wide as their widest cell; numbers to the right.
    pub fn text(&self) -> String {
        let align = |i: usize| if self.is_number(i) { Align::Right } else { Align::Left };
        table(&(0..self.columns.len()).map(align).collect::<Vec<_>>(), &self.shown())
    }

    /// A table in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (i, row) in self.shown().iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if i == 0 {
                let rules = (0..self.columns.len()).map(|i| if self.is_number(i) { "--:" } else { "---" });
                let _ = writeln!(text, "|{}|", rules.collect::<Vec<_>>().join("|"));
            }
        }
        text
    }

    /// Comma-separated values, RFC 4180.
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",") + "\n";
        for row in &self.rows {
            text += &row.iter().map(Cell::csv).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        text
    }

    fn is_number(&self, column: usize) -> bool {
        self.rows.iter().any(|row| matches!(row[column], Cell::Number(..)))
    }

    /// The names, then every row.
    fn shown(&self) -> Vec<Vec<String>> {
        let names = self.columns.iter().map(|name| name.to_string()).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(Cell::shown).collect());
        std::iter::once(names).chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cells_for_people_reports_and_programs() {
        let rows = vec![
            vec!["d(2,1)".into(), Cell::Number(1.2345, 1), Cell::Empty],
            vec!["a \"b\" | c".into(), Cell::Number(12.0, 1), "x".into()],
        ];
        let table = Table { columns: vec!["shape", "ms", "note"], rows };
        assert_eq!(table.text(), "shape        ms  note\nd(2,1)      1.2  -\na \"b\" | c  12.0  x\n");
        assert_eq!(
            table.markdown(),
            "| shape | ms | note |\n|---|--:|---|\n| d(2,1) | 1.2 | - |\n| a \"b\" \\| c | 12.0 | x |\n"
        );
        assert_eq!(table.csv(), "shape,ms,note\n\"d(2,1)\",1.2345,\n\"a \"\"b\"\" | c\",12,x\n");
    }
}
