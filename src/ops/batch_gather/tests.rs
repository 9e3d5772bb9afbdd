//! batch_gather refuses what does not fit.

use super::checks::{config, set};
use super::{BatchGather, Placement, batch_gather};
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::testing::poisoned_context;

#[test]
fn sizes_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let good = config([2, 2, 3], [2, 3]);
    let (three, short) = (set(&good, vec![0; 36]).unwrap(), set(&config([1, 1, 11], [1, 1]), vec![0; 33]).unwrap());
    let mut error = |set, indices: &[u32], placements: usize, config: &BatchGather| {
        let placements = vec![Placement::default(); placements];
        batch_gather(&mut tape, set, indices, &placements, config).map_err(|e| e.to_string()).err()
    };
    assert_eq!(error(&three, &[0, 2, 2], 3, &good), None);
    let refused = |images, set: &str, placements| {
        let expected = "batch_gather: expected images of 2 x 2 x 3 with a placement each, got";
        Some(format!("{expected} {images} images of Images({set} bytes), {placements} placements"))
    };
    assert_eq!(error(&three, &[0, 1, 2], 2, &good), refused(3, "3 of 12", 2));
    assert_eq!(error(&short, &[0, 1], 2, &good), refused(2, "3 of 11", 2));
    assert_eq!(error(&three, &[0, 3], 2, &good), refused(2, "3 of 12", 2));
    assert!(error(&three, &[0], 1, &BatchGather { mean: vec![0.0], ..good.clone() }).is_some(), "one mean");
    assert!(error(&three, &[0], 1, &BatchGather { std: vec![1.0; 3], ..good.clone() }).is_some(), "three deviations");
}
