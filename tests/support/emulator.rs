//! The CUDA emulator, built on first use: the kernel files and `kernels/emu` compiled by a C++
//! compiler to a `libcuda.so`, which stands in for NVIDIA's driver.
//!
//! [`Emulator::load`] opens it in this process; cudarc's own `dlopen("libcuda.so")` then finds it by
//! its soname. A program gets it through `LD_LIBRARY_PATH`, set to the folder of [`library`].
//!
//! Libraries lie in `target/emulator/<hash>/`; `SMASH_SANITIZE=address` or `thread` is for sanitizers.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// A sanitizer to build for. The process must preload its runtime library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sanitize {
    /// Accesses outside arrays, shared ones too; undefined behaviour.
    Address,
    /// Races between CUDA threads.
    Thread,
}

impl Sanitize {
    /// What SMASH_SANITIZE asks for.
    pub fn asked() -> Result<Option<Self>, String> {
        match std::env::var("SMASH_SANITIZE").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok("address") => Ok(Some(Self::Address)),
            Ok("thread") => Ok(Some(Self::Thread)),
            Ok(other) => Err(format!("SMASH_SANITIZE={other}: address or thread")),
        }
    }
}

/// Builds the emulator of this crate's kernels, if it is not there already.
pub fn library() -> Result<PathBuf, String> {
    library_of(&root().join("kernels"), Sanitize::asked()?)
}

/// The same for another folder with kernels, which holds `emu/` and all headers too.
pub fn library_of(sources: &Path, sanitize: Option<Sanitize>) -> Result<PathBuf, String> {
    let build = Build::new(sources, sanitize)?;
    let cache = target().join("emulator");
    let library = cache.join(&build.id).join(LIBRARY);
    if !library.exists() {
        let at_cache = |e: io::Error| format!("{}: {e}", cache.display());
        fs::create_dir_all(cache.join("objects")).map_err(at_cache)?;
        // Of all processes one at a time builds it; the lock ends with the file.
        let lock = File::create(cache.join(format!("{}.lock", build.id))).map_err(at_cache)?;
        lock.lock().map_err(at_cache)?;
        if !library.exists() {
            build.run(&cache)?;
        }
    }
    Ok(library)
}

const LIBRARY: &str = "libcuda.so";

fn root() -> PathBuf {
    // Without cargo the current folder, in full: compilers are started elsewhere.
    let here = || std::env::current_dir().unwrap_or_else(|_| ".".into());
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(here, PathBuf::from)
}

fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A file below the sources.
#[derive(Hash)]
struct Source {
    path: PathBuf,
    text: Vec<u8>,
}

