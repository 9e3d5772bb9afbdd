//! Names of classes, for reports. The CIFAR and STL-10 lists are those of the data sets' own text files, which
//! take precedence when they lie beside the images.

use std::path::Path;

use crate::data::files::Files;
use crate::error::{Error, Result};

/// Fashion-MNIST, in label order.
pub(super) const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Digits, and IDX files of unknown contents.
pub(super) const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// CIFAR-10, in label order.
pub(super) const CIFAR_10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// STL-10, in label order.
pub(super) const STL_10: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Fine labels of CIFAR-100, alphabetical and so in label order.
#[rustfmt::skip]
pub(super) const CIFAR_100: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

/// Names files are a few hundred bytes; anything beyond this is something else.
pub(super) const MAX_BYTES: u64 = 64 << 10;

/// A built-in list as owned strings.
pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One name per line of the file called `name`, blank lines ignored, or `built_in` when there is
/// no such file. The file must have as many names as the built-in list.
pub(super) fn read_or(files: &Files, name: &str, built_in: &[&str]) -> Result<Vec<String>> {
    if !files.has(name) {
        return Ok(owned(built_in));
    }
    parse(&files.path(name), &files.bytes(name, MAX_BYTES)?, built_in.len())
}

fn parse(path: &Path, bytes: &[u8], expected: usize) -> Result<Vec<String>> {
    let remedy = "copy the official file, or remove it to use the built-in names";
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Error::data(path, format!("is not text; {remedy}")));
    };
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if names.len() != expected {
        let message = format!("holds {} class names where {expected} are expected; {remedy}", names.len());
        return Err(Error::data(path, message));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    #[test]
    fn names_are_in_alphabetical_and_so_in_label_order() {
        assert!(CIFAR_10.is_sorted() && STL_10.is_sorted());
        assert!(CIFAR_100.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_names_file_wins_over_the_built_in_list_and_must_be_whole() {
        let dir = tempfile::tempdir().unwrap();
        let read = |built_in: &[&str]| read_or(&Files::open(dir.path()).unwrap(), "names.txt", built_in);
        assert_eq!(read(&["a", "b"]).unwrap(), ["a", "b"]);
        let path = dir.path().join("names.txt");
        std::fs::write(&path, "cat\r\ndog\n\n").unwrap();
        assert_eq!(read(&["a", "b"]).unwrap(), ["cat", "dog"]);
        assert!(refusal(read(&["a", "b", "c"])).contains("names.txt: holds 2 class names where 3 are expected"));
        std::fs::write(&path, [0xff, 0xfe, b'\n', 0xff]).unwrap();
        assert!(refusal(read(&["a", "b"])).contains("is not text"));
        std::fs::write(&path, vec![b'\n'; 1 << 17]).unwrap();
        assert!(refusal(read(&["a", "b"])).contains("131072 bytes, beyond the limit of 65536"));
    }
}
