//! conv3d by the definition, and volumes gathered from bits.

use super::{Case, Of, Seen, input, parameter};
use crate::backend::cpu::Filter;
use crate::bench::spec::Spec;
use crate::data::augment::Placement;
use crate::data::{ImageShape, Images};
use crate::error::Result;
use crate::nas::cost::taps_inside;
use crate::ops::conv2d::Output;
use crate::ops::conv3d::{Conv3d, conv3d};
use crate::ops::volume_gather::{VolumeGather, volume_gather};
use crate::tensor::Shape;

/// Taps of a filter along each axis.
const KERNEL: usize = 3;
/// Volumes of the data set that batches are gathered from.
const VOLUMES: usize = 100;

pub(super) fn case(spec: &Spec) -> Result<Option<Case>> {
    match *spec {
        Spec::Conv3d { c, k, dilation, groups, size, n } => conv3d_case(c, k, dilation, groups, size, n).map(Some),
        Spec::VolumeGather { views, size, n } => volume_gather_case(views, size, n).map(Some),
        _ => Ok(None),
    }
}

fn volume(c: usize, [d, h, w]: [usize; 3], n: usize) -> Shape {
    Shape::new(c, h, w, n).with_depth(d)
}

/// Channel, slice, row, column and image of an element.
fn place(shape: Shape, index: usize) -> [usize; 5] {
    let (voxel, n) = (index / shape.n, index % shape.n);
    let (row, w) = (voxel / shape.w, voxel % shape.w);
    let (slice, h) = (row / shape.h, row % shape.h);
    [slice / shape.d, slice % shape.d, h, w, n]
}

/// The element at a place.
fn index(shape: Shape, [c, d, h, w, n]: [usize; 5]) -> usize {
    (((c * shape.d + d) * shape.h + h) * shape.w + w) * shape.n + n
}

/// A convolution as sums. Operands: x, the filter [K, C/G, 3, 3, 3].
#[derive(Clone, Copy)]
struct Definition {
    x: Shape,
    y: Shape,
    groups: usize,
    dilation: [usize; 3],
}

impl Definition {
    /// Channels of a group: read, and produced.
    fn group(self) -> [usize; 2] {
        [self.x.c / self.groups, self.y.c / self.groups]
    }

    fn weight(self, k: usize, c: usize, tap: [usize; 3]) -> usize {
        let [t, r, s] = tap;
        (((k * self.group()[0] + c) * KERNEL + t) * KERNEL + r) * KERNEL + s
    }

    /// What `tap` sees from a voxel if that lies inside; or, `mirrored`, from where it sees the voxel.
    fn seen_by(self, tap: [usize; 3], from: [usize; 3], mirrored: bool) -> Option<[usize; 3]> {
        let extent = [self.x.d, self.x.h, self.x.w];
        let along = |axis: usize| {
            let away = (tap[axis] as isize - (KERNEL / 2) as isize) * self.dilation[axis] as isize;
            from[axis].checked_add_signed(if mirrored { -away } else { away }).filter(|&at| at < extent[axis])
        };
        Some([along(0)?, along(1)?, along(2)?])
    }

    fn taps(self, from: [usize; 3], mirrored: bool) -> impl Iterator<Item = ([usize; 3], [usize; 3])> {
        let taps = (0..KERNEL.pow(3)).map(|i| [i / KERNEL / KERNEL, i / KERNEL % KERNEL, i % KERNEL]);
        taps.filter_map(move |tap| Some((tap, self.seen_by(tap, from, mirrored)?)))
    }

