//! The data sets as their authors publish them: what there is to download, and the files inside, with sizes and digests.
//!
//! Digests are of the kind that was published for each file: SHA-1 for CIFAR (Apache MXNet's data set lists),
//! MD5 for its Python version, STL-10 and the packed IDX files (torchvision's lists), SHA-256 for archives
//! (TensorFlow Datasets' lists). *Unpacked* IDX files have SHA-256, because mirrors pack them anew:
//! Fashion-MNIST's were computed from Debian's `dataset-fashion-mnist`, MNIST's are those many mirrors and projects
//! agree on, the embedded set's were printed by `tools/make-embedded-dataset.sh`. ModelNet's are those several
//! independent projects agree on; its authors publish none.

use std::path::Path;

use md5::Md5;
use serde::Serialize;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::{Digest, DynDigest};

/// How a digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestKind {
    /// 128 bits.
    Md5,
    /// 160 bits.
    Sha1,
    /// 256 bits.
    Sha256,
}

impl DigestKind {
    /// An empty digest of this kind, to be fed.
    pub(super) fn hash(self) -> Box<dyn DynDigest> {
        match self {
            Self::Md5 => Box::new(Md5::new()),
            Self::Sha1 => Box::new(Sha1::new()),
            Self::Sha256 => Box::new(Sha256::new()),
        }
    }
}

