//! The optimum, proven: branch and bound over partners of one node after another.
//!
//! The bound is that of the first level of reformulation and linearisation by dual ascent (Hahn and
//! Grant, 1998). What the pairs `i→a` and `j→b` add together is kept in equal halves `y[ia, jb]` and
//! `y[jb, ia]`. Given `i→a`, the best that `y[ia, ·]` allows is a linear assignment of the other nodes;
//! its optimum moves into `c[ia]`, and the slack of the assignment by `c` moves back. No labelling's
//! sum changes, and in the end every `y` allows 0 at most: the optimum by `c` is a bound.

use super::assignment::{Assignment, Rows};
use super::solver::{Solver, Workspace};
use super::{ALONE, Problem, Solution};
use crate::matching::setting::Mode;

/// An objective this near to the bound counts as proven.
const EXACT: f64 = 1e-9;
/// A node of the tree is branched on when its bound, falling as it last did, would need more
/// rounds than this to reach the best objective.
const PATIENCE: f64 = 12.0;
/// Rounds at the root, whose dual solution all nodes of the tree inherit.
const ROOT_PATIENCE: f64 = 60.0;

/// The best assignment and, as its bound, the proof to within `1e-9`. Time grows with the problem's
/// size beyond any limit: 16 nodes with 5 neighbours take a tenth of a second where affinities come
/// from features, half a minute where they are random.
///
/// # Panics
/// Where [`Solver::solve`] does.
pub fn exact(problem: &Problem<'_>) -> Solution {
    let mut best = Solution::default();
    Solver::default().solve(problem, &mut Workspace::default(), &mut best);
    if best.value.is_nan() || best.bound <= best.value + EXACT {
        return best;
    }
    let mut tree = Tree { problem, best, proven: f64::NEG_INFINITY, parts: Parts::default() };
    tree.best.bound = f64::INFINITY;
    let root = Node::root(problem);
    tree.visit(root, ROOT_PATIENCE);
    tree.best.bound = tree.proven.max(tree.best.value);
    tree.best
}

struct Tree<'a> {
    problem: &'a Problem<'a>,
    best: Solution,
    /// The highest bound of what was not looked into.
    proven: f64,
    parts: Parts,
}

/// Memory for one small assignment.
#[derive(Default)]
struct Parts {
    assignment: Assignment,
    matrix: Vec<f64>,
    shifted: Vec<f64>,
    /// The worth of being alone to each row, and the columns beside it.
    alone: Vec<f64>,
    columns: usize,
}

/// The rest of the problem when some nodes have their partners.
#[derive(Clone)]
struct Node {
    /// The source nodes and the labels that are left; the last label is being alone, where allowed.
    rows: Vec<usize>,
    labels: Vec<usize>,
    may_be_alone: bool,
    /// Partners so far.
    partners: Vec<u32>,
    /// The worth of the partners so far.
    constant: f64,
    /// `[rows, labels]`, negative infinity where excluded.
    c: Vec<f64>,
    /// `[rows, labels, rows, labels]`.
    y: Vec<f64>,
}

impl Tree<'_> {
    fn visit(&mut self, mut node: Node, patience: f64) {
        if node.rows.is_empty() {
            self.try_out(&node.partners);
            self.proven = self.proven.max(self.best.value);
            return;
        }
        let mut last = f64::INFINITY;
        loop {
            let bound = node.ascend(&mut self.parts, self.best.value);
            if bound <= self.best.value + EXACT {
                self.proven = self.proven.max(bound);
                return;
            }
            let fell = last - bound;
            last = last.min(bound);
            if fell * patience <= bound - self.best.value {
                break;
            }
        }
        let (row, labels) = node.branch();
        for label in labels {
            self.visit(node.with(row, label), PATIENCE);
        }
    }

    fn try_out(&mut self, partners: &[u32]) {
        let value = self.problem.value(partners);
        if value > self.best.value {
            self.best.value = value;
            self.best.partners.clear();
            self.best.partners.extend_from_slice(partners);
        }
    }
}

impl Node {
    fn root(problem: &Problem<'_>) -> Self {
        let (n, m) = (problem.sources, problem.targets);
        let may_be_alone = problem.mode == Mode::Partial;
        let labels = m + usize::from(may_be_alone);
        let mut c = vec![0.0; n * labels];
        for i in 0..n {
            for a in 0..m {
                c[i * labels + a] = f64::from(problem.nodes[i * m + a]);
            }
        }
        let mut y = vec![0.0; n * labels * n * labels];
        let width = problem.target_edges.len();
        for (x, (i, j)) in problem.source_edges.iter().enumerate() {
            for (at, (a, b)) in problem.target_edges.iter().enumerate() {
                let one = *i as usize * labels + *a as usize;
                let other = *j as usize * labels + *b as usize;
                y[one * n * labels + other] += f64::from(problem.edges[x * width + at]);
            }
        }
        Self {
            rows: (0..n).collect(),
            labels: (0..labels).collect(),
            may_be_alone,
            partners: vec![ALONE; n],
            constant: 0.0,
            c,
            y,
        }
    }

