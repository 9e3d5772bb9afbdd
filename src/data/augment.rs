//! Where to look at each image of a batch: crops and flips.
//!
//! A placement names the window of the zero-padded image that becomes the input: with dy, dx and flip,
//! `out[c][y][x] = in[c][y + dy][x' + dx]`, x' = W-1-x when flipped and x otherwise; outside the
//! image the pixel is 0 (black) before normalisation. Pad 4 and random flips are the "+" of CIFAR-10+
//! (section 4 of the paper). Volumes are rolled instead: what leaves on one side enters on the other.

use crate::rng::{Rng, RngState};

/// Rotations of a volume in use, at training as well as in the average of a test.
const USED_VIEWS: usize = 12;

/// Where to look at one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Which of the stored rotations of a volume; 0 for a picture.
    pub view: u16,
    /// Slices a volume is rolled by; 0 for a picture.
    pub dz: i32,
    /// Rows the window lies below the image, `-pad..=pad`.
    pub dy: i32,
    /// Columns the window lies to the right of the image, `-pad..=pad`.
    pub dx: i32,
    /// Mirror the window left to right.
    pub flip: bool,
    /// Mirror a volume top to bottom.
    pub flip_rows: bool,
}

impl Placement {
    /// A window of a picture.
    pub const fn window(dy: i32, dx: i32, flip: bool) -> Self {
        Self { view: 0, dz: 0, dy, dx, flip, flip_rows: false }
    }

    /// The image as it is; what evaluation uses.
    pub const CENTRED: Self = Self::window(0, 0, false);
}

/// How training images are varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AugmentKind {
    /// Not at all.
    None,
    /// A random window of the image padded by `pad` pixels on each side.
    Crop {
        /// Pixels of black on each side.
        pad: u32,
    },
    /// The same, mirrored half the time.
    CropFlip {
        /// Pixels of black on each side.
        pad: u32,
    },
    /// Of voxels: one of the rotations used of `views` stored ones, now and then mirrored, shifted a little.
    Volume {
        /// Stored rotations of an object.
        views: usize,
    },
}

/// Draws the placements of training images.
#[derive(Debug)]
pub struct Augment {
    kind: AugmentKind,
    rng: Rng,
}

impl Augment {
    /// Draws from `rng` (stream [`Augment`](crate::rng::Stream::Augment)).
    pub fn new(kind: AugmentKind, rng: Rng) -> Self {
        Self { kind, rng }
    }

    /// Where the generator stands, for a checkpoint; give `Rng::restore` of it to [`new`](Self::new).
    pub fn state(&self) -> RngState {
        self.rng.state()
    }

    /// The placements of the next `n` images; each takes what its kind varies from the generator: dy,
    /// dx and flip, in this order; of volumes view, flip, flip_rows, dz, dy and dx.
    pub fn draw(&mut self, n: usize) -> Vec<Placement> {
        match self.kind {
            AugmentKind::None => centred(n),
            AugmentKind::Crop { pad } => (0..n).map(|_| crop(&mut self.rng, pad)).collect(),
            AugmentKind::CropFlip { pad } => (0..n).map(|_| crop_flip(&mut self.rng, pad)).collect(),
            AugmentKind::Volume { views } => {
                let views = views_used(views);
                (0..n).map(|_| volume(&mut self.rng, &views)).collect()
            }
        }
    }
}

/// `n` times [`Placement::CENTRED`], for evaluation.
pub fn centred(n: usize) -> Vec<Placement> {
    vec![Placement::CENTRED; n]
}

/// The rotations of a volume that are used of `views` stored ones: 12 evenly spaced ones where that is possible (of 24,
/// 30 degrees apart), else all.
pub fn views_used(views: usize) -> Vec<u16> {
    let step = if views.is_multiple_of(USED_VIEWS) { views / USED_VIEWS } else { 1 };
    (0..views).step_by(step.max(1)).map(|view| view as u16).collect()
}

/// What the paper's settings for volumes (Brock et al. 2016) do to each: any of its rotations, two axes
/// mirrored with probability 0.2 each, rolled by -2 to 1 along every axis.
fn volume(rng: &mut Rng, views: &[u16]) -> Placement {
    let view = views[rng.below(views.len())];
    let (flip, flip_rows) = (rng.chance(0.2), rng.chance(0.2));
    let mut roll = || rng.below(4) as i32 - 2;
    Placement { view, dz: roll(), dy: roll(), dx: roll(), flip, flip_rows }
}

