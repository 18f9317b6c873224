//! Worked examples with known optima, in costs where their sources count in costs.

use lvmed::matching::Mode;
use lvmed::matching::{ALONE, Solution, Solver, Workspace, exact};

use super::instances::Instance;

/// Both solvers find this assignment and objective; the bound of both is the objective.
fn assert_solved(instance: &Instance, partners: &[u32], value: f64) {
    for solution in [solve(instance), exact(&instance.problem())] {
        assert_eq!(solution.partners, partners);
        assert!((solution.value - value).abs() < 1e-6, "{} is not {value}", solution.value);
        assert!((solution.bound - value).abs() < 1e-6, "bound {} of {value}", solution.bound);
    }
}

fn solve(instance: &Instance) -> Solution {
    let mut solution = Solution::default();
    Solver::default().solve(&instance.problem(), &mut Workspace::default(), &mut solution);
    solution
}

fn first_order(instance: &Instance) -> Solution {
    let mut solution = Solution::default();
    let solver = Solver::first_order();
    solver.solve(&instance.problem(), &mut Workspace::default(), &mut solution);
    solution
}

/// LPMP's own test: `c[i][a] = 4 i + a`, three edges in a row on both sides.
fn four_nodes() -> Instance {
    let edges = vec![(0, 1), (1, 2), (2, 3)];
    Instance {
        sources: 4,
        targets: 4,
        nodes: (0..16u8).map(|cost| -f32::from(cost)).collect(),
        source_edges: edges.clone(),
        target_edges: edges,
        edges: (10..19u8).map(f32::from).collect(),
        mode: Mode::Bijection,
    }
}

#[test]
fn four_nodes_cost_minus_twelve_as_a_bijection() {
    let instance = four_nodes();

    assert_solved(&instance, &[0, 1, 2, 3], 12.0);
    assert_eq!(instance.ranked()[1], (0.0, vec![3, 0, 1, 2]));
}

#[test]
fn four_nodes_cost_minus_twelve_as_a_partial_matching() {
    let instance = four_nodes().with(Mode::Partial);

    assert_solved(&instance, &[0, 1, 2, 3], 12.0);
    assert_eq!(instance.ranked()[1], (9.0, vec![0, 1, 2, ALONE]));
}

#[test]
fn two_nodes_and_three_targets_cost_minus_fifty_one() {
    let instance = Instance {
        sources: 2,
        targets: 3,
        nodes: vec![5.0, 13.0, 17.0, 9.0, 13.0, 15.0],
        source_edges: vec![(0, 1), (1, 0)],
        target_edges: vec![(0, 2)],
        edges: vec![31.0, 17.0],
        mode: Mode::Bijection,
    };

    for mode in [Mode::Bijection, Mode::Partial] {
        assert_solved(&instance.with(mode), &[0, 2], 51.0);
        assert_eq!(instance.with(mode).ranked()[1], (43.0, vec![2, 0]));
    }
}

/// Nodes alone prefer to exchange the first two.
fn rescue(edges: Vec<f32>) -> Instance {
    Instance {
        sources: 4,
        targets: 4,
        nodes: vec![
            0.8, 0.82, 0.1, 0.1, 0.82, 0.8, 0.1, 0.1, 0.1, 0.1, 0.9, 0.2, 0.1, 0.1, 0.2, 0.9,
        ],
        source_edges: vec![(0, 2), (1, 3)],
        target_edges: vec![(0, 2), (1, 3)],
        edges,
        mode: Mode::Bijection,
    }
}

#[test]
fn edges_rescue_the_identity_from_misleading_nodes() {
    let instance = rescue(vec![0.9, -0.5, -0.5, 0.9]);

    for mode in [Mode::Bijection, Mode::Partial] {
        assert_solved(&instance.with(mode), &[0, 1, 2, 3], 5.2);
        let by_nodes = first_order(&instance.with(mode));
        assert_eq!(by_nodes.partners, [1, 0, 2, 3]);
        assert!((by_nodes.value - 3.44).abs() < 1e-6, "{}", by_nodes.value);
    }
    let by_nodes_alone = rescue(vec![0.0; 4]).problem().value(&[0, 1, 2, 3]);
    assert!((by_nodes_alone - 3.40).abs() < 1e-6, "{by_nodes_alone}");
    let (value, partners) = &instance.ranked()[1];
    assert_eq!(partners, &[1, 0, 2, 3]);
    assert!((value - 3.44).abs() < 1e-6, "{value}");
}

#[test]
fn weak_edges_leave_the_nodes_their_way() {
    assert_solved(&rescue(vec![0.01, 0.0, 0.0, 0.01]), &[1, 0, 2, 3], 3.44);
}

/// Four images in two views: cosines of features and of their differences over nearest neighbours.
fn two_views(weight: f32) -> Instance {
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let edges = [
        [1.0, -1.0, 0.0, 0.0],
        [half, -half, half, -half],
        [-half, half, -half, half],
        [0.0, 0.0, -1.0, 1.0],
    ];
    Instance {
        sources: 4,
        targets: 4,
        nodes: vec![
            0.96, 0.8, -0.28, -0.6, 0.8, 0.96, 0.6, 0.28, 0.28, 0.6, 0.96, 0.8, -0.6, -0.28, 0.8,
            0.96,
        ],
        source_edges: vec![(0, 1), (1, 2), (2, 1), (3, 2)],
        target_edges: vec![(0, 1), (1, 0), (2, 3), (3, 2)],
        edges: edges.as_flattened().iter().map(|affinity| weight * affinity).collect(),
        mode: Mode::Bijection,
    }
}

#[test]
fn two_views_match_by_nodes_and_by_edges_of_either_weight() {
    for mode in [Mode::Bijection, Mode::Partial] {
        assert_solved(&two_views(1.0).with(mode), &[0, 1, 2, 3], 5.84);
        assert_solved(&two_views(0.5).with(mode), &[0, 1, 2, 3], 4.84);
    }
    let by_nodes = first_order(&Instance { edges: vec![0.0; 16], ..two_views(1.0) });
    assert_eq!(by_nodes.partners, [0, 1, 2, 3]);
    assert!((by_nodes.value - 3.84).abs() < 1e-6, "{}", by_nodes.value);
}

#[test]
fn runners_up_of_two_views_are_as_they_were_worked_out() {
    let partial = two_views(1.0).with(Mode::Partial);

    let (second, _) = two_views(1.0).ranked()[1];
    let (second_of_partial, _) = partial.ranked()[1];

    assert!((second - 3.52).abs() < 1e-6, "{second}");
    assert!((second_of_partial - 3.88).abs() < 1e-6, "{second_of_partial}");
    assert_eq!(partial.problem().value(&[ALONE, 1, 2, 3]), second_of_partial);
}
