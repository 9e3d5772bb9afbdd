//! sgd
