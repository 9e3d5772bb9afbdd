//! Promises of the whole program.

mod golden;
