//! What tensors are called in files for others: the names that PyTorch's modules give them.
//!
//! | in the engine | in the file | extent |
//! |---|---|---|
//! | `stem.w`, `transition0.w` | `stem.conv.weight`, `transition0.conv.weight` | OIHW |
//! | `block0.op3.w_in`, `.w2` | `block0.op3.w_in.weight`, `.w2.weight` | OIHW, 1x1 too |
//! | `block0.unit1.conv0.w` | `block0.unit1.conv0.weight` | OIHW |
//! | `head.fc.w`, `head.fc.b` | `head.fc.weight`, `head.fc.bias` | [classes, C], `[classes]` |
//! | `NAME.gamma`, `.beta`, `.mean`, `.var` | `NAME.weight`, `.bias`, `.running_mean`, `.running_var` | `[C]` |

/// Name in files of what the engine calls `name`.
pub fn key(name: &str) -> String {
    let (module, last) = name.rsplit_once('.').unwrap_or(("", name));
    let weight = match last {
        "gamma" => "weight",
        "beta" | "b" => "bias",
        "mean" => "running_mean",
        "var" => "running_var",
        "w" if !module.contains('.') => "conv.weight",
        "w" => "weight",
        // A convolution of an op's body has a name of its own.
        filter => return format!("{module}.{filter}.weight"),
    };
    format!("{module}.{weight}")
}

/// Extent in files of a weight whose extent in the engine is `dims`: a 1x1 filter has its taps written down.
pub fn extent(name: &str, dims: &[usize], is_volume: bool) -> Vec<usize> {
    let is_matrix = dims.len() == 2 && !name.ends_with(".fc.w");
    let taps = if is_volume { 3 } else { 2 };
    dims.iter().copied().chain(std::iter::repeat_n(1, if is_matrix { taps } else { 0 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extents_are_those_of_modules() {
        let pairs = [
            ("stem.w", "stem.conv.weight"),
            ("block0.op3.w_in", "block0.op3.w_in.weight"),
            ("block0.op3.bn_in.var", "block0.op3.bn_in.running_var"),
            ("block2.unit1.conv0.w", "block2.unit1.conv0.weight"),
            ("stem.conv.w", "stem.conv.weight"),
            ("transition1.bn.gamma", "transition1.bn.weight"),
            ("head.fc.w", "head.fc.weight"),
            ("head.fc.b", "head.fc.bias"),
        ];
        for (name, expected) in pairs {
            assert_eq!(key(name), expected);
        }
        assert_eq!(extent("block0.op3.w_in", &[4, 8], false), [4, 8, 1, 1]);
        assert_eq!(extent("transition0.w", &[4, 8], true), [4, 8, 1, 1, 1]);
        assert_eq!(extent("head.fc.w", &[10, 8], false), [10, 8]);
        assert_eq!(extent("stem.w", &[4, 1, 7, 7], false), [4, 1, 7, 7]);
    }
}
