//! `info`: what a run would compute on, and how fast this machine can be at most.
//!
//! The two limits are measured, not looked up: f32 multiply-adds per second, on one thread and
//! on all, and copy bandwidth. A kernel's speed means something only beside them.

use super::device::{Chosen, choose};
use super::output::{print, print_json};
use crate::backend::Cpu;
use crate::backend::cpu::Isa;
use crate::backend::cpu::ceiling::{copy_gbytes, fma_gflops};
use crate::backend::cuda;
use crate::cli::GlobalArgs;
use crate::data::{self, DataSpec};
use crate::error::Result;
use crate::machine;
use crate::report::{Align, grouped, table};
use serde_json::{Value, json};

/// Measures and prints.
///
/// # Errors
/// As [`choose`].
pub fn run(global: &GlobalArgs) -> Result<()> {
    let info = Info::gather(choose(global)?)?;
    if global.json { print_json(&info.json()) } else { print(&info.text()) }
}

/// Everything about the machine and this build.
pub struct Info {
    device: Chosen,
    /// The first GPU, or why there is none to use.
    gpu: std::result::Result<cuda::DeviceInfo, String>,
    processor: Option<String>,
    cores: usize,
    threads: usize,
    isa: Isa,
    /// f32 GFLOP/s of one thread and of all; a multiply-add is two.
    gflops: [f64; 2],
    /// GB/s of all threads, read plus written.
    copy: f64,
    memory: Memory,
    /// Name and images (training, test) of the set inside the binary.
    embedded: (String, [usize; 2]),
}

/// Of the machine, in bytes, where it tells.
#[derive(Default)]
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
}

impl Info {
    /// Looks, and measures.
    ///
    /// # Errors
    /// As [`data::open`] of the embedded set.
    pub fn gather(device: Chosen) -> Result<Self> {
        let cpu = device.cpu().unwrap_or_else(|| Cpu::new(machine::cores()));
        let one = Cpu::with_isa(1, cpu.isa());
        let set = data::open(&DataSpec::Embedded)?;
        Ok(Self {
            device,
            gpu: cuda::probe(0).map_err(|e| e.to_string()),
            processor: machine::processor(),
            cores: machine::cores(),
            threads: cpu.pool.threads(),
            isa: cpu.isa(),
            gflops: [fma_gflops(&one), fma_gflops(&cpu)],
            copy: copy_gbytes(&cpu),
            memory: Memory { total: machine::total_memory(), available: machine::free_memory() },
            embedded: (set.name, [set.train.len(), set.test.len()]),
        })
    }

    /// One line per fact.
    pub fn text(&self) -> String {
        let gib = |bytes: Option<u64>| bytes.map_or("unknown".into(), |b| format!("{:.1} GiB", b as f64 / GIB));
        let (name, [train, test]) = &self.embedded;
        let images = format!("{} training and {} test images", grouped(*train as u64), grouped(*test as u64));
        let rows = [
            ("version", format!("smash-engine {}", env!("CARGO_PKG_VERSION"))),
            ("device", self.device.describe().trim_start_matches("device: ").to_string()),
            ("gpu", self.gpu.as_ref().map_or_else(|reason| format!("none: {reason}"), describe_gpu)),
            ("kernels for gpus", cuda::BUILT_WITH.to_string()),
            ("processor", self.processor.clone().unwrap_or_else(|| "unknown".into())),
            ("threads", format!("{} of {} cores", self.threads, self.cores)),
            ("instruction set", format!("{} (available: {})", self.isa.name(), isa_names().join(", "))),
            (
                "multiply-adds, 1 thread",
                format!("{:.1} GFLOP/s measured, f32, one multiply-add = 2 FLOP", self.gflops[0]),
            ),
            ("multiply-adds, all threads", format!("{:.1} GFLOP/s measured", self.gflops[1])),
            ("copy, all threads", format!("{:.1} GB/s measured, bytes read plus bytes written", self.copy)),
            ("memory", format!("{}, {} available", gib(self.memory.total), gib(self.memory.available))),
            ("data: embedded", format!("{name} inside this program, {images}")),
            ("data: your own", "--data FOLDER with IDX or CIFAR files; check it with `data verify FOLDER`".into()),
        ];
        table(&[Align::Left; 2], &rows.map(|(name, value)| [name.to_string(), value]))
    }

    fn json(&self) -> Value {
        let (name, [train, test]) = &self.embedded;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": self.device.json(),
            "gpu": self.gpu.as_ref().map_or_else(|reason| json!({ "none": reason }), |gpu| json!(describe_gpu(gpu))),
            "kernels_for_gpus": cuda::BUILT_WITH,
            "processor": self.processor,
            "threads": self.threads,
            "cores": self.cores,
            "simd": { "chosen": self.isa.name(), "available": isa_names() },
            "fma_gflops": { "one_thread": self.gflops[0], "all_threads": self.gflops[1] },
            "copy_gbytes_read_plus_written": self.copy,
            "memory_bytes": { "total": self.memory.total, "available": self.memory.available },
            "embedded": { "name": name, "train_images": train, "test_images": test },
        })
    }
}

fn describe_gpu(gpu: &cuda::DeviceInfo) -> String {
    format!(
        "{} is {}, compute capability {}.{}, {} multiprocessors, {} MiB, driver for CUDA {}.{}",
        gpu.device,
        gpu.name,
        gpu.compute.0,
        gpu.compute.1,
        gpu.multiprocessors,
        gpu.memory_bytes >> 20,
        gpu.driver / 1000,
        gpu.driver % 1000 / 10
    )
}

fn isa_names() -> Vec<&'static str> {
    Isa::available().iter().map(|isa| isa.name()).collect()
}

const GIB: f64 = (1u64 << 30) as f64;
