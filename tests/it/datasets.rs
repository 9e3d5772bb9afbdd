//! Every data set of the paper, in files of the official layout: the program opens, measures and trains on each;
//! and files that are not what they seem end with exit code 3 and one sentence.

use crate::formats::{cifar_records, gz, idx_images, idx_labels, stl, tar, zip};
use crate::numpy::{Entry, npy, pickle};
use crate::scene::{Scene, text};
use crate::volumes::block;
use smash_engine::data::{self, DataSpec, SplitKind, validation_split};
use std::path::Path;

/// A search space and budgets small enough for a run of seconds.
const SETTINGS: &str = r#"
preset = "small"

[data]
eval_batch = 20

[smash]
max_steps = 3
batch = 5

[search]
random = 2
perturb = 1
markov = 1

[retrain]
epochs = 1
batch = 5
rivals = 0

[hyper]
stem = 2
layers = [1, 1, 1]
growth = 2

[space]
unit = 2
n_max = 4
max_bank_size = 2
groups = [1, 2]
depth = 3
widening = 1
"#;

type Files = Vec<(String, Vec<u8>)>;

fn named(files: impl IntoIterator<Item = (impl Into<String>, Vec<u8>)>) -> Files {
    files.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect()
}

/// Writes files below `dir`, making folders as needed.
fn write(dir: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The four IDX files, gzipped.
fn idx() -> Files {
    let members = [idx_images(40, 28, 28), idx_labels(40), idx_images(20, 28, 28), idx_labels(20)];
    let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
    named(names.iter().zip(members).map(|(name, bytes)| (format!("{name}-ubyte.gz"), gz(&bytes))))
}

fn cifar_10() -> Files {
    let batch = |i: usize| (format!("cifar-10-batches-bin/data_batch_{i}.bin"), cifar_records(10 * i, 10, false));
    let test = ("cifar-10-batches-bin/test_batch.bin".to_string(), cifar_records(0, 20, false));
    (1..=5).map(batch).chain([test]).collect()
}

fn cifar_100() -> Files {
    named([("train.bin", cifar_records(0, 200, true)), ("test.bin", cifar_records(0, 100, true))])
}

/// Pixels that differ from image to image.
fn pixels(count: usize, each: usize) -> Vec<u8> {
    (0..count * each).map(|i| (i / each * 31 + i % each * 7) as u8).collect()
}

fn cifar_10_python() -> Files {
    let batch = |count: usize| {
        let labels: Vec<i32> = (0..count as i32).map(|i| i % 10).collect();
        pickle(&[("data", Entry::Bytes(&pixels(count, 3072), [count, 3072])), ("labels", Entry::Labels(&labels))])
    };
    let train = (1..=5).map(|i| (format!("cifar-10-batches-py/data_batch_{i}"), batch(10)));
    train.chain([("cifar-10-batches-py/test_batch".into(), batch(20))]).collect()
}

fn cifar_100_python() -> Files {
    let file = |count: usize| {
        let labels: Vec<i32> = (0..count as i32).map(|i| i % 100).collect();
        pickle(&[("data", Entry::Bytes(&pixels(count, 3072), [count, 3072])), ("fine_labels", Entry::Labels(&labels))])
    };
    named([("cifar-100-python/train", file(200)), ("cifar-100-python/test", file(100))])
}

fn i64s(values: impl Iterator<Item = usize>) -> Vec<u8> {
    values.flat_map(|value| (value as i64).to_le_bytes()).collect()
}

/// A batch of ImageNet32x32 as numpy saves it: labels from 1.
fn imagenet_npz(count: usize) -> Vec<u8> {
    let labels = i64s((0..count).map(|i| 1 + i * 37 % 1000));
    let members = [
        ("data.npy", npy("|u1", false, &[count, 3072], &pixels(count, 3072))),
        ("labels.npy", npy("<i8", false, &[count], &labels)),
        ("mean.npy", npy("<f8", false, &[3072], &[0; 8 * 3072])),
    ];
    zip(&members, false)
}

fn imagenet_zips() -> Files {
    let train: Vec<(String, Vec<u8>)> =
        (1..=10).map(|i| (format!("train_data_batch_{i}.npz"), imagenet_npz(6))).collect();
    let validation = [("val_data.npz", imagenet_npz(20))];
    named([("Imagenet32_train_npz.zip", zip(&train, true)), ("Imagenet32_val_npz.zip", zip(&validation, true))])
}

fn imagenet_pickles() -> Files {
    let batch = |count: usize| {
        let labels: Vec<i32> = (0..count as i32).map(|i| 1 + i * 37 % 1000).collect();
        pickle(&[("data", Entry::Bytes(&pixels(count, 3072), [count, 3072])), ("labels", Entry::Labels(&labels))])
    };
    let train = (1..=10).map(|i| (format!("train_data_batch_{i}"), batch(6)));
    train.chain([("val_data".into(), batch(20))]).collect()
}

fn modelnet() -> Files {
    let class = |(label, name): (u32, &'static str)| {
        let object = move |split: &'static str, i: u32| {
            let sides = [4, 4 + 4 * label, 4 + i];
            (format!("ModelNet10/{name}/{split}/{name}_{i:04}.off"), block(sides).into_bytes())
        };
        (0..3).map(move |i| object("train", i)).chain((3..5).map(move |i| object("test", i)))
    };
    let names = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"];
    (0..).zip(names).flat_map(class).collect()
}

