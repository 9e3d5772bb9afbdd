//! Tests of folders and archives: what is found in them, and how bad ones are refused.

use super::*;
use crate::data::testdata::{gz, refusal, tar, tar_header, zip};
use crate::rng::{Rng, Stream};

const LIMIT: u64 = 1 << 30;
/// Names that a reader knows, so that they are kept from a `.tar.gz`.
const MEMBERS: [(&str, &[u8]); 3] =
    [("set/test.bin", b"second"), ("set/train.bin", b"first"), ("set/deep/fine_label_names.txt", b"names")];

fn archive(bytes: Vec<u8>) -> Result<Files> {
    Files::archive(Path::new("some.archive"), bytes.into())
}

fn opened(bytes: Vec<u8>) -> Files {
    archive(bytes).unwrap_or_else(|e| panic!("{e}"))
}

/// The complaint about an archive that cannot be listed.
fn refused(bytes: Vec<u8>) -> String {
    let message = refusal(archive(bytes));
    assert!(message.starts_with("some.archive"), "{message}");
    message
}

/// The complaint about a member of an archive that can be listed.
fn unreadable(bytes: Vec<u8>, name: &str) -> String {
    let message = refusal(opened(bytes).bytes(name, LIMIT));
    assert!(message.starts_with(&format!("some.archive/{name}: ")), "{message}");
    message
}

#[test]
fn folders_and_archives_of_all_kinds_hold_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in MEMBERS {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let archives = [tar(&MEMBERS), gz(&tar(&MEMBERS)), zip(&MEMBERS, false), zip(&MEMBERS, true)].map(opened);
    for files in [Files::open(dir.path()).unwrap()].iter().chain(&archives) {
        let names: Vec<&str> = files.names().collect();
        assert_eq!(names, ["set/deep/fine_label_names.txt", "set/test.bin", "set/train.bin"]);
        assert_eq!(files.folders(), ["set"]);
        assert_eq!((files.find("train.bin"), files.find("fine_label_names.txt")), (Some("set/train.bin"), None));
        let set = files.within("set");
        assert_eq!(set.names().collect::<Vec<_>>(), ["deep/fine_label_names.txt", "test.bin", "train.bin"]);
        assert!(set.has("test.bin") && !set.has("set/test.bin") && !files.has("test.bin"));
        assert_eq!(set.find("train.bin"), Some("train.bin"));
        assert_eq!(set.find("fine_label_names.txt"), Some("deep/fine_label_names.txt"));
        assert_eq!(set.path("train.bin"), files.root().join("set/train.bin"));
        assert_eq!((set.bytes("test.bin", 6).unwrap()[..]), *b"second");
        assert!(refusal(set.bytes("test.bin", 5)).contains("beyond the limit of 5"));
        assert!(refusal(set.bytes("absent", 5)).contains("set/absent: is missing"));
    }
}

#[test]
fn folders_are_listed_once_each_and_files_beside_them_are_none() {
    let members = ["b/c/d", "a/1", "a/2", "a-b/1", "a0", "a", "b/c/e", "b", "z"].map(|name| (name, b"1"));
    let files = opened(tar(&members));
    assert_eq!(files.folders(), ["a-b", "a", "b"]);
    assert_eq!(files.within("b").folders(), ["c"]);
    assert!(files.within("b").within("c").folders().is_empty());
}

#[test]
fn what_is_not_packed_is_read_in_place() {
    for bytes in [tar(&MEMBERS), zip(&MEMBERS, false)] {
        let bytes = Bytes::from(bytes);
        let files = Files::archive(Path::new("a"), bytes.clone()).unwrap_or_else(|e| panic!("{e}"));
        assert!(bytes.as_ptr_range().contains(&files.bytes("set/test.bin", LIMIT).unwrap().as_ptr()));
    }
}

#[test]
fn hidden_files_are_left_out_and_of_links_only_those_to_files_count() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["set/.hidden", "set/a", ".git/b", "__MACOSX/c"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("set"), dir.path().join("set/round")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("set/a"), dir.path().join("to-a")).unwrap();
    let files = Files::open(dir.path()).unwrap();
    assert_eq!(files.names().collect::<Vec<_>>(), ["set/a", "to-a"]);
    assert_eq!(files.bytes("to-a", LIMIT).unwrap()[..], *b"set/a");
    let members = [("./set/a", b"1"), ("set/._a", b"2"), ("__MACOSX/set/a", b"3")];
    for bytes in [tar(&members), zip(&members, true)] {
        assert_eq!(opened(bytes).names().collect::<Vec<_>>(), ["set/a"]);
    }
}

