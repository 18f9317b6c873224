//! Gradients of every own operator against finite differences, and of whole networks: what should
//! train does, what should not does not.

mod convolution;
mod losses;
mod matching;
mod networks;
mod normalisation;
mod operators;
mod resampling;

use candle_core::{Device, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::tensors::doubles;

/// Step of the central differences.
const STEP: f64 = 1e-5;
/// Relative difference allowed, in 64-bit arithmetic.
const TOLERANCE: f64 = 1e-7;

fn variable(shape: &[usize], seed: u64) -> Var {
    let mut random = StdRng::seed_from_u64(seed);
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
    Var::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// A loss that weighs every output differently, so that no gradient can hide in a sum.
fn weigh(out: &Tensor) -> Tensor {
    let count = out.elem_count();
    let weights: Vec<f64> = (0..count).map(|at| ((at * 37 % 101) as f64 / 50.0) - 1.0).collect();
    let weights = Tensor::from_vec(weights, out.shape(), &Device::Cpu).expect("weights");
    (out * weights).and_then(|weighed| weighed.sum_all()).expect("a loss")
}

/// Compares the gradient of every variable with central differences.
fn check(variables: &[&Var], forward: impl Fn() -> Tensor) {
    let loss = || weigh(&forward());
    let grads = loss().backward().expect("gradients");
    for (which, variable) in variables.iter().enumerate() {
        let start = doubles(variable);
        let found = doubles(grads.get(variable).expect("every variable has a gradient"));
        let at = |position: usize, shift: f64| {
            let mut moved = start.clone();
            moved[position] += shift;
            let moved = Tensor::from_vec(moved, variable.shape(), &Device::Cpu).expect("a tensor");
            variable.set(&moved).expect("set");
            loss().to_scalar::<f64>().expect("a number")
        };
        for (position, found) in found.iter().enumerate() {
            let expected = (at(position, STEP) - at(position, -STEP)) / (2.0 * STEP);
            let scale = expected.abs().max(found.abs()).max(1.0);
            assert!(
                (expected - found).abs() <= TOLERANCE * scale,
                "variable {which}, position {position}: {found}, by differences {expected}"
            );
        }
        let start = Tensor::from_vec(start, variable.shape(), &Device::Cpu).expect("a tensor");
        variable.set(&start).expect("set");
    }
}
