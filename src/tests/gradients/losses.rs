//! Losses against finite differences and against PyTorch's numbers.

use candle_core::{Device, Result, Tensor, Var};
use lvmed::nn::loss::{
    CrossEntropy, DiceAndCrossEntropy, Focal, binary_cross_entropy, binary_focal, cross_entropy,
};
use proptest::prelude::*;

use super::{check, variable};
use crate::tensors::doubles;

fn ids(values: &[u32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).expect("targets")
}

/// A scalar as the one value that the finite differences weigh.
fn one(loss: Result<Tensor>) -> Tensor {
    loss.and_then(|loss| loss.reshape(1)).expect("a loss")
}

/// Soft targets whose rows sum to 1.
fn soft(rows: usize, classes: usize, seed: u64) -> Tensor {
    let raw = variable(&[rows, classes], seed).abs().and_then(|raw| raw + 0.1).expect("above 0");
    raw.broadcast_div(&raw.sum_keepdim(1).expect("sums")).expect("shares").detach()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn losses_of_any_shape(
        rows in 1_usize..5, classes in 2_usize..5, smoothing in 0.0..0.5_f64,
        gamma in 0.0..3.0_f64, seed in 0_u64..1000,
    ) {
        let logits = variable(&[rows, classes], seed);
        let targets: Vec<u32> = (0..rows).map(|at| ((at * 7 + 1) % classes) as u32).collect();
        let targets = ids(&targets, &[rows]);
        let weights: Vec<f64> = (0..classes).map(|class| 0.5 + class as f64).collect();
        let shares = soft(rows, classes, seed + 1);
        for class_weights in [None, Some(weights.clone())] {
            let entropy = CrossEntropy { class_weights: class_weights.clone(), smoothing };
            check(&[&logits], || one(entropy.of(&logits, &targets)));
            check(&[&logits], || one(entropy.of_soft(&logits, &shares)));
            let focal = Focal { gamma, class_weights };
            check(&[&logits], || one(focal.of(&logits, &targets)));
        }
        let answers = shares.ge(0.4).expect("answers");
        for positive_weights in [None, Some(&weights[..])] {
            check(&[&logits], || one(binary_cross_entropy(&logits, &shares, positive_weights)));
        }
        for alpha in [None, Some(0.25)] {
            check(&[&logits], || one(binary_focal(&logits, &answers, gamma, alpha)));
        }
    }

    #[test]
    fn segmentation_losses_of_any_shape(
        images in 1_usize..3, classes in 2_usize..4, height in 1_usize..4, width in 1_usize..5,
        first_class in 0_usize..2, seed in 0_u64..1000,
    ) {
        let logits = variable(&[images, classes, height, width], seed);
        let count = images * height * width;
        let targets: Vec<u32> = (0..count).map(|at| ((at * 5 + 2) % classes) as u32).collect();
        let targets = ids(&targets, &[images, height, width]);
        let weights: Vec<f64> = (0..classes).map(|class| 0.5 + class as f64).collect();
        let loss = DiceAndCrossEntropy {
            first_class,
            dice_weight: 0.7,
            cross_entropy: CrossEntropy { class_weights: Some(weights), smoothing: 0.1 },
            ..DiceAndCrossEntropy::default()
        };
        check(&[&logits], || one(loss.of(&logits, &targets)));
        check(&[&logits], || one(Focal::default().of(&logits, &targets)));
    }
}

#[test]
fn the_gradient_of_the_plain_cross_entropy() {
    let logits = variable(&[3, 5], 1);

    check(&[&logits], || one(cross_entropy(&logits, &[0, 4, 2])));
}

/// Logits and targets of the comparison with PyTorch.
fn example() -> (Var, Tensor, Tensor) {
    let logits = [[2.0_f64, -1.0, 0.5], [0.0, 3.0, 1.0], [-0.5, 0.25, 0.75], [1.0, 1.0, -2.0]];
    let shares = [[0.7_f64, 0.3, 0.0], [0.0, 0.2, 0.8], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]];
    (
        Var::new(&logits, &Device::Cpu).expect("logits"),
        ids(&[0, 2, 1, 2], &[4]),
        Tensor::new(&shares, &Device::Cpu).expect("shares"),
    )
}

/// The loss and the second row of its gradient are those given, to 1e-11.
fn expect(logits: &Var, loss: Result<Tensor>, expected: f64, row: [f64; 3]) {
    let loss = loss.expect("a loss");
    let found = loss.to_scalar::<f64>().expect("a number");
    assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    let grads = loss.backward().expect("gradients");
    let gradient = doubles(grads.get(logits).expect("a gradient"));
    for (found, expected) in gradient[3..6].iter().zip(row) {
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }
}

#[test]
fn cross_entropies_are_those_of_pytorch() {
    // torch 2.9.1, `torch.nn.functional.cross_entropy` in 64 bits.
    let (logits, targets, shares) = example();
    let settings = |weighted: bool, smoothing| CrossEntropy {
        class_weights: weighted.then(|| vec![0.5, 1.0, 2.0]),
        smoothing,
    };
    let hard = |weighted, smoothing| settings(weighted, smoothing).of(&logits, &targets);
    let soft = |weighted, smoothing| settings(weighted, smoothing).of_soft(&logits, &shares);

    let row = [0.010_502_516_534, 0.210_948_683_620, -0.221_451_200_154];
    expect(&logits, hard(false, 0.0), 1.816_768_709_323, row);
    let row = [0.002_169_183_200, 0.202_615_350_287, -0.204_784_533_487];
    expect(&logits, hard(false, 0.1), 1.798_018_709_323, row);
    let row = [0.015_276_387_685, 0.306_834_448_902, -0.322_110_836_587];
    expect(&logits, hard(true, 0.0), 2.369_818_386_761, row);
    let row = [0.011_609_568_501, 0.287_989_074_137, -0.299_598_642_639];
    expect(&logits, hard(true, 0.1), 2.283_198_741_603, row);
    let row = [0.010_502_516_534, 0.160_948_683_620, -0.171_451_200_154];
    expect(&logits, soft(false, 0.0), 1.754_268_709_323, row);
    let row = [0.002_169_183_200, 0.157_615_350_287, -0.159_784_533_487];
    expect(&logits, soft(false, 0.1), 1.741_768_709_323, row);
    let row = [0.018_904_529_760, 0.329_707_630_517, -0.348_612_160_277];
    expect(&logits, soft(true, 0.0), 2.373_388_216_850, row);
    let row = [0.014_072_703_713, 0.313_014_213_887, -0.327_086_917_601];
    expect(&logits, soft(true, 0.1), 2.342_797_411_253, row);
}

#[test]
fn binary_cross_entropies_are_those_of_pytorch() {
    // torch 2.9.1, `binary_cross_entropy_with_logits` in 64 bits.
    let (logits, _, _) = example();
    let targets = [[1.0_f64, 0.0, 0.5], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    let targets = Tensor::new(&targets, &Device::Cpu).expect("targets");

    let row = [0.041_666_666_667, -0.003_952_156_098, -0.022_411_785_114];
    expect(&logits, binary_cross_entropy(&logits, &targets, None), 0.825_800_141_554, row);
    let row = [0.041_666_666_667, -0.003_952_156_098, -0.044_823_570_228];
    let weights = Some(&[0.5, 1.0, 2.0][..]);
    expect(&logits, binary_cross_entropy(&logits, &targets, weights), 1.003_027_282_641, row);
}
