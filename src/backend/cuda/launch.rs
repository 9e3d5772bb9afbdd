//! Kernels by name, their one parameter, and the check that both languages mean the same struct.

use super::driver::{DeviceInfo, fault};
use super::images;

use crate::error::{Error, Result};
use cudarc::driver::{result, sys};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};

/// A place in device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// No memory: an operand that is left out.
    pub const NULL: Self = Self(0);

    /// The place `count` f32 further on.
    pub fn offset(self, count: usize) -> Self {
        Self(self.0 + (count * size_of::<f32>()) as u64)
    }

    /// How many f32 a kernel may load at once from rows of `stride` f32 that begin here: 4, 2 or 1.
    pub fn vector(self, stride: usize) -> usize {
        [4, 2].into_iter().find(|v| stride.is_multiple_of(*v) && self.0.is_multiple_of(4 * *v as u64)).unwrap_or(1)
    }
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Blocks along x, y, z.
    pub blocks: [u32; 3],
    /// Threads per block; the number in the kernel's declaration.
    pub threads: u32,
}

impl Grid {
    /// Enough blocks of `threads` for `len` elements, one thread each.
    pub fn cover(len: usize, threads: u32) -> Self {
        Self { blocks: [len.div_ceil(threads as usize) as u32, 1, 1], threads }
    }

    /// The grid of an elementwise kernel: `each_element` of `kernels/common.cuh`, 4 elements a thread.
    pub fn elementwise(len: usize) -> Self {
        Self::cover(len.div_ceil(4), 256)
    }

    /// True when it has no block.
    pub fn is_empty(self) -> bool {
        self.blocks.contains(&0)
    }
}

/// Name, offset and size in bytes of a field.
pub type Field = (&'static str, usize, usize);

/// The parameter of a kernel: the twin of a struct in `kernels/`.
///
/// # Safety
/// `repr(C)`, of plain numbers and addresses, with all its fields listed. Made by `params!` only.
pub unsafe trait Params: std::marker::Copy + 'static {
    /// Its name in both languages.
    const NAME: &'static str;
    /// All its fields.
    const FIELDS: &'static [Field];

    /// The layout as `kernels/emu` writes that of the C++ twin.
    fn layout() -> String {
        let fields: Vec<String> =
            Self::FIELDS.iter().map(|(name, offset, size)| format!("{name} {offset} {size}")).collect();
        format!("{} {}: {}", Self::NAME, size_of::<Self>(), fields.join(", "))
    }
}

/// The bytes of each field.
pub fn bytes<P: Params>(params: &P) -> impl Iterator<Item = &[u8]> {
    let base = std::ptr::from_ref(params).cast::<u8>();
    // SAFETY: the fields lie inside the struct, are initialised and hold no padding: they are numbers
    // and addresses (contract of the trait).
    P::FIELDS.iter().map(move |&(_, offset, size)| unsafe { std::slice::from_raw_parts(base.add(offset), size) })
}

/// Declares the twin of a kernel's parameter struct.
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $vis struct $name { $(pub $field: $kind),* }

        // SAFETY: repr(C); every field is listed.
        unsafe impl $crate::backend::cuda::Params for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [$crate::backend::cuda::Field] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$kind>())),*];
        }
    };
}
pub(crate) use params;

/// A loaded kernel file.
struct Module(sys::CUmodule);

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `Kernels::module`, unloaded once. A failure leaves a module behind.
        let _ = unsafe { result::module::unload(self.0) };
    }
}

/// `smash_emu_layout` of the emulator: the layout of a kernel's parameter struct in C++.
type LayoutOf = unsafe extern "C" fn(*const c_char, *mut *const c_char) -> c_int;

/// What the driver says about a kernel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelFacts {
    /// `<op>_<pass>`.
    pub name: String,
    /// Registers of a thread; 0 on the emulator.
    pub registers: i32,
    /// Bytes of local memory of a thread: arrays, and registers that were spilled.
    pub local_bytes: i32,
}

/// The kernels of this build.
pub struct Kernels {
    device: String,
    /// Marker images instead of machine code: what the emulator takes where nvcc was missing.
    emulated: bool,
    modules: HashMap<&'static str, Module>,
    functions: HashMap<(&'static str, &'static str), sys::CUfunction>,
}

impl Kernels {
    pub fn new(info: &DeviceInfo) -> Self {
        let (device, emulated) = (info.device.clone(), info.is_emulator());
        Self { device, emulated, modules: HashMap::new(), functions: HashMap::new() }
    }

