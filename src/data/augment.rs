//! Where to look at each image of a batch: crops and flips.
//!
//! A placement names the window of the zero-padded image that becomes the input: with dy, dx and flip,
//! `out[c][y][x] = in[c][y + dy][x' + dx]`, x' = W-1-x when flipped and x otherwise; outside the
//! image the pixel is 0 (black) before normalisation. Pad 4 and random flips are the "+" of CIFAR-10+
//! (section 4 of the paper).

use crate::rng::{Rng, RngState};

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
    /// A random window of the image padded by `pad` pixels on each side, mirrored half the time.
    CropFlip { pad: u32 },
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

    /// The placements of the next `n` images; each takes dy, dx and flip from the generator, in
    /// this order, or nothing at all with [`AugmentKind::None`].
    pub fn draw(&mut self, n: usize) -> Vec<Placement> {
        match self.kind {
            AugmentKind::None => centred(n),
            AugmentKind::CropFlip { pad } => (0..n).map(|_| crop_flip(&mut self.rng, pad)).collect(),
        }
    }
}

/// `n` times [`Placement::CENTRED`], for evaluation.
pub fn centred(n: usize) -> Vec<Placement> {
    vec![Placement::CENTRED; n]
}

fn crop_flip(rng: &mut Rng, pad: u32) -> Placement {
    let mut offset = || rng.below(2 * pad as usize + 1) as i32 - pad as i32;
    let (dy, dx) = (offset(), offset());
    Placement::window(dy, dx, rng.chance(0.5))
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
