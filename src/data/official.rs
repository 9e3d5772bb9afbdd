//! Sizes and digests of the official files.
//!
//! CIFAR digests are SHA-1, the only kind published per file (Apache MXNet's data set lists).
//! IDX digests are SHA-256 of the *unpacked* files, because every mirror packs them anew:
//! Fashion-MNIST's were computed from Debian's `dataset-fashion-mnist`, MNIST's are those many
//! mirrors and projects agree on, the embedded set's were printed by `tools/make-embedded-dataset.sh`.

use std::path::Path;

use serde::Serialize;

/// How a digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestKind {
    /// 160 bits, of a CIFAR file.
    Sha1,
    /// 256 bits, of an unpacked IDX file.
    Sha256,
}

/// A file of a set. `name` is without `.gz`, `bytes` is its unpacked size.
#[derive(Debug)]
pub(super) struct File {
    pub name: &'static str,
    pub bytes: u64,
    pub digest: &'static str,
}

/// A data set as its authors publish it.
#[derive(Debug)]
pub(super) struct Set {
    pub name: &'static str,
    pub files: &'static [File],
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

const fn file(name: &'static str, bytes: u64, digest: &'static str) -> File {
    File { name, bytes, digest }
}

#[rustfmt::skip]
pub(super) const FASHION_12K: Set = Set { name: "fashion-mnist-12k", files: &[
    file(TRAIN_IMAGES, 7_840_016, "d33512cfdc636a0d8972818e6659995be209a88891df7fa2109d7895922c8985"),
    file(TRAIN_LABELS, 10_008, "620cb8e3b9348037c5ff9a07b02d773ab165330e072dfd19e0d21c59f8042dcf"),
    file(TEST_IMAGES, 1_568_016, "15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1"),
    file(TEST_LABELS, 2_008, "234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c"),
]};

#[rustfmt::skip]
pub(super) const FASHION: Set = Set { name: "fashion-mnist", files: &[
    file(TRAIN_IMAGES, 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    file(TRAIN_LABELS, 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    file(TEST_IMAGES, 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    file(TEST_LABELS, 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
]};

#[rustfmt::skip]
pub(super) const MNIST: Set = Set { name: "mnist", files: &[
    file(TRAIN_IMAGES, 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    file(TRAIN_LABELS, 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    file(TEST_IMAGES, 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    file(TEST_LABELS, 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
]};

#[rustfmt::skip]
pub(super) const CIFAR_10: Set = Set { name: "cifar-10", files: &[
    file("data_batch_1.bin", 30_730_000, "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
    file("data_batch_2.bin", 30_730_000, "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
    file("data_batch_3.bin", 30_730_000, "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
    file("data_batch_4.bin", 30_730_000, "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
    file("data_batch_5.bin", 30_730_000, "26e2849e66a845b7f1e4614ae70f4889ae604628"),
    file("test_batch.bin", 30_730_000, "67eb016db431130d61cd03c7ad570b013799c88c"),
]};

#[rustfmt::skip]
pub(super) const CIFAR_100: Set = Set { name: "cifar-100", files: &[
    file("train.bin", 153_700_000, "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"),
    file("test.bin", 30_740_000, "8fb6623e830365ff53cf14adec797474f5478006"),
]};

/// The set that IDX files in `folder` belong to: the one with a file of one of `digests` (lower-case
/// hexadecimal), otherwise the one the folder is named after, if any.
pub(super) fn idx_set(folder: &Path, digests: &[&str]) -> Option<&'static Set> {
    const SETS: [&Set; 3] = [&MNIST, &FASHION, &FASHION_12K];
    let known = |set: &&&Set| set.files.iter().any(|file| digests.contains(&file.digest));
    if let Some(set) = SETS.iter().find(known) {
        return Some(set);
    }
    // `.` and links have a name of their own; the parent counts because of layouts like MNIST/raw.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.ancestors().take(2).find_map(|ancestor| {
        let name = ancestor.file_name()?.to_string_lossy().to_lowercase();
        if name.contains("fashion") { Some(&FASHION) } else { name.contains("mnist").then_some(&MNIST) }
    })
}

/// Lower-case hexadecimal.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_a_set_before_the_folder_name_does() {
        let name = |folder: &str, digests: &[&str]| idx_set(Path::new(folder), digests).map(|set| set.name);
        assert_eq!(name("/data/MNIST", &[]), Some("mnist"));
        assert_eq!(name("/data/FashionMNIST/raw", &["00"]), Some("fashion-mnist"));
        assert_eq!(name("/fashion/mnist", &[]), Some("mnist"));
        assert_eq!(name("/data/letters", &[]), None);
        assert_eq!(name("/mnist/data/letters", &[]), None);
        assert_eq!(name("/data/mnist", &["00", FASHION.files[1].digest]), Some("fashion-mnist"));
        assert_eq!(name("/data/fashion", &[MNIST.files[3].digest]), Some("mnist"));
    }

    #[test]
    fn official_sizes_follow_from_the_record_sizes() {
        for set in [&MNIST, &FASHION] {
            let sizes: Vec<u64> = set.files.iter().map(|file| file.bytes).collect();
            assert_eq!(sizes, [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]);
        }
        assert!(CIFAR_10.files.iter().all(|file| file.bytes == 10_000 * 3073 && file.digest.len() == 40));
        assert_eq!(CIFAR_100.files[0].bytes, 50_000 * 3074);
        assert_eq!(CIFAR_100.files[1].bytes, 10_000 * 3074);
    }
}
