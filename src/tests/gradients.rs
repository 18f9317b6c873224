//! Gradients of every own operator against finite differences, and of whole networks: what should
//! train does, what should not does not.

use candle_core::{DType, Device, Tensor, Var};
use lvmed::domain::Architecture;
use lvmed::nn::batch_norm::BatchNorm;
use lvmed::nn::conv::conv2d;
use lvmed::nn::loss::cross_entropy;
use lvmed::nn::ops::{add_relu, linear, relu, softmax};
use lvmed::nn::pool::max_pool2d;
use lvmed::nn::weights::{expected, random};
use lvmed::nn::{Encoder, Mode, Params};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

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

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
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
        let start = values(variable);
        let found = values(grads.get(variable).expect("every variable has a gradient"));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolution_of_any_shape(
        images in 1_usize..3, channels in 1_usize..4, outputs in 1_usize..4,
        height in 3_usize..8, width in 3_usize..8,
        kernel_height in 1_usize..4, kernel_width in 1_usize..4,
        stride in 1_usize..4, padding in 0_usize..3, seed in 0_u64..1000,
    ) {
        let x = variable(&[images, channels, height, width], seed);
        let weight = variable(&[outputs, channels, kernel_height, kernel_width], seed + 1);
        check(&[&x, &weight], || conv2d(&x, &weight, stride, padding).expect("convolved"));
    }

    #[test]
    fn convolution_is_the_sum_over_its_window(
        channels in 1_usize..3, height in 2_usize..7, width in 2_usize..7,
        kernel in 1_usize..3, stride in 1_usize..3, padding in 0_usize..2, seed in 0_u64..1000,
    ) {
        let x = variable(&[1, channels, height, width], seed);
        let weight = variable(&[2, channels, kernel, kernel], seed + 1);
        let out = conv2d(&x, &weight, stride, padding).expect("convolved");
        let (_, outputs, out_height, out_width) = out.dims4().expect("four dimensions");
        let (x, w) = (values(&x), values(&weight));
        let mut expected = Vec::new();
        for output in 0..outputs {
            for row in 0..out_height {
                for column in 0..out_width {
                    let mut sum = 0.0;
                    for channel in 0..channels {
                        for i in 0..kernel {
                            for j in 0..kernel {
                                let (y, z) = (row * stride + i, column * stride + j);
                                let inside = y >= padding && z >= padding
                                    && y - padding < height && z - padding < width;
                                if inside {
                                    let from = (channel * height + y - padding) * width + z - padding;
                                    let tap = ((output * channels + channel) * kernel + i) * kernel + j;
                                    sum += x[from] * w[tap];
                                }
                            }
                        }
                    }
                    expected.push(sum);
                }
            }
        }
        for (found, expected) in values(&out).iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn pooling_of_any_shape(
        planes in 1_usize..4, height in 3_usize..8, width in 3_usize..8,
        kernel in 2_usize..4, stride in 1_usize..4, seed in 0_u64..1000,
    ) {
        let x = variable(&[1, planes, height, width], seed);
        check(&[&x], || max_pool2d(&x, kernel, stride, kernel / 2).expect("pooled"));
    }

    #[test]
    fn batch_normalisation_of_any_shape(
        images in 1_usize..4, channels in 1_usize..4, side in 2_usize..5, seed in 0_u64..1000,
    ) {
        let x = variable(&[images, channels, side, side + 1], seed);
        let (weight, bias) = (variable(&[channels], seed + 1), variable(&[channels], seed + 2));
        let norm = |mode| {
            let (mean, variance) = (variable(&[channels], seed + 3), variable(&[channels], seed + 4));
            let variance = Var::from_tensor(&variance.abs().expect("positive")).expect("a variable");
            let norm = BatchNorm {
                weight: weight.as_tensor().clone(),
                bias: bias.as_tensor().clone(),
                running_mean: mean,
                running_var: variance,
            };
            norm.forward(&x, mode).expect("normalised")
        };
        check(&[&x, &weight, &bias], || norm(Mode::Train));
        check(&[&x, &weight, &bias], || norm(Mode::Frozen));
    }
}

