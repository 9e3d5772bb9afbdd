//! add against sums of f64 vectors.

use super::{OP, add};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    adds_and_hands_the_gradient_to_both,
    only_one_operand_wants_a_gradient,
    values_longer_than_one_piece,
    a_value_plus_itself_gets_the_gradient_twice,
    channels_of_one_value_can_be_added,
);

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn case(shape: Shape, differentiable: [bool; 2]) -> Case {
    let input = |seed, wanted| {
        let input = Input::random(shape, seed);
        if wanted { input } else { input.constant() }
    };
    let inputs = vec![input(1, differentiable[0]), input(2, differentiable[1])];
    Case::new(inputs, 2, |tape, v| add(tape, v[0], v[1]), |v| sum(&v[0], &v[1]))
}

fn adds_and_hands_the_gradient_to_both() -> Vec<Case> {
    vec![case(Shape::new(3, 7, 5, 2), [true; 2]), case(Shape::vector(1), [true; 2])]
}

fn only_one_operand_wants_a_gradient() -> Vec<Case> {
    [[true, false], [false, true]].map(|wanted| case(Shape::new(3, 7, 5, 2), wanted)).into()
}

fn values_longer_than_one_piece() -> Vec<Case> {
    vec![case(Shape::new(3, 79, 139, 1), [true; 2])]
}

fn a_value_plus_itself_gets_the_gradient_twice() -> Vec<Case> {
    let inputs = vec![Input::random(Shape::new(3, 7, 5, 2), 1)];
    vec![Case::new(inputs, 4, |tape, v| add(tape, v[0], v[0]), |v| sum(&v[0], &v[0]))]
}

fn channels_of_one_value_can_be_added() -> Vec<Case> {
    let plane = 7 * 5 * 2;
    // Channel 2 begins at a whole vector of 4 numbers, channel 1 within one.
    let case = |first: usize| {
        Case::new(
            vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
            4,
            move |tape, v| {
                let (a, b) = (tape.channels(v[0], 0..3), tape.channels(v[0], first..first + 3));
                add(tape, a, b)
            },
            move |v| sum(&v[0][..3 * plane], &v[0][first * plane..(first + 3) * plane]),
        )
    };
    vec![case(2), case(1)]
}
