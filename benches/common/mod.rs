//! What both benchmarks share: the device, its limits, statistics of samples.

#![allow(dead_code)] // each benchmark uses a part

use clap::ValueEnum;
use cudarc::driver::{result, sys::CUdevice_attribute_enum as Attribute};
use serde_json::{Value, json};
use smash_engine::backend::cpu::ceiling::{copy_gbytes, fma_gflops};
use smash_engine::backend::cuda::{ConvPolicy, ConvVariant};
use smash_engine::backend::{Context, Cpu, Cuda, Kind, cuda};
use smash_engine::error::{Error, Result};
use std::path::Path;

/// A device by name.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// All or some cores.
    Cpu { threads: usize },
    /// A GPU.
    Cuda { ordinal: usize },
}

impl Place {
    /// `cpu` or `cuda:N`.
    pub fn parse(name: &str, threads: Option<usize>) -> Result<Self> {
        if name == "cpu" {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(Self::Cpu { threads: threads.unwrap_or(cores).clamp(1, 1024) });
        }
        match name.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
            Some(ordinal) => Ok(Self::Cuda { ordinal }),
            None => Err(Error::config("--device", format!("{name:?} is not cpu or cuda:N"))),
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::Cpu { .. } => Kind::Cpu,
            Self::Cuda { .. } => Kind::Cuda,
        }
    }

    /// A context with room for `arena` f32 of step memory.
    pub fn context(self, arena: usize) -> Result<Context> {
        match self {
            Self::Cpu { threads } => Context::cpu(Cpu::new(threads), arena),
            Self::Cuda { ordinal } => Context::cuda(Cuda::open(ordinal)?, arena),
        }
    }

    /// Name and facts, for the JSON file.
    pub fn json(self) -> Result<Value> {
        Ok(match self {
            Self::Cpu { threads } => {
                json!({ "device": "cpu", "threads": threads, "simd": Cpu::new(threads).isa().name() })
            }
            Self::Cuda { ordinal } => {
                let info = cuda::probe(ordinal)?;
                json!({
                    "device": info.device,
                    "gpu": info.name,
                    "compute_capability": format!("{}.{}", info.compute.0, info.compute.1),
                    "multiprocessors": info.multiprocessors,
                    "memory_bytes": info.memory_bytes,
                    "driver_cuda": info.driver,
                    "emulated": info.is_emulator(),
                    "kernels": cuda::BUILT_WITH,
                })
            }
        })
    }

    /// What the device can do at most; none for the emulator.
    pub fn ceilings(self) -> Result<Option<Ceilings>> {
        match self {
            Self::Cpu { threads } => {
                let cpu = Cpu::new(threads);
                let how = "measured: independent multiply-adds, large copy";
                Ok(Some(Ceilings { gflops: fma_gflops(&cpu), gbytes: copy_gbytes(&cpu), how }))
            }
            Self::Cuda { ordinal } => nominal(ordinal),
        }
    }
}

/// Which kernels convolutions take on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Conv {
    /// The fastest for the shape, in f32.
    Exact,
    /// The fastest for the shape, TF32 on tensor cores allowed.
    Fast,
    /// Tiles in shared memory, whatever the shape.
    Tiled,
    /// Sums in registers.
    Direct,
    /// Tiles on the tensor cores.
    Tf32,
}

impl Conv {
    /// Name as typed.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Sets it; a CPU has one kind of kernels.
    pub fn choose(self, context: &mut Context) {
        if let Some(cuda) = context.as_cuda() {
            cuda.set_conv_policy(match self {
                Self::Exact => ConvPolicy::Exact,
                Self::Fast => ConvPolicy::Fast,
                Self::Tiled => ConvPolicy::Only(ConvVariant::Tiled),
                Self::Direct => ConvPolicy::Only(ConvVariant::Direct),
                Self::Tf32 => ConvPolicy::Only(ConvVariant::Tf32),
            });
        }
    }
}

/// Limits that a kernel's speed is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// f32 multiply-adds, each two operations.
    pub gflops: f64,
    /// Bytes read plus bytes written.
    pub gbytes: f64,
    /// Where the two come from.
    pub how: &'static str,
}

impl Ceilings {
    pub fn json(&self) -> Value {
        json!({ "fma_gflops": self.gflops, "memory_gbytes": self.gbytes, "how": self.how })
    }
}

/// What a GPU's units and clocks promise: 128 f32 lanes a multiprocessor (64 on an A100), both edges
/// of the memory clock. A kernel that runs on tensor cores can go beyond the first.
fn nominal(ordinal: usize) -> Result<Option<Ceilings>> {
    let info = cuda::probe(ordinal)?;
    if info.is_emulator() {
        return Ok(None);
    }
    let lanes = if info.compute == (8, 0) { 64.0 } else { 128.0 };
    // SAFETY: `probe` has initialised the driver and found this device.
    let attribute = |which| unsafe { result::device::get_attribute(result::device::get(ordinal as i32)?, which) };
    let clocks = || -> std::result::Result<[f64; 3], result::DriverError> {
        Ok([
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?.into(),
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?.into(),
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?.into(),
        ])
    };
    Ok(clocks().ok().map(|[core_khz, memory_khz, bus_bits]| Ceilings {
        gflops: 2.0 * lanes * info.multiprocessors as f64 * core_khz * 1e-6,
        gbytes: 2.0 * memory_khz * bus_bits / 8.0 * 1e-6,
        how: "nominal: multiprocessors x lanes x highest clock, memory clock x bus width",
    }))
}

/// Waits for the device; a CPU has no queue.
pub fn synchronize(context: &mut Context) -> Result<()> {
    context.as_cuda().map_or(Ok(()), |cuda| cuda.synchronize())
}

/// The value below which `fraction` of the samples lie, between neighbours in proportion.
pub fn quantile(samples: &[f64], fraction: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = fraction * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Writes the results for programs.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, format!("{value:#}\n")).map_err(Error::io("write", path))
}

/// Runs a benchmark; an error goes to stderr and the exit code.
pub fn exit(result: Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
