//! Promises of the whole program.
