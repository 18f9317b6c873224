//! Batch normalisation on either statistics.

use candle_core::Var;
use lvmed::nn::Mode;
use lvmed::nn::batch_norm::BatchNorm;
use proptest::prelude::*;

use super::{check, variable};

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
