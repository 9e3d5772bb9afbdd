//! A step that repeats itself, captured as a CUDA graph and replayed by one call.
//!
//! The first pass runs as usual (kernels are loaded, the data set becomes resident), the second is
//! captured, later ones are replayed: the same program runs again on the CPU, but a launch only
//! adds to a fingerprint, and an upload goes to the graph's own buffer. At the end the buffer is
//! copied to the device at once and the graph launched. So whatever changes from step to step
//! (images, labels, learning rate) must go through uploads, and everything else (addresses, shapes)
//! must be the same, which the fingerprint proves.

use super::{Address, Cuda, Grid, staging};
use crate::error::{Error, Result};
use cudarc::driver::{CudaGraph, CudaSlice, DevicePtr, result, sys};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Bytes of uploads that a captured step may have.
const UPLOADS: usize = 1 << 20;

/// A step on its way to being replayed; one for each thing that repeats itself.
#[derive(Default)]
pub struct Recording {
    /// Passes so far that were not replays.
    passes: u32,
    taken: Option<Taken>,
}

/// A captured step.
struct Taken {
    graph: CudaGraph,
    uploads: CudaSlice<u8>,
    uploads_len: usize,
    fingerprint: u64,
}

/// What a step under way has done.
pub struct Script {
    replay: bool,
    base: Address,
    uploads: Vec<u8>,
    fingerprint: DefaultHasher,
    /// Where uploads go while the step is captured for the first time.
    fresh: Option<CudaSlice<u8>>,
}

impl Script {
    /// True when launches are skipped, because a graph will do them all.
    pub fn is_replay(&self) -> bool {
        self.replay
    }

    /// Adds a launch to the fingerprint.
    pub fn note<'p>(&mut self, kernel: usize, grid: Grid, params: impl Iterator<Item = &'p [u8]>) {
        (kernel, grid).hash(&mut self.fingerprint);
        params.for_each(|field| field.hash(&mut self.fingerprint));
    }

    /// The same for a pass of the driver over memory.
    pub fn note_memory(&mut self, operation: &str, numbers: [u64; 3]) {
        (operation, numbers).hash(&mut self.fingerprint);
    }

    /// Takes part in the uploads of the graph.
    pub fn upload(&mut self, bytes: &[u8]) -> Result<Address> {
        let at = self.uploads.len().next_multiple_of(staging::ALIGN);
        if at + bytes.len() > UPLOADS {
            return Err(Error::Run(format!("a captured step uploads more than {UPLOADS} bytes")));
        }
        self.uploads.resize(at, 0);
        self.uploads.extend_from_slice(bytes);
        bytes.len().hash(&mut self.fingerprint);
        Ok(Address(self.base.0 + at as u64))
    }
}

impl Cuda {
    /// Begins a pass over a step.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault.
    pub fn begin(&mut self, recording: &Recording) -> Result<()> {
        if recording.passes == 0 {
            return Ok(());
        }
        let stream = self.stream()?;
        let script = |base, fresh, replay| Script {
            replay,
            base,
            uploads: Vec::new(),
            fingerprint: DefaultHasher::new(),
            fresh,
        };
        self.script = Some(match &recording.taken {
            Some(taken) => script(Address(taken.uploads.device_ptr(&self.stream).0), None, true),
            None => {
                // SAFETY: written before the graph that reads it is launched.
                let fresh = unsafe { self.stream.alloc::<u8>(UPLOADS) };
                let fresh = fresh.map_err(|e| self.out_of_memory("graph memory", UPLOADS, e))?;
                self.synchronize()?;
                // SAFETY: the stream is alive, and not capturing.
                unsafe {
                    result::stream::begin_capture(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
                }
                .map_err(|e| self.fault("capturing a step", e))?;
                let base = Address(fresh.device_ptr(&self.stream).0);
                script(base, Some(fresh), false)
            }
        });
        Ok(())
    }

    /// Ends a pass that went well: what it queued is under way now.
    ///
    /// # Errors
    /// [`Error::Run`] when the GPU reports a fault, or the step was not the one that was captured.
    pub fn end(&mut self, recording: &mut Recording) -> Result<()> {
        recording.passes += 1;
        let Some(script) = self.script.take() else { return Ok(()) };
        let fingerprint = script.fingerprint.finish();
        if let Some(uploads) = script.fresh {
            let captured = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
            let graph = captured.map_err(|e| self.fault("capturing a step", e))?;
            let graph = graph.ok_or_else(|| Error::Run("a captured step was empty".into()))?;
            recording.taken = Some(Taken { graph, uploads, uploads_len: script.uploads.len(), fingerprint });
        }
        let Some(taken) = &recording.taken else { return Ok(()) };
        if (taken.fingerprint, taken.uploads_len) != (fingerprint, script.uploads.len()) {
            return Err(Error::Run("a replayed step is not the one that was captured".into()));
        }
        let staged = self.upload(&script.uploads)?;
        let (stream, target) = (self.stream()?, taken.uploads.device_ptr(&self.stream).0);
        // SAFETY: both buffers hold as many bytes and live until the stream has been waited for.
        unsafe { result::memcpy_dtod_async(target, staged.0, script.uploads.len(), stream) }
            .map_err(|e| self.fault("copying", e))?;
        taken.graph.launch().map_err(|e| self.fault("replaying a step", e))
    }

    /// Ends a pass that failed: nothing of it runs.
    pub fn abandon(&mut self) {
        if let Some(Script { fresh: Some(_), .. }) = self.script.take() {
            // The graph is dropped; the error that is being reported is the one that matters.
            let _ = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        }
    }
}
