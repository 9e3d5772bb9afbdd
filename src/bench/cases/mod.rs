//! From a [`Spec`] to something that can be run and checked: operands, the op, its passes, and the same function in
//! f64 for a single element of a result.

mod convolutions;
mod hypernet;
mod passes;
mod volumes;

use super::spec::Spec;
use crate::backend::{Context, Kind};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;

/// Elements of all results of a pass that are compared with f64, and at least of each.
const SAMPLES: [usize; 2] = [200, 40];

/// What a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The op's result.
    Result,
    /// The gradient of an operand.
    Gradient(usize),
}

/// An operand of an op.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub shape: Shape,
    /// Its gradient is added to zeros, as that of a parameter is, instead of written.
    pub parameter: bool,
}

/// The numbers of a run, for the reference.
pub struct Seen<'a> {
    /// Of each operand.
    pub operands: Vec<&'a [f32]>,
    /// Of the result, as the op computed it: a gradient passes where it is positive.
    pub y: &'a [f32],
    /// Of the gradient of the result.
    pub gy: &'a [f32],
}

impl Seen<'_> {
    fn at(&self, operand: usize, index: usize) -> f64 {
        f64::from(self.operands[operand][index])
    }

    /// Gradient of the result before a (leaky) ReLU of that slope.
    fn gradient(&self, index: usize, slope: Option<f32>) -> f64 {
        let passed = if self.y[index] > 0.0 { 1.0 } else { slope.map_or(1.0, f64::from) };
        passed * f64::from(self.gy[index])
    }
}

