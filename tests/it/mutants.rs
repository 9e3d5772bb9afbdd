//! Do the checks of the kernels notice mistakes? Plants known ones into the kernel sources, one at
//! a time, and demands that `selftest` of the program as it ships finds every one of them.
//!
//! A mistake that no check notices is a check that is missing: add it to `src/ops/<op>/checks.rs`.

use crate::cli::program;
use crate::support::{library, library_of};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mistake: in `file`, `right` (which is there once) becomes `wrong`; the checks `only`, as
/// `selftest --only` takes them, must notice.
struct Mistake {
    file: &'static str,
    only: &'static str,
    right: &'static str,
    wrong: &'static str,
}

const fn plant(file: &'static str, only: &'static str, right: &'static str, wrong: &'static str) -> Mistake {
    Mistake { file, only, right, wrong }
}

const MISTAKES: &[Mistake] = &[
    // Shared headers.
    plant("common.cuh", "add:only one", "j < len &&", "j <= len &&"), // writes one number past the end
    plant("common.cuh", "weightnorm:one factor", "lanes = 16;", "lanes = 8;"), // half a warp is left out
    plant(
        "common.cuh",
        "weightnorm:one factor",
        "parts[threadIdx.x / 32] = x;\n  __syncthreads();",
        "parts[threadIdx.x / 32] = x;",
    ),
    plant("common.cuh", "cross_entropy:the loss", "__syncthreads();  // the parts of a call before this one", "//"), // a race
    plant("views.cuh", "batchnorm:views may be", "p.first[middle] <= c", "p.first[middle] < c"),
    plant("views.cuh", "batchnorm:some gradients", ">> (v % 32)", ">> (v % 31)"), // the flag of another view
    plant("planes.cuh", "conv2d:dilation", "kernel_w / 2) * dilation_w", "kernel_w / 2) * dilation_h"),
    plant("planes.cuh", "pointwise:several views", "c >= p.first[view + 1]", "c > p.first[view + 1]"),
    plant("planes.cuh", "conv2d:plain", "unsigned(at.row + down(tap)) < ", "unsigned(at.row + down(tap)) <= "), // halo
    plant("planes.cuh", "conv2d:plain", "max(height - abs(down), 0)", "max(height - abs(down) + 1, 0)"),
    plant("planes.cuh", "conv3d:dilation", "kernel_d / 2) * dilation_d", "kernel_d / 2)"),
    plant("planes.cuh", "conv3d:tiles that", "return back + behind >= 0", "return front + behind >= 0"),
    plant("planes.cuh", "conv3d:plain", "lines.len, max(-behind, 0)", "lines.len, max(behind, 0)"),
    plant("filter.cuh", "conv2d:plain", "p.backward ? taps - 1 - tap : tap", "tap"), // mirrored
    plant("filter.cuh", "conv2d:a centre window", "tap / p.kernel_w * p.stride_r", "tap / p.kernel_w * p.kernel_w"),
    plant("filter.cuh", "conv2d:plain", "part < p.part_count;", "part + 1 < p.part_count;"),
    // Convolution: forward and data gradient.
    plant(
        "correlate.cuh",
        "conv2d:plain",
        "tiles[buffer ^ 1], source);\n    __syncthreads();",
        "tiles[buffer ^ 1], source);",
    ),
    plant("correlate.cuh", "conv2d:plain", "if (!g.inside(pixel, tap)) continue;", ""), // halo, direct
    plant(
        "correlate.cuh",
        "conv2d:plain",
        "[k + e / 2 * 4][m + i * 16 + e % 2 * 8]",
        "[k + e % 2 * 4][m + i * 16 + e / 2 * 8]",
    ), // two registers of a tensor core's operand exchanged
    plant("correlate.cuh", "conv2d:plain", "return __uint_as_float(to_tf32(x));", "return x;"),
    plant("correlate.cuh", "conv2d:plain", "if (at < BK * QUADS)", "if (at + 1 < BK * QUADS)"), // read, never written
    plant("correlate.cuh", "conv2d:plain", "part < c.part_count;", "part + 1 < c.part_count;"),
    plant("conv2d.cu", "conv2d:the second path", "p.add != 0", "false"),
    plant("conv3d.cu", "conv3d:the second path", "p.add != 0", "false"),
    plant("pointwise.cu", "pointwise:relu", "{p.slope, false}", "{-p.slope, false}"),
    plant(
        "pointwise.cu",
        "pointwise:many input",
        "forward_reduce, PointwiseParams) {",
        "forward_reduce, PointwiseParams) { if (p.relu)",
    ),
    // Convolution: weight gradient.
    plant("filter_gradient.cuh", "conv2d:plain", "  __syncthreads();\n\n  const int lane", "\n  const int lane"),
    plant("filter_gradient.cuh", "conv2d:plain", "offset -= lines.len;", "offset = 0;"),
    plant(
        "filter_gradient.cuh",
        "conv2d:vectors of the weight gradient (1",
        "if (threadIdx.x < 16 &&",
        "if (threadIdx.x < 15 &&",
    ),
    // One file an op.
    plant("activation.cu", "activation:every kind", "y > 0.f ? 1.f : slope", "y > 0.f ? 1.f : -slope"),
    plant("activation.cu", "activation:every kind", "if (p.add)", "if (false)"),
    plant("adam.cu", "adam:twenty steps", "(m.at[j] / c1)", "m.at[j]"), // bias correction
    plant("add.cu", "add:only one", "y.at[j] += b.at[j]", "y.at[j] += b.at[0]"), // one of each vector
    plant("add.cu", "add:channels", "aligned16(p.a, p.b, p.y)", "true"), // vectors at any address
    plant("gate.cu", "gate:opens", "t * (s * (1.f - s))", "t * (s * (1.f + s))"),
    plant("gate.cu", "gate:channels", "aligned16(p.a, p.b, p.gy, p.to)", "true"), // vectors at any address
    plant("avg_pool.cu", "avg_pool:halves", "(p.add ? gx[w.at[j]] : 0.f) + g", "g"),
    plant("avg_pool.cu", "avg_pool:halves volumes", "x += w.slice;", ""),
    plant("batch_gather.cu", "batch_gather:of the size", "window[2] ? p.columns - 1 - q : q", "q"), // mirrored
    plant("batch_gather.cu", "batch_gather:of the size", "h < p.image_rows", "h <= p.image_rows"),
    plant("batchnorm.cu", "batchnorm:training moves", "max(p.plane - 1, 1)", "p.plane"),
    plant("batchnorm.cu", "batchnorm:training normalises", "dot / float(p.plane) * rstd", "dot / float(p.plane)"),
    plant("cross_entropy.cu", "cross_entropy:the loss", "k == label ?", "k == label + 1 ?"),
    plant("cross_entropy.cu", "cross_entropy:ties", "k >= label", "k >= label - 1"),
    plant("cross_entropy.cu", "cross_entropy:not a number", "!(logit(k) < own", "(logit(k) > own"),
    plant("cross_entropy.cu", "cross_entropy:five", "rank >= 5", "rank > 5"),
    plant("elementwise.cu", "concat:views follow", "if (p.add)", "if (false)"),
    plant("elementwise.cu", "pointwise:relu", "? 1.f : p.slope", "? p.slope : 1.f"),
    plant("gather_filters.cu", "gather_filters:units", "[middle].start <= i", "[middle].start < i"),
    plant("max_pool.cu", "max_pool:keeps", "j < 4; j++) {\n      const float x", "j < 3; j++) {\n      const float x"), // a corner
    plant("max_pool.cu", "max_pool:a gradient", "(p.add ? *gx : 0.f) + (j", "0.f + (j"),
    plant("mean.cu", "mean:of one", "sum.at[j] *= p.share;", ""), // the sum
    plant("mean.cu", "mean:channels", "aligned16(p.from, p.to)); }\n\nSMASH", "true); }\n\nSMASH"),
    plant("global_avg_pool.cu", "global_avg_pool:averages", "pixel < p.pixels", "pixel + 1 < p.pixels"),
    plant("linear.cu", "linear:multiplies", "if (warp == 0 && n < p.batch)", "if (warp == 0)"), // other rows, and the end
    plant("linear.cu", "linear:multiplies", "= sum;\n  __syncthreads();", "= sum;"),
    plant("linear.cu", "linear:the first columns", "p.w + size_t(k) * p.stored", "p.w + size_t(k) * p.channels"),
    plant("sgd.cu", "sgd:a loss", "if (isfinite(*p.loss))", ""),
    plant("subsample.cu", "subsample:takes", "(p.add ? p.to[i] : 0.f) + g", "g"),
    plant("volume_gather.cu", "volume_gather:rolls", "at < extent ? at : at - extent", "at < extent ? at : 0"),
    plant("volume_gather.cu", "volume_gather:rows and", "window[3] != 0", "window[4] != 0"), // the other axis
    plant("volume_gather.cu", "volume_gather:views", ">> (bit % 8)", ">> (7 - bit % 8)"),    // from the highest bit on
    plant("weightnorm.cu", "weightnorm:filters longer", "= blockIdx.y * 256 + threadIdx.x", "= threadIdx.x"),
];

