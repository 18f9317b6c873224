//! Pooling and upsampling of any shape.

use lvmed::nn::pool::{Border, Window, average_pool2d, max_pool2d};
use lvmed::nn::upsample::{Interpolation, upsample};
use proptest::prelude::*;

use super::{check, variable};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pooling_of_any_shape(
        planes in 1_usize..4, height in 3_usize..8, width in 3_usize..8,
        kernel in 2_usize..4, stride in 1_usize..4, seed in 0_u64..1000,
    ) {
        let x = variable(&[1, planes, height, width], seed);
        check(&[&x], || max_pool2d(&x, kernel, stride, kernel / 2).expect("pooled"));
    }

    #[test]
    fn average_pooling_of_any_shape(
        images in 1_usize..3, planes in 1_usize..3, height in 3_usize..8, width in 3_usize..8,
        size in (1_usize..4, 1_usize..4), stride in (1_usize..4, 1_usize..4), seed in 0_u64..1000,
    ) {
        let x = variable(&[images, planes, height, width], seed);
        for border in [Border::Counted, Border::LeftOut] {
            let window = Window { size, stride, padding: (size.0 / 2, size.1 / 2), border };
            check(&[&x], || average_pool2d(&x, window).expect("pooled"));
        }
    }

    #[test]
    fn upsampling_to_any_size(
        images in 1_usize..3, planes in 1_usize..3, from in (1_usize..5, 1_usize..5),
        to in (1_usize..9, 1_usize..9), seed in 0_u64..1000,
    ) {
        let x = variable(&[images, planes, from.0, from.1], seed);
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            check(&[&x], || upsample(&x, to, interpolation).expect("resampled"));
        }
    }
}
