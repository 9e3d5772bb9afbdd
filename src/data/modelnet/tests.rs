//! Meshes and volumes, and what is kept of them.

use super::*;
use crate::data::testarrays::npy;
use crate::data::testdata::{refusal, zip};
use crate::data::voxels::{SIDE, VIEW_BYTES};
use crate::data::{DataSpec, open as open_spec, open_with};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A box of these sides; a thin one is a plate.
fn block([a, b, c]: [usize; 3]) -> String {
    let mut text = "OFF8 6 12\n".to_owned();
    for i in 0..8 {
        text += &format!("{} {} {}\n", i / 4 * a, i / 2 % 2 * b, i % 2 * c);
    }
    text + "4 0 1 3 2\n4 4 5 7 6\n4 0 1 5 4\n4 2 3 7 6\n4 0 2 6 4\n4 1 3 7 5\n"
}

/// Two classes, five meshes.
fn meshes() -> Vec<(&'static str, String)> {
    vec![
        ("rod/test/rod_3.off", block([1, 1, 9])),
        ("rod/train/rod_1.off", block([1, 1, 8])),
        ("rod/train/rod_2.off", block([2, 1, 7])),
        ("plate/train/plate_1.OFF", block([8, 8, 1])),
        ("plate/test/plate_2.off", block([9, 7, 1])),
        ("README.txt", "about".to_owned()),
    ]
}

fn write_folder(dir: &Path, files: &[(&str, String)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn open_at(path: &Path) -> Result<Dataset> {
    open_spec(&DataSpec::Folder(path.to_path_buf()))
}

/// Images and labels of both sets.
fn contents(set: &Dataset) -> Vec<(u16, Vec<u8>)> {
    let all = |images: &crate::data::Images| -> Vec<(u16, Vec<u8>)> {
        (0..images.len()).map(|i| (images.label(i), images.image(i).to_vec())).collect()
    };
    [all(&set.train), all(&set.test)].concat()
}

fn expected() -> Vec<(u16, Vec<u8>)> {
    let views = |sides| voxels::views(&Mesh::parse(Path::new("x"), block(sides).as_bytes()).unwrap());
    [(0, [8, 8, 1]), (1, [1, 1, 8]), (1, [2, 1, 7]), (0, [9, 7, 1]), (1, [1, 1, 9])]
        .map(|(l, s)| (l, views(s)))
        .to_vec()
}

#[test]
fn meshes_are_voxelised_once_and_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().join("shapes"), dir.path().join("shapes.voxels"));
    write_folder(&folder, &meshes());
    for path in [&folder, dir.path()] {
        let set = open_at(path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (set.name.as_str(), set.views, &set.class_names[..]),
            ("shapes", 24, &["plate", "rod"].map(String::from)[..])
        );
        assert_eq!(contents(&set), expected());
    }
    // A bit that no mesh has: it comes from the file.
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 0x80;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(contents(&open_at(&folder).unwrap())[4].1.last(), bytes.last());
    // The file alone is a data set too.
    assert_eq!(contents(&open_at(&file).unwrap()).len(), 5);
    // One mesh more, one of another size, and a file cut short: each time it is made again.
    std::fs::write(folder.join("rod/test/rod_4.off"), block([1, 1, 5])).unwrap();
    assert_eq!(open_at(&folder).unwrap().test.len(), 3);
    std::fs::write(folder.join("rod/test/rod_4.off"), block([10, 1, 5])).unwrap();
    let set = open_at(&folder).unwrap();
    assert_eq!(set.test.image(2), voxels::views(&Mesh::parse(&file, block([10, 1, 5]).as_bytes()).unwrap()));
    let whole = contents(&set);
    drop(set); // its file is mapped
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..9000]).unwrap();
    assert_eq!(contents(&open_at(&folder).unwrap()), whole);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn an_archive_gives_what_its_folder_gives() {
    let dir = tempfile::tempdir().unwrap();
    let inside: Vec<(String, String)> =
        meshes().into_iter().map(|(name, text)| (format!("Shapes/{name}"), text)).collect();
    for (deflate, name) in [(true, "a.zip"), (false, "b.v2.zip")] {
        std::fs::write(dir.path().join(name), zip(&inside, deflate)).unwrap();
        let set = open_at(&dir.path().join(name)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(contents(&set), expected());
        assert!(dir.path().join(name).with_file_name(&name[..1]).with_extension("voxels").is_file());
    }
}

#[test]
fn the_sets_are_known_by_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    for class in MODELNET_10 {
        write_folder(
            dir.path(),
            &[
                (&format!("m/{class}/train/a.off"), block([1, 2, 3])),
                (&format!("m/{class}/test/b.off"), block([2, 2, 3])),
            ],
        );
    }
    let set = open_at(dir.path()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((set.name.as_str(), &set.class_names[..]), ("modelnet10", &MODELNET_10.map(String::from)[..]));
}

static LAST: AtomicUsize = AtomicUsize::new(usize::MAX);

#[test]
fn where_nothing_can_be_written_voxels_stay_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shapes");
    write_folder(&folder, &meshes());
    // Who runs tests may be allowed to write everywhere, but not to a folder.
    std::fs::create_dir(dir.path().join("shapes.voxels.part")).unwrap();
    let progress = |progress: &Conversion<'_>| {
        assert_eq!((progress.file, progress.objects), (None, 5));
        assert!(progress.done == 0 || LAST.load(Ordering::Relaxed) <= progress.done);
        LAST.store(progress.done, Ordering::Relaxed);
    };
    let options = Options { progress: Some(progress), ..Options::default() };
    let set = open_with(&DataSpec::Folder(folder.clone()), options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(contents(&set), expected());
    assert_eq!(LAST.load(Ordering::Relaxed), 5);
    assert!(!dir.path().join("shapes.voxels").exists());
    assert!(refusal(convert(&folder, None, None)).contains("shapes.voxels: cannot be written there; name another"));
}

