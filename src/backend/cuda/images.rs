//! The kernels that nvcc compiled when this program was built (see `build.rs`).

/// Name of each kernel file without `.cu`, and its machine code for all architectures.
pub static IMAGES: &[(&str, &[u8])] = &[];
/// What built them.
pub static BUILT_WITH: &str = "no nvcc";
