//! Batch normalisation, alone and fused with the convolution before it.

use candle_core::{Tensor, Var};
use lvmed::nn::Mode;
use lvmed::nn::batch_norm::BatchNorm;
use lvmed::nn::conv::conv2d;
use lvmed::nn::conv_norm::{Activation, conv_norm};
use lvmed::nn::ops::relu;
use proptest::prelude::*;

use super::{check, values, variable, weigh};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fused_convolution_and_normalisation_of_any_shape(
        images in 1_usize..6, channels in 1_usize..3, outputs in 1_usize..4,
        height in 3_usize..7, width in 3_usize..7, kernel in 1_usize..4,
        stride in 1_usize..3, seed in 0_u64..1000,
    ) {
        let x = variable(&[images, channels, height, width], seed);
        let weight = variable(&[outputs, channels, kernel, kernel], seed + 1);
        let (scale, shift) = (variable(&[outputs], seed + 2), variable(&[outputs], seed + 3));
        let norm = || {
            let variance = variable(&[outputs], seed + 5).abs().expect("positive");
            BatchNorm {
                weight: scale.as_tensor().clone(),
                bias: shift.as_tensor().clone(),
                running_mean: variable(&[outputs], seed + 4),
                running_var: Var::from_tensor(&variance).expect("a variable"),
            }
        };
        let shape = (stride, kernel / 2);
        for mode in [Mode::Train, Mode::Frozen] {
            for activation in [Activation::None, Activation::Relu] {
                let (fused, apart) = (norm(), norm());
                let found = conv_norm(&x, &weight, shape, &fused, mode, activation).expect("fused");
                let expected = conv2d(&x, &weight, stride, kernel / 2)
                    .and_then(|z| apart.forward(&z, mode))
                    .and_then(|y| if activation == Activation::Relu { relu(&y) } else { Ok(y) })
                    .expect("apart");
                for (found, expected) in values(&found).iter().zip(values(&expected)) {
                    prop_assert!((found - expected).abs() < 1e-9, "{found} {expected}");
                }
                for (one, other) in [
                    (&fused.running_mean, &apart.running_mean),
                    (&fused.running_var, &apart.running_var),
                ] {
                    for (one, other) in values(one).iter().zip(values(other)) {
                        prop_assert!((one - other).abs() < 1e-9, "{one} {other}");
                    }
                }
                let grads = |out: &Tensor| {
                    let grads = weigh(out).backward().expect("gradients");
                    [&x, &weight, &scale, &shift]
                        .map(|variable| values(grads.get(variable).expect("a gradient")))
                };
                for (one, other) in grads(&found).iter().zip(grads(&expected)) {
                    for (one, other) in one.iter().zip(other) {
                        let scale = one.abs().max(1.0);
                        prop_assert!((one - other).abs() < 1e-8 * scale, "{one} {other}");
                    }
                }
            }
        }
    }
}
