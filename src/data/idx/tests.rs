//! Tests of the IDX reader.

use super::*;
use crate::data::testdata::{IDX_NAMES, gz, idx_images, idx_labels, pixel, refusal, write_idx};
use crate::data::{DataSpec, open as open_spec};
use crate::rng::{Rng, Stream};

fn folder(name: &str) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(name);
    std::fs::create_dir(&dir).unwrap();
    (root, dir)
}

fn reads(name: &str, kind: Kind, bytes: &[u8]) -> Result<IdxFile> {
    read(Path::new(name), kind, bytes.to_vec().into())
}

fn open_in(dir: &Path) -> Result<Dataset> {
    open(&Files::open(dir)?)
}

/// Both ways a file may come: plain and gzipped.
fn refusals(kind: Kind, bytes: &[u8]) -> [String; 2] {
    [refusal(reads("x", kind, bytes)), refusal(reads("x.gz", kind, &gz(bytes)))]
}

#[test]
fn plain_gzipped_and_dotted_files_read_alike() {
    let dotted = IDX_NAMES.map(|name| name.replace("-idx", ".idx"));
    let packed = IDX_NAMES.map(|name| name.to_owned() + ".gz");
    let both = dotted.clone().map(|name| name + ".gz");
    for names in [IDX_NAMES.map(str::to_owned), dotted, packed, both] {
        let (_root, dir) = folder("somewhere");
        write_idx(&dir, [&names[0], &names[1], &names[2], &names[3]]);
        let set = open_spec(&DataSpec::Folder(dir)).unwrap();
        assert_eq!((set.train.len(), set.test.len()), (23, 11));
        assert_eq!(set.shape, ImageShape::picture(1, 5, 4));
        for (i, p) in [(0, 0), (22, 19), (7, 3)] {
            assert_eq!((set.train.image(i)[p], set.train.label(i)), (pixel(i, p), (i % 10) as u16));
        }
        assert_eq!((set.name.as_str(), set.class_names.len()), ("idx", 10));
    }
}

#[test]
fn unpacked_content_under_a_gz_name_is_read() {
    assert!(reads("train-labels-idx1-ubyte.gz", Kind::Labels, &idx_labels(12)).is_ok());
}

#[test]
fn sets_of_unknown_digest_are_named_after_their_folder() {
    for (name, expected, first) in
        [("somewhere", "idx", "0"), ("MNIST", "mnist", "0"), ("FashionMNIST", "fashion-mnist", "T-shirt/top")]
    {
        let (_root, dir) = folder(name);
        write_idx(&dir, IDX_NAMES);
        let set = open_in(&dir).unwrap();
        assert_eq!((set.name.as_str(), set.class_names[0].as_str()), (expected, first));
    }
}

#[test]
fn a_folder_in_place_of_a_file_does_no_harm_if_the_file_is_there_too() {
    let (_root, dir) = folder("set");
    write_idx(&dir, IDX_NAMES);
    let plain = dir.join(IDX_NAMES[1]);
    std::fs::remove_file(&plain).unwrap();
    std::fs::create_dir(&plain).unwrap();
    assert!(refusal(open_in(&dir)).contains("train-labels-idx1-ubyte: is missing"));
    std::fs::write(dir.join(IDX_NAMES[1].to_owned() + ".gz"), gz(&idx_labels(23))).unwrap();
    assert_eq!(open_in(&dir).unwrap().train.len(), 23);
}

#[test]
fn a_missing_member_is_named() {
    for name in IDX_NAMES {
        let (_root, dir) = folder("half");
        write_idx(&dir, IDX_NAMES);
        std::fs::remove_file(dir.join(name)).unwrap();
        let message = refusal(open_spec(&DataSpec::Folder(dir)));
        assert!(message.contains(&format!("{name}: is missing")), "{message}");
    }
}

#[test]
fn a_truncated_file_names_both_sizes() {
    let whole = idx_images(6, 5, 4); // 136 bytes
    for message in refusals(Kind::Images, &whole[..100]) {
        assert!(message.contains("truncated: ends after 100 of the 136 bytes"), "{message}");
    }
    for message in refusals(Kind::Images, &whole[..11]) {
        assert!(message.contains("ends after 11 of the 16 bytes of its header"), "{message}");
    }
    assert!(refusal(reads("x", Kind::Labels, &[])).contains("ends after 0 of the 8 bytes of its header"));
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = idx_images(6, 5, 4);
    bytes.extend([0; 9]);
    let [plain, packed] = refusals(Kind::Images, &bytes);
    assert!(plain.contains("9 bytes too many, from byte 136 on"), "{plain}");
    assert!(packed.contains("more than the 136 bytes"), "{packed}");
}

#[test]
fn a_wrong_magic_says_what_the_file_is() {
    for (magic, why) in [
        ([3, 8, 0, 0], "little-endian"),
        ([0, 0, 8, 1], "it holds labels; the files are swapped"),
        ([0, 0, 0x0d, 3], "type 0x0d"),
        ([0, 0, 8, 4], "it has 4 dimensions, 3 are expected"),
        (*b"\x89PNG", "starts with 89 50 4e 47 at byte 0"),
    ] {
        let mut bytes = idx_images(6, 5, 4);
        bytes[..4].copy_from_slice(&magic);
        for message in refusals(Kind::Images, &bytes) {
            assert!(message.contains(why), "{message}");
        }
    }
    let message = refusal(reads("x", Kind::Labels, &idx_images(2, 3, 3)));
    assert!(message.contains("it holds images"), "{message}");
}

