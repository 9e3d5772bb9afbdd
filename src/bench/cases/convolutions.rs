//! conv2d and pointwise, and both by the definition. A pointwise convolution is one of a single tap, over the
//! channels of several views.

use super::{Case, Of, Operand, Seen, index, input, parameter, place};
use crate::backend::cpu::Filter;
use crate::bench::spec::{Gradients, Spec};
use crate::error::Result;
use crate::nas::cost::taps_inside;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::tensor::Shape;

/// A convolution as sums. Operands: the views, the stored filter, its factor if there is one.
#[derive(Clone, Copy)]
struct Definition {
    filter: Filter,
    dilation: [usize; 2],
    /// Extent of one view, and how many there are.
    view: Shape,
    views: usize,
    scaled: bool,
    /// The input is rectified.
    relu: bool,
    slope: Option<f32>,
}

impl Definition {
    fn y_shape(self) -> Shape {
        self.view.with_channels(self.filter.outputs())
    }

    /// Input channel c at a place, rectified if that is what the op does.
    fn x(self, seen: &Seen<'_>, [c, h, w, n]: [usize; 4]) -> f64 {
        let x = seen.at(c / self.view.c, index(self.view, [c % self.view.c, h, w, n]));
        if self.relu { x.max(0.0) } else { x }
    }

    fn w(self, seen: &Seen<'_>, k: usize, c: usize, r: usize, s: usize) -> f64 {
        let scale = if self.scaled { seen.at(self.views + 1, 0) } else { 1.0 };
        scale * seen.at(self.views, self.filter.index(k, c, r, s))
    }

    /// What tap (r, s) sees from (h, w), if that lies inside the picture; or, `mirrored`, from where it sees (h, w).
    fn seen_by(self, tap: [usize; 2], from: [usize; 2], mirrored: bool) -> Option<[usize; 2]> {
        let along = |axis: usize, len: usize| {
            let away = (tap[axis] as isize - (self.filter.kernel[axis] / 2) as isize) * self.dilation[axis] as isize;
            from[axis].checked_add_signed(if mirrored { -away } else { away }).filter(|&at| at < len)
        };
        Some([along(0, self.view.h)?, along(1, self.view.w)?])
    }

    /// All taps that see something, and what.
    fn taps(self, from: [usize; 2], mirrored: bool) -> impl Iterator<Item = ([usize; 2], [usize; 2])> {
        let [rows, columns] = self.filter.kernel;
        let taps = (0..rows).flat_map(move |r| (0..columns).map(move |s| [r, s]));
        taps.filter_map(move |tap| Some((tap, self.seen_by(tap, from, mirrored)?)))
    }

    fn element(self, seen: &Seen<'_>, of: Of, at: usize) -> f64 {
        match of {
            Of::Result => self.y(seen, at),
            Of::Gradient(operand) if operand < self.views => self.gx(seen, operand, at),
            Of::Gradient(operand) if operand == self.views => self.gw(seen, at),
            // y before its activation is proportional to the factor, and a leaky ReLU keeps that.
            Of::Gradient(factor) => {
                let sum: f64 = seen.y.iter().zip(seen.gy).map(|(&y, &g)| f64::from(y) * f64::from(g)).sum();
                sum / seen.at(factor, 0)
            }
        }
    }

    fn y(self, seen: &Seen<'_>, at: usize) -> f64 {
        let [k, h, w, n] = place(self.y_shape(), at);
        let first = k / self.filter.out_len * self.filter.in_len;
        let mut sum = 0.0;
        for ([r, s], [p, q]) in self.taps([h, w], false) {
            for c in 0..self.filter.in_len {
                sum += self.w(seen, k, c, r, s) * self.x(seen, [first + c, p, q, n]);
            }
        }
        if sum > 0.0 { sum } else { self.slope.map_or(1.0, f64::from) * sum }
    }

    fn gx(self, seen: &Seen<'_>, view: usize, at: usize) -> f64 {
        if self.relu && seen.at(view, at) <= 0.0 {
            return 0.0;
        }
        let [c, h, w, n] = place(self.view, at);
        let c = view * self.view.c + c;
        let (group, c) = (c / self.filter.in_len, c % self.filter.in_len);
        let mut sum = 0.0;
        for ([r, s], [p, q]) in self.taps([h, w], true) {
            for k in group * self.filter.out_len..(group + 1) * self.filter.out_len {
                sum += self.w(seen, k, c, r, s) * seen.gradient(index(self.y_shape(), [k, p, q, n]), self.slope);
            }
        }
        sum
    }