impl Source {
    fn is(&self, extensions: &[&str]) -> bool {
        self.path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x))
    }

    fn stem(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Every file below `folder`, sorted, with its path from `top`.
fn sources(top: &Path, folder: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(top, &path, found)?;
        } else {
            let text = fs::read(&path)?;
            let path = path.strip_prefix(top).unwrap_or(&path).to_path_buf();
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

fn hash(value: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// What is compiled, and how.
struct Build {
    folder: PathBuf,
    sources: Vec<Source>,
    compiler: String,
    version: String,
    sanitize: Option<Sanitize>,
    id: String,
}

impl Build {
    fn new(folder: &Path, sanitize: Option<Sanitize>) -> Result<Self, String> {
        let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut files = Vec::new();
        sources(&folder, &folder, &mut files).map_err(|e| format!("{}: {e}", folder.display()))?;
        files.retain(|file| file.is(&["cu", "cuh", "h", "cpp", "ld"]));
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
        let version = run(Command::new(&compiler).arg("--version")).map_err(|e| {
            format!(
                "{e}\nThe tests of the CUDA kernels compile them for the CPU and need a C++ compiler: \
                 install g++ (Debian, Ubuntu: apt install g++) or set CXX."
            )
        })?;
        let mut build = Self { folder, sources: files, compiler, version, sanitize, id: String::new() };
        let flags = [build.flags(true), build.flags(false), build.link_flags()];
        build.id = hash((&build.sources, &build.compiler, &build.version, flags));
        Ok(build)
    }

    /// Flags of a compilation: of a kernel, or of the emulator itself.
    fn flags(&self, kernel: bool) -> Vec<&'static str> {
        let mut flags = vec!["-std=c++17", "-g", "-O2", "-fPIC", "-fvisibility=hidden", "-DSMASH_EMULATED", "-I."];
        flags.extend(["-fno-gnu-unique", "-ffp-contract=fast", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            flags.push("-march=x86-64-v3"); // without it, every fmaf is a call
        }
        match self.sanitize {
            None => {}
            Some(Sanitize::Address) => {
                flags.extend(["-O1", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]);
                flags.push("-fno-sanitize-recover=undefined");
            }
            Some(Sanitize::Thread) => {
                flags.push("-DSMASH_EMU_TSAN");
                if kernel {
                    flags.extend(["-O1", "-fsanitize=thread"]);
                }
            }
        }
        flags
    }

    fn link_flags(&self) -> Vec<&'static str> {
        let mut flags = vec!["-shared", "-pthread", "-Wl,-soname,libcuda.so"];
        flags.extend(self.sanitize.map(|which| match which {
            Sanitize::Address => "-fsanitize=address,undefined",
            Sanitize::Thread => "-fsanitize=thread",
        }));
        flags
    }

    fn run(&self, cache: &Path) -> Result<(), String> {
        let units: Vec<&Source> = self.sources.iter().filter(|file| file.is(&["cu", "cpp"])).collect();
        let (next, objects) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> Result<(), String> {
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                let object = self.object(unit, cache)?;
                objects.lock().unwrap_or_else(|e| e.into_inner()).push(object);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(work);
            work().and(other.join().unwrap_or_else(|_| Err("a compilation panicked".into())))
        })?;
        let mut objects = objects.into_inner().unwrap_or_else(|e| e.into_inner());
        objects.sort();
        self.link(&objects, cache)
    }

    /// Compiles one file, unless its object is there.
    fn object(&self, unit: &Source, cache: &Path) -> Result<PathBuf, String> {
        let flags = self.flags(unit.is(&["cu"]));
        // The emulator itself does not include the headers of the kernels.
        let headers = self.sources.iter().filter(|file| file.is(&["h", "ld"]) || unit.is(&["cu"]) && file.is(&["cuh"]));
        let id = hash((unit, headers.collect::<Vec<_>>(), &flags, &self.compiler, &self.version));
        let object = cache.join("objects").join(format!("{}-{id}.o", unit.stem()));
        if object.exists() {
            return Ok(object);
        }
        let step = |step| object.with_extension(format!("{}-{step}", self.id)); // another build may make it too
        let (compiled, gathered) = (step("compiled"), step("gathered"));
        let section = format!("smash_shared_{}", unit.stem());
        let gathers = unit.is(&["cu"]) && self.sanitize.is_none();
        let mut command = Command::new(&self.compiler);
        command.current_dir(&self.folder).args(&flags).args(["-x", "c++", "-c"]).arg(&unit.path);
        if gathers {
            command.arg(format!("-DSMASH_EMU_SHARED={section}"));
        }
        run(command.arg("-o").arg(&compiled))?;
        if gathers {
            self.gather(&section, &compiled, &gathered)?;
        }
        let made = if gathers { &gathered } else { &compiled };
        fs::rename(made, &object).map_err(|e| format!("{}: {e}", object.display()))?;
        Ok(object)
    }

    /// Gives the shared memory of a kernel file a section of its own.
    fn gather(&self, section: &str, from: &Path, to: &Path) -> Result<(), String> {
        let script = to.with_extension("ld");
        let template = self.sources.iter().find(|file| file.path.ends_with("shared.ld"));
        let template = template.ok_or_else(|| format!("{}: no emu/shared.ld", self.folder.display()))?;
        let text = String::from_utf8_lossy(&template.text).replace("NAME : {", &format!("{section} : {{"));
        fs::write(&script, text).map_err(|e| format!("{}: {e}", script.display()))?;
        let mut command = Command::new(&self.compiler);
        command.args(["-r", "-nostdlib", "-Wl,--force-group-allocation"]);
        run(command.arg(format!("-Wl,-T,{}", script.display())).arg(from).arg("-o").arg(to))?;
        fs::remove_file(&script).and_then(|()| fs::remove_file(from)).map_err(|e| format!("{}: {e}", from.display()))
    }

    fn link(&self, objects: &[PathBuf], cache: &Path) -> Result<(), String> {
        let folder = cache.join(&self.id);
        let made = cache.join(format!("{}.new", self.id));
        let _ = fs::remove_dir_all(&made); // left by a build that was interrupted
        let at = |e: io::Error| format!("{}: {e}", made.display());
        fs::create_dir_all(&made).map_err(at)?;
        let mut command = Command::new(&self.compiler);
        run(command.args(self.link_flags()).args(objects).arg("-o").arg(made.join(LIBRARY)))?;
        std::os::unix::fs::symlink(LIBRARY, made.join("libcuda.so.1")).map_err(at)?;
        fs::rename(&made, &folder).map_err(at)
    }
}

/// Runs a command; its output, or what it complained about.
fn run(command: &mut Command) -> Result<String, String> {
    // A sanitizer preloaded into the tests is none of the compiler's business.
    let output = command
        .env_remove("LD_PRELOAD")
        .output()
        .map_err(|e| format!("cannot run {}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr)))
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// An emulator in this process, and its hooks for tests.
pub struct Emulator {
    handle: *mut c_void,
    set_schedule: unsafe extern "C" fn(c_int, u64) -> c_int,
    reset: unsafe extern "C" fn() -> c_int,
    stats: unsafe extern "C" fn(*mut u64, usize) -> c_int,
    layout: unsafe extern "C" fn(*const c_char, *mut *const c_char) -> c_int,
}

// SAFETY: the handle is only read, and the functions behind it take the library's own lock.
unsafe impl Send for Emulator {}
// SAFETY: as above.
unsafe impl Sync for Emulator {}

/// The order in which blocks and threads get the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By number.
    Forward,
    /// The other way round.
    Reverse,
    /// In an order drawn from a seed.
    Random(u64),
    /// One thread as far as it can go before any other; first one and blocks drawn from a seed.
    Greedy(u64),
}

impl Schedule {
    /// Under all of these a kernel must give the same bits.
    pub const ALL: [Self; 4] = [Self::Forward, Self::Reverse, Self::Random(1), Self::Greedy(1)];
}

/// Counters since the library was loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of device memory in use.
    pub memory_used: u64,
    /// The most there ever were.
    pub memory_peak: u64,
    /// Allocations of device and pinned memory.
    pub allocations: u64,
    /// Kernels that ran, those of graphs included.
    pub kernels: u64,
    /// Graphs that ran.
    pub graph_launches: u64,
    /// Copies that ran, by direction.
    pub copies_to_device: u64,
    pub copies_from_device: u64,
    pub copies_on_device: u64,
    pub memsets: u64,
    /// Calls of cuProfilerStart and cuProfilerStop.
    pub profiler_starts: u64,
    pub profiler_stops: u64,
}

impl Emulator {
    /// Builds this crate's emulator and opens it, once for the process. Must come before the first
    /// call into cudarc, which keeps the first library it finds.
    pub fn load() -> Result<&'static Self, String> {
        static ONE: OnceLock<Result<Emulator, String>> = OnceLock::new();
        ONE.get_or_init(|| Self::open(&library()?)).as_ref().map_err(Clone::clone)
    }

    /// Opens a library. Each file has state of its own, so several can be open at once; cudarc
    /// takes the one that was opened first.
    #[allow(clippy::missing_transmute_annotations)] // the fields have the types
    pub fn open(library: &Path) -> Result<Self, String> {
        const RTLD_NOW: c_int = 2;
        let path = CString::new(library.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: the library is ours; its initialisers only fill a list of kernels.
        let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
        if handle.is_null() {
            // SAFETY: after a failure, dlerror gives a string.
            return Err(unsafe { CStr::from_ptr(dlerror()) }.to_string_lossy().into_owned());
        }
        // SAFETY: these are the types with which driver.cpp declares them.
        unsafe {
            Ok(Self {
                handle,
                set_schedule: std::mem::transmute(symbol(handle, c"smash_emu_set_schedule")?),
                reset: std::mem::transmute(symbol(handle, c"smash_emu_reset")?),
                stats: std::mem::transmute(symbol(handle, c"smash_emu_stats")?),
                layout: std::mem::transmute(symbol(handle, c"smash_emu_layout")?),
            })
        }
    }

    /// An entry point of the driver.
    pub fn symbol(&self, name: &CStr) -> Result<*mut c_void, String> {
        symbol(self.handle, name)
    }

    /// Sets the order for work that the calling thread waits for.
    pub fn set_schedule(&self, schedule: Schedule) {
        let (kind, seed) = match schedule {
            Schedule::Forward => (0, 1),
            Schedule::Reverse => (1, 1),
            Schedule::Random(seed) => (2, seed),
            Schedule::Greedy(seed) => (3, seed),
        };
        // SAFETY: takes numbers.
        unsafe { (self.set_schedule)(kind, seed) };
    }

    /// Forgets the error of a kernel and all queued work.
    pub fn reset(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.reset)() };
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        // SAFETY: the struct consists of as many u64.
        unsafe { (self.stats)((&raw mut stats).cast(), size_of::<Stats>() / size_of::<u64>()) };
        stats
    }

    /// Name and size of a kernel's parameter struct, then name, offset and size of each field.
    pub fn layout(&self, kernel: &str) -> Option<String> {
        let name = CString::new(kernel).ok()?;
        let mut text = std::ptr::null();
        // SAFETY: on success, `text` is a string that stays.
        unsafe {
            ((self.layout)(name.as_ptr(), &mut text) == 0).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

fn symbol(handle: *mut c_void, name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: the handle is that of an open library.
    let found = unsafe { dlsym(handle, name.as_ptr()) };
    if found.is_null() { Err(format!("the emulator has no {}", name.to_string_lossy())) } else { Ok(found) }
}