    /// One round of dual ascent; the bound. Pairs that no objective above `least` has are excluded
    /// from then on.
    fn ascend(&mut self, parts: &mut Parts, least: f64) -> f64 {
        let size = self.rows.len() * self.labels.len();
        if self.rows.len() > 1 {
            // Equal halves: taking all of a pair's worth at its first end makes bounds far weaker.
            for one in 0..size {
                for other in one + 1..size {
                    let mean = 0.5 * (self.y[one * size + other] + self.y[other * size + one]);
                    self.y[one * size + other] = mean;
                    self.y[other * size + one] = mean;
                }
            }
            for one in 0..size {
                if self.c[one] > f64::NEG_INFINITY {
                    self.c[one] += self.condense(one, parts);
                }
            }
        }
        let labels = self.labels.len();
        let value = parts.solve(&self.c, [self.rows.len(), labels], self.may_be_alone);
        let bound = self.constant + value;
        if bound <= least + EXACT || self.rows.len() <= 1 {
            return bound;
        }
        let others = (self.rows.len() - 1) as f64;
        for one in 0..size {
            let slack = parts.potential(one / labels, one % labels) - self.c[one];
            let alone = self.may_be_alone && one % labels + 1 == labels;
            if bound - slack <= least && !alone {
                self.c[one] = f64::NEG_INFINITY;
                continue;
            }
            let slack = slack.max(0.0);
            self.c[one] += slack;
            let share = slack / others;
            for entry in &mut self.y[one * size..(one + 1) * size] {
                *entry -= share;
            }
        }
        bound
    }

    /// Takes the optimum of the others' assignment out of `y[one, ·]`.
    fn condense(&mut self, one: usize, parts: &mut Parts) -> f64 {
        let (rows, labels) = (self.rows.len(), self.labels.len());
        let size = rows * labels;
        let (i, a) = (one / labels, one % labels);
        let lonely = self.may_be_alone && a + 1 == labels;
        let mut matrix = std::mem::take(&mut parts.matrix);
        matrix.clear();
        for j in (0..rows).filter(|j| *j != i) {
            for b in (0..labels).filter(|b| lonely || *b != a) {
                let other = j * labels + b;
                matrix.push(if self.c[other] > f64::NEG_INFINITY {
                    self.y[one * size + other]
                } else {
                    f64::NEG_INFINITY
                });
            }
        }
        let width = labels - usize::from(!lonely);
        let value = parts.solve(&matrix, [rows - 1, width], self.may_be_alone);
        if value > f64::NEG_INFINITY {
            for (r, j) in (0..rows).filter(|j| *j != i).enumerate() {
                for (s, b) in (0..labels).filter(|b| lonely || *b != a).enumerate() {
                    let other = j * labels + b;
                    let left = matrix[r * width + s] - parts.potential(r, s);
                    if left > f64::NEG_INFINITY {
                        self.y[one * size + other] = left;
                    }
                }
            }
        }
        parts.matrix = matrix;
        value
    }

    /// The row to branch on and its labels, the most promising first.
    fn branch(&self) -> (usize, Vec<usize>) {
        let labels = self.labels.len();
        let open = |i: usize| -> Vec<usize> {
            (0..labels).filter(|a| self.c[i * labels + a] > f64::NEG_INFINITY).collect()
        };
        let row = (0..self.rows.len()).min_by_key(|i| open(*i).len()).unwrap_or(0);
        (row, open(row))
    }

    /// The rest of the problem when a row gets a label.
    fn with(&self, row: usize, label: usize) -> Self {
        let (rows, labels) = (self.rows.len(), self.labels.len());
        let size = rows * labels;
        let lonely = self.may_be_alone && label + 1 == labels;
        let one = row * labels + label;
        let kept: Vec<usize> = (0..size)
            .filter(|other| other / labels != row && (lonely || other % labels != label))
            .collect();
        let mut partners = self.partners.clone();
        partners[self.rows[row]] = if lonely { ALONE } else { self.labels[label] as u32 };
        let c = kept
            .iter()
            .map(|other| self.c[*other] + self.y[one * size + other] + self.y[other * size + one])
            .collect();
        let mut y = Vec::with_capacity(kept.len() * kept.len());
        for other in &kept {
            y.extend(kept.iter().map(|third| self.y[other * size + third]));
        }
        let mut left = (self.rows.clone(), self.labels.clone());
        left.0.remove(row);
        if !lonely {
            left.1.remove(label);
        }
        Self {
            rows: left.0,
            labels: left.1,
            may_be_alone: self.may_be_alone,
            partners,
            constant: self.constant + self.c[one],
            c,
            y,
        }
    }
}

impl Parts {
    /// Solves an assignment whose last label, where nodes may stay alone, is that of being alone.
    fn solve(&mut self, matrix: &[f64], [rows, labels]: [usize; 2], may_be_alone: bool) -> f64 {
        self.alone.clear();
        self.alone.resize(rows, 0.0);
        self.columns = labels - usize::from(may_be_alone);
        let shape = [rows, self.columns, labels];
        if !may_be_alone {
            return self.assignment.maximise(matrix, shape, Rows::All);
        }
        // Being alone is worth 0 there; it is never excluded.
        self.shifted.clear();
        self.shifted.extend_from_slice(matrix);
        let mut value = 0.0;
        for (row, alone) in self.shifted.chunks_exact_mut(labels).zip(&mut self.alone) {
            *alone = row[self.columns];
            row.iter_mut().for_each(|entry| *entry -= *alone);
            value += *alone;
        }
        value + self.assignment.maximise(&self.shifted, shape, Rows::Some)
    }

    /// `u + v` of a pair in the last assignment.
    fn potential(&self, row: usize, label: usize) -> f64 {
        let column =
            if label < self.columns { self.assignment.column_potential(label) } else { 0.0 };
        self.assignment.row_potential(row) + column + self.alone[row]
    }
}
