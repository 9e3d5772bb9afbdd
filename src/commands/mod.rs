//! One file per command, each `run(..) -> Result<()>`.

mod data;
mod eval;
mod info;
mod job;
mod output;
mod planning;
mod profiling;
mod retrain;
mod run;
mod search;
mod show;
mod timing;
mod train;
mod training;

use crate::backend::Cpu;
use crate::backend::cpu::Isa;
use crate::cli::{Cli, Command, GlobalArgs};
use crate::error::{Error, Result};

/// What a newcomer sees.
const WELCOME: &str = "\
smash-engine: one-shot architecture search (SMASH) on hand-written kernels

  smash-engine run                 the whole job on the embedded images, in minutes
  smash-engine info                what this machine offers
  smash-engine run --data FOLDER   the same on your own IDX or CIFAR files

smash-engine --help lists all commands.
";

/// Runs the command that was typed.
///
/// # Errors
/// Whatever the command reports; see [`Error::exit_code`].
pub fn dispatch(cli: Cli) -> Result<()> {
    let Some(command) = cli.command else {
        return output::print(WELCOME);
    };
    let global = &cli.global;
    match command {
        Command::Run(args) => run::run(&args, global),
        Command::Train(args) => train::run(&args, global),
        Command::Search(args) => search::run(&args, global),
        Command::Retrain(args) => retrain::run(&args, global),
        Command::Eval(args) => eval::run(&args, global),
        Command::Show(args) => show::run(global, &args),
        Command::Data(args) => data::run(global, &args),
        Command::Info => info::run(global),
    }
}

/// The CPU the user asked for.
///
/// # Errors
/// [`Error::Device`] for a device that is not there, [`Error::Config`] for one that cannot be.
pub fn open_device(global: &GlobalArgs) -> Result<Cpu> {
    match global.device.as_str() {
        "auto" | "cpu" => {}
        name if name.strip_prefix("cuda:").is_some_and(|n| n.parse::<u32>().is_ok()) => {
            return Err(Error::Device {
                name: name.to_string(),
                message: "this build has no CUDA kernels; use --device cpu".into(),
            });
        }
        name => return Err(Error::config("--device", format!("{name:?} is not auto, cpu or cuda:N"))),
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = global.threads.unwrap_or(cores);
    if threads == 0 || threads > 1024 {
        return Err(Error::config("--threads", format!("{threads} is not between 1 and 1024")));
    }
    let isa = match &global.simd {
        None => Isa::detect(),
        Some(name) => name.parse().map_err(|message: String| Error::config("--simd", message))?,
    };
    Ok(Cpu::with_isa(threads, isa))
}