#[test]
fn impossible_sizes_are_refused_before_anything_is_allocated() {
    let with = |dims: [u32; 3]| [vec![0, 0, 8, 3], dims.iter().flat_map(|d| d.to_be_bytes()).collect()].concat();
    for (dims, why) in [
        ([0, 5, 4], "the count, at byte 4, is 0"),
        ([6, 0, 4], "the number of rows, at byte 8, is 0"),
        ([6, 5, 0], "the number of columns, at byte 12, is 0"),
        ([u32::MAX; 3], "beyond the limit of 1073741824 bytes"),
        ([1 << 20, 32, 32], "beyond the limit"), // 1 GiB and the header: 16 bytes over
        ([1 << 20, 32, 31], "truncated"),
    ] {
        for message in refusals(Kind::Images, &with(dims)) {
            assert!(message.contains(why), "{dims:?}: {message}");
        }
    }
}

#[test]
fn a_gzip_bomb_is_not_unpacked_beyond_the_promise() {
    // Two bytes more than the header promises, then garbage: unpacking must stop after the first
    // of the two, before it meets the garbage.
    let mut bytes = idx_images(6, 5, 4);
    bytes.extend([0; 2]);
    let mut packed = gz(&bytes);
    packed.extend(b"garbage");
    let path = Path::new("bomb.gz");
    assert!(refusal(unpack(path, Kind::Images, &packed)).contains("more than the 136 bytes"));
    // A header that promises a gigabyte in a file too small for it: no gigabyte is reserved.
    let mut promise = idx_images(6, 5, 4);
    promise[4..8].copy_from_slice(&(50u32 << 20).to_be_bytes());
    let packed = gz(&promise);
    assert!(unpack(path, Kind::Images, &packed).unwrap().capacity() <= packed.len() * 1032 + 16);
    assert!(refusal(reads("bomb.gz", Kind::Images, &packed)).contains("truncated"));
}

#[test]
fn a_damaged_gzip_stream_is_a_data_error() {
    let packed = gz(&idx_images(6, 5, 4));
    let mut checksum = packed.clone();
    let crc = checksum.len() - 8;
    checksum[crc] ^= 1;
    let mut trailing = packed.clone();
    trailing.extend(b"garbage");
    let cut = &packed[..packed.len() - 20];
    for bytes in [&checksum[..], &trailing, cut, &packed[..5]] {
        let message = refusal(reads("x.gz", Kind::Images, bytes));
        assert!(message.contains("x.gz: bad gzip after "), "{message}");
    }
}

#[test]
fn a_file_of_several_gzip_members_is_read_whole() {
    let bytes = idx_images(6, 5, 4);
    let packed = [gz(&bytes[..50]), gz(&bytes[50..])].concat();
    assert_eq!(unpack(Path::new("x"), Kind::Images, &packed).unwrap(), bytes);
}

#[test]
fn labels_out_of_range_or_of_another_count_name_image_and_byte() {
    let (_root, dir) = folder("set");
    write_idx(&dir, IDX_NAMES);
    let mut labels = idx_labels(23);
    labels[8 + 17] = 10;
    std::fs::write(dir.join(IDX_NAMES[1]), labels).unwrap();
    let message = refusal(open_in(&dir));
    assert!(
        message.contains("train-labels-idx1-ubyte: label 10 of image 17, at byte 25, is not in 0 to 9"),
        "{message}"
    );
    std::fs::write(dir.join(IDX_NAMES[1]), idx_labels(22)).unwrap();
    let message = refusal(open_in(&dir));
    assert!(message.contains("holds 22 labels") && message.contains("has 23 images"), "{message}");
}

#[test]
fn test_images_of_another_size_are_refused() {
    let (_root, dir) = folder("set");
    write_idx(&dir, IDX_NAMES);
    std::fs::write(dir.join(IDX_NAMES[2]), idx_images(11, 4, 5)).unwrap();
    let message = refusal(open_in(&dir));
    assert!(message.contains("images are 4x5, but those for training are 5x4"), "{message}");
}

#[test]
fn mutated_files_are_read_or_refused_but_never_panic() {
    let mut rng = Rng::new(11, Stream::Init);
    let originals = [idx_images(3, 5, 4), gz(&idx_images(3, 5, 4)), idx_labels(9), gz(&idx_labels(9))];
    let mut refused = 0;
    for round in 0..500 {
        let kind = if round % 4 < 2 { Kind::Images } else { Kind::Labels };
        let mut bytes = originals[round % 4].clone();
        for _ in 0..1 + rng.below(3) {
            match rng.below(4) {
                0 => bytes.truncate(rng.below(bytes.len() + 1)),
                1 => bytes.extend((0..1 + rng.below(40)).map(|i| i as u8)),
                _ if bytes.is_empty() => {}
                2 => {
                    let at = rng.below(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
                _ => {
                    let at = rng.below(bytes.len().min(16)); // the header, where it hurts
                    bytes[at] = rng.below(256) as u8;
                }
            }
        }
        match reads("x", kind, &bytes) {
            Ok(file) => assert_eq!(file.header.total_bytes, file.bytes.len() as u64),
            Err(error) => {
                assert!(matches!(error, Error::Data { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 250, "only {refused} of 500 mutations were noticed");
}
