//! The quadratic assignment problem between two graphs, in affinities (larger is better).

use crate::matching::setting::Mode;

/// A problem over borrowed affinities: maximise
/// `Σ c[i,a] v[i,a] + Σ e[x,y] v[i,a] v[j,b]`, the second sum over directed edges `x = (i, j)` of the
/// source and `y = (a, b)` of the target (LVM-Med, Eq. 4 with the sign turned).
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// Nodes of the source graph.
    pub sources: usize,
    /// Nodes of the target graph; at least as many in [`Mode::Bijection`].
    pub targets: usize,
    /// Affinities of nodes, `[sources, targets]` by rows.
    pub nodes: &'a [f32],
    /// Directed edges of the source graph; no edge from a node to itself.
    pub source_edges: &'a [(u32, u32)],
    /// Directed edges of the target graph.
    pub target_edges: &'a [(u32, u32)],
    /// Affinities of edges, `[source_edges, target_edges]` by rows, the weight already in.
    pub edges: &'a [f32],
    /// The assignments that are allowed.
    pub mode: Mode,
}

/// No partner, in [`Solution::partners`].
pub const ALONE: u32 = u32::MAX;

/// The finding of a solver.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Solution {
    /// Target of each source node; [`ALONE`] where it has none.
    pub partners: Vec<u32>,
    /// The objective of the assignment.
    pub value: f64,
    /// An upper bound on the objective of every assignment, where one was computed; else infinite.
    pub bound: f64,
}

impl Problem<'_> {
    /// The objective of an assignment.
    pub fn value(&self, partners: &[u32]) -> f64 {
        let at = |node: u32| partners.get(node as usize).copied().unwrap_or(ALONE);
        let mut value: f64 = (0..)
            .zip(partners)
            .filter(|(_, partner)| **partner != ALONE)
            .map(|(node, partner): (usize, _)| {
                f64::from(self.nodes[node * self.targets + *partner as usize])
            })
            .sum();
        for (x, (i, j)) in self.source_edges.iter().enumerate() {
            let pair = (at(*i), at(*j));
            for (y, edge) in self.target_edges.iter().enumerate() {
                if *edge == pair {
                    value += f64::from(self.edges[x * self.target_edges.len() + y]);
                }
            }
        }
        value
    }
}