/// Orders in which the emulator runs threads; some races show in one of them only.
const SCHEDULES: [&str; 3] = ["forward", "reverse", "greedy:1"];

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// What `selftest --only ONLY` on the emulator `library` says, and its exit code.
fn selftest(library: &Path, only: &str, schedule: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&["selftest", "--quiet", "--device", "cuda:0", "--only", only]);
    command.current_dir(folder.path()).env("SMASH_EMU_SCHEDULE", schedule);
    let output = command.env("LD_LIBRARY_PATH", library.parent().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (text.into_owned(), output.status.code())
}

fn op(only: &str) -> &str {
    only.split(':').next().unwrap_or_default()
}

impl Mistake {
    /// The kernels that the checks need, with the mistake, in `folder`.
    fn copy_to(&self, folder: &Path) -> Result<(), String> {
        let copy = |from: PathBuf| fs::copy(&from, folder.join(from.strip_prefix(kernels()).unwrap())).unwrap();
        fs::create_dir(folder.join("emu")).unwrap();
        for entry in fs::read_dir(kernels()).unwrap().chain(fs::read_dir(kernels().join("emu")).unwrap()) {
            let path = entry.unwrap().path();
            let needed = match path.extension() {
                // A header with a mistake compiles all kernels there are again: let them be few.
                Some(cu) if cu == "cu" => {
                    path.file_stem().is_some_and(|stem| stem == op(self.only) || stem == "elementwise")
                }
                _ => path.is_file(),
            };
            if needed {
                copy(path);
            }
        }
        let text = read(&kernels().join(self.file));
        match text.matches(self.right).count() {
            1 => {
                let text = text.replace(self.right, self.wrong);
                fs::write(folder.join(self.file), text).map_err(|e| format!("{}: {e}", self.file))
            }
            count => Err(format!("{:?} is {count} times in {}", self.right, self.file)),
        }
    }

