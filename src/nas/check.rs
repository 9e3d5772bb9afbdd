//! The rules an architecture obeys, each with the element it is about and what is allowed.
//!
//! Contract: [`architecture`] accepts whatever [`super::sample`] can draw, and hand-written
//! networks that keep the same rules (they may use less of the budget, and list their writes in
//! any order). It replays each block op by op to know which banks are written.
//! Source: Brock et al. 2018, section 3.1 and appendices A to C.

use super::arch::{Architecture, Block, Conv, Op, SCHEMA};
use super::options::gates_allowed;
use super::space::{BLOCKS, Space};
use crate::{Error, Result};

/// Every rule; see [`Architecture::validate`].
pub(super) fn architecture(arch: &Architecture) -> Result<()> {
    schema(arch.schema)?;
    space(&arch.space)?;
    block_count(arch.blocks.len())?;
    for (index, block) in arch.blocks.iter().enumerate() {
        let replay = Replay::new(&arch.space, block, index);
        replay.and_then(Replay::run).map_err(|e| within(&format!("blocks[{index}]."), e))?;
    }
    Ok(())
}

/// Only the space, on which the rest depends.
pub(super) fn space(space: &Space) -> Result<()> {
    space.check_fields().map_err(|e| match e {
        Error::Config { name, message } => Error::architecture(name, message),
        other => other,
    })
}

/// Only the version, which is checked before anything else of a file is understood.
pub(super) fn schema(found: u32) -> Result<()> {
    if found == SCHEMA { Ok(()) } else { wrong("schema", format!("{found} is unknown; this engine reads {SCHEMA}")) }
}

/// Only the number of blocks.
pub(super) fn block_count(found: usize) -> Result<()> {
    if found == BLOCKS { Ok(()) } else { wrong("blocks", format!("{found} given, a network has {BLOCKS}")) }
}

/// Only the bank size of block `index`, which exists: what is said of banks can be read when it holds.
pub(super) fn bank_size(space: &Space, index: usize, size: usize) -> Result<()> {
    let sizes = space.bank_sizes(index);
    if sizes.contains(&size) {
        return Ok(());
    }
    wrong("bank_size", format!("size {size} is outside this space (allowed {})", list(&sizes)))
}

/// A block while its ops are replayed.
struct Replay<'a> {
    space: &'a Space,
    block: &'a Block,
    /// Banks `0..written` are not empty.
    written: usize,
    slices_left: usize,
}

impl<'a> Replay<'a> {
    /// Checks what the block itself states.
    fn new(space: &'a Space, block: &'a Block, index: usize) -> Result<Self> {
        bank_size(space, index, block.bank_size)?;
        let initial = space.initial_banks(index, block.bank_size);
        let most = space.bank_count(index, block.bank_size, 1.0);
        if !(initial..=most).contains(&block.n_banks) {
            let message = format!("{} banks are outside this space (allowed {initial} to {most})", block.n_banks);
            return Err(Error::architecture("n_banks", message));
        }
        if block.ops.is_empty() {
            return Err(Error::architecture("ops", "a block needs at least one op"));
        }
        Ok(Self { space, block, written: initial, slices_left: space.slices()[index] })
    }

    fn run(mut self) -> Result<()> {
        let block = self.block;
        for (i, op) in block.ops.iter().enumerate() {
            self.op(op).map_err(|e| within(&format!("ops[{i}]."), e))?;
        }
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        self.read(op)?;
        self.width(op)?;
        self.write(op)?;
        self.body(op)
    }

    fn read(&mut self, op: &Op) -> Result<()> {
        for (j, &bank) in op.read.iter().enumerate() {
            let here = || format!("read[{j}]");
            if bank >= self.block.n_banks {
                return wrong(here(), format!("bank {bank} does not exist (the block has {})", self.block.n_banks));
            }
            if bank >= self.written {
                return wrong(here(), format!("bank {bank} is still empty (written so far: {})", self.written));
            }
            if j > 0 && bank <= op.read[j - 1] {
                return wrong(here(), format!("bank {bank} follows bank {}; reads ascend", op.read[j - 1]));
            }
        }
        let step = self.space.read_step(self.block.bank_size);
        if op.read.is_empty() || !op.read.len().is_multiple_of(step) {
            let count = op.read.len();
            return wrong("read", format!("{count} banks are not whole slices (allowed: multiples of {step})"));
        }
        let slices = op.slices(self.block, self.space);
        if slices > self.slices_left {
            return wrong("read", format!("needs {slices} slices, the block's budget has {} left", self.slices_left));
        }
        self.slices_left -= slices;
        Ok(())
    }