    /// Kernel `<op>_<pass>`, whose parameter is a `P`. The context is current.
    ///
    /// # Errors
    /// [`Error::Device`] when the build has none, or none for this GPU.
    pub fn function<P: Params>(&mut self, op: &'static str, pass: &'static str) -> Result<sys::CUfunction> {
        if let Some(&function) = self.functions.get(&(op, pass)) {
            return Ok(function);
        }
        let module = self.module(op)?;
        let symbol = CString::new(format!("{op}_{pass}")).map_err(|e| Error::Run(e.to_string()))?;
        // SAFETY: the module is loaded and stays so as long as `self`.
        let function = unsafe { result::module::get_function(module, symbol.clone()) }
            .map_err(|e| fault(&self.device, &format!("looking for kernel {op}_{pass}"), e))?;
        self.check_params::<P>(function, &symbol)?;
        self.functions.insert((op, pass), function);
        Ok(function)
    }

    /// What the driver says about a kernel that was launched before.
    ///
    /// # Errors
    /// [`Error::Run`] when it says nothing.
    pub fn facts(&self, op: &'static str, pass: &'static str) -> Result<KernelFacts> {
        let name = format!("{op}_{pass}");
        let function =
            self.functions.get(&(op, pass)).ok_or_else(|| Error::Run(format!("{name} was never launched")))?;
        // SAFETY: the function belongs to a module that stays loaded as long as `self`.
        let ask = |which| {
            unsafe { result::function::get_function_attribute(*function, which) }
                .map_err(|e| fault(&self.device, &format!("asking about {name}"), e))
        };
        Ok(KernelFacts {
            registers: ask(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: ask(sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            name,
        })
    }

    fn module(&mut self, op: &'static str) -> Result<sys::CUmodule> {
        if let Some(module) = self.modules.get(op) {
            return Ok(module.0);
        }
        let unusable = |message: String| Error::Device { name: self.device.clone(), message };
        let image = match std::env::var_os("SMASH_KERNEL_DIR") {
            Some(dir) => {
                let path = std::path::Path::new(&dir).join(format!("{op}.fatbin"));
                std::fs::read(&path).map_err(Error::io("read kernels from", &path))?
            }
            None => match images::image(op) {
                Some(image) => image.to_vec(),
                None if self.emulated => format!("SMASH-KERNELS {op}\0").into_bytes(),
                None => return Err(unusable(format!("this build has no kernels for {op}"))),
            },
        };
        // SAFETY: the image is a whole fatbin of nvcc, of this build or of a folder that the user trusts, or
        // the emulator's marker.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => unusable(format!(
                "the kernels were built for {}, not for this GPU; set SMASH_CUDA_ARCHS and build again",
                images::BUILT_WITH
            )),
            _ => fault(&self.device, &format!("loading the kernels of {op}"), e),
        })?;
        self.modules.insert(op, Module(module));
        Ok(module)
    }

    /// Compares the struct in Rust with the kernel's: its size on every device, and on the
    /// emulator, where all kernels are tested, field by field.
    fn check_params<P: Params>(&self, function: sys::CUfunction, symbol: &CStr) -> Result<()> {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: writes two numbers; the function has one parameter or the driver says otherwise.
        let asked = unsafe { sys::cuFuncGetParamInfo(function, 0, &mut offset, &mut size) }.result();
        asked.map_err(|e| fault(&self.device, &format!("asking for the parameter of {symbol:?}"), e))?;
        let expected = P::layout();
        let found = if self.emulated { emulated_layout(symbol) } else { None };
        if size != size_of::<P>() || found.as_ref().is_some_and(|found| *found != expected) {
            let found = found.unwrap_or_else(|| format!("{size} bytes"));
            return Err(Error::Run(format!("kernel {symbol:?} takes ({found}), this program passes ({expected})")));
        }
        Ok(())
    }
}

fn emulated_layout(symbol: &CStr) -> Option<String> {
    // SAFETY: the driver library is open: kernels have been loaded from it. The emulator's symbol has
    // this type and returns a string that lives as long as the library.
    unsafe {
        let layout_of = sys::culib().get::<LayoutOf>(b"smash_emu_layout\0").ok()?;
        let mut text = std::ptr::null();
        let found = layout_of(symbol.as_ptr(), &mut text) == 0 && !text.is_null();
        found.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
