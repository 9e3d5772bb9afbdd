//! Patterns as in file names: `*` for any characters, `?` for one.

/// Does the whole of `text` match? A pattern without `*` and `?` matches what contains it.
pub fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return text.contains(pattern);
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which prefixes of the text the pattern so far matches.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for symbol in pattern {
        let before = reached.clone();
        for i in 0..reached.len() {
            reached[i] = match symbol {
                '*' => before[..=i].contains(&true),
                '?' => i > 0 && before[i - 1],
                _ => i > 0 && before[i - 1] && text[i - 1] == symbol,
            };
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        let row = "conv2d backward_data 64->64 3x3 d(1,1) g1 32x32 n50";
        for pattern in ["conv*backward*", "*", "*n50", "conv2? *3x3*", "3x3 d(1,1)", row, "**n??"] {
            assert!(matches(pattern, row), "{pattern}");
        }
        for pattern in ["backward*", "conv*forward", "conv2d?", "5x5", "?"] {
            assert!(!matches(pattern, row), "{pattern}");
        }
        assert!(matches("", "") && matches("*", "") && !matches("?", ""));
    }
}