#[test]
fn an_npz_is_a_folder_of_one_file_and_other_files_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.npz");
    std::fs::write(&path, zip(&[("x.npy", b"1")], false)).unwrap();
    std::fs::write(dir.path().join("other.bin"), b"PK").unwrap();
    let files = Files::open(&path).unwrap();
    assert_eq!((files.names().collect::<Vec<_>>(), files.path("set.npz")), (vec!["set.npz"], path));
    assert!(refusal(Files::open(&dir.path().join("other.bin"))).contains("other.bin: is a file, but no .tar"));
}

#[test]
fn names_that_lead_out_of_an_archive_or_come_twice_are_refused() {
    for name in ["../test.bin", "set/../../test.bin", "/etc/passwd", "a\\..\\b"] {
        for (kind, bytes) in
            [tar(&[(name, b"1")]), gz(&tar(&[(name, b"1")])), zip(&[(name, b"1")], true)].into_iter().enumerate()
        {
            if kind == 2 || !name.contains('\\') {
                assert!(refused(bytes).contains("leads out of the archive"), "{name}");
            }
        }
    }
    let twice = [("a", b"1"), ("./a", b"2")];
    for bytes in [tar(&twice), zip(&twice, false)] {
        assert!(refused(bytes).contains("two members \"a\""));
    }
}

#[test]
fn a_tar_cut_anywhere_is_refused() {
    let whole = tar(&MEMBERS);
    let end = whole.len() - 1024; // one block of zeros is enough
    for keep in (263..end + 512).step_by(61).chain((512..=end).step_by(512)) {
        assert!(
            refused(whole[..keep].to_vec()).contains("truncated, or followed by something else: the archive ends"),
            "{keep}"
        );
    }
    assert!(refused(whole[..600].to_vec()).starts_with("some.archive/set/test.bin: truncated"));
    let packed = gz(&whole);
    for keep in [packed.len() - 1, packed.len() / 2, 30, 2] {
        let message = refused(packed[..keep].to_vec());
        assert!(message.contains("truncated, or followed by something else: the archive ends"), "{message}");
    }
    let mut checksum = packed.clone();
    checksum[packed.len() - 8] ^= 1;
    assert!(refused(checksum).contains("bad gzip after"));
    assert!(
        refused(gz(b"no tar at all, but as long as a header of one: ".repeat(20).as_slice()))
            .contains("no tar header at byte 0")
    );
}

