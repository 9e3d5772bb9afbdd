//! Data sets in device memory: copied once, kept as long as the device.

use super::Address;
use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::collections::HashMap;
use std::sync::Arc;

/// Device copies by the number of what they are copies of.
#[derive(Default)]
pub struct Residents {
    sets: HashMap<u64, Vec<CudaSlice<u8>>>,
}

impl Residents {
    /// Where the parts of set `id` lie; copies them at the first call.
    pub fn get(&mut self, stream: &Arc<CudaStream>, id: u64, parts: &[&[u8]]) -> Result<Vec<Address>, DriverError> {
        if !self.sets.contains_key(&id) {
            let copies = parts.iter().map(|part| stream.clone_htod(*part)).collect::<Result<_, _>>()?;
            // The sources are pageable memory: wait until they have been read.
            stream.synchronize()?;
            self.sets.insert(id, copies);
        }
        Ok(self.sets[&id].iter().map(|copy| Address(copy.device_ptr(stream).0)).collect())
    }
}