    fn element(self, seen: &Seen<'_>, of: Of, at: usize) -> f64 {
        let [c_len, k_len] = self.group();
        let g = |place| f64::from(seen.gy[index(self.y, place)]);
        match of {
            Of::Result => {
                let [k, d, h, w, n] = place(self.y, at);
                let term = |tap, [d, h, w]: [usize; 3], c| {
                    seen.at(1, self.weight(k, c, tap)) * seen.at(0, index(self.x, [k / k_len * c_len + c, d, h, w, n]))
                };
                let tap = |(tap, from)| (0..c_len).map(|c| term(tap, from, c)).sum::<f64>();
                self.taps([d, h, w], false).map(tap).sum()
            }
            Of::Gradient(0) => {
                let [c, d, h, w, n] = place(self.x, at);
                let first = c / c_len * k_len;
                let term =
                    |tap, [d, h, w]: [usize; 3], k| seen.at(1, self.weight(k, c % c_len, tap)) * g([k, d, h, w, n]);
                let tap = |(tap, from)| (first..first + k_len).map(|k| term(tap, from, k)).sum::<f64>();
                self.taps([d, h, w], true).map(tap).sum()
            }
            Of::Gradient(_) => {
                let (pair, tap) = (at / KERNEL.pow(3), at % KERNEL.pow(3));
                let (k, c) = (pair / c_len, pair % c_len);
                let tap = [tap / KERNEL / KERNEL, tap / KERNEL % KERNEL, tap % KERNEL];
                let c = k / k_len * c_len + c;
                let voxels = (0..self.x.d * self.x.h * self.x.w)
                    .map(|i| [i / self.x.w / self.x.h, i / self.x.w % self.x.h, i % self.x.w]);
                let seen_from = |from: [usize; 3]| Some((from, self.seen_by(tap, from, false)?));
                let term = |([d, h, w], [p, q, r]): ([usize; 3], [usize; 3])| {
                    (0..self.x.n).map(|n| g([k, d, h, w, n]) * seen.at(0, index(self.x, [c, p, q, r, n]))).sum::<f64>()
                };
                voxels.filter_map(seen_from).map(term).sum()
            }
        }
    }
}

fn conv3d_case(c: usize, k: usize, dilation: [usize; 3], groups: usize, size: [usize; 3], n: usize) -> Result<Case> {
    let filter = Filter::whole(k, c / groups, [KERNEL * KERNEL, KERNEL], groups);
    let (x, y) = (volume(c, size, n), volume(k, size, n));
    let definition = Definition { x, y, groups, dilation };
    let config = Conv3d { filter, layers: KERNEL, dilation, slope: None, output: Output::New };
    let taps = KERNEL.pow(3);
    let case = Case::new(
        vec![input(x), parameter(filter.len())],
        c / groups * taps,
        move |tape, v| conv3d(tape, v[0], v[1], None, config),
        move |seen, of, at| definition.element(seen, of, at),
    )?;
    let inside = taps_inside([KERNEL; 3], dilation, size, [1; 3]) as usize * n;
    Ok(case
        .backward("backward_data", [(0, k / groups * taps)], [1], false)
        .backward("backward_weight", [(1, x.plane())], [0], false)
        .flop(2 * filter.len() * x.plane(), 2 * filter.len() / taps * inside))
}

fn volume_gather_case(views: usize, size: [usize; 3], n: usize) -> Result<Case> {
    let gather = VolumeGather { size, views };
    let bytes = views * size.iter().product::<usize>() / 8;
    let byte = |i: usize| ((i * 7919) >> 3) as u8;
    // As many pictures of as many pixels as a volume has bytes.
    let shape = ImageShape::picture(1, 1, bytes);
    let set = Images::from_pixels((0..VOLUMES * bytes).map(byte).collect(), vec![0; VOLUMES], shape)?;
    let volumes: Vec<u32> = (0..n).map(|i| (i * 19 % VOLUMES) as u32).collect();
    let placement = Placement { view: views as u16 - 1, dz: 1, dy: -2, dx: 1, flip: true, flip_rows: false };
    let placements = vec![placement; n];
    let chosen = volumes.clone();
    let [depth, height, width] = size;
    let reference = move |_: &Seen<'_>, _: Of, at: usize| {
        let [_, d, h, w, n] = place(volume(1, size, n), at);
        let rolled = |at: usize, by: i32, extent: usize| (at as i32 + by).rem_euclid(extent as i32) as usize;
        let (d, h) = (rolled(d, 1, depth), rolled(h, -2, height));
        let w = rolled(width - 1 - w, 1, width);
        let bit = (views - 1) * depth * height * width + (d * height + h) * width + w;
        let set = byte(chosen[n] as usize * bytes + bit / 8) >> (bit % 8) & 1 == 1;
        if set { 5.0 } else { -1.0 }
    };
    Case::new(Vec::new(), 1, move |tape, _| volume_gather(tape, &set, &volumes, &placements, &gather), reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_elements_are_each_others_inverse() {
        let shape = volume(3, [4, 5, 6], 7);
        assert!((0..shape.len()).all(|i| index(shape, place(shape, i)) == i));
    }
}
