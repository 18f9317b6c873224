//! Gumbel noise on affinities, a function of where in a run it is drawn and of nothing else.

use rand::distr::Open01;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// The place in a run where noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Seed of the run.
    pub seed: u64,
    /// Steps of the optimiser before this one.
    pub step: u64,
    /// Number of the batch within its step.
    pub part: u32,
}

/// Noise for the problems of a batch, kept for the second solve of the backward pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Noise {
    /// On the affinities of nodes, problem after problem; empty where there is none.
    pub nodes: Vec<f32>,
    /// On the affinities of edges.
    pub edges: Vec<f32>,
}

/// The amount of noise that the affinities get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Scale on affinities of nodes.
    pub nodes: f64,
    /// Scale on affinities of edges, their weight already in.
    pub edges: f64,
}

impl Noise {
    /// Gumbel(0, scale) for `directions` times `graphs` problems of `counts` affinities of nodes and
    /// of edges: every problem from a generator of its own, named by the place, the direction (a pair
    /// of views, one way) and the graph.
    pub fn draw(
        place: Place,
        (directions, graphs): (usize, usize),
        counts: (usize, usize),
        scales: Scales,
    ) -> Self {
        if scales.nodes == 0.0 {
            return Self::default();
        }
        let problems: Vec<Self> = (0..directions * graphs)
            .into_par_iter()
            .map(|problem| {
                let mut random = generator(place, problem / graphs, problem % graphs);
                let mut draw = |count: usize, scale: f64| -> Vec<f32> {
                    (0..count).map(|_| (scale * gumbel(random.sample(Open01))) as f32).collect()
                };
                Self { nodes: draw(counts.0, scales.nodes), edges: draw(counts.1, scales.edges) }
            })
            .collect();
        let mut all = Self::default();
        for problem in problems {
            all.nodes.extend(problem.nodes);
            all.edges.extend(problem.edges);
        }
        all
    }
}

/// The value of Gumbel(0, 1) at level `u` between 0 and 1: `−ln(−ln u)`.
pub fn gumbel(u: f64) -> f64 {
    -(-u.ln()).ln()
}

fn generator(place: Place, direction: usize, graph: usize) -> StdRng {
    let Place { seed, step, part } = place;
    let digest = Sha256::digest(format!("matching/{seed}/{step}/{part}/{direction}/{graph}"));
    StdRng::from_seed(digest.into())
}

#[cfg(test)]
mod tests {
    use super::{Noise, Place, Scales, gumbel};

    const PLACE: Place = Place { seed: 7, step: 3, part: 1 };

    fn drawn(place: Place, scale: f64) -> Noise {
        Noise::draw(place, (2, 3), (16, 9), Scales { nodes: scale, edges: scale / 2.0 })
    }

    #[test]
    fn levels_have_the_values_of_the_worked_example() {
        for (u, expected) in [(0.1, -0.834_032), (0.5, 0.366_513), (0.9, 2.250_367)] {
            assert!((gumbel(u) - expected).abs() < 5e-7, "{u}");
        }
    }

    #[test]
    fn draws_have_the_mean_and_deviation_of_the_distribution() {
        let scales = Scales { nodes: 1.0, edges: 1.0 };
        let noise = Noise::draw(PLACE, (1, 4), (50_000, 0), scales).nodes;

        let count = noise.len() as f64;
        let mean = noise.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let spread = noise.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();

        // Three standard errors of 200 000 draws are 0.0086 and, for the deviation, 0.0091.
        assert!((mean - 0.5772).abs() < 0.009, "{mean}");
        assert!(((spread / count).sqrt() - 1.2825).abs() < 0.01, "{}", (spread / count).sqrt());
    }

    #[test]
    fn a_place_has_its_noise_and_no_other_place_has_it() {
        let noise = drawn(PLACE, 1.0);

        assert_eq!(noise, drawn(PLACE, 1.0));
        for other in
            [Place { seed: 8, ..PLACE }, Place { step: 4, ..PLACE }, Place { part: 2, ..PLACE }]
        {
            assert_ne!(noise, drawn(other, 1.0), "{other:?}");
        }
        // Six problems, no two alike.
        let problems: Vec<&[f32]> = noise.nodes.chunks(16).collect();
        assert!((1..6).all(|at| problems[at] != problems[0]));
        assert_eq!((noise.nodes.len(), noise.edges.len()), (6 * 16, 6 * 9));
    }

    #[test]
    fn the_noise_is_as_large_as_its_scale_and_absent_at_zero() {
        let (large, small) = (drawn(PLACE, 1.0), drawn(PLACE, 0.05));

        for (large, small) in large.nodes.iter().zip(&small.nodes) {
            assert!((0.05 * large - small).abs() < 1e-6);
        }
        assert_eq!(drawn(PLACE, 0.0), Noise::default());
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let with =
            |threads| crate::nn::with_threads(threads, || drawn(PLACE, 1.0)).expect("a pool");

        assert_eq!(with(1), with(3));
    }
}
