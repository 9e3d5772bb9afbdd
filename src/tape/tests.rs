//! The promises of the tape: who gets which gradient, and how long memory is held.

use super::{Backward, Tape, Var};
use crate::backend::cpu::{Filter, Isa};
use crate::backend::{Context, Kind, Region, Span};
use crate::error::Result;
use crate::ops::activation::{Activation, activation};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::batchnorm::{Batchnorm, MOMENTUM, batchnorm};
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::weightnorm::weightnorm;
use crate::tensor::Shape;
use crate::testing::poisoned_context;
use std::cell::RefCell;
use std::rc::Rc;

fn context() -> Context {
    poisoned_context(Isa::detect(), 2, 1 << 14)
}

/// `c` channels of 3 x 5 pixels.
fn shape(c: usize) -> Shape {
    Shape::new(c, 3, 5, 1)
}

/// A value whose channels are filled with `levels`.
fn levels(tape: &mut Tape<'_>, levels: &[f32]) -> Var {
    let data: Vec<f32> = levels.iter().flat_map(|&level| [level; 15]).collect();
    tape.input(shape(levels.len()), &data, true).unwrap()
}

/// The level of each channel of a gradient, which must be uniform.
fn grad_levels(tape: &mut Tape<'_>, var: Var) -> Option<Vec<f32>> {
    let gradient = tape.read_grad(var).unwrap()?;
    assert!(gradient.chunks(15).all(|c| c.iter().all(|x| x.to_bits() == c[0].to_bits())), "{gradient:?}");
    Some(gradient.chunks(15).map(|c| c[0]).collect())
}

/// Upstream gradients of one level per channel.
fn upstream(levels: &[f32]) -> Vec<f32> {
    levels.iter().flat_map(|&level| [level; 15]).collect()
}

/// The identity, which keeps a copy of each gradient that came through it.
struct Spy {
    x: Var,
    y: Var,
    seen: Seen,
}

type Seen = Rc<RefCell<Vec<Vec<f32>>>>;

impl Backward for Spy {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let gy = tape.grad(self.y)?;
        let target = tape.grad_target(self.x)?;
        self.seen.borrow_mut().push(tape.context.read(gy)?);
        target.map_or(Ok(()), |gx| tape.accumulate(gx.span, gy, gx.add))
    }
}

fn spy(tape: &mut Tape<'_>, x: Var) -> (Var, Seen) {
    let y = tape.alloc(tape.shape(x), tape.needs_grad(x)).unwrap();
    let (xt, yt) = (tape.tensor(x).span, tape.tensor(y).span);
    tape.accumulate(yt, xt, false).unwrap();
    let seen = Seen::default();
    tape.record(Spy { x, y, seen: Rc::clone(&seen) }, y, &[]);
    (y, seen)
}

#[test]
fn every_reader_of_a_bank_adds_its_gradient() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let bank = levels(&mut tape, &[1.0, -2.0]);
    let mut sum = add(&mut tape, bank, bank).unwrap();
    for _ in 0..4 {
        sum = add(&mut tape, sum, bank).unwrap();
    }
    assert_eq!(tape.read(sum).unwrap(), upstream(&[6.0, -12.0]));
    tape.backward_from(&[(sum, &upstream(&[1.0, 10.0]))]).unwrap();
    assert_eq!(grad_levels(&mut tape, bank).unwrap(), [6.0, 60.0]);
}