#[test]
fn small_operators() {
    let (x, weight, bias) = (variable(&[3, 5], 1), variable(&[4, 5], 2), variable(&[4], 3));

    check(&[&x, &weight, &bias], || linear(&x, &weight, &bias).expect("linear"));
    check(&[&x], || softmax(&x).expect("softmax"));
    check(&[&x], || relu(&x).expect("relu"));
    let y = variable(&[3, 5], 4);
    check(&[&x, &y], || add_relu(&x, &y).expect("a sum"));
    check(&[&x], || cross_entropy(&x, &[0, 4, 2]).expect("a loss").reshape(1).expect("one value"));
}

#[test]
fn the_derivative_of_relu_at_zero_is_zero() {
    let x = Var::new(&[0.0_f64, -1.0, 2.0], &Device::Cpu).expect("a tensor");

    let grads = relu(&x).and_then(|y| y.sum_all()).and_then(|y| y.backward()).expect("gradients");

    assert_eq!(values(grads.get(&x).expect("a gradient")), [0.0, 0.0, 1.0]);
}

#[test]
fn one_step_moves_every_trainable_parameter_and_the_running_statistics_only_in_training() {
    for architecture in [Architecture::Resnet18, Architecture::Resnet50] {
        for mode in [Mode::Train, Mode::Frozen] {
            let start = random(architecture, 1).expect("weights");
            let params = Params::new(&start, DType::F32, &Device::Cpu).expect("parameters");
            let network = Encoder::new(architecture, &params).expect("a network");
            let mut generator = StdRng::seed_from_u64(2);
            let input: Vec<f32> =
                (0..2 * 3 * 64 * 64).map(|_| generator.random_range(-1.0..1.0)).collect();
            let input = Tensor::from_vec(input, (2, 3, 64, 64), &Device::Cpu).expect("a batch");

            let out = network.forward(&input, mode).expect("features").embedding;
            let loss = out.sqr().and_then(|out| out.mean_all()).expect("a loss");
            let grads = network.backward(&loss, &params).expect("gradients");

            assert_eq!(params.trainable().count(), expected(architecture).len() * 3 / 5);
            for (name, _) in params.trainable() {
                let gradient = grads.get(name).unwrap_or_else(|| panic!("{name} has none"));
                let size = gradient.abs().and_then(|g| g.sum_all()).expect("a sum");
                let size = size.to_scalar::<f32>().expect("a number");
                assert!(size > 0.0 && size.is_finite(), "{architecture} {mode:?} {name}: {size}");
            }
            let after = params.snapshot().expect("values");
            for (name, before) in start.iter().filter(|(name, _)| name.contains("running_")) {
                let moved = (before - &after[name]).and_then(|d| d.abs()).and_then(|d| d.sum_all());
                let moved = moved.expect("a sum").to_scalar::<f32>().expect("a number");
                assert_eq!(moved > 0.0, mode == Mode::Train, "{architecture} {mode:?} {name}");
            }
        }
    }
}

#[test]
fn results_are_the_same_on_any_number_of_threads() {
    let run = |threads: usize| {
        lvmed::nn::with_threads(threads, || {
            let start = random(Architecture::Resnet18, 1).expect("weights");
            let params = Params::new(&start, DType::F32, &Device::Cpu).expect("parameters");
            let network = Encoder::new(Architecture::Resnet18, &params).expect("a network");
            let mut generator = StdRng::seed_from_u64(2);
            let input: Vec<f32> =
                (0..4 * 3 * 64 * 64).map(|_| generator.random_range(-1.0..1.0)).collect();
            let input = Tensor::from_vec(input, (4, 3, 64, 64), &Device::Cpu).expect("a batch");
            let out = network.forward(&input, Mode::Train).expect("features").embedding;
            let loss = out.sqr().and_then(|out| out.mean_all()).expect("a loss");
            let grads = network.backward(&loss, &params).expect("gradients");
            params
                .trainable()
                .flat_map(|(name, _)| {
                    let gradient = grads.get(name).expect("a gradient").flatten_all();
                    gradient.and_then(|flat| flat.to_vec1::<f32>()).expect("values")
                })
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        })
        .expect("threads")
    };

    assert!(run(1) == run(2), "gradients differ between one and two threads");
}
