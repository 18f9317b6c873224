//! The problems that are solved: two noisy views of the same features, affinities without structure,
//! and products of weights, the only form that SciPy's solvers take.

use lvmed::matching::Mode;
use lvmed::matching::Problem;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Gumbel, StandardNormal};

/// Numbers of a feature vector.
const CHANNELS: usize = 32;

/// The origin of affinities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Cosines between two views `f + noise · normal` of random features, of nodes and of the
    /// differences along edges, and Gumbel noise of a scale on all of them.
    Features { noise: f64, gumbel: f64 },
    /// Affinities evenly between -1 and 1.
    Random,
    /// Products of weights evenly between -1 and 1, of nodes and of edges.
    Products,
}

/// A family of instances.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) nodes: usize,
    pub(crate) neighbours: usize,
    pub(crate) kind: Kind,
    pub(crate) count: u64,
    /// Whether optima are proven by branch and bound.
    pub(crate) proven: bool,
}

const fn features(noise: f64, gumbel: f64) -> Kind {
    Kind::Features { noise, gumbel }
}

const fn set(name: &'static str, [nodes, neighbours]: [usize; 2], kind: Kind, count: u64) -> Set {
    Set { name, nodes, neighbours, kind, count, proven: nodes <= 16 }
}

pub(crate) const SETS: &[Set] = &[
    set("features-8-k5", [8, 5], features(1.0, 0.05), 40),
    set("features-16-k5", [16, 5], features(0.5, 0.0), 40),
    set("features-16-k5-noisy", [16, 5], features(1.0, 0.0), 40),
    set("features-16-k5-gumbel0.05", [16, 5], features(0.5, 0.05), 40),
    set("features-16-k5-gumbel1", [16, 5], features(0.5, 1.0), 40),
    set("features-16-k3-noisy-gumbel0.05", [16, 3], features(1.0, 0.05), 40),
    set("features-16-k8-noisy-gumbel0.05", [16, 8], features(1.0, 0.05), 40),
    set("random-8-k5", [8, 5], Kind::Random, 40),
    set("random-16-k3", [16, 3], Kind::Random, 20),
    set("random-16-k5", [16, 5], Kind::Random, 40),
    set("products-16-k5", [16, 5], Kind::Products, 20),
    set("features-32-k5-noisy-gumbel0.05", [32, 5], features(1.0, 0.05), 20),
    set("random-32-k5", [32, 5], Kind::Random, 20),
];

/// A bijective problem with its affinities.
pub(crate) struct Instance {
    nodes: usize,
    pub(crate) node_affinities: Vec<f32>,
    pub(crate) source_edges: Vec<(u32, u32)>,
    pub(crate) target_edges: Vec<(u32, u32)>,
    pub(crate) edge_affinities: Vec<f32>,
    /// Weights of nodes and edges of both graphs, where affinities are their products.
    pub(crate) weights: Option<[Vec<f32>; 4]>,
}

impl Instance {
    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem {
            sources: self.nodes,
            targets: self.nodes,
            nodes: &self.node_affinities,
            source_edges: &self.source_edges,
            target_edges: &self.target_edges,
            edges: &self.edge_affinities,
            mode: Mode::Bijection,
        }
    }

    pub(crate) fn generate(set: &Set, seed: u64) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let nodes = set.nodes;
        let features: Vec<Vec<f64>> =
            (0..nodes).map(|_| normal(CHANNELS, &mut generator)).collect();
        let noise = match set.kind {
            Kind::Features { noise, .. } => noise,
            // The graphs are then of unrelated features.
            Kind::Random | Kind::Products => 100.0,
        };
        let source = view(&features, noise, &mut generator);
        let mut target = view(&features, noise, &mut generator);
        // No solver gains from preferring low numbers.
        for at in (1..nodes).rev() {
            target.swap(at, generator.random_range(0..=at));
        }
        let mut instance = Self {
            nodes,
            node_affinities: Vec::new(),
            source_edges: nearest(&source, set.neighbours),
            target_edges: nearest(&target, set.neighbours),
            edge_affinities: Vec::new(),
            weights: None,
        };
        match set.kind {
            Kind::Features { gumbel, .. } => {
                instance.compare(&source, &target, gumbel, &mut generator);
            }
            Kind::Random => {
                let edges = instance.source_edges.len() * instance.target_edges.len();
                instance.node_affinities = even(nodes * nodes, &mut generator);
                instance.edge_affinities = even(edges, &mut generator);
            }
            Kind::Products => instance.multiply(&mut generator),
        }
        instance
    }

    fn compare(
        &mut self,
        source: &[Vec<f64>],
        target: &[Vec<f64>],
        gumbel: f64,
        generator: &mut StdRng,
    ) {
        let noise = Gumbel::new(0.0, gumbel).ok();
        let mut affinity = |one: &[f64], other: &[f64]| {
            let noise = noise.map_or(0.0, |noise| noise.sample(generator));
            (cosine(one, other) + noise) as f32
        };
        for one in source {
            self.node_affinities.extend(target.iter().map(|other| affinity(one, other)));
        }
        let along = |view: &[Vec<f64>], (i, j): (u32, u32)| -> Vec<f64> {
            view[i as usize].iter().zip(&view[j as usize]).map(|(one, other)| one - other).collect()
        };
        for x in &self.source_edges {
            let one = along(source, *x);
            let with = |y: &(u32, u32)| affinity(&one, &along(target, *y));
            self.edge_affinities.extend(self.target_edges.iter().map(with));
        }
    }

    fn multiply(&mut self, generator: &mut StdRng) {
        let sizes = [self.nodes, self.nodes, self.source_edges.len(), self.target_edges.len()];
        let weights = sizes.map(|size| even(size, generator));
        let products = |one: &[f32], other: &[f32]| -> Vec<f32> {
            one.iter().flat_map(|one| other.iter().map(move |other| one * other)).collect()
        };
        self.node_affinities = products(&weights[0], &weights[1]);
        self.edge_affinities = products(&weights[2], &weights[3]);
        self.weights = Some(weights);
    }
}

fn normal(count: usize, generator: &mut StdRng) -> Vec<f64> {
    (0..count).map(|_| StandardNormal.sample(generator)).collect()
}

fn even(count: usize, generator: &mut StdRng) -> Vec<f32> {
    (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
}

/// The features with noise, each of length 1.
fn view(features: &[Vec<f64>], noise: f64, generator: &mut StdRng) -> Vec<Vec<f64>> {
    let noisy = |feature: &Vec<f64>| -> Vec<f64> {
        let added = normal(feature.len(), generator);
        let sum: Vec<f64> =
            feature.iter().zip(added).map(|(number, added)| number + noise * added).collect();
        let length = sum.iter().map(|number| number * number).sum::<f64>().sqrt();
        sum.into_iter().map(|number| number / length).collect()
    };
    features.iter().map(noisy).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let product = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    };
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

/// Directed edges from each node to those with the nearest features.
fn nearest(view: &[Vec<f64>], neighbours: usize) -> Vec<(u32, u32)> {
    let mut edges = Vec::new();
    for (i, one) in view.iter().enumerate() {
        let distance = |j: &usize| -> f64 {
            one.iter().zip(&view[*j]).map(|(one, other)| (one - other).powi(2)).sum()
        };
        let mut others: Vec<usize> = (0..view.len()).filter(|j| *j != i).collect();
        others.sort_by(|j, k| distance(j).total_cmp(&distance(k)));
        edges.extend(others.into_iter().take(neighbours).map(|j| (i as u32, j as u32)));
    }
    edges
}
