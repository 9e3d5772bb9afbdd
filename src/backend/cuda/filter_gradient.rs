//! Launching `kernels/filter_gradient.cuh` and what adds its parts (`kernels/filter.cuh`).
//!
//! The workspace holds the parts of the sum over positions, then one product per block of the
//! kernel that adds them, for the gradient of the scale. Its size depends on the shape alone.

use super::{Address, ConvVariant, Cuda, Grid, params};
use crate::backend::Span;
use crate::backend::cpu::Filter;
use crate::error::Result;

/// Blocks below which the positions are cut into parts: four for each multiprocessor of a large GPU.
const ENOUGH_BLOCKS: usize = 512;
/// Positions that a part has at least.
const POSITIONS_PER_PART: usize = 256;
/// Most parts of a sum.
const MAX_PARTS: usize = 64;
/// Up to this many channels on one side, tiles would be mostly empty.
const DIRECT_CHANNELS: usize = 8;
/// The same if both sides are small.
const DIRECT_SQUARE: usize = 16;
/// Threads of the kernel that adds the parts, one for each element of the window.
const REDUCE_THREADS: usize = 256;

/// The kernels of an op, by variant and floats per load.
pub type GradientNames = [[&'static str; 3]; 4];

/// The [`GradientNames`] of an op; the direct ones only exist for conv2d.
pub const NAMES: GradientNames = [
    ["backward_weight_tiled_m32_v1", "backward_weight_tiled_m32_v2", "backward_weight_tiled_m32_v4"],
    ["backward_weight_tiled_m64_v1", "backward_weight_tiled_m64_v2", "backward_weight_tiled_m64_v4"],
    ["backward_weight_tf32_m64_v1", "backward_weight_tf32_m64_v2", "backward_weight_tf32_m64_v4"],
    ["backward_weight_direct_m4_v1", "backward_weight_direct_m4_v2", "backward_weight_direct_m4_v4"],
];

/// Channels of a tile, both ways, and threads of each kernel in [`NAMES`].
const TILES: [(usize, u32); 4] = [(32, 64), (64, 128), (64, 128), (4, 128)];

/// The extent of a weight gradient.
#[derive(Clone, Copy, Debug)]
pub struct FilterGradient {
    /// The window of the stored filter that receives it.
    pub filter: Filter,
    /// H * W * N.
    pub plane: usize,
}

impl FilterGradient {
    /// Workspace in f32.
    pub fn workspace(&self) -> usize {
        self.parts_len() + self.products_len()
    }

    fn parts_len(&self) -> usize {
        self.parts() * self.filter.len()
    }

    fn products_len(&self) -> usize {
        self.filter.len().div_ceil(REDUCE_THREADS)
    }

    /// Blocks of a kernel for one part.
    fn blocks(&self, kernel: usize) -> [usize; 2] {
        let tiles = |len: usize| len.div_ceil(TILES[kernel].0);
        [tiles(self.filter.out_len) * tiles(self.filter.in_len), self.filter.groups * self.filter.taps()]
    }

    /// Parts of the sum.
    pub fn parts(&self) -> usize {
        let blocks: usize = self.blocks(self.kernel(self.variant(false))).iter().product();
        let most = (self.plane / POSITIONS_PER_PART).clamp(1, MAX_PARTS);
        ENOUGH_BLOCKS.div_ceil(blocks.max(1)).clamp(1, most)
    }

    fn kernel(&self, variant: ConvVariant) -> usize {
        match variant {
            ConvVariant::Tiled if self.filter.out_len.max(self.filter.in_len) <= 32 => 0,
            ConvVariant::Tiled => 1,
            ConvVariant::Tf32 => 2,
            // One tap has no groups to speak of: no direct kernel.
            ConvVariant::Direct if self.filter.taps() == 1 => 0,
            ConvVariant::Direct => 3,
        }
    }

    fn variant(&self, tf32: bool) -> ConvVariant {
        let (k, c) = (self.filter.out_len, self.filter.in_len);
        if self.filter.taps() > 1 && (k.min(c) <= DIRECT_CHANNELS || k.max(c) <= DIRECT_SQUARE) {
            ConvVariant::Direct
        } else if tf32 && k.min(c) > DIRECT_SQUARE {
            ConvVariant::Tf32
        } else {
            ConvVariant::Tiled
        }
    }

    /// The kernel to launch and its grid, `vector` being the floats its loads may take.
    pub fn choose(&self, cuda: &Cuda, vector: usize) -> (&'static str, Grid) {
        let kernel = self.kernel(cuda.conv_policy().variant(|tf32| self.variant(tf32)));
        let [tiles, taps] = self.blocks(kernel);
        let blocks = [tiles, taps, self.parts()].map(|b| b as u32);
        (NAMES[kernel][vector / 2], Grid { blocks, threads: TILES[kernel].1 })
    }
}

params! {
    struct FilterReduceParams {
        parts: Address, w: Address, scale: Address, gw: Address, products: Address, part_count: i32, outputs: i32,
        in_len: i32, kernel_h: i32, kernel_w: i32, offset: i32, stride_k: i32, stride_c: i32, stride_r: i32,
    }
}

params! {
    struct ScaleGradientParams { products: Address, gscale: Address, len: i32 }
}

/// What a weight gradient is added to.
#[derive(Clone, Copy, Debug)]
pub struct FilterTarget {
    /// The stored filter.
    pub w: Span,
    /// The factor on it.
    pub scale: Option<Span>,
    /// Gradient of the stored filter.
    pub gw: Span,
    /// Gradient of the factor, if wanted.
    pub gscale: Option<Span>,
}

/// Adds the parts in `workspace`, in order, to the window of `gw`, and what follows from them to `gscale`.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn add_parts(
    cuda: &mut Cuda,
    op: &'static str,
    job: &FilterGradient,
    target: &FilterTarget,
    workspace: Span,
) -> Result<()> {
    let filter = job.filter;
    let [stride_k, stride_c, stride_r] = filter.strides.map(|s| s as i32);
    let parts = cuda.address(workspace);
    let products = parts.offset(job.parts_len());
    let params = FilterReduceParams {
        parts,
        w: cuda.address(target.w),
        scale: target.scale.map_or(Address::NULL, |s| cuda.address(s)),
        gw: cuda.address(target.gw),
        products: if target.gscale.is_some() { products } else { Address::NULL },
        part_count: job.parts() as i32,
        outputs: filter.outputs() as i32,
        in_len: filter.in_len as i32,
        kernel_h: filter.kernel[0] as i32,
        kernel_w: filter.kernel[1] as i32,
        offset: filter.offset as i32,
        stride_k,
        stride_c,
        stride_r,
    };
    cuda.launch(op, "backward_weight_reduce", Grid::cover(filter.len(), REDUCE_THREADS as u32), &params)?;
    if let Some(gscale) = target.gscale {
        let params = ScaleGradientParams { products, gscale: cuda.address(gscale), len: job.products_len() as i32 };
        cuda.launch(op, "backward_weight_scale", Grid { blocks: [1, 1, 1], threads: 256 }, &params)?;
    }
    Ok(())
}
