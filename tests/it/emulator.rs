//! The CUDA emulator that the tests of the kernels run on: does it compute, does it behave as a
//! driver does, and does it notice what is wrong?

use crate::support::{Emulator, Sanitize, Schedule, library_of};
use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, result};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The twin of AddParams in kernels/add.cu.
#[repr(C)]
struct AddParams {
    a: u64,
    b: u64,
    y: u64,
    len: u32,
}

/// The emulator through cudarc, as the engine uses it.
struct Gpu {
    emulator: &'static Emulator,
    stream: Arc<CudaStream>,
    add: CUfunction,
}

impl Gpu {
    fn open() -> Self {
        let emulator = Emulator::load().unwrap_or_else(|e| panic!("{e}"));
        let context = CudaContext::new(0).unwrap();
        // SAFETY: everything runs on one stream.
        unsafe { context.disable_event_tracking() };
        // SAFETY: the image is the text that the emulator takes for one; the module stays loaded.
        let add = unsafe {
            let module = result::module::load_data(c"SMASH-KERNELS add".as_ptr().cast()).unwrap();
            result::module::get_function(module, c"add_forward".into()).unwrap()
        };
        Self { emulator, stream: context.new_stream().unwrap(), add }
    }

    fn add(&self, a: &CudaSlice<f32>, b: &CudaSlice<f32>, y: &mut CudaSlice<f32>) {
        use cudarc::driver::{DevicePtr, DevicePtrMut};
        let len = a.len() as u32;
        let mut params = AddParams {
            a: a.device_ptr(&self.stream).0,
            b: b.device_ptr(&self.stream).0,
            y: y.device_ptr_mut(&self.stream).0,
            len,
        };
        let arguments = &mut [(&raw mut params).cast::<c_void>()];
        let (grid, block, stream) = ((len.div_ceil(256), 1, 1), (256, 1, 1), self.stream.cu_stream());
        // SAFETY: the slices hold `len` numbers; the driver copies the parameters.
        unsafe { result::launch_kernel(self.add, grid, block, 0, stream, arguments) }.unwrap();
    }
}

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed * 13) % 101) as f32 - 50.0).collect()
}

#[test]
fn a_kernel_runs_through_cudarc_under_every_schedule() {
    let gpu = Gpu::open();
    for len in [1, 255, 256, 10_007] {
        let (a, b) = (numbers(len, 1), numbers(len, 2));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(x, y)| x + y).collect();
        for schedule in Schedule::ALL {
            gpu.emulator.set_schedule(schedule);
            let (a, b) = (gpu.stream.clone_htod(&a).unwrap(), gpu.stream.clone_htod(&b).unwrap());
            // SAFETY: written before it is read.
            let mut y = unsafe { gpu.stream.alloc::<f32>(len) }.unwrap();
            gpu.add(&a, &b, &mut y);
            assert_eq!(gpu.stream.clone_dtoh(&y).unwrap(), sum, "{len} numbers, {schedule:?}");
        }
    }
}

#[test]
fn new_memory_is_nan() {
    let gpu = Gpu::open();
    // SAFETY: reading it is the point.
    let memory = unsafe { gpu.stream.alloc::<f32>(1000) }.unwrap();
    assert!(gpu.stream.clone_dtoh(&memory).unwrap().iter().all(|x| x.is_nan()));
}

#[test]
fn a_captured_graph_runs_again_on_new_values() {
    let gpu = Gpu::open();
    let len = 1000;
    let mut a = gpu.stream.clone_htod(&numbers(len, 1)).unwrap();
    let mut b = gpu.stream.clone_htod(&numbers(len, 2)).unwrap();
    let mut y = gpu.stream.alloc_zeros::<f32>(len).unwrap();
    gpu.stream.synchronize().unwrap();
    // Memset, copy, kernel: y = a + a, b = y.
    gpu.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    gpu.stream.memset_zeros(&mut y).unwrap();
    gpu.stream.memcpy_dtod(&a, &mut b).unwrap();
    gpu.add(&a, &b, &mut y);
    gpu.stream.memcpy_dtod(&y, &mut b).unwrap();
    let graph = gpu.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    graph.upload().unwrap();
    assert!(gpu.stream.clone_dtoh(&b).unwrap() == numbers(len, 2), "a capture runs nothing");
    for seed in 3..6 {
        gpu.stream.memcpy_htod(&numbers(len, seed), &mut a).unwrap();
        let before = gpu.emulator.stats().graph_launches;
        graph.launch().unwrap();
        let twice: Vec<f32> = numbers(len, seed).iter().map(|x| x + x).collect();
        assert_eq!(gpu.stream.clone_dtoh(&b).unwrap(), twice);
        assert_eq!(gpu.emulator.stats().graph_launches, before + 1);
    }
}

