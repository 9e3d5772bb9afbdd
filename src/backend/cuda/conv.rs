//! How a GPU computes convolutions.

/// Kinds of kernels; their files in `kernels/` say how they work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvVariant {
    /// Tiles in shared memory.
    Tiled,
    /// Sums in registers, for few channels per group.
    Direct,
    /// Tiles on the tensor cores, operands rounded to TF32.
    Tf32,
}

/// Which kernels convolutions take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvPolicy {
    /// The fastest for the shape, in f32.
    Exact,
    /// The fastest for the shape, on the tensor cores where they help.
    Fast,
    /// One kind whatever the shape: for tests and measurements. A pointwise convolution has no
    /// direct kernels and takes tiles.
    Only(ConvVariant),
}

impl ConvPolicy {
    /// The variant; `by_shape` is asked with whether TF32 is allowed.
    pub fn variant(self, by_shape: impl FnOnce(bool) -> ConvVariant) -> ConvVariant {
        match self {
            Self::Exact => by_shape(false),
            Self::Fast => by_shape(true),
            Self::Only(variant) => variant,
        }
    }
}
