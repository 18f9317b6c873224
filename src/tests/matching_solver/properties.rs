//! The properties that hold for every problem, and for the odd ones.

use lvmed::matching::Mode;
use lvmed::matching::{ALONE, Assignment, Problem, Rows, Solution, Solver, Workspace, exact};
use proptest::prelude::*;

use super::instances::{Instance, order};

/// The rounding of sums of affinities in 64 bits.
const ROUNDING: f64 = 1e-9;

fn solve(problem: &Problem<'_>) -> Solution {
    let mut solution = Solution::default();
    Solver::default().solve(problem, &mut Workspace::default(), &mut solution);
    solution
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Bijection), Just(Mode::Partial)]
}

fn instance(targets: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Instance> {
    (targets, 0..3usize, 1..4usize, mode(), any::<u64>()).prop_map(
        |(targets, fewer, neighbours, mode, seed)| {
            let sources = targets.saturating_sub(fewer).max(1);
            Instance::random([sources, targets], neighbours, mode, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn objective_and_bound_enclose_the_best_of_all_assignments(instance in instance(1..=6)) {
        let (optimum, _) = instance.ranked()[0];

        let solution = solve(&instance.problem());

        prop_assert!(solution.value <= optimum + ROUNDING);
        prop_assert!(solution.bound >= optimum - ROUNDING);
        prop_assert!((solution.value - instance.problem().value(&solution.partners)).abs() < ROUNDING);
        let gap = optimum - solution.value;
        prop_assert!(gap < ROUNDING, "the search missed the optimum {optimum} by {gap}");
    }

    #[test]
    fn exact_solver_proves_the_best_of_all_assignments(instance in instance(1..=6)) {
        let (optimum, _) = instance.ranked()[0];

        let solution = exact(&instance.problem());

        prop_assert!((solution.value - optimum).abs() < ROUNDING);
        prop_assert!(solution.bound >= solution.value && solution.bound < optimum + 2.0 * ROUNDING);
    }

    #[test]
    fn permuted_targets_are_permuted_partners(instance in instance(2..=8), seed: u64) {
        let renamed: Vec<u32> =
            order(instance.targets, seed).into_iter().map(|target| target as u32).collect();
        let moved = |partner: &u32| if *partner == ALONE { ALONE } else { renamed[*partner as usize] };

        let solution = solve(&instance.problem());
        let permuted = solve(&instance.with_targets_as(&renamed).problem());

        let expected: Vec<u32> = solution.partners.iter().map(moved).collect();
        prop_assert_eq!(permuted.partners, expected);
        prop_assert!((permuted.value - solution.value).abs() < ROUNDING);
    }

    #[test]
    fn constants_in_rows_and_columns_leave_a_bijection_as_it_is(
        nodes in 2..=8usize, neighbours in 1..4usize, seed: u64, row in 0..8usize, column in 0..8usize,
    ) {
        let instance = Instance::random([nodes, nodes], neighbours, Mode::Bijection, seed);
        let mut raised = instance.clone();
        raised.nodes.iter_mut().for_each(|affinity| *affinity += 0.75);
        for at in 0..nodes {
            raised.nodes[row % nodes * nodes + at] += 3.0;
            raised.nodes[at * nodes + column % nodes] -= 5.0;
        }

        prop_assert_eq!(solve(&raised.problem()).partners, solve(&instance.problem()).partners);
    }

    #[test]
    fn order_of_edges_does_not_matter(instance in instance(2..=10), seed: u64) {
        let sources = order(instance.source_edges.len(), seed);
        let targets = order(instance.target_edges.len(), seed ^ 1);

        let reordered = solve(&instance.with_edges_in_order(&sources, &targets).problem());

        prop_assert_eq!(reordered, solve(&instance.problem()));
    }

    #[test]
    fn potentials_of_an_assignment_prove_it(
        rows in 1..=7usize, more in 0..4usize, seed: u64, which in 0..2usize,
    ) {
        let (columns, which) = (rows + more, [Rows::All, Rows::Some][which]);
        let instance = Instance::random([rows, columns], 0, Mode::Bijection, seed);
        let affinities: Vec<f64> = instance.nodes.iter().map(|affinity| f64::from(*affinity)).collect();
        let mut assignment = Assignment::default();

        let value = assignment.maximise(&affinities, [rows, columns, columns], which);

        let mut potentials = 0.0;
        for i in 0..rows {
            let partner = assignment.partner(i);
            potentials += assignment.row_potential(i);
            for a in 0..columns {
                let sum = assignment.row_potential(i) + assignment.column_potential(a);
                prop_assert!(sum >= affinities[i * columns + a] - ROUNDING);
            }
            prop_assert!(partner.is_some() || which == Rows::Some);
            prop_assert!(which == Rows::All || assignment.row_potential(i) >= -ROUNDING);
        }
        for a in 0..columns {
            prop_assert!(assignment.column_potential(a) >= -ROUNDING);
            potentials += assignment.column_potential(a);
        }
        prop_assert!((value - potentials).abs() < ROUNDING, "{value} and {potentials}");
    }
}

#[test]
fn constants_can_change_a_partial_matching() {
    let mut instance = Instance::random([4, 4], 2, Mode::Partial, 1);
    let before = solve(&instance.problem()).partners;

    instance.nodes.iter_mut().for_each(|affinity| *affinity -= 9.0);

    assert_ne!(before, [ALONE; 4]);
    assert_eq!(solve(&instance.problem()).partners, [ALONE; 4]);
}

#[test]
fn search_meets_brute_force_for_seven_and_eight_nodes() {
    let sizes = [(7, Mode::Bijection), (8, Mode::Bijection), (6, Mode::Partial)];
    for (seed, (nodes, mode)) in (0..6).zip(sizes.into_iter().cycle()) {
        let instance = Instance::random([nodes, nodes], 2 + seed as usize % 3, mode, seed);
        let (optimum, _) = instance.ranked()[0];

        let solution = solve(&instance.problem());

        let gap = optimum - solution.value;
        assert!(gap.abs() < ROUNDING, "seed {seed}: {gap} below {optimum}");
        assert!((exact(&instance.problem()).value - optimum).abs() < ROUNDING);
    }
}

#[test]
fn search_meets_the_proof_for_sixteen_nodes_in_two_views() {
    for seed in 0..3 {
        let instance = Instance::two_views(16, 5, 0.8, seed);

        let (found, proven) = (solve(&instance.problem()), exact(&instance.problem()));

        assert!((found.value - proven.value).abs() < ROUNDING, "seed {seed}");
        assert!(found.bound >= proven.value - ROUNDING && proven.bound < proven.value + ROUNDING);
    }
}

#[test]
fn exact_solver_agrees_with_the_search_on_ten_nodes() {
    for seed in 0..3 {
        let instance = Instance::random([10, 10], 5, Mode::Bijection, seed);

        let (found, proven) = (solve(&instance.problem()), exact(&instance.problem()));

        assert!((found.value - proven.value).abs() < ROUNDING);
        assert!(found.bound >= proven.value - ROUNDING && proven.bound < proven.value + ROUNDING);
    }
}

#[test]
fn one_pool_or_another_gives_the_same_solutions() {
    let instances: Vec<Instance> =
        (0..12).map(|seed| Instance::random([9, 9], 4, Mode::Partial, seed)).collect();
    let problems: Vec<Problem<'_>> = instances.iter().map(Instance::problem).collect();
    let solve_with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Solver::default().solve_all(&problems))
    };

    let alone: Vec<Solution> = problems.iter().map(solve).collect();

    assert_eq!(solve_with(1), alone);
    assert_eq!(solve_with(3), alone);
}

#[test]
fn used_workspace_gives_what_a_fresh_one_gives() {
    let mut workspace = Workspace::default();
    let mut reused = Solution::default();
    for (seed, size) in [(1, 9), (2, 4), (3, 12), (4, 1), (5, 7)] {
        let mode = if seed % 2 == 0 { Mode::Bijection } else { Mode::Partial };
        let instance = Instance::random([size, size + 1], 3, mode, seed);

        Solver::default().solve(&instance.problem(), &mut workspace, &mut reused);

        assert_eq!(reused, solve(&instance.problem()));
    }
}

#[test]
fn one_node_without_edges_has_one_partner() {
    let mut instance = Instance::random([1, 1], 0, Mode::Bijection, 0);
    instance.nodes = vec![-2.0];

    let matched = solve(&instance.problem());
    let alone = solve(&instance.with(Mode::Partial).problem());

    assert_eq!((matched.partners.as_slice(), matched.value, matched.bound), (&[0][..], -2.0, -2.0));
    assert_eq!((alone.partners.as_slice(), alone.value, alone.bound), (&[ALONE][..], 0.0, 0.0));
}

#[test]
fn empty_problem_has_an_empty_solution() {
    for solution in [solve, exact]
        .map(|solver| solver(&Instance::random([0, 0], 0, Mode::Partial, 0).problem()))
    {
        assert_eq!(solution, Solution { partners: Vec::new(), value: 0.0, bound: 0.0 });
    }
}

#[test]
fn equal_affinities_are_proven_at_once_in_both_modes() {
    for mode in [Mode::Bijection, Mode::Partial] {
        let mut instance = Instance::random([7, 7], 6, mode, 3);
        instance.nodes.fill(0.5);
        instance.edges.fill(0.25);

        let solution = solve(&instance.problem());

        assert!((solution.value - (3.5 + 42.0 * 0.25)).abs() < ROUNDING, "{}", solution.value);
        assert!(solution.bound < solution.value + ROUNDING);
    }
}

#[test]
fn first_order_bound_is_tight_without_edges_and_infinite_with_them() {
    let with_edges = Instance::random([5, 6], 2, Mode::Bijection, 8);
    let without = Instance { source_edges: Vec::new(), edges: Vec::new(), ..with_edges.clone() };
    let mut solution = Solution::default();

    Solver::first_order().solve(&without.problem(), &mut Workspace::default(), &mut solution);
    assert!((solution.value - without.ranked()[0].0).abs() < ROUNDING);
    assert!((solution.bound - solution.value).abs() < ROUNDING);

    Solver::first_order().solve(&with_edges.problem(), &mut Workspace::default(), &mut solution);
    assert!((solution.value - with_edges.problem().value(&solution.partners)).abs() < ROUNDING);
    assert_eq!(solution.bound, f64::INFINITY);
}

#[test]
fn affinity_that_is_no_number_makes_the_objective_none() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut instance = Instance::random([3, 3], 2, Mode::Bijection, 0);
        instance.edges[5] = wrong;

        for solution in [solve(&instance.problem()), exact(&instance.problem())] {
            assert_eq!(solution.partners, [0, 1, 2]);
            assert!(solution.value.is_nan());
            assert_eq!(solution.bound, f64::INFINITY);
        }
    }
}

#[test]
#[should_panic(expected = "3 nodes cannot each have one of 2 partners")]
fn bijection_into_fewer_targets_is_refused() {
    solve(&Instance::random([3, 2], 1, Mode::Bijection, 0).problem());
}

#[test]
#[should_panic(expected = "an edge joins two different nodes below 2")]
fn edge_from_a_node_to_itself_is_refused() {
    let mut instance = Instance::random([2, 2], 1, Mode::Bijection, 0);
    instance.source_edges[0] = (1, 1);

    solve(&instance.problem());
}
