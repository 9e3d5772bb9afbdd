//! Compiles `kernels/*.cu` with nvcc and hands them to `src/backend/cuda/images.rs`.
//!
//! Each kernel file becomes one compressed fatbin: machine code for every architecture of
//! `SMASH_CUDA_ARCHS`, and PTX of the last one for cards that are newer. Fatbins are cached by
//! content in `target/kernel-cache`, which all profiles share, so that only what changed is compiled.
//! Without nvcc the program still builds, with a warning and without kernels.
//!
//! Written to `OUT_DIR`: the fatbins and `images.rs`. Written to the cache: the fatbins, the report of
//! the compiler on each, and `last-build.log`, the reports of the last build in one file, which
//! `tools/kernel-registers.sh` reads. README.md lists the environment variables.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

/// Machine code is made for these unless `SMASH_CUDA_ARCHS` says otherwise. Code for 80 also runs on
/// 86 and 89; each following number is a generation that cannot run the one before.
const ARCHS: &str = "80,90,100,120";

/// Where `tools/setup-cuda.sh` puts nvcc.
const OWN_NVCC: &str = ".cuda/nvidia/cu13/bin/nvcc";

/// Everything outside the tree that decides what is built.
const VARIABLES: [&str; 12] = [
    "NVCC",
    "CUDA_HOME",
    "CUDA_PATH",
    "SMASH_CUDA_ARCHS",
    "SMASH_NO_NVCC",
    "DOCS_RS",
    "SMASH_REQUIRE_NVCC",
    "SMASH_STRICT",
    "SMASH_LINEINFO",
    "NVCC_CCBIN",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
];

/// What goes wrong, for the person who builds: told on stderr, without a backtrace.
type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(message) = build() {
        eprintln!("error: {message}");
        std::process::exit(1);
    }
}

fn build() -> Result<()> {
    for variable in VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(script) = env::current_exe() {
        println!("cargo::rustc-env=SMASH_BUILD_SCRIPT={}", script.display()); // for its tests
    }
    let root = folder("CARGO_MANIFEST_DIR")?;
    let out = folder("OUT_DIR")?;
    let Some(nvcc) = choose_nvcc(&root)? else {
        return write_images(&out, &[], "no nvcc");
    };
    println!("cargo::rerun-if-changed={}", nvcc.display());
    println!("cargo::rerun-if-changed=kernels"); // also tells of files that come and go
    let compiler = Compiler::new(nvcc, &root)?;
    // OUT_DIR is target/PROFILE/build/PACKAGE-HASH/out.
    let cache = out.ancestors().nth(4).unwrap_or(&out).join("kernel-cache");
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;

    let kernels = kernels(&root.join("kernels"), &compiler, &cache)?;
    compile_missing(&kernels, &compiler)?;
    let mut log = format!("# {}\n", compiler.description);
    for kernel in &kernels {
        log += &read(&kernel.log)?;
        let image = out.join(format!("{}.fatbin", kernel.stem));
        fs::copy(&kernel.image, &image).map_err(|e| format!("{}: {e}", image.display()))?;
    }
    write(&cache.join("last-build.log"), &log)?;
    write_images(&out, &kernels, &compiler.description)
}

/// The compiler to use; none, with a warning, where there is none.
fn choose_nvcc(root: &Path) -> Result<Option<PathBuf>> {
    let required = is_set("SMASH_REQUIRE_NVCC");
    if is_set("DOCS_RS") {
        return Ok(None); // documentation is made there, and nothing runs
    }
    if is_set("SMASH_NO_NVCC") {
        return if required { Err("SMASH_NO_NVCC and SMASH_REQUIRE_NVCC exclude each other".into()) } else { Ok(None) };
    }
    let (found, looked) = find_nvcc(root);
    if found.is_some() {
        return Ok(found);
    }
    // A toolkit may appear there without any file of this tree changing.
    println!("cargo::rerun-if-env-changed=PATH");
    let missing = format!("no nvcc (looked at {looked})");
    if required {
        return Err(format!("{missing}, and SMASH_REQUIRE_NVCC is set. tools/setup-cuda.sh installs nvcc from PyPI."));
    }
    println!(
        "cargo::warning={missing}: built without GPU kernels, for the CPU only. \
         tools/setup-cuda.sh installs nvcc from PyPI; SMASH_NO_NVCC=1 silences this."
    );
    Ok(None)
}

