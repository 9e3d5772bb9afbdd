//! The search space: what an architecture may consist of, and the budget it must stay within.
//!
//! Channel counts are multiples of `unit` (the paper's N), so widths and bank sizes are counted
//! in units. Budgets are counted in *slices*: `depth_compression` units of input channels of
//! one op, which is one column of the encoding. Both follow from a reference network of `depth`
//! layers per block with widening factor `widening` (Brock et al. 2018, appendices A to C).
//! Not handled: more or fewer than three blocks, and fields whose size a network could not have.

use serde::{Deserialize, Serialize};

use super::options::{ActivationOrder, Nonlinearity, gates_allowed};
use crate::{Error, Result};

/// Blocks (resolutions) of a network: full, half, quarter.
pub const BLOCKS: usize = 3;

/// Smallest fraction of a block's slices that a drawn architecture may be limited to.
pub const MIN_FRACTION: f64 = 0.3;

/// Bound on every number of a space, far above any use; it keeps the arithmetic from overflowing.
const LARGEST: usize = 512;

/// Which facts of an architecture its encoding states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncodingKind {
    /// Every fact that varies in the space.
    Full,
    /// Reads, writes and dilation only (Brock et al. 2018, appendix B).
    Paper,
}

/// One configuration of an op's body and how likely it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyChoice {
    /// Which of the convolutions w0 then w1 (path A) and w2 then w3 (path B) exist.
    pub active: [bool; 4],
    /// Probability; a space's choices sum to 1.
    pub probability: f64,
}

/// A search space. Widths, bank sizes and reads are in units of `unit` channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// N: every channel count inside a block is a multiple of it.
    pub unit: usize,
    /// Widest op, in channels; a multiple of `unit`.
    pub n_max: usize,
    /// D: units of input channels that share one slice of the encoding.
    pub depth_compression: usize,
    /// Bank sizes are drawn per block from 1 to this many units.
    pub max_bank_size: usize,
    /// Filter sizes of the body, odd and ascending.
    pub kernels: Vec<usize>,
    /// One filter size and one dilation for both axes, instead of one each.
    pub square_kernels: bool,
    /// Pixels a dilated filter may span per axis; limits the dilation, see [`Space::max_dilation`].
    pub max_extent: usize,
    /// Numbers of convolution groups of the body, ascending divisors of `unit`.
    pub groups: Vec<usize>,
    /// Body configurations with their probabilities.
    pub bodies: Vec<BodyChoice>,
    /// R: most 1x1 output channels, relative to the op's output channels.
    pub expansion: usize,
    /// The 1x1 always has `expansion` times the op's output channels; otherwise never more than its input.
    pub expansion_fixed: bool,
    /// Layers per block of the reference network that defines the budget.
    pub depth: usize,
    /// Widening factor of that reference network.
    pub widening: usize,
    /// Which facts the encoding states.
    pub encoding: EncodingKind,
    /// On which side of the convolutions nonlinearities and BatchNorm are.
    #[serde(default, skip_serializing_if = "ActivationOrder::is_pre")]
    pub activation: ActivationOrder,
    /// What the values of each convolution of a body pass through, drawn for each.
    #[serde(default = "only_relu", skip_serializing_if = "is_only_relu")]
    pub nonlinearities: Vec<Nonlinearity>,
    /// Gates where the paths of a body meet are drawn, see [`super::options::gates_allowed`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gates: bool,
    /// The SMASH network has BatchNorm with every convolution of a body too, shared like these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_norm: bool,
}

fn only_relu() -> Vec<Nonlinearity> {
    vec![Nonlinearity::Relu]
}

fn is_only_relu(nonlinearities: &[Nonlinearity]) -> bool {
    *nonlinearities == [Nonlinearity::Relu]
}

