//! Anybody's images as one .npz file: arrays `x` and `y`, or `x_train`, `y_train`, `x_test` and `y_test`.
//!
//! `x` holds pictures as (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3, or volumes as (N, D, H, W), (N, 1, D,
//! H, W) or (N, D, H, W, 1) of zeros and ones. Pixels are whole numbers from 0 to 255, or floats from 0 to 1 or
//! from 0 to 255: they are floats to 1 if none of the file is larger. `y` holds the class of each image, numbered from 0
//! without gaps. Without a test set, every fifth image of each class is one.
//!
//! Bytes with channels first stay in the file; anything else is converted once. Voxels become bits, x along the
//! bits of a byte from the lowest on, as those of ModelNet.

use std::path::Path;

use crate::data::files::Files;
use crate::data::images::{ImageShape, Images, Part};
use crate::data::npz::{MAX_BYTES, Npz};
use crate::data::numpy::{Array, Kind, U8};
use crate::data::split::every_fifth;
use crate::data::{Dataset, imagenet32};
use crate::error::{Error, Result};

/// Is there an .npz that is no other set's?
pub(super) fn holds(files: &Files) -> bool {
    candidates(files).next().is_some()
}

/// How large a file of this name may be, if it can be such a set.
pub(super) fn limit(name: &str) -> Option<u64> {
    is_candidate(name).then_some(MAX_BYTES)
}

fn candidates(files: &Files) -> impl Iterator<Item = &str> {
    files.names().filter(|name| !name.contains('/') && is_candidate(name))
}

fn is_candidate(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with(".npz") && imagenet32::limit(&name).is_none() && !name.contains("modelnet")
}

/// Opens the set among `files`.
pub(super) fn open(files: &Files) -> Result<Dataset> {
    let names: Vec<&str> = candidates(files).collect();
    let [name] = names[..] else {
        let message = format!("holds several .npz files ({}); name one of them", names.join(", "));
        return Err(Error::data(files.root(), message));
    };
    let (path, bytes) = (files.path(name), files.bytes(name, MAX_BYTES)?);
    let npz = Npz::parse(&path, &bytes)?;
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    read(&path, stem.unwrap_or_default(), &npz)
}

fn read(path: &Path, name: String, npz: &Npz) -> Result<Dataset> {
    let has_all = |names: &[&str]| names.iter().all(|name| npz.has(name));
    if has_all(&["x_train", "y_train", "x_test", "y_test"]) {
        let (x, y) = labelled(npz, "x_train", "y_train")?;
        let (x_test, y_test) = labelled(npz, "x_test", "y_test")?;
        let (layout, test_layout) = (Layout::of(&x)?, Layout::of(&x_test)?);
        if layout != test_layout {
            let (train, test) = (x.shape_text(), x_test.shape_text());
            return Err(x_test.refuse(format!("has shape {test}, but \"x_train\" has {train}; images must be alike")));
        }
        let classes = count_classes(&npz.array("y_train")?, &y)?;
        if let Some(i) = y_test.iter().position(|&label| usize::from(label) >= classes) {
            let message = format!("holds label {} for image {i}, of which \"y_train\" has no image", y_test[i]);
            return Err(npz.array("y_test")?.refuse(message));
        }
        let scale = Scale::of(&[&x, &x_test], layout)?;
        let (train, test) = (scale.images(x, layout, y)?, scale.images(x_test, layout, y_test)?);
        return Ok(dataset(name, train, test, layout.shape, classes));
    }
    if !has_all(&["x", "y"]) {
        let names: Vec<&str> = npz.names().take(20).collect();
        let message = format!(
            "holds the arrays {}; a data set has x and y, or x_train, y_train, x_test and y_test",
            names.join(", ")
        );
        return Err(Error::data(path, message));
    }
    let (x, y) = labelled(npz, "x", "y")?;
    let layout = Layout::of(&x)?;
    let classes = count_classes(&npz.array("y")?, &y)?;
    let scale = Scale::of(&[&x], layout)?;
    let (train, test) = every_fifth(&y);
    if test.is_empty() {
        return Err(x.refuse("has fewer than five images of every class, too few to take test images from"));
    }
    let part = |indices: &[usize]| scale.copies(&x, layout, indices, indices.iter().map(|&i| y[i]).collect());
    Ok(dataset(name, part(&train)?, part(&test)?, layout.shape, classes))
}

