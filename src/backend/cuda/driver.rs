//! Finding the driver and a GPU without a panic, and saying what is wrong where there is none.

use super::{images, mib};
use crate::error::{Error, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUresult};

/// The oldest driver whose interface this program knows, as the driver counts: CUDA 13.0.
const OLDEST_DRIVER: i32 = 13_000;
/// The oldest GPUs for which kernels are built: Ampere, compute capability 8.0.
const OLDEST_COMPUTE: (i32, i32) = (8, 0);
/// How the emulator of the tests calls itself; it needs no kernels from nvcc.
const EMULATOR: &str = "smash CPU emulator";

/// What the driver says about a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `cuda:N`.
    pub device: String,
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub compute: (i32, i32),
    /// Memory in bytes.
    pub memory_bytes: usize,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Driver interface, as 13000 for 13.0.
    pub driver: i32,
}

impl DeviceInfo {
    /// True for the emulator of the tests.
    pub fn is_emulator(&self) -> bool {
        self.name == EMULATOR
    }
}

/// An [`Error::Run`] that says what the device was doing; [`Error::Device`] when it had no memory for it.
pub fn fault(device: &str, doing: &str, error: DriverError) -> Error {
    if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        let message = format!("no memory is left for {doing}; end other programs that use it");
        return Error::Device { name: device.to_string(), message };
    }
    Error::Run(format!("{device}: {doing}: {}", describe(error)))
}

/// The driver's own words. Only called after a driver call, so there is a driver to ask.
fn describe(error: DriverError) -> String {
    let text = |found: std::result::Result<&std::ffi::CStr, DriverError>| {
        found.map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(error.error_name()), text(error.error_string()))
}

/// Number of GPUs; `device` is the one that was asked for.
fn count(device: &str) -> Result<usize> {
    let missing = |message: String| Error::Device {
        name: device.to_string(),
        message: format!("{message}; --device cpu works without"),
    };
    // SAFETY: only looks for the library; every other call panics without it.
    if !unsafe { sys::is_culib_present() } {
        return Err(missing("the NVIDIA driver (libcuda.so.1) is not installed".into()));
    }
    let version = driver_version().map_err(|e| missing(describe(e)))?;
    if version < OLDEST_DRIVER {
        let message = format!(
            "the NVIDIA driver supports CUDA {}.{}, this program needs {}.{}; install driver 580 or newer",
            version / 1000,
            version % 1000 / 10,
            OLDEST_DRIVER / 1000,
            OLDEST_DRIVER % 1000 / 10
        );
        return Err(missing(message));
    }
    match result::init().and_then(|()| result::device::get_count()) {
        Ok(0) | Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => {
            Err(missing("the NVIDIA driver finds no GPU".into()))
        }
        Ok(count) => Ok(count as usize),
        Err(e) => Err(missing(format!("the NVIDIA driver does not start: {}", describe(e)))),
    }
}

fn driver_version() -> std::result::Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: writes one int; may be called before cuInit.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok(version)
}

/// What GPU `ordinal` is, if this program can use it.
///
/// # Errors
/// [`Error::Device`] without a driver, with one that is too old, without such a GPU, when that is
/// too old, and when this build has no kernels.
pub fn probe(ordinal: usize) -> Result<DeviceInfo> {
    let device = format!("cuda:{ordinal}");
    let unusable = |message: String| Error::Device { name: device.clone(), message };
    let count = count(&device)?;
    if ordinal >= count {
        return Err(unusable(format!("there is no such GPU; the driver finds {count}, counted from cuda:0")));
    }
    let info = describe_device(ordinal, &device).map_err(|e| unusable(describe(e)))?;
    if info.compute < OLDEST_COMPUTE {
        let message = format!(
            "{} has compute capability {}.{}; the kernels need {}.{} (Ampere) or newer",
            info.name, info.compute.0, info.compute.1, OLDEST_COMPUTE.0, OLDEST_COMPUTE.1
        );
        return Err(unusable(message));
    }
    if images::IMAGES.is_empty() && !info.is_emulator() {
        let message = format!(
            "{} with {} is here, but this program was built without CUDA kernels; install nvcc with \
             tools/setup-cuda.sh and build again",
            info.name,
            mib(info.memory_bytes)
        );
        return Err(unusable(message));
    }
    Ok(info)
}

fn describe_device(ordinal: usize, device: &str) -> std::result::Result<DeviceInfo, DriverError> {
    let handle = result::device::get(ordinal as i32)?;
    // SAFETY: `handle` is a device of an initialised driver.
    let attribute = |which| unsafe { result::device::get_attribute(handle, which) };
    Ok(DeviceInfo {
        device: device.to_string(),
        name: result::device::get_name(handle)?,
        compute: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(handle) }?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        driver: driver_version()?,
    })
}