#[test]
fn damaged_tar_headers_are_refused_with_their_place() {
    let second = 512 + 512;
    let mut name = tar(&MEMBERS);
    name[second] ^= 1;
    assert!(refused(name).contains("no tar header at byte 1024, where one should be (wrong checksum)"));
    let with = |header: Vec<u8>| [header, vec![0; 1024]].concat();
    let size = |field: &[u8]| {
        let mut header = tar_header("test.bin", 0, b'0');
        let change = field.iter().map(|&byte| u32::from(byte)).sum::<u32>() - 48 * 11;
        header[124..136].copy_from_slice(field);
        let sum = u32::from_str_radix(std::str::from_utf8(&header[148..154]).unwrap(), 8).unwrap() + change;
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        with(header)
    };
    assert!(refused(size(b"99999999999\0")).contains("the tar header at byte 0 has a damaged size"));
    assert!(refused(size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")).contains("has an impossible size"));
    assert!(refused(size(b"\x80\0\0\0\0\0\x7f\xff\xff\xff\xff\xff")).contains("truncated"));
    assert!(refused(with(tar_header("x", 1 << 20, b'L'))).contains("has an impossibly long name"));
}

/// A member of another kind, with contents, before the file `test.bin`.
fn before_a_file(kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = tar_header("other", contents.len(), kind);
    bytes.extend(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    [bytes, tar(&[("test.bin", b"bytes")])].concat()
}

#[test]
fn long_names_of_both_formats_are_read() {
    let long = "d".repeat(150) + "/test.bin";
    let record = |key: &str, value: &str| {
        let length = (10..).find(|n: &usize| n.to_string().len() + key.len() + value.len() + 3 == *n).unwrap();
        format!("{length} {key}={value}\n")
    };
    let pax = record("mtime", "1234567890.5") + &record("path", &long);
    for bytes in [before_a_file(b'L', (long.clone() + "\0").as_bytes()), before_a_file(b'x', pax.as_bytes())] {
        for bytes in [bytes.clone(), gz(&bytes)] {
            assert_eq!(opened(bytes).bytes(&long, LIMIT).unwrap()[..], *b"bytes");
        }
    }
    assert_eq!(opened(before_a_file(b'g', b"anything")).names().collect::<Vec<_>>(), ["test.bin"]);
    let sized = before_a_file(b'x', record("size", "3333333333").as_bytes());
    assert!(refused(sized).contains("truncated"), "the size of an extended header holds");
    for damaged in ["30 path=x\n", "x", "9 path=xx", "6 path\n", "99999999999999999999 path=x\n"] {
        let message = refused(before_a_file(b'x', damaged.as_bytes()));
        assert!(message.contains("the tar header at byte 0 is followed by a damaged name"), "{damaged}: {message}");
    }
    let mut ustar = tar_header("test.bin", 0, b'0');
    ustar[345..349].copy_from_slice(b"some");
    let sum = u32::from_str_radix(std::str::from_utf8(&ustar[148..154]).unwrap(), 8).unwrap();
    let sum = sum + b"some".iter().map(|&b| u32::from(b)).sum::<u32>();
    ustar[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    assert_eq!(opened([ustar, vec![0; 1024]].concat()).names().collect::<Vec<_>>(), ["some/test.bin"]);
}

#[test]
fn links_sparse_files_and_devices_in_a_tar_are_listed_but_not_read() {
    for (kind, what) in [(b'1', "a link"), (b'2', "a link"), (b'S', "a sparse file"), (b'3', "no regular file")] {
        let bytes = [tar_header("test.bin", 0, kind), vec![0; 1024]].concat();
        for bytes in [bytes.clone(), gz(&bytes)] {
            let message = unreadable(bytes, "test.bin");
            assert!(message.contains(&format!("is {what} in the archive")) && message.contains("unpack"), "{message}");
        }
    }
    let sparse = before_a_file(b'x', b"22 GNU.sparse.major=1\n");
    assert!(unreadable(sparse, "test.bin").contains("is a sparse file"));
}

#[test]
fn of_a_packed_tar_only_what_readers_know_is_kept() {
    let members = [("set/unlabeled_X.bin", vec![7; 3_000_000]), ("set/test.bin", b"bytes".to_vec())];
    let files = opened(gz(&tar(&members)));
    assert_eq!(files.bytes("set/test.bin", LIMIT).unwrap()[..], *b"bytes");
    let message = refusal(files.bytes("set/unlabeled_X.bin", LIMIT));
    assert!(message.contains("some.archive/set/unlabeled_X.bin: is no file that is read from a .tar.gz"), "{message}");
    // A header that promises more than any reader takes is refused before anything is unpacked.
    let bomb = gz(&[tar_header("set/test.bin", 3 << 30, b'0'), vec![0; 1 << 20]].concat());
    let message = refused(bomb);
    assert!(message.starts_with("some.archive/set/test.bin: expands beyond the limit of 268435456 bytes"), "{message}");
    assert!(refused(gz(&[tar_header("test.bin", 1 << 20, b'0'), vec![0; 9]].concat())).contains("truncated"));
}

/// Where the entry of the only member begins in the directory of a zip.
fn entry(bytes: &[u8]) -> usize {
    bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap()
}

/// A zip of one member whose directory entry is changed.
fn changed(deflate: bool, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = zip(&[("test.bin", vec![5; 3000])], deflate);
    let at = entry(&bytes);
    change(&mut bytes[at..]);
    bytes
}

#[test]
fn a_damaged_zip_is_refused_with_its_place() {
    let whole = zip(&MEMBERS, true);
    for keep in [4, 30, whole.len() / 2, whole.len() - 1] {
        let message = refused(whole[..keep].to_vec());
        assert!(message.contains("truncated"), "{message}");
    }
    assert!(refused([&whole[..], b"!"].concat()).contains("no zip directory at its end"));
    let mut comment = [&whole[..], b"comment"].concat();
    comment[whole.len() - 2] = 7;
    assert_eq!(opened(comment).names().count(), 3);
    let end = whole.len() - 22;
    let mut outside = whole.clone();
    outside[end + 16..end + 20].copy_from_slice(&(end as u32).to_le_bytes());
    assert!(refused(outside).contains(&format!("the zip directory named at byte {end} lies outside of the file")));
    let mut nowhere = whole.clone();
    let third = entry(&whole);
    nowhere[third] = 0;
    assert!(refused(nowhere).contains(&format!("no entry of the zip directory at byte {third}")));
    assert!(refused(changed(true, |entry| entry[28] = 200)).contains("entry of the zip directory at byte"));
    let message = refused(changed(true, |entry| entry[42] = 1));
    assert!(message.contains("that test.bin lies at byte 1, where it is not"), "{message}");
    assert!(
        refused(changed(true, |entry| entry[20] += 1)).contains("where it is not"),
        "packed bytes reach into the directory"
    );
}

#[test]
fn zip_members_that_are_not_what_the_directory_says_are_refused() {
    let message = |deflate, change: &dyn Fn(&mut [u8])| unreadable(changed(deflate, change), "test.bin");
    let size = |size: u32| move |entry: &mut [u8]| entry[24..28].copy_from_slice(&size.to_le_bytes());
    assert!(message(true, &size(2999)).contains("expands beyond the limit of 2999 bytes"));
    assert!(message(true, &size(2999)).contains("says 2999 (from byte 38 of the archive on); copy"));
    assert!(message(true, &size(3001)).contains("ends after 3000 bytes, where the archive's directory says 3001"));
    assert!(message(true, &size(1 << 29)).contains("more than deflate can pack into"));
    assert!(message(true, &size(1 << 31)).contains("expands beyond the limit of 1073741824 bytes"));
    assert!(message(false, &size(2999)).contains("is stored in 3000 bytes, but should have 2999"));
    assert!(message(false, &size(0)).contains("is empty"));
    assert!(message(true, &|entry| entry[16] ^= 1).contains("has checksum"));
    assert!(message(true, &|entry| entry[8] |= 1).contains("is encrypted, which is not supported"));
    assert!(message(true, &|entry| entry[10] = 12).contains("is packed by method 12 (bzip2), only stored"));
    let mut stream = changed(true, |_| ());
    stream[30 + 8] = 0xff;
    assert!(unreadable(stream, "test.bin").contains("bad deflate stream after 0 unpacked bytes"));
}

#[test]
fn a_zip_with_64_bit_sizes_is_read() {
    let old = zip(&[("test.bin", b"bytes")], false);
    let at = entry(&old);
    let mut entry = old[at..old.len() - 22].to_vec();
    entry[20..28].fill(0xff); // both sizes, and below the place
    entry[42..46].fill(0xff);
    entry[30] = 5 + 28 + 5;
    // Fields of other kinds come before and after the one with the sizes.
    entry.extend(
        [&[7, 0, 1, 0, 9, 1, 0, 24, 0][..], &[5, 0, 0, 0, 0, 0, 0, 0].repeat(2), &[0; 8], &[7, 0, 1, 0, 9]].concat(),
    );
    let mut record = [&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[0; 28]].concat();
    record.extend([entry.len() as u64, at as u64].map(u64::to_le_bytes).concat());
    let place = (at + entry.len()) as u64;
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &place.to_le_bytes(), &[1, 0, 0, 0]].concat();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &[0xff; 12], &[0, 0]].concat();
    let bytes = [&old[..at], &entry, &record, &locator, &end].concat();
    assert_eq!(opened(bytes.clone()).bytes("test.bin", LIMIT).unwrap()[..], *b"bytes");
    let mut lost = bytes;
    let locator = at + entry.len() + 56;
    lost[locator + 8] ^= 1;
    assert!(refused(lost).contains(&format!("the 64-bit end record named at byte {locator} is not there")));
}

#[test]
fn mutated_archives_are_read_or_refused_but_never_panic() {
    let mut rng = Rng::new(13, Stream::Init);
    let plain = tar(&MEMBERS);
    let originals = [plain.clone(), gz(&plain), zip(&MEMBERS, false), zip(&MEMBERS, true)];
    let mut refused = 0;
    for round in 0..2000 {
        let mut bytes = originals[round % 4].clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(6) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = 0xff,
                2 => bytes[at] = rng.below(256) as u8,
                _ => bytes[at] ^= 1 << rng.below(8),
            }
        }
        if let Err(error) = check(&bytes) {
            assert!(matches!(error, Error::Data { .. }), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "only {refused} of 2000 mutations were noticed");
}