fn dataset(name: String, train: Images, test: Images, shape: ImageShape, classes: usize) -> Dataset {
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    Dataset { name, train, test, shape, views: 1, folds: Vec::new(), class_names }
}

/// Images, and the label of each.
fn labelled(npz: &Npz, x: &str, y: &str) -> Result<(Array, Vec<u16>)> {
    let (images, labels) = (npz.array(x)?, npz.array(y)?);
    let numbers = labels.labels(0..=u16::MAX)?;
    let count = images.shape.first().copied().unwrap_or(0);
    if count == 0 || count != numbers.len() {
        let message =
            format!("holds {} labels where {x:?} holds {count} images; store one label per image", numbers.len());
        return Err(labels.refuse(message));
    }
    Ok((images, numbers))
}

/// How many classes `labels` has, all of which must occur.
pub(super) fn count_classes(array: &Array, labels: &[u16]) -> Result<usize> {
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let mut seen = vec![false; classes];
    labels.iter().for_each(|&label| seen[usize::from(label)] = true);
    match seen.iter().position(|&seen| !seen) {
        Some(class) => Err(array.refuse(format!(
            "holds labels up to {}, but none of class {class}; number the classes from 0 without gaps",
            classes - 1
        ))),
        None => Ok(classes),
    }
}

/// What the dimensions of an array of images mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    shape: ImageShape,
    channels_last: bool,
}

impl Layout {
    fn of(x: &Array) -> Result<Self> {
        let volume = |depth, height, width| ImageShape { channels: 1, depth, height, width };
        let are_channels = |n: usize| n == 1 || n == 3;
        let (shape, channels_last) = match x.shape[1..] {
            [h, w] => (ImageShape::picture(1, h, w), false),
            [a, _, b] if are_channels(a) && are_channels(b) => {
                let message = "could have its channels first or last; store pictures larger than 3x3";
                return Err(x.refuse(format!("has shape {}, which {message}", x.shape_text())));
            }
            [c, h, w] if are_channels(c) => (ImageShape::picture(c, h, w), false),
            [h, w, c] if are_channels(c) => (ImageShape::picture(c, h, w), c > 1),
            [d, h, w] | [1, d, h, w] | [d, h, w, 1] => (volume(d, h, w), false),
            _ => {
                let message = "is not that of pictures, (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3, nor of \
                               volumes, (N, D, H, W)";
                return Err(x.refuse(format!("has shape {}, which {message}", x.shape_text())));
            }
        };
        if shape.pixels() == 0 || (shape.depth > 1 && !shape.width.is_multiple_of(8)) {
            let message = "images must not be empty, and the width of volumes must be a multiple of 8";
            return Err(x.refuse(format!("has shape {}; {message}", x.shape_text())));
        }
        Ok(Self { shape, channels_last })
    }

    /// Which element of an image is pixel `p` of channels, rows, columns.
    fn element(self, p: usize) -> usize {
        if !self.channels_last {
            return p;
        }
        let plane = self.shape.height * self.shape.width;
        p % plane * self.shape.channels + p / plane
    }
}

/// How the numbers of a file become bytes: by this factor.
#[derive(Clone, Copy, Debug)]
struct Scale(f64);

impl Scale {
    /// Looks at every number of `arrays`, which are scaled alike.
    fn of(arrays: &[&Array], layout: Layout) -> Result<Self> {
        let limit = if layout.shape.depth > 1 { 1.0 } else { 255.0 };
        let mut largest: f64 = 0.0;
        // Bytes are pixels whatever they are.
        for x in arrays.iter().filter(|x| x.dtype != U8 || limit < 255.0) {
            largest = largest.max(largest_of(x, limit)?);
        }
        let to_one = arrays.iter().all(|x| matches!(x.dtype.kind, Kind::Float | Kind::Bool)) && largest <= 1.0;
        Ok(Self(if to_one { 255.0 } else { 1.0 }))
    }