impl Space {
    /// SMASHv1: fixed bank size, one 3x3 convolution per op, variable reads, writes, width and dilation.
    pub fn v1() -> Self {
        Self {
            unit: 6,
            n_max: 42,
            depth_compression: 3,
            max_bank_size: 1,
            kernels: vec![3],
            square_kernels: true,
            max_extent: 9,
            groups: vec![1],
            bodies: vec![BodyChoice { active: [true, false, false, false], probability: 1.0 }],
            expansion: 4,
            expansion_fixed: true,
            depth: 12,
            widening: 4,
            encoding: EncodingKind::Paper,
            activation: ActivationOrder::Pre,
            nonlinearities: only_relu(),
            gates: false,
            body_norm: false,
        }
    }

    /// SMASHv2: everything varies.
    pub fn v2() -> Self {
        let body = |active: [u8; 4], probability| BodyChoice { active: active.map(|a| a == 1), probability };
        Self {
            unit: 8,
            n_max: 64,
            depth_compression: 2,
            max_bank_size: 8,
            kernels: vec![3, 5, 7],
            square_kernels: false,
            max_extent: 9,
            groups: vec![1, 2, 4, 8],
            // A hand-designed prior: the paper (appendix A) says only that all four active is preferred.
            bodies: vec![
                body([1, 0, 0, 0], 0.05),
                body([1, 0, 1, 0], 0.10),
                body([1, 1, 0, 0], 0.15),
                body([1, 1, 1, 0], 0.25),
                body([1, 1, 1, 1], 0.45),
            ],
            expansion: 2,
            expansion_fixed: false,
            depth: 12,
            widening: 4,
            encoding: EncodingKind::Full,
            activation: ActivationOrder::Pre,
            nonlinearities: only_relu(),
            gates: false,
            body_norm: false,
        }
    }

    /// The rules of [`Space::v2`] at a size that a laptop trains in minutes.
    pub fn small() -> Self {
        Self { unit: 4, n_max: 16, max_bank_size: 4, groups: vec![1, 2, 4], depth: 4, widening: 1, ..Self::v2() }
    }

    /// The rules of [`Space::v1`] at such a size.
    pub fn small_v1() -> Self {
        Self { unit: 3, n_max: 12, depth: 8, widening: 2, ..Self::v1() }
    }

    /// Names of the ready-made spaces.
    pub const PRESETS: [&str; 4] = ["v1", "v2", "small", "small-v1"];

