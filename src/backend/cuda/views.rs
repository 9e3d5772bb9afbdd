//! Lists of views as kernel parameters: the twin of `kernels/views.cuh`.

use super::{Address, Cuda};
use crate::backend::Span;
use crate::error::{Error, Result};

/// As many views as one kernel takes: two lists of them fit into the 4 KiB of its parameters.
pub const MAX_VIEWS: usize = 128;

/// Channels that lie in several places, one view after the other.
pub struct Views {
    /// Where each view begins.
    pub data: [Address; MAX_VIEWS],
    /// The first channel of each view, and the channels of all from there on.
    pub first: [i32; MAX_VIEWS + 1],
    /// How many there are.
    pub count: i32,
}

impl Views {
    /// From place and channels of each.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more than a kernel takes.
    pub fn new(cuda: &Cuda, op: &'static str, views: impl ExactSizeIterator<Item = (Span, usize)>) -> Result<Self> {
        let count = views.len();
        if count > MAX_VIEWS {
            return Err(Error::shape(op, format!("at most {MAX_VIEWS} inputs on a GPU"), format!("{count}")));
        }
        let (mut data, mut first) = ([Address::NULL; MAX_VIEWS], [0; MAX_VIEWS + 1]);
        let mut channels = 0;
        for (i, (span, len)) in views.enumerate() {
            (data[i], first[i]) = (cuda.address(span), channels);
            channels += len as i32;
        }
        first[count..].fill(channels);
        Ok(Self { data, first, count: count as i32 })
    }

    /// How many f32 a kernel may load at once from rows of `plane` f32 of any view.
    pub fn vector(&self, plane: usize) -> usize {
        common_vector(&self.data, plane)
    }
}

/// Where the gradients of views go.
pub struct Targets {
    /// Where each begins; null where none is wanted.
    pub data: [Address; MAX_VIEWS],
    /// Bit v is set when the gradient of view v is added to what is there.
    pub add: [u32; MAX_VIEWS / 32],
}

impl Targets {
    /// From the place of each and whether to add, of no more targets than [`Views::new`] took views.
    pub fn new(cuda: &Cuda, targets: impl Iterator<Item = Option<(Span, bool)>>) -> Self {
        let mut result = Self { data: [Address::NULL; MAX_VIEWS], add: [0; MAX_VIEWS / 32] };
        for (i, (span, add)) in targets.enumerate().filter_map(|(i, target)| Some((i, target?))) {
            result.data[i] = cuda.address(span);
            result.add[i / 32] |= u32::from(add) << (i % 32);
        }
        result
    }

    /// How many f32 a kernel may store at once in rows of `plane` f32 of any target.
    pub fn vector(&self, plane: usize) -> usize {
        common_vector(&self.data, plane)
    }
}

/// Null is a multiple of everything.
fn common_vector(data: &[Address; MAX_VIEWS], plane: usize) -> usize {
    data.iter().map(|address| address.vector(plane)).fold(4, usize::min)
}