/// The first nvcc there is, and the places that were looked at. What somebody asked for comes first,
/// then this project's own, then the machine's.
fn find_nvcc(root: &Path) -> (Option<PathBuf>, String) {
    let mut places: Vec<(String, PathBuf)> = Vec::new();
    if let Some(path) = variable("NVCC") {
        places.push((format!("NVCC={path}"), path.into()));
    } else {
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            if let Some(home) = variable(name) {
                places.push((format!("{name}={home}"), Path::new(&home).join("bin/nvcc")));
            }
        }
        places.push((OWN_NVCC.into(), root.join(OWN_NVCC)));
        let path = env::var_os("PATH").unwrap_or_default();
        places.extend(env::split_paths(&path).map(|dir| ("PATH".into(), dir.join("nvcc"))));
        places.push(("/usr/local/cuda".into(), "/usr/local/cuda/bin/nvcc".into()));
    }
    let mut names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup(); // PATH is one place
    let looked = names.join(", ");
    (places.iter().map(|(_, path)| path).find(|path| path.is_file()).cloned(), looked)
}

/// nvcc, and how it is called.
struct Compiler {
    nvcc: PathBuf,
    flags: Vec<String>,
    /// What its output depends on besides the sources.
    fingerprint: u64,
    /// For people: `nvcc 13.0.88 for sm_80, sm_90`.
    description: String,
}

impl Compiler {
    fn new(nvcc: PathBuf, root: &Path) -> Result<Self> {
        let archs = architectures()?;
        let mut flags: Vec<String> =
            ["-O3", "-std=c++17", "-fatbin", "-Xfatbin", "-compress-all", "-Xptxas", "-v"].map(String::from).into();
        flags.extend(archs.iter().map(|arch| format!("-gencode=arch=compute_{arch},code=sm_{arch}")));
        flags.extend(archs.last().map(|arch| format!("-gencode=arch=compute_{arch},code=compute_{arch}")));
        if is_set("SMASH_STRICT") {
            flags.extend(["-Xptxas", "-warn-spills", "-Werror", "all-warnings"].map(String::from));
        }
        if is_set("SMASH_LINEINFO") {
            flags.push("-lineinfo".into());
        }
        flags.extend(["-I".into(), root.join("kernels").display().to_string()]);

        let version = run(Command::new(&nvcc).arg("--version"))?;
        let from_environment = ["NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"].map(variable);
        let fingerprint = hash(&(&flags, &version, from_environment));
        // "Cuda compilation tools, release 13.0, V13.0.88"
        let number = version.split(", V").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
        let description = format!("nvcc {number} for sm_{}", archs.join(", sm_"));
        Ok(Self { nvcc, flags, fingerprint, description })
    }

    /// Compiles one file, with `threads` architectures at a time.
    fn compile(&self, kernel: &Kernel, threads: usize) -> Result<()> {
        // Written beside its place and then moved: another build may want the same file at the same time.
        let unfinished = kernel.image.with_extension(format!("{}.tmp", std::process::id()));
        let mut command = Command::new(&self.nvcc);
        command.args(&self.flags).arg(format!("--threads={threads}")).arg("-o").arg(&unfinished).arg(&kernel.source);
        let report = run(&mut command).map_err(|e| format!("kernels/{}.cu: {e}{}", kernel.stem, hint(&e)))?;
        for line in report.lines().filter(|line| line.contains("warning")) {
            println!("cargo::warning={line}");
        }
        write(&kernel.log, &format!("== {}\n{report}", kernel.stem))?;
        fs::rename(&unfinished, &kernel.image).map_err(|e| format!("{}: {e}", kernel.image.display()))
    }
}

/// What to do about failures that are not the kernel's fault.
fn hint(message: &str) -> &'static str {
    if message.contains("Unsupported gpu architecture") {
        "\nThis nvcc does not know every architecture asked for: SMASH_CUDA_ARCHS=80,90 makes kernels for those only, \
         tools/setup-cuda.sh installs an nvcc that knows all defaults."
    } else {
        "\nSMASH_NO_NVCC=1 builds without GPU kernels."
    }
}

