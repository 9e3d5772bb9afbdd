//! Single pictures, PNG or JPEG, as a network takes them: of its size, in grey or in colour.
//!
//! The largest middle part of the network's proportions (the middle square, where it takes squares) is resized.
//! Colours become grey by their luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), grey becomes three equal channels.

use std::path::{Path, PathBuf};

use crate::data::files::Files;
use crate::data::images::ImageShape;
use crate::data::{codecs, pictures, resize};
use crate::error::{Error, Result};

/// The pixels of the picture at `path`, brought to `shape`: its channels, each row by row.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Data`] when it is no regular file, damaged, neither PNG nor JPEG, or
/// `shape` is not that of pictures of one or three channels.
pub fn read(path: &Path, shape: ImageShape) -> Result<Vec<u8>> {
    let file = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !file.is_file() {
        // A pipe may never say anything, and a device may never end.
        return Err(Error::data(path, "is no regular file; name a PNG or JPEG file"));
    }
    let len = file.len();
    if len > codecs::MAX_BYTES {
        let message = format!("has {len} bytes, more than the {} of the largest picture read here", codecs::MAX_BYTES);
        return Err(Error::data(path, message));
    }
    if shape.depth != 1 || !matches!(shape.channels, 1 | 3) {
        let (channels, depth) = (shape.channels, shape.depth);
        let message =
            format!("is a picture; {channels} channels and {depth} slices, as wanted here, cannot be made of it");
        return Err(Error::data(path, message));
    }
    let (size, planes) = codecs::decode(path, &std::fs::read(path).map_err(Error::io("read", path))?)?;
    let planes = if size.channels == 3 && shape.channels == 1 { luma(&planes) } else { planes };
    let planes: Vec<&[u8]> = planes.chunks_exact(size.height * size.width).collect();
    let mut pixels = Vec::with_capacity(shape.pixels());
    for plane in planes.iter().cycle().take(shape.channels) {
        pixels.extend(resize::fit(plane, [size.height, size.width], [shape.height, shape.width]));
    }
    Ok(pixels)
}

/// The picture at `path`, or those in the folder there and in its folders, by their endings and in the order of their
/// names.
///
/// # Errors
/// [`Error::Io`] when there is nothing, [`Error::Data`] when a folder holds no pictures.
pub fn find(path: &Path) -> Result<Vec<PathBuf>> {
    if !std::fs::metadata(path).map_err(Error::io("read", path))?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let files = Files::open(path)?;
    let found: Vec<PathBuf> =
        files.names().filter(|name| pictures::is_picture(name)).map(|name| files.path(name)).collect();
    if found.is_empty() {
        return Err(Error::data(path, "holds no files that end in .png, .jpg or .jpeg; name another folder"));
    }
    Ok(found)
}

/// One grey plane of a red, a green and a blue one.
fn luma(planes: &[u8]) -> Vec<u8> {
    let [red, green, blue] = std::array::from_fn(|i| &planes[i * planes.len() / 3..][..planes.len() / 3]);
    let grey = |((&r, &g), &b): ((&u8, &u8), &u8)| {
        // Thousandths, rounded.
        ((299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b) + 500) / 1000) as u8
    };
    red.iter().zip(green).zip(blue).map(grey).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::png;

    fn file(dir: &Path, name: &str, (width, height): (usize, usize), pixels: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, png(width, height, pixels.len() / width / height, pixels)).unwrap();
        path
    }

    #[test]
    fn pictures_are_brought_to_the_channels_and_size_of_the_network() {
        let dir = tempfile::tempdir().unwrap();
        let grey = file(dir.path(), "grey.png", (3, 2), &[1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&grey, ImageShape::picture(1, 2, 3)).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&grey, ImageShape::picture(3, 2, 3)).unwrap(), [1, 2, 3, 4, 5, 6].repeat(3));
        assert_eq!(read(&grey, ImageShape::picture(1, 2, 1)).unwrap(), [2, 5], "the middle column");
        let colour = file(dir.path(), "colour.png", (1, 2), &[255, 0, 0, 10, 20, 30]);
        assert_eq!(read(&colour, ImageShape::picture(3, 2, 1)).unwrap(), [255, 10, 0, 20, 0, 30]);
        // 76.2 and 2.99 + 11.74 + 3.42.
        assert_eq!(read(&colour, ImageShape::picture(1, 2, 1)).unwrap(), [76, 18]);
    }

    #[test]
    fn folders_are_searched_through_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let pixel = |name: &str| file(dir.path(), name, (1, 1), &[0]);
        let expected = [pixel("a/2.JPEG"), pixel("a/b/1.png"), pixel("c.jpg")];
        std::fs::write(dir.path().join("a/notes.txt"), "no picture").unwrap();
        assert_eq!(find(dir.path()).unwrap(), expected);
        assert_eq!(find(&expected[1]).unwrap(), expected[1..2]);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        let message = find(&dir.path().join("empty")).unwrap_err().to_string();
        assert!(message.contains("empty: holds no files that end in .png, .jpg or .jpeg"), "{message}");
        assert!(matches!(find(&dir.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn what_is_no_picture_or_cannot_become_one_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "x.png", (1, 1), &[0]);
        let message = read(&path, ImageShape { depth: 4, ..ImageShape::picture(1, 4, 4) }).unwrap_err().to_string();
        assert!(message.contains("x.png: is a picture; 1 channels and 4 slices"), "{message}");
        std::fs::write(&path, "<html>").unwrap();
        let message = read(&path, ImageShape::picture(1, 4, 4)).unwrap_err().to_string();
        assert!(message.contains("x.png: is neither a PNG nor a JPEG"), "{message}");
        assert_eq!(read(&path, ImageShape::picture(1, 4, 4)).unwrap_err().exit_code(), 3);
        for other in [Path::new("/dev/null"), dir.path()] {
            let message = read(other, ImageShape::picture(1, 4, 4)).unwrap_err().to_string();
            assert_eq!(message, format!("{}: is no regular file; name a PNG or JPEG file", other.display()));
        }
    }
}