    fn width(&self, op: &Op) -> Result<()> {
        let (s, k) = (self.block.bank_size, self.space.width_units());
        if op.width == 0 || op.width > k || !op.width.is_multiple_of(s) {
            let message = format!("width {} is outside this space (allowed: multiples of {s} up to {k})", op.width);
            return wrong("width", message);
        }
        Ok(())
    }

    fn write(&mut self, op: &Op) -> Result<()> {
        for (j, &bank) in op.write.iter().enumerate() {
            let here = || format!("write[{j}]");
            if bank >= self.block.n_banks {
                return wrong(here(), format!("bank {bank} does not exist (the block has {})", self.block.n_banks));
            }
            if op.write[..j].contains(&bank) {
                return wrong(here(), format!("bank {bank} is written twice"));
            }
        }
        let least = op.width / self.block.bank_size;
        let most = (self.written / 2).max(least);
        if !(least..=most).contains(&op.write.len()) {
            let message = format!("{} banks written (allowed {least} to {most})", op.write.len());
            return wrong("write", message);
        }
        let mut fresh: Vec<usize> = op.write.iter().copied().filter(|&bank| bank >= self.written).collect();
        fresh.sort_unstable();
        if let Some((i, bank)) = fresh.iter().enumerate().find(|&(i, &bank)| bank != self.written + i) {
            let message = format!("bank {bank} leaves bank {} empty; banks are filled in order", self.written + i);
            return wrong("write", message);
        }
        if fresh.len() > least {
            return wrong(
                "write",
                format!("{} empty banks filled, the width has {least} banks of channels", fresh.len()),
            );
        }
        self.written += fresh.len();
        Ok(())
    }

    fn body(&self, op: &Op) -> Result<()> {
        let active = op.active();
        if !self.space.bodies.iter().any(|body| body.active == active) {
            let name = |active: [bool; 4]| format!("{:?}", active.map(u8::from));
            let allowed: Vec<String> = self.space.bodies.iter().map(|body| name(body.active)).collect();
            let message =
                format!("configuration {} is outside this space (allowed {})", name(active), allowed.join(", "));
            return wrong("body", message);
        }
        for (i, conv) in op.body.iter().enumerate() {
            if let Some(conv) = conv {
                self.conv(conv).map_err(|e| within(&format!("body[{i}]."), e))?;
            }
        }
        self.gates(op)
    }

    fn gates(&self, op: &Op) -> Result<()> {
        if op.gates != [false; 2] && !self.space.gates {
            return wrong("gates", "this space has none");
        }
        let allowed = gates_allowed(op.active(), op.gates[0]);
        match (0..2).find(|&j| op.gates[j] && !allowed[j]) {
            Some(0) => wrong("gates[0]", "needs w0 and w2, and w1 or w3 to go on from there"),
            Some(_) => wrong("gates[1]", "needs two paths that arrive at the end"),
            None => Ok(()),
        }
    }

    fn conv(&self, conv: &Conv) -> Result<()> {
        let outside = |field: &str, what: String, allowed: String| {
            wrong(field, format!("{what} is outside this space (allowed {allowed})"))
        };
        for kernel in conv.kernel {
            if !self.space.kernels.contains(&kernel) {
                return outside("kernel", format!("kernel {kernel}"), list(&self.space.kernels));
            }
        }
        for (kernel, dilation) in conv.kernel.into_iter().zip(conv.dilation) {
            let most = self.space.max_dilation(kernel);
            if !(1..=most).contains(&dilation) {
                return outside("dilation", format!("dilation {dilation} of kernel {kernel}"), format!("1 to {most}"));
            }
        }
        let square = |pair: [usize; 2]| pair[0] == pair[1];
        if self.space.square_kernels && !square(conv.kernel) {
            return outside("kernel", format!("kernel {:?}", conv.kernel), "equal height and width".into());
        }
        if self.space.square_kernels && !square(conv.dilation) {
            return outside("dilation", format!("dilation {:?}", conv.dilation), "equal height and width".into());
        }
        if !self.space.groups.contains(&conv.groups) {
            return outside("groups", format!("groups {}", conv.groups), list(&self.space.groups));
        }
        if !self.space.nonlinearities.contains(&conv.activation) {
            let allowed: Vec<&str> = self.space.nonlinearities.iter().map(|kind| kind.name()).collect();
            return outside("activation", conv.activation.name().to_string(), allowed.join(", "));
        }
        Ok(())
    }
}

fn wrong(place: impl Into<String>, message: impl Into<String>) -> Result<()> {
    Err(Error::architecture(place, message))
}

/// Prefixes the place of an error: places are put together on failure only, since the planner of
/// a run validates by the hundred thousand.
pub(super) fn within(prefix: &str, e: Error) -> Error {
    match e {
        Error::Architecture { place, message } => Error::Architecture { place: format!("{prefix}{place}"), message },
        other => other,
    }
}

fn list(values: &[usize]) -> String {
    values.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
