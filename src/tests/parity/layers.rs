//! Single layers in 64-bit arithmetic: output, and the gradient of every input.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use lvmed::nn::Mode;
use lvmed::nn::attention::attention;
use lvmed::nn::batch_norm::BatchNorm;
use lvmed::nn::conv::{ConvSettings, convolve};
use lvmed::nn::gelu::gelu;
use lvmed::nn::layer_norm::layer_norm;
use lvmed::nn::loss::{
    CrossEntropy, DiceAndCrossEntropy, Focal, binary_cross_entropy, binary_focal,
};
use lvmed::nn::ops::softmax;
use lvmed::nn::pool::{Border, Window, average_pool2d, max_pool2d};
use lvmed::nn::upsample::{Interpolation, upsample};

use super::draw::{draw, exact};
use super::fixture::{Layer, Summary, read};

/// Relative difference allowed.
const TOLERANCE: f64 = 1e-9;

/// The layers that were written down.
struct Layers(BTreeMap<String, serde_json::Value>);

impl Layers {
    fn read() -> Self {
        Self(read("layers"))
    }

    fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let value = self.0.get(name).unwrap_or_else(|| panic!("{name} was not written down"));
        serde_json::from_value(value.clone()).expect("it reads")
    }

    /// Compares a layer's output and the gradients of its inputs, in the order of their names.
    fn check(&self, name: &str, inputs: &[(&str, Var)], layer: impl Fn(&[&Tensor]) -> Tensor) {
        let wanted: Layer = self.get(name);
        let tensors: Vec<&Tensor> = inputs.iter().map(|(_, input)| input.as_tensor()).collect();
        let out = layer(&tensors);
        wanted.out.assert_is(name, &out, TOLERANCE);
        let loss = if out.rank() == 0 {
            out
        } else {
            let weights = exact("weigh", out.dims());
            (out * weights).and_then(|weighed| weighed.sum_all()).expect("a loss")
        };
        let store = loss.backward().expect("gradients");
        assert_eq!(wanted.gradients.len(), inputs.len());
        for (input, variable) in inputs {
            let gradient = store.get(variable).expect("a gradient");
            wanted.gradients[*input].assert_is(&format!("{name}: {input}"), gradient, TOLERANCE);
        }
    }
}

fn input<'a>(name: &'a str, shape: &[usize], scale: f64) -> (&'a str, Var) {
    let tensor = draw(name, shape, scale, 0.0).to_dtype(DType::F64).expect("64 bits");
    (name, Var::from_tensor(&tensor).expect("a variable"))
}

const MAPS: [usize; 4] = [2, 3, 7, 6];

#[test]
fn convolutions_as_pytorch_has_them() {
    let layers = Layers::read();
    for (stride, padding, dilation, groups) in [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 0), (1, 1), 1),
        ((1, 2), (2, 1), (2, 3), 1),
        ((2, 2), (1, 1), (1, 1), 2),
        ((1, 1), (1, 1), (2, 1), 4),
    ] {
        let settings = ConvSettings { stride, padding, dilation, groups };
        let inputs =
            [input("x", &[2, 4, 9, 11], 1.0), input("weight", &[8, 4 / groups, 3, 2], 1.0)];
        let pair = |(rows, columns): (usize, usize)| format!("{rows},{columns}");
        let [stride, padding, dilation] = [stride, padding, dilation].map(pair);
        layers.check(&format!("conv/{stride},{padding},{dilation},{groups}"), &inputs, |x| {
            convolve(x[0], x[1], &settings).expect("out")
        });
    }
}

#[test]
fn batch_normalisation_as_pytorch_has_it() {
    let layers = Layers::read();
    let inputs = [input("x", &MAPS, 1.0), input("weight", &[3], 1.0), input("bias", &[3], 1.0)];
    for (name, mode) in [("train", Mode::Train), ("frozen", Mode::Frozen)] {
        let running = || {
            let variance = draw("variance", &[3], 0.5, 1.0).to_dtype(DType::F64).expect("64 bits");
            (input("mean", &[3], 1.0).1, Var::from_tensor(&variance).expect("a variable"))
        };
        let (running_mean, running_var) = running();
        let statistics = [running_mean.clone(), running_var.clone()];
        layers.check(&format!("batch_norm/{name}"), &inputs, |x| {
            let norm = BatchNorm {
                weight: x[1].clone(),
                bias: x[2].clone(),
                running_mean: running_mean.clone(),
                running_var: running_var.clone(),
            };
            norm.forward(x[0], mode).expect("out")
        });
        if mode == Mode::Train {
            let wanted: [Summary; 2] = layers.get("batch_norm/running");
            for (wanted, found) in wanted.iter().zip(&statistics) {
                wanted.assert_is("running statistics", found, TOLERANCE);
            }
        }
    }
}