/// Volumes in 12 rotations, as others save them.
fn modelnet_npz() -> Files {
    let split = |count: usize| {
        let voxels: Vec<u8> = (0..count * 12 * 32_768).map(|i| u8::from(i % (7 + i / 32_768 % 5) == 0)).collect();
        let labels = i64s((0..count).map(|i| i % 10));
        let members = [
            ("data.npy", npy("|u1", false, &[count, 12, 32, 32, 32], &voxels)),
            ("labels.npy", npy("<i8", false, &[count], &labels)),
        ];
        zip(&members, true)
    };
    named([("modelnet10_train.npz", split(20)), ("modelnet10_test.npz", split(10))])
}

fn png(width: u32, height: u32, shade: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![shade; (3 * width * height) as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Thirty pictures of different sizes, in folders of three classes.
fn pictures() -> Files {
    let one = |i: usize| (format!("{}/{i}.png", ["ant", "bee", "cow"][i % 3]), png(20 + i as u32, 30, (i * 8) as u8));
    (0..30).map(one).collect()
}

fn arrays() -> Vec<u8> {
    let labels = i64s((0..50).map(|i| i % 4));
    let members = [
        ("x.npy", npy("|u1", false, &[50, 16, 16, 3], &pixels(50, 768))),
        ("y.npy", npy("<i8", false, &[50], &labels)),
    ];
    zip(&members, true)
}

/// Runs the whole job on `data`, and expects a set of this name, of so many training and test images and classes,
/// which the network sees in this size.
#[track_caller]
fn runs(
    files: &[(String, Vec<u8>)],
    data: &str,
    expected: (&str, usize, usize, usize),
    size: usize,
) -> serde_json::Value {
    let (name, train, test, classes) = expected;
    let (source, flags) = data.split_once(' ').unwrap_or((data, ""));
    let scene = Scene::new();
    write(&scene.path("sets"), files);
    std::fs::write(scene.path("tiny.toml"), SETTINGS).unwrap();
    let results = scene.json(&format!("run --config tiny.toml --out run --data sets/{source} {flags}"));
    let network = &results["networks"][0];
    assert!(network["test_err"].as_f64().is_some_and(|e| (0.0..=100.0).contains(&e)), "{results}");
    assert_eq!(network["test_images"], test, "{name}");
    assert_eq!(network.get("test_top5_err").is_some(), classes >= 100, "{name}: {network}");
    let config = std::fs::read_to_string(scene.path("run/config.toml")).unwrap();
    assert!(config.contains(&format!("size = {size}\n")), "{name}: {config}");
    let report = std::fs::read_to_string(scene.path("run/report.md")).unwrap();
    assert!(report.starts_with(&format!("# SMASH on {name}, ")), "{report}");
    if flags.is_empty() {
        let stats = scene.json(&format!("data stats sets/{source}"));
        let counts = (&stats["train"]["images"], &stats["test"]["images"], stats["classes"].as_array().unwrap().len());
        assert_eq!((counts.0.as_u64(), counts.1.as_u64(), counts.2), (Some(train as u64), Some(test as u64), classes));
    }
    assert_split(&scene.path("sets").join(source));
    // What eval finds on the test images is what the report says.
    let again = scene.json("eval --out run");
    assert_eq!(again["test_err"], network["test_err"], "{name}");
    toml::from_str::<toml::Table>(&config).map(|table| serde_json::to_value(table).unwrap()).unwrap()
}

/// The images held out for validation are a tenth of each class, drawn with the seed, and none of those trained on.
#[track_caller]
fn assert_split(path: &Path) {
    let set = data::open(&DataSpec::Folder(path.into())).unwrap_or_else(|_| {
        // Pictures of several sizes.
        let options = data::Options { image_size: Some(8), ..data::Options::default() };
        data::open_with(&DataSpec::Folder(path.into()), options).unwrap()
    });
    let classes = set.class_names.len();
    let parts = std::iter::once((0..set.train.len() as u32).collect()).chain(set.folds);
    for part in parts {
        let labels: Vec<u16> = part.iter().map(|&i| set.train.label(i as usize)).collect();
        let split = |seed| validation_split(&labels, 0.25, seed, SplitKind::Stratified).unwrap();
        let (train, held_out) = split(1);
        let mut all: Vec<u32> = train.iter().chain(&held_out).copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..labels.len() as u32), "each image is in one of the two");
        let count =
            |images: &[u32], class: usize| images.iter().filter(|&&i| usize::from(labels[i as usize]) == class).count();
        for class in 0..classes {
            let (kept, held) = (count(&train, class), count(&held_out, class));
            assert!(
                (held as f64 - 0.25 * (kept + held) as f64).abs() <= 1.0,
                "class {class}: {held} of {}",
                kept + held
            );
        }
        assert_eq!(split(1), (train, held_out));
        assert!((2..9).any(|seed| split(seed) != split(1)), "another seed draws others");
    }
}