/// Applies the op.
type Build = dyn Fn(&mut Tape<'_>, &[Var]) -> Result<Var>;
/// One element of what a pass computes, in f64.
type Reference = dyn Fn(&Seen<'_>, Of, usize) -> f64;

/// A pass of an op.
#[derive(Clone, Debug)]
pub struct Pass {
    /// `forward`, `backward`, `backward_data` or `backward_weight`.
    pub name: &'static str,
    /// What it computes, and of how many terms each element is a sum.
    pub results: Vec<(Of, usize)>,
    /// Operations, taps on padding counted.
    pub flop: f64,
    /// Those of taps inside the picture.
    pub flop_inside: f64,
    /// What it must read and write at least.
    pub bytes: f64,
}

impl Pass {
    /// Is the gradient of this operand computed?
    pub fn wants(&self, operand: usize) -> bool {
        self.results.iter().any(|&(of, _)| of == Of::Gradient(operand))
    }

    /// Is any?
    pub fn is_backward(&self) -> bool {
        self.results.iter().any(|&(of, _)| of != Of::Result)
    }
}

/// An op on operands.
pub struct Case {
    pub operands: Vec<Operand>,
    pub result: Shape,
    pub build: Box<Build>,
    reference: Box<Reference>,
    passes: Vec<Pass>,
    /// Where most of an operand is not used: elements that are.
    used: Option<(usize, Vec<usize>)>,
}

impl Case {
    /// The case of a spec that is no optimiser.
    ///
    /// # Errors
    /// What the op reports of operands that do not fit.
    pub fn of(spec: &Spec) -> Result<Option<Self>> {
        let case = match spec {
            Spec::Conv2d { .. } => convolutions::conv2d_case(spec)?,
            Spec::Pointwise { .. } => convolutions::pointwise_case(spec)?,
            Spec::Conv3d { .. } | Spec::VolumeGather { .. } => volumes::case(spec)?,
            Spec::GatherFilters { .. } | Spec::Weightnorm { .. } => hypernet::case(spec)?,
            Spec::Adam { .. } | Spec::Sgd { .. } => None,
            _ => passes::case(spec)?,
        };
        Ok(case)
    }

    /// A case with its forward pass, whose elements are sums of `depth` terms.
    fn new(
        operands: Vec<Operand>,
        depth: usize,
        build: impl Fn(&mut Tape<'_>, &[Var]) -> Result<Var> + 'static,
        reference: impl Fn(&Seen<'_>, Of, usize) -> f64 + 'static,
    ) -> Result<Self> {
        let (build, reference) = (Box::new(build), Box::new(reference));
        let result = Shape::vector(0);
        let mut case = Self { operands, result, build, reference, passes: Vec::new(), used: None };
        case.result = case.dry_result()?;
        let results = vec![(Of::Result, depth)];
        case.passes.push(Pass { name: "forward", results, flop: 0.0, flop_inside: 0.0, bytes: 0.0 });
        case.count_forward();
        Ok(case)
    }

    /// The forward pass reads all operands and writes the result.
    fn count_forward(&mut self) {
        let read: f64 = (0..self.operands.len()).map(|i| self.bytes(i)).sum();
        self.passes[0].bytes = read + 4.0 * self.result.len() as f64;
    }

    /// The shape of the result, by a dry run.
    fn dry_result(&self) -> Result<Shape> {
        let mut context = Context::plan(Kind::Cpu);
        let mut tape = Tape::new(&mut context);
        let operands: Vec<Var> =
            self.operands.iter().map(|operand| tape.alloc(operand.shape, false)).collect::<Result<_>>()?;
        let y = (self.build)(&mut tape, &operands)?;
        Ok(tape.shape(y))
    }

    /// Bytes of an operand, as far as it is used.
    fn bytes(&self, operand: usize) -> f64 {
        let len = match &self.used {
            Some((part, elements)) if *part == operand => elements.len(),
            _ => self.operands[operand].shape.len(),
        };
        4.0 * len as f64
    }

    /// Adds a backward pass over operands, with the terms of each element of their gradients. It reads the
    /// operands `reads`, the gradient of the result and, if that has an activation, the result.
    fn backward(
        mut self,
        name: &'static str,
        gradients: impl IntoIterator<Item = (usize, usize)>,
        reads: impl IntoIterator<Item = usize>,
        activated: bool,
    ) -> Self {
        let results: Vec<(Of, usize)> = gradients.into_iter().map(|(i, depth)| (Of::Gradient(i), depth)).collect();
        let written = (0..self.operands.len()).filter(|&i| results.iter().any(|&(of, _)| of == Of::Gradient(i)));
        let of_result = 4.0 * (1 + usize::from(activated)) as f64 * self.result.len() as f64;
        let bytes = of_result + written.chain(reads).map(|i| self.bytes(i)).sum::<f64>();
        self.passes.push(Pass { name, results, flop: 0.0, flop_inside: 0.0, bytes });
        self
    }

    /// Says what each pass costs in operations: in all, and without taps on padding.
    fn flop(mut self, all: usize, inside: usize) -> Self {
        for pass in &mut self.passes {
            (pass.flop, pass.flop_inside) = (all as f64, inside as f64);
        }
        self
    }

    /// Says which elements of an operand are used; before any backward pass is added.
    fn used(mut self, operand: usize, elements: Vec<usize>) -> Self {
        self.used = Some((operand, elements));
        self.count_forward();
        self
    }

    /// The passes, the forward pass first.
    pub fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// Elements of a result to compare: spread over all of it, the first and the last among them. The same every
    /// time.
    pub fn samples(&self, pass: &Pass, of: Of) -> Vec<usize> {
        let count = (SAMPLES[0] / pass.results.len()).max(SAMPLES[1]);
        let len = match of {
            Of::Result => self.result.len(),
            Of::Gradient(operand) => self.operands[operand].shape.len(),
        };
        let spread = spread(len, count);
        match &self.used {
            Some((operand, elements)) if of == Of::Gradient(*operand) => {
                // Some of the rest, too, where there must be zeros.
                let used = self::spread(elements.len(), count).into_iter().map(|i| elements[i]);
                used.chain(spread.into_iter().step_by(10)).collect()
            }
            _ => spread,
        }
    }

    /// What such elements should be.
    pub fn expected(&self, seen: &Seen<'_>, of: Of, elements: &[usize]) -> Vec<f64> {
        elements.iter().map(|&element| (self.reference)(seen, of, element)).collect()
    }
}

/// Numbers below `len`: all, or one out of each of so many equal parts, and both ends.
pub fn spread(len: usize, count: usize) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    let mut rng = Rng::new(len as u64, Stream::Shuffle);
    let inner = (0..count).map(|i| {
        let (start, end) = (i * len / count, (i + 1) * len / count);
        start + rng.below(end - start)
    });
    [0].into_iter().chain(inner).chain([len - 1]).collect()
}

fn input(shape: Shape) -> Operand {
    Operand { shape, parameter: false }
}

fn parameter(len: usize) -> Operand {
    Operand { shape: Shape::vector(len), parameter: true }
}

/// Channel, row, column and image of an element.
fn place(shape: Shape, index: usize) -> [usize; 4] {
    let (pixel, n) = (index / shape.n, index % shape.n);
    let (row, w) = (pixel / shape.w, pixel % shape.w);
    [row / shape.h, row % shape.h, w, n]
}

/// The element at a place.
fn index(shape: Shape, [c, h, w, n]: [usize; 4]) -> usize {
    ((c * shape.h + h) * shape.w + w) * shape.n + n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_all_elements() {
        assert_eq!(spread(3, 200), [0, 1, 2]);
        let samples = spread(1_000_003, 200);
        assert!(samples.windows(2).all(|pair| pair[0] <= pair[1]), "{samples:?}");
        assert_eq!((samples.len(), samples[0], samples[201]), (202, 0, 1_000_002));
        assert!(samples.windows(2).all(|pair| pair[1] - pair[0] < 2 * 1_000_003 / 200 + 2));
        let shape = Shape::new(3, 4, 5, 7);
        assert!((0..shape.len()).all(|i| index(shape, place(shape, i)) == i));
    }
}
