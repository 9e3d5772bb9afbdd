//! What networks are made of besides ops: parameters, their initialisation, normalisation
//! layers, optimisers and learning-rate schedules.

pub mod init;
pub mod norm;
pub mod optim;
pub mod params;
pub mod schedule;
