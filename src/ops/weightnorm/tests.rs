//! weightnorm
