//! linear against nested f64 loops.

use super::linear;
use crate::backend::cpu::Isa;
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Case, Input, poisoned_context};

/// Extents of a map; the stored matrix is `k` times `stored`.
#[derive(Clone, Copy)]
struct Geometry {
    c: usize,
    stored: usize,
    k: usize,
    n: usize,
}

const PLAIN: Geometry = Geometry { c: 7, stored: 7, k: 5, n: 13 };

impl Geometry {
    fn inputs(self) -> [Input; 3] {
        [
            Input::random(Shape::new(self.c, 1, 1, self.n), 1),
            Input::random(Shape::vector(self.k * self.stored), 2),
            Input::random(Shape::vector(self.k), 3),
        ]
    }

    fn check(self, inputs: [Input; 3]) {
        Case {
            inputs: inputs.into(),
            build: &|tape, v| linear(tape, v[0], v[1], v[2]),
            reference: &|v| {
                let entry = |k: usize, n: usize| {
                    v[2][k] + (0..self.c).map(|c| v[1][k * self.stored + c] * v[0][c * self.n + n]).sum::<f64>()
                };
                (0..self.k).flat_map(|k| (0..self.n).map(move |n| (k, n))).map(|(k, n)| entry(k, n)).collect()
            },
            depth: self.c + self.k + self.n,
        }
        .check();
    }
}

#[test]
fn multiplies_and_adds_the_bias() {
    for geometry in [PLAIN, Geometry { c: 3, stored: 3, k: 10, n: 1 }, Geometry { c: 33, stored: 33, k: 1, n: 2 }] {
        geometry.check(geometry.inputs());
    }
}

#[test]
fn the_first_columns_of_a_wider_matrix_and_gradient_into_them_alone() {
    for geometry in [Geometry { stored: 11, ..PLAIN }, Geometry { c: 1, stored: 8, k: 6, n: 3 }] {
        geometry.check(geometry.inputs());
    }
}

#[test]
fn each_operand_may_be_constant() {
    let wide = Geometry { stored: 9, ..PLAIN };
    for constant in 0..3 {
        let mut inputs = wide.inputs().into_iter().enumerate();
        let inputs = std::array::from_fn(|_| match inputs.next() {
            Some((i, input)) if i == constant => input.constant(),
            Some((_, input)) => input,
            None => unreachable!("three operands"),
        });
        wide.check(inputs);
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let mut input = |shape: Shape| tape.input(shape, &vec![0.0; shape.len()], true).unwrap();
    let (x, picture) = (input(Shape::new(6, 1, 1, 2)), input(Shape::new(3, 2, 1, 2)));
    let (narrow, ragged, b) = (input(Shape::vector(20)), input(Shape::vector(26)), input(Shape::vector(4)));
    let fitting = input(Shape::vector(24));
    let mut error = |x, w| linear(&mut tape, x, w, b).map_err(|e| e.to_string()).err();
    assert_eq!(
        error(x, narrow).as_deref(),
        Some("linear: expected [C <= 5, 1, 1, N] and 4 rows, got [C 6, H 1, W 1, N 2]")
    );
    assert!(error(x, ragged).is_some(), "26 weights are not 4 rows");
    assert!(error(picture, fitting).is_some(), "pixels are not channels");
    assert_eq!(error(x, fitting), None);
}