#[test]
fn files_of_others_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    write_folder(&dir.path().join("shapes"), &meshes());
    std::fs::write(dir.path().join("shapes.voxels"), "mine").unwrap();
    assert!(
        refusal(open_at(&dir.path().join("shapes"))).contains("shapes.voxels: is no file of voxels and lies where")
    );
    let message = refusal(convert(&dir.path().join("shapes"), None, None));
    assert!(message.contains("shapes.voxels: is no file of voxels"), "{message}");
    assert_eq!(std::fs::read(dir.path().join("shapes.voxels")).unwrap(), b"mine");
}

#[test]
fn damaged_and_missing_meshes_are_named_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shapes");
    write_folder(&folder, &meshes());
    std::fs::write(folder.join("rod/train/rod_2.off"), "OFF\n1 2").unwrap();
    assert!(refusal(open_at(&folder)).contains("shapes/rod/train/rod_2.off: promises 1 vertices"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::remove_dir_all(folder.join("rod/train")).unwrap();
    assert!(refusal(open_at(&folder)).contains("shapes/rod/train: holds no mesh to train on"));
    std::fs::remove_dir_all(folder.join("rod")).unwrap();
    std::fs::remove_dir_all(folder.join("plate/test")).unwrap();
    assert!(refusal(open_at(&folder)).contains("holds 1 classes and 0 meshes to test on"));
}

#[test]
fn a_conversion_says_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    write_folder(&dir.path().join("shapes"), &meshes());
    let file = dir.path().join("other.voxels");
    let made = convert(&dir.path().join("shapes"), Some(&file), None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((made.train, made.test, made.views, made.classes), (3, 2, 24, 2));
    assert_eq!((made.file, made.bytes), (file.clone(), 4096 + 5 * 24 * 4096));
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 4096 + 5 * 24 * 4096);
    assert_eq!(contents(&open_at(&file).unwrap()), expected());
    assert!(refusal(convert(&file, None, None)).contains("holds voxels, which is read as it is"));
}

