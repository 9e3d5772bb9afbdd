//! The data set inside the binary: 10,000 training and 2,000 test images of Fashion-MNIST.
//!
//! The first 1,000 training and 200 test images of each class in their original order, chosen by
//! `tools/make-embedded-dataset.sh`; licence and digests are in `datasets/README.md`. The files
//! pass the same strict reader as a user's.

use std::path::Path;

use crate::data::idx::{self, MEMBERS};
use crate::data::{Dataset, official};
use crate::error::Result;

/// The gzipped files, in the order of [`MEMBERS`].
const PACKED: [&[u8]; 4] = [
    include_bytes!("../../datasets/fashion-mnist-12k/train-images-idx3-ubyte.gz"),
    include_bytes!("../../datasets/fashion-mnist-12k/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../datasets/fashion-mnist-12k/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../datasets/fashion-mnist-12k/t10k-labels-idx1-ubyte.gz"),
];

/// Unpacks the embedded set: 9.4 MB of 28x28 grey images, 10 classes.
///
/// # Errors
/// `Data` when the binary itself is damaged.
pub fn open() -> Result<Dataset> {
    let unpack = |i: usize| {
        let name = format!("(embedded) {}", MEMBERS[i].file_name());
        idx::read(Path::new(&name), MEMBERS[i].kind, PACKED[i].to_vec().into())
    };
    let files = [unpack(0)?, unpack(1)?, unpack(2)?, unpack(3)?];
    idx::assemble(files, |_| Some(&official::FASHION_12K))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::data::{DataSpec, ImageShape, class_counts};

    #[test]
    fn the_embedded_files_are_those_the_tool_made() {
        for (packed, file) in PACKED.into_iter().zip(official::FASHION_12K.releases[0].files) {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
            assert_eq!(Some(bytes.len() as u64), file.bytes, "{}", file.name);
            assert_eq!(
                Some(official::hex(&Sha256::digest(&bytes)).as_str()),
                file.digest.map(|d| d.1),
                "{}",
                file.name
            );
            assert_eq!(packed[4..8], [0; 4], "{}: a time stamp makes the file irreproducible", file.name);
        }
    }

    #[test]
    fn the_embedded_set_is_stratified_and_named() {
        let set = crate::data::open(&DataSpec::parse("embedded")).unwrap();
        assert_eq!(set.name, "fashion-mnist-12k");
        assert_eq!(set.shape, ImageShape::picture(1, 28, 28));
        assert_eq!(class_counts(set.train.labels(), 10), [1000; 10]);
        assert_eq!(class_counts(set.test.labels(), 10), [200; 10]);
        assert_eq!((set.class_names[0].as_str(), set.class_names[9].as_str()), ("T-shirt/top", "Ankle boot"));
        assert_eq!(set.train.label(0), 9); // the well-known first boot
    }

    #[test]
    fn the_folder_it_is_made_from_opens_as_the_same_set() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist-12k");
        let (inside, outside) = (open().unwrap(), crate::data::open(&DataSpec::Folder(folder)).unwrap());
        assert_eq!((inside.name, inside.class_names), (outside.name, outside.class_names));
        assert_eq!(inside.test.labels(), outside.test.labels());
        assert_eq!(inside.train.image(9999), outside.train.image(9999));
    }
}
