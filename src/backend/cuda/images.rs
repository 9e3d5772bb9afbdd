//! The compiled kernels, as `build.rs` left them.

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The fatbin of `kernels/<stem>.cu`; `None` when the build had no nvcc.
pub fn image(stem: &str) -> Option<&'static [u8]> {
    IMAGES.iter().find(|(name, _)| *name == stem).map(|&(_, image)| image)
}
