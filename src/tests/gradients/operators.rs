//! Operators that work value by value or on whole rows.

use candle_core::{Device, Var};
use lvmed::nn::dropout::{dropout, stochastic_depth};
use lvmed::nn::ops::{add_relu, linear, relu, softmax};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{check, variable};
use crate::tensors::doubles;

#[test]
fn small_operators() {
    let (x, weight, bias) = (variable(&[3, 5], 1), variable(&[4, 5], 2), variable(&[4], 3));

    check(&[&x, &weight, &bias], || linear(&x, &weight, &bias).expect("linear"));
    check(&[&x], || softmax(&x).expect("softmax"));
    check(&[&x], || relu(&x).expect("relu"));
    let y = variable(&[3, 5], 4);
    check(&[&x, &y], || add_relu(&x, &y).expect("a sum"));
}

#[test]
fn the_derivative_of_relu_at_zero_is_zero() {
    let x = Var::new(&[0.0_f64, -1.0, 2.0], &Device::Cpu).expect("a tensor");

    let grads = relu(&x).and_then(|y| y.sum_all()).and_then(|y| y.backward()).expect("gradients");

    assert_eq!(doubles(grads.get(&x).expect("a gradient")), [0.0, 0.0, 1.0]);
}

#[test]
fn dropped_values_have_no_gradient_and_kept_ones_a_larger_one() {
    let x = variable(&[4, 3, 2], 5);
    let random = || StdRng::seed_from_u64(6);

    check(&[&x], || dropout(&x, 0.4, &mut random()).expect("dropped"));
    check(&[&x], || stochastic_depth(&x, 0.4, &mut random()).expect("dropped"));
}

#[test]
fn a_tensor_used_twice_has_both_gradients() {
    use lvmed::nn::upsample::{Interpolation, upsample};
    let x = variable(&[1, 2, 3, 2], 7);

    check(&[&x], || {
        let large = upsample(&x, (6, 4), Interpolation::Nearest).expect("resampled");
        let small = upsample(&large, (3, 2), Interpolation::Bilinear).expect("resampled");
        (small + x.sqr().expect("squared")).expect("a sum")
    });
}
