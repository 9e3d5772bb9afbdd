//! concat against copied vectors.

use super::{OP, concat};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    views_follow_one_another,
    an_input_without_gradient_is_skipped,
    a_view_may_appear_twice_and_be_part_of_another,
    planes_longer_than_one_piece,
);

fn shape(c: usize) -> Shape {
    Shape::new(c, 7, 5, 3)
}

fn views_follow_one_another() -> Vec<Case> {
    vec![
        Case::new(
            vec![Input::random(shape(3), 1), Input::random(shape(1), 2), Input::random(shape(4), 3)],
            1,
            concat,
            move |v| v.concat(),
        ),
        Case::new(vec![Input::random(shape(2), 1)], 1, concat, move |v| v[0].clone()),
    ]
}

fn an_input_without_gradient_is_skipped() -> Vec<Case> {
    vec![Case::new(
        vec![Input::random(shape(2), 1), Input::random(shape(4), 2).constant(), Input::random(shape(3), 3)],
        1,
        concat,
        move |v| v.concat(),
    )]
}

fn a_view_may_appear_twice_and_be_part_of_another() -> Vec<Case> {
    let plane = shape(1).len();
    vec![Case::new(
        vec![Input::random(shape(5), 1)],
        4,
        move |tape, v| {
            let (middle, end) = (tape.channels(v[0], 1..3), tape.channels(v[0], 3..5));
            concat(tape, &[end, middle, v[0], middle])
        },
        move |v| {
            let (middle, end) = (&v[0][plane..3 * plane], &v[0][3 * plane..]);
            [end, middle, &v[0], middle].concat()
        },
    )]
}

fn planes_longer_than_one_piece() -> Vec<Case> {
    let shape = |c| Shape::new(c, 79, 139, 1);
    vec![Case::new(vec![Input::random(shape(1), 1), Input::random(shape(3), 2)], 1, concat, move |v| v.concat())]
}
