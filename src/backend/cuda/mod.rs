//! CUDA: one GPU, one stream, kernels written by hand in `kernels/`.
//!
//! Everything an op asks for is queued on the stream and runs in that order; the CPU runs ahead
//! and waits only where it reads numbers back. Nothing is allocated on the device while training:
//! regions are reserved once, and what kernels need from the CPU goes through pinned memory
//! (`staging`). A step that repeats itself can be captured and replayed as one graph (`graph`).
//!
//! Nothing here panics without a driver or a GPU: [`Cuda::open`] asks before it calls.

pub mod ceiling;
mod conv;
mod correlate;
mod driver;
mod elementwise;
mod filter_gradient;
mod graph;
mod images;
mod launch;
mod residents;
mod staging;
mod views;

pub use conv::{ConvPolicy, ConvVariant};
pub use correlate::{Chosen, Correlation, Names, Pass, pack};
pub(crate) use correlate::{correlate_names, correlate_pass};
pub use driver::{DeviceInfo, probe};
pub use elementwise::{accumulate, gate_leaky};
pub use filter_gradient::{FilterGradient, FilterTarget, add_parts};
pub use graph::Recording;
pub use images::BUILT_WITH;
pub(crate) use launch::params;
pub use launch::{Address, Field, Grid, KernelFacts, Params};
pub use staging::Fetch;
pub use views::{MAX_VIEWS, Targets, Views};

use crate::backend::{Region, Span};
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, result, sys};
use driver::fault;
use graph::Script;
use launch::Kernels;
use residents::Residents;
use staging::{Readback, Staging};
use std::sync::Arc;

/// Numbers that are written to the device at once: half a megabyte.
const PIECE: usize = 1 << 17;

/// Blocks along y or z that a launch may have.
const MAX_BLOCKS_YZ: u32 = 65_535;

/// Memory regions of a context.
const REGIONS: usize = 6;

/// A GPU that is ready to compute.
pub struct Cuda {
    /// Kernels of the build, loaded as they are first used. Unloaded before the context goes.
    kernels: Kernels,
    regions: [Option<CudaSlice<f32>>; REGIONS],
    residents: Residents,
    staging: Staging,
    readback: Readback,
    /// The step being captured or replayed.
    script: Option<Script>,
    /// Kernels queued so far.
    launches: u64,
    /// While somebody watches: those of them that differ.
    watched: Option<Vec<(&'static str, &'static str)>>,
    conv_policy: ConvPolicy,
    info: DeviceInfo,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({})", self.info.name)
    }
}

impl Cuda {
    /// Opens GPU `ordinal`.
    ///
    /// # Errors
    /// [`Error::Device`] names what is missing (driver, GPU, kernels of this build) or too old.
    pub fn open(ordinal: usize) -> Result<Self> {
        let info = probe(ordinal)?;
        let open = |e| fault(&info.device, "opening it", e);
        let context = CudaContext::new(ordinal).map_err(open)?;
        // SAFETY: one stream is used, so that its order is all the synchronisation there is to do.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(open)?;
        Ok(Self {
            kernels: Kernels::new(&info),
            regions: Default::default(),
            residents: Residents::default(),
            staging: Staging::new(&context, &stream).map_err(open)?,
            readback: Readback::new(&context).map_err(open)?,
            script: None,
            launches: 0,
            watched: None,
            conv_policy: ConvPolicy::Exact,
            info,
            stream,
            context,
        })
    }

    /// What the driver says about this GPU.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Kernels queued so far, those of replayed graphs included.
    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// Begins to note which kernels are launched.
    pub fn watch_kernels(&mut self) {
        self.watched = Some(Vec::new());
    }