fn crop(rng: &mut Rng, pad: u32) -> Placement {
    let mut offset = || rng.below(2 * pad as usize + 1) as i32 - pad as i32;
    let (dy, dx) = (offset(), offset());
    Placement::window(dy, dx, false)
}

fn crop_flip(rng: &mut Rng, pad: u32) -> Placement {
    let window = crop(rng, pad);
    Placement { flip: rng.chance(0.5), ..window }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn augment(kind: AugmentKind) -> Augment {
        Augment::new(kind, Rng::new(9, Stream::Augment))
    }

    #[test]
    fn crops_and_flips_are_uniform_and_independent() {
        let drawn = augment(AugmentKind::CropFlip { pad: 4 }).draw(162_000);
        let mut cells = [0u32; 162];
        for p in &drawn {
            assert!((-4..=4).contains(&p.dy) && (-4..=4).contains(&p.dx), "{p:?}");
            cells[((p.dy + 4) * 18 + (p.dx + 4) * 2 + i32::from(p.flip)) as usize] += 1;
        }
        // 1000 expected per cell, sd 31.5: five of them.
        assert!(cells.iter().all(|&c| (842..=1158).contains(&c)), "{cells:?}");
    }

    #[test]
    fn crops_without_flips_go_everywhere_too() {
        let drawn = augment(AugmentKind::Crop { pad: 1 }).draw(900);
        let count = |dy, dx| drawn.iter().filter(|&&p| p == Placement::window(dy, dx, false)).count();
        let counts: Vec<usize> = (0..9).map(|i| count(i / 3 - 1, i % 3 - 1)).collect();
        assert_eq!(counts.iter().sum::<usize>(), 900, "{counts:?}");
        // 100 expected, sd 9.4: five of them.
        assert!(counts.iter().all(|c| (53..=147).contains(c)), "{counts:?}");
    }

    #[test]
    fn twelve_views_are_used_where_there_are_so_many() {
        let every = |step: u16| (0..12).map(|i| i * step).collect::<Vec<u16>>();
        assert_eq!([views_used(12), views_used(24), views_used(36)], [every(1), every(2), every(3)]);
        assert_eq!([views_used(1), views_used(5)], [vec![0], vec![0, 1, 2, 3, 4]]);
    }

    #[test]
    fn volumes_are_turned_mirrored_and_rolled() {
        let drawn = augment(AugmentKind::Volume { views: 24 }).draw(19_200);
        let count = |what: &dyn Fn(&Placement) -> bool| drawn.iter().filter(|p| what(p)).count();
        // 1,600 of each view (sd 38), 4,800 of each shift (sd 60), 3,840 of each mirror (sd 55): five of them.
        for view in 0..12 {
            assert!(count(&|p| p.view == 2 * view).abs_diff(1600) <= 190, "view {view}");
        }
        for shift in -2..2 {
            let axes: [fn(&Placement) -> i32; 3] = [|p| p.dz, |p| p.dy, |p| p.dx];
            for (axis, of) in axes.into_iter().enumerate() {
                assert!(count(&|p| of(p) == shift).abs_diff(4800) <= 300, "shift {shift} of axis {axis}");
            }
        }
        assert!(count(&|p| p.flip).abs_diff(3840) <= 275 && count(&|p| p.flip_rows).abs_diff(3840) <= 275);
        assert!(count(&|p| p.flip && p.flip_rows).abs_diff(768) <= 140, "independent");
    }

    #[test]
    fn draws_continue_from_a_stored_state() {
        let kind = AugmentKind::CropFlip { pad: 2 };
        let mut whole = augment(kind);
        whole.draw(13);
        let mut restored = Augment::new(kind, Rng::restore(&whole.state()).unwrap());
        assert_eq!(restored.draw(50), whole.draw(50));
        // One draw of two images is two draws of one.
        assert_eq!(augment(kind).draw(2)[1], {
            let mut a = augment(kind);
            a.draw(1);
            a.draw(1)[0]
        });
    }

    #[test]
    fn no_augmentation_is_centred_and_takes_no_random_numbers() {
        let mut none = augment(AugmentKind::None);
        let before = none.state();
        assert_eq!(none.draw(3), centred(3));
        assert_eq!(none.state(), before);
        assert_eq!(centred(1), [Placement::window(0, 0, false)]);
    }
}
