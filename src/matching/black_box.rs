//! The solver as a differentiable operator: assignments forward, and backward the difference to a
//! second solve with shifted affinities (LVM-Med, Eq. 6 and Algorithm 1).

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType, bail,
};
use rayon::prelude::*;

use super::noise::Noise;
use super::outcome::{Backward, Outcome};

use super::{ALONE, Problem, Solution, Solver};
use crate::matching::setting::Mode;
use crate::nn::ops::{Borrowed, with_values};

/// The edges of a problem's two graphs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Directed edges of the source.
    pub source: Vec<(u32, u32)>,
    /// Directed edges of the target.
    pub target: Vec<(u32, u32)>,
}

/// The settings by which problems are solved, and by which gradients come back through the solver.
#[derive(Debug, Clone)]
pub struct BlackBox {
    /// Finds the assignments of both passes.
    pub solver: Solver,
    /// The assignments that are allowed.
    pub mode: Mode,
    /// λ of Eq. 6.
    pub lambda: f64,
    /// Weight of one problem's loss in the loss that is differentiated (1 for a sum, `1 / n` for a
    /// mean of n): the shift of the second solve is λ times the gradient of the problem's own loss,
    /// whatever it is averaged with.
    pub share: f64,
    /// Whether the gradient is the difference of the solutions without `1 / λ`.
    pub implicit: bool,
}

impl BlackBox {
    /// Assignments `v` `[Q, N, N]` of 0 and 1 for the affinities of nodes `[Q, N, N]` and of edges
    /// `[Q, E, E']` with noise on both: `v = argmax (c^v + ε, c^e + ε')`. Without edges the problems
    /// are first-order.
    ///
    /// Backward, with `g = ∂L/∂v`, `(∂L/∂c^v, ∂L/∂c^e) = (1/λ) [v − argmax (c^v + ε − λ g, c^e + ε')]`
    /// with the same noise: the loss sees nodes only, hence nothing shifts the edges, whose solution
    /// is which pairs of edges are both kept, `v_ia v_jb`.
    ///
    /// Where an affinity is not finite there is nothing to match: `v` is NaN, and so is what comes of
    /// it, with a gradient of zero.
    pub fn assign(
        &self,
        nodes: &Tensor,
        edges: Option<&Tensor>,
        links: Vec<Links>,
        noise: Noise,
    ) -> Result<(Tensor, Outcome)> {
        let (problems, count, targets) = nodes.dims3()?;
        let outcome = Outcome::default();
        let task = Task {
            settings: self.clone(),
            nodes: count,
            links,
            noise,
            outcome: outcome.clone(),
            first: Mutex::new(Vec::new()),
        };
        if count != targets || problems != task.links.len() {
            bail!("affinities {:?} of nodes for {} problems", nodes.shape(), task.links.len());
        }
        let nodes = nodes.contiguous()?;
        let v = match edges {
            None => nodes.apply_op1(FirstOrder(task))?,
            Some(edges) => {
                let size = edges.dims3()?;
                let fits =
                    |links: &Links| (links.source.len(), links.target.len()) == (size.1, size.2);
                if size.0 != problems || !task.links.iter().all(fits) {
                    bail!("affinities {:?} of edges do not fit the graphs", edges.shape());
                }
                nodes.apply_op2(&edges.contiguous()?, SecondOrder(task))?
            }
        };
        Ok((v, outcome))
    }
}

/// The problems of a batch.
struct Task {
    settings: BlackBox,
    /// Nodes of every graph.
    nodes: usize,
    links: Vec<Links>,
    noise: Noise,
    outcome: Outcome,
    /// Partners found forward.
    first: Mutex<Vec<Vec<u32>>>,
}

struct FirstOrder(Task);

struct SecondOrder(Task);

impl Task {
    fn forward<T: WithDType>(&self, nodes: &[T], edges: &[T]) -> Vec<T> {
        let perturbed = shifted(nodes, &self.noise.nodes, None);
        let solutions = self.solve(&perturbed, &shifted(edges, &self.noise.edges, None));
        let size = self.nodes * self.nodes;
        let mut v = vec![T::zero(); solutions.len() * size];
        for (v, solution) in v.chunks_exact_mut(size).zip(&solutions) {
            if solution.value.is_nan() {
                v.fill(T::from_f64(f64::NAN));
                continue;
            }
            for (i, a) in pairs(&solution.partners) {
                v[i * self.nodes + a] = T::from_f64(1.0);
            }
        }
        let partners = solutions.iter().map(|solution| solution.partners.clone()).collect();
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = partners;
        self.outcome.forward(solutions);
        v
    }

    fn solve(&self, nodes: &[f32], edges: &[f32]) -> Vec<Solution> {
        let size = self.nodes * self.nodes;
        // All problems have equally many edges.
        let pair_size = edges.len() / self.links.len().max(1);
        let mut problems = Vec::with_capacity(self.links.len());
        for (at, links) in self.links.iter().enumerate() {
            let edges = &edges[at * pair_size..(at + 1) * pair_size];
            let is_first_order = edges.is_empty();
            problems.push(Problem {
                sources: self.nodes,
                targets: self.nodes,
                nodes: &nodes[at * size..(at + 1) * size],
                source_edges: if is_first_order { &[] } else { &links.source },
                target_edges: if is_first_order { &[] } else { &links.target },
                edges,
                mode: self.settings.mode,
            });
        }
        self.settings.solver.solve_all(&problems)
    }

