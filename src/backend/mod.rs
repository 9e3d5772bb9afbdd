//! Where numbers live and what computes on them.
//!
//! A [`Context`] bundles a [`Device`], its memory regions and the step [`Arena`]. Ops ask the
//! tape for spans, then hand spans to [`Context::compute`], which runs the kernel of the device.
//! On [`Device::Plan`] nothing is computed: the same program that trains then only
//! *allocates*, which is how a run states its peak memory beforehand.

mod arena;
pub mod cpu;
pub mod cuda;
mod memory;

pub use arena::Arena;
pub use cpu::Cpu;
pub use cuda::{Cuda, Recording};
pub use memory::{Claims, Memory, Region, Span};

use crate::error::{Error, Result};

/// Most numbers of a tensor on a GPU: kernels count in 32 bits.
const MOST_ON_CUDA: usize = i32::MAX as usize;

/// What executes the kernels.
#[derive(Debug)]
pub enum Device {
    /// SIMD kernels on a fixed number of threads, and their memory.
    Cpu(Cpu, Memory),
    /// CUDA kernels on one stream of a GPU, which owns its memory.
    Cuda(Box<Cuda>),
    /// Nothing: allocations are counted, kernels are skipped.
    Plan(Kind),
}

/// Kinds of devices: kernels differ in the workspace they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A CPU.
    Cpu,
    /// A CUDA device.
    Cuda,
}

/// Numbers on their way from the device; see [`Context::read_later`].
#[derive(Debug)]
pub enum Pending {
    /// Already here.
    Here(Vec<f32>),
    /// Copied by the GPU when it gets there.
    Fetch(cuda::Fetch),
}

/// A device with its memory: everything a tape needs to run one step.
#[derive(Debug)]
pub struct Context {
    device: Device,
    arena: Arena,
}

impl Context {
    /// A CPU context whose step arena holds `arena_len` f32.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the system refuses that much memory.
    pub fn cpu(cpu: Cpu, arena_len: usize) -> Result<Self> {
        Self::with_arena(Device::Cpu(cpu, Memory::default()), Arena::with_capacity(arena_len))
    }

    /// A CUDA context whose step arena holds `arena_len` f32.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the GPU has not that much memory.
    pub fn cuda(cuda: Cuda, arena_len: usize) -> Result<Self> {
        Self::with_arena(Device::Cuda(Box::new(cuda)), Arena::with_capacity(arena_len))
    }

    /// A context that only counts the allocations of a device of this kind.
    pub fn plan(kind: Kind) -> Self {
        Self { device: Device::Plan(kind), arena: Arena::with_capacity(usize::MAX) }
    }

    /// A context with a given arena, whose capacity is reserved.
    fn with_arena(device: Device, arena: Arena) -> Result<Self> {
        let len = arena.capacity();
        let mut context = Self { device, arena };
        context.reserve(Region::Step, len)?;
        Ok(context)
    }

    /// Goes on with another arena, whose capacity is reserved; other regions stay as they are.
    ///
    /// # Errors
    /// As [`Context::reserve`].
    pub fn restart(&mut self, arena: Arena) -> Result<()> {
        self.reserve(Region::Step, arena.capacity())?;
        self.arena = arena;
        Ok(())
    }

    /// True when kernels are skipped.
    pub fn is_plan(&self) -> bool {
        matches!(self.device, Device::Plan(_))
    }

    /// The kind of device that computes or is planned for.
    pub fn kind(&self) -> Kind {
        match self.device {
            Device::Cpu(..) => Kind::Cpu,
            Device::Cuda(_) => Kind::Cuda,
            Device::Plan(kind) => kind,
        }
    }

    /// The GPU, if this is one.
    pub fn as_cuda(&mut self) -> Option<&mut Cuda> {
        match &mut self.device {
            Device::Cuda(cuda) => Some(cuda),
            _ => None,
        }
    }

    /// The step arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Forgets every allocation of the step.
    pub fn reset_arena(&mut self) {
        self.arena.reset();
    }

    /// Takes `len` f32 of the step arena. The contents are arbitrary.
    ///
    /// # Errors
    /// [`Error::Run`] when the arena is full, or a kernel could not count that far.
    pub fn alloc(&mut self, len: usize) -> Result<Span> {
        if self.kind() == Kind::Cuda && len > MOST_ON_CUDA {
            let message = format!("a tensor of {len} numbers is more than the kernels count; use smaller batches");
            return Err(Error::Run(message));
        }
        Ok(Span { region: Region::Step, start: self.arena.alloc(len)?, len })
    }

    /// Gives an arena span back; other regions are left alone.
    pub fn free(&mut self, span: Span) {
        if span.region == Region::Step {
            self.arena.free(span.start, span.len);
        }
    }