#[test]
fn the_layout_of_parameters_is_told() {
    let emulator = Emulator::load().unwrap();
    assert_eq!(emulator.layout("add_forward").unwrap(), "AddParams 32: a 0 8, b 8 8, y 16 8, len 24 4");
    assert_eq!(emulator.layout("add_sideways"), None);
}

/// Runs this test again in a process whose environment has these variables; false there.
fn in_another_process(test: &str, variables: &[(&str, &str)]) -> bool {
    const INNER: &str = "SMASH_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        return false;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("emulator::{test}"), "--nocapture"]).env(INNER, "1");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    true
}

#[test]
fn a_small_old_machine_can_be_had() {
    let variables =
        [("SMASH_EMU_MEMORY_MIB", "64"), ("SMASH_EMU_DRIVER_VERSION", "12040"), ("SMASH_EMU_COMPUTE", "70")];
    if in_another_process("a_small_old_machine_can_be_had", &variables) {
        return;
    }
    let gpu = Gpu::open();
    let context = gpu.stream.context();
    assert_eq!(context.compute_capability().unwrap(), (7, 0));
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result().unwrap();
    assert_eq!(version, 12040);
    assert_eq!(result::mem_get_info().unwrap(), (64 << 20, 64 << 20));
    let half = gpu.stream.alloc_zeros::<f32>(8 << 20).unwrap();
    assert_eq!(result::mem_get_info().unwrap(), (32 << 20, 64 << 20));
    let error = gpu.stream.alloc_zeros::<f32>((8 << 20) + 1).unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert!(format!("{error:?}").contains("33554436 bytes, 33554432 are free"), "{error:?}");
    drop(half);
    gpu.stream.synchronize().unwrap();
    gpu.stream.alloc_zeros::<f32>(16 << 20).unwrap(); // it was no sticky error
}

#[test]
fn a_machine_without_devices_can_be_had() {
    if in_another_process("a_machine_without_devices_can_be_had", &[("SMASH_EMU_DEVICES", "0")]) {
        return;
    }
    Emulator::load().unwrap();
    assert_eq!(result::init().unwrap_err().0, CUresult::CUDA_ERROR_NO_DEVICE);
}

/// The emulator of support/mistakes.cu, spoken to without cudarc: an error of its kernels must not
/// reach the other tests of this process.
struct Mistakes {
    emulator: &'static Emulator,
    x: CUdeviceptr,
    y: CUdeviceptr,
    _one_at_a_time: MutexGuard<'static, ()>,
}

#[repr(C)]
struct MistakesParams {
    x: CUdeviceptr,
    y: CUdeviceptr,
    len: u32,
}

/// A driver function of the library as a typed pointer.
macro_rules! driver {
    ($library:expr, $name:literal, ($($argument:ty),*)) => {{
        let symbol = $library.symbol($name).unwrap();
        // SAFETY: the types with which kernels/emu declares it.
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(symbol) }
    }};
}

const LEN: usize = 64;

impl Mistakes {
    fn open() -> Self {
        static ONE: OnceLock<Result<Emulator, String>> = OnceLock::new();
        static LOCK: Mutex<()> = Mutex::new(());
        let guard = LOCK.lock().unwrap_or_else(|e| e.into_inner());
        let emulator = ONE.get_or_init(|| {
            Emulator::load()?; // the one for cudarc first
            let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
            copy_emulator(folder.path());
            std::fs::write(folder.path().join("mistakes.cu"), include_str!("../support/mistakes.cu")).unwrap();
            Emulator::open(&library_of(folder.path(), Sanitize::asked()?)?)
        });
        let emulator = emulator.as_ref().unwrap_or_else(|e| panic!("{e}"));
        emulator.reset();
        emulator.set_schedule(Schedule::Forward);
        let init = driver!(emulator, c"cuInit", (c_uint));
        // SAFETY: takes a number.
        assert_eq!(unsafe { init(0) }, 0);
        let alloc = driver!(emulator, c"cuMemAlloc_v2", (*mut CUdeviceptr, usize));
        let (mut x, mut y) = (0, 0);
        // SAFETY: both write an address.
        assert_eq!(unsafe { alloc(&mut x, LEN * 4) | alloc(&mut y, LEN * 4) }, 0);
        let mistakes = Self { emulator, x, y, _one_at_a_time: guard };
        mistakes.write(x, &numbers(LEN, 5));
        mistakes
    }