    fn backward<T: WithDType>(&self, nodes: &[T], edges: &[T], grad: &[T]) -> [Vec<T>; 2] {
        let BlackBox { lambda, share, implicit, .. } = self.settings;
        let moved = shifted(nodes, &self.noise.nodes, Some((grad, lambda / share)));
        let second = self.solve(&moved, &shifted(edges, &self.noise.edges, None));
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let scale = if implicit { share } else { share / lambda };

        let mut of_nodes = vec![T::zero(); nodes.len()];
        let mut of_edges = vec![T::zero(); edges.len()];
        let size = self.nodes * self.nodes;
        let pair_size = edges.len() / self.links.len().max(1);
        let mut unchanged = 0;
        for (at, (first, second)) in first.iter().zip(&second).enumerate() {
            if *first == second.partners {
                unchanged += 1;
                continue;
            }
            let of_nodes = &mut of_nodes[at * size..(at + 1) * size];
            let of_edges = &mut of_edges[at * pair_size..(at + 1) * pair_size];
            for (partners, step) in [(first, scale), (&second.partners, -scale)] {
                let step = T::from_f64(step);
                for (i, a) in pairs(partners) {
                    of_nodes[i * self.nodes + a] += step;
                }
                if !of_edges.is_empty() {
                    for (x, y) in kept(&self.links[at], partners, self.nodes) {
                        of_edges[x * self.links[at].target.len() + y] += step;
                    }
                }
            }
        }
        let squares: f64 = of_nodes.iter().map(|value| value.to_f64() * value.to_f64()).sum();
        self.outcome.backward_pass(Backward {
            zero_share: f64::from(unchanged) / second.len().max(1) as f64,
            norm: squares.sqrt(),
        });
        [of_nodes, of_edges]
    }

    fn shape(&self) -> Shape {
        (self.links.len(), self.nodes, self.nodes).into()
    }
}

/// Affinities with noise, and less `λ g` where there is a gradient: what a solver is given.
fn shifted<T: WithDType>(values: &[T], noise: &[f32], shift: Option<(&[T], f64)>) -> Vec<f32> {
    let value = |at: usize| {
        let noisy = values[at].to_f64() + noise.get(at).map_or(0.0, |noise| f64::from(*noise));
        match shift {
            None => noisy as f32,
            Some((grad, lambda)) => (noisy - lambda * grad[at].to_f64()) as f32,
        }
    };
    (0..values.len()).into_par_iter().with_min_len(4096).map(value).collect()
}

/// The nodes that have a partner, with it.
fn pairs(partners: &[u32]) -> impl Iterator<Item = (usize, usize)> {
    let has_partner = |(_, partner): &(usize, &u32)| **partner != ALONE;
    partners.iter().enumerate().filter(has_partner).map(|(node, partner)| (node, *partner as usize))
}

/// Pairs of edges (x, y) with `v_ia v_jb = 1` for x = (i, j) and y = (a, b).
fn kept(links: &Links, partners: &[u32], nodes: usize) -> Vec<(usize, usize)> {
    let mut places = vec![None; nodes * nodes];
    for (y, (a, b)) in links.target.iter().enumerate() {
        places[*a as usize * nodes + *b as usize] = Some(y);
    }
    let edge = |(x, (i, j)): (usize, &(u32, u32))| {
        let (a, b) = (partners[*i as usize], partners[*j as usize]);
        let is_whole = a != ALONE && b != ALONE;
        let y = is_whole.then(|| places[a as usize * nodes + b as usize]).flatten()?;
        Some((x, y))
    };
    links.source.iter().enumerate().filter_map(edge).collect()
}

impl CustomOp1 for FirstOrder {
    fn name(&self) -> &'static str {
        "linear-assignment"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((nodes, storage, layout) =>
            WithDType::to_cpu_storage_owned(self.0.forward(nodes, &[])));
        Ok((storage, self.0.shape()))
    }

    fn bwd(&self, nodes: &Tensor, _v: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [gradient, _] = match nodes.dtype() {
            DType::F32 => gradients::<f32>(&self.0, nodes, None, grad)?,
            _ => gradients::<f64>(&self.0, nodes, None, grad)?,
        };
        Ok(gradient)
    }
}

impl CustomOp2 for SecondOrder {
    fn name(&self) -> &'static str {
        "quadratic-assignment"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((nodes, s1, l1), (edges, s2, l2) =>
            WithDType::to_cpu_storage_owned(self.0.forward(nodes, edges)));
        Ok((storage, self.0.shape()))
    }

    fn bwd(
        &self,
        nodes: &Tensor,
        edges: &Tensor,
        _v: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_nodes, of_edges] = match nodes.dtype() {
            DType::F32 => gradients::<f32>(&self.0, nodes, Some(edges), grad)?,
            _ => gradients::<f64>(&self.0, nodes, Some(edges), grad)?,
        };
        Ok((of_nodes, of_edges))
    }
}

fn gradients<T: WithDType>(
    task: &Task,
    nodes: &Tensor,
    edges: Option<&Tensor>,
    grad: &Tensor,
) -> Result<[Option<Tensor>; 2]> {
    let grad = grad.contiguous()?;
    let (borrowed, upstream) = (Borrowed::of(nodes), Borrowed::of(&grad));
    let pairs = edges.map(Borrowed::of);
    let edge_values = pairs.as_ref().map_or(Ok(&[][..]), Borrowed::values::<T>)?;
    let [of_nodes, of_edges] =
        task.backward(borrowed.values::<T>()?, edge_values, upstream.values::<T>()?);
    let of_edges = edges.map(|edges| Tensor::from_vec(of_edges, edges.shape(), edges.device()));
    let of_nodes = Tensor::from_vec(of_nodes, nodes.shape(), nodes.device())?;
    Ok([Some(of_nodes), of_edges.transpose()?])
}

#[cfg(test)]
mod tests;
