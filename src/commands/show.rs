//! `show FILE`: an architecture, or `show NAME`: a built-in network, as a table with what it costs; with `--json` as data.
//! Architectures also with `--svg` as a picture, with `--dot` as a graph.
//!
//! The cost is that of the resulting network (see `nas::cost`): a property of the architecture
//! and the picture it is given, not of any training.

use super::output::{print, print_json};
use crate::checkpoint::write_atomic;
use crate::cli::{GlobalArgs, ShowArgs};
use crate::error::{Error, Result};
use crate::figures::{dot::dot, layers, network::svg};
use crate::nas::arch::Architecture;
use crate::nas::builtin::Builtin;
use crate::nas::builtin::graph::Graph;
use crate::nas::cost::{Cost, NetworkShape, Part, cost, rows};
use crate::nas::describe;
use crate::report::{Align, count, table};
use serde_json::{Value, json};
use std::path::Path;

/// Prints the architecture, or writes its drawing.
///
/// # Errors
/// [`Error::Data`] when the file is no architecture, [`Error::Config`] for a picture that no
/// network takes, [`Error::Io`] when a drawing cannot be written.
pub fn run(global: &GlobalArgs, args: &ShowArgs) -> Result<()> {
    let shape = network_shape(args)?;
    let name = args.arch.to_string_lossy();
    if Builtin::is_name(&name) && !args.arch.exists() {
        let builtin: Builtin = name.parse()?;
        if args.dot.is_some() {
            let message =
                format!("draws memory banks, and {name} has none; --svg draws it, or name an architecture file");
            return Err(Error::config("--dot", message));
        }
        if let Some(out) = &args.svg {
            return write("--svg", out.as_deref(), &layers::svg(&name, &builtin.graph(&shape)?));
        }
        return show_builtin(global, builtin, &shape);
    }
    let arch = Architecture::load(&args.arch)?;
    match (&args.svg, &args.dot) {
        (Some(out), _) => write("--svg", out.as_deref(), &svg(&arch, &shape)),
        (_, Some(out)) => write("--dot", out.as_deref(), &dot(&arch, &shape)),
        _ if global.json => print_json(&as_json(&arch, &shape)?),
        _ => print(&describe::table(&arch, &shape)),
    }
}

/// Writes a drawing to `out`, or to stdout without one.
fn write(flag: &str, out: Option<&Path>, text: &str) -> Result<()> {
    let Some(out) = out else { return print(text) };
    if let Some(extension) = out.extension().filter(|&e| e == "json" || e == "toml") {
        // `show a.json --svg b.json` may mean two architectures.
        let (out, extension) = (out.display(), extension.display());
        let message = format!("would replace {out} by a drawing; name a file that does not end in .{extension}");
        return Err(Error::config(flag, message));
    }
    write_atomic(out, text.as_bytes())
}

/// Prints a built-in network, one line for each of its parts.
fn show_builtin(global: &GlobalArgs, builtin: Builtin, shape: &NetworkShape) -> Result<()> {
    let graph = builtin.graph(shape)?;
    if global.json {
        let parts = graph.parts().map(|(name, layers)| (name.to_string(), graph.cost_of(layers)));
        let mut value = describe_network(shape, graph.cost(), parts);
        (value["id"], value["layers"]) = (builtin.to_string().into(), graph.weighted_layers().into());
        return print_json(&value);
    }
    print(&builtin_table(builtin, &graph, shape))
}