#[test]
fn a_reader_of_the_old_version_of_a_bank_is_unaffected_by_a_later_write() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let old = levels(&mut tape, &[-1.0]);
    let written = levels(&mut tape, &[5.0]);
    let of_old = activation(&mut tape, old, Activation::Relu).unwrap();
    let new = add(&mut tape, old, written).unwrap();
    let of_new = activation(&mut tape, new, Activation::Relu).unwrap();
    let late = activation(&mut tape, old, Activation::LeakyRelu).unwrap();
    assert_eq!(tape.read(of_old).unwrap(), upstream(&[0.0]));
    assert_eq!(tape.read(of_new).unwrap(), upstream(&[4.0]));
    assert_eq!(tape.read(late).unwrap(), upstream(&[-0.02]), "the old version is still there");
    let one = upstream(&[1.0]);
    tape.backward_from(&[(of_old, &one), (of_new, &one), (late, &one)]).unwrap();
    assert_eq!(grad_levels(&mut tape, written).unwrap(), [1.0], "only the new version's reader");
    assert_eq!(grad_levels(&mut tape, old).unwrap(), [0.0 + 1.0 + 0.02]);
}

#[test]
fn views_of_views_are_channels_of_the_root() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let root = levels(&mut tape, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let outer = tape.channels(root, 1..6);
    let inner = tape.channels(outer, 1..4);
    let single = tape.channels(inner, 2..3);
    assert_eq!((tape.shape(inner), tape.shape(single)), (shape(3), shape(1)));
    assert_eq!(tape.read(inner).unwrap(), upstream(&[2.0, 3.0, 4.0]));
    assert_eq!(tape.read(single).unwrap(), upstream(&[4.0]));
    let y = concat(&mut tape, &[inner, single]).unwrap();
    tape.backward_from(&[(y, &upstream(&[1.0, 10.0, 100.0, 1000.0]))]).unwrap();
    assert_eq!(grad_levels(&mut tape, root).unwrap(), [0.0, 0.0, 1.0, 10.0, 1100.0, 0.0, 0.0]);
    assert_eq!(grad_levels(&mut tape, inner).unwrap(), [1.0, 10.0, 1100.0], "a view's gradient is part of the root's");
}

#[test]
#[should_panic(expected = "channels 2..4 of 3")]
fn a_view_stays_inside_its_value() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let root = levels(&mut tape, &[0.0; 5]);
    let view = tape.channels(root, 1..4);
    tape.channels(view, 2..4);
}

#[test]
fn gradient_channels_nobody_reads_are_zero() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0; 6]);
    let (y, seen) = spy(&mut tape, x);
    // Channels 1..3 are read, then 2..5 by an earlier and overlapping reader.
    let early = tape.channels(y, 2..5);
    let (early, _) = spy(&mut tape, early);
    let late = tape.channels(y, 1..3);
    let (late, _) = spy(&mut tape, late);
    tape.backward_from(&[(early, &upstream(&[2.0, 3.0, 4.0])), (late, &upstream(&[10.0, 20.0]))]).unwrap();
    assert_eq!(*seen.borrow(), [upstream(&[0.0, 10.0, 22.0, 3.0, 4.0, 0.0])]);
    assert_eq!(grad_levels(&mut tape, x).unwrap(), [0.0, 10.0, 22.0, 3.0, 4.0, 0.0]);
}

#[test]
fn the_gradient_of_an_unread_view_is_zero() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0; 5]);
    let (read, unread) = (tape.channels(x, 1..3), tape.channels(x, 3..5));
    let (y, _) = spy(&mut tape, read);
    tape.backward_from(&[(y, &upstream(&[7.0, 8.0]))]).unwrap();
    assert_eq!(grad_levels(&mut tape, unread).unwrap(), [0.0, 0.0]);
    assert_eq!(grad_levels(&mut tape, x).unwrap(), [0.0, 7.0, 8.0, 0.0, 0.0]);
}

#[test]
fn the_first_reader_of_a_channel_overwrites_and_later_ones_add() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0; 6]);
    let mut adds = |range| {
        let view = tape.channels(x, range);
        tape.grad_target(view).unwrap().unwrap().add
    };
    assert_eq!([adds(0..2), adds(4..6)], [false, false], "untouched channels cost no zeroing");
    assert_eq!([adds(4..5), adds(1..3), adds(2..3)], [true, true, true]);
    assert_eq!([adds(3..4), adds(0..6)], [false, true]);
}

