//! All parameters of a network in flat buffers with named ranges.
//!
//! Values, gradients and moments lie at the same offsets of four memory regions, so that an
//! optimiser is one pass over them. Running statistics live in a region of their own. Names
//! (`block0.w2`, `hyper.dense1.3.w`) are those of checkpoint and weight files.

use crate::backend::{Context, Region, Span};
use crate::error::Result;
use crate::nn::init::Init;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// A handle to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(usize);

/// A named range of the parameter region.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name, unique in the network.
    pub name: String,
    /// Extent, outermost first: `[K, C, R, S]` of a filter, `[C]` of a vector.
    pub dims: Vec<usize>,
    /// Where it lies.
    pub span: Span,
    /// How it starts.
    pub init: Init,
}

/// A named range of running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// Name, unique in the network.
    pub name: String,
    /// Where it lies.
    pub span: Span,
    /// Its value at the start.
    pub start: f32,
}

/// The parameters and running statistics of one network.
#[derive(Clone, Debug, Default)]
pub struct ParamStore {
    params: Vec<Param>,
    statistics: Vec<Statistic>,
    len: usize,
    statistics_len: usize,
    /// Parameters below this offset have no weight decay: those of the HyperNet.
    undecayed: usize,
}

impl ParamStore {
    /// Appends a parameter.
    pub fn add(&mut self, name: impl Into<String>, dims: &[usize], init: Init) -> ParamId {
        let len = dims.iter().product();
        let span = Span { region: Region::Params, start: self.len, len };
        self.len += len;
        self.params.push(Param { name: name.into(), dims: dims.to_vec(), span, init });
        ParamId(self.params.len() - 1)
    }

    /// Appends `len` running statistics that start at `start`.
    pub fn add_statistic(&mut self, name: impl Into<String>, len: usize, start: f32) -> Span {
        let span = Span { region: Region::State, start: self.statistics_len, len };
        self.statistics_len += len;
        self.statistics.push(Statistic { name: name.into(), span, start });
        span
    }

    /// Everything added so far gets no weight decay.
    pub fn end_undecayed(&mut self) {
        self.undecayed = self.len;
    }

    /// A parameter.
    pub fn get(&self, id: ParamId) -> &Param {
        &self.params[id.0]
    }

    /// All parameters, in the order of their memory.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// All running statistics, in the order of their memory.
    pub fn statistics(&self) -> &[Statistic] {
        &self.statistics
    }

    /// Number of learned numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All parameters.
    pub fn span(&self) -> Span {
        Span { region: Region::Params, start: 0, len: self.len }
    }

    /// So many of the first have no weight decay.
    pub fn undecayed(&self) -> usize {
        self.undecayed
    }

    /// Reserves all regions in `context`, zeroed, and starts the running statistics.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the system refuses the memory.
    pub fn reserve(&self, context: &mut Context) -> Result<()> {
        for region in [Region::Params, Region::Grads, Region::Moment1, Region::Moment2] {
            context.reserve(region, self.len)?;
        }
        context.reserve(Region::State, self.statistics_len)?;
        for statistic in &self.statistics {
            context.fill(statistic.span, statistic.start)?;
        }
        Ok(())
    }

    /// Draws all initial values, each parameter from a stream of its own; `network` keeps the
    /// networks of a run apart. The same values on every device.
    ///
    /// # Errors
    /// As [`Context::write`].
    pub fn initialise(&self, context: &mut Context, seed: u64, network: u32) -> Result<()> {
        for (i, param) in self.params.iter().enumerate() {
            let mut rng = Rng::sub(seed, Stream::Init, network << 16 | i as u32);
            let mut values = vec![0.0; param.span.len];
            param.init.fill(&param.dims, &mut values, &mut rng);
            context.write(param.span, &values)?;
        }
        Ok(())
    }

    /// The parameter as a vector on the tape.
    pub fn var(&self, tape: &mut Tape<'_>, id: ParamId, train: bool) -> Var {
        let span = self.get(id).span;
        tape.param(Shape::vector(span.len), span, train)
    }

    /// The first `len` numbers of the parameter as a vector on the tape.
    pub fn prefix(&self, tape: &mut Tape<'_>, id: ParamId, len: usize, train: bool) -> Var {
        tape.param(Shape::vector(len), self.get(id).span.sub(0, len), train)
    }
}
