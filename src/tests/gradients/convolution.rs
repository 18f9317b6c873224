//! Convolutions of any shape against finite differences and against the sum that defines them.

use candle_core::Tensor;
use lvmed::nn::conv::{ConvSettings, conv2d, convolve};
use proptest::prelude::*;

use super::{check, variable};
use crate::tensors::doubles;

/// The sum over the window, one output after the other.
fn by_definition(x: &Tensor, weight: &Tensor, settings: &ConvSettings) -> Vec<f64> {
    let (images, channels, height, width) = x.dims4().expect("four dimensions");
    let (outputs, inner, kernel_height, kernel_width) = weight.dims4().expect("four dimensions");
    let ConvSettings { stride, padding, dilation, groups } = *settings;
    let place = |out: usize, tap: usize, size: usize, stride: usize, padding: usize, gap: usize| {
        (out * stride + tap * gap).checked_sub(padding).filter(|place| *place < size)
    };
    let count = |size: usize, kernel: usize, stride: usize, padding: usize, gap: usize| {
        (size + 2 * padding - gap * (kernel - 1) - 1) / stride + 1
    };
    let rows = count(height, kernel_height, stride.0, padding.0, dilation.0);
    let columns = count(width, kernel_width, stride.1, padding.1, dilation.1);
    let (x, w) = (doubles(x), doubles(weight));
    let at = |image: usize, output: usize, row: usize, column: usize| {
        let first = output / (outputs / groups) * inner;
        let mut sum = 0.0;
        for channel in 0..inner {
            for i in 0..kernel_height {
                for j in 0..kernel_width {
                    let y = place(row, i, height, stride.0, padding.0, dilation.0);
                    let z = place(column, j, width, stride.1, padding.1, dilation.1);
                    let (Some(y), Some(z)) = (y, z) else { continue };
                    let from = ((image * channels + first + channel) * height + y) * width + z;
                    let tap = ((output * inner + channel) * kernel_height + i) * kernel_width + j;
                    sum += x[from] * w[tap];
                }
            }
        }
        sum
    };
    let mut out = Vec::new();
    for image in 0..images {
        for output in 0..outputs {
            for row in 0..rows {
                out.extend((0..columns).map(|column| at(image, output, row, column)));
            }
        }
    }
    out
}

#[test]
fn a_kernel_that_does_not_fit_and_uneven_groups_are_refused() {
    let (x, weight) = (variable(&[1, 4, 3, 3], 1), variable(&[4, 2, 3, 3], 2));
    let refusal =
        |settings: ConvSettings| convolve(&x, &weight, &settings).expect_err("refused").to_string();
    let grouped = ConvSettings { groups: 2, ..ConvSettings::square(1, 0) };

    let refused = refusal(ConvSettings { dilation: (2, 1), ..grouped });
    assert!(refused.contains("3x3 kernel") && refused.contains("does not fit 3x3"), "{refused}");
    let refused = refusal(ConvSettings { stride: (0, 1), ..grouped });
    assert!(refused.contains("does not fit"), "{refused}");
    let refused = refusal(ConvSettings::square(1, 0));
    assert!(refused.contains("1 groups over 2 channels each"), "{refused}");
    assert!(convolve(&x, &weight, &grouped).is_ok());
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
    fn convolution_in_groups_with_gaps_and_uneven_strides(
        images in 1_usize..3, inner in 1_usize..3, outer in 1_usize..3, groups in 1_usize..4,
        height in 5_usize..8, width in 5_usize..8, kernel in (1_usize..4, 1_usize..4),
        stride in (1_usize..4, 1_usize..4), padding in (0_usize..3, 0_usize..3),
        dilation in (1_usize..3, 1_usize..3), seed in 0_u64..1000,
    ) {
        let settings = ConvSettings { stride, padding, dilation, groups };
        let x = variable(&[images, inner * groups, height, width], seed);
        let weight = variable(&[outer * groups, inner, kernel.0, kernel.1], seed + 1);
        check(&[&x, &weight], || convolve(&x, &weight, &settings).expect("convolved"));

        let out = convolve(&x, &weight, &settings).expect("convolved");
        let expected = by_definition(&x, &weight, &settings);
        prop_assert_eq!(out.elem_count(), expected.len());
        for (found, expected) in doubles(&out).iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-12, "{} {}", found, expected);
        }
    }

    #[test]
    fn convolution_is_the_sum_over_its_window(
        channels in 1_usize..3, height in 2_usize..7, width in 2_usize..7,
        kernel in 1_usize..3, stride in 1_usize..3, padding in 0_usize..2, seed in 0_u64..1000,
    ) {
        let x = variable(&[1, channels, height, width], seed);
        let weight = variable(&[2, channels, kernel, kernel], seed + 1);
        let out = conv2d(&x, &weight, stride, padding).expect("convolved");
        let expected = by_definition(&x, &weight, &ConvSettings::square(stride, padding));
        prop_assert_eq!(out.elem_count(), expected.len());
        for (found, expected) in doubles(&out).iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-12);
        }
    }
}