#[test]
fn outputs_that_share_channels_add_their_upstream_gradients() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0; 3]);
    let (y, _) = spy(&mut tape, x);
    let view = tape.channels(y, 1..2);
    let all = upstream(&[1.0, 2.0, 3.0]);
    tape.backward_from(&[(y, &all), (view, &upstream(&[10.0])), (y, &all)]).unwrap();
    assert_eq!(grad_levels(&mut tape, x).unwrap(), [2.0, 14.0, 6.0]);
}

#[test]
fn a_branch_nobody_uses_gets_no_gradient_and_is_not_visited() {
    // Peak memory of the backward pass beyond that of the forward pass, with and without a branch.
    let peak = |branch: bool| {
        let mut context = context();
        let mut tape = Tape::new(&mut context);
        let (x, aside) = (levels(&mut tape, &[1.0; 3]), levels(&mut tape, &[2.0; 3]));
        let (y, used) = spy(&mut tape, x);
        let mut spies = Vec::new();
        if branch {
            let mut end = add(&mut tape, y, aside).unwrap();
            for _ in 0..3 {
                let (next, seen) = spy(&mut tape, end);
                spies.push(seen);
                end = next;
            }
        }
        let forward = tape.context.arena().high_water();
        tape.backward_from(&[(y, &upstream(&[1.0, 2.0, 3.0]))]).unwrap();
        assert_eq!(used.borrow().len(), 1);
        assert!(spies.iter().all(|seen| seen.borrow().is_empty()));
        assert_eq!(grad_levels(&mut tape, x).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(tape.read_grad(aside).unwrap(), None);
        context.arena().high_water() - forward
    };
    assert_eq!(peak(true), peak(false));
}

#[test]
fn nothing_is_recorded_that_no_gradient_can_reach() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = tape.input(shape(2), &[1.0; 30], false).unwrap();
    let (y, seen) = spy(&mut tape, x);
    assert!(!tape.needs_grad(y));
    assert_eq!(Rc::strong_count(&seen), 1, "the node was dropped");
    tape.backward_from(&[(y, &[1.0; 30])]).unwrap();
    assert_eq!(tape.read_grad(x).unwrap(), None);
}

#[test]
fn parameters_collect_gradients_at_their_own_offsets() {
    let mut context = context();
    for region in [Region::Params, Region::Grads] {
        context.reserve(region, 100).unwrap();
    }
    context.fill(context.whole(Region::Params), 3.0).unwrap();
    // Two steps without zeroing in between.
    for step in 1..=2 {
        let mut tape = Tape::new(&mut context);
        let w = tape.param(shape(3), Span { region: Region::Params, start: 20, len: 45 }, true);
        let fixed = tape.param(shape(3), Span { region: Region::Params, start: 65, len: 30 + 5 }.sub(0, 15), false);
        assert_eq!(tape.shape(fixed).len(), 45);
        let view = tape.channels(w, 1..3);
        let y = add(&mut tape, view, view).unwrap();
        let y = concat(&mut tape, &[y, w]).unwrap();
        assert_eq!(tape.read(y).unwrap(), upstream(&[6.0, 6.0, 3.0, 3.0, 3.0]));
        tape.backward_from(&[(y, &upstream(&[1.0, 2.0, 3.0, 4.0, 5.0]))]).unwrap();
        let k = step as f32;
        assert_eq!(grad_levels(&mut tape, w).unwrap(), [3.0 * k, 6.0 * k, 9.0 * k]);
        let grads = context.read(Span { region: Region::Grads, start: 0, len: 100 }).unwrap();
        assert!(grads[..20].iter().chain(&grads[65..]).all(|&g| g == 0.0));
    }
}

#[test]
fn gradients_of_intermediate_values_are_given_back() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0]);
    let (y, _) = spy(&mut tape, x);
    let (z, _) = spy(&mut tape, y);
    tape.backward_from(&[(z, &upstream(&[2.0]))]).unwrap();
    assert_eq!((tape.read_grad(y).unwrap(), tape.read_grad(z).unwrap()), (None, None));
    assert_eq!(grad_levels(&mut tape, x).unwrap(), [2.0]);
}

