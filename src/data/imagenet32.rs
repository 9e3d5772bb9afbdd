//! ImageNet at 32x32 pixels, as its authors publish it or in one file for training and one for test.
//!
//! Officially there are ten training batches and one for validation, which is our test set:
//! `train_data_batch_1` to `_10` and `val_data`, as .npz files or as pickled dicts, in folders or in the zips as
//! downloaded. Each has `data`, N rows of 3072 bytes (red, green and blue planes, row-major), and `labels` from
//! 1 to 1000, in an order of the authors' own. Source: Chrabaszcz, Loshchilov and Hutter, "A downsampled variant of
//! ImageNet", 2017. The other layout is `imagenet32_train.npz` and `imagenet32_val.npz`, with `data` also as
//! (N, 3, 32, 32) and labels also from 0 to 999.
//!
//! The 3.9 GB of pixels stay in the files where those allow it, otherwise each batch is unpacked once.

use crate::data::Dataset;
use crate::data::cifar_python;
use crate::data::files::Files;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::npz::{MAX_BYTES, Npz};
use crate::data::pickle::Pickle;
use crate::error::{Error, Result};

const SHAPE: ImageShape = ImageShape::picture(3, 32, 32);
const CLASSES: u16 = 1000;
const BATCHES: usize = 10;
const TEST: &str = "val_data";
/// The other layout: all images for training and all for test.
const WHOLE: [&str; 2] = ["imagenet32_train", "imagenet32_val"];
/// What the official archives are called.
const ARCHIVES: [&str; 4] =
    ["Imagenet32_train_npz.zip", "Imagenet32_val_npz.zip", "Imagenet32_train.zip", "Imagenet32_val.zip"];

fn stems() -> impl Iterator<Item = String> {
    let batches = (1..=BATCHES).map(|k| format!("train_data_batch_{k}"));
    batches.chain([TEST, WHOLE[0], WHOLE[1]].map(str::to_owned))
}

/// Is any of the set among `files`, packed or not?
pub(super) fn holds(files: &Files) -> bool {
    stems().any(|stem| find(files, &stem).is_some()) || ARCHIVES.iter().any(|name| files.find(name).is_some())
}

/// How large a file of this name may be, if it is one of the set.
pub(super) fn limit(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".npz").unwrap_or(name);
    stems().any(|other| other == stem).then_some(MAX_BYTES)
}

/// The file of this name, with `.npz` or as a pickle.
fn find(files: &Files, stem: &str) -> Option<String> {
    let pickled = || files.find(stem).filter(|_| !WHOLE.contains(&stem));
    files.find(&format!("{stem}.npz")).or_else(pickled).map(str::to_owned)
}

/// Opens the set among `files`.
pub(super) fn open(files: &Files) -> Result<Dataset> {
    let sources = sources(files)?;
    let locate = |stem: &str| sources.iter().find_map(|files| Some((files, find(files, stem)?)));
    let whole = WHOLE.iter().any(|stem| locate(stem).is_some());
    let train_stems = if whole { vec![WHOLE[0].to_owned()] } else { stems().take(BATCHES).collect() };
    let read = |stem: &String| match locate(stem) {
        Some((files, name)) => read(files, &name, if whole { 0 } else { 1 }),
        None => Err(missing(files, stem)),
    };
    // The small one first: it is the one that is forgotten.
    let mut test = read(&if whole { WHOLE[1] } else { TEST }.to_owned())?;
    let mut train: Vec<Part> = train_stems.iter().map(read).collect::<Result<_>>()?;
    if whole {
        from_zero(files, train.iter_mut().chain([&mut test]).map(|part| &mut part.labels).collect())?;
    }
    Ok(Dataset {
        name: "imagenet32".to_owned(),
        train: Images::join(train, SHAPE.pixels()),
        test: Images::join(vec![test], SHAPE.pixels()),
        shape: SHAPE,
        views: 1,
        folds: Vec::new(),
        class_names: (0..CLASSES).map(|class| class.to_string()).collect(),
    })
}

/// `files`, and what lies in archives among them or, if they are those of one archive or file, beside it.
fn sources(files: &Files) -> Result<Vec<Files>> {
    let mut sources = vec![files.clone()];
    let root = files.root();
    for name in ARCHIVES {
        let inside = files.find(name).map(|name| files.path(name));
        let beside = || root.parent().filter(|_| root.is_file()).map(|parent| parent.join(name));
        if let Some(archive) = inside.or_else(beside).filter(|path| path.is_file() && *path != root) {
            sources.push(Files::open(&archive)?);
        }
    }
    for stem in WHOLE {
        // The root of an .npz that was named alone is the folder it lies in.
        let beside = root.join(format!("{stem}.npz"));
        if beside.is_file() && find(files, stem).is_none() {
            sources.push(Files::open(&beside)?);
        }
    }
    Ok(sources)
}

