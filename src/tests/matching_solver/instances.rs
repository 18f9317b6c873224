//! Small problems that own their affinities, and all assignments of a problem.

use lvmed::matching::Mode;
use lvmed::matching::{ALONE, Problem};
use lvmed::nn::kernel::draw::normal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Numbers of a feature vector.
const CHANNELS: usize = 32;

/// A problem with its affinities.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) sources: usize,
    pub(super) targets: usize,
    pub(super) nodes: Vec<f32>,
    pub(super) source_edges: Vec<(u32, u32)>,
    pub(super) target_edges: Vec<(u32, u32)>,
    pub(super) edges: Vec<f32>,
    pub(super) mode: Mode,
}

impl Instance {
    pub(super) fn problem(&self) -> Problem<'_> {
        Problem {
            sources: self.sources,
            targets: self.targets,
            nodes: &self.nodes,
            source_edges: &self.source_edges,
            target_edges: &self.target_edges,
            edges: &self.edges,
            mode: self.mode,
        }
    }

    /// The same affinities where being alone is or is not allowed.
    pub(super) fn with(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// Affinities drawn evenly from -1 to 1; each node's edges go to `neighbours` others.
    pub(super) fn random(
        [sources, targets]: [usize; 2],
        neighbours: usize,
        mode: Mode,
        seed: u64,
    ) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let source_edges = edges(sources, neighbours, &mut generator);
        let target_edges = edges(targets, neighbours, &mut generator);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
        };
        let nodes = draw(sources * targets);
        let edges = draw(source_edges.len() * target_edges.len());
        Self { sources, targets, nodes, source_edges, target_edges, edges, mode }
    }

    /// Two views of random features with so much noise: cosines of nodes and of differences along
    /// edges to the nearest neighbours.
    pub(super) fn two_views(nodes: usize, neighbours: usize, noise: f32, seed: u64) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let features = normal(&mut generator, nodes * CHANNELS, 1.0);
        let mut view = || -> Vec<f32> {
            let added = normal(&mut generator, features.len(), noise.into());
            features.iter().zip(added).map(|(feature, noise)| feature + noise).collect()
        };
        let views = [view(), view()];
        let edges = views.each_ref().map(|view| nearest(view, neighbours));
        let spans = [0, 1].map(|at: usize| -> Vec<f32> {
            let across = |(i, j): &(u32, u32)| {
                let row = |node: &u32| &views[at][*node as usize * CHANNELS..][..CHANNELS];
                row(i).iter().zip(row(j)).map(|(one, other)| one - other).collect::<Vec<_>>()
            };
            edges[at].iter().flat_map(across).collect()
        });
        let [source_edges, target_edges] = edges;
        Self {
            sources: nodes,
            targets: nodes,
            nodes: cosines(&views[0], &views[1]),
            source_edges,
            target_edges,
            edges: cosines(&spans[0], &spans[1]),
            mode: Mode::Bijection,
        }
    }

    /// Target `a` becomes target `order[a]`.
    pub(super) fn with_targets_as(&self, order: &[u32]) -> Self {
        let mut permuted = self.clone();
        for i in 0..self.sources {
            for (a, to) in order.iter().enumerate() {
                permuted.nodes[i * self.targets + *to as usize] = self.nodes[i * self.targets + a];
            }
        }
        let at = |node: u32| order[node as usize];
        permuted.target_edges = self.target_edges.iter().map(|(a, b)| (at(*a), at(*b))).collect();
        permuted
    }

    /// The same edges in the order of the ranks that are given.
    pub(super) fn with_edges_in_order(&self, sources: &[usize], targets: &[usize]) -> Self {
        let width = self.target_edges.len();
        let from = |x: usize| targets.iter().map(move |y| self.edges[x * width + y]);
        Self {
            source_edges: sources.iter().map(|x| self.source_edges[*x]).collect(),
            target_edges: targets.iter().map(|y| self.target_edges[*y]).collect(),
            edges: sources.iter().flat_map(|x| from(*x)).collect(),
            ..self.clone()
        }
    }

    /// The objectives of all assignments, best first.
    pub(super) fn ranked(&self) -> Vec<(f64, Vec<u32>)> {
        let mut found = Vec::new();
        self.extend(&mut Vec::new(), &mut found);
        found.sort_by(|one, other| other.0.total_cmp(&one.0));
        found
    }

    fn extend(&self, partners: &mut Vec<u32>, found: &mut Vec<(f64, Vec<u32>)>) {
        if partners.len() == self.sources {
            found.push((self.problem().value(partners), partners.clone()));
            return;
        }
        let alone = (self.mode == Mode::Partial).then_some(ALONE);
        for partner in (0..self.targets as u32).chain(alone) {
            if partner == ALONE || !partners.contains(&partner) {
                partners.push(partner);
                self.extend(partners, found);
                partners.pop();
            }
        }
    }
}

/// A random order of the numbers below `count`.
pub(super) fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        order.swap(at, generator.random_range(0..=at));
    }
    order
}

fn edges(nodes: usize, neighbours: usize, generator: &mut StdRng) -> Vec<(u32, u32)> {
    let mut edges = Vec::new();
    for i in 0..nodes {
        for j in order(nodes, generator.random()).into_iter().filter(|j| *j != i).take(neighbours) {
            edges.push((i as u32, j as u32));
        }
    }
    edges
}

/// Cosines of every row of the one with every row of the other.
fn cosines(rows: &[f32], others: &[f32]) -> Vec<f32> {
    let product = |one: &[f32], other: &[f32]| -> f32 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    };
    let cosine = |one: &[f32], other: &[f32]| {
        product(one, other) / (product(one, one) * product(other, other)).sqrt()
    };
    rows.chunks_exact(CHANNELS)
        .flat_map(|row| others.chunks_exact(CHANNELS).map(move |other| cosine(row, other)))
        .collect()
}

/// Edges from each node to those with the nearest features.
fn nearest(view: &[f32], neighbours: usize) -> Vec<(u32, u32)> {
    let rows: Vec<&[f32]> = view.chunks_exact(CHANNELS).collect();
    let mut edges = Vec::new();
    for i in 0..rows.len() {
        let apart = |j: &usize| -> f32 {
            rows[i].iter().zip(rows[*j]).map(|(one, other)| (one - other).powi(2)).sum()
        };
        let mut others: Vec<usize> = (0..rows.len()).filter(|j| *j != i).collect();
        others.sort_by(|one, other| apart(one).total_cmp(&apart(other)));
        edges.extend(others.into_iter().take(neighbours).map(|j| (i as u32, j as u32)));
    }
    edges
}
