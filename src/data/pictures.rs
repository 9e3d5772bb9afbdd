//! Anybody's pictures: a folder per class with PNG and JPEG files in it.
//!
//! CLASS/x.png, or train/CLASS/x.png with test/CLASS/y.png (val/ if there is no test/). Classes are numbered in the
//! order of their names. Without a test folder, every fifth picture of each class, sorted by name, is for test.
//! All pictures must have one size, unless they are to be brought to one: then the middle square of each is resized.
//! One picture in colour makes all of them pictures in colour.
//!
//! Files are decoded once, by all threads of the machine; other files in the folders are left alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::data::bytes;
use crate::data::codecs::{self, Size};
use crate::data::files::Files;
use crate::data::images::{ImageShape, Images};
use crate::data::split::every_fifth;
use crate::data::{Dataset, resize};
use crate::error::{Error, Result};

/// Where test pictures may lie, in the order of preference.
const TEST_FOLDERS: [&str; 2] = ["test/", "val/"];

/// Names of the pictures of each class, both in order.
type Classes<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// A picture to read.
#[derive(Clone, Copy)]
struct Item<'a> {
    name: &'a str,
    label: u16,
}

/// Are there pictures of at least two classes?
pub(super) fn holds(files: &Files) -> bool {
    ["train/", ""].iter().any(|prefix| classes(files, prefix).len() > 1)
}

/// How large a file of this name may be, if it is a picture.
pub(super) fn limit(name: &str) -> Option<u64> {
    is_picture(name).then_some(codecs::MAX_BYTES)
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

pub(super) fn is_picture(name: &str) -> bool {
    has_ending(name, &["png", "jpg", "jpeg"])
}

/// The pictures in the folders of the folder `prefix`.
fn classes<'a>(files: &'a Files, prefix: &str) -> Classes<'a> {
    let mut classes = Classes::new();
    for name in files.names() {
        let parts = name.strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
        if let Some((class, base)) = parts
            && !base.contains('/')
            && is_picture(base)
        {
            classes.entry(class).or_default().push(name);
        }
    }
    classes
}

/// Opens the set among `files`; `image_size` is the height and width to bring pictures to.
pub(super) fn open(files: &Files, image_size: Option<usize>) -> Result<Dataset> {
    let split = classes(files, "train/");
    let (train, test) = if split.is_empty() {
        (classes(files, ""), Classes::new())
    } else {
        let tests = TEST_FOLDERS.map(|folder| classes(files, folder));
        (split, tests.into_iter().find(|classes| !classes.is_empty()).unwrap_or_default())
    };
    refuse_other_pictures(files)?;
    let class_names: Vec<&str> = train.keys().copied().collect();
    if u16::try_from(class_names.len()).is_err() {
        let message = format!("holds {} folders of pictures, more classes than can be told apart", class_names.len());
        return Err(Error::data(files.root(), message));
    }
    let mut train = items(files, &train, &class_names)?;
    let mut test = items(files, &test, &class_names)?;
    if test.is_empty() {
        let labels: Vec<u16> = train.iter().map(|item| item.label).collect();
        let (for_train, for_test) = every_fifth(&labels);
        test = for_test.iter().map(|&i| train[i]).collect();
        train = for_train.iter().map(|&i| train[i]).collect();
    }
    if test.is_empty() {
        let message = "has fewer than five pictures of every class, too few to take test pictures from; put some into a \
                       folder test beside train";
        return Err(Error::data(files.root(), message));
    }
    let shape = common_shape(files, train.iter().chain(&test), image_size)?;
    let name = files.root().file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Dataset {
        name: name.unwrap_or_else(|| "pictures".to_owned()),
        train: decode_all(files, &train, shape)?,
        test: decode_all(files, &test, shape)?,
        shape,
        views: 1,
        folds: Vec::new(),
        class_names: class_names.into_iter().map(str::to_owned).collect(),
    })
}

/// Pictures that no decoder here reads would be missing without a word.
fn refuse_other_pictures(files: &Files) -> Result<()> {
    match files.names().find(|name| has_ending(name, &["bmp", "gif", "tif", "tiff", "webp"])) {
        Some(name) => Err(Error::data(files.path(name), "is a picture, but no PNG or JPEG; convert or remove it")),
        None => Ok(()),
    }
}

/// All pictures of `classes`, numbered by their place in `class_names`.
fn items<'a>(files: &Files, classes: &Classes<'a>, class_names: &[&str]) -> Result<Vec<Item<'a>>> {
    let mut items = Vec::new();
    for (class, names) in classes {
        let Ok(label) = class_names.binary_search(class) else {
            let message =
                format!("is of class {class}, of which there are no pictures for training; add some, or remove it");
            return Err(Error::data(files.path(names[0]), message));
        };
        items.extend(names.iter().map(|name| Item { name, label: label as u16 }));
    }
    Ok(items)
}

