//! global_avg_pool