    fn write(&self, to: CUdeviceptr, values: &[f32]) {
        let copy = driver!(self.emulator, c"cuMemcpyHtoD_v2", (CUdeviceptr, *const f32, usize));
        // SAFETY: the slice is read.
        assert_eq!(unsafe { copy(to, values.as_ptr(), size_of_val(values)) }, 0);
    }

    /// Launches `kernel` and waits for it: y, or the name and the text of the error.
    fn run(&self, kernel: &CStr, blocks: u32, threads: u32) -> Result<Vec<f32>, (String, String)> {
        let params = MistakesParams { x: self.x, y: self.y, len: 1 << 14 };
        self.run_with(kernel, blocks, threads, &params)
    }

    fn run_with(
        &self,
        kernel: &CStr,
        blocks: u32,
        threads: u32,
        params: &MistakesParams,
    ) -> Result<Vec<f32>, (String, String)> {
        let e = self.emulator;
        let (mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut());
        let load = driver!(e, c"cuModuleLoadData", (*mut *mut c_void, *const c_char));
        let find = driver!(e, c"cuModuleGetFunction", (*mut *mut c_void, *mut c_void, *const c_char));
        type Dims = c_uint;
        let launch = driver!(
            e,
            c"cuLaunchKernel",
            (*mut c_void, Dims, Dims, Dims, Dims, Dims, Dims, Dims, *mut c_void, *const *const c_void, *mut c_void)
        );
        let copy = driver!(e, c"cuMemcpyDtoH_v2", (*mut f32, CUdeviceptr, usize));
        let arguments = [std::ptr::from_ref(params).cast::<c_void>()];
        let null = std::ptr::null_mut();
        let mut values = vec![0.0; LEN];
        // SAFETY: as declared; the emulator copies the parameters before it returns.
        unsafe {
            assert_eq!(load(&mut module, c"SMASH-KERNELS mistakes".as_ptr()), 0);
            assert_eq!(find(&mut function, module, kernel.as_ptr()), 0, "{kernel:?}");
            let code = launch(function, blocks, 1, 1, threads, 1, 1, 0, null, arguments.as_ptr(), null);
            let code = if code == 0 { copy(values.as_mut_ptr(), self.y, LEN * 4) } else { code };
            if code == 0 { Ok(values) } else { Err(self.error(code)) }
        }
    }

