//! The device the user asked for, and why it is this one.

use crate::backend::cpu::Isa;
use crate::backend::cuda::{self, ConvPolicy, DeviceInfo};
use crate::backend::{Context, Cpu, Cuda, Kind};
use crate::cli::GlobalArgs;
use crate::error::{Error, Result};
use crate::machine;
use serde_json::{Value, json};

/// More GPUs than any machine has.
const MOST_GPUS: usize = 64;

/// A device that is there.
#[derive(Clone, Debug)]
pub struct Chosen {
    place: Place,
    /// Was this very device named?
    asked: bool,
    /// Why, in a few words.
    pub reason: String,
}

#[derive(Clone, Debug)]
enum Place {
    Cpu { threads: usize, isa: Isa },
    Cuda { ordinal: usize, info: DeviceInfo, tf32: bool },
}

/// Finds the device that `--device` names; `auto` takes the first GPU that this program can use,
/// otherwise the CPU.
///
/// # Errors
/// [`Error::Device`] for a device that is not there, [`Error::Config`] for one that cannot be.
pub fn choose(global: &GlobalArgs) -> Result<Chosen> {
    let name = global.device.as_str();
    let cpu = cpu(global)?;
    let gpu = |ordinal, info| Place::Cuda { ordinal, info, tf32: global.tf32 };
    let asked = |place| Ok(Chosen { place, asked: true, reason: "asked for".into() });
    let auto = |place, reason| Chosen { place, asked: false, reason };
    match name {
        "cpu" => asked(cpu),
        "auto" => Ok(match cuda::probe(0) {
            // The emulator proves kernels; nobody wants to wait for it.
            Ok(info) if info.is_emulator() => auto(cpu, "auto: only an emulated GPU is here".into()),
            Ok(info) => auto(gpu(0, info), "auto: the first GPU".into()),
            Err(Error::Device { message, .. }) => auto(cpu, format!("auto: {message}")),
            Err(other) => return Err(other),
        }),
        _ => match name.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
            Some(ordinal) => asked(gpu(ordinal, cuda::probe(ordinal)?)),
            None => Err(Error::config("--device", format!("{name:?} is not auto, cpu or cuda:N"))),
        },
    }
}

fn cpu(global: &GlobalArgs) -> Result<Place> {
    let cores = machine::cores();
    let threads = global.threads.unwrap_or(cores);
    if threads == 0 || threads > 1024 {
        return Err(Error::config("--threads", format!("{threads} is not between 1 and 1024")));
    }
    let isa = match &global.simd {
        None => Isa::detect(),
        Some(name) => name.parse().map_err(|message: String| Error::config("--simd", message))?,
    };
    Ok(Place::Cpu { threads, isa })
}

impl Chosen {
    /// CPU or GPU.
    pub fn kind(&self) -> Kind {
        match self.place {
            Place::Cpu { .. } => Kind::Cpu,
            Place::Cuda { .. } => Kind::Cuda,
        }
    }

    /// The CPU, if it is one.
    pub fn cpu(&self) -> Option<Cpu> {
        match self.place {
            Place::Cpu { threads, isa } => Some(Cpu::with_isa(threads, isa)),
            Place::Cuda { .. } => None,
        }
    }

    /// The GPU, if it is one.
    pub fn cuda(&self) -> Option<&DeviceInfo> {
        match &self.place {
            Place::Cpu { .. } => None,
            Place::Cuda { info, .. } => Some(info),
        }
    }

    /// A context whose step arena holds `planned` f32, and `room` times as many where room that is
    /// never touched costs nothing.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Device`] when there is not that much memory.
    pub fn context(&self, planned: usize, room: usize) -> Result<Context> {
        match self.place {
            Place::Cpu { threads, isa } => Context::cpu(Cpu::with_isa(threads, isa), room * planned),
            // Architectures that the plan did not foresee want the same room on a GPU, where it is taken
            // whether it is touched or not: so it may have no more than half of what is free.
            Place::Cuda { ordinal, tf32, .. } => {
                let mut cuda = Cuda::open(ordinal)?;
                cuda.set_conv_policy(if tf32 { ConvPolicy::Fast } else { ConvPolicy::Exact });
                let half = cuda.free_bytes()? / 2 / size_of::<f32>();
                Context::cuda(cuda, (room * planned).min(half.max(planned)))
            }
        }
    }

    /// Devices for `tasks` trainings at the same time: on a CPU `jobs` of them that share its threads (none given: one for
    /// each thread, or each task if there are fewer), and with `--device auto` all GPUs of the kind.
    pub fn shares(&self, jobs: Option<usize>, tasks: usize) -> Vec<Self> {
        match &self.place {
            Place::Cpu { threads, isa } => {
                let jobs = jobs.unwrap_or(*threads).min(tasks).max(1);
                let place = Place::Cpu { threads: (threads / jobs).max(1), isa: *isa };
                vec![Self { place, ..self.clone() }; jobs]
            }
            Place::Cuda { ordinal, info, tf32 } => {
                let others = if self.asked { 0..0 } else { ordinal + 1..MOST_GPUS };
                let others = others.map_while(|ordinal| cuda::probe(ordinal).ok().map(|info| (ordinal, info)));
                let alike = others.filter(|(_, other)| other.name == info.name);
                let all = std::iter::once((*ordinal, info.clone())).chain(alike);
                all.map(|(ordinal, info)| Self { place: Place::Cuda { ordinal, info, tf32: *tf32 }, ..self.clone() })
                    .collect()
            }
        }
    }

    /// What computes, for those who read numbers elsewhere.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Cpu { threads, isa } => {
                let processor = machine::processor().unwrap_or_else(|| "a CPU".into());
                format!("{processor}, {threads} threads, {}", isa.name())
            }
            Place::Cuda { info, tf32, .. } => format!("{}{}", info.name, if *tf32 { ", tf32" } else { "" }),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let place = match &self.place {
            Place::Cpu { threads, isa } => format!("cpu, {threads} threads, {}", isa.name()),
            Place::Cuda { info, tf32, .. } => {
                let products = if *tf32 { "f32 and tf32" } else { "f32" };
                format!("{}, {}, {} MiB, {products}", info.device, info.name, info.memory_bytes >> 20)
            }
        };
        format!("device: {place} ({})", self.reason)
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        match &self.place {
            Place::Cpu { threads, isa } => {
                json!({ "device": "cpu", "reason": self.reason, "threads": threads, "simd": isa.name() })
            }
            Place::Cuda { info, tf32, .. } => json!({
                "device": info.device,
                "reason": self.reason,
                "gpu": info.name,
                "compute_capability": format!("{}.{}", info.compute.0, info.compute.1),
                "memory_bytes": info.memory_bytes,
                "multiprocessors": info.multiprocessors,
                "driver_cuda": info.driver,
                "tf32": tf32,
            }),
        }
    }
}
