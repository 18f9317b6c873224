//! The outcome of the problems of a batch, to be asked for after each of the two passes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Solution;

/// A handle on the solutions of a batch; what the backward pass found is there once it has run.
#[derive(Debug, Clone, Default)]
pub struct Outcome(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    solutions: Vec<Solution>,
    backward: Option<Backward>,
}

/// The findings of the backward pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backward {
    /// Share of the problems whose second solution was the first, so that they give no gradient.
    pub zero_share: f64,
    /// Euclidean norm of `∂L/∂c^v` of all problems.
    pub norm: f64,
}

impl Outcome {
    pub(super) fn forward(&self, solutions: Vec<Solution>) {
        *self.record() = Record { solutions, backward: None };
    }

    pub(super) fn backward_pass(&self, backward: Backward) {
        self.record().backward = Some(backward);
    }

    /// Partners of the nodes of a problem.
    pub fn partners(&self, problem: usize) -> Option<Vec<u32>> {
        self.record().solutions.get(problem).map(|solution| solution.partners.clone())
    }

    /// Share of all nodes whose partner is the node of the same number, noise included; 0 where there
    /// are no nodes.
    pub fn accuracy(&self) -> f64 {
        let record = self.record();
        let (mut right, mut nodes) = (0_usize, 0_usize);
        for solution in &record.solutions {
            let is_right = |(node, partner): &(usize, &u32)| *node == **partner as usize;
            right += solution.partners.iter().enumerate().filter(is_right).count();
            nodes += solution.partners.len();
        }
        right as f64 / nodes.max(1) as f64
    }

    /// Mean over the problems of what the bound is above the objective, in units of affinity; none
    /// where a solver gave no bound.
    pub fn duality_gap(&self) -> Option<f64> {
        let record = self.record();
        let gaps = record.solutions.iter().map(|solution| solution.bound - solution.value);
        let mean = gaps.sum::<f64>() / record.solutions.len() as f64;
        mean.is_finite().then_some(mean)
    }

    /// The findings of the backward pass, once it has run.
    pub fn backward(&self) -> Option<Backward> {
        self.record().backward
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