#[test]
fn idx_files_as_downloaded() {
    let config = runs(&idx(), ".", ("idx", 40, 20, 10), 32);
    assert_eq!(config["data"]["augment"], "crop", "digits are not mirrored");
    let files: Files = idx().into_iter().map(|(name, bytes)| (format!("FashionMNIST/raw/{name}"), bytes)).collect();
    let config = runs(&files, "FashionMNIST/raw", ("fashion-mnist", 40, 20, 10), 32);
    assert_eq!(config["data"]["augment"], "crop-flip");
}

#[test]
fn cifar_in_folders_and_archives() {
    runs(&cifar_10(), ".", ("cifar-10", 50, 20, 10), 32);
    let archive = named([("cifar-10-binary.tar.gz", gz(&tar(&cifar_10())))]);
    runs(&archive, "cifar-10-binary.tar.gz", ("cifar-10", 50, 20, 10), 32);
    runs(&cifar_100(), ".", ("cifar-100", 200, 100, 100), 32);
}

#[test]
fn cifar_for_python() {
    runs(&cifar_10_python(), ".", ("cifar-10", 50, 20, 10), 32);
    let archive = named([("cifar-100-python.tar.gz", gz(&tar(&cifar_100_python())))]);
    runs(&archive, "cifar-100-python.tar.gz", ("cifar-100", 200, 100, 100), 32);
}

#[test]
fn stl_10_halved_by_its_stem_and_fold_by_fold() {
    let files: Files = stl(300, 20).into_iter().map(|(name, bytes)| (format!("stl10_binary/{name}"), bytes)).collect();
    let archive = named([("stl10_binary.tar.gz", gz(&tar(&files)))]);
    let config = runs(&archive, "stl10_binary.tar.gz --fold 7", ("stl-10", 300, 20, 10), 96);
    assert_eq!((&config["stem_stride"], &config["data"]["fold"]), (&2.into(), &7.into()));
    let config = runs(&files, ". --stem-stride 1 --image-size 24 --max-steps 1", ("stl-10", 300, 20, 10), 24);
    assert_eq!(config["stem_stride"], 1);
}

#[test]
fn imagenet_in_both_forms() {
    runs(&imagenet_zips(), ".", ("imagenet32", 60, 20, 1000), 32);
    runs(&imagenet_pickles(), ".", ("imagenet32", 60, 20, 1000), 32);
}