    /// Runs the kernel of the device; none on [`Device::Plan`].
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault, of this kernel or an earlier one.
    pub fn compute(
        &mut self,
        cpu: impl FnOnce(&Claims<'_>, &Cpu),
        cuda: impl FnOnce(&mut Cuda) -> Result<()>,
    ) -> Result<()> {
        match &mut self.device {
            Device::Cpu(device, memory) => cpu(&memory.claim(), device),
            Device::Cuda(device) => cuda(device)?,
            Device::Plan(_) => {}
        }
        Ok(())
    }

    /// Runs a pass of something that repeats itself; on a GPU from the third time on as one graph.
    /// What differs between passes is data: images, labels, learning rates. Nothing is read back
    /// inside.
    ///
    /// # Errors
    /// Whatever `pass` reports; [`crate::Error::Run`] when it was not the same as before.
    pub fn replay<R>(&mut self, recording: &mut Recording, pass: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        self.begin_replay(recording)?;
        let result = pass(self);
        self.end_replay(recording, result)
    }

    /// The first half of [`Context::replay`], for a tape, which holds the context.
    pub(crate) fn begin_replay(&mut self, recording: &Recording) -> Result<()> {
        self.as_cuda().map_or(Ok(()), |cuda| cuda.begin(recording))
    }

    /// The second half, given what the pass returned.
    pub(crate) fn end_replay<R>(&mut self, recording: &mut Recording, result: Result<R>) -> Result<R> {
        match (self.as_cuda(), &result) {
            (Some(cuda), Ok(_)) => cuda.end(recording)?,
            (Some(cuda), Err(_)) => cuda.abandon(),
            (None, _) => {}
        }
        result
    }

    /// Replaces a region by `len` zeros; nothing on [`Device::Plan`].
    ///
    /// # Errors
    /// [`crate::Error::Run`] or [`crate::Error::Device`] when there is not that much memory.
    pub fn reserve(&mut self, region: Region, len: usize) -> Result<()> {
        match &mut self.device {
            Device::Cpu(_, memory) => memory.resize(region, len),
            Device::Cuda(cuda) => cuda.reserve(region, len),
            Device::Plan(_) => Ok(()),
        }
    }

    /// The span of a whole region, as far as it was reserved.
    pub fn whole(&self, region: Region) -> Span {
        let len = match &self.device {
            Device::Cpu(_, memory) => memory.region(region).len(),
            Device::Cuda(cuda) => cuda.region_len(region),
            Device::Plan(_) => 0,
        };
        Span { region, start: 0, len }
    }

    /// The numbers of `span`, copied off the device; waits for the kernels that write them.
    /// None on [`Device::Plan`].
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault.
    pub fn read(&mut self, span: Span) -> Result<Vec<f32>> {
        match &mut self.device {
            Device::Cpu(_, memory) => Ok(memory.slice(span).to_vec()),
            Device::Cuda(cuda) => cuda.read(span),
            Device::Plan(_) => Ok(Vec::new()),
        }
    }

    /// Asks for the numbers of `span` as they will be when all kernels up to here have run,
    /// without waiting for them. A few numbers only: a loss.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault.
    pub fn read_later(&mut self, span: Span) -> Result<Pending> {
        match &mut self.device {
            Device::Cuda(cuda) => cuda.read_later(span).map(Pending::Fetch),
            _ => self.read(span).map(Pending::Here),
        }
    }

    /// The numbers that [`Context::read_later`] promised; waits for them.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault.
    pub fn wait(&mut self, pending: Pending) -> Result<Vec<f32>> {
        match (pending, &mut self.device) {
            (Pending::Here(values), _) => Ok(values),
            (Pending::Fetch(fetch), Device::Cuda(cuda)) => cuda.wait(fetch),
            (Pending::Fetch(_), _) => Ok(Vec::new()),
        }
    }

    /// Writes `values` to `span`, in the order of kernels.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn write(&mut self, span: Span, values: &[f32]) -> Result<()> {
        assert_eq!(span.len, values.len(), "numbers for {span:?}");
        match &mut self.device {
            Device::Cpu(_, memory) => memory.slice_mut(span).copy_from_slice(values),
            Device::Cuda(cuda) => cuda.write(span, values)?,
            Device::Plan(_) => {}
        }
        Ok(())
    }

    /// Sets every number of `span`, in the order of kernels.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the GPU reports a fault.
    pub fn fill(&mut self, span: Span, value: f32) -> Result<()> {
        match &mut self.device {
            Device::Cpu(_, memory) => memory.slice_mut(span).fill(value),
            Device::Cuda(cuda) => cuda.fill(span, value)?,
            Device::Plan(_) => {}
        }
        Ok(())
    }
}
