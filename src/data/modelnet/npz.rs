//! Volumes of ModelNet that others made, from .npz files.

use super::{Kind, Source, listing};
use crate::data::arrays::count_classes;
use crate::data::files::Files;
use crate::data::npz::{MAX_BYTES, Npz};
use crate::data::numpy::Array;
use crate::data::official::{MODELNET_10, MODELNET_40};
use crate::data::voxel_file::Header;
use crate::data::voxels::{SIDE, VIEW_BYTES};
use crate::error::{Error, Result};

const VOXELS: usize = SIDE * SIDE * SIDE;

/// May a file of this name hold such volumes?
pub(super) fn is_one(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with(".npz") && name.contains("modelnet")
}

/// Files that do.
pub(super) fn names(files: &Files) -> impl Iterator<Item = &str> {
    files.names().filter(|name| !name.contains('/') && is_one(name))
}

/// The volumes in the files called `names`.
pub(super) fn source(files: &Files, names: &[&str]) -> Result<Source> {
    let one_of = |split: &str| {
        let mut found = names.iter().filter(|name| name.to_lowercase().contains(split));
        match (found.next(), found.next()) {
            (Some(name), None) => Ok(*name),
            (first, _) => {
                let count = if first.is_some() { "several .npz files" } else { "no .npz file" };
                let message =
                    format!("holds {count} with \"modelnet\" and {split:?} in its name; put one of each there");
                Err(Error::data(files.root(), message))
            }
        }
    };
    let (train_name, test_name) = (one_of("train")?, one_of("test")?);
    let (train, test) = (Part::read(files, train_name)?, Part::read(files, test_name)?);
    if train.views != test.views {
        let message = format!("holds {} views of each object, \"{train_name}\" {}", test.views, train.views);
        return Err(test.volumes.refuse(format!("{message}; use files made alike")));
    }
    let classes = count_classes(&train.labels_array, &train.labels)?;
    if let Some(i) = test.labels.iter().position(|&label| usize::from(label) >= classes) {
        let message = format!("holds label {} for volume {i}, of which {train_name:?} has none", test.labels[i]);
        return Err(test.labels_array.refuse(message));
    }
    let name = match classes {
        10 => "modelnet10".to_owned(),
        40 => "modelnet40".to_owned(),
        _ => "modelnet".to_owned(),
    };
    let header = Header {
        name,
        views: train.views,
        train: train.of_objects(),
        test: test.of_objects(),
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        source: listing(files, &[train_name.to_owned(), test_name.to_owned()]),
    };
    let volumes =
        Volumes { train: train.volumes, test: test.volumes, views: train.views, first_test: header.train.len() };
    Ok(Source { header, kind: Kind::Volumes(volumes) })
}

/// One of the files.
struct Part {
    volumes: Array,
    labels_array: Array,
    /// Of each entry of the array of labels.
    labels: Vec<u16>,
    views: usize,
    /// Labels per object.
    repeats: usize,
}

impl Part {
    fn read(files: &Files, name: &str) -> Result<Self> {
        let npz = Npz::parse(&files.path(name), &files.bytes(name, MAX_BYTES)?)?;
        let key = |ours: &'static str, others: &'static str| if npz.has(others) { others } else { ours };
        let volumes = npz.array(key("data", "features"))?;
        let labels_array = npz.array(key("labels", "targets"))?;
        let labels = labels_array.labels(0..=u16::MAX)?;
        let side = [SIDE; 3];
        let (views, repeats) = match volumes.shape[..] {
            // One view or all of them after each other.
            [n, x, y, z] | [n, 1, x, y, z] if [x, y, z] == side => {
                let views = rotations(n);
                (views, views)
            }
            [_, views @ 1..=360, x, y, z] if [x, y, z] == side => (views, 1),
            _ => {
                let shape = volumes.shape_text();
                return Err(volumes.refuse(format!(
                    "has shape {shape}; volumes of ModelNet are (N, views, 32, 32, 32) or (N, 32, 32, 32)"
                )));
            }
        };
        let count = volumes.shape.first().copied().unwrap_or(0);
        if count == 0 || count != labels.len() {
            let message = format!("holds {} labels, but there are {count} volumes", labels.len());
            return Err(labels_array.refuse(format!("{message}; store one per volume")));
        }
        let part = Self { volumes, labels_array, labels, views, repeats };
        if let Some(at) = part.labels.chunks(repeats).position(|of_object| of_object.iter().any(|&l| l != of_object[0]))
        {
            let message =
                format!("holds different labels for the {repeats} views of object {at}; store them after each other");
            return Err(part.labels_array.refuse(message));
        }
        Ok(part)
    }

    fn of_objects(&self) -> Vec<u16> {
        self.labels.iter().step_by(self.repeats).copied().collect()
    }
}

/// Views of each object among `n` volumes: where that makes the number of objects an official one, 24 or 12 after each
/// other, otherwise every volume is an object.
pub(super) fn rotations(n: usize) -> usize {
    let official = |objects: usize| {
        [MODELNET_10, MODELNET_40].iter().flat_map(|set| set.images).any(|images| images as usize == objects)
    };
    [24, 12].into_iter().find(|views| n.is_multiple_of(*views) && official(n / views)).unwrap_or(1)
}

/// All of them.
pub(super) struct Volumes {
    train: Array,
    test: Array,
    views: usize,
    /// Number of the first object of `test`.
    first_test: usize,
}

impl Volumes {
    /// Views of object `i`: from bytes `[view][x][y][z]` to bits `[view][z][y][x]`.
    pub fn object(&self, i: usize) -> Result<Vec<u8>> {
        let (array, i) = if i < self.first_test { (&self.train, i) } else { (&self.test, i - self.first_test) };
        let mut bits = vec![0; self.views * VIEW_BYTES];
        for view in 0..self.views {
            let first = (i * self.views + view) * VOXELS;
            for at in 0..VOXELS {
                let value = array.number(first + at);
                let (x, y, z) = (at / SIDE / SIDE, at / SIDE % SIDE, at % SIDE);
                if value == 1.0 {
                    bits[view * VIEW_BYTES + (z * SIDE + y) * SIDE / 8 + x / 8] |= 1 << (x % 8);
                } else if value != 0.0 {
                    let byte = array.byte(first + at);
                    let message = format!(
                        "holds {value} in view {view} of object {i}, at byte {byte}; voxels are 0 or 1, make them so"
                    );
                    return Err(array.refuse(message));
                }
            }
        }
        Ok(bits)
    }
}
