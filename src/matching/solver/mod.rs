//! The solver of the second-order problem: a search for good assignments, and a bound on the best.

mod dual;
mod search;
mod terms;

use std::cell::RefCell;

use rayon::prelude::*;

use super::assignment::{Assignment, Rows};
use super::{ALONE, Problem, Solution};
use crate::matching::setting::Mode;
use dual::Dual;
use search::Search;
use terms::Terms;

/// Steps of the search for each source node at most.
const STEPS_PER_NODE: usize = 150;
/// Rounds of dual ascent at most.
const ROUNDS: usize = 12;
/// An objective this near to the bound is the optimum: what sums of affinities are rounded by.
const EXACT: f64 = 1e-9;

/// A heuristic solver; its answers depend on the problem only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solver {
    effort: Effort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Linear assignment; edges count in the objective only.
    FirstOrder,
    SecondOrder {
        rounds: usize,
        steps_per_node: usize,
    },
}

/// Memory that a solver works in. A solve allocates only where it needs more than any before it in
/// the same workspace.
#[derive(Debug, Clone, Default)]
pub struct Workspace {
    terms: Terms,
    dual: Dual,
    search: Search,
    assignment: Assignment,
    affinities: Vec<f64>,
}

impl Default for Solver {
    fn default() -> Self {
        Self { effort: Effort::SecondOrder { rounds: ROUNDS, steps_per_node: STEPS_PER_NODE } }
    }
}

impl Solver {
    /// A solver that chooses by the affinities of nodes alone. The objective that it reports still
    /// counts the edges; its bound is infinite where there are edges.
    pub fn first_order() -> Self {
        Self { effort: Effort::FirstOrder }
    }

    /// Solves a problem into `out`.
    ///
    /// Where an affinity is not finite no objective means anything: every node then gets the target
    /// of its own number while there are any, the objective is NaN and the bound infinite.
    ///
    /// # Panics
    /// Where the slices do not have the shapes that [`Problem`] says, an edge names a node that is
    /// not there or joins a node to itself, or a bijection has fewer targets than sources.
    pub fn solve(&self, problem: &Problem<'_>, workspace: &mut Workspace, out: &mut Solution) {
        check(problem);
        out.partners.clear();
        if !problem.nodes.iter().chain(problem.edges).all(|affinity| affinity.is_finite()) {
            let partner = |i| if i < problem.targets { i as u32 } else { ALONE };
            out.partners.extend((0..problem.sources).map(partner));
            out.value = f64::NAN;
            out.bound = f64::INFINITY;
            return;
        }
        match self.effort {
            Effort::FirstOrder => workspace.solve_nodes(problem, out),
            Effort::SecondOrder { rounds, steps_per_node } => {
                workspace.terms.lay_out(problem);
                workspace.improve(rounds, steps_per_node * problem.sources);
                workspace.answer(out);
            }
        }
    }

    /// Solves problems on all threads of the pool, each as [`Self::solve`] does.
    pub fn solve_all(&self, problems: &[Problem<'_>]) -> Vec<Solution> {
        thread_local! {
            static WORKSPACE: RefCell<Workspace> = RefCell::default();
        }
        let solve = |problem| {
            let mut solution = Solution::default();
            WORKSPACE.with_borrow_mut(|workspace| self.solve(problem, workspace, &mut solution));
            solution
        };
        problems.par_iter().map(solve).collect()
    }
}

impl Workspace {
    fn solve_nodes(&mut self, problem: &Problem<'_>, out: &mut Solution) {
        self.affinities.clear();
        self.affinities.extend(problem.nodes.iter().map(|affinity| f64::from(*affinity)));
        let shape = [problem.sources, problem.targets, problem.targets];
        let rows = if problem.mode == Mode::Partial { Rows::Some } else { Rows::All };
        let value = self.assignment.maximise(&self.affinities, shape, rows);
        let partner = |i| self.assignment.partner(i).map_or(ALONE, |a| a as u32);
        out.partners.extend((0..problem.sources).map(partner));
        out.value = problem.value(&out.partners);
        out.bound = if problem.edges.is_empty() { value.max(out.value) } else { f64::INFINITY };
    }

    /// Dual ascent while its bound closes in, each of its assignments a start to climb from; then a
    /// search until the bound is met or the steps are used up.
    fn improve(&mut self, rounds: usize, steps: usize) {
        let Self { terms, dual, search, .. } = self;
        search.begin();
        dual.begin(terms);
        let mut last = f64::INFINITY;
        for round in 0..rounds {
            if round > 0 {
                dual.give_back(terms);
            }
            dual.collect(terms);
            search.climb(terms, (0..terms.rows).map(|i| dual.label(terms, i)));
            let (gap, fell) = (dual.bound() - search.best().1, last - dual.bound());
            last = dual.bound();
            if gap <= EXACT || fell * (rounds - round) as f64 <= gap {
                break;
            }
        }
        search.wander(terms, steps, dual.bound() - EXACT);
    }

    fn answer(&self, out: &mut Solution) {
        let (labels, _) = self.search.best();
        let columns = self.terms.columns;
        let partner = |label: &usize| if *label < columns { *label as u32 } else { ALONE };
        out.partners.extend(labels.iter().map(partner));
        out.value = self.terms.value(labels);
        // They may cross by what sums are rounded by.
        out.bound = self.dual.bound().max(out.value);
    }
}

fn check(problem: &Problem<'_>) {
    let Problem { sources, targets, nodes, source_edges, target_edges, edges, mode } = problem;
    assert_eq!(nodes.len(), sources * targets, "affinities of nodes are sources times targets");
    assert_eq!(
        edges.len(),
        source_edges.len() * target_edges.len(),
        "affinities of edges are source edges times target edges"
    );
    for (edges, size) in [(source_edges, *sources), (target_edges, *targets)] {
        let sound = |(i, j): &(u32, u32)| i != j && (*i as usize) < size && (*j as usize) < size;
        assert!(edges.iter().all(sound), "an edge joins two different nodes below {size}");
    }
    assert!(
        *mode == Mode::Partial || sources <= targets,
        "{sources} nodes cannot each have one of {targets} partners"
    );
}