#[test]
fn modelnet_from_meshes_and_volumes() {
    let archive = named([("ModelNet10.zip", zip(&modelnet(), true))]);
    let config = runs(&archive, "ModelNet10.zip", ("modelnet10", 30, 20, 10), 32);
    assert_eq!((&config["stem_kernel"], &config["data"]["augment"]), (&3.into(), &"volume".into()));
    runs(&modelnet_npz(), ".", ("modelnet10", 20, 10, 10), 32);
}

#[test]
fn anybodys_pictures_and_arrays() {
    runs(&pictures(), ". --image-size 20", ("sets", 24, 6, 3), 24);
    runs(&named([("mine.npz", arrays())]), "mine.npz", ("mine", 42, 8, 4), 16);
}

/// The complaint about `data` when the file `name` of `files` is changed.
#[track_caller]
fn refused(files: &[(String, Vec<u8>)], name: &str, data: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let scene = Scene::new();
    let mut files = files.to_vec();
    let file = files.iter_mut().find(|(file, _)| file == name).unwrap_or_else(|| panic!("no {name}"));
    change(&mut file.1);
    write(&scene.path("sets"), &files);
    std::fs::write(scene.path("tiny.toml"), SETTINGS).unwrap();
    let message = scene.complaint(&format!("run --config tiny.toml --out run --data sets/{data}"), 3);
    assert!(!scene.path("run").exists(), "nothing is begun on bad data");
    assert!(message.contains(name.rsplit('/').next().unwrap()), "{name} is not named: {message}");
    assert!(message.contains(';'), "no remedy: {message}");
    message
}

#[test]
fn cut_and_overlong_files_end_with_exit_code_3() {
    let archive = |files: Files| named([("set.tar.gz", gz(&tar(&files)))]);
    refused(&idx(), "t10k-labels-idx1-ubyte.gz", ".", |bytes| bytes.truncate(bytes.len() - 3));
    refused(&cifar_10(), "cifar-10-batches-bin/data_batch_3.bin", ".", |bytes| bytes.truncate(5000));
    refused(&cifar_100(), "test.bin", ".", |bytes| bytes.extend([0; 9]));
    refused(&cifar_10_python(), "cifar-10-batches-py/test_batch", ".", |bytes| bytes.truncate(40_000));
    refused(&archive(cifar_10()), "set.tar.gz", "set.tar.gz", |bytes| bytes.truncate(bytes.len() / 2));
    refused(&imagenet_zips(), "Imagenet32_train_npz.zip", ".", |bytes| bytes.truncate(bytes.len() / 2));
    refused(&imagenet_pickles(), "train_data_batch_4", ".", |bytes| bytes.push(0));
    refused(&named(stl(300, 20)), "test_X.bin", ".", |bytes| bytes.truncate(100_000));
    refused(&modelnet(), "ModelNet10/sofa/test/sofa_0003.off", "ModelNet10", |bytes| bytes.truncate(60));
    refused(&pictures(), "bee/4.png", ". --image-size 16", |bytes| bytes.truncate(bytes.len() / 2));
}

#[test]
fn wrong_contents_end_with_exit_code_3_and_a_place() {
    let message = refused(&cifar_10(), "cifar-10-batches-bin/data_batch_2.bin", ".", |bytes| bytes[3073] = 10);
    assert!(message.contains("label 10 of image 1, at byte 3073"), "{message}");
    let message = refused(&named(stl(300, 20)), "train_y.bin", ".", |bytes| bytes[17] = 0);
    assert!(message.contains("byte 17"), "{message}");
    let message = refused(&idx(), "train-images-idx3-ubyte.gz", ".", |bytes| {
        // Numbers the other way round, as a careless converter writes them.
        *bytes = gz(&[&[3, 8, 0, 0][..], &[40, 0, 0, 0, 28, 0, 0, 0, 28, 0, 0, 0], &[0; 40 * 784]].concat());
    });
    assert!(message.contains("byte"), "{message}");
    let floats = |value: f32, descr: &str| {
        let mut elements: Vec<u8> = vec![0; 50 * 64 * 4];
        elements[400..404].copy_from_slice(&value.to_le_bytes());
        let labels = i64s((0..50).map(|i| i % 4));
        let members =
            [("x.npy", npy(descr, false, &[50, 8, 8], &elements)), ("y.npy", npy("<i8", false, &[50], &labels))];
        named([("mine.npz", zip(&members, false))])
    };
    let message = refused(&floats(f32::NAN, "<f4"), "mine.npz", "mine.npz", |_| {});
    assert!(message.contains("mine.npz/x.npy") && message.contains("NaN"), "{message}");
    let message = refused(&floats(0.5, ">f4"), "mine.npz", "mine.npz", |_| {});
    assert!(message.contains("big-endian"), "{message}");
    let message = refused(&cifar_10_python(), "cifar-10-batches-py/data_batch_5", ".", |bytes| {
        *bytes = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.".to_vec();
    });
    assert!(message.contains("os.system") || message.contains("os system"), "{message}");
    refused(&modelnet(), "ModelNet10/bed/train/bed_0001.off", "ModelNet10", |bytes| {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("4 0 1 3 2", "4 0 1 3 9", 1).into_bytes();
    });
}

