use super::*;

#[test]
fn v2_budget_is_the_one_worked_out_by_hand() {
    let v2 = Space::v2();
    assert_eq!(v2.width_units(), 8);
    assert_eq!(v2.in_channels(), [64, 96, 112]);
    assert_eq!(v2.max_channels(), [192, 224, 256]);
    assert_eq!(v2.budget_channels(), [832, 1632, 3184]);
    assert_eq!(v2.slices(), [52, 102, 199]);
    assert_eq!(v2.max_banks(), 32);
}

#[test]
fn v1_budget_is_the_one_worked_out_by_hand() {
    let v1 = Space::v1();
    assert_eq!(v1.width_units(), 7);
    assert_eq!(v1.in_channels(), [48, 72, 84]);
    assert_eq!(v1.max_channels(), [144, 168, 192]);
    assert_eq!(v1.budget_channels(), [624, 1224, 2388]);
    assert_eq!(v1.slices(), [34, 68, 132]);
    assert_eq!(v1.max_banks(), 32);
}

/// N = 4, D = 2, w = 2: here half of block 1's channels, 28, is not a multiple of the base, 8.
#[test]
fn odd_halves_are_rounded_down_to_the_base() {
    let space = Space { unit: 4, n_max: 32, depth: 4, widening: 2, ..Space::v2() };
    assert_eq!(space.in_channels(), [16, 24, 24]);
    assert_eq!(space.max_channels(), [48, 56, 64]);
    assert_eq!(space.budget_channels(), [80, 152, 280]);
    assert_eq!(space.slices(), [10, 19, 35]);
    assert_eq!(space.max_banks(), 16);
}

#[test]
fn dilation_never_exceeds_the_extent() {
    let v2 = Space::v2();
    assert_eq!([1, 3, 5, 7, 9].map(|k| v2.max_dilation(k)), [1, 3, 2, 1, 0]);
    for max_extent in 1..40 {
        let space = Space { max_extent, ..Space::v2() };
        for kernel in (3..40).step_by(2) {
            let d = space.max_dilation(kernel);
            assert!(d == 0 || (kernel - 1) * d < max_extent, "{kernel} taps, extent {max_extent}");
        }
    }
}

#[test]
fn bank_sizes_leave_whole_banks_and_whole_slices() {
    let v2 = Space::v2();
    // 64 channels: 1 bank of 5 or 7 units is less than D = 2, and odd.
    assert_eq!(v2.bank_sizes(0), [1, 2, 3, 4, 6, 8]);
    assert_eq!(v2.bank_sizes(1), [1, 2, 3, 4, 5, 6, 8]);
    assert_eq!(v2.bank_sizes(2), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(Space::v1().bank_sizes(0), [1]);
    assert_eq!([1, 2, 3, 4].map(|s| v2.read_step(s)), [2, 1, 2, 1]);
    assert_eq!([1, 2, 3].map(|s| Space::v1().read_step(s)), [3, 3, 1]);
}

#[test]
fn bank_count_follows_the_reference_depth_within_the_block() {
    let v2 = Space::v2();
    assert_eq!(v2.bank_count(0, 8, 0.3), 3); // 64/64 + ceil(28.8)/8 = 4, but 192/64 = 3
    assert_eq!(v2.bank_count(2, 1, 1.0), 32);
    let shallow = Space { depth: 1, ..Space::v2() };
    assert_eq!(shallow.bank_count(0, 3, 0.3), 2 + 1); // 64/24 + ceil(2.4)/3, below 192/24 = 8
}

#[test]
fn presets_validate_and_round_trip() {
    for space in [Space::v1(), Space::v2(), Space::fixture()] {
        space.validate().unwrap();
        let text = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
    }
}

#[test]
fn each_wrong_field_is_named() {
    let body = |active: [bool; 4]| BodyChoice { active, probability: 1.0 };
    let cases: Vec<(&str, Space)> = vec![
        ("unit", Space { unit: 0, ..Space::v2() }),
        ("n_max", Space { n_max: 60, ..Space::v2() }),
        ("n_max", Space { n_max: usize::MAX, ..Space::v2() }),
        ("depth_compression", Space { depth_compression: 0, ..Space::v2() }),
        ("max_bank_size", Space { max_bank_size: 9, ..Space::v2() }),
        ("max_bank_size", Space { depth_compression: 100, ..Space::v2() }),
        ("kernels", Space { kernels: vec![], ..Space::v2() }),
        ("kernels", Space { kernels: vec![3, 4], ..Space::v2() }),
        ("kernels", Space { kernels: vec![5, 3], ..Space::v2() }),
        ("kernels", Space { kernels: vec![3, 9], ..Space::v2() }),
        ("groups", Space { groups: vec![1, 3], ..Space::v2() }),
        ("groups", Space { groups: vec![0, 1], ..Space::v2() }),
        ("bodies", Space { bodies: vec![], ..Space::v2() }),
        ("bodies[0]", Space { bodies: vec![body([false, false, true, false])], ..Space::v2() }),
        ("bodies[0]", Space { bodies: vec![body([true, false, false, true])], ..Space::v2() }),
        ("bodies[1]", Space { bodies: vec![body([true; 4]), body([true; 4])], ..Space::v2() }),
        ("bodies[0]", Space { bodies: vec![BodyChoice { active: [true; 4], probability: f64::NAN }], ..Space::v2() }),
        ("bodies", Space { bodies: vec![BodyChoice { active: [true; 4], probability: 0.5 }], ..Space::v2() }),
        ("expansion", Space { expansion: 0, ..Space::v2() }),
        ("depth", Space { depth: 1, ..Space::v2() }),
        ("widening", Space { widening: 0, ..Space::v2() }),
    ];
    for (field, space) in cases {
        match space.validate() {
            Err(Error::Config { name, .. }) => assert_eq!(name, format!("space.{field}")),
            other => panic!("{field}: {other:?}"),
        }
    }
}
