//! Ranges that profilers show: epoch, step, phase, block, op.
//!
//! This is the application's half of NVTX, NVIDIA's protocol between a program and a profiler such as
//! Nsight Systems, without any library of theirs. A profiler names its library in the variable
//! `NVTX_INJECTION64_PATH`. At the first range it is loaded, its `InitializeInjectionNvtx2` is called
//! with `export_table`, and through that it finds a table of slots per module and writes its
//! callbacks into them. We call two of those per range: push and pop, which nest per thread.
//!
//! A benchmark may listen too: `clock.rs` adds up the time of each phase.
//!
//! When nobody listens a range costs one relaxed load and a branch; payloads are not even computed.
//!
//! Numbers and layouts: NVTX 3 headers, nvtxTypes.h and nvtxInit.h for the protocol, nvToolsExt.h for
//! `Event`.

mod clock;

pub use clock::{Phases, timed};

use std::error::Error;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::io::Write;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// What a range stands for: its NVTX category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A pass over the training images; payload: its number from 1.
    Epoch = 1,
    /// A training step, or the scoring of one architecture; payload: the architecture's id.
    Step,
    /// A part of a step.
    Phase,
    /// A block of the main network; payload: its number from 0.
    Block,
    /// The forward or backward pass of an op.
    Op,
}

const LEVELS: [(Level, &CStr); 5] = [
    (Level::Epoch, c"epoch"),
    (Level::Step, c"step"),
    (Level::Phase, c"phase"),
    (Level::Block, c"block"),
    (Level::Op, c"op"),
];

/// Ends its range when dropped, on the thread that began it.
#[must_use = "a range lasts as long as its guard"]
#[derive(Debug)]
pub struct Range {
    /// A profiler was told about the beginning.
    begun: bool,
    /// A clock was.
    timed: bool,
    /// Ranges nest per thread: not `Send`.
    thread: PhantomData<*const ()>,
}

/// Begins a range.
#[inline]
pub fn range(level: Level, name: &'static CStr) -> Range {
    begin(level, name, || None)
}

/// Begins a range with a number, which is computed only for a profiler.
#[inline]
pub fn range_with(level: Level, name: &'static CStr, payload: impl FnOnce() -> u64) -> Range {
    begin(level, name, || Some(payload()))
}

/// Does `work` within a range.
#[inline]
pub fn within<R>(level: Level, name: &'static CStr, work: impl FnOnce() -> R) -> R {
    let _range = range(level, name);
    work()
}

#[inline]
fn begin(level: Level, name: &'static CStr, payload: impl FnOnce() -> Option<u64>) -> Range {
    if LISTENERS.load(Relaxed) == 0 {
        return Range { begun: false, timed: false, thread: PhantomData };
    }
    let tool = find();
    if let Some(tool) = tool {
        tool.push(level, name, payload());
    }
    let timed = level == Level::Phase && clock::push(name);
    Range { begun: tool.is_some(), timed, thread: PhantomData }
}

impl Drop for Range {
    #[inline]
    fn drop(&mut self) {
        if self.timed {
            clock::pop();
        }
        if self.begun
            && let Some(tool) = find()
        {
            tool.pop();
        }
    }
}

/// How many listen: the profiler, which counts until it is known that there is none, and every clock.
/// Read relaxed: who sees an old number asks [`find`] and its own thread's clock, which know.
static LISTENERS: AtomicUsize = AtomicUsize::new(1);

/// A clock listens as long as this lives.
struct Listening;

impl Listening {
    fn begin() -> Self {
        LISTENERS.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Relaxed);
    }
}

/// The profiler, loaded by the first call.
#[cold]
fn find() -> Option<&'static Tool> {
    static TOOL: OnceLock<Option<Tool>> = OnceLock::new();
    let attached = || {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        let attached = attach(&path);
        if let Err(message) = &attached {
            // Unlike `eprintln!`, this does not panic when nobody reads stderr.
            let _ = writeln!(std::io::stderr(), "smash-engine: {VARIABLE}: {message}; going on without a profiler");
        }
        attached.ok()
    };
    let tool = TOOL.get_or_init(|| {
        let tool = attached();
        if tool.is_none() {
            LISTENERS.fetch_sub(1, Relaxed);
        }
        tool
    });
    tool.as_ref()
}

const VARIABLE: &str =
    if cfg!(target_pointer_width = "64") { "NVTX_INJECTION64_PATH" } else { "NVTX_INJECTION32_PATH" };

/// A profiler that has written its callbacks.
struct Tool {
    /// Its handle for our ranges, to be told apart from those of other libraries.
    domain: AtomicPtr<c_void>,
}

impl Tool {
    fn push(&self, level: Level, name: &'static CStr, payload: Option<u64>) {
        let event = Event {
            version: VERSION as u16,
            size: size_of::<Event>() as u16,
            category: level as u32,
            color_type: 0,
            color: 0,
            payload_type: i32::from(payload.is_some()), // 0: none, 1: u64
            reserved: 0,
            payload: payload.unwrap_or(0),
            message_type: 1, // a string that ends with 0
            message: name.as_ptr(),
        };
        // SAFETY: slot 4 holds a DomainRangePushEx, which has this type.
        let push: Option<extern "system" fn(*mut c_void, *const Event) -> c_int> = unsafe { callback(4) };
        if let Some(push) = push {
            push(self.domain.load(Relaxed), &event);
        }
    }

