//! batch_gather