/// The numbers in `SMASH_CUDA_ARCHS`.
fn architectures() -> Result<Vec<String>> {
    let list = variable("SMASH_CUDA_ARCHS").unwrap_or_else(|| ARCHS.into());
    let archs: Vec<String> = list.split(',').map(|arch| arch.trim().to_string()).collect();
    match archs.iter().find(|arch| arch.is_empty() || !arch.bytes().all(|b| b.is_ascii_digit())) {
        None => Ok(archs),
        Some(_) => Err(format!("SMASH_CUDA_ARCHS={list} is no list of compute capabilities such as {ARCHS}")),
    }
}

/// One kernel file and where the cache has what it compiles to.
struct Kernel {
    stem: String,
    source: PathBuf,
    image: PathBuf,
    log: PathBuf,
}

/// The kernel files in `dir`, in order of name.
fn kernels(dir: &Path, compiler: &Compiler, cache: &Path) -> Result<Vec<Kernel>> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut sources: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "cu"))
        .collect();
    sources.sort();
    let kernel = |source: PathBuf| {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut texts = Vec::new();
        collect_texts(&source, &mut BTreeSet::new(), &mut texts)?;
        let key = format!("{stem}-{:016x}", hash(&(compiler.fingerprint, texts)));
        let [image, log] = ["fatbin", "log"].map(|extension| cache.join(format!("{key}.{extension}")));
        Ok(Kernel { stem, source, image, log })
    };
    sources.into_iter().map(kernel).collect()
}

/// The text of a file and of the headers it includes, those they include, and so on.
fn collect_texts(path: &Path, seen: &mut BTreeSet<PathBuf>, texts: &mut Vec<String>) -> Result<()> {
    if !seen.insert(path.to_path_buf()) {
        return Ok(());
    }
    let text = read(path)?;
    let included = text.lines().filter_map(|line| line.trim_start().strip_prefix("#include \"")?.split('"').next());
    // nvcc never sees what is in emu/: that is for the tests' C++ compiler.
    for name in included.filter(|name| !name.starts_with("emu/")) {
        collect_texts(&path.with_file_name(name), seen, texts)?;
    }
    texts.push(text);
    Ok(())
}

/// Compiles the kernels that the cache lacks, as many at a time as cargo allows jobs.
fn compile_missing(kernels: &[Kernel], compiler: &Compiler) -> Result<()> {
    let missing: Vec<&Kernel> = kernels.iter().filter(|k| !k.image.is_file() || !k.log.is_file()).collect();
    let jobs = variable("NUM_JOBS").and_then(|n| n.parse().ok()).unwrap_or(1).max(1);
    let threads = (jobs / missing.len().max(1)).max(1);
    let queue = Mutex::new(missing.iter());
    let next = || queue.lock().ok()?.next();
    let work = || {
        let mut errors = Vec::new();
        while let Some(kernel) = next() {
            errors.extend(compiler.compile(kernel, threads).err());
        }
        errors
    };
    let errors: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(missing.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|_| vec!["a thread died".into()])).collect()
    });
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\nerror: ")) }
}

/// Writes the table that the program embeds.
fn write_images(out: &Path, kernels: &[Kernel], built_with: &str) -> Result<()> {
    let mut text = String::from("/// Each kernel file's stem and its fatbin; empty when the build had no nvcc.\n");
    text += "pub static IMAGES: &[(&str, &[u8])] = &[\n";
    for Kernel { stem, .. } in kernels {
        text += &format!("    ({stem:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{stem}.fatbin\"))),\n");
    }
    text += "];\n/// The compiler and the architectures, or `no nvcc`.\n";
    text += &format!("pub static BUILT_WITH: &str = {built_with:?};\n");
    write(&out.join("images.rs"), &text)
}

/// What a program said, on both streams; an error where it failed.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("cannot run {name}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said.into_owned()) } else { Err(format!("{name} failed:\n{}", said.trim_end())) }
}

/// An environment variable; one that is empty counts as absent.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A switch: anything but nothing and 0 is on.
fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|value| value != "0")
}

/// A folder that cargo names.
fn folder(name: &str) -> Result<PathBuf> {
    variable(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set; cargo runs this program"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
