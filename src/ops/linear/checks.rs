//! linear against nested f64 loops.

use super::{OP, linear};
use crate::tensor::Shape;
use crate::testing::{Case, Input, checks};

checks!(
    OP,
    multiplies_and_adds_the_bias,
    the_first_columns_of_a_wider_matrix_and_gradient_into_them_alone,
    each_operand_may_be_constant,
);

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

    fn case(self, inputs: [Input; 3]) -> Case {
        Case::new(
            inputs.into(),
            self.c + self.k + self.n,
            move |tape, v| linear(tape, v[0], v[1], v[2]),
            move |v| {
                let entry = |k: usize, n: usize| {
                    v[2][k] + (0..self.c).map(|c| v[1][k * self.stored + c] * v[0][c * self.n + n]).sum::<f64>()
                };
                (0..self.k).flat_map(|k| (0..self.n).map(move |n| (k, n))).map(|(k, n)| entry(k, n)).collect()
            },
        )
    }
}

fn multiplies_and_adds_the_bias() -> Vec<Case> {
    [
        PLAIN,
        Geometry { c: 3, stored: 3, k: 10, n: 1 },
        Geometry { c: 33, stored: 33, k: 1, n: 2 },
        // More images than a warp has lanes.
        Geometry { c: 11, stored: 11, k: 9, n: 37 },
    ]
    .map(|geometry| geometry.case(geometry.inputs()))
    .into()
}

fn the_first_columns_of_a_wider_matrix_and_gradient_into_them_alone() -> Vec<Case> {
    [Geometry { stored: 11, ..PLAIN }, Geometry { c: 1, stored: 8, k: 6, n: 3 }]
        .map(|geometry| geometry.case(geometry.inputs()))
        .into()
}

fn each_operand_may_be_constant() -> Vec<Case> {
    let wide = Geometry { stored: 9, ..PLAIN };
    let case = |constant: usize| {
        let mut inputs = wide.inputs();
        inputs[constant] = inputs[constant].clone().constant();
        wide.case(inputs)
    };
    [0, 1, 2].map(case).into()
}