    fn pop(&self) {
        // SAFETY: slot 5 holds a DomainRangePop, which has this type.
        let pop: Option<extern "system" fn(*mut c_void) -> c_int> = unsafe { callback(5) };
        if let Some(pop) = pop {
            pop(self.domain.load(Relaxed));
        }
    }
}

/// A range as a profiler is told of it.
#[repr(C)]
struct Event {
    version: u16,
    size: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_char,
}

/// Version of the protocol.
const VERSION: u32 = 3;

/// Loads the profiler's library and lets it write its callbacks.
fn attach(path: &OsStr) -> Result<Tool, String> {
    for ((table, slots), size) in TABLES.iter().zip(&SLOTS).zip(SIZES) {
        // Slot 0 is none, and a null stands behind the end.
        for (entry, slot) in table.iter().zip(slots).take(size).skip(1) {
            entry.store(std::ptr::from_ref(slot).cast_mut(), Relaxed);
        }
    }
    // SAFETY: runs the code of a library that the user named in order to have it run.
    let library = unsafe { libloading::Library::new(path) }.map_err(reason)?;
    // Never unloaded: it may have threads, and we keep its callbacks.
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    type Initialize = unsafe extern "system" fn(extern "system" fn(u32) -> *const c_void) -> c_int;
    // SAFETY: NVTX gives this symbol this type.
    let initialize = unsafe { library.get::<Initialize>(c"InitializeInjectionNvtx2") }.map_err(reason)?;
    // SAFETY: `export_table` answers as the protocol says, with data that lives as long as the program.
    if unsafe { initialize(export_table) } == 0 {
        return Err(format!("{} refuses to profile", path.display()));
    }
    // SAFETY: slots 12 and 8 hold a DomainCreateA and a DomainNameCategoryA, which have these types.
    let (create, categorise) = unsafe {
        type Categorise = extern "system" fn(*mut c_void, u32, *const c_char);
        (callback::<extern "system" fn(*const c_char) -> *mut c_void>(12), callback::<Categorise>(8))
    };
    let domain = create.map_or(null_mut(), |create| create(c"smash-engine".as_ptr()));
    for (level, name) in LEVELS {
        if let Some(categorise) = categorise {
            categorise(domain, level as u32, name.as_ptr());
        }
    }
    Ok(Tool { domain: AtomicPtr::new(domain) })
}

/// What the system says went wrong; the error itself names only the call that failed.
fn reason(error: libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A place for one callback. A profiler may change it at any time, so it is read at every call.
type Slot = AtomicPtr<c_void>;

/// Slots of each module: none, core, CUDA, OpenCL, CUDA runtime, core 2, sync. We call only those of
/// core 2, but profilers ask for all.
const SIZES: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
const CORE2: usize = 5;

static SLOTS: [[Slot; 16]; SIZES.len()] = [const { [const { Slot::new(null_mut()) }; 16] }; SIZES.len()];
static TABLES: [[AtomicPtr<Slot>; 17]; SIZES.len()] =
    [const { [const { AtomicPtr::new(null_mut()) }; 17] }; SIZES.len()];

/// The callback in a slot of core 2, if a profiler wants it.
///
/// # Safety
/// `F` is the function pointer type of that slot.
unsafe fn callback<F: Copy>(slot: usize) -> Option<F> {
    let pointer = SLOTS[CORE2][slot].load(Relaxed);
    // SAFETY: an `Option` of a function pointer is a pointer that may be null. The profiler wrote it before it
    // returned from its initialisation, which `OnceLock` puts before every call of ours.
    unsafe { std::mem::transmute_copy::<*mut c_void, Option<F>>(&pointer) }
}

#[repr(C)]
struct Callbacks {
    size: usize,
    module: unsafe extern "system" fn(u32, *mut *const AtomicPtr<Slot>, *mut u32) -> c_int,
}

#[repr(C)]
struct VersionInfo {
    size: usize,
    version: u32,
    reserved: u32,
    set_version: extern "system" fn(u32),
}

/// What a profiler asks us for: 1 is the way to the slots, 3 our version.
extern "system" fn export_table(id: u32) -> *const c_void {
    static CALLBACKS: Callbacks = Callbacks { size: size_of::<Callbacks>(), module: module_table };
    static VERSION_INFO: VersionInfo =
        VersionInfo { size: size_of::<VersionInfo>(), version: VERSION, reserved: 0, set_version };
    match id {
        1 => (&raw const CALLBACKS).cast(),
        3 => (&raw const VERSION_INFO).cast(),
        _ => std::ptr::null(),
    }
}

/// A profiler's own version, which nothing here depends on.
extern "system" fn set_version(_version: u32) {}

/// Gives the slots of a module; 0 when there is no such module.
///
/// # Safety
/// `table` and `size` can be written, or are null.
unsafe extern "system" fn module_table(module: u32, table: *mut *const AtomicPtr<Slot>, size: *mut u32) -> c_int {
    let Some(&slots) = SIZES.get(module as usize).filter(|&&slots| slots > 0) else { return 0 };
    // SAFETY: by the contract of this function.
    unsafe {
        if !table.is_null() {
            table.write(TABLES[module as usize].as_ptr());
        }
        if !size.is_null() {
            size.write(slots as u32);
        }
    }
    1
}
