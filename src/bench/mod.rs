//! Measuring speed: what `smash-engine bench` and `cargo bench` do.
//!
//! ```text
//! spec (what) -> cases (operands, op, f64 reference) -> trial (one timed run, checked) -> kernels (rounds, rows)
//!                                              step (training steps and scores of architectures; rounds, rows)
//! both -> saved (a run with all its samples) -> table, JSON;  two of them -> compare (a verdict for each row)
//! ```
//!
//! Samples are taken in rounds: each round takes one of every row, and the limits of the device are measured before,
//! between and after them (`Yardstick`). So all rows see the machine in all its moods, and its moods are known.

#![allow(missing_docs)] // fields of records are the keys of their JSON form, with the unit in the name

pub mod cases;
pub mod compare;
pub mod glob;
pub mod kernels;
pub mod saved;
mod setting;
pub mod space;
pub mod spec;
pub mod stats;
pub mod step;
mod step_rows;
pub mod table;
pub mod trial;
mod update;

use crate::backend::cpu::ceiling as cpu;
use crate::backend::cuda::ceiling as cuda;
use crate::backend::{Context, Kind};
use crate::cli::Conv;
use crate::error::{Error, Result};
use crate::testing::Variant;
use saved::Ceilings;
use serde_json::Value;
use trial::synchronize;

/// The device that is measured, and how to get there.
pub struct Place<'a> {
    /// CPU or GPU.
    pub kind: Kind,
    /// The emulator of the tests, where speed means nothing and everything takes long.
    pub emulated: bool,
    /// All about it, for the saved run.
    pub device: Value,
    /// Opens it with room for so many f32 of step memory.
    pub opens: &'a dyn Fn(usize) -> Result<Context>,
    /// Bytes that are free, where the device itself would not refuse more: a system may promise memory that it does
    /// not have, and end the program that takes it.
    pub free: Option<u64>,
    /// Hears of progress.
    pub say: &'a dyn Fn(&str),
}

impl Place<'_> {
    /// Opens the device with so many f32 of step memory.
    fn open(&self, len: usize) -> Result<Context> {
        self.has_room(len)?;
        (self.opens)(len)
    }

    /// Is there so much step memory?
    fn has_room(&self, len: usize) -> Result<()> {
        let bytes = (len as u64).saturating_mul(size_of::<f32>() as u64);
        match self.free {
            Some(free) if bytes > free => Err(Error::Run(format!(
                "this takes {} MiB of step memory, and {} MiB are free; take fewer or smaller images, fewer launches",
                bytes >> 20,
                free >> 20
            ))),
            _ => Ok(()),
        }
    }
}

/// Measures the limits of a device again and again.
#[derive(Default)]
struct Yardstick {
    copy: Option<cpu::Copy>,
    ceilings: Ceilings,
}

/// f32 of a copy on a GPU: 128 MiB a side, more than its L2 cache holds. Less on the emulator.
fn gpu_copy(emulated: bool) -> usize {
    if emulated { 1 << 10 } else { 32 << 20 }
}

impl Yardstick {
    /// One that measures copies too, for which it needs a quarter of a GiB.
    fn with_copy(kind: Kind) -> Self {
        Self { copy: (kind == Kind::Cpu).then(cpu::Copy::default), ..Self::default() }
    }

    /// Step memory in f32 that measuring takes, on a GPU: both sides of a copy, and a sum of every thread of up to 256
    /// multiprocessors.
    fn plan(place: &Place<'_>) -> usize {
        if place.kind == Kind::Cpu { 0 } else { 2 * gpu_copy(place.emulated) + (1 << 20) }
    }

    /// Measures once; the step memory is free. The first measurement of a device warms it up.
    fn sample(&mut self, context: &mut Context) -> Result<()> {
        if self.ceilings.fma_gflops.is_empty() {
            self.measure(context)?;
            self.ceilings = Ceilings::default();
        }
        self.measure(context)
    }

    fn measure(&mut self, context: &mut Context) -> Result<()> {
        context.reset_arena();
        let (mut fma, mut copied) = (0.0, None);
        if let Some(gpu) = context.as_cuda() {
            let (sums, copy) = (cuda::fma_len(gpu), gpu_copy(gpu.info().is_emulator()));
            let spans = [context.alloc(sums)?, context.alloc(copy)?, context.alloc(copy)?];
            context.compute(
                |_, _| {},
                |gpu| {
                    fma = cuda::fma_sample(gpu, spans[0])?;
                    copied = Some(cuda::copy_sample(gpu, spans[1], spans[2])?);
                    Ok(())
                },
            )?;
            context.reset_arena();
        } else {
            let copy = &mut self.copy;
            context.compute(
                |_, device| {
                    fma = cpu::fma_sample(device);
                    copied = copy.as_mut().map(|copy| copy.sample(device));
                },
                |_| Ok(()),
            )?;
        }
        self.ceilings.fma_gflops.push(fma);
        self.ceilings.copy_gbytes.extend(copied);
        Ok(())
    }
}

/// Makes convolutions on a GPU take these kernels; a CPU has one kind.
fn choose(context: &mut Context, conv: Conv) {
    if let Some(cuda) = context.as_cuda() {
        cuda.set_conv_policy(variant(conv).policy());
    }
}

/// The kernels as the checks name them.
fn variant(conv: Conv) -> Variant {
    use crate::backend::cuda::ConvVariant;
    match conv {
        Conv::Exact => Variant::Automatic,
        Conv::Fast => Variant::Fast,
        Conv::Tiled => Variant::Only(ConvVariant::Tiled),
        Conv::Direct => Variant::Only(ConvVariant::Direct),
        Conv::Tf32 => Variant::Only(ConvVariant::Tf32),
    }
}

/// Runs `work` with a CUDA profiler recording, if there is one and it is asked to.
fn recorded(context: &mut Context, work: impl FnOnce(&mut Context) -> Result<()>) -> Result<()> {
    synchronize(context)?;
    let switch = |context: &mut Context, on| context.as_cuda().map_or(Ok(()), |cuda| cuda.profile(on));
    switch(context, true)?;
    work(context)?;
    switch(context, false)
}
