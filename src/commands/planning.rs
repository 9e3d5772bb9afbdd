//! What a training will need in memory, by dry runs of its largest steps, stated beforehand and
//! compared with what the process used.

use crate::commands::job::Job;
use crate::commands::training::{Subject, Training};
use crate::data::Images;
use crate::error::Result;
use crate::machine::peak_resident_bytes;
use crate::nas::arch::{Architecture, PlacedOp};
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::train::{Drawn, plan_evaluation, plan_step};
use crate::report::count;
use crate::rng::{Rng, Stream};

/// Steps whose architectures are drawn ahead: a hundred epochs of CIFAR take 3 s.
const FORESEEN: u64 = 100_000;
/// Architectures whose memory is planned exactly, by a dry run.
const PLANNED: usize = 48;

impl Training<'_> {
    /// Step memory in f32 of the largest step or evaluation to come.
    pub(super) fn plan(&self, job: &Job, total: u64) -> Result<usize> {
        let shape = job.batch_shape(self.batch);
        let evaluated = job.evaluation_shape();
        let kind = job.device.kind();
        let network = match self.subject {
            Subject::Fixed(network) => {
                return Ok(plan_step(kind, network, shape)?.max(plan_evaluation(kind, network, evaluated)?));
            }
            Subject::Smash(network) => network,
        };
        let (space, mut rng) = (&job.config.space, Rng::sub(job.config.seed, Stream::Arch, self.stream));
        let mut largest: Vec<(u64, Architecture)> = Vec::new();
        for step in 0..total.min(FORESEEN) {
            // The very architectures to come; beyond what is foreseen, others from the whole space.
            let progress = if total <= FORESEEN { step as f64 / total as f64 } else { 1.0 };
            let arch = sample(space, &SampleLimits::at(space, progress), &mut rng);
            largest.push((stored_elements(&arch), arch));
            if largest.len() >= 2 * PLANNED {
                keep_largest(&mut largest);
            }
        }
        keep_largest(&mut largest);
        let mut most = 0;
        for (_, arch) in &largest {
            most = most.max(plan_step(kind, &Drawn { network, arch }, shape)?);
        }
        // Validation draws from the whole space from the first epoch on.
        for _ in 0..PLANNED {
            let arch = sample(space, &SampleLimits::full(space), &mut rng);
            most = most.max(plan_evaluation(kind, &Drawn { network, arch: &arch }, evaluated)?);
        }
        Ok(most)
    }

    pub(super) fn state_cost(&self, job: &Job, steps: u64, planned: usize) {
        let memory = self.memory_bytes(job, planned);
        let evaluated = job.validation.len();
        job.say(&format!(
            "{}: {steps} steps of {} images, {} parameters, about {} MiB of memory; validation on {evaluated} images",
            self.name,
            self.batch,
            count(self.subject.store().len() as u64),
            memory >> 20
        ));
    }

    /// Stated peak: values, gradients and two moments of the parameters, the step arena, the images, a
    /// checkpoint being put together and its file, and the program itself. What of it lies on a GPU is
    /// counted too.
    fn memory_bytes(&self, job: &Job, planned: usize) -> u64 {
        let parameters = self.subject.store().len() as u64 * 4;
        let bytes = |images: &Images| images.len() as u64 * images.pixels() as u64;
        let images = bytes(&job.dataset.train) + bytes(&job.dataset.test);
        const PROGRAM: u64 = 14 << 20; // binary, packed embedded files, thread stacks
        4 * parameters + 2 * 3 * parameters + planned as u64 * 4 + images + PROGRAM
    }

    pub(super) fn report_memory(&self, job: &Job, planned: usize, steps: u64) {
        if let (Some(peak), true) = (peak_resident_bytes(), job.global.verbose && steps > 0) {
            let stated = self.memory_bytes(job, planned);
            job.say(&format!(
                "{}: peak resident memory of the process so far {} MiB, stated {} MiB",
                self.name,
                peak >> 20,
                stated >> 20
            ));
        }
    }
}

fn keep_largest(archs: &mut Vec<(u64, Architecture)>) {
    archs.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    archs.truncate(PLANNED);
}

/// Roughly the elements a step keeps for its backward pass, per image: bottlenecks, inner
/// activations and written banks, at their resolution. Only ranks architectures.
fn stored_elements(arch: &Architecture) -> u64 {
    let space = &arch.space;
    let channels = |placed: &PlacedOp<'_>| {
        let op = placed.op;
        let inner = usize::from(op.body[1].is_some()) + usize::from(op.body[3].is_some());
        let written = op.write.len() * placed.block.bank_size * space.unit;
        // Options of the space that keep a value of their own.
        let options = op.body.iter().flatten().filter(|conv| space.body_norm || !conv.activation.is_relu()).count()
            + op.gates.iter().filter(|&&gate| gate).count();
        op.bottleneck_channels(placed.block, space) + (1 + inner + options) * op.output_channels(space) + written
    };
    arch.placed_ops().map(|placed| (channels(&placed) as u64) << (2 * (2 - placed.block_index))).sum()
}