#[test]
fn one_wrong_byte_in_an_archive_is_noticed_packed_or_not() {
    for deflate in [false, true] {
        let members = [
            ("x.npy", npy("|u1", false, &[50, 8, 8], &pixels(50, 64))),
            ("y.npy", npy("<i8", false, &[50], &i64s((0..50).map(|i| i % 4)))),
        ];
        let archive = named([("mine.npz", zip(&members, deflate))]);
        let message = refused(&archive, "mine.npz", "mine.npz", |bytes| bytes[500] ^= 1);
        assert!(message.contains("mine.npz/x.npy") && (message.contains("checksum") || deflate), "{message}");
    }
}

#[test]
fn members_that_share_their_bytes_are_refused() {
    // Two files of the same size, the second of which the directory places where the first one lies.
    let refusal = |bytes: &mut Vec<u8>| {
        let second = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
        bytes[second + 42..second + 46].fill(0);
    };
    let archive = named([("two.zip", zip(&[("a/1.png", vec![7; 500]), ("b/2.png", vec![7; 500])], false))]);
    assert!(refused(&archive, "two.zip", "two.zip", refusal).contains("overlap"));
}

#[test]
fn sets_that_are_not_whole_say_so_and_one_class_is_no_set() {
    let scene = Scene::new();
    write(&scene.path("sets"), &cifar_10());
    let said = text(&scene.output("data stats sets").stderr);
    assert!(
        said.contains("cifar-10 has 50 training and 20 test images here, and 50000 and 10000 as published"),
        "{said}"
    );
    let labels = i64s(std::iter::repeat_n(0, 50));
    let members =
        [("x.npy", npy("|u1", false, &[50, 8, 8], &pixels(50, 64))), ("y.npy", npy("<i8", false, &[50], &labels))];
    let message = refused(&named([("mine.npz", zip(&members, true))]), "mine.npz", "mine.npz", |_| {});
    assert!(message.contains("one class"), "{message}");
}

#[test]
fn names_from_files_cannot_move_the_cursor() {
    let scene = Scene::new();
    let mut files = cifar_10();
    let names = "plane\x1b[31m\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
    files.push(("cifar-10-batches-bin/batches.meta.txt".into(), names.into()));
    write(&scene.path("sets"), &files);
    let stats = scene.stdout("data stats sets");
    assert!(stats.contains("plane\u{fffd}[31m") && !stats.contains('\x1b'), "{stats}");
}

#[test]
fn what_expands_beyond_measure_is_not_unpacked() {
    // 100 MB of zeros in 100 kB, as a member that should have a few kilobytes, and behind a tar's header that promises more.
    let bomb = named([("x.npy", npy("|u1", false, &[50, 8, 8], &vec![0; 100 << 20])), ("y.npy", vec![0; 200])]);
    let message = refused(&named([("mine.npz", zip(&bomb, true))]), "mine.npz", "mine.npz", |_| {});
    assert!(message.contains("mine.npz/x.npy"), "{message}");
    let labels = gz(&[&idx_labels(40)[..], &vec![0; 100 << 20]].concat());
    let message = refused(&idx(), "train-labels-idx1-ubyte.gz", ".", |bytes| *bytes = labels);
    assert!(message.contains("longer") || message.contains("more"), "{message}");
}
