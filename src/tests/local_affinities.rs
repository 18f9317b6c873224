//! Local affinities at the sizes of real maps, where the products come in blocks, against plain loops.

use candle_core::{Device, Tensor, Var};
use lvmed::matching::affinity::local;
use lvmed::nn::kernel::draw::normal;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::tensors::doubles;

const CHANNELS: usize = 5;

/// Two maps of every image, and where their cells lie.
struct Maps {
    images: usize,
    nodes: usize,
    /// Sides of the two maps.
    sides: [usize; 2],
    /// `[B, C, side, side]` of both.
    values: [Vec<f64>; 2],
    places: [Vec<Vec<[f32; 2]>>; 2],
}

impl Maps {
    fn draw(images: usize, nodes: usize, sides: [usize; 2]) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let values = sides.map(|side| {
            let drawn = normal(&mut random, images * CHANNELS * side * side, 1.0);
            drawn.into_iter().map(f64::from).collect()
        });
        let mut shifts = normal(&mut random, 4 * images, 15.0).into_iter();
        let places = sides.map(|side| {
            let of_image = |(down, across): (f32, f32)| {
                let place = |at: usize| {
                    let (row, column) = ((at / side) as f32, (at % side) as f32);
                    [down + row * 224.0 / side as f32, across + column * 190.0 / side as f32]
                };
                (0..side * side).map(place).collect()
            };
            let mut shift = || (shifts.next().unwrap_or(0.0), shifts.next().unwrap_or(0.0));
            (0..images).map(|_| of_image(shift())).collect()
        });
        Self { images, nodes, sides, values, places }
    }

    fn cell(&self, view: usize, image: usize, at: usize) -> Vec<f64> {
        let cells = self.sides[view].pow(2);
        let map = &self.values[view][image * CHANNELS * cells..][..CHANNELS * cells];
        map[at..].iter().step_by(cells).copied().collect()
    }

    /// From an image of `view` to one of the other: Eq. 2, or with the `closest` pairs only.
    fn affinity(&self, view: usize, (image, other): (usize, usize), closest: Option<usize>) -> f64 {
        let cells = self.sides.map(|side| side * side);
        let own: Vec<Vec<f64>> = (0..cells[view]).map(|at| self.cell(view, image, at)).collect();
        let others: Vec<Vec<f64>> =
            (0..cells[1 - view]).map(|at| self.cell(1 - view, other, at)).collect();
        let (from, to) = (&self.places[view][image], &self.places[1 - view][other]);
        let location = |p: usize, q: usize| {
            let (down, across) = (from[p][0] - to[q][0], from[p][1] - to[q][1]);
            f64::from(down * down + across * across)
        };
        let features = |p: usize, q: usize| -> f64 {
            own[p].iter().zip(&others[q]).map(|(one, other)| (one - other).powi(2)).sum()
        };
        mean(&own, &others, location, closest) + mean(&own, &others, features, closest)
    }

    /// `[2, G, N, N]`, as the operator has it.
    fn affinities(&self, closest: Option<usize>) -> Vec<f64> {
        let mut all = Vec::new();
        for way in 0..2 {
            for graph in 0..self.images / self.nodes {
                for i in 0..self.nodes {
                    for a in 0..self.nodes {
                        let (one, other) = (graph * self.nodes + i, graph * self.nodes + a);
                        let pair = if way == 0 { (one, other) } else { (other, one) };
                        all.push(self.affinity(way, pair, closest));
                    }
                }
            }
        }
        all
    }

    fn variables(&self) -> [Var; 2] {
        [0, 1].map(|view| {
            let side = self.sides[view];
            let shape = (self.images, CHANNELS, side, side);
            Var::from_slice(&self.values[view], shape, &Device::Cpu).expect("a map")
        })
    }
}

fn mean(
    own: &[Vec<f64>],
    others: &[Vec<f64>],
    distance: impl Fn(usize, usize) -> f64,
    closest: Option<usize>,
) -> f64 {
    let mut pairs: Vec<(f64, usize, usize)> = (0..own.len())
        .map(|p| {
            let reached = (0..others.len()).map(|q| (distance(p, q), p, q));
            reached.min_by(|one, other| one.0.total_cmp(&other.0)).expect("there are cells")
        })
        .collect();
    pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
    pairs.truncate(closest.unwrap_or(pairs.len()));
    let product = |one: &[f64], other: &[f64]| -> f64 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    };
    let cosine = |p: usize, q: usize| {
        let (one, other) = (&own[p], &others[q]);
        product(one, other) / (product(one, one) * product(other, other)).sqrt()
    };
    pairs.iter().map(|(_, p, q)| cosine(*p, *q)).sum::<f64>() / pairs.len() as f64
}

/// Sixteen images of 49 cells, and six of 196 cells with crops of 49, are several blocks both ways.
fn cases() -> [(Maps, Option<usize>); 3] {
    [
        (Maps::draw(16, 16, [7, 7]), None),
        (Maps::draw(33, 16, [7, 7]), Some(20)),
        (Maps::draw(6, 6, [14, 7]), Some(20)),
    ]
}

#[test]
fn affinities_are_those_of_plain_loops() {
    for (maps, closest) in cases() {
        let [source, target] = maps.variables();

        let found = local((&source, &target), maps.places.clone(), maps.nodes, closest);

        let expected = maps.affinities(closest);
        let found = doubles(&found.expect("affinities"));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-10, "{found} {expected}");
        }
    }
}

#[test]
fn gradients_are_slopes_in_any_direction() {
    const STEP: f64 = 1e-6;
    for (maps, closest) in cases() {
        let variables = maps.variables();
        let value = |[source, target]: [&Tensor; 2]| -> Tensor {
            let found = local((source, target), maps.places.clone(), maps.nodes, closest);
            let found = found.expect("affinities");
            let weights: Vec<f64> =
                (0..found.elem_count()).map(|at| ((at * 37 % 101) as f64 - 50.0) / 50.0).collect();
            let weights = Tensor::from_vec(weights, found.shape(), &Device::Cpu).expect("weights");
            (found * weights).and_then(|product| product.sum_all()).expect("a sum")
        };
        let loss = value([&variables[0], &variables[1]]);
        let grads = loss.backward().expect("gradients");

        for seed in 0..3 {
            let mut random = StdRng::seed_from_u64(seed);
            let moves = variables.each_ref().map(|variable| {
                let drawn = normal(&mut random, variable.elem_count(), 1.0);
                let drawn = Tensor::from_vec(drawn, variable.shape(), &Device::Cpu);
                drawn.and_then(|drawn| drawn.to_dtype(candle_core::DType::F64)).expect("a move")
            });
            let moved = |sign: f64| {
                let at = [0, 1].map(|view: usize| {
                    let step = (&moves[view] * (sign * STEP)).expect("a step");
                    (variables[view].as_tensor() + step).expect("moved")
                });
                doubles(&value([&at[0], &at[1]]))[0]
            };

            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * STEP);

            let along: f64 = [0, 1]
                .map(|view: usize| {
                    let gradient = grads.get(&variables[view]).expect("a gradient");
                    doubles(gradient)
                        .iter()
                        .zip(doubles(&moves[view]))
                        .map(|(g, m)| g * m)
                        .sum::<f64>()
                })
                .into_iter()
                .sum();
            assert!((slope - along).abs() < 1e-4 * along.abs().max(1.0), "{slope} {along}");
        }
    }
}