/// A built-in network as a table, one line for each of its parts.
pub fn builtin_table(builtin: Builtin, graph: &Graph, shape: &NetworkShape) -> String {
    let title = ["part", "size", "in", "out", "layers", "params", "MACs"].map(str::to_string);
    let mut lines = vec![title];
    for (name, layers) in graph.parts() {
        let (first, last, cost) = (&layers[0], &layers[layers.len() - 1], graph.cost_of(layers));
        let texts: Vec<String> = layers.iter().map(ToString::to_string).collect();
        lines.push([
            name.to_string(),
            format!("{0} x {0}", last.size),
            first.inputs.to_string(),
            last.channels.to_string(),
            texts.join(", "),
            count(cost.params),
            count(cost.macs),
        ]);
    }
    let aligns = [Align::Left, Align::Right, Align::Right, Align::Right, Align::Left, Align::Right, Align::Right];
    let total = graph.cost();
    let (channels, size, classes) = (shape.image_channels, shape.image_size, shape.classes);
    format!(
        "{builtin}: image {channels} x {size} x {size}, {classes} classes\n{}\
         total: {} layers with weights, {} parameters, {} MACs ({} FLOPs)\n",
        table(&aligns, &lines),
        graph.weighted_layers(),
        count(total.params),
        count(total.macs),
        count(2 * total.macs)
    )
}

/// What both kinds of network say of themselves: what they are for, and what they and their parts cost.
fn describe_network(shape: &NetworkShape, total: Cost, parts: impl Iterator<Item = (String, Cost)>) -> Value {
    let parts = parts.map(|(part, cost)| json!({ "part": part, "params": cost.params, "macs": cost.macs }));
    json!({
        "image": { "channels": shape.image_channels, "depth": shape.image_depth, "size": shape.image_size },
        "classes": shape.classes,
        "cost": { "params": total.params, "macs": total.macs, "flops": 2 * total.macs,
            "parts": parts.collect::<Vec<_>>() },
    })
}

fn network_shape(args: &ShowArgs) -> Result<NetworkShape> {
    let between = |name: &str, value: usize, most: usize| {
        if (1..=most).contains(&value) {
            Ok(value)
        } else {
            Err(Error::config(name, format!("{value} is not between 1 and {most}")))
        }
    };
    let image_size = between("--image-size", args.image_size, 4096)?;
    let stem_stride = between("--stem-stride", args.stem_stride, 2)?;
    if !image_size.is_multiple_of(4 * stem_stride) {
        // Two transitions halve the picture, and the stem may.
        return Err(Error::config("--image-size", format!("{image_size} is not a multiple of {}", 4 * stem_stride)));
    }
    if args.volume && stem_stride != 1 {
        return Err(Error::config("--stem-stride", "is for pictures; volumes are not halved"));
    }
    let image_channels = between("--image-channels", args.image_channels, 4096)?;
    let classes = between("--classes", args.classes, 1 << 20)?;
    let stem_kernel = between("--stem-kernel", args.stem_kernel, 11)?;
    if stem_kernel.is_multiple_of(2) {
        return Err(Error::config(
            "--stem-kernel",
            format!("{stem_kernel} is even; \"same\" padding needs an odd one"),
        ));
    }
    let image_depth = if args.volume { image_size } else { 1 };
    Ok(NetworkShape { image_channels, image_depth, image_size, stem_stride, classes, stem_kernel })
}

fn as_json(arch: &Architecture, shape: &NetworkShape) -> Result<Value> {
    let parts = rows(arch, shape).into_iter().map(|(part, cost)| (part_name(part), cost));
    let mut value = describe_network(shape, cost(arch, shape), parts);
    value["id"] = arch.id().into();
    value["stem"] = json!({ "kernel": shape.stem_kernel, "stride": shape.stem_stride });
    (value["layers"], value["slices"]) = (arch.layers().into(), arch.slices().into());
    value["architecture"] =
        serde_json::to_value(arch).map_err(|e| Error::Run(format!("cannot write the architecture: {e}")))?;
    Ok(value)
}

/// The name of a part as parameters have it: `block0.op3`.
fn part_name(part: Part) -> String {
    match part {
        Part::Stem => "stem".into(),
        Part::Op { block, op } => format!("block{block}.op{op}"),
        Part::Transition { after } => format!("transition{after}"),
        Part::Head => "head".into(),
    }
}