    fn error(&self, code: c_int) -> (String, String) {
        let text = |function: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text = std::ptr::null();
            // SAFETY: gives a string that stays.
            unsafe {
                function(code, &mut text);
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        let name = driver!(self.emulator, c"cuGetErrorName", (c_int, *mut *const c_char));
        let words = driver!(self.emulator, c"cuGetErrorString", (c_int, *mut *const c_char));
        (text(name), text(words))
    }

    /// The kernel must fail with this code and a message that contains all of `words`.
    #[track_caller]
    fn fails(&self, kernel: &CStr, threads: u32, code: &str, words: &[&str]) {
        let (name, text) = self.run(kernel, 1, threads).unwrap_err();
        assert_eq!(name, code, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }

    fn under_all_schedules(&self, kernel: &CStr, blocks: u32) -> Vec<Vec<u32>> {
        let bits = |values: Vec<f32>| values.iter().map(|x| x.to_bits()).collect();
        let run = |schedule| {
            self.emulator.set_schedule(schedule);
            bits(self.run(kernel, blocks, 64).unwrap())
        };
        Schedule::ALL.map(run).to_vec()
    }
}

impl Drop for Mistakes {
    fn drop(&mut self) {
        self.emulator.reset();
        let free = driver!(self.emulator, c"cuMemFree_v2", (CUdeviceptr));
        // SAFETY: allocated in `open`.
        assert_eq!(unsafe { free(self.x) | free(self.y) }, 0);
    }
}

/// The emulator without the kernels of this crate.
fn copy_emulator(to: &Path) {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    std::fs::create_dir(to.join("emu")).unwrap();
    std::fs::copy(kernels.join("common.cuh"), to.join("common.cuh")).unwrap();
    for entry in std::fs::read_dir(kernels.join("emu")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("emu").join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_correct_kernel_does_not_depend_on_the_schedule() {
    let mistakes = Mistakes::open();
    let reversed: Vec<u32> = numbers(LEN, 5).iter().rev().map(|x| x.to_bits()).collect();
    assert_eq!(mistakes.under_all_schedules(c"mistakes_none", 1), vec![reversed; 4]);
}

#[test]
fn races_show_between_schedules() {
    let mistakes = Mistakes::open();
    for (kernel, blocks) in [(c"mistakes_no_barrier", 1), (c"mistakes_block_order", 2)] {
        let results = mistakes.under_all_schedules(kernel, blocks);
        assert!(results.iter().any(|result| *result != results[0]), "{kernel:?}");
    }
    let results = mistakes.under_all_schedules(c"mistakes_no_barrier_before_reuse", 1);
    let (greedy, fair) = results.split_last().unwrap();
    assert!(fair.iter().all(|result| *result == fair[0]) && *greedy != fair[0], "{results:?}");
}

#[test]
fn shared_memory_starts_as_nan() {
    let mistakes = Mistakes::open();
    mistakes.run(c"mistakes_none", 1, 64).unwrap(); // leaves numbers behind
    let values = mistakes.run(c"mistakes_uninitialised", 2, 64).unwrap();
    assert!(values[..32].iter().all(|&x| x == 0.0) && values[32..].iter().all(|x| x.is_nan()), "{values:?}");
    let values = mistakes.run(c"mistakes_copy_in_flight", 1, 64).unwrap();
    assert!(values.iter().all(|x| x.is_nan()), "{values:?}");
}

#[test]
fn mistakes_with_barriers_and_warps_are_named() {
    let mistakes = Mistakes::open();
    let failed = "CUDA_ERROR_LAUNCH_FAILED";
    let thread = "kernel mistakes_divergent_barrier, block (0,0,0) thread (32,0,0)";
    mistakes.fails(c"mistakes_divergent_barrier", 64, failed, &[thread, "divergent barrier", "mistakes.cu:"]);
    mistakes.emulator.reset();
    let words = ["deadlock: 1 of 64 threads have exited", "__syncthreads at mistakes.cu:"];
    mistakes.fails(c"mistakes_exit_before_barrier", 64, failed, &words);
    mistakes.emulator.reset();
    let words = ["thread (16,0,0)", "calling lane 16 is not in mask 0000ffff"];
    mistakes.fails(c"mistakes_missing_lane", 64, failed, &words);
    mistakes.emulator.reset();
    mistakes.fails(c"mistakes_unrounded_operand", 32, failed, &["not rounded to TF32"]);
    mistakes.emulator.reset();
    mistakes.fails(c"mistakes_stack_overflow", 64, failed, &["stack overflow"]);
}

#[test]
fn an_illegal_address_is_an_error_that_stays() {
    let mistakes = Mistakes::open();
    let illegal = "CUDA_ERROR_ILLEGAL_ADDRESS";
    let words =
        ["kernel mistakes_out_of_bounds, block (0,0,0) thread (0,0,0)", "65280 bytes past the end of a 256-byte"];
    mistakes.fails(c"mistakes_out_of_bounds", 64, illegal, &words);
    mistakes.fails(c"mistakes_none", 64, illegal, &[]);
    mistakes.emulator.reset();
    mistakes.run(c"mistakes_none", 1, 64).unwrap();
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let mistakes = Mistakes::open();
    let invalid = "CUDA_ERROR_INVALID_VALUE";
    mistakes.fails(c"mistakes_none", 128, invalid, &["128 threads a block, it is declared for 64"]);
    mistakes.fails(c"mistakes_none", 0, invalid, &["without threads"]);
    let params = MistakesParams { x: mistakes.x, y: 0x1000, len: 1 };
    let (name, text) = mistakes.run_with(c"mistakes_none", 1, 64, &params).unwrap_err();
    assert_eq!(name, invalid);
    assert!(text.contains("y is a pointer, and 0x1000 is not device memory"), "{text}");
    mistakes.run(c"mistakes_none", 1, 64).unwrap(); // these errors do not stay
}

#[test]
fn a_missing_compiler_is_named() {
    if in_another_process("a_missing_compiler_is_named", &[("CXX", "no-such-compiler")]) {
        return;
    }
    let error = crate::support::library().unwrap_err();
    assert!(error.contains("cannot run no-such-compiler") && error.contains("install g++"), "{error}");
}
