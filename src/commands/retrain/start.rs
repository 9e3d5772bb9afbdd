//! Where a training from scratch starts, if not at random: with what the run's SMASH network generates and shares, or with the
//! weights of an exported network.

use crate::commands::job::{Job, surroundings};
use crate::commands::search::load_smash;
use crate::commands::training::Inherit;
use crate::error::{Error, Result};
use crate::export::about::About;
use crate::export::model;
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::inherit::inherited;
use crate::nas::resulting::{NormKind, ResultingNetwork};
use crate::nas::twin::NetworkShape;
use clap::ValueEnum;
use std::path::Path;

/// The architecture of `design`, if its network can inherit from the run's SMASH network.
///
/// # Errors
/// [`Error::Config`] when it cannot.
pub fn heir<'a>(job: &Job, design: &'a Design) -> Result<&'a Architecture> {
    let message = match design {
        Design::Searched(arch) if arch.space == job.config.space => return Ok(arch),
        Design::Searched(arch) => {
            format!("architecture {} belongs to another search space than the run's SMASH network", arch.id())
        }
        Design::Builtin(builtin) => format!("{builtin} belongs to no search space; leave it out"),
    };
    Err(Error::config("--init-from-smash", message))
}

/// The weights that a training starts from, where those are not random.
#[derive(Default)]
pub struct Start<'a> {
    /// Writes them over the random ones.
    pub inherit: Option<Box<Inherit<'a>>>,
    /// The exported network that they are of, if of one.
    pub from: Option<String>,
}

impl<'a> Start<'a> {
    /// From the exported network at `init`; or from the run's SMASH network, where the settings ask for it.
    ///
    /// # Errors
    /// [`Error::Config`] when that is another network, [`Error::Data`] when it is none or damaged.
    pub fn of(job: &'a Job, design: &'a Design, init: Option<&'a Path>) -> Result<Self> {
        if let Some(path) = init {
            let (about, digest) = model::checked(path)?;
            Self::check(job, design, path, &about)?;
            let from = Some(format!("{} ({digest})", about.design.id()));
            return Ok(Self { inherit: Some(Box::new(move |context| model::restore(path, context))), from });
        }
        if !job.config.retrain.init_from_smash {
            return Ok(Self::default());
        }
        let inherit: Box<Inherit<'a>> = Box::new(|context| {
            let network = ResultingNetwork::new(heir(job, design)?, job.shape, job.config.retrain.norm);
            let (smash, mut trained) = load_smash(job)?;
            for (span, values) in inherited(&mut trained, &smash, &network)? {
                context.write(span, &values)?;
            }
            Ok(())
        });
        Ok(Self { inherit: Some(inherit), from: None })
    }

    /// Is the exported network `about` the one that is to be trained?
    fn check(job: &Job, design: &Design, path: &Path, about: &About) -> Result<()> {
        let differs = |what: String| Err(Error::config("--init-from", format!("{} {what}", path.display())));
        if about.design != *design {
            return differs(format!(
                "is of {}, not of {}; leave --arch and --network out",
                about.design.id(),
                design.id()
            ));
        }
        if about.norm != job.config.retrain.norm && matches!(design, Design::Searched(_)) {
            let norm = |norm: NormKind| norm.to_possible_value().map_or(String::new(), |v| v.get_name().to_string());
            return differs(format!("has ops normalised by {0}; give --norm {0}", norm(about.norm)));
        }
        if surroundings(&about.shape) != surroundings(&job.shape) {
            let images = |shape: &NetworkShape| {
                let kind = if shape.is_volume() { "volumes" } else { "pictures" };
                let (channels, stem, stride) = (shape.image_channels, shape.stem_kernel, shape.stem_stride);
                format!(
                    "{kind} of {channels} channels, {} classes, a stem of {stem} pixels and stride {stride}",
                    shape.classes
                )
            };
            return differs(format!("is for {}, and this run for {}", images(&about.shape), images(&job.shape)));
        }
        Ok(())
    }
}
