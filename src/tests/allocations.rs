//! Solving allocates nothing once a workspace has seen a problem of that size.

use allocation_counter::measure;
use lvmed::domain::pretrain::Mode;
use lvmed::matching::{Problem, Solution, Solver, Workspace};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NODES: usize = 16;
const NEIGHBOURS: usize = 5;

/// Affinities of a pair of graphs whose nodes have an edge to the `NEIGHBOURS` that follow, wherever
/// the nodes stand.
struct Instance {
    nodes: Vec<f32>,
    edges: Vec<f32>,
    source_edges: Vec<(u32, u32)>,
    target_edges: Vec<(u32, u32)>,
}

impl Instance {
    fn random(seed: u64) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
        };
        let (nodes, edges) = (draw(NODES * NODES), draw((NODES * NEIGHBOURS).pow(2)));
        let ring = |stride: usize| -> Vec<(u32, u32)> {
            let to = |i: usize, step: usize| ((i + stride * step) % NODES) as u32;
            (0..NODES)
                .flat_map(|i| (1..=NEIGHBOURS).map(move |step| (i as u32, to(i, step))))
                .collect()
        };
        // Steps of 3 visit all sixteen nodes, too.
        Self { nodes, edges, source_edges: ring(1), target_edges: ring(3) }
    }

    fn problem(&self, mode: Mode) -> Problem<'_> {
        Problem {
            sources: NODES,
            targets: NODES,
            nodes: &self.nodes,
            source_edges: &self.source_edges,
            target_edges: &self.target_edges,
            edges: &self.edges,
            mode,
        }
    }
}

#[test]
fn a_warm_solver_allocates_nothing() {
    let instances: Vec<Instance> = (0..5).map(Instance::random).collect();
    let (mut workspace, mut solution) = (Workspace::default(), Solution::default());
    for (solver, mode) in [
        (Solver::default(), Mode::Bijection),
        (Solver::default(), Mode::Partial),
        (Solver::first_order(), Mode::Bijection),
    ] {
        let mut solve = |instance: &Instance| {
            solver.solve(&instance.problem(mode), &mut workspace, &mut solution);
        };
        let cold = measure(|| solve(&instances[0]));

        let warm = measure(|| instances[1..].iter().for_each(&mut solve));

        assert_eq!(warm.count_total, 0, "{solver:?} {mode:?} {warm:?}");
        // The counter counts.
        assert!(mode == Mode::Partial || solver == Solver::first_order() || cold.count_total > 0);
    }
}