#[test]
fn released_memory_is_used_again() {
    let chain = |context: &mut Context, release: bool| {
        let mut tape = Tape::new(context);
        let mut x = tape.input(shape(4), &[1.0; 60], false).unwrap();
        for _ in 0..50 {
            let y = add(&mut tape, x, x).unwrap();
            if release {
                tape.release(x);
            }
            x = y;
        }
        assert_eq!(tape.read(x).unwrap()[0], 2f32.powi(50));
        context.arena().high_water()
    };
    let mut kept = context();
    let all = chain(&mut kept, false);
    assert_eq!(all, 51 * 64, "60 elements, rounded up to 64, of every value");
    let mut released = context();
    assert_eq!(chain(&mut released, true), 2 * 64, "two values at a time");
    for _ in 0..10 {
        assert_eq!((chain(&mut kept, false), chain(&mut released, true)), (all, 2 * 64), "steps do not add up");
    }
}

#[test]
fn the_backward_pass_gives_back_what_it_has_used() {
    // tanh saves its output: the forward pass holds all of them, the backward pass adds only the
    // gradients of two neighbours, and the one of x.
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[0.5; 4]);
    let mut y = x;
    for _ in 0..20 {
        let next = activation(&mut tape, y, Activation::Tanh).unwrap();
        if y != x {
            tape.release(y);
        }
        y = next;
    }
    tape.release(y);
    assert_eq!(tape.context.arena().high_water(), 21 * 64);
    tape.backward_from(&[(y, &[1.0; 60])]).unwrap();
    assert_eq!(tape.context.arena().high_water(), 23 * 64);
    // Only x and its gradient are left: 21 values fit into the rest.
    for _ in 0..21 {
        tape.workspace(60).unwrap();
    }
    assert_eq!(tape.context.arena().high_water(), 23 * 64);
}

#[test]
fn a_saved_value_outlives_its_handles() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[2.0]);
    let y = activation(&mut tape, x, Activation::Tanh).unwrap();
    tape.release(y);
    let other = levels(&mut tape, &[9.0]);
    tape.backward_from(&[(y, &upstream(&[1.0]))]).unwrap();
    let derivative = 1.0 - 2f32.tanh() * 2f32.tanh();
    assert_eq!(grad_levels(&mut tape, x).unwrap(), [derivative]);
    assert_eq!(tape.read(other).unwrap(), upstream(&[9.0]));
}

#[test]
#[should_panic(expected = "was released")]
fn reading_a_released_value_panics() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0]);
    tape.release(x);
    tape.read(x).unwrap();
}

#[test]
#[should_panic(expected = "was released")]
fn a_view_of_a_released_value_panics() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0, 2.0]);
    tape.release(x);
    tape.channels(x, 0..1);
}

#[test]
#[should_panic(expected = "released twice")]
fn releasing_one_handle_for_another_panics() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0, 2.0]);
    let view = tape.channels(x, 0..1);
    tape.release(x);
    assert_eq!(tape.read(view).unwrap(), upstream(&[1.0]), "the view keeps the memory");
    tape.release(x);
}

#[test]
#[should_panic(expected = "was released")]
fn a_released_value_is_gone_when_its_last_view_is() {
    let mut context = context();
    let mut tape = Tape::new(&mut context);
    let x = levels(&mut tape, &[1.0, 2.0]);
    let view = tape.channels(x, 0..1);
    tape.release(x);
    tape.release(view);
    tape.read(view).unwrap();
}

/// Parameters of [`step`], one after the other.
const PARAMS: [usize; 5] = [5 * 3 * 9, 4 * 8, 4, 4, 6 * 5];

