//! An upper bound by dual ascent on a Lagrangean decomposition (Swoboda et al., CVPR 2017).
//!
//! The problem is split into one linear assignment and one small problem for each pair of source
//! nodes that an edge joins: `max_{a ≠ b} θ_ij[a, b] − λ_ij[a] − λ_ji[b]`. Messages `λ` move affinity
//! between them without changing any labelling's sum, so the sum of the parts' maxima is a bound for
//! every `λ`. One round moves the pairs' max-marginals into the assignment, half to each end, and the
//! slack of its dual solution back; neither ever raises the bound.

use super::super::assignment::{Assignment, Rows};
use super::terms::Terms;

/// The messages of a problem and its bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dual {
    assignment: Assignment,
    /// `[rows, labels]`: affinities of nodes with what the pairs gave them.
    costs: Vec<f64>,
    /// `[links, labels]`: `λ`, what a link gave its own node.
    messages: Vec<f64>,
    own: Vec<f64>,
    other: Vec<f64>,
    line: Vec<f64>,
    shift: f64,
    bound: f64,
}

impl Dual {
    /// Starts with all affinity of edges in the pairs.
    pub(crate) fn begin(&mut self, terms: &Terms) {
        self.costs.clear();
        self.costs.extend_from_slice(&terms.nodes);
        self.messages.clear();
        self.messages.resize(terms.links.len() * terms.labels, 0.0);
        self.own.resize(terms.labels, 0.0);
        self.other.resize(terms.labels, 0.0);
        self.line.resize(terms.labels, 0.0);
        self.shift = 0.0;
        self.bound = f64::INFINITY;
    }

    /// The lowest bound so far.
    pub(crate) fn bound(&self) -> f64 {
        self.bound
    }

    /// The label that the last assignment gave a node.
    pub(crate) fn label(&self, terms: &Terms, node: usize) -> usize {
        self.assignment.partner(node).unwrap_or(terms.columns)
    }

    /// Moves the pairs' max-marginals to the assignment and solves it; its answer is a labelling
    /// worth trying.
    pub(crate) fn collect(&mut self, terms: &Terms) {
        for i in 0..terms.rows {
            for link in terms.links_of(i) {
                if terms.links[link].other as usize > i {
                    self.empty_pair(terms, i, link);
                }
            }
        }
        let value = self.solve(terms);
        self.bound = self.bound.min(value);
    }

    /// Solves the assignment as it is.
    fn solve(&mut self, terms: &Terms) -> f64 {
        let which = if terms.may_be_alone() { Rows::Some } else { Rows::All };
        if terms.may_be_alone() {
            // Being alone must be worth 0 there.
            let mut shift = 0.0;
            for row in self.costs.chunks_exact_mut(terms.labels) {
                let alone = row[terms.columns];
                shift += alone;
                row.iter_mut().for_each(|cost| *cost -= alone);
            }
            self.shift += shift;
        }
        self.shift
            + self.assignment.maximise(
                &self.costs,
                [terms.rows, terms.columns, terms.labels],
                which,
            )
    }

    /// Gives the slack of the assignment's dual solution back to the pairs, in equal shares.
    pub(crate) fn give_back(&mut self, terms: &Terms) {
        let labels = terms.labels;
        for i in 0..terms.rows {
            let links = terms.links_of(i);
            if links.is_empty() {
                continue;
            }
            let share = 1.0 / links.len() as f64;
            let row = self.assignment.row_potential(i);
            for a in 0..labels {
                let column =
                    if a < terms.columns { self.assignment.column_potential(a) } else { 0.0 };
                let cost = &mut self.costs[i * labels + a];
                let slack = (row + column - *cost).max(0.0);
                *cost += slack;
                self.own[a] = slack * share;
            }
            for link in links {
                let messages = &mut self.messages[link * labels..(link + 1) * labels];
                for (message, slack) in messages.iter_mut().zip(&self.own) {
                    *message += slack;
                }
            }
        }
    }

    /// Moves the max-marginals of a pair to its nodes, half to each.
    fn empty_pair(&mut self, terms: &Terms, i: usize, link: usize) {
        let labels = terms.labels;
        let (j, twin) = (terms.links[link].other as usize, terms.links[link].twin as usize);
        let range = |at: usize| at * labels..(at + 1) * labels;
        self.other.fill(f64::NEG_INFINITY);
        for a in 0..labels {
            let lambda = self.messages[link * labels + a];
            for (entry, message) in self.line.iter_mut().zip(&self.messages[range(twin)]) {
                *entry = -lambda - message;
            }
            let (near, values) = terms.row(link, a);
            for (b, value) in near.iter().zip(values) {
                self.line[*b as usize] += value;
            }
            if a < terms.columns {
                self.line[a] = f64::NEG_INFINITY;
            }
            let mut most = f64::NEG_INFINITY;
            for (entry, best) in self.line.iter().zip(&mut self.other) {
                most = if *entry > most { *entry } else { most };
                *best = if *entry > *best { *entry } else { *best };
            }
            self.own[a] = most;
        }
        for (node, at, marginals) in [(i, link, &self.own), (j, twin, &self.other)] {
            let costs = &mut self.costs[range(node)];
            let messages = &mut self.messages[range(at)];
            for ((cost, message), marginal) in costs.iter_mut().zip(messages).zip(marginals) {
                *cost += 0.5 * marginal;
                *message += 0.5 * marginal;
            }
        }
    }
}
