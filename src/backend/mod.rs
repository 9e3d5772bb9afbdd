//! Where numbers live and what computes on them.
//!
//! A [`Context`] bundles a [`Device`], its [`Memory`] regions and the step [`Arena`].
//! Ops ask the tape for spans, then hand spans to [`Context::compute`], which runs the
//! closure on the device. On [`Device::Plan`] nothing is computed: the same program that
//! trains then only *allocates*, which is how a run states its peak memory beforehand.

mod arena;
pub mod cpu;
mod memory;

pub use arena::Arena;
pub use cpu::Cpu;
pub use memory::{Claims, Memory, Region, Span};

use crate::error::Result;

/// What executes the kernels.
#[derive(Debug)]
pub enum Device {
    /// SIMD kernels on a fixed number of threads.
    Cpu(Cpu),
    /// Nothing: allocations are counted, kernels are skipped.
    Plan,
}

/// A device with its memory: everything a tape needs to run one step.
#[derive(Debug)]
pub struct Context {
    device: Device,
    memory: Memory,
    arena: Arena,
}

impl Context {
    /// A CPU context whose step arena holds `arena_len` f32.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the system refuses that much memory.
    pub fn cpu(cpu: Cpu, arena_len: usize) -> Result<Self> {
        let mut memory = Memory::default();
        memory.resize(Region::Step, arena_len)?;
        Ok(Self { device: Device::Cpu(cpu), memory, arena: Arena::with_capacity(arena_len) })
    }

    /// A context that only counts allocations.
    pub fn plan() -> Self {
        Self { device: Device::Plan, memory: Memory::default(), arena: Arena::with_capacity(usize::MAX) }
    }

    /// True when kernels are skipped.
    pub fn is_plan(&self) -> bool {
        matches!(self.device, Device::Plan)
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
    pub fn alloc(&mut self, len: usize) -> Result<Span> {
        Ok(Span { region: Region::Step, start: self.arena.alloc(len)?, len })
    }

    /// Gives an arena span back; other regions are left alone.
    pub fn free(&mut self, span: Span) {
        if span.region == Region::Step {
            self.arena.free(span.start, span.len);
        }
    }

    /// Runs `kernel` on the device; skipped on [`Device::Plan`].
    pub fn compute<R>(&mut self, kernel: impl FnOnce(&Claims<'_>, &Cpu) -> R) -> Option<R> {
        match &self.device {
            Device::Cpu(cpu) => Some(kernel(&self.memory.claim(), cpu)),
            Device::Plan => None,
        }
    }

    /// The memory regions.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The memory regions, to fill or resize.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
}