/// One training step of a small network with a bank, a dense layer, normalised weights,
/// statistics and a classifier; returns the loss.
fn step(context: &mut Context) -> Vec<f32> {
    let mut start = 0;
    let spans = PARAMS.map(|len| {
        start += len;
        Span { region: Region::Params, start: start - len, len }
    });
    let running = [0, 4].map(|start| Span { region: Region::State, start, len: 4 });
    let mut tape = Tape::new(context);
    let image: Vec<f32> = (0..3 * 6 * 10 * 7).map(|i| (i as f32 * 0.37).sin()).collect();
    let x = tape.input(Shape::new(3, 6, 10, 7), &image, false).unwrap();
    let [conv, point, gamma, beta, matrix] = spans.map(|span| tape.param(Shape::vector(span.len), span, true));
    let whole = 0..PARAMS[0];
    let norm = weightnorm(&mut tape, conv, vec![whole]).unwrap();
    let filter = Filter::whole(5, 3, [3, 3], 1);
    let config = Conv2d { filter, dilation: [1, 2], slope: Some(0.02), output: Output::New };
    let bank = conv2d(&mut tape, x, conv, Some(norm), config).unwrap();
    tape.release(norm);
    let config = Pointwise { filter: Filter::centre([4, 8, 1, 1], 4, 5, [1, 1], 1), relu: true, slope: None };
    let y = pointwise(&mut tape, &[bank], point, None, config).unwrap();
    let config = Batchnorm { running, momentum: Some(MOMENTUM), slope: Some(0.0) };
    let z = batchnorm(&mut tape, &[y], gamma, beta, config).unwrap();
    let written = tape.channels(bank, 0..4);
    let sum = add(&mut tape, written, z).unwrap();
    for var in [bank, written, y, z] {
        tape.release(var);
    }
    let pooled = avg_pool(&mut tape, sum).unwrap();
    let features = global_avg_pool(&mut tape, pooled).unwrap();
    let bias = tape.input(Shape::vector(6), &[0.0; 6], false).unwrap();
    let logits = linear(&mut tape, features, matrix, bias).unwrap();
    let outcome = cross_entropy(&mut tape, logits, &[0, 1, 2, 3, 4, 5, 0]).unwrap();
    for var in [sum, pooled, features, logits] {
        tape.release(var);
    }
    tape.backward(outcome.loss).unwrap();
    tape.read(outcome.loss).unwrap()
}

#[test]
fn a_dry_run_finds_the_exact_peak_of_the_real_one_on_every_instruction_set() {
    let mut plan = Context::plan(Kind::Cpu);
    assert!(plan.is_plan() && step(&mut plan).is_empty());
    let planned = plan.arena().high_water();
    for isa in Isa::available() {
        for threads in [1, 2] {
            let mut context = poisoned_context(isa, threads, planned);
            for region in [Region::Params, Region::Grads] {
                context.reserve(region, PARAMS.iter().sum()).unwrap();
            }
            let params = context.whole(Region::Params);
            let values: Vec<f32> = (0..params.len).map(|i| (i as f32 * 0.71).cos()).collect();
            context.write(params, &values).unwrap();
            context.reserve(Region::State, 8).unwrap();
            for _ in 0..3 {
                let loss = step(&mut context)[0];
                assert!(loss > 0.1 && loss < 10.0, "{isa:?}: loss {loss}");
                assert_eq!(context.arena().high_water(), planned, "{isa:?}, {threads} threads");
            }
            let grads = context.whole(Region::Grads);
            assert!(context.read(grads).unwrap().iter().all(|g| g.is_finite()));
        }
    }
    assert!(planned > 1000, "the step holds more than its image");
    // One element less is refused instead of overwriting something.
    let mut short = poisoned_context(Isa::detect(), 1, planned - 16);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&mut short)));
    assert!(failed.is_err());
}

#[test]
fn a_full_arena_is_an_error() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 10);
    let mut tape = Tape::new(&mut context);
    assert!(tape.alloc(Shape::vector(1 << 10), true).is_ok());
    let error = tape.alloc(Shape::vector(1), true).unwrap_err().to_string();
    assert_eq!(error, "the step needs more than the 0 MiB of memory planned for it");
}
