//! volume_gather refuses what does not fit.

use super::checks::set;
use super::{Placement, VolumeGather, volume_gather};
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::testing::poisoned_context;

#[test]
fn sizes_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let good = VolumeGather { size: [2, 3, 4], views: 2 };
    let three = set(&good, vec![0; 18]).unwrap();
    let mut error = |indices: &[u32], placements: usize, view: u16, config: &VolumeGather| {
        let placements = vec![Placement { view, ..Placement::default() }; placements];
        volume_gather(&mut tape, &three, indices, &placements, config).map_err(|e| e.to_string()).err()
    };
    assert_eq!(error(&[0, 2, 2], 3, 1, &good), None);
    let refused = |volumes, placements| {
        let expected = "volume_gather: expected volumes of 2 x 2 x 3 x 4 bits with a placement in them each, got";
        Some(format!("{expected} {volumes} volumes of Images(3 of 6 bytes), {placements} placements"))
    };
    assert_eq!(error(&[0, 1, 2], 2, 1, &good), refused(3, 2));
    assert_eq!(error(&[0, 3], 2, 1, &good), refused(2, 2));
    assert_eq!(error(&[0], 1, 2, &good), refused(1, 1), "a third view");
    assert!(error(&[0], 1, 0, &VolumeGather { views: 3, ..good }).is_some(), "three views");
    assert!(error(&[0], 1, 0, &VolumeGather { size: [2, 5, 5], ..good }).is_some(), "half a byte");
}