/// The shape that all pictures have, or will have.
fn common_shape<'a>(
    files: &Files,
    items: impl Iterator<Item = &'a Item<'a>>,
    image_size: Option<usize>,
) -> Result<ImageShape> {
    let mut first: Option<(PathBuf, Size)> = None;
    let mut channels = 1;
    for item in items {
        let path = files.path(item.name);
        let size = codecs::size(&path, &files.bytes(item.name, codecs::MAX_BYTES)?)?;
        channels = channels.max(size.channels);
        let (first_path, first_size) = first.get_or_insert_with(|| (path.clone(), size));
        if image_size.is_none() && (size.width, size.height) != (first_size.width, first_size.height) {
            let message = format!(
                "is of {}x{} pixels, but {} of {}x{}; bring all pictures to one size, or give --image-size N",
                size.width,
                size.height,
                first_path.display(),
                first_size.width,
                first_size.height
            );
            return Err(Error::data(path, message));
        }
    }
    let (height, width) = match (image_size, first) {
        (Some(n), _) => (n, n),
        (None, Some((_, size))) => (size.height, size.width),
        (None, None) => return Err(Error::data(files.root(), "holds no pictures")),
    };
    Ok(ImageShape::picture(channels, height, width))
}

/// Decodes `items`, brought to `shape`.
fn decode_all(files: &Files, items: &[Item], shape: ImageShape) -> Result<Images> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let per_thread = items.len().div_ceil(threads).max(1);
    let mut pixels = bytes::room(&files.root(), items.len() * shape.pixels())?;
    pixels.resize(items.len() * shape.pixels(), 0);
    std::thread::scope(|scope| {
        let of_thread = |(items, pixels): (&'_ [Item<'_>], &'_ mut [u8])| {
            let mut pairs = items.iter().zip(pixels.chunks_exact_mut(shape.pixels()));
            pairs.try_for_each(|(item, pixels)| decode(files, item, shape, pixels))
        };
        let parts = items.chunks(per_thread).zip(pixels.chunks_mut(per_thread * shape.pixels()));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || of_thread(part))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Images::from_pixels(pixels, items.iter().map(|item| item.label).collect(), shape)
}