/// What is published about a file.
#[derive(Debug)]
pub struct File {
    /// Its name; for a packed IDX file without `.gz`, if it is compared unpacked.
    pub name: &'static str,
    /// Its size in bytes, if it is published.
    pub bytes: Option<u64>,
    /// Its digest in lower-case hexadecimal, if one is published.
    pub digest: Option<(DigestKind, &'static str)>,
}

/// A file to download.
#[derive(Debug)]
pub struct Download {
    /// The file as it comes.
    pub file: File,
    /// Where its authors, or who took over from them, have it.
    pub url: &'static str,
}

/// One form in which a set is published.
#[derive(Debug)]
pub struct Release {
    /// `binary`, `python`, ...
    pub form: &'static str,
    /// What to get, all of it.
    pub downloads: &'static [Download],
    /// The files with images and labels inside that, where digests of them are published.
    pub files: &'static [File],
}

/// A data set.
#[derive(Debug)]
pub struct Set {
    /// The name that the reader gives it.
    pub name: &'static str,
    /// Number of images (or meshes) to train on and to test on.
    pub images: [u32; 2],
    /// Extent of an image: channels, depth if it is a volume, height, width.
    pub extent: &'static str,
    /// Number of classes.
    pub classes: u16,
    /// Terms of use, in a few words.
    pub licence: &'static str,
    /// Its forms, the one to prefer first.
    pub releases: &'static [Release],
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

const fn md5(name: &'static str, bytes: u64, digest: &'static str) -> File {
    File { name, bytes: Some(bytes), digest: Some((DigestKind::Md5, digest)) }
}

const fn sha1(name: &'static str, bytes: u64, digest: &'static str) -> File {
    File { name, bytes: Some(bytes), digest: Some((DigestKind::Sha1, digest)) }
}

const fn sha256(name: &'static str, bytes: u64, digest: &'static str) -> File {
    File { name, bytes: Some(bytes), digest: Some((DigestKind::Sha256, digest)) }
}

/// The set inside the program.
#[rustfmt::skip]
pub(super) const FASHION_12K: Set = Set {
    name: "fashion-mnist-12k", images: [10_000, 2_000], extent: "1 x 28 x 28", classes: 10, licence: "MIT, Zalando SE",
    releases: &[Release { form: "embedded", downloads: &[], files: &[
        sha256(TRAIN_IMAGES, 7_840_016, "d33512cfdc636a0d8972818e6659995be209a88891df7fa2109d7895922c8985"),
        sha256(TRAIN_LABELS, 10_008, "620cb8e3b9348037c5ff9a07b02d773ab165330e072dfd19e0d21c59f8042dcf"),
        sha256(TEST_IMAGES, 1_568_016, "15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1"),
        sha256(TEST_LABELS, 2_008, "234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c"),
    ]}],
};

#[rustfmt::skip]
pub(super) const FASHION: Set = Set {
    name: "fashion-mnist", images: [60_000, 10_000], extent: "1 x 28 x 28", classes: 10, licence: "MIT, Zalando SE",
    releases: &[Release { form: "IDX", downloads: &[
        Download { file: md5("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz" },
        Download { file: md5("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe"),
            url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz" },
        Download { file: md5("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
            url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz" },
        Download { file: md5("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
            url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz" },
    ], files: &[
        sha256(TRAIN_IMAGES, 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        sha256(TRAIN_LABELS, 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        sha256(TEST_IMAGES, 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        sha256(TEST_LABELS, 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ]}],
};

#[rustfmt::skip]
pub(super) const MNIST: Set = Set {
    name: "mnist", images: [60_000, 10_000], extent: "1 x 28 x 28", classes: 10, licence: "see its distributor",
    releases: &[Release { form: "IDX", downloads: &[
        Download { file: md5("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz" },
        Download { file: md5("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz" },
        Download { file: md5("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz" },
        Download { file: md5("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
            url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz" },
    ], files: &[
        sha256(TRAIN_IMAGES, 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        sha256(TRAIN_LABELS, 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        sha256(TEST_IMAGES, 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        sha256(TEST_LABELS, 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ]}],
};

#[rustfmt::skip]
pub(super) const CIFAR_10: Set = Set {
    name: "cifar-10", images: [50_000, 10_000], extent: "3 x 32 x 32", classes: 10, licence: "none stated",
    releases: &[Release { form: "binary", downloads: &[
        Download { file: sha256("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" },
    ], files: &[
        sha1("data_batch_1.bin", 30_730_000, "aadd24acce27caa71bf4b10992e9e7b2d74c2540"),
        sha1("data_batch_2.bin", 30_730_000, "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795"),
        sha1("data_batch_3.bin", 30_730_000, "1dd00a74ab1d17a6e7d73e185b69dbf31242f295"),
        sha1("data_batch_4.bin", 30_730_000, "aab85764eb3584312d3c7f65fd2fd016e36a258e"),
        sha1("data_batch_5.bin", 30_730_000, "26e2849e66a845b7f1e4614ae70f4889ae604628"),
        sha1("test_batch.bin", 30_730_000, "67eb016db431130d61cd03c7ad570b013799c88c"),
    ]}, Release { form: "python", downloads: &[
        Download { file: md5("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" },
    ], files: &[
        md5("data_batch_1", 31_035_704, "c99cafc152244af753f735de768cd75f"),
        md5("data_batch_2", 31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
        md5("data_batch_3", 31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
        md5("data_batch_4", 31_035_696, "634d18415352ddfa80567beed471001a"),
        md5("data_batch_5", 31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
        md5("test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
    ]}],
};

#[rustfmt::skip]
pub(super) const CIFAR_100: Set = Set {
    name: "cifar-100", images: [50_000, 10_000], extent: "3 x 32 x 32", classes: 100, licence: "none stated",
    releases: &[Release { form: "binary", downloads: &[
        Download { file: sha256("cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
            url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz" },
    ], files: &[
        sha1("train.bin", 153_700_000, "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"),
        sha1("test.bin", 30_740_000, "8fb6623e830365ff53cf14adec797474f5478006"),
    ]}, Release { form: "python", downloads: &[
        Download { file: md5("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
            url: "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz" },
    ], files: &[
        File { name: "train", bytes: None, digest: Some((DigestKind::Md5, "16019d7e3df5f24257cddd939b257f8d")) },
        File { name: "test", bytes: None, digest: Some((DigestKind::Md5, "f0ef6b0ae62326f3e7ffdfab6717acfc")) },
    ]}],
};

/// Its 100,000 unlabelled images are not read and so not listed.
#[rustfmt::skip]
pub(super) const STL_10: Set = Set {
    name: "stl-10", images: [5_000, 8_000], extent: "3 x 96 x 96", classes: 10, licence: "images from ImageNet, none of its own",
    releases: &[Release { form: "binary", downloads: &[
        Download { file: sha256("stl10_binary.tar.gz", 2_640_397_119, "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866"),
            url: "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz" },
    ], files: &[
        md5("train_X.bin", 138_240_000, "918c2871b30a85fa023e0c44e0bee87f"),
        md5("train_y.bin", 5_000, "5a34089d4802c674881badbb80307741"),
        md5("test_X.bin", 221_184_000, "7f263ba9f9e0b06b93213547f721ac82"),
        md5("test_y.bin", 8_000, "36f9794fa4beb8a2c72628de14fa638e"),
    ]}],
};

#[rustfmt::skip]
pub(super) const IMAGENET_32: Set = Set {
    name: "imagenet32", images: [1_281_167, 50_000], extent: "3 x 32 x 32", classes: 1000, licence: "non-commercial research",
    releases: &[Release { form: "npz", downloads: &[
        Download { file: sha256("Imagenet32_train_npz.zip", 3_580_435_279, "94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc"),
            url: "https://image-net.org/data/downsample/Imagenet32_train_npz.zip" },
        Download { file: sha256("Imagenet32_val_npz.zip", 139_697_668, "013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a"),
            url: "https://image-net.org/data/downsample/Imagenet32_val_npz.zip" },
    ], files: &[] }],
};

#[rustfmt::skip]
pub(super) const MODELNET_10: Set = Set {
    name: "modelnet10", images: [3_991, 908], extent: "1 x 32 x 32 x 32", classes: 10, licence: "academic use",
    releases: &[Release { form: "OFF", downloads: &[
        Download { file: sha256("ModelNet10.zip", 473_402_300, "9d8679435fc07d1d26f13009878db164a7aa8ea5e7ea3c8880e42794b7307d51"),
            url: "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip" },
    ], files: &[] }],
};

#[rustfmt::skip]
pub(super) const MODELNET_40: Set = Set {
    name: "modelnet40", images: [9_843, 2_468], extent: "1 x 32 x 32 x 32", classes: 40, licence: "academic use",
    releases: &[Release { form: "OFF", downloads: &[
        Download { file: sha256("ModelNet40.zip", 2_039_180_837, "42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac"),
            url: "http://modelnet.cs.princeton.edu/ModelNet40.zip" },
    ], files: &[] }],
};

/// All of them.
pub const SETS: [&Set; 9] =
    [&FASHION_12K, &FASHION, &MNIST, &CIFAR_10, &CIFAR_100, &STL_10, &IMAGENET_32, &MODELNET_10, &MODELNET_40];

impl Release {
    /// Is it published as archives, and not as the files themselves?
    pub(super) fn is_archived(&self) -> bool {
        self.downloads.iter().any(|download| self.files.iter().all(|file| !download.file.name.starts_with(file.name)))
    }
}

/// The set and the form that come in an archive called `name`.
pub(super) fn of_archive(name: &str) -> Option<(&'static Set, &'static Release)> {
    let releases = SETS.into_iter().flat_map(|set| set.releases.iter().map(move |release| (set, release)));
    releases
        .filter(|(_, release)| release.is_archived())
        .find(|(_, release)| release.downloads.iter().any(|download| download.file.name == name))
}

/// The set that IDX files in `folder` belong to: the one with a file of one of `digests` (lower-case
/// hexadecimal), otherwise the one the folder is named after, if any.
pub(super) fn idx_set(folder: &Path, digests: &[&str]) -> Option<&'static Set> {
    const IDX: [&Set; 3] = [&MNIST, &FASHION, &FASHION_12K];
    let is_one = |file: &File| file.digest.is_some_and(|(_, digest)| digests.contains(&digest));
    let known = |set: &&&Set| set.releases.iter().any(|release| release.files.iter().any(is_one));
    if let Some(set) = IDX.iter().find(known) {
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
        let digest = |set: &'static Set, i: usize| set.releases[0].files[i].digest.unwrap().1;
        assert_eq!(name("/data/MNIST", &[]), Some("mnist"));
        assert_eq!(name("/data/FashionMNIST/raw", &["00"]), Some("fashion-mnist"));
        assert_eq!(name("/fashion/mnist", &[]), Some("mnist"));
        assert_eq!(name("/data/letters", &[]), None);
        assert_eq!(name("/mnist/data/letters", &[]), None);
        assert_eq!(name("/data/mnist", &["00", digest(&FASHION, 1)]), Some("fashion-mnist"));
        assert_eq!(name("/data/fashion", &[digest(&MNIST, 3)]), Some("mnist"));
    }

    #[test]
    fn official_sizes_follow_from_the_sizes_of_images_and_labels() {
        let sizes = |set: &Set| -> Vec<u64> { set.releases[0].files.iter().filter_map(|file| file.bytes).collect() };
        for set in [&MNIST, &FASHION] {
            assert_eq!(sizes(set), [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]);
        }
        assert_eq!(sizes(&CIFAR_10), [10_000 * 3073; 6]);
        assert_eq!(sizes(&CIFAR_100), [50_000 * 3074, 10_000 * 3074]);
        assert_eq!(sizes(&STL_10), [5_000 * 27_648, 5_000, 8_000 * 27_648, 8_000]);
    }

    #[test]
    fn digests_are_as_long_as_their_kind_and_files_are_named_as_their_address() {
        for release in SETS.iter().flat_map(|set| set.releases) {
            let downloads = release.downloads.iter().map(|download| &download.file);
            for (kind, digest) in downloads.chain(release.files).filter_map(|file| file.digest) {
                let length = [32, 40, 64][kind as usize];
                assert!(digest.len() == length && digest.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{digest}");
            }
            for download in release.downloads {
                assert!(download.url.ends_with(&format!("/{}", download.file.name)), "{}", download.url);
            }
        }
    }

    #[test]
    fn archives_are_known_by_name_and_packed_idx_files_are_none() {
        let form = |name| of_archive(name).map(|(set, release)| (set.name, release.form));
        assert_eq!(form("cifar-10-python.tar.gz"), Some(("cifar-10", "python")));
        assert_eq!(form("Imagenet32_val_npz.zip"), Some(("imagenet32", "npz")));
        assert_eq!(form("train-images-idx3-ubyte.gz"), None);
        assert_eq!(form("cifar.tar.gz"), None);
    }
}
