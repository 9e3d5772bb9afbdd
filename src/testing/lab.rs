//! A device to run checks on: memory filled with NaN, and guards around every allocation.

use super::compare::Precision;
use crate::backend::cuda::{ConvPolicy, ConvVariant};
use crate::backend::{Arena, Context, Kind, Region};
use crate::error::{Error, Result};
use std::cell::RefCell;

/// What memory at `index` holds before anybody writes there: a NaN unlike that of other places, for
/// arithmetic on a CPU hands the bits of a NaN on.
fn poison(index: usize) -> f32 {
    const PAYLOAD: usize = (1 << 22) - 1;
    f32::from_bits(0x7fc0_0000 | (index & PAYLOAD) as u32)
}

/// Which of several kernels that compute the same an op shall take. The one place that knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The op's own choice.
    Automatic,
    /// The same with TF32 allowed, as --tf32 does.
    Fast,
    /// These only.
    Only(ConvVariant),
}

impl Variant {
    /// All that `op` has on such a device.
    pub fn all(op: &str, kind: Kind) -> &'static [Self] {
        const TILES: [Variant; 2] = [Variant::Only(ConvVariant::Tiled), Variant::Only(ConvVariant::Tf32)];
        match (op, kind) {
            ("conv2d" | "conv3d", Kind::Cuda) => {
                &[Self::Automatic, Self::Fast, TILES[0], TILES[1], Self::Only(ConvVariant::Direct)]
            }
            ("pointwise", Kind::Cuda) => &[Self::Automatic, Self::Fast, TILES[0], TILES[1]],
            _ => &[Self::Automatic],
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Fast => "fast",
            Self::Only(ConvVariant::Tiled) => "tiled",
            Self::Only(ConvVariant::Direct) => "direct",
            Self::Only(ConvVariant::Tf32) => "tf32",
        }
    }

    /// How exact its products are.
    pub fn precision(self) -> Precision {
        if [Self::Fast, Self::Only(ConvVariant::Tf32)].contains(&self) { Precision::Tf32 } else { Precision::F32 }
    }

    /// What a GPU is told for it.
    pub fn policy(self) -> ConvPolicy {
        match self {
            Self::Automatic => ConvPolicy::Exact,
            Self::Fast => ConvPolicy::Fast,
            Self::Only(variant) => ConvPolicy::Only(variant),
        }
    }
}

/// See the module documentation.
pub struct Lab {
    context: RefCell<Context>,
    guarded: bool,
    variant: Variant,
}

impl Lab {
    /// A lab on the device of `context`, whose memory it takes over.
    pub fn new(context: Context) -> Self {
        Self { context: RefCell::new(context), guarded: false, variant: Variant::Automatic }
    }

    /// With gaps around every allocation ([`Arena::guarded`]) or, as in training, none.
    pub fn guard(&mut self, guarded: bool) {
        self.guarded = guarded;
    }

    /// Makes ops that have the choice take this kernel.
    pub fn choose(&mut self, variant: Variant) {
        self.variant = variant;
    }

    /// The kernel that ops shall take.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The kind of device.
    pub fn kind(&self) -> Kind {
        self.context.borrow().kind()
    }

    fn arena(&self, capacity: usize) -> Arena {
        if self.guarded { Arena::guarded(capacity) } else { Arena::with_capacity(capacity) }
    }

    /// A context that only counts what this lab would allocate.
    ///
    /// # Errors
    /// None that a plan could cause.
    pub fn plan(&self) -> Result<Context> {
        let mut plan = Context::plan(self.kind());
        plan.restart(self.arena(usize::MAX))?;
        Ok(plan)
    }

    /// Runs `body` on the device without guards, whatever was chosen: a step that repeats itself must
    /// find its memory where it was, and guarded memory is never used again.
    ///
    /// # Errors
    /// Whatever `body` reports.
    pub fn run_unguarded<R>(&self, len: usize, body: impl FnOnce(&mut Context) -> Result<R>) -> Result<R> {
        let context = &mut *self.context.borrow_mut();
        context.restart(Arena::with_capacity(len))?;
        context.fill(context.whole(Region::Step), f32::NAN)?;
        body(context)
    }

    /// Runs `body` on the device with an arena of `len` f32, all NaN; looks at the guards afterwards.
    ///
    /// # Errors
    /// Whatever `body` reports; [`Error::Run`] when something wrote where nothing was allocated.
    pub fn run<R>(&self, len: usize, body: impl FnOnce(&mut Context) -> Result<R>) -> Result<R> {
        let context = &mut *self.context.borrow_mut();
        context.restart(self.arena(len))?;
        if let Some(cuda) = context.as_cuda() {
            cuda.set_conv_policy(self.variant.policy());
        }
        let whole = context.whole(Region::Step);
        match self.guarded {
            true => context.write(whole, &(0..whole.len).map(poison).collect::<Vec<_>>())?,
            false => context.fill(whole, f32::NAN)?,
        }
        let result = body(context)?;
        look_at_guards(context)?;
        Ok(result)
    }
}

fn look_at_guards(context: &mut Context) -> Result<()> {
    let gaps = context.arena().gaps();
    if gaps.is_empty() {
        return Ok(());
    }
    let memory = context.read(context.whole(Region::Step))?;
    let wrong: Vec<usize> =
        gaps.into_iter().flatten().filter(|&i| memory[i].to_bits() != poison(i).to_bits()).collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(Error::Run(format!(
            "{} numbers were written beside the operands of a kernel, the first at {first}",
            wrong.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cpu, Span};

    #[test]
    fn a_write_beside_an_operand_is_found() {
        let mut lab = Lab::new(Context::cpu(Cpu::new(1), 0).unwrap());
        let write = |lab: &Lab, beyond: usize| {
            lab.run(1024, |context| {
                let span = context.alloc(20)?;
                assert!(context.read(span)?.iter().all(|x| x.is_nan()));
                context.fill(Span { len: span.len + beyond, ..span }, 1.0)
            })
        };
        assert!(write(&lab, 1).is_ok(), "there is nothing around it");
        lab.guard(true);
        assert!(write(&lab, 0).is_ok());
        // Also where the arena rounds a length up, and when NaN comes from elsewhere.
        let error = write(&lab, 1).unwrap_err().to_string();
        assert_eq!(error, "1 numbers were written beside the operands of a kernel, the first at 84");
        let error = lab.run(1024, |context| {
            let beyond = |span: Span| Span { start: span.start + span.len, len: 1, ..span };
            let [from, to] = [context.alloc(20)?, context.alloc(20)?].map(beyond);
            let nan = context.read(from)?;
            context.write(to, &[nan[0] + nan[0]])
        });
        assert!(error.is_err(), "a sum of what lies beside other operands");
    }
}
