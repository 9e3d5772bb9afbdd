//! mean against means of f64 vectors.

use super::{OP, mean};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    of_one_to_four_values,
    only_some_want_a_gradient,
    values_longer_than_one_piece,
    a_value_may_be_there_twice,
    channels_of_one_value_have_a_mean,
);

fn reference(inputs: &[&[f64]]) -> Vec<f64> {
    (0..inputs[0].len()).map(|i| inputs.iter().map(|x| x[i]).sum::<f64>() / inputs.len() as f64).collect()
}

fn case(shape: Shape, differentiable: &[bool]) -> Case {
    let input = |(seed, &wanted): (usize, &bool)| {
        let input = Input::random(shape, seed as u64 + 1);
        if wanted { input } else { input.constant() }
    };
    let inputs = differentiable.iter().enumerate().map(input).collect();
    Case::new(inputs, differentiable.len(), mean, |v| reference(&v.iter().map(|x| &x[..]).collect::<Vec<_>>()))
}

fn of_one_to_four_values() -> Vec<Case> {
    (1..=4).map(|k| case(Shape::new(3, 7, 5, 2), &[true; 4][..k])).collect()
}

fn only_some_want_a_gradient() -> Vec<Case> {
    [[true, false, false], [false, true, true]].map(|wanted| case(Shape::new(3, 7, 5, 2), &wanted)).into()
}

fn values_longer_than_one_piece() -> Vec<Case> {
    vec![case(Shape::new(3, 79, 139, 1), &[true; 2])]
}

fn a_value_may_be_there_twice() -> Vec<Case> {
    let inputs = vec![Input::random(Shape::new(3, 7, 5, 2), 1), Input::random(Shape::new(3, 7, 5, 2), 2)];
    vec![Case::new(inputs, 3, |tape, v| mean(tape, &[v[0], v[1], v[0]]), |v| reference(&[&v[0], &v[1], &v[0]]))]
}

fn channels_of_one_value_have_a_mean() -> Vec<Case> {
    let plane = 7 * 5 * 2;
    // Channel 2 begins at a whole vector of 4 numbers, channel 1 within one.
    let case = |first: usize| {
        Case::new(
            vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
            4,
            move |tape, v| {
                let (a, b) = (tape.channels(v[0], 0..3), tape.channels(v[0], first..first + 3));
                mean(tape, &[a, b])
            },
            move |v| reference(&[&v[0][..3 * plane], &v[0][first * plane..(first + 3) * plane]]),
        )
    };
    vec![case(2), case(1)]
}
