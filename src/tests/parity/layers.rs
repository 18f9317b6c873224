//! Single layers in 64-bit arithmetic: output, and the gradient of every input.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};
use lvmed::nn::Mode;
use lvmed::nn::attention::attention;
use lvmed::nn::batch_norm::BatchNorm;
use lvmed::nn::conv::conv2d;
use lvmed::nn::gelu::gelu;
use lvmed::nn::layer_norm::layer_norm;
use lvmed::nn::loss::cross_entropy;
use lvmed::nn::ops::softmax;
use lvmed::nn::pool::max_pool2d;

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
fn convolution_as_pytorch_has_it() {
    let inputs = [input("x", &[2, 4, 9, 11], 1.0), input("weight", &[8, 4, 3, 2], 1.0)];

    Layers::read().check("conv/1,1,0,0,1,1,1", &inputs, |x| conv2d(x[0], x[1], 1, 0).expect("out"));
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
fn pooling_and_cross_entropy_as_pytorch_has_them() {
    let layers = Layers::read();

    layers
        .check("max_pool", &[input("x", &MAPS, 1.0)], |x| max_pool2d(x[0], 3, 2, 1).expect("out"));
    layers.check("cross_entropy/plain", &[input("logits", &[6, 4], 3.0)], |x| {
        cross_entropy(x[0], &[0, 1, 2, 3, 0, 1]).expect("out")
    });
}