    /// Zero outside of the window.
    fn gw(self, seen: &Seen<'_>, at: usize) -> f64 {
        let Filter { strides: [of_k, of_c, of_r], offset, kernel, .. } = self.filter;
        let (k, c, r, s) = (at / of_k, at % of_k / of_c, at % of_c / of_r, at % of_r);
        let tap = r.checked_sub(offset / of_r).zip(s.checked_sub(offset % of_r));
        let Some((r, s)) = tap.filter(|&(r, s)| r < kernel[0] && s < kernel[1]) else { return 0.0 };
        if k >= self.filter.outputs() || c >= self.filter.in_len {
            return 0.0;
        }
        let c = k / self.filter.out_len * self.filter.in_len + c;
        let scale = if self.scaled { seen.at(self.views + 1, 0) } else { 1.0 };
        let mut sum = 0.0;
        for (h, w) in (0..self.view.h).flat_map(|h| (0..self.view.w).map(move |w| (h, w))) {
            let Some([p, q]) = self.seen_by([r, s], [h, w], false) else { continue };
            for n in 0..self.view.n {
                let g = seen.gradient(index(self.y_shape(), [k, h, w, n]), self.slope);
                sum += g * self.x(seen, [c, p, q, n]);
            }
        }
        scale * sum
    }

    /// Elements of the stored filter that are used.
    fn window(self) -> Vec<usize> {
        let Filter { in_len, kernel: [rows, columns], .. } = self.filter;
        let taps = || (0..rows).flat_map(move |r| (0..columns).map(move |s| (r, s)));
        let pairs = (0..self.filter.outputs()).flat_map(|k| (0..in_len).map(move |c| (k, c)));
        pairs.flat_map(|(k, c)| taps().map(move |(r, s)| self.filter.index(k, c, r, s))).collect()
    }

    /// Views, filter, factor.
    fn operands(self, stored: usize) -> Vec<Operand> {
        let weights = [parameter(stored), parameter(1)];
        vec![input(self.view); self.views]
            .into_iter()
            .chain(weights.into_iter().take(1 + usize::from(self.scaled)))
            .collect()
    }

    /// Passes and costs of a case of this convolution.
    fn complete(self, case: Case, data: bool) -> Case {
        let (filter, plane) = (self.filter, self.view.plane());
        let (weights, factor) = (self.views, self.scaled.then_some((self.views + 1, self.y_shape().len())));
        let activated = self.slope.is_some();
        let mut case = case.used(weights, self.window());
        if data {
            let gradients = (0..self.views).map(|view| (view, filter.out_len * filter.taps()));
            // Where x was rectified its sign is read too.
            let views = if self.relu { self.views } else { 0 };
            case = case.backward("backward_data", gradients, (0..views).chain([weights]), activated);
        }
        let inside =
            taps_inside(filter.kernel, self.dilation, [self.view.h, self.view.w], [1, 1]) as usize * self.view.n;
        let gradients = [(weights, plane)].into_iter().chain(factor);
        case.backward("backward_weight", gradients, 0..self.views, activated)
            .flop(2 * filter.len() * plane, 2 * filter.len() / filter.taps() * inside)
    }

    /// Terms of an element of the result.
    fn depth(self) -> usize {
        self.filter.in_len * self.filter.taps()
    }
}

pub(super) fn conv2d_case(spec: &Spec) -> Result<Option<Case>> {
    let &Spec::Conv2d { c, k, kernel, dilation, groups, size: [h, w], n, stored, slope, scaled, gradients } = spec
    else {
        return Ok(None);
    };
    let stored = stored.unwrap_or([k, c / groups, kernel[0], kernel[1]]);
    let filter = Filter::centre(stored, k, c / groups, kernel, groups);
    let view = Shape::new(c, h, w, n);
    let definition = Definition { filter, dilation, view, views: 1, scaled, relu: false, slope };
    let config = Conv2d { filter, dilation, slope, output: Output::New };
    let case = Case::new(
        definition.operands(stored.iter().product()),
        definition.depth(),
        move |tape, v| conv2d(tape, v[0], v[1], scaled.then(|| v[2]), config),
        move |seen, of, at| definition.element(seen, of, at),
    )?;
    Ok(Some(definition.complete(case, gradients == Gradients::Both)))
}

pub(super) fn pointwise_case(spec: &Spec) -> Result<Option<Case>> {
    let &Spec::Pointwise { views, c, k, size: [h, w], n, relu } = spec else { return Ok(None) };
    let (filter, view) = (Filter::whole(k, views * c, [1, 1], 1), Shape::new(c, h, w, n));
    // Of generated filters, which have a factor, the result is rectified; of transitions, which have none, not.
    let slope = relu.then_some(0.0);
    let definition = Definition { filter, dilation: [1, 1], view, views, scaled: relu, relu, slope };
    let config = Pointwise { filter, relu, slope };
    let case = Case::new(
        definition.operands(filter.len()),
        definition.depth(),
        move |tape, v| pointwise(tape, &v[..views], v[views], relu.then(|| v[views + 1]), config),
        move |seen, of, at| definition.element(seen, of, at),
    )?;
    Ok(Some(definition.complete(case, true)))
}