    /// The ready-made space called `name`, one of [`Space::PRESETS`].
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::v1()),
            "v2" => Some(Self::v2()),
            "small" => Some(Self::small()),
            "small-v1" => Some(Self::small_v1()),
            _ => None,
        }
    }

    /// The space of the hand-written architectures in tests: wider than [`Space::small`], and
    /// independent of how that is tuned.
    #[cfg(test)]
    pub fn fixture() -> Self {
        Self { n_max: 32, max_bank_size: 8, widening: 2, ..Self::small() }
    }

    /// Checks that the fields make sense together, and that architectures can be drawn.
    ///
    /// # Errors
    /// [`Error::Config`] named `space.<field>`.
    pub fn validate(&self) -> Result<()> {
        self.check_fields()?;
        self.check_budget()
    }

    /// Checks that the fields make sense together. An architecture needs no more: it keeps a
    /// block's whole budget, even in a space too small for the smaller budgets of drawn ones.
    pub(super) fn check_fields(&self) -> Result<()> {
        self.check_numbers()?;
        self.check_kernels()?;
        self.check_groups()?;
        self.check_bodies()?;
        self.check_options()
    }

    /// k: widths an op can have; also the height of the encoding.
    pub fn width_units(&self) -> usize {
        self.n_max / self.unit
    }

    /// Channels of the reference network's first block: `2 * unit * widening`.
    fn reference_width(&self) -> usize {
        2 * self.unit * self.widening
    }

    /// Channels that enter each block, before they are cut to whole banks.
    pub fn in_channels(&self) -> [usize; BLOCKS] {
        self.channels().0
    }

    /// Most channels that the banks of each block hold together.
    pub fn max_channels(&self) -> [usize; BLOCKS] {
        self.channels().1
    }

    fn channels(&self) -> ([usize; BLOCKS], [usize; BLOCKS]) {
        let base = 2 * self.unit;
        let r0 = self.reference_width();
        let halve = |channels: usize| channels / 2 / base * base;
        let max0 = r0 + 2 * r0;
        let in1 = halve(max0);
        let max1 = in1 + 2 * r0;
        ([r0, in1, halve(max1)], [max0, max1, 4 * r0])
    }

    /// Input channels that the ops of each block may read together.
    pub fn budget_channels(&self) -> [usize; BLOCKS] {
        let enters = self.in_channels();
        std::array::from_fn(|b| enters[b] + self.depth * (self.reference_width() << b))
    }

    /// The same budget in slices of `depth_compression * unit` channels, rounded down.
    pub fn slices(&self) -> [usize; BLOCKS] {
        self.budget_channels().map(|channels| channels / (self.unit * self.depth_compression))
    }

    /// M: most banks in a block, which is how many read (and write) channels the encoding needs.
    ///
    /// 32 for both presets. The paper allows v1 "a maximum of 240", but a block never holds more
    /// than `max_channels` channels, at most 4 times the reference width (192 for v1), so banks
    /// 32 to 239 of `unit = 6` channels cannot exist and their channels would always be empty.
    pub fn max_banks(&self) -> usize {
        self.max_channels().into_iter().max().map_or(0, |channels| channels / self.unit)
    }

    /// Largest dilation of a filter of `kernel` taps: with extent 9, 3 taps allow 3, 5 allow 2, 7 allow 1.
    /// A single tap does not dilate; 0 means that the filter itself is too large.
    pub fn max_dilation(&self, kernel: usize) -> usize {
        match kernel {
            0 => 0,
            1 => 1,
            // Half of what is left of the extent (the rule of the published v2 space), and never
            // an extent `(kernel - 1) * dilation + 1` above the limit.
            _ => (self.max_extent.saturating_sub(kernel) / 2).min((self.max_extent - 1) / (kernel - 1)),
        }
    }

    /// A read takes a multiple of this many banks, so that an op uses whole slices: `D / gcd(D, s)`.
    pub fn read_step(&self, bank_size: usize) -> usize {
        self.depth_compression / gcd(self.depth_compression, bank_size)
    }

    /// Slices of an op that reads `reads` banks (a multiple of [`Space::read_step`]).
    pub fn slices_of(&self, reads: usize, bank_size: usize) -> usize {
        reads * bank_size / self.depth_compression
    }

    /// Banks of `bank_size` units that hold the input of block `block`.
    pub fn initial_banks(&self, block: usize, bank_size: usize) -> usize {
        self.in_channels()[block] / (bank_size * self.unit)
    }

    /// Bank sizes allowed in `block`: at least one whole bank starts written, and a first op can
    /// read whole slices (D divides the size, or at least D banks start written).
    pub fn bank_sizes(&self, block: usize) -> Vec<usize> {
        let readable = |s: usize| match self.initial_banks(block, s) {
            0 => false,
            banks => s.is_multiple_of(self.depth_compression) || banks >= self.depth_compression,
        };
        (1..=self.max_bank_size).filter(|&s| readable(s)).collect()
    }

    /// Banks of a block drawn with budget fraction `fraction`: the written ones and as many empty
    /// ones as the reference depth suggests, within the block's channels.
    pub fn bank_count(&self, block: usize, bank_size: usize, fraction: f64) -> usize {
        let grown = (fraction * (self.depth * self.width_units()) as f64).ceil() as usize / bank_size;
        let room = self.max_channels()[block] / (bank_size * self.unit);
        (self.initial_banks(block, bank_size) + grown).min(room)
    }

    /// Slices of a block that may be used when limited to `fraction` of its budget.
    pub fn budget(&self, block: usize, fraction: f64) -> usize {
        (fraction * self.slices()[block] as f64).floor() as usize
    }

    fn check_numbers(&self) -> Result<()> {
        let numbers = [
            ("unit", self.unit),
            ("n_max", self.n_max),
            ("depth_compression", self.depth_compression),
            ("max_bank_size", self.max_bank_size),
            ("max_extent", self.max_extent),
            ("expansion", self.expansion),
            ("depth", self.depth),
            ("widening", self.widening),
        ];
        for (field, value) in numbers {
            if !(1..=LARGEST).contains(&value) {
                return wrong(field, format!("{value} is outside 1 to {LARGEST}"));
            }
        }
        if !self.n_max.is_multiple_of(self.unit) {
            return wrong("n_max", format!("{} is not a multiple of the unit, {}", self.n_max, self.unit));
        }
        if self.max_bank_size > self.width_units() {
            let k = self.width_units();
            return wrong("max_bank_size", format!("{} exceeds the widest op, {k} units", self.max_bank_size));
        }
        Ok(())
    }

    fn check_kernels(&self) -> Result<()> {
        if !ascending(&self.kernels) {
            return wrong("kernels", "needs one or more sizes in ascending order".into());
        }
        for &kernel in &self.kernels {
            if kernel.is_multiple_of(2) {
                return wrong("kernels", format!("{kernel} is even; \"same\" padding needs an odd filter"));
            }
            if self.max_dilation(kernel) == 0 {
                return wrong("kernels", format!("{kernel} leaves no dilation within max_extent {}", self.max_extent));
            }
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        if !ascending(&self.groups) {
            return wrong("groups", "needs one or more numbers in ascending order".into());
        }
        match self.groups.iter().find(|&&g| g == 0 || !self.unit.is_multiple_of(g)) {
            Some(g) => wrong("groups", format!("{g} does not divide the unit, {}", self.unit)),
            None => Ok(()),
        }
    }

    fn check_bodies(&self) -> Result<()> {
        for (i, body) in self.bodies.iter().enumerate() {
            let field = format!("bodies[{i}]");
            if !body.active[0] {
                return wrong(&field, "the first convolution must be active".into());
            }
            if body.active[3] && !body.active[2] {
                return wrong(&field, "the fourth convolution needs the third, which feeds it".into());
            }
            if !(body.probability > 0.0 && body.probability <= 1.0) {
                return wrong(&field, format!("probability {} is outside 0 (excluded) to 1", body.probability));
            }
            if self.bodies[..i].iter().any(|other| other.active == body.active) {
                return wrong(&field, "this configuration is already listed".into());
            }
        }
        let sum: f64 = self.bodies.iter().map(|b| b.probability).sum();
        if (sum - 1.0).abs() > 1e-6 {
            return wrong("bodies", format!("probabilities sum to {sum}, not 1"));
        }
        Ok(())
    }

    fn check_options(&self) -> Result<()> {
        let distinct =
            (1..self.nonlinearities.len()).all(|i| !self.nonlinearities[..i].contains(&self.nonlinearities[i]));
        if self.nonlinearities.is_empty() || !distinct {
            return wrong("nonlinearities", "needs one or more of relu, tanh and sigmoid, each once".into());
        }
        if self.gates && !self.bodies.iter().any(|body| gates_allowed(body.active, false)[1]) {
            return wrong("gates", "no body has two paths that meet".into());
        }
        Ok(())
    }

    /// Every draw must be able to hold one op of every bank size it may get.
    fn check_budget(&self) -> Result<()> {
        for block in 0..BLOCKS {
            let sizes = self.bank_sizes(block);
            if sizes.is_empty() {
                return wrong("max_bank_size", format!("no size from 1 to it lets block {block} read whole slices"));
            }
            let budget = self.budget(block, MIN_FRACTION);
            let dearest = sizes.iter().map(|&s| self.slices_of(self.read_step(s), s)).max().unwrap_or(0);
            if dearest > budget {
                let message = format!(
                    "{} layers leave block {block} as few as {budget} slices, but one op may need {dearest}",
                    self.depth
                );
                return wrong("depth", message);
            }
        }
        Ok(())
    }
}

fn wrong(field: &str, message: String) -> Result<()> {
    Err(Error::config(format!("space.{field}"), message))
}

fn ascending(values: &[usize]) -> bool {
    !values.is_empty() && values.windows(2).all(|w| w[0] < w[1])
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
