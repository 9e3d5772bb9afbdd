//! gather_filters