#[test]
fn operators_of_transformers_as_pytorch_has_them() {
    let layers = Layers::read();

    let inputs = [input("x", &MAPS, 1.0), input("weight", &[6], 1.0), input("bias", &[6], 1.0)];
    layers.check("layer_norm", &inputs, |x| layer_norm(x[0], x[1], x[2], 1e-6).expect("out"));
    layers.check("gelu", &[input("x", &MAPS, 4.0)], |x| gelu(x[0]).expect("out"));
    layers.check("softmax", &[input("x", &[5, 7], 3.0)], |x| softmax(x[0]).expect("out"));
    let inputs = [
        input("qkv", &[2, 4, 5, 18], 1.0),
        input("down", &[7, 3], 1.0),
        input("across", &[9, 3], 1.0),
    ];
    layers.check("attention", &inputs, |x| attention(x[0], x[1], x[2], 2).expect("out"));
}

#[test]
fn pooling_and_upsampling_as_pytorch_has_them() {
    let layers = Layers::read();
    let inputs = [input("x", &MAPS, 1.0)];

    layers.check("max_pool", &inputs, |x| max_pool2d(x[0], 3, 2, 1).expect("out"));
    for (name, border) in [("counted", Border::Counted), ("left_out", Border::LeftOut)] {
        let window = Window { size: (3, 2), stride: (2, 1), padding: (1, 1), border };
        layers.check(&format!("average_pool/{name}"), &inputs, |x| {
            average_pool2d(x[0], window).expect("out")
        });
    }
    for (height, width) in [(14, 12), (9, 5)] {
        for (name, interpolation) in
            [("nearest", Interpolation::Nearest), ("bilinear", Interpolation::Bilinear)]
        {
            layers.check(&format!("{name}/{height},{width}"), &inputs, |x| {
                upsample(x[0], (height, width), interpolation).expect("out")
            });
        }
    }
}

fn whole_numbers(values: impl Iterator<Item = u32>, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values.collect(), shape, &Device::Cpu).expect("a tensor")
}

/// Class weights of the losses that were written down with some.
const CLASS_WEIGHTS: [f64; 4] = [1.0, 2.0, 0.5, 4.0];

#[test]
fn losses_of_classes_as_pytorch_has_them() {
    let layers = Layers::read();
    let inputs = [input("logits", &[6, 4], 3.0)];
    let labels = whole_numbers((0..6).map(|at| at * 5 % 4), &[6]);

    for (name, weighted, smoothing) in
        [("plain", false, 0.0), ("smooth", false, 0.1), ("weights", true, 0.0), ("both", true, 0.1)]
    {
        let class_weights = weighted.then(|| CLASS_WEIGHTS.to_vec());
        let loss = CrossEntropy { class_weights, smoothing };
        layers.check(&format!("cross_entropy/{name}"), &inputs, |x| {
            loss.of(x[0], &labels).expect("out")
        });
    }
    for (name, weighted) in [("plain", false), ("weights", true)] {
        let class_weights = weighted.then(|| CLASS_WEIGHTS.to_vec());
        let loss = Focal { gamma: 2.0, class_weights };
        layers.check(&format!("focal/{name}"), &inputs, |x| loss.of(x[0], &labels).expect("out"));
    }
    let masks = whole_numbers((0..40).map(|at| at * 7 % 3), &[2, 5, 4]);
    layers.check("dice_and_cross_entropy", &[input("logits", &[2, 3, 5, 4], 2.0)], |x| {
        DiceAndCrossEntropy::default().of(x[0], &masks).expect("out")
    });
}

#[test]
fn losses_of_yes_or_no_questions_as_pytorch_has_them() {
    let layers = Layers::read();
    let inputs = [input("logits", &[6, 4], 3.0)];
    let answers = exact("answers", &[6, 4]).gt(0.0).expect("answers");

    for (name, weights) in [("plain", None), ("weights", Some(CLASS_WEIGHTS.as_slice()))] {
        layers.check(&format!("binary_cross_entropy/{name}"), &inputs, |x| {
            binary_cross_entropy(x[0], &answers, weights).expect("out")
        });
    }
    layers.check("focal/binary", &inputs, |x| {
        binary_focal(x[0], &answers, 2.0, Some(0.25)).expect("out")
    });
}