    /// All images of `x`, in the file if they lie there as they are wanted.
    fn images(self, x: Array, layout: Layout, labels: Vec<u16>) -> Result<Images> {
        if x.dtype == U8 && layout.shape.depth == 1 && !layout.channels_last {
            let stride = layout.shape.pixels();
            return Ok(Images::join(vec![Part { bytes: x.bytes, offset: 0, stride, labels }], stride));
        }
        let all: Vec<usize> = (0..labels.len()).collect();
        self.copies(&x, layout, &all, labels)
    }

    /// The images of these numbers, copied.
    fn copies(self, x: &Array, layout: Layout, indices: &[usize], labels: Vec<u16>) -> Result<Images> {
        let (pixels, volume) = (layout.shape.pixels(), layout.shape.depth > 1);
        let stride = if volume { pixels / 8 } else { pixels };
        let mut bytes: Vec<u8> = Vec::with_capacity(indices.len() * stride);
        for &i in indices {
            let value = |p: usize| x.number(i * pixels + layout.element(p));
            let eight = |b: usize| (0..8).fold(0, |byte, bit| byte | u8::from(value(8 * b + bit) != 0.0) << bit);
            if volume {
                bytes.extend((0..stride).map(eight));
            } else {
                bytes.extend((0..stride).map(|p| (value(p) * self.0).round() as u8));
            }
        }
        Ok(Images::join(vec![Part { bytes: bytes.into(), offset: 0, stride, labels }], stride))
    }
}

/// The largest number of `x`, none of which may be below 0 or above `limit`; voxels are only 0 or 1.
fn largest_of(x: &Array, limit: f64) -> Result<f64> {
    let mut largest: f64 = 0.0;
    for i in 0..x.len() {
        let value = x.number(i);
        // Written so that NaN does not pass.
        let allowed = value >= 0.0 && value <= limit && (limit > 1.0 || value.fract() == 0.0);
        if !allowed {
            let range = if limit > 1.0 {
                "pixels are 0 to 255, or floats 0 to 1; scale the array"
            } else {
                "voxels are 0 or 1; make them so"
            };
            let (place, byte) = (index_text(x, i), x.byte(i));
            return Err(x.refuse(format!("holds {value} at index {place}, byte {byte}; {range}")));
        }
        largest = largest.max(value);
    }
    Ok(largest)
}

