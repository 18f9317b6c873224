//! A problem laid out for a solver: what each pair of assignments adds, by neighbours.
//!
//! Directed source edges between the same two nodes are one *link* seen from both ends, and
//! directed target edges between the same two nodes one *slot* seen from both ends. A link's table
//! holds `θ[a, b]` for the slots only: everywhere else it is 0, and so is the table's last place.

use super::super::Problem;
use crate::matching::setting::Mode;

const NONE: u32 = u32::MAX;

/// One source node's neighbour.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    /// The neighbour.
    pub(crate) other: u32,
    /// The same link seen from the neighbour.
    pub(crate) twin: u32,
}

/// The terms of a problem; labels are targets and, where nodes may stay alone, one more for that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) labels: usize,
    /// `[rows, labels]`: affinities of nodes.
    pub(crate) nodes: Vec<f64>,
    pub(crate) links: Vec<Link>,
    link_starts: Vec<u32>,
    link_of: Vec<u32>,
    near: Vec<u32>,
    near_starts: Vec<u32>,
    slot_of: Vec<u32>,
    /// The place of each target edge in a table, seen from its start and from its end.
    places: Vec<[u32; 2]>,
    /// `[links, slots + 1]`: `θ` by the own target and the neighbour's.
    tables: Vec<f64>,
}

impl Terms {
    /// Lays a problem out, in the memory of the one before.
    pub(crate) fn lay_out(&mut self, problem: &Problem<'_>) {
        let (rows, columns) = (problem.sources, problem.targets);
        self.rows = rows;
        self.columns = columns;
        self.labels = columns + usize::from(problem.mode == Mode::Partial);
        self.nodes.clear();
        for row in problem.nodes.chunks_exact(columns.max(1)).take(rows) {
            self.nodes.extend(row.iter().map(|affinity| f64::from(*affinity)));
            self.nodes.resize(self.nodes.len() + self.labels - columns, 0.0);
        }
        // Without targets there are no rows to read.
        self.nodes.resize(rows * self.labels, 0.0);
        self.index_slots(problem.target_edges);
        self.index_links(problem.source_edges);
        self.add_edges(problem);
    }

    fn index_slots(&mut self, edges: &[(u32, u32)]) {
        let labels = self.labels;
        mark(&mut self.slot_of, labels, edges);
        self.near.clear();
        self.near_starts.clear();
        for a in 0..labels {
            self.near_starts.push(self.near.len() as u32);
            for b in 0..labels {
                let place = &mut self.slot_of[a * labels + b];
                if *place != NONE {
                    *place = self.near.len() as u32;
                    self.near.push(b as u32);
                }
            }
        }
        let last = self.near.len() as u32;
        self.near_starts.push(last);
        for place in self.slot_of.iter_mut().filter(|place| **place == NONE) {
            *place = last;
        }
    }

    fn index_links(&mut self, edges: &[(u32, u32)]) {
        let rows = self.rows;
        mark(&mut self.link_of, rows, edges);
        self.links.clear();
        self.link_starts.clear();
        for i in 0..rows {
            self.link_starts.push(self.links.len() as u32);
            for j in 0..rows {
                let place = &mut self.link_of[i * rows + j];
                if *place != NONE {
                    *place = self.links.len() as u32;
                    self.links.push(Link { other: j as u32, twin: NONE });
                }
            }
        }
        self.link_starts.push(self.links.len() as u32);
        for i in 0..rows {
            for at in self.links_of(i) {
                let j = self.links[at].other as usize;
                self.links[at].twin = self.link_of[j * rows + i];
            }
        }
    }

    fn add_edges(&mut self, problem: &Problem<'_>) {
        let stride = self.stride();
        self.tables.clear();
        self.tables.resize(self.links.len() * stride, 0.0);
        let width = problem.target_edges.len();
        if width == 0 {
            return;
        }
        self.places.clear();
        for (a, b) in problem.target_edges {
            let (a, b) = (*a as usize, *b as usize);
            self.places.push([self.slot(a, b) as u32, self.slot(b, a) as u32]);
        }
        for ((i, j), affinities) in problem.source_edges.iter().zip(problem.edges.chunks(width)) {
            let (i, j) = (*i as usize, *j as usize);
            let Some(ahead) = self.link_between(i, j) else { continue };
            let back = self.links[ahead].twin as usize;
            for ([at, from], affinity) in self.places.iter().zip(affinities) {
                let affinity = f64::from(*affinity);
                self.tables[ahead * stride + *at as usize] += affinity;
                self.tables[back * stride + *from as usize] += affinity;
            }
        }
        // An edge from a target to itself can never be used by two nodes.
        for table in self.tables.chunks_exact_mut(stride) {
            table[stride - 1] = 0.0;
        }
    }

    /// Whether a node may stay alone, the last label.
    pub(crate) fn may_be_alone(&self) -> bool {
        self.labels > self.columns
    }

    /// The numbers in a link's table.
    pub(crate) fn stride(&self) -> usize {
        self.near.len() + 1
    }

    /// The links of a source node.
    pub(crate) fn links_of(&self, node: usize) -> std::ops::Range<usize> {
        self.link_starts[node] as usize..self.link_starts[node + 1] as usize
    }

    /// The link from one source node to another, if an edge joins them.
    pub(crate) fn link_between(&self, i: usize, j: usize) -> Option<usize> {
        let link = self.link_of[i * self.rows + j];
        (link != NONE).then_some(link as usize)
    }

    /// The place of two labels in a table; the last one, which is 0, where no edge joins them.
    pub(crate) fn slot(&self, a: usize, b: usize) -> usize {
        self.slot_of[a * self.labels + b] as usize
    }

    /// The values that the ends of a link with labels `a` and `b` add as they are and exchanged.
    pub(crate) fn both_ways(&self, link: usize, a: usize, b: usize) -> f64 {
        let table = self.table(link);
        table[self.slot(a, b)] + table[self.slot(b, a)]
    }

    /// A link's table.
    pub(crate) fn table(&self, link: usize) -> &[f64] {
        let stride = self.stride();
        &self.tables[link * stride..(link + 1) * stride]
    }

    /// The terms that a link adds when its own end has label `a`: the other end's labels and
    /// `θ[a, ·]`.
    pub(crate) fn row(&self, link: usize, a: usize) -> (&[u32], &[f64]) {
        let range = self.near_starts[a] as usize..self.near_starts[a + 1] as usize;
        (&self.near[range.clone()], &self.table(link)[range])
    }

    /// The objective of a labelling.
    pub(crate) fn value(&self, labels: &[usize]) -> f64 {
        let mut value = 0.0;
        for (i, a) in labels.iter().enumerate() {
            value += self.nodes[i * self.labels + a];
            for at in self.links_of(i) {
                let j = self.links[at].other as usize;
                if j > i {
                    value += self.table(at)[self.slot(*a, labels[j])];
                }
            }
        }
        value
    }
}

/// Marks both directions of the edges between `size` nodes.
fn mark(places: &mut Vec<u32>, size: usize, edges: &[(u32, u32)]) {
    places.clear();
    places.resize(size * size, NONE);
    for (i, j) in edges.iter().map(|(i, j)| (*i as usize, *j as usize)).filter(|(i, j)| i != j) {
        places[i * size + j] = 0;
        places[j * size + i] = 0;
    }
}