    /// The kernels that were launched since [`Cuda::watch_kernels`], each once, and an end to it.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn watched_kernels(&mut self) -> Result<Vec<KernelFacts>> {
        let watched = self.watched.take().unwrap_or_default();
        watched.into_iter().map(|(op, pass)| self.kernels.facts(op, pass)).collect()
    }

    /// Which kernels convolutions take.
    pub fn conv_policy(&self) -> ConvPolicy {
        self.conv_policy
    }

    /// Chooses which kernels convolutions take.
    pub fn set_conv_policy(&mut self, policy: ConvPolicy) {
        self.conv_policy = policy;
    }

    /// The stream, with the context current on this thread.
    fn stream(&self) -> Result<sys::CUstream> {
        self.context.bind_to_thread().map_err(|e| self.fault("binding its context", e))?;
        Ok(self.stream.cu_stream())
    }

    fn fault(&self, doing: &str, error: result::DriverError) -> Error {
        fault(&self.info.device, doing, error)
    }

    /// Replaces a region by `len` zeros.
    ///
    /// # Errors
    /// [`Error::Device`] when the GPU has not that much memory, with what was asked and what is free.
    pub fn reserve(&mut self, region: Region, len: usize) -> Result<()> {
        if self.regions[region as usize].take().is_some() {
            // Freeing is queued too: without waiting, the old memory would still be taken.
            self.synchronize()?;
        }
        let allocated = self.stream.alloc_zeros::<f32>(len.max(1));
        let memory = allocated.map_err(|e| self.out_of_memory(&format!("{region:?} memory"), len * 4, e))?;
        self.regions[region as usize] = Some(memory);
        // The allocation is queued: wait, so that a failure is this call's.
        self.synchronize()
    }

    fn out_of_memory(&self, what: &str, bytes: usize, error: result::DriverError) -> Error {
        if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return self.fault(&format!("allocating {what}"), error);
        }
        let free = self.context.mem_get_info().map_or_else(|_| "an unknown amount".into(), |(free, _)| mib(free));
        let message = format!(
            "{} of {what} asked for, {free} of {} free; use smaller batches or a smaller space, or end other programs",
            mib(bytes),
            mib(self.info.memory_bytes)
        );
        Error::Device { name: self.info.device.clone(), message }
    }

    /// Bytes of device memory that nobody uses.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn free_bytes(&self) -> Result<usize> {
        self.stream()?;
        let (free, _) = self.context.mem_get_info().map_err(|e| self.fault("asking for its memory", e))?;
        Ok(free)
    }

    /// Numbers in a region.
    pub fn region_len(&self, region: Region) -> usize {
        self.regions[region as usize].as_ref().map_or(0, CudaSlice::len)
    }

    /// Where `span` lies in device memory.
    ///
    /// # Panics
    /// When it leaves its region: an error of an op, not of its input.
    pub fn address(&self, span: Span) -> Address {
        let len = self.region_len(span.region);
        assert!(span.len <= len && span.start <= len - span.len, "{span:?} lies outside its region of {len}");
        match &self.regions[span.region as usize] {
            Some(memory) => Address(memory.device_ptr(&self.stream).0 + (span.start * size_of::<f32>()) as u64),
            None => Address::NULL,
        }
    }

    /// Queues kernel `<op>_<pass>` over `grid`; nothing for an empty grid.
    ///
    /// # Errors
    /// [`Error::Device`] when this build has no such kernel for this GPU, [`Error::Run`] when the GPU reports a fault.
    pub fn launch<P: Params>(&mut self, op: &'static str, pass: &'static str, grid: Grid, params: &P) -> Result<()> {
        if grid.is_empty() {
            return Ok(());
        }
        if grid.blocks[1].max(grid.blocks[2]) > MAX_BLOCKS_YZ {
            return Err(Error::Run(format!("{op}_{pass}: {:?} blocks are more than a GPU takes", grid.blocks)));
        }
        let stream = self.stream()?;
        let function = self.kernels.function::<P>(op, pass)?;
        self.launches += 1;
        if let Some(watched) = &mut self.watched
            && !watched.contains(&(op, pass))
        {
            watched.push((op, pass));
        }
        if let Some(script) = &mut self.script {
            script.note(function as usize, grid, launch::bytes(params));
            if script.is_replay() {
                return Ok(());
            }
        }
        let [x, y, z] = grid.blocks;
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast()];
        // SAFETY: `function` belongs to a module that `self.kernels` keeps loaded. Its one parameter is
        // a struct with the fields and the size of `P` (`Kernels::function` has compared them), copied
        // by this call. The addresses in it come from `address` and `upload`, whose memory lives as
        // long as `self`, whose drop waits for the stream.
        unsafe { result::launch_kernel(function, (x, y, z), (grid.threads, 1, 1), 0, stream, &mut arguments) }
            .map_err(|e| self.fault(&format!("launching {op}_{pass}"), e))
    }

    /// Copies a table to the device for the kernels of this step.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault, [`Error::Device`] when it has no memory.
    pub fn upload<T: bytemuck::NoUninit>(&mut self, table: &[T]) -> Result<Address> {
        let bytes: &[u8] = bytemuck::cast_slice(table);
        if let Some(script) = &mut self.script {
            return script.upload(bytes);
        }
        self.stream()?;
        self.staging.upload(bytes).map_err(|e| self.out_of_memory("staging memory", bytes.len(), e))
    }

    /// The numbers of `span`, after all queued kernels.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn read(&mut self, span: Span) -> Result<Vec<f32>> {
        let mut values = vec![0f32; span.len];
        let (stream, from) = (self.stream()?, self.address(span));
        // SAFETY: `address` checked that the source holds `span.len` f32; the stream is waited for
        // before `values` is touched again.
        let copied = unsafe { result::memcpy_dtoh_async(&mut values, from.0, stream) };
        copied.map_err(|e| self.fault("reading back", e))?;
        self.synchronize()?;
        Ok(values)
    }

    /// Queues a copy of a few numbers off the device; see [`crate::backend::Context::read_later`].
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn read_later(&mut self, span: Span) -> Result<Fetch> {
        self.stream()?;
        let from = self.address(span);
        self.readback.start(&self.stream, from, span.len).map_err(|e| self.fault("reading back", e))
    }

    /// The numbers of a queued copy, when they have arrived.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn wait(&mut self, copy: Fetch) -> Result<Vec<f32>> {
        self.readback.finish(copy).map_err(|e| self.fault("running kernels", e))
    }

    /// Writes numbers to `span` in the order of kernels.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn write(&mut self, span: Span, values: &[f32]) -> Result<()> {
        // In pieces, so that pinned memory does not have to grow to the largest of them.
        for (i, piece) in values.chunks(PIECE).enumerate() {
            let from = self.upload(piece)?;
            self.copy(from, span.sub(i * PIECE, piece.len()))?;
        }
        Ok(())
    }

    /// Queues a copy inside device memory.
    fn copy(&mut self, from: Address, to: Span) -> Result<()> {
        let (stream, target) = (self.stream()?, self.address(to));
        if let Some(script) = &mut self.script {
            script.note_memory("copy", [from.0, target.0, to.len as u64]);
            if script.is_replay() {
                return Ok(());
            }
        }
        // SAFETY: `from` is staged memory of this length, `target` was checked by `address`; both live
        // as long as `self`, whose drop waits for the stream.
        unsafe { result::memcpy_dtod_async(target.0, from.0, to.len * size_of::<f32>(), stream) }
            .map_err(|e| self.fault("copying", e))
    }

    /// Sets every number of `span`, in the order of kernels.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn fill(&mut self, span: Span, value: f32) -> Result<()> {
        if span.len == 0 {
            return Ok(());
        }
        let (stream, target) = (self.stream()?, self.address(span));
        if let Some(script) = &mut self.script {
            script.note_memory("fill", [target.0, span.len as u64, value.to_bits().into()]);
            if script.is_replay() {
                return Ok(());
            }
        }
        // SAFETY: `address` checked that the target holds `span.len` numbers of 32 bits.
        unsafe { sys::cuMemsetD32Async(target.0, value.to_bits(), span.len, stream) }
            .result()
            .map_err(|e| self.fault("filling", e))
    }

    /// Device memory that holds `bytes`, copied there at the first call with this `id`: a data set.
    ///
    /// # Errors
    /// [`Error::Device`] when the GPU has not that much memory.
    pub fn resident(&mut self, id: u64, parts: &[&[u8]]) -> Result<Vec<Address>> {
        self.stream()?;
        let bytes = parts.iter().map(|p| p.len()).sum();
        self.residents.get(&self.stream, id, parts).map_err(|e| self.out_of_memory("images", bytes, e))
    }

    /// Waits for everything queued.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(|e| self.fault("running kernels", e))
    }

    /// Tells an attached profiler to begin or end recording.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn profile(&self, on: bool) -> Result<()> {
        self.synchronize()?;
        // SAFETY: no preconditions but an initialised driver, which `open` has seen to.
        let switched = unsafe { if on { sys::cuProfilerStart() } else { sys::cuProfilerStop() } };
        switched.result().map_err(|e| self.fault("switching the profiler", e))
    }
}

/// Waits for everything queued on the GPU that this thread has opened. A fault is reported by whoever asks next.
///
/// # Panics
/// Without a driver: nobody can have opened a GPU.
pub fn settle() {
    // SAFETY: waiting needs no more than a driver that was initialised, as whoever opened a GPU has done.
    let _ = unsafe { sys::cuCtxSynchronize() };
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Kernels in flight use the memory that goes now, and unloading modules needs the context.
        // An error was reported before or is moot.
        let _ = self.stream().map(|_| self.stream.synchronize());
    }
}

fn mib(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
