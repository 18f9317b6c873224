//! Worked examples and properties of the gradient through the solver.

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

use super::{BlackBox, Links, Noise, shifted};
use crate::matching::hamming::hamming;
use crate::matching::setting::{Hamming, Mode};
use crate::matching::{Outcome, Problem, Solver, exact};

fn black_box(lambda: f64) -> BlackBox {
    let mode = Mode::Bijection;
    BlackBox { solver: Solver::default(), mode, lambda, share: 1.0, implicit: false }
}

fn variable(values: &[f64], shape: (usize, usize, usize)) -> Var {
    Var::from_slice(values, shape, &Device::Cpu).expect("a tensor")
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).and_then(|x| x.flatten_all()?.to_vec1()).expect("values")
}

struct Found {
    loss: f64,
    v: Vec<f64>,
    of_nodes: Vec<f64>,
    of_edges: Vec<f64>,
    outcome: Outcome,
}

/// The Hamming loss of one problem, and its gradients.
fn run(
    settings: &BlackBox,
    nodes: &Var,
    edges: Option<&Var>,
    links: &Links,
    noise: Noise,
) -> Found {
    let problems = nodes.dim(0).expect("a shape");
    let (v, outcome) = settings
        .assign(nodes, edges.map(Var::as_tensor), vec![links.clone(); problems], noise)
        .expect("assigned");
    let loss = hamming(&v, Hamming::Sum, problems).expect("a loss");
    let grads = (&loss * settings.share).and_then(|loss| loss.backward()).expect("gradients");
    let gradient = |variable: &Var| flat(grads.get(variable).expect("a gradient"));
    Found {
        loss: flat(&loss)[0],
        v: flat(&v),
        of_nodes: gradient(nodes),
        of_edges: edges.map(gradient).unwrap_or_default(),
        outcome,
    }
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (one, other) in found.iter().zip(expected) {
        assert!((one - other).abs() < 1e-9, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn gradients_of_two_nodes_are_those_of_the_worked_example() {
    let nodes = variable(&[0.3, 0.5, 0.6, 0.4], (1, 2, 2));
    let found =
        |settings: &BlackBox| run(settings, &nodes, None, &Links::default(), Noise::default());

    // The step turns the solution at 0.1, where both are as good.
    let turned = |lambda: f64| (lambda, 1.0 / lambda);
    for (lambda, step) in [(0.05, 0.0), (0.099, 0.0), turned(0.101), (0.2, 5.0), (80.0, 0.0125)] {
        let found = found(&black_box(lambda));
        assert_eq!((found.loss, &found.v[..]), (4.0, &[0.0, 1.0, 1.0, 0.0][..]));
        assert_close(&found.of_nodes, &[-step, step, step, -step]);
    }
    for lambda in [0.2, 80.0] {
        let implicit = BlackBox { implicit: true, ..black_box(lambda) };
        assert_close(&found(&implicit).of_nodes, &[-1.0, 1.0, 1.0, -1.0]);
    }
}

#[test]
fn shifted_affinities_are_those_of_the_worked_example() {
    let (nodes, grad) = ([0.3_f64, 0.5, 0.6, 0.4], [-1.0, 1.0, 1.0, -1.0]);
    let expected = [
        (0.05, [0.35, 0.45, 0.55, 0.45]),
        (0.2, [0.5, 0.3, 0.4, 0.6]),
        (80.0, [80.3, -79.5, -79.4, 80.4]),
    ];

    for (lambda, expected) in expected {
        let found = shifted(&nodes, &[], Some((&grad, lambda)));
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-5, "{lambda}: {found} {expected}");
        }
    }
}

#[test]
fn a_right_match_has_no_gradient_at_any_step_in_the_worked_example() {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    #[rustfmt::skip]
    let nodes = variable(&[
        0.96, 0.8, -0.28, -0.6,
        0.8, 0.96, 0.6, 0.28,
        0.28, 0.6, 0.96, 0.8,
        -0.6, -0.28, 0.8, 0.96,
    ], (1, 4, 4));
    #[rustfmt::skip]
    let edges = variable(&[
        1.0, -1.0, 0.0, 0.0,
        half, -half, half, -half,
        -half, half, -half, half,
        0.0, 0.0, -1.0, 1.0,
    ], (1, 4, 4));
    let links = Links {
        source: vec![(0, 1), (1, 2), (2, 1), (3, 2)],
        target: vec![(0, 1), (1, 0), (2, 3), (3, 2)],
    };

    for lambda in [0.05, 0.2, 1.0, 80.0] {
        let found = run(&black_box(lambda), &nodes, Some(&edges), &links, Noise::default());

        assert_eq!((found.loss, found.outcome.partners(0)), (0.0, Some(vec![0, 1, 2, 3])));
        assert_close(&found.of_nodes, &[0.0; 16]);
        assert_close(&found.of_edges, &[0.0; 16]);
    }
}

#[test]
fn a_mean_of_losses_shifts_as_each_of_them_would() {
    let nodes = variable(&[0.3, 0.5, 0.6, 0.4], (1, 2, 2));
    let of = |lambda| {
        let shared = BlackBox { share: 0.25, ..black_box(lambda) };
        run(&shared, &nodes, None, &Links::default(), Noise::default()).of_nodes
    };

    assert_close(&of(0.05), &[0.0; 4]);
    assert_close(&of(0.2), &[-1.25, 1.25, 1.25, -1.25]);
}

const NODES: [f64; 16] =
    [0.8, 0.82, 0.1, 0.1, 0.82, 0.8, 0.1, 0.1, 0.1, 0.1, 0.9, 0.2, 0.1, 0.1, 0.2, 0.9];

fn two_edges() -> Links {
    let edges = vec![(0, 2), (1, 3)];
    Links { source: edges.clone(), target: edges }
}

#[test]
fn edges_rescue_the_identity_in_the_worked_example() {
    let nodes = variable(&NODES, (1, 4, 4));
    let edges = variable(&[0.9, -0.5, -0.5, 0.9], (1, 2, 2));

    let first = run(&black_box(80.0), &nodes, None, &Links::default(), Noise::default());
    let second = run(&black_box(80.0), &nodes, Some(&edges), &two_edges(), Noise::default());

    assert_eq!((first.loss, first.outcome.partners(0)), (4.0, Some(vec![1, 0, 2, 3])));
    assert_eq!((second.loss, second.outcome.partners(0)), (0.0, Some(vec![0, 1, 2, 3])));
    assert!(second.outcome.duality_gap().expect("a bound") < 1e-6);
}

#[test]
fn gradients_of_edges_are_those_of_the_worked_example() {
    let nodes = variable(&NODES, (1, 4, 4));
    let edges = variable(&[0.01, 0.0, 0.0, 0.01], (1, 2, 2));

    let found = run(&black_box(80.0), &nodes, Some(&edges), &two_edges(), Noise::default());

    assert_eq!(found.outcome.partners(0), Some(vec![1, 0, 2, 3]));
    let step = 0.0125;
    let mut expected = [0.0; 16];
    (expected[0], expected[1], expected[4], expected[5]) = (-step, step, step, -step);
    assert_close(&found.of_nodes, &expected);
    assert_close(&found.of_edges, &[-step, 0.0, 0.0, -step]);
    let backward = found.outcome.backward().expect("a backward pass");
    assert_eq!(backward.zero_share, 0.0);
    assert!((backward.norm - 2.0 * step).abs() < 1e-9);
}

#[test]
fn numbers_of_32_bits_have_the_same_gradients() {
    let narrow = |values: &[f64], shape| {
        Var::from_tensor(&variable(values, shape).to_dtype(DType::F32).expect("narrow"))
            .expect("a variable")
    };
    let nodes = narrow(&NODES, (1, 4, 4));
    let edges = narrow(&[0.01, 0.0, 0.0, 0.01], (1, 2, 2));

    let found = run(&black_box(80.0), &nodes, Some(&edges), &two_edges(), Noise::default());

    assert!((found.of_edges[0] + 0.0125).abs() < 1e-9);
    assert_eq!(found.of_nodes[0], found.of_edges[0]);
}

#[test]
fn affinities_that_are_no_numbers_make_the_loss_none() {
    let nodes = variable(&[0.3, f64::NAN, 0.6, 0.4], (1, 2, 2));

    let found = run(&black_box(80.0), &nodes, None, &Links::default(), Noise::default());

    assert!(found.loss.is_nan());
}

#[test]
fn affinities_that_do_not_fit_the_graphs_are_refused() {
    let (nodes, edges) = (variable(&NODES, (1, 4, 4)), variable(&[0.0; 6], (1, 2, 3)));

    let found = black_box(80.0).assign(&nodes, Some(&edges), vec![two_edges()], Noise::default());

    let error = found.expect_err("three target edges").to_string();
    assert!(error.contains("do not fit the graphs"), "{error}");
}

/// A problem of each size with a ring of edges, and noise on it.
#[derive(Debug, Clone)]
struct Drawn {
    count: usize,
    nodes: Vec<f64>,
    edges: Vec<f64>,
    noise: Noise,
}

impl Drawn {
    fn ring(&self) -> Vec<(u32, u32)> {
        (0..self.count).map(|i| (i as u32, ((i + 1) % self.count) as u32)).collect()
    }

    fn found(&self, settings: &BlackBox) -> Found {
        let (count, ring) = (self.count, self.ring());
        let links = Links { source: ring.clone(), target: ring };
        let nodes = variable(&self.nodes, (1, count, count));
        let edges = variable(&self.edges, (1, count, count));
        run(settings, &nodes, Some(&edges), &links, self.noise.clone())
    }

    /// The proven optimum with noise, less `λ` times the gradient of the loss: `v`, `v_ia v_jb`, and
    /// its objective. With `sign` -1 the worst instead.
    fn proven(&self, lambda: f64, sign: f32) -> (Vec<f64>, Vec<f64>, f64) {
        let (count, ring) = (self.count, self.ring());
        let right = |at: usize| at / count == at % count;
        let grad: Vec<f64> =
            (0..count * count).map(|at| if right(at) { -1.0 } else { 1.0 }).collect();
        let turn = |values: Vec<f32>| values.iter().map(|value| sign * value).collect::<Vec<_>>();
        let nodes = turn(shifted(&self.nodes, &self.noise.nodes, Some((&grad, lambda))));
        let edges = turn(shifted(&self.edges, &self.noise.edges, None));
        let best = exact(&Problem {
            sources: count,
            targets: count,
            nodes: &nodes,
            source_edges: &ring,
            target_edges: &ring,
            edges: &edges,
            mode: Mode::Bijection,
        });
        let partner = |i: u32| best.partners[i as usize];
        let is = |holds: bool| f64::from(u8::from(holds));
        let v =
            (0..count * count).map(|at| is(partner((at / count) as u32) as usize == at % count));
        let pairs = ring.iter().flat_map(|(i, j)| {
            ring.iter().map(move |(a, b)| is((partner(*i), partner(*j)) == (*a, *b)))
        });
        (v.collect(), pairs.collect(), f64::from(sign) * best.value)
    }

    fn expected(&self, v: &[f64], lambda: f64) -> Vec<f64> {
        let target = |at: usize| f64::from(u8::from(at / self.count == at % self.count));
        v.iter().enumerate().map(|(at, v)| (v - target(at)) / lambda).collect()
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (2_usize..6).prop_flat_map(|count| {
        let values = || proptest::collection::vec(-1.0..1.0, count * count);
        let noise = || proptest::collection::vec(-2.0_f32..2.0, count * count);
        (values(), values(), noise(), noise()).prop_map(move |(nodes, edges, one, other)| Drawn {
            count,
            nodes,
            edges,
            noise: Noise { nodes: one, edges: other },
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_and_columns_of_a_gradient_sum_to_zero(problem in drawn(), lambda in 0.01..90.0_f64) {
        let Found { of_nodes, .. } = problem.found(&black_box(lambda));

        for line in 0..problem.count {
            let row: f64 = of_nodes[line * problem.count..][..problem.count].iter().sum();
            let column: f64 = of_nodes.iter().skip(line).step_by(problem.count).sum();
            prop_assert!(row.abs() < 1e-9 && column.abs() < 1e-9, "{} {}", row, column);
        }
    }

    #[test]
    fn a_gradient_is_the_difference_of_two_proven_optima(
        problem in drawn(), lambda in 0.01..3.0_f64
    ) {
        let (first, first_pairs, _) = problem.proven(0.0, 1.0);
        let (second, second_pairs, _) = problem.proven(lambda, 1.0);
        let difference = |one: &[f64], other: &[f64]| -> Vec<f64> {
            one.iter().zip(other).map(|(one, other)| (one - other) / lambda).collect()
        };

        let found = problem.found(&black_box(lambda));

        prop_assert_eq!(&found.v, &first);
        assert_close(&found.of_nodes, &difference(&first, &second));
        assert_close(&found.of_edges, &difference(&first_pairs, &second_pairs));
        let is_zero = found.of_nodes.iter().chain(&found.of_edges).all(|value| *value == 0.0);
        prop_assert_eq!(is_zero, first == second);
        let zero_share = found.outcome.backward().map(|backward| backward.zero_share);
        prop_assert_eq!(zero_share, Some(f64::from(u8::from(first == second))));
    }

    #[test]
    fn a_step_beyond_the_span_of_all_objectives_leads_to_the_identity(problem in drawn()) {
        let span = problem.proven(0.0, 1.0).2 - problem.proven(0.0, -1.0).2;
        // A match that is wrong loses four steps at least: two nodes, each with two entries.
        let lambda = 0.25 * span + 1e-3;

        let found = problem.found(&black_box(lambda));

        assert_close(&found.of_nodes, &problem.expected(&found.v, lambda));
    }

    #[test]
    fn both_passes_have_the_same_noise(problem in drawn()) {
        // Without a step worth the name the second problem is the first, noise included.
        let found = problem.found(&black_box(1e-9));

        prop_assert!(found.of_nodes.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn losses_of_bijections_are_even_and_at_most_twice_the_nodes(problem in drawn()) {
        let found = problem.found(&black_box(80.0));

        prop_assert!(found.loss % 2.0 == 0.0);
        prop_assert!((0.0..=2.0 * problem.count as f64).contains(&found.loss));
        prop_assert_eq!(
            found.loss,
            2.0 * problem.count as f64 * (1.0 - found.outcome.accuracy())
        );
    }
}
