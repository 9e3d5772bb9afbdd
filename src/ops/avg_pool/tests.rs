//! avg_pool
