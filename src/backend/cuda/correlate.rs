//! Launching `kernels/correlate.cuh`: which variant, over which grid, with how much workspace.
//!
//! The workspace of a pass holds the packed filter and, where the sum is cut into parts, the
//! parts. Its size depends on the shape alone, never on the variant or the GPU, so that a dry
//! run finds it, and so that results are the same on every GPU.

use super::{Address, ConvVariant, Cuda, Grid, Params, params};
use crate::backend::Span;
use crate::backend::cpu::{Direction, Filter};
use crate::error::Result;

/// Positions of a tile; a constant of the kernels.
const TILE_COLUMNS: usize = 128;
/// Blocks below which a sum is cut into parts: two for each multiprocessor of a large GPU.
const ENOUGH_BLOCKS: usize = 256;
/// Stages (a tap and 16 channels) that a part has at least.
const STAGES_PER_PART: usize = 4;
/// Most parts of a sum.
const MAX_PARTS: usize = 16;
/// Up to this many channels produced per group are summed in the registers of one thread.
const DIRECT_ROWS: usize = 8;
/// As few channels consumed would leave most of a stage empty.
const DIRECT_DEPTH: usize = 4;

/// The kernels of one pass, by variant and floats per load.
pub type Names = [[&'static str; 3]; 7];

/// All kernels of a pass.
pub struct Pass {
    /// Those that compute.
    pub names: Names,
    /// Packs the filter.
    pub pack: &'static str,
    /// Adds parts.
    pub reduce: &'static str,
}

/// The [`Pass`] of this name.
macro_rules! correlate_pass {
    ($pass:literal) => {
        $crate::backend::cuda::Pass {
            names: $crate::backend::cuda::correlate_names!($pass),
            pack: concat!($pass, "_pack"),
            reduce: concat!($pass, "_reduce"),
        }
    };
}
pub(crate) use correlate_pass;

/// The [`Names`] of a pass.
macro_rules! correlate_names {
    ($pass:literal) => {
        [
            [concat!($pass, "_tiled_m16_v1"), concat!($pass, "_tiled_m16_v2"), concat!($pass, "_tiled_m16_v4")],
            [concat!($pass, "_tiled_m32_v1"), concat!($pass, "_tiled_m32_v2"), concat!($pass, "_tiled_m32_v4")],
            [concat!($pass, "_tiled_m64_v1"), concat!($pass, "_tiled_m64_v2"), concat!($pass, "_tiled_m64_v4")],
            [concat!($pass, "_tf32_m32_v1"), concat!($pass, "_tf32_m32_v2"), concat!($pass, "_tf32_m32_v4")],
            [concat!($pass, "_tf32_m64_v1"), concat!($pass, "_tf32_m64_v2"), concat!($pass, "_tf32_m64_v4")],
            [concat!($pass, "_direct_m4_v1"), concat!($pass, "_direct_m4_v2"), concat!($pass, "_direct_m4_v4")],
            [concat!($pass, "_direct_m8_v1"), concat!($pass, "_direct_m8_v2"), concat!($pass, "_direct_m8_v4")],
        ]
    };
}
pub(crate) use correlate_names;

/// Channels produced by a block of each kernel in [`Names`].
const TILE_ROWS: [usize; 7] = [16, 32, 64, 32, 64, 4, 8];

/// First row of [`Names`] with direct kernels; a pointwise convolution has none.
const FIRST_DIRECT: usize = 5;

/// The extent of a correlation.
#[derive(Clone, Copy, Debug)]
pub struct Correlation {
    /// The window of the stored filter.
    pub filter: Filter,
    /// Whether it is the forward pass or the data gradient.
    pub direction: Direction,
    /// H * W * N.
    pub plane: usize,
}

/// A kernel chosen for a [`Correlation`].
pub struct Chosen {
    /// `<pass>_<variant>`.
    pub name: &'static str,
    /// Its grid.
    pub grid: Grid,
    /// Parts it leaves to be added: none if 1.
    pub part_count: usize,
}

impl Correlation {
    /// Channels produced per group.
    pub fn rows(&self) -> usize {
        self.extent().0
    }

    /// Channels consumed per group.
    pub fn depth(&self) -> usize {
        self.extent().1
    }

    fn extent(&self) -> (usize, usize) {
        match self.direction {
            Direction::Forward => (self.filter.out_len, self.filter.in_len),
            Direction::Backward => (self.filter.in_len, self.filter.out_len),
        }
    }

    /// Workspace in f32.
    pub fn workspace(&self) -> usize {
        let parts = self.parts();
        self.packed_len() + if parts > 1 { parts * self.result_len() } else { 0 }
    }

    /// Where the parts lie in the workspace: whole vectors of 4 after its begin.
    pub fn packed_len(&self) -> usize {
        self.filter.groups * self.filter.taps() * self.depth() * self.rows().next_multiple_of(4)
    }

    /// f32 of the result.
    pub fn result_len(&self) -> usize {
        self.filter.groups * self.rows() * self.plane
    }

    /// The tile of the tiled kernels that is busy with the fewest rows; narrow ones are slower per row.
    fn tiled(&self) -> usize {
        let percent = [150, 115, 100];
        let cost = |i: &usize| self.rows().next_multiple_of(TILE_ROWS[*i]) * percent[*i];
        (0..3).min_by_key(cost).unwrap_or(0)
    }

    /// Parts of the sum, for the kernels that can cut it.
    fn parts(&self) -> usize {
        let rows = self.rows().div_ceil(TILE_ROWS[self.tiled()]);
        let blocks = self.plane.div_ceil(TILE_COLUMNS) * rows * self.filter.groups;
        let stages = self.filter.taps() * self.depth().div_ceil(16);
        ENOUGH_BLOCKS.div_ceil(blocks.max(1)).min(stages / STAGES_PER_PART).clamp(1, MAX_PARTS)
    }

    /// Row of [`Names`] for `variant`.
    fn kernel(&self, variant: ConvVariant) -> usize {
        match variant {
            ConvVariant::Tiled => self.tiled(),
            // What one tap needs of x is read once by any kernel.
            ConvVariant::Direct if self.filter.taps() == 1 => self.tiled(),
            ConvVariant::Tf32 if self.rows() <= 32 => 3,
            ConvVariant::Tf32 => 4,
            ConvVariant::Direct if self.rows() <= 4 => 5,
            ConvVariant::Direct => 6,
        }
    }

    /// The variant for this shape.
    fn variant(&self, tf32: bool) -> ConvVariant {
        let few = self.rows() <= DIRECT_ROWS || self.depth() <= DIRECT_DEPTH;
        match tf32 && self.rows() > TILE_ROWS[0] {
            _ if few && self.parts() == 1 => ConvVariant::Direct,
            true => ConvVariant::Tf32,
            false => ConvVariant::Tiled,
        }
    }

    /// The kernel of `pass` to launch, `vector` being the floats its loads may take.
    pub fn choose(&self, cuda: &Cuda, pass: &Pass, vector: usize) -> Chosen {
        let variant = cuda.conv_policy().variant(|tf32| self.variant(tf32));
        let kernel = self.kernel(variant);
        let direct = kernel >= FIRST_DIRECT;
        let (columns, part_count) = if direct { (TILE_COLUMNS * vector, 1) } else { (TILE_COLUMNS, self.parts()) };
        let blocks =
            [self.plane.div_ceil(columns), self.rows().div_ceil(TILE_ROWS[kernel]), self.filter.groups * part_count];
        let grid = Grid { blocks: blocks.map(|b| b as u32), threads: 128 };
        Chosen { name: pass.names[kernel][vector / 2], grid, part_count }
    }

    /// Launches the chosen kernel of `pass` and, if it leaves parts, the one that adds them.
    ///
    /// # Errors
    /// As [`Cuda::launch`].
    pub fn launch<P: Params>(
        &self,
        cuda: &mut Cuda,
        op: &'static str,
        pass: &Pass,
        chosen: &Chosen,
        params: &P,
    ) -> Result<()> {
        cuda.launch(op, chosen.name, chosen.grid, params)?;
        if chosen.part_count == 1 {
            return Ok(());
        }
        cuda.launch(op, pass.reduce, Grid::cover(self.result_len(), 256), params)
    }
}

params! {
    struct PackParams {
        w: Address, scale: Address, packed: Address, groups: i32, rows: i32, depth: i32, kernel_h: i32, kernel_w: i32,
        offset: i32, stride_k: i32, stride_c: i32, stride_r: i32, backward: i32,
    }
}

/// Packs the window of `w`, times the scale, to the begin of `workspace`, with kernel `<op>_<pass>`.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn pack(
    cuda: &mut Cuda,
    kernel: (&'static str, &'static str),
    job: &Correlation,
    w: Span,
    scale: Option<Span>,
    workspace: Span,
) -> Result<()> {
    let filter = job.filter;
    let [stride_k, stride_c, stride_r] = filter.strides.map(|s| s as i32);
    let params = PackParams {
        w: cuda.address(w),
        scale: scale.map_or(Address::NULL, |s| cuda.address(s)),
        packed: cuda.address(workspace),
        groups: filter.groups as i32,
        rows: job.rows() as i32,
        depth: job.depth() as i32,
        kernel_h: filter.kernel[0] as i32,
        kernel_w: filter.kernel[1] as i32,
        offset: filter.offset as i32,
        stride_k,
        stride_c,
        stride_r,
        backward: i32::from(job.direction == Direction::Backward),
    };
    cuda.launch(kernel.0, kernel.1, Grid::cover(job.packed_len(), 256), &params)
}
