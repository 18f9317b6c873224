//! Gradients of the operators of transformers, and of whole small ones, against finite differences.

use candle_core::{DType, Device, Tensor, Var};
use lvmed::nn::attention::attention;
use lvmed::nn::backbone::family::Family;
use lvmed::nn::backbone::sam_vit::Layout;
use lvmed::nn::gelu::gelu;
use lvmed::nn::kernel::draw::normal;
use lvmed::nn::layer_norm::layer_norm;
use lvmed::nn::{Encoder, Mode, Params, Tensors, lora};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::tensors::doubles;

/// Step of the central differences.
const STEP: f64 = 1e-5;
/// Relative difference allowed, in 64-bit arithmetic.
const TOLERANCE: f64 = 1e-7;

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let values = normal(&mut StdRng::seed_from_u64(seed), shape.iter().product(), 0.7);
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
    tensor.and_then(|tensor| tensor.to_dtype(DType::F64)).expect("a tensor")
}

fn variable(shape: &[usize], seed: u64) -> Var {
    Var::from_tensor(&tensor(shape, seed)).expect("a variable")
}

/// A loss that weighs every output differently, so that no gradient can hide in a sum.
fn weigh(out: &Tensor) -> Tensor {
    let weights = tensor(out.dims(), 77);
    (out * weights).and_then(|weighed| weighed.sum_all()).expect("a loss")
}

/// Compares a gradient with central differences at every position, or at some of them.
fn compare(name: &str, variable: &Var, found: &Tensor, every: usize, loss: impl Fn() -> f64) {
    let start = doubles(variable);
    let set = |moved: Vec<f64>| {
        let moved = Tensor::from_vec(moved, variable.shape(), &Device::Cpu).expect("a tensor");
        variable.set(&moved).expect("set");
    };
    for (position, found) in doubles(found).into_iter().enumerate().step_by(every) {
        let at = |shift: f64| {
            let mut moved = start.clone();
            moved[position] += shift;
            set(moved);
            loss()
        };
        let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let scale = expected.abs().max(found.abs()).max(1.0);
        assert!(
            (expected - found).abs() <= TOLERANCE * scale,
            "{name}, position {position}: {found}, by differences {expected}"
        );
    }
    set(start);
}

fn check(variables: &[&Var], forward: impl Fn() -> Tensor) {
    let grads = weigh(&forward()).backward().expect("gradients");
    for (which, variable) in variables.iter().enumerate() {
        let found = grads.get(variable).expect("every variable has a gradient");
        let loss = || weigh(&forward()).to_scalar::<f64>().expect("a number");
        compare(&format!("variable {which}"), variable, found, 1, loss);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layer_normalisation_of_any_shape(
        rows in 1_usize..5, size in 2_usize..40, seed in 0_u64..1000,
    ) {
        let x = variable(&[2, rows, size], seed);
        let (weight, bias) = (variable(&[size], seed + 1), variable(&[size], seed + 2));
        check(&[&x, &weight, &bias], || layer_norm(&x, &weight, &bias, 1e-6).expect("normalised"));
    }

    #[test]
    fn attention_over_maps_of_any_shape(
        images in 1_usize..3, height in 1_usize..4, width in 1_usize..5,
        heads in 1_usize..3, size in 1_usize..5, seed in 0_u64..1000,
    ) {
        let qkv = variable(&[images, height, width, 3 * heads * size], seed);
        let down = variable(&[2 * height - 1, size], seed + 1);
        let across = variable(&[2 * width - 1, size], seed + 2);
        check(&[&qkv, &down, &across], || {
            attention(&qkv, &down, &across, heads).expect("attended")
        });
    }
}

#[test]
fn gelu_and_its_gradient() {
    let x = variable(&[5, 37], 1);
    check(&[&x], || gelu(&x).expect("activated"));
    let x = Tensor::new(&[-3.0_f64, -1.0, 0.0, 0.5, 2.0], &Device::Cpu).expect("a tensor");
    // x Φ(x) from tables of the normal distribution.
    let expected = [
        -3.0 * 0.001_349_898_031_630_095,
        -0.158_655_253_931_457_05,
        0.0,
        0.5 * 0.691_462_461_274_013_1,
        2.0 * 0.977_249_868_051_820_8,
    ];
    for (found, expected) in doubles(&gelu(&x).expect("activated")).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
    }
}

fn small(window: usize, grid: usize) -> Layout {
    Layout {
        patch: 4,
        channels: 6,
        depth: 2,
        heads: 2,
        hidden: 10,
        window,
        global: &[1],
        grid,
        neck: 4,
        ..Layout::BASE
    }
}

fn weights(layout: &Layout, rank: Option<usize>) -> Tensors {
    let mut random = StdRng::seed_from_u64(3);
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = normal(&mut random, shape.iter().product(), 0.5);
        (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"))
    };
    let mut tensors: Tensors = layout.tensors().into_iter().map(tensor).collect();
    if let Some(rank) = rank {
        lora::insert(&mut tensors, rank, 4).expect("factors");
        for (_, up) in tensors.iter_mut().filter(|(name, _)| name.ends_with("lora_b")) {
            let values = normal(&mut random, up.elem_count(), 0.5);
            *up = Tensor::from_vec(values, up.shape(), &Device::Cpu).expect("a tensor");
        }
    }
    tensors
}

/// A whole transformer, embedding and feature map, cut before its last block or not at all.
fn check_network(window: usize, grid: usize, (height, width): (usize, usize), stages: usize) {
    let layout = small(window, grid);
    let tensors = weights(&layout, Some(2));
    let params = Params::new(&tensors, DType::F64, &Device::Cpu).expect("parameters");
    let network = Encoder::from(layout.build(&params, Some(3.0)).expect("it fits"));
    let images = tensor(&[2, 3, height, width], 5);
    let loss = || {
        let tokens = network.trunk(&images, stages, Mode::Train).expect("tokens");
        let features = network.tail(&tokens, stages, Mode::Train).expect("features");
        (weigh(&features.embedding) + weigh(&features.feature_map)).expect("a loss")
    };

    let found = network.backward(&loss(), &params).expect("gradients");

    assert_eq!(found.len(), tensors.len());
    for (name, variable) in params.trainable() {
        let gradient = found.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
        let every = variable.elem_count().div_ceil(6);
        compare(name, variable, gradient, every, || loss().to_scalar::<f64>().expect("a number"));
    }
}

#[test]
fn a_transformer_whose_windows_do_not_fit_its_map() {
    check_network(3, 5, (16, 20), 0);
}

#[test]
fn a_transformer_cut_before_its_last_block() {
    check_network(2, 3, (8, 12), 1);
}