/// `(2, 0, 5)`, the place of element `i`.
fn index_text(x: &Array, mut i: usize) -> String {
    let mut place: Vec<String> = Vec::new();
    for &dim in x.shape.iter().rev() {
        place.push((i % dim).to_string());
        i /= dim;
    }
    place.reverse();
    format!("({})", place.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bytes::Bytes;
    use crate::data::testarrays::npy;
    use crate::data::testdata::{refusal, zip};
    use crate::data::{DataSpec, open as open_spec};

    type Member<'a> = (&'a str, Vec<u8>);

    fn bytes(shape: &[usize], values: &[u8]) -> Vec<u8> {
        npy("|u1", false, shape, values)
    }

    fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
        npy("<f4", false, shape, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn labels(values: &[i64]) -> Vec<u8> {
        npy("<i8", false, &[values.len()], &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn open_npz(members: &[Member]) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.npz");
        let members: Vec<_> = members.iter().map(|(name, bytes)| (format!("{name}.npy"), bytes)).collect();
        std::fs::write(&path, zip(&members, true)).unwrap();
        open_spec(&DataSpec::Folder(path))
    }

    /// Two training images of the classes 0 and 1, and a test image of class 1.
    fn with_test(train: Vec<u8>, test: Vec<u8>) -> Result<Dataset> {
        open_npz(&[("x_train", train), ("y_train", labels(&[0, 1])), ("x_test", test), ("y_test", labels(&[1]))])
    }

    #[test]
    fn four_arrays_are_training_and_test() {
        let set = with_test(bytes(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), bytes(&[1, 2, 3], &[50; 6]));
        let set = set.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((set.name.as_str(), set.shape), ("mine", ImageShape::picture(1, 2, 3)));
        assert_eq!((set.train.image(1), set.train.labels()), (&[7, 8, 9, 10, 11, 12][..], &[0, 1][..]));
        assert_eq!((set.test.image(0), set.test.labels(), set.class_names.len()), (&[50; 6][..], &[1][..], 2));
    }

    #[test]
    fn bytes_with_channels_first_stay_in_the_file() {
        let shape = Layout { shape: ImageShape::picture(3, 4, 4), channels_last: false };
        let file = Bytes::from(bytes(&[2, 3, 4, 4], &[9; 96]));
        let x = crate::data::npy::parse(Path::new("x.npy"), "x", &file).unwrap();
        let images = Scale(1.0).images(x, shape, vec![0, 1]).unwrap();
        assert!(file.as_ptr_range().contains(&images.image(0).as_ptr()));
    }

    #[test]
    fn every_fifth_image_of_a_class_is_for_test_if_there_are_no_test_arrays() {
        let pixels: Vec<u8> = (0..11).flat_map(|i| [i; 25]).collect();
        let y = labels(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1]);
        let set = open_npz(&[("x", bytes(&[11, 5, 5], &pixels)), ("y", y)]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((set.train.len(), set.test.len(), set.test.labels()), (9, 2, &[0, 1][..]));
        assert_eq!((set.test.image(0), set.test.image(1)), (&[8; 25][..], &[9; 25][..]));
        assert_eq!((set.train.image(8), set.train.label(8)), (&[10; 25][..], 1));
    }

    #[test]
    fn channels_may_be_last_or_first_and_one_channel_is_grey() {
        let last: Vec<u8> = (0..2 * 4 * 5).flat_map(|p| [p, 100 + p, 200 + p]).collect();
        let set = with_test(bytes(&[2, 4, 5, 3], &last), bytes(&[1, 4, 5, 3], &last[..60])).unwrap();
        assert_eq!(set.shape, ImageShape::picture(3, 4, 5));
        let planes: Vec<u8> = (20..40).chain(120..140).chain(220..240).collect();
        assert_eq!(set.train.image(1), planes);
        let first: Vec<u8> = (0..120).collect();
        let set = with_test(bytes(&[2, 3, 4, 5], &first), bytes(&[1, 3, 4, 5], &first[..60])).unwrap();
        assert_eq!((set.shape, set.train.image(1)), (ImageShape::picture(3, 4, 5), &first[60..]));
        for grey in [[2, 1, 4, 5], [2, 4, 5, 1]] {
            let test = [&[1], &grey[1..]].concat();
            let set = with_test(bytes(&grey, &first[..40]), bytes(&test, &first[..20])).unwrap();
            assert_eq!((set.shape, set.train.image(1)), (ImageShape::picture(1, 4, 5), &first[20..40]));
        }
    }

    #[test]
    fn floats_are_to_one_or_to_255_in_the_whole_file() {
        let (low, high) = ([0.0, 0.2, 0.5, 1.0], [0.0, 1.0, 127.5, 255.0]);
        let x = |values: &[f32]| floats(&[values.len() / 4, 2, 2], values);
        let set = with_test(x(&[low, low].concat()), x(&low)).unwrap();
        assert_eq!((set.train.image(1), set.test.image(0)), (&[0, 51, 128, 255][..], &[0, 51, 128, 255][..]));
        let set = with_test(x(&[low, low].concat()), x(&high)).unwrap();
        assert_eq!((set.train.image(1), set.test.image(0)), (&[0, 0, 1, 1][..], &[0, 1, 128, 255][..]));
        let truth = |count: usize| npy("|b1", false, &[count, 2, 2], &[0, 1, 1, 0].repeat(count));
        assert_eq!(with_test(truth(2), truth(1)).unwrap().train.image(0), [0, 255, 255, 0]);
    }

    #[test]
    fn volumes_become_bits() {
        let mut voxels = vec![0u8; 2 * 2 * 3 * 8];
        for i in [0, 7, 8 + 1, 48 + 47] {
            voxels[i] = 1;
        }
        for shape in [&[2, 2, 3, 8][..], &[2, 1, 2, 3, 8], &[2, 2, 3, 8, 1]] {
            let test = [&[1], &shape[1..]].concat();
            let set = with_test(bytes(shape, &voxels), bytes(&test, &voxels[48..])).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(set.shape, ImageShape { channels: 1, depth: 2, height: 3, width: 8 });
            assert_eq!(set.train.image(0), [0x81, 2, 0, 0, 0, 0]);
            assert_eq!(set.test.image(0), [0, 0, 0, 0, 0, 0x80]);
        }
        voxels[5] = 2;
        let message = refusal(with_test(bytes(&[2, 2, 3, 8], &voxels), bytes(&[1, 2, 3, 8], &voxels[48..])));
        assert!(message.contains("holds 2 at index (0, 0, 0, 5), byte 133; voxels are 0 or 1"), "{message}");
    }

    #[test]
    fn pixels_that_are_none_are_named_with_their_place() {
        for (bad, why) in [(f32::NAN, "NaN"), (-0.5, "-0.5"), (256.0, "256"), (f32::INFINITY, "inf")] {
            let mut values = [0.5; 24];
            values[17] = bad;
            let message = refusal(with_test(floats(&[2, 3, 4], &values), floats(&[1, 3, 4], &[0.0; 12])));
            let place = format!("x_train.npy: array \"x_train\" holds {why} at index (1, 1, 1), byte 196; pixels are");
            assert!(message.contains(&place), "{message}");
        }
    }

    #[test]
    fn arrays_that_make_no_data_set_are_refused() {
        let x = |shape: &[usize]| bytes(shape, &vec![0; shape.iter().product()]);
        let y = labels(&[0, 1, 0, 1, 0, 1]);
        for (members, why) in [
            (vec![("a", x(&[1])), ("y", y.clone())], "holds the arrays a, y; a data set has x and y, or x_train"),
            (vec![("x", x(&[5, 4, 4])), ("y", y.clone())], "holds 6 labels where \"x\" holds 5 images"),
            (vec![("x", x(&[0, 4, 4])), ("y", labels(&[]))], "holds 0 labels where \"x\" holds 0 images"),
            (vec![("x", x(&[])), ("y", labels(&[]))], "where \"x\" holds 0 images"),
            (vec![("x", x(&[6, 16])), ("y", y.clone())], "has shape (6, 16), which is not that of pictures"),
            (vec![("x", x(&[6, 3, 5, 3])), ("y", y.clone())], "could have its channels first or last"),
            (vec![("x", x(&[6, 4, 4, 4])), ("y", y.clone())], "the width of volumes must be a multiple of 8"),
            (vec![("x", x(&[6, 0, 4])), ("y", y.clone())], "has shape (6, 0, 4); images must not be empty"),
            (vec![("x", x(&[6, 4, 4])), ("y", y.clone())], "fewer than five images of every class"),
            (
                vec![("x", x(&[2, 4, 4])), ("y", labels(&[0, -1]))],
                "label -1 for image 1, at byte 136, which is not in 0",
            ),
            (vec![("x", x(&[2, 4, 4])), ("y", labels(&[0, 65536]))], "label 65536 for image 1"),
            (vec![("x", x(&[2, 4, 4])), ("y", labels(&[0, 2]))], "labels up to 2, but none of class 1"),
            (vec![("x", x(&[2, 4, 4])), ("y", labels(&[1, 2]))], "labels up to 2, but none of class 0"),
        ] {
            let message = refusal(open_npz(&members));
            assert!(message.contains(why), "{why}: {message}");
        }
        let message = refusal(with_test(x(&[2, 4, 4]), x(&[1, 4, 5])));
        assert!(message.contains("has shape (1, 4, 5), but \"x_train\" has (2, 4, 4)"), "{message}");
        let unseen = [
            ("x_train", x(&[1, 4, 4])),
            ("y_train", labels(&[0])),
            ("x_test", x(&[1, 4, 4])),
            ("y_test", labels(&[1])),
        ];
        let message = refusal(open_npz(&unseen));
        assert!(message.contains("y_test.npy: array \"y_test\" holds label 1 for image 0, of which"), "{message}");
    }

    #[test]
    fn one_of_several_files_has_to_be_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.npz", "b.npz"] {
            std::fs::write(dir.path().join(name), [0]).unwrap();
        }
        let message = refusal(open_spec(&DataSpec::Folder(dir.path().into())));
        assert!(message.contains("holds several .npz files (a.npz, b.npz); name one of them"), "{message}");
    }
}
