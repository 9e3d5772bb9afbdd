//! Pieces of Python: literals, names, and lines broken as usual formatters break them.

use std::fmt::Write;

/// Longest line.
const WIDTH: usize = 100;

/// A string literal in double quotes; control characters and what text direction could hide are escaped.
pub fn string(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal += "\\n",
            _ if is_hidden(c) => {
                // Writing into a String cannot fail.
                let _ = write!(literal, "\\U{:08x}", u32::from(c));
            }
            _ => literal.push(c),
        }
    }
    literal + "\""
}

/// Text inside a docstring: on one line, and without what would end it.
pub fn prose(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) || matches!(c, '"' | '\\') { '\'' } else { c }).collect()
}

/// Control characters, line ends, and marks that reorder a line as it is shown.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
}

/// Could `name` be the name of a variable here?
pub fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let keywords = [
        "and", "as", "assert", "class", "def", "del", "for", "from", "if", "import", "in", "is", "lambda", "not", "or",
        "pass", "raise", "return", "self", "torch", "nn", "try", "while", "with", "yield",
    ];
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_word) && !keywords.contains(&name)
}

/// Name of a class: `block0.op3` is `Block0Op3`.
pub fn class_name(part: &str) -> String {
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
    };
    part.split('.').filter_map(capitalised).collect()
}

/// Lines of one statement at this indentation: the last bracket on the outside is opened where it is too long.
pub fn statement(indent: usize, text: &str) -> String {
    let space = " ".repeat(indent);
    if indent + text.chars().count() <= WIDTH {
        return format!("{space}{text}\n");
    }
    let commas = split(text);
    if let Some(values) = text.strip_prefix("return ").filter(|_| commas.len() > 1) {
        return bracketed(indent, "return (", &split(values), ")");
    }
    match last_bracket(text) {
        Some((open, close)) => {
            let inside = &text[open + 1..close];
            let (head, tail) = (&text[..=open], &text[close..]);
            if indent + 4 + inside.chars().count() <= WIDTH {
                return format!("{space}{head}\n{space}    {inside}\n{space}{tail}\n");
            }
            match &split(inside)[..] {
                [only] => format!("{space}{head}\n{}{space}{tail}\n", statement(indent + 4, only)),
                items => bracketed(indent, head, items, tail),
            }
        }
        None => format!("{space}{text}\n"),
    }
}

/// `head`, the items on a line each, and `tail`.
fn bracketed<T: AsRef<str>>(indent: usize, head: &str, items: &[T], tail: &str) -> String {
    let space = " ".repeat(indent);
    let lines: String = items
        .iter()
        .map(|item| {
            let lines = statement(indent + 4, item.as_ref());
            lines[..lines.len() - 1].to_string() + ",\n"
        })
        .collect();
    format!("{space}{head}\n{lines}{space}{tail}\n")
}

/// `NAME = [..]` of string literals.
pub fn strings(name: &str, texts: &[String]) -> String {
    let literals: Vec<String> = texts.iter().map(|text| string(text)).collect();
    let line = format!("{name} = [{}]\n", literals.join(", "));
    if line.chars().count() <= WIDTH {
        return line;
    }
    let one = format!("    {}\n", literals.join(", "));
    if one.chars().count() <= WIDTH {
        return format!("{name} = [\n{one}]\n");
    }
    let lines: String = literals.iter().map(|literal| format!("    {literal},\n")).collect();
    format!("{name} = [\n{lines}]\n")
}

/// The depth of brackets behind each byte of `text`, which has brackets in pairs only.
fn depths(text: &str) -> impl Iterator<Item = (usize, u8, usize)> + '_ {
    text.bytes().enumerate().scan(0, |depth, (i, byte)| {
        match byte {
            b'(' | b'[' | b'{' => *depth += 1,
            b')' | b']' | b'}' => *depth -= 1,
            _ => {}
        }
        Some((i, byte, *depth))
    })
}

/// Where the last bracket outside of all others opens and closes.
fn last_bracket(text: &str) -> Option<(usize, usize)> {
    let close = depths(text).filter(|&(_, byte, depth)| depth == 0 && matches!(byte, b')' | b']' | b'}')).last()?.0;
    let open =
        depths(&text[..close]).filter(|&(_, byte, depth)| depth == 1 && matches!(byte, b'(' | b'[' | b'{')).last()?.0;
    Some((open, close))
}

/// What the commas outside of brackets separate.
pub fn split(text: &str) -> Vec<&str> {
    let commas = depths(text).filter(|&(_, byte, depth)| depth == 0 && byte == b',').map(|(i, ..)| i);
    let (mut pieces, mut start) = (Vec::new(), 0);
    for comma in commas.chain([text.len()]) {
        pieces.push(text[start..comma].trim());
        start = comma + 1;
    }
    pieces
}

/// Fills lines of a docstring with words.
pub fn filled(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let added = word.chars().count() + 1;
        if length > 0 && length + added > WIDTH {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
        }
        lines += word;
        length += added;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_what_python_reads_as_the_text() {
        assert_eq!(string("T-shirt/top"), r#""T-shirt/top""#);
        assert_eq!(string(r#"a "b" \ c"#), r#""a \"b\" \\ c""#);
        assert_eq!(string("one\ntwo\r\u{202e}é"), r#""one\ntwo\U0000000d\U0000202eé""#);
        assert_eq!(prose("a\n\"\"\" \\ b"), "a'''' ' b");
    }

    #[test]
    fn names_of_parts_are_names_in_python() {
        assert_eq!(class_name("block0.op3"), "Block0Op3");
        for (name, allowed) in [("bank3", true), ("x", true), ("", false), ("3x", false), ("in", false), ("a b", false)]
        {
            assert_eq!(is_name(name), allowed, "{name:?}");
        }
    }

    #[test]
    fn long_statements_are_broken_at_their_last_bracket() {
        let [short, long] = [30, 60].map(|n| "y".repeat(n));
        assert_eq!(statement(4, &format!("x = f({short})")), format!("    x = f({short})\n"));
        let once = format!("    x = f(a)(\n        {long}, {short}\n    )\n");
        assert_eq!(statement(4, &format!("x = f(a)({long}, {short})")), once);
        let list = format!("x = f(\n    {long},\n    g({short}),\n    {long},\n)\n");
        assert_eq!(statement(0, &format!("x = f({long}, g({short}), {long})")), list);
        let returned = format!("return (\n    {long},\n    {long},\n)\n");
        assert_eq!(statement(0, &format!("return {long}, {long}")), returned);
        let nested = format!("x = f(\n    g(\n        {long},\n        {long},\n    )\n)\n");
        assert_eq!(statement(0, &format!("x = f(g({long}, {long}))")), nested);
    }

    #[test]
    fn class_names_are_one_list() {
        let names = ["a".to_string(), "b".repeat(95)];
        assert_eq!(strings("N", &names[..1]), "N = [\"a\"]\n");
        assert_eq!(strings("N", &names), format!("N = [\n    \"a\",\n    \"{}\",\n]\n", names[1]));
    }
}
