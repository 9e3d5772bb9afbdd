//! Shapes and tensors: where a value lies, not the value itself.
//!
//! Layout is C, D, H, W, N (channels outermost, batch innermost, contiguous), so a range of
//! channels of any tensor is one contiguous run of memory and a *view* is an offset. Pictures have
//! a depth of 1: what is written as C, H, W, N elsewhere.
//! A [`Tensor`] is a shape and a [`Span`] of a memory region; it owns nothing.

use crate::backend::Span;
use std::fmt;
use std::ops::Range;

/// Extent of a tensor in the order of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Channels.
    pub c: usize,
    /// Slices of a channel: 1 for pictures.
    pub d: usize,
    /// Rows of a channel.
    pub h: usize,
    /// Columns of a channel.
    pub w: usize,
    /// Images of the batch.
    pub n: usize,
}

impl Shape {
    /// A shape of pictures from channels, rows, columns, images.
    pub fn new(c: usize, h: usize, w: usize, n: usize) -> Self {
        Self { c, d: 1, h, w, n }
    }

    /// Volumes of `d` slices, each as large as the pictures of this shape.
    pub fn with_depth(self, d: usize) -> Self {
        Self { d, ..self }
    }

    /// A vector of `len` numbers: `len` channels of one pixel of one image.
    pub fn vector(len: usize) -> Self {
        Self::new(len, 1, 1, 1)
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.c * self.plane()
    }

    /// True when there is no element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Elements of one channel over the whole batch.
    pub fn plane(self) -> usize {
        self.d * self.slice()
    }

    /// Elements of one slice of a channel over the whole batch.
    pub fn slice(self) -> usize {
        self.h * self.w * self.n
    }

    /// Pixels of a channel of one image.
    pub fn pixels(self) -> usize {
        self.d * self.h * self.w
    }

    /// The same picture size and batch with `c` channels.
    pub fn with_channels(self, c: usize) -> Self {
        Self { c, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { c, d, h, w, n } = self;
        match d {
            1 => write!(f, "[C {c}, H {h}, W {w}, N {n}]"),
            _ => write!(f, "[C {c}, D {d}, H {h}, W {w}, N {n}]"),
        }
    }
}

/// A shape and the place of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Extent.
    pub shape: Shape,
    /// Where the elements lie; `span.len == shape.len()`.
    pub span: Span,
}

impl Tensor {
    /// Channels `range` of this tensor: the same memory, no copy.
    pub fn channels(self, range: Range<usize>) -> Self {
        let plane = self.shape.plane();
        Self {
            shape: self.shape.with_channels(range.len()),
            span: self.span.sub(range.start * plane, range.len() * plane),
        }
    }
}
