//! volume_gather against nested loops that put every stored voxel where it shows.

use super::{OP, Placement, VolumeGather, volume_gather};
use crate::data::{ImageShape, Images};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Check, Lab, Measured, checks};

checks!(
    OP,
    views_as_they_are_stored,
    rolls_enter_on_the_other_side,
    rows_and_columns_are_mirrored,
    mirrored_and_rolled_in_all_directions,
    an_offset_shows_what_lies_further_on,
);

/// Volumes of some bits.
pub(super) fn set(config: &VolumeGather, bits: Vec<u8>) -> Result<Images> {
    // A set of volumes counts bytes, not voxels.
    let shape = ImageShape::picture(1, config.views, config.view_bytes());
    let labels = vec![0; bits.len() / shape.pixels()];
    Images::from_pixels(bits, labels, shape)
}

/// x[z][y][x][n], scattering.
fn reference(config: &VolumeGather, bits: &[u8], indices: &[u32], placements: &[Placement]) -> Vec<f32> {
    let ([d, h, w], n_len) = (config.size.map(|extent| extent as i32), indices.len());
    let mut batch = vec![-1.0; (d * h * w) as usize * n_len];
    for (n, (&index, p)) in indices.iter().zip(placements).enumerate() {
        let first = (index as usize * config.views + usize::from(p.view)) * (d * h * w) as usize;
        for (z, y, x) in (0..d).flat_map(|z| (0..h).flat_map(move |y| (0..w).map(move |x| (z, y, x)))) {
            let bit = first + ((z * h + y) * w + x) as usize;
            let (mut to_z, mut to_y, mut to_x) = (z - p.dz, y - p.dy, x - p.dx);
            for (to, extent) in [(&mut to_z, d), (&mut to_y, h), (&mut to_x, w)] {
                *to = (*to % extent + extent) % extent;
            }
            if p.flip_rows {
                to_y = h - 1 - to_y;
            }
            if p.flip {
                to_x = w - 1 - to_x;
            }
            if bits[bit / 8] & 1 << (bit % 8) != 0 {
                batch[((to_z * h + to_y) * w + to_x) as usize * n_len + n] = 5.0;
            }
        }
    }
    batch
}

fn gather(
    lab: &Lab,
    measured: &mut Measured,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &VolumeGather,
) -> Result<Vec<f32>> {
    lab.run(1 << 17, |context| {
        let mut tape = Tape::new(context);
        let x = volume_gather(&mut tape, set, indices, placements, config)?;
        let [d, h, w] = config.size;
        let shape = Shape::new(1, h, w, indices.len()).with_depth(d);
        measured.holds("shape, and no gradient", tape.shape(x) == shape && !tape.needs_grad(x));
        tape.read(x)
    })
}

/// Volumes in any order, some twice, in three views each.
fn check(size: [usize; 3], placements: Vec<Placement>) -> Check {
    Check::new(move |lab, measured| {
        let config = VolumeGather { size, views: 3 };
        let count = placements.len() as u32 + 2;
        let indices: Vec<u32> = (0..placements.len() as u32).map(|i| (i * i + 1) % count).collect();
        let mut rng = Rng::new(7, Stream::Augment);
        let bits: Vec<u8> = (0..count as usize * 3 * config.view_bytes()).map(|_| rng.below(256) as u8).collect();
        let expected = reference(&config, &bits, &indices, &placements);
        let got = gather(lab, measured, &set(&config, bits)?, &indices, &placements, &config)?;
        measured.exact("batch", &got, &expected);
        Ok(())
    })
}

fn at(view: u16, [dz, dy, dx]: [i32; 3], flip: bool, flip_rows: bool) -> Placement {
    Placement { view, dz, dy, dx, flip, flip_rows }
}

fn views_as_they_are_stored() -> Vec<Check> {
    let views = |order: &[u16]| order.iter().map(|&view| at(view, [0; 3], false, false)).collect();
    vec![check([4, 6, 5], views(&[0, 2, 1, 1, 0])), check([32; 3], views(&[2, 1])), check([1, 2, 4], views(&[1]))]
}

fn rolls_enter_on_the_other_side() -> Vec<Check> {
    let along = |axis: usize| {
        (-2..=1).map(move |by| {
            let mut roll = [0; 3];
            roll[axis] = by;
            at(1, roll, false, false)
        })
    };
    vec![
        check([4, 6, 5], (0..3).flat_map(along).collect()),
        check([3, 7, 8], vec![at(0, [-4, 9, 20], false, false), at(2, [3, -7, -8], false, false)]),
    ]
}

fn rows_and_columns_are_mirrored() -> Vec<Check> {
    let mirrored = [(true, false), (false, true), (true, true)].map(|(x, y)| at(2, [0; 3], x, y));
    vec![check([4, 6, 5], mirrored.to_vec())]
}

fn mirrored_and_rolled_in_all_directions() -> Vec<Check> {
    let placements = (0..11).map(|i| at(i % 3, [0, 5, 10].map(|k| (i as i32 + k) % 4 - 2), i % 2 == 0, i % 5 < 3));
    vec![check([5, 8, 7], placements.collect())]
}

fn an_offset_shows_what_lies_further_on() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        // One volume of one slice in one view: voxels (y, x) = (0, 0) and (0, 2) of 2 x 4.
        let config = VolumeGather { size: [1, 2, 4], views: 1 };
        let set = set(&config, vec![0b0000_0101])?;
        for (placement, [upper, lower]) in [
            (at(0, [0, 0, 0], false, false), [[5., -1., 5., -1.], [-1.; 4]]),
            (at(0, [0, 0, 1], false, false), [[-1., 5., -1., 5.], [-1.; 4]]),
            (at(0, [0, -1, 0], false, false), [[-1.; 4], [5., -1., 5., -1.]]),
            // The window is chosen first, then mirrored.
            (at(0, [7, 0, 0], true, false), [[-1., 5., -1., 5.], [-1.; 4]]),
            (at(0, [0, 0, 0], false, true), [[-1.; 4], [5., -1., 5., -1.]]),
        ] {
            let got = gather(lab, measured, &set, &[0], &[placement], &config)?;
            measured.exact(format!("{placement:?}"), &got, &[upper, lower].concat());
        }
        Ok(())
    })]
}
