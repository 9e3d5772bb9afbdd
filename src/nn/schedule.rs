//! Learning-rate schedules.

/// Cosine annealing from `start` at step 0 to 0 at step `total`, no restarts (Loshchilov &
/// Hutter 2017).
pub fn cosine(start: f32, step: u64, total: u64) -> f32 {
    let progress = step.min(total) as f64 / total.max(1) as f64;
    (f64::from(start) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())) as f32
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn cosine_falls_from_start_to_zero() {
        assert_eq!(cosine(0.1, 0, 100), 0.1);
        assert!((cosine(0.1, 50, 100) - 0.05).abs() < 1e-7);
        assert!(cosine(0.1, 100, 100).abs() < 1e-9);
        assert!((1..=100).all(|t| cosine(0.1, t, 100) < cosine(0.1, t - 1, 100)));
    }
}
