//! Options of a search space that the paper names and leaves off: what the values of a convolution pass through, on
//! which side of it, and where the paths of a body may be gated (Brock et al. 2018, appendix C, and its published code).
//!
//! A space without them, an architecture of it and its encoding look as if there were none.

use serde::{Deserialize, Serialize};

/// What a convolution's values pass through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nonlinearity {
    /// max(x, 0).
    #[default]
    Relu,
    /// tanh x.
    Tanh,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

impl Nonlinearity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Relu, Self::Tanh, Self::Sigmoid];

    /// The usual one.
    pub fn is_relu(&self) -> bool {
        *self == Self::Relu
    }

    /// Name as in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
        }
    }
}

/// On which side of a convolution its nonlinearity and BatchNorm are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationOrder {
    /// Before it, on what it reads (He et al. 2016): the paper's networks.
    #[default]
    Pre,
    /// Behind it, on what it computes (Ioffe & Szegedy 2015, He et al. 2015).
    Post,
}

impl ActivationOrder {
    /// The paper's.
    pub fn is_pre(&self) -> bool {
        *self == Self::Pre
    }
}

/// At which of its two junctions a body with these convolutions may have a gate, given whether the first has one:
/// behind w0 and w2 where w1 or w3 go on from there, and at the end where two paths arrive.
pub fn gates_allowed(active: [bool; 4], first: bool) -> [bool; 2] {
    let [_, w1, w2, w3] = active;
    [w2 && (w1 || w3), if first { w1 && w3 } else { w2 }]
}