/// Decodes one picture to where its pixels belong.
fn decode(files: &Files, item: &Item, shape: ImageShape, pixels: &mut [u8]) -> Result<()> {
    let (size, planes) = codecs::decode(&files.path(item.name), &files.bytes(item.name, codecs::MAX_BYTES)?)?;
    let same = (size.height, size.width) == (shape.height, shape.width);
    if !same && shape.height != shape.width {
        return Err(Error::data(files.path(item.name), "has another size than a moment ago; leave the files alone"));
    }
    let planes: Vec<&[u8]> = planes.chunks_exact(size.width * size.height).collect();
    let targets = pixels.chunks_exact_mut(shape.height * shape.width);
    // A grey picture among coloured ones has three equal channels.
    for (target, plane) in targets.zip(planes.iter().cycle()) {
        if same {
            target.copy_from_slice(plane);
        } else {
            target.copy_from_slice(&resize::square(plane, size.height, size.width, shape.height));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::testdata::{gz, png, refusal, tar};
    use crate::data::{DataSpec, Options, open_with};

    /// Writes a grey picture of this shade, or a coloured one.
    fn write(dir: &Path, name: &str, (width, height): (usize, usize), shade: &[u8]) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, png(width, height, shade.len(), &shade.repeat(width * height))).unwrap();
    }

    fn open_in(path: &Path, image_size: Option<usize>) -> Result<Dataset> {
        open_with(&DataSpec::Folder(path.into()), Options { image_size, ..Options::default() })
    }

    #[test]
    fn folders_are_classes_and_every_fifth_picture_is_for_test() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..11u8 {
            write(dir.path(), &format!("cats/{i:02}.png"), (3, 2), &[i]);
        }
        for i in 0..4u8 {
            write(dir.path(), &format!("ants/{i}.PNG"), (3, 2), &[100 + i]);
        }
        std::fs::write(dir.path().join("cats/readme.txt"), "not a picture").unwrap();
        std::fs::write(dir.path().join("other.png"), "not in a class").unwrap();
        let set = open_in(dir.path(), None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (set.shape, &set.class_names[..]),
            (ImageShape::picture(1, 2, 3), &["ants".into(), "cats".into()][..])
        );
        assert_eq!((set.train.len(), set.train.labels()), (13, &[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1][..]));
        assert_eq!((set.test.image(0), set.test.image(1), set.test.labels()), (&[4; 6][..], &[9; 6][..], &[1, 1][..]));
        let shades: Vec<u8> = (0..13).map(|i| set.train.image(i)[5]).collect();
        assert_eq!(shades, [100, 101, 102, 103, 0, 1, 2, 3, 5, 6, 7, 8, 10]);
    }

    #[test]
    fn train_and_test_folders_are_obeyed_in_folders_and_archives() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("mine");
        for (name, shade) in [
            ("train/a/1.png", 1),
            ("train/b/1.png", 2),
            ("train/b/2.png", 3),
            ("val/a/1.png", 4),
            ("test/b/1.png", 5),
            ("test/b/deeper/1.png", 6),
        ] {
            write(&root, name, (2, 2), &[shade]);
        }
        let files = Files::open(&root).unwrap();
        let members: Vec<_> =
            files.names().map(|name| (format!("mine/{name}"), files.bytes(name, 1 << 20).unwrap().to_vec())).collect();
        std::fs::write(dir.path().join("mine.tar.gz"), gz(&tar(&members))).unwrap();
        for place in ["mine", "mine.tar.gz"] {
            let set = open_in(&dir.path().join(place), None).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((set.name.as_str(), set.train.labels(), set.test.labels()), ("mine", &[0, 1, 1][..], &[1][..]));
            assert_eq!((set.train.image(2), set.test.image(0)), (&[3; 4][..], &[5; 4][..]));
        }
        std::fs::remove_dir_all(root.join("test")).unwrap();
        assert_eq!(open_in(&root, None).unwrap().test.image(0), [4; 4]);
        write(&root, "val/c/1.png", (2, 2), &[7]);
        let message = refusal(open_in(&root, None));
        assert!(
            message.contains("val/c/1.png: is of class c, of which there are no pictures for training"),
            "{message}"
        );
    }

    #[test]
    fn one_coloured_picture_makes_all_of_them_coloured() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train/a/1.png", (2, 1), &[9]);
        write(dir.path(), "train/b/1.png", (2, 1), &[1, 2, 3]);
        write(dir.path(), "test/a/1.png", (2, 1), &[4]);
        let set = open_in(dir.path(), None).unwrap();
        assert_eq!(set.shape, ImageShape::picture(3, 1, 2));
        assert_eq!((set.train.image(0), set.train.image(1)), (&[9; 6][..], &[1, 1, 2, 2, 3, 3][..]));
    }

    #[test]
    fn pictures_of_several_sizes_are_named_or_brought_to_one() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train/a/1.png", (4, 4), &[1]);
        write(dir.path(), "train/b/1.png", (4, 5), &[2]);
        write(dir.path(), "test/b/1.png", (9, 6), &[3]);
        let message = refusal(open_in(dir.path(), None));
        assert!(message.contains("train/b/1.png: is of 4x5 pixels, but ") && message.contains("/train/a/1.png of 4x4"));
        assert!(message.contains("bring all pictures to one size, or give --image-size N"), "{message}");
        let set = open_in(dir.path(), Some(3)).unwrap();
        assert_eq!(
            (set.shape, set.train.image(1), set.test.image(0)),
            (ImageShape::picture(1, 3, 3), &[2; 9][..], &[3; 9][..])
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/1.png", (2, 2), &[1]);
        write(dir.path(), "b/1.png", (2, 2), &[1]);
        assert!(refusal(open_in(dir.path(), None)).contains("fewer than five pictures of every class"));
        std::fs::write(dir.path().join("b/2.gif"), "GIF89a").unwrap();
        assert!(refusal(open_in(dir.path(), None)).contains("b/2.gif: is a picture, but no PNG or JPEG"));
        std::fs::remove_file(dir.path().join("b/2.gif")).unwrap();
        for i in 2..6 {
            write(dir.path(), &format!("b/{i}.png"), (2, 2), &[1]);
        }
        open_in(dir.path(), None).unwrap_or_else(|e| panic!("{e}"));
        let broken = std::fs::read(dir.path().join("b/3.png")).unwrap();
        std::fs::write(dir.path().join("b/3.png"), &broken[..broken.len() - 20]).unwrap();
        assert!(refusal(open_in(dir.path(), None)).contains("b/3.png: bad PNG"));
        std::fs::write(dir.path().join("b/3.png"), "<html>").unwrap();
        assert!(refusal(open_in(dir.path(), None)).contains("b/3.png: is neither a PNG nor a JPEG"));
    }
}
