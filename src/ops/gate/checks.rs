//! gate against products of f64 functions, and far from zero, where both saturate.

use super::{OP, gate};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Check, Input, checks};

checks!(
    OP,
    opens_and_hands_the_gradient_to_both,
    only_one_operand_wants_a_gradient,
    values_longer_than_one_piece,
    a_value_that_gates_itself_gets_both_gradients,
    channels_of_one_value_can_be_gated,
    far_from_zero_everything_is_finite_and_saturates,
);

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a.tanh() / (1.0 + (-b).exp())).collect()
}

fn case(shape: Shape, differentiable: [bool; 2]) -> Case {
    let input = |seed, wanted| {
        let input = Input::random(shape, seed);
        if wanted { input } else { input.constant() }
    };
    let inputs = vec![input(1, differentiable[0]), input(2, differentiable[1])];
    Case::new(inputs, 4, |tape, v| gate(tape, v[0], v[1]), |v| product(&v[0], &v[1]))
}

fn opens_and_hands_the_gradient_to_both() -> Vec<Case> {
    vec![case(Shape::new(3, 7, 5, 2), [true; 2]), case(Shape::vector(1), [true; 2])]
}

fn only_one_operand_wants_a_gradient() -> Vec<Case> {
    [[true, false], [false, true]].map(|wanted| case(Shape::new(3, 7, 5, 2), wanted)).into()
}

fn values_longer_than_one_piece() -> Vec<Case> {
    vec![case(Shape::new(3, 79, 139, 1), [true; 2])]
}

fn a_value_that_gates_itself_gets_both_gradients() -> Vec<Case> {
    let inputs = vec![Input::random(Shape::new(3, 7, 5, 2), 1)];
    vec![Case::new(inputs, 8, |tape, v| gate(tape, v[0], v[0]), |v| product(&v[0], &v[0]))]
}

fn channels_of_one_value_can_be_gated() -> Vec<Case> {
    let plane = 7 * 5 * 2;
    // Channel 2 begins at a whole vector of 4 numbers, channel 1 within one.
    let case = |first: usize| {
        Case::new(
            vec![Input::random(Shape::new(5, 7, 5, 2), 1)],
            8,
            move |tape, v| {
                let (a, b) = (tape.channels(v[0], 0..3), tape.channels(v[0], first..first + 3));
                gate(tape, a, b)
            },
            move |v| product(&v[0][..3 * plane], &v[0][first * plane..(first + 3) * plane]),
        )
    };
    vec![case(2), case(1)]
}

fn far_from_zero_everything_is_finite_and_saturates() -> Vec<Check> {
    let (a, b) = ([-1e4, 1e4, 1e4, 0.5], [1e4, 1e4, -1e4, -1e4]);
    vec![Check::new(move |lab, measured| {
        lab.run(1 << 12, |context| {
            let mut tape = Tape::new(context);
            let [a, b] = [tape.input(Shape::vector(4), &a, true)?, tape.input(Shape::vector(4), &b, true)?];
            let y = gate(&mut tape, a, b)?;
            measured.exact("y", &tape.read(y)?, &[-1.0, 1.0, 0.0, 0.0]);
            tape.backward_from(&[(y, &[1.0; 4])])?;
            for (name, x) in [("gradient of a", a), ("gradient of b", b)] {
                measured.exact(name, &tape.read_grad(x)?.unwrap_or_default(), &[0.0; 4]);
            }
            Ok(())
        })
    })]
}
