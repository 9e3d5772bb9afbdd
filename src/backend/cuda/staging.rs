//! Numbers on their way between the CPU and the device, through pinned memory, without waiting.
//!
//! Uploads fill one half of a buffer while the copies from the other half may still be queued; a half
//! is used again when the event recorded at its end has come to pass. On the device the same offsets
//! are overwritten in the order of the stream, after the kernels that read them.

use super::Address;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice, sys};
use std::sync::Arc;

/// Bytes of one half at first: more than all tables of a step of the paper's networks.
const HALF: usize = 1 << 20;
/// Alignment of an upload in bytes: the widest vector load, and a line of memory.
pub const ALIGN: usize = 128;

/// See the module documentation.
pub struct Staging {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    host: PinnedHostSlice<u8>,
    device: CudaSlice<u8>,
    /// Bytes of a half.
    half: usize,
    /// The half in use, and the first free byte of it.
    current: usize,
    used: usize,
    /// Recorded when the last copy out of a half was queued.
    done: [CudaEvent; 2],
    /// Smaller buffers of before, which kernels of this step may still be given addresses of.
    outgrown: Vec<CudaSlice<u8>>,
}

impl Staging {
    pub fn new(context: &Arc<CudaContext>, stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        Self::with_half(context, stream, HALF)
    }

    fn with_half(context: &Arc<CudaContext>, stream: &Arc<CudaStream>, half: usize) -> Result<Self, DriverError> {
        // SAFETY: bytes are written before they are copied or read.
        let (host, device) = unsafe { (context.alloc_pinned::<u8>(2 * half)?, stream.alloc::<u8>(2 * half)?) };
        Ok(Self {
            context: Arc::clone(context),
            stream: Arc::clone(stream),
            host,
            device,
            half,
            current: 0,
            used: 0,
            done: [context.new_event(None)?, context.new_event(None)?],
            outgrown: Vec::new(),
        })
    }

    /// Queues a copy of `bytes`; the address is theirs until as much as a half has been uploaded after them.
    pub fn upload(&mut self, bytes: &[u8]) -> Result<Address, DriverError> {
        if bytes.len() > self.half {
            self.stream.synchronize()?;
            let larger = Self::with_half(&self.context, &self.stream, bytes.len().next_power_of_two())?;
            let Self { device, mut outgrown, .. } = std::mem::replace(self, larger);
            outgrown.push(device);
            self.outgrown = outgrown;
        }
        if self.used + bytes.len() > self.half {
            self.done[self.current].record(&self.stream)?;
            (self.current, self.used) = (1 - self.current, 0);
            self.done[self.current].synchronize()?;
        }
        let at = self.current * self.half + self.used;
        let from = &mut self.host.as_mut_slice()?[at..at + bytes.len()];
        from.copy_from_slice(bytes);
        let to = self.device.device_ptr(&self.stream).0 + at as u64;
        // SAFETY: both ranges lie inside their buffers. The pinned one is not written again before the
        // event at the end of its half; both live until the stream has been waited for.
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream())? };
        self.used = (self.used + bytes.len()).next_multiple_of(ALIGN);
        Ok(Address(to))
    }
}

/// Numbers of one copy back, and copies that may be under way.
const SLOT_LEN: usize = 16;
const SLOTS: usize = 16;

/// A copy under way.
#[derive(Debug)]
pub struct Fetch {
    slot: usize,
    len: usize,
    /// Which use of the slot.
    number: u64,
}

/// Copies of a few numbers off the device.
pub struct Readback {
    host: PinnedHostSlice<f32>,
    arrived: Vec<CudaEvent>,
    next: u64,
}

impl Readback {
    pub fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        // SAFETY: zeroed at once. Flags 0: the CPU reads it, which write-combined memory makes slow.
        let mut host = unsafe { context.alloc_pinned_with_flags::<f32>(SLOTS * SLOT_LEN, 0)? };
        host.as_mut_slice()?.fill(0.0);
        let blocking = Some(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC);
        let arrived = (0..SLOTS).map(|_| context.new_event(blocking)).collect::<Result<_, _>>()?;
        Ok(Self { host, arrived, next: 0 })
    }

    /// Queues the copy of `len` numbers.
    ///
    /// # Panics
    /// When `len` is more than a slot holds: a mistake of the engine.
    pub fn start(&mut self, stream: &CudaStream, from: Address, len: usize) -> Result<Fetch, DriverError> {
        assert!(len <= SLOT_LEN, "{len} numbers in one copy back");
        let (slot, number) = ((self.next % SLOTS as u64) as usize, self.next);
        let to = &mut self.host.as_mut_slice()?[slot * SLOT_LEN..][..len];
        // SAFETY: the source holds `len` numbers (the caller's span); the slot is read after its event only.
        unsafe { result::memcpy_dtoh_async(to, from.0, stream.cu_stream())? };
        self.arrived[slot].record(stream)?;
        self.next += 1;
        Ok(Fetch { slot, len, number })
    }

    /// The numbers, when they have arrived.
    ///
    /// # Panics
    /// When more copies than slots were started since: a mistake of the engine.
    pub fn finish(&mut self, copy: Fetch) -> Result<Vec<f32>, DriverError> {
        assert!(copy.number + SLOTS as u64 >= self.next, "copy {} was overwritten", copy.number);
        self.arrived[copy.slot].synchronize()?;
        Ok(self.host.as_slice()?[copy.slot * SLOT_LEN..][..copy.len].to_vec())
    }
}
