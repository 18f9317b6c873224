//! L-BFGS: minimises a smooth convex function from its value and gradient.
//!
//! Nocedal & Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5. Steps satisfy the
//! weak Wolfe conditions (3.6), found by bisection; that is all the update needs to stay positive
//! definite. Everything runs on one thread in a fixed order, so equal inputs give equal bits.

use std::collections::VecDeque;

use super::matrix::{add_scaled, dot};

/// Steps remembered for the curvature.
const MEMORY: usize = 10;
/// Share of the promised decrease that a step must reach: `c₁` of (3.6a).
const DECREASE: f64 = 1e-4;
/// Share of the slope that a step may leave: `c₂` of (3.6b).
const CURVATURE: f64 = 0.9;
/// Trial steps of one line search; what thirty halvings do not reach is lost in rounding.
const TRIALS: usize = 30;

/// The rule on when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// The largest absolute entry of the gradient at which the point counts as the minimum.
    pub gradient: f64,
    /// Most steps taken.
    pub iterations: usize,
}

/// The place where the search ended.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The point.
    pub point: Vec<f64>,
    /// The function there.
    pub value: f64,
    /// The largest absolute entry of the gradient there.
    pub gradient: f64,
    /// Steps taken.
    pub iterations: usize,
}

/// Minimises `objective`, which writes its gradient at a point and returns its value, from `start`.
///
/// The search also ends where no step decreases the function any further in the precision of the
/// numbers; `Minimum::gradient` tells the two ends apart.
pub fn minimise(
    start: Vec<f64>,
    stop: Stop,
    mut objective: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Minimum {
    let mut here = Point { at: start, value: 0.0, gradient: Vec::new() };
    here.gradient = vec![0.0; here.at.len()];
    here.value = objective(&here.at, &mut here.gradient);
    let mut history = History::default();
    let mut iterations = 0;
    while iterations < stop.iterations && largest(&here.gradient) > stop.gradient {
        let direction = history.direction(&here.gradient);
        // Nothing is known of the scale before the first step: begin with one of length one.
        let first = if history.pairs.is_empty() { 1.0 / norm(&direction).max(1.0) } else { 1.0 };
        let next = match search(&here, &direction, first, &mut objective) {
            Some(next) => next,
            None if history.pairs.is_empty() => break,
            // A stale memory may point nowhere; steepest descent is the last thing to try.
            None => {
                history = History::default();
                continue;
            }
        };
        history.remember(&here, &next);
        here = next;
        iterations += 1;
    }
    Minimum { gradient: largest(&here.gradient), point: here.at, value: here.value, iterations }
}

struct Point {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// One step and the change of the gradient over it: `s`, `y` and `ρ = 1/(yᵀs)`.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    rho: f64,
}

#[derive(Default)]
struct History {
    pairs: VecDeque<Pair>,
}

impl History {
    fn remember(&mut self, before: &Point, after: &Point) {
        let step = difference(&after.at, &before.at);
        let change = difference(&after.gradient, &before.gradient);
        let curvature = dot(&step, &change);
        // The line search promises this, up to rounding.
        if curvature <= f64::EPSILON * dot(&change, &change) {
            return;
        }
        if self.pairs.len() == MEMORY {
            self.pairs.pop_front();
        }
        self.pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
    }

    /// `−H g` by the two-loop recursion (7.4), `H₀ = (sᵀy / yᵀy) I` (7.20).
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut alphas = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs.iter().rev() {
            let alpha = pair.rho * dot(&pair.step, &q);
            add_scaled(&mut q, -alpha, &pair.change);
            alphas.push(alpha);
        }
        if let Some(last) = self.pairs.back() {
            let scale = 1.0 / (last.rho * dot(&last.change, &last.change));
            q.iter_mut().for_each(|value| *value *= scale);
        }
        for (pair, alpha) in self.pairs.iter().zip(alphas.into_iter().rev()) {
            let beta = pair.rho * dot(&pair.change, &q);
            add_scaled(&mut q, alpha - beta, &pair.step);
        }
        q
    }
}

/// A step along `direction` that satisfies the weak Wolfe conditions, by doubling and bisection;
/// none when rounding leaves no decrease to be found.
fn search(
    from: &Point,
    direction: &[f64],
    first: f64,
    objective: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Point> {
    let slope = dot(&from.gradient, direction);
    if slope >= 0.0 {
        return None;
    }
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut point = Point { at: Vec::new(), value: 0.0, gradient: vec![0.0; direction.len()] };
    for _ in 0..TRIALS {
        point.at.clone_from(&from.at);
        add_scaled(&mut point.at, length, direction);
        point.value = objective(&point.at, &mut point.gradient);
        // Written so that a value that is not a number counts as too far.
        let decreases = point.value <= from.value + DECREASE * length * slope;
        if !decreases {
            high = length;
        } else if dot(&point.gradient, direction) < CURVATURE * slope {
            low = length;
        } else {
            return Some(point);
        }
        length = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * length };
    }
    None
}

fn difference(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(a, b)| a - b).collect()
}

fn norm(values: &[f64]) -> f64 {
    dot(values, values).sqrt()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::{Stop, minimise};

    const STOP: Stop = Stop { gradient: 1e-9, iterations: 500 };

    #[test]
    fn a_badly_scaled_quadratic_is_solved_to_its_known_minimum() {
        let scales: Vec<f64> = (0..30).map(|at| 10.0_f64.powf(f64::from(at) / 10.0)).collect();

        let found = minimise(vec![0.0; 30], STOP, |x, gradient| {
            let errors = x.iter().zip(&scales).enumerate();
            let terms = errors.map(|(at, (x, scale))| {
                gradient[at] = scale * (x - 1.0);
                scale * (x - 1.0).powi(2) / 2.0
            });
            terms.sum()
        });

        assert!(found.gradient <= STOP.gradient, "{} {}", found.gradient, found.iterations);
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{:?}", found.point);
    }

    #[test]
    fn a_function_that_is_not_a_number_far_out_is_still_minimised() {
        let found = minimise(vec![1e-3], STOP, |x, gradient| {
            gradient[0] = 1.0 - 1.0 / x[0];
            x[0] - x[0].ln()
        });

        assert!((found.point[0] - 1.0).abs() < 1e-8, "{:?}", found.point);
    }

    #[test]
    fn a_start_at_the_minimum_stays_there() {
        let found = minimise(vec![0.0], STOP, |x, gradient| {
            gradient[0] = 2.0 * x[0];
            x[0] * x[0]
        });

        assert_eq!((found.point, found.iterations), (vec![0.0], 0));
    }
}