    /// Plants it and runs the checks: what is wrong with them.
    fn noticed(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        self.copy_to(folder.path())?;
        let library = library_of(folder.path(), None)?;
        let mut said = String::new();
        for schedule in SCHEDULES {
            let (text, code) = selftest(&library, self.only, schedule);
            let failed = |row: &str| row.starts_with(op(self.only)) && row.contains("FAILED");
            if code == Some(1) && text.lines().any(failed) {
                // The next run links it again, from objects that stay.
                return fs::remove_dir_all(library.parent().unwrap()).map_err(|e| e.to_string());
            }
            let verdict = text.lines().last().unwrap_or_default();
            said += &format!("\n  {schedule}: exit code {code:?}, {verdict}");
        }
        let Self { file, only, right, wrong } = self;
        Err(format!("{only} does not notice {wrong:?} instead of {right:?} in {file}:{said}"))
    }
}

/// Calls `work` with each of `items`, two at a time; what it complains about.
fn complaints<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    found.lock().unwrap().extend(work(item).err());
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn every_planted_mistake_is_noticed() {
    library().unwrap_or_else(|e| panic!("{e}")); // with the objects that all of them share
    let found = complaints(MISTAKES, Mistake::noticed);
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), MISTAKES.len(), found.join("\n"));
}

#[test]
fn bench_calls_a_wrong_result_wrong() {
    let mistake = MISTAKES.iter().find(|mistake| mistake.file == "add.cu").unwrap();
    let folder = tempfile::tempdir().unwrap();
    mistake.copy_to(folder.path()).unwrap();
    fs::copy(kernels().join("ceiling.cu"), folder.path().join("ceiling.cu")).unwrap();
    let library = library_of(folder.path(), None).unwrap();
    let line = "bench kernels --quick --rounds 1 --device cuda:0 --quiet --json -k add*forward*";
    let mut command = program(&line.split(' ').collect::<Vec<_>>());
    let output = command.env("LD_LIBRARY_PATH", library.parent().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("smash-engine: 1 results are WRONG: add forward "), "{said}");
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &run["cases"][0];
    assert_eq!(row["verdict"], "WRONG");
    assert!(row["error"].as_f64().unwrap() > 1e3 * row["tolerance"].as_f64().unwrap(), "{row}");
    fs::remove_dir_all(library.parent().unwrap()).unwrap();
}

#[test]
fn without_them_the_same_checks_pass() {
    let library = library().unwrap_or_else(|e| panic!("{e}"));
    let checks: BTreeSet<&str> = MISTAKES.iter().map(|mistake| mistake.only).collect();
    let checks: Vec<&str> = checks.into_iter().collect();
    let found = complaints(&checks, |only| match selftest(&library, only, "reverse") {
        (_, Some(0)) => Ok(()),
        (text, code) => Err(format!("{only}: exit code {code:?}\n{text}")),
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_kernel_file_has_a_mistake() {
    let planted: BTreeSet<&str> = MISTAKES.iter().map(|mistake| mistake.file).collect();
    for entry in fs::read_dir(kernels()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // What mma.cuh holds is either inline assembly, which the emulator does not run, or the emulator's. Of
        // ceiling.cu nobody reads the result: it is there for its time.
        let exempt = ["emu", "mma.cuh", "ceiling.cu"].contains(&name.as_str());
        assert!(exempt || planted.contains(name.as_str()), "no mistake is planted in kernels/{name}");
    }
}