/// Volumes of `shape`; voxel (x, y, z) of volume i is set if it is on the edge where y = i and z = 3, x up to 5.
fn volumes(shape: &[usize], wrong: Option<usize>) -> Vec<u8> {
    let mut bytes = vec![0; shape.iter().product()];
    for i in 0..bytes.len() / SIDE.pow(3) {
        (0..=5).for_each(|x| bytes[((i * SIDE + x) * SIDE + i) * SIDE + 3] = 1);
    }
    if let Some(at) = wrong {
        bytes[at] = 2;
    }
    npy("|u1", false, shape, &bytes)
}

fn labels(values: &[i64]) -> Vec<u8> {
    npy("<i8", false, &[values.len()], &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// Writes the two files and opens them.
fn open_npz(keys: [&str; 2], train: (Vec<u8>, Vec<u8>), test: (Vec<u8>, Vec<u8>)) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    for (name, (x, y)) in [("modelnet10_train.npz", train), ("ModelNet10-TEST.npz", test)] {
        let members = [(format!("{}.npy", keys[0]), x), (format!("{}.npy", keys[1]), y)];
        std::fs::write(dir.path().join(name), zip(&members, true)).unwrap();
    }
    open_at(dir.path())
}

#[test]
fn volumes_of_others_are_turned_to_our_axes() {
    for (keys, shape) in [
        (["data", "labels"], vec![2, 3, 32, 32, 32]),
        (["features", "targets"], vec![6, 1, 32, 32, 32]),
        (["data", "targets"], vec![6, 32, 32, 32]),
    ] {
        let test: Vec<usize> = [&[1], &shape[1..]].concat();
        let objects = shape[0];
        let y: Vec<i64> = (0..objects as i64).map(|i| i % 2).collect();
        let set = open_npz(keys, (volumes(&shape, None), labels(&y)), (volumes(&test, None), labels(&[1])));
        let set = set.unwrap_or_else(|e| panic!("{keys:?}: {e}"));
        let views = 6 / objects;
        assert_eq!((set.train.len(), set.views, set.test.len(), set.class_names.len()), (objects, views, 1, 2));
        for i in 0..6 {
            let view = &set.train.image(i / views)[i % views * VIEW_BYTES..][..VIEW_BYTES];
            let mut expected = [0; VIEW_BYTES];
            expected[(3 * SIDE + i) * SIDE / 8] = 0b11_1111;
            assert_eq!(view, expected, "{keys:?} {i}");
        }
    }
}

#[test]
fn volumes_that_are_none_are_refused() {
    let good = |n: usize| volumes(&[n, 2, 32, 32, 32], None);
    let with = |train: (Vec<u8>, Vec<u8>), test: (Vec<u8>, Vec<u8>)| refusal(open_npz(["data", "labels"], train, test));
    let two = || (good(2), labels(&[0, 1]));
    for (message, why) in [
        (with((good(2), labels(&[0, 2])), two()), "none of class 1"),
        (with(two(), (good(2), labels(&[0, 2]))), "TEST.npz/labels.npy: array \"labels\" holds label 2 for volume 1"),
        (with((good(2), labels(&[0, 1, 1])), two()), "holds 3 labels, but there are 2 volumes"),
        (with(two(), (volumes(&[2, 32, 32, 32], None), labels(&[0, 1]))), "holds 1 views of each object"),
        (with((volumes(&[2, 32, 32, 16], None), labels(&[0, 1])), two()), "has shape (2, 32, 32, 16); volumes of"),
        (
            with((volumes(&[2, 2, 32, 32, 32], Some(3 * 32768 + 7)), labels(&[0, 1])), two()),
            "holds 2 in view 1 of object 1, at byte 98439; voxels are 0 or 1",
        ),
    ] {
        assert!(message.contains(why), "{why}: {message}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("modelnet40_train.npz"), zip(&[("x.npy", good(1))], false)).unwrap();
    assert!(refusal(open_at(dir.path())).contains("holds no .npz file with \"modelnet\" and \"test\" in its name"));
}

#[test]
fn views_after_each_other_are_told_by_the_official_numbers() {
    let counts = [9843 * 12, 2468 * 24, 908 * 12, 3991 * 24, 9843, 12, 48];
    assert_eq!(counts.map(npz::rotations), [12, 24, 12, 24, 1, 1, 1]);
}