fn missing(files: &Files, stem: &str) -> Error {
    let message = "is missing (as .npz or as a pickle); put the ten training batches and the validation batch, or the \
                   archives of both, into one folder and name that";
    Error::data(files.path(stem), message)
}

/// Reads one file; labels are from `first` to 1000 there, and less by `first` here.
fn read(files: &Files, name: &str, first: u16) -> Result<Part> {
    let (path, bytes) = (files.path(name), files.bytes(name, MAX_BYTES)?);
    let range = first..=CLASSES;
    let (data, labels) = if name.ends_with(".npz") {
        let npz = Npz::parse(&path, &bytes)?;
        (npz.array("data")?, npz.array("labels")?.labels(range)?)
    } else {
        let pickle = Pickle::parse(&path, bytes)?;
        (pickle.array("data")?, pickle.labels("labels", range)?)
    };
    cifar_python::part(data, labels)
}

/// Makes labels from 1 to 1000 ones from 0 to 999; those that have a 0 are so already.
fn from_zero(files: &Files, parts: Vec<&mut Vec<u16>>) -> Result<()> {
    let has = |label| parts.iter().any(|labels| labels.contains(&label));
    match (has(0), has(CLASSES)) {
        (true, true) => {
            let message = "labels 0 and 1000 both occur; number the classes from 0 to 999 or from 1 to 1000";
            Err(Error::data(files.path(WHOLE[0]), message))
        }
        (true, false) => Ok(()),
        (false, _) => {
            parts.into_iter().flatten().for_each(|label| *label -= 1);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::testarrays::{Entry, npy, pickle};
    use crate::data::testdata::{refusal, zip};
    use crate::data::{DataSpec, open as open_spec};

    type Member = (String, Vec<u8>);

    /// `labels.len()` images whose pixels are all of value `shade`, then `shade` + 1 and so on.
    fn pixels(shade: u8, labels: &[i32]) -> Vec<u8> {
        (0..labels.len()).flat_map(|i| [shade + i as u8; 3072]).collect()
    }

    fn npz(shade: u8, labels: &[i32], shape: &[usize], deflate: bool) -> Vec<u8> {
        let shape = [&[labels.len()], shape].concat();
        let numbers: Vec<u8> = labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
        let data = npy("|u1", false, &shape, &pixels(shade, labels));
        let members = [("data.npy", data), ("labels.npy", npy("<i8", false, &[labels.len()], &numbers))];
        zip(&members, deflate)
    }

    fn pickled(shade: u8, labels: &[i32]) -> Vec<u8> {
        let pixels = pixels(shade, labels);
        pickle(&[("data", Entry::Bytes(&pixels, [labels.len(), 3072])), ("labels", Entry::Labels(labels))])
    }

    /// The official files: batch k has the labels k and 1000, the validation batch 1, 2 and 3.
    fn official(ending: &str, deflate: bool) -> (Vec<Member>, Vec<Member>) {
        let batch = |shade, labels: &[i32]| match ending {
            "" => pickled(shade, labels),
            _ => npz(shade, labels, &[3072], deflate),
        };
        let train = (1..=10).map(|k: u8| (format!("train_data_batch_{k}{ending}"), batch(2 * k, &[k.into(), 1000])));
        (train.collect(), vec![(format!("val_data{ending}"), batch(100, &[1, 2, 3]))])
    }

    fn write(dir: &Path, members: &[Member]) {
        std::fs::create_dir_all(dir).unwrap();
        for (name, bytes) in members {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    fn check(path: &Path) {
        let set = open_spec(&DataSpec::Folder(path.into())).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((set.name.as_str(), set.train.len(), set.test.len()), ("imagenet32", 20, 3));
        assert_eq!((set.shape, set.class_names.len(), set.class_names[999].as_str()), (SHAPE, 1000, "999"));
        assert_eq!((set.train.label(0), set.train.label(18), set.train.label(19)), (0, 9, 999));
        assert_eq!(set.test.labels(), [0, 1, 2]);
        for i in 0..20 {
            assert_eq!(set.train.image(i), [i as u8 + 2; 3072]);
        }
        assert_eq!(set.test.image(2), [102; 3072]);
    }

    #[test]
    fn official_batches_are_read_from_folders_and_from_the_zips_as_downloaded() {
        for (ending, infix) in [(".npz", "_npz"), ("", "")] {
            let (train, val) = official(ending, false);
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            write(&at("together"), &[&train[..], &val].concat());
            write(&at("apart/Imagenet32_train"), &train);
            write(&at("apart/Imagenet32_val"), &val);
            for (deflate, folder) in [(false, "stored"), (true, "deflated")] {
                let names = ["train", "val"].map(|part| format!("Imagenet32_{part}{infix}.zip"));
                let archives = [zip(&train, deflate), zip(&val, deflate)];
                write(&at(folder), &names.into_iter().zip(archives).collect::<Vec<_>>());
            }
            let one = format!("stored/Imagenet32_train{infix}.zip");
            for place in ["together", "apart", "stored", "deflated", &one] {
                check(&at(place));
            }
        }
    }

    #[test]
    fn compressed_arrays_are_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let (train, val) = official(".npz", true);
        write(dir.path(), &[train, val].concat());
        check(dir.path());
    }

    #[test]
    fn the_layout_of_two_files_may_count_from_zero_or_one() {
        for (labels, shape) in [([0, 7, 999], &[3, 32, 32][..]), ([1, 8, 1000], &[3072])] {
            let dir = tempfile::tempdir().unwrap();
            let files = [("imagenet32_train.npz", &labels[..]), ("imagenet32_val.npz", &labels[1..2])];
            for (name, labels) in files {
                std::fs::write(dir.path().join(name), npz(5, labels, shape, false)).unwrap();
            }
            for path in [dir.path().to_path_buf(), dir.path().join("imagenet32_train.npz")] {
                let set = open_spec(&DataSpec::Folder(path)).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!((set.train.labels(), set.test.labels()), (&[0, 7, 999][..], &[7][..]));
                assert_eq!(set.train.image(2), [7; 3072]);
            }
            std::fs::write(dir.path().join("imagenet32_val.npz"), npz(5, &[0, 1000], shape, false)).unwrap();
            assert!(refusal(open(&Files::open(dir.path()).unwrap())).contains("labels 0 and 1000 both occur"));
        }
    }

    #[test]
    fn pixels_are_in_memory_once() {
        let dir = tempfile::tempdir().unwrap();
        let (train, val) = official("", false);
        write(dir.path(), &[train, val].concat());
        let files = Files::open(dir.path()).unwrap();
        // The bytes of a part are the range of the file that holds its pixels, not a copy.
        let part = read(&files, "train_data_batch_3", 1).unwrap();
        let whole = files.bytes("train_data_batch_3", MAX_BYTES).unwrap();
        let at = whole.windows(3072).position(|window| window == [6; 3072]).unwrap();
        assert_eq!(part.bytes[..], whole[at..at + 2 * 3072]);
        let zipped = zip(&[("train_data_batch_3.npz", npz(6, &[3, 4], &[3072], false))], false);
        let archive = crate::data::bytes::Bytes::from(zipped);
        let files = Files::archive(Path::new("train.zip"), archive.clone()).unwrap();
        let part = read(&files, "train_data_batch_3.npz", 1).unwrap();
        assert!(archive.as_ptr_range().contains(&part.bytes.as_ptr()), "a stored array of a stored file was copied");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (train, val) = official(".npz", false);
        write(dir.path(), &train);
        let message = refusal(open_spec(&DataSpec::Folder(dir.path().into())));
        assert!(message.contains("val_data: is missing") && message.contains("name that"), "{message}");
        write(dir.path(), &val);
        std::fs::remove_file(dir.path().join("train_data_batch_7.npz")).unwrap();
        assert!(refusal(open_spec(&DataSpec::Folder(dir.path().into()))).contains("train_data_batch_7: is missing"));
        for (labels, why) in
            [([0, 5], "label 0 for image 0, at byte 128, which is not in 1 to 1000"), ([1, 1001], "label 1001")]
        {
            std::fs::write(dir.path().join("train_data_batch_7.npz"), npz(9, &labels, &[3072], false)).unwrap();
            let message = refusal(open_spec(&DataSpec::Folder(dir.path().into())));
            assert!(message.contains("train_data_batch_7.npz/labels.npy: array \"labels\" holds"), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }
}
