//! Data sets in device memory: copied once, kept as long as the device.

use super::Address;
use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Device copies by the number of what they are copies of.
#[derive(Default)]
pub struct Residents {
    sets: HashMap<u64, Vec<CudaSlice<u8>>>,
}

impl Residents {
    /// Where the parts of set `id` lie; copies them at the first call.
    pub fn get(&mut self, stream: &Arc<CudaStream>, id: u64, parts: &[&[u8]]) -> Result<Vec<Address>, DriverError> {
        let set = match self.sets.entry(id) {
            Entry::Occupied(set) => set.into_mut(),
            Entry::Vacant(set) => {
                let copies = parts.iter().map(|part| copy(stream, part)).collect::<Result<_, _>>()?;
                // The sources are pageable memory: wait until they have been read.
                stream.synchronize()?;
                set.insert(copies)
            }
        };
        Ok(set.iter().map(|copy| Address(copy.device_ptr(stream).0)).collect())
    }
}

fn copy(stream: &Arc<CudaStream>, part: &[u8]) -> Result<CudaSlice<u8>, DriverError> {
    // There is no memory of no bytes; a file without images is never read.
    stream.clone_htod(if part.is_empty() { &[0][..] } else { part })
}
