//! Where the official files of the sets are, how long they are, and what their digests are.
//!
//! Addresses are those of the authors' own pages; Fashion-MNIST's and MNIST's are the ones most
//! libraries use, since the original page of MNIST serves no files any more. Digests are SHA-256 of
//! the file as downloaded (CIFAR, STL-10 and ImageNet32x32 as TensorFlow Datasets lists them,
//! ModelNet as several independent projects do); of the gzipped IDX files they are those of
//! the *unpacked* contents, the ones in `official.rs`.

use crate::data::official;

/// A data set that can be downloaded.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// What `data fetch` calls it.
    pub name: &'static str,
    /// Everything to download, under one address.
    pub files: &'static [RemoteFile],
    /// Address of the folder that holds the files, with a slash at its end.
    pub url: &'static str,
    /// Under which terms, in a few words.
    pub terms: &'static str,
}

/// One official file.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, there and here.
    pub name: &'static str,
    /// Its size in bytes, as downloaded.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: &'static str,
    /// What the digest is of: the file as it is, or what it unpacks to (gzip).
    pub of: Contents,
}

/// What a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// The bytes of the file.
    AsIs,
    /// What comes out of its gzip stream.
    Gunzipped,
}

impl Source {
    /// The source called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        SOURCES.iter().find(|source| source.name == name)
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

const fn archive(name: &'static str, bytes: u64, sha256: &'static str) -> RemoteFile {
    RemoteFile { name, bytes, sha256, of: Contents::AsIs }
}

/// The four files of an IDX set, which have these sizes when gzipped.
const fn gzipped_idx(set: &official::Set, bytes: [u64; 4]) -> [RemoteFile; 4] {
    const fn file(name: &'static str, bytes: u64, official: &official::File) -> RemoteFile {
        RemoteFile { name, bytes, sha256: official.digest, of: Contents::Gunzipped }
    }
    [
        file("train-images-idx3-ubyte.gz", bytes[0], &set.files[0]),
        file("train-labels-idx1-ubyte.gz", bytes[1], &set.files[1]),
        file("t10k-images-idx3-ubyte.gz", bytes[2], &set.files[2]),
        file("t10k-labels-idx1-ubyte.gz", bytes[3], &set.files[3]),
    ]
}

const CIFAR_URL: &str = "https://www.cs.toronto.edu/~kriz/";
const NONE_STATED: &str = "none stated by the authors";
const MODELNET_TERMS: &str = "academic use; the models belong to their authors";

/// All sets that can be downloaded.
#[rustfmt::skip]
pub const SOURCES: [Source; 8] = [
    Source { name: "mnist", url: "https://ossci-datasets.s3.amazonaws.com/mnist/", terms: NONE_STATED,
        files: &gzipped_idx(&official::MNIST, [9_912_422, 28_881, 1_648_877, 4_542]) },
    Source { name: "fashion-mnist", url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", terms: "MIT, Zalando SE",
        files: &gzipped_idx(&official::FASHION, [26_421_880, 29_515, 4_422_102, 5_148]) },
    Source { name: "cifar-10", url: CIFAR_URL, terms: NONE_STATED, files: &[
        archive("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")] },
    Source { name: "cifar-100", url: CIFAR_URL, terms: NONE_STATED, files: &[
        archive("cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec")] },
    Source { name: "stl-10", url: "http://ai.stanford.edu/~acoates/stl10/", terms: "images of ImageNet; see its terms", files: &[
        archive("stl10_binary.tar.gz", 2_640_397_119, "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866")] },
    Source { name: "imagenet32", url: "https://image-net.org/data/downsample/", terms: "ImageNet: non-commercial research", files: &[
        archive("Imagenet32_train_npz.zip", 3_580_435_279, "94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc"),
        archive("Imagenet32_val_npz.zip", 139_697_668, "013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a")] },
    Source { name: "modelnet10", url: "http://3dvision.princeton.edu/projects/2014/3DShapeNets/", terms: MODELNET_TERMS, files: &[
        archive("ModelNet10.zip", 473_402_300, "9d8679435fc07d1d26f13009878db164a7aa8ea5e7ea3c8880e42794b7307d51")] },
    Source { name: "modelnet40", url: "http://modelnet.cs.princeton.edu/", terms: MODELNET_TERMS, files: &[
        archive("ModelNet40.zip", 2_039_180_837, "42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac")] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_complete() {
        for source in &SOURCES {
            assert!(source.url.starts_with("http") && source.url.ends_with('/'), "{}", source.name);
            assert!(
                std::ptr::eq(Source::find(source.name).unwrap().files, source.files),
                "{} is there twice",
                source.name
            );
            for file in source.files {
                let hex = file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                assert!(hex && file.sha256.len() == 64, "{}", file.name);
                assert_eq!(file.of == Contents::Gunzipped, file.name.ends_with("ubyte.gz"), "{}", file.name);
            }
        }
    }

    #[test]
    fn idx_digests_stand_beside_the_right_names() {
        for (name, set) in [("mnist", &official::MNIST), ("fashion-mnist", &official::FASHION)] {
            for (remote, official) in Source::find(name).unwrap().files.iter().zip(set.files) {
                assert_eq!(remote.name.strip_suffix(".gz"), Some(official.name));
                assert_eq!(remote.sha256, official.digest);
                assert!(remote.bytes < official.bytes);
            }
        }
    }
}
