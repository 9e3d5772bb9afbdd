//! Times every op and pass on shapes of the search space, each beside the limits of the device.
//!
//!     cargo bench --bench kernels -- --device cuda:0 --json kernels.json
//!
//! A sample is the time of some launches queued one after the other, divided by their number: 16 on a
//! GPU, which is waited for at the end only, and 1 on a CPU. Operands hold random numbers and are the
//! same for all launches, so small ones stay in the cache. Gradients add to what is there. `flop`
//! counts taps that fall on padding, `bytes` each operand and result once.

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod measure;

use clap::Parser;
use common::{Ceilings, Conv, Place, exit, median, quantile, write_json};
use measure::{Measured, measure};
use serde_json::json;
use smash_engine::error::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Times every op and pass on shapes of the search space.
#[derive(Parser)]
pub struct Args {
    /// cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the CPU; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Only cases whose "op pass shape" contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// Samples of each case
    #[arg(long, default_value_t = 15)]
    samples: usize,
    /// Launches per sample; 16 on a GPU and 1 on a CPU by default
    #[arg(long)]
    launches: Option<usize>,
    /// Kernels of convolutions on a GPU, each measured
    #[arg(long, value_enum, value_delimiter = ',', default_value = "exact")]
    conv: Vec<Conv>,
    /// Small shapes: is everything in order?
    #[arg(long)]
    quick: bool,
    /// Write all samples to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let place = Place::parse(&args.device, args.threads)?;
    if args.samples == 0 || args.launches == Some(0) {
        return Err(Error::config("--samples", "and --launches must not be 0"));
    }
    let device = place.json()?;
    let ceilings = place.ceilings()?;
    println!("{device}");
    if let Some(limits) = &ceilings {
        println!("limits: {:.0} GFLOP/s, {:.0} GB/s, {}", limits.gflops, limits.gbytes, limits.how);
    }
    println!(
        "{:16} {:16} {:6} {:38} {:>10} {:>10} {:>10} {:>8} {:>5} {:>7} {:>5}",
        "op", "pass", "conv", "shape", "median ms", "p20", "p80", "GFLOP/s", "%", "GB/s", "%"
    );
    let mut rows = Vec::new();
    measure(place, args, |measured| {
        println!("{}", row(measured, ceilings.as_ref()));
        rows.push(record(measured, ceilings.as_ref()));
    })?;
    if rows.is_empty() {
        return Err(Error::config("--filter", format!("no case contains {:?}", args.filter)));
    }
    match &args.json {
        None => Ok(()),
        Some(path) => write_json(
            path,
            &json!({
                "benchmark": "kernels",
                "version": env!("CARGO_PKG_VERSION"),
                "device": device,
                "limits": ceilings.map(|limits| limits.json()),
                "quick": args.quick,
                "cases": rows,
            }),
        ),
    }
}

/// Billions per second.
fn rate(work: f64, milliseconds: f64) -> f64 {
    work / milliseconds / 1e6
}

fn row(m: &Measured, limits: Option<&Ceilings>) -> String {
    let ms = median(&m.samples);
    let (gflops, gbytes) = (rate(m.flop, ms), rate(m.bytes, ms));
    let percent = |of: Option<f64>, value: f64| of.map_or("-".into(), |of| format!("{:.0}", 100.0 * value / of));
    let arithmetic = if m.flop > 0.0 {
        format!("{gflops:8.0} {:>5}", percent(limits.map(|l| l.gflops), gflops))
    } else {
        format!("{:>8} {:>5}", "-", "-")
    };
    format!(
        "{:16} {:16} {:6} {:38} {ms:10.4} {:10.4} {:10.4} {arithmetic} {gbytes:7.0} {:>5}{}",
        m.op,
        m.pass,
        m.conv.map_or("-".into(), Conv::name),
        m.shape,
        quantile(&m.samples, 0.2),
        quantile(&m.samples, 0.8),
        percent(limits.map(|l| l.gbytes), gbytes),
        if m.queue_bound() { "  the CPU is late" } else { "" }
    )
}

fn record(m: &Measured, limits: Option<&Ceilings>) -> serde_json::Value {
    let ms = median(&m.samples);
    let (gflops, gbytes) = (rate(m.flop, ms), rate(m.bytes, ms));
    json!({
        "op": m.op,
        "pass": m.pass,
        "conv": m.conv.map(Conv::name),
        "shape": m.shape,
        "kernels_per_launch": m.kernels,
        "launches_per_sample": m.launches,
        "samples_ms": m.samples,
        "queueing_ms": m.queueing,
        "median_ms": ms,
        "p20_ms": quantile(&m.samples, 0.2),
        "p80_ms": quantile(&m.samples, 0.8),
        "flop": m.flop,
        "bytes": m.bytes,
        "gflops": gflops,
        "gbytes": gbytes,
        "percent_of_arithmetic": limits.map(|l| 100.0 * gflops / l.gflops),
        "percent_of_memory": limits.map(|l| 100.0 * gbytes / l.gbytes),
    })
}
