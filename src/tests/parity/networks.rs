//! Networks: embedding, loss and every gradient, small ones and those of full size.

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::loss::cross_entropy;
use lvmed::nn::ops::linear;
use lvmed::nn::weights::expected;
use lvmed::nn::{Encoder, Gradients, Mode, Params, Vit, vit};

use super::draw::{draw, weights};
use super::fixture::{Network, read};

/// Relative difference allowed in 32-bit arithmetic; what was written down has 64.
const SINGLE: f64 = 1e-4;
/// Relative difference allowed in 64-bit arithmetic.
const DOUBLE: f64 = 1e-9;

/// A network, its parameters with a head of three classes, and the pictures that it is shown.
struct Subject {
    params: Params,
    network: Encoder,
    images: Tensor,
    mode: Mode,
}

impl Subject {
    fn of(architecture: Architecture, mode: Mode, images: usize, dtype: DType) -> Self {
        let params = parameters(expected(architecture), architecture.embedding_size(), dtype);
        let network = Encoder::new(architecture, &params).expect("a network");
        Self { params, network, images: pictures(images, dtype), mode }
    }

    fn small_vit(dtype: DType) -> Self {
        let layout = vit::Layout {
            patch: 8,
            channels: 24,
            depth: 3,
            heads: 3,
            hidden: 40,
            window: 3,
            global: vec![1],
            grid: 6,
            neck: 16,
        };
        let params = parameters(layout.tensors(), layout.channels, dtype);
        let network = Encoder::Vit(Vit::new(&layout, &params).expect("a network"));
        Self { params, network, images: pictures(4, dtype), mode: Mode::Train }
    }

    /// The loss of the drawn pictures, labelled 0, 1, 2, 0 and so on, and its gradients.
    fn gradients(&self) -> (f64, Gradients) {
        let features = self.network.forward(&self.images, self.mode).expect("features");
        let head = |name| self.params.tensor(name).expect("the head");
        let logits = linear(&features.embedding, &head("fc.weight"), &head("fc.bias"));
        let count = self.images.dim(0).expect("a batch") as u32;
        let labels: Vec<u32> = (0..count).map(|at| at % 3).collect();
        let loss = cross_entropy(&logits.expect("logits"), &labels).expect("a loss");
        let gradients = self.network.backward(&loss, &self.params).expect("gradients");
        let loss = loss.to_dtype(DType::F64).and_then(|loss| loss.to_scalar()).expect("a number");
        (loss, gradients)
    }

    /// Embedding, loss and every gradient.
    fn assert_is(&self, wanted: &Network, tolerance: f64) {
        let before = self.params.snapshot().expect("values");
        let features = self.network.forward(&self.images, self.mode).expect("features");
        // Running statistics have followed; the gradients are taken from where they were.
        self.params.restore(&before).expect("set");
        wanted.embedding.assert_is("embedding", &features.embedding, tolerance);
        if let Some(map) = &wanted.feature_map {
            map.assert_is("feature map", &features.feature_map, tolerance);
        }
        let (loss, gradients) = self.gradients();
        assert!((loss - wanted.loss).abs() <= tolerance * wanted.loss, "{loss} {}", wanted.loss);
        let names: Vec<&str> = gradients.iter().map(|(name, _)| name).collect();
        assert!(wanted.gradients.keys().eq(names), "other parameters have a gradient");
        for (name, gradient) in gradients.iter() {
            // The gradient of the keys' part of the bias is zero but for rounding.
            wanted.gradients[name].assert_is(name, gradient, tolerance);
        }
    }
}

fn parameters(
    mut shapes: std::collections::BTreeMap<String, Vec<usize>>,
    features: usize,
    dtype: DType,
) -> Params {
    shapes.insert("fc.weight".to_owned(), vec![3, features]);
    shapes.insert("fc.bias".to_owned(), vec![3]);
    Params::new(&weights(&shapes), dtype, &Device::Cpu).expect("parameters")
}

fn pictures(count: usize, dtype: DType) -> Tensor {
    draw("images", &[count, 3, 64, 64], 1.0, 0.0).to_dtype(dtype).expect("pictures")
}

#[test]
fn a_small_transformer_computes_what_pytorch_does() {
    let wanted: Network = read("small_vit");

    Subject::small_vit(DType::F64).assert_is(&wanted, DOUBLE);
    Subject::small_vit(DType::F32).assert_is(&wanted, SINGLE);
}

#[test]
fn resnet18_computes_what_pytorch_does_on_either_statistics() {
    for (name, mode) in [("resnet18_train", Mode::Train), ("resnet18_frozen", Mode::Frozen)] {
        let subject = Subject::of(Architecture::Resnet18, mode, 4, DType::F32);

        subject.assert_is(&read(name), SINGLE);
    }
}

#[test]
fn resnet50_computes_what_pytorch_does() {
    let subject = Subject::of(Architecture::Resnet50, Mode::Frozen, 2, DType::F32);

    subject.assert_is(&read("resnet50"), SINGLE);
}

#[test]
fn sam_vit_b_computes_what_pytorch_does() {
    let subject = Subject::of(Architecture::SamVitB, Mode::Frozen, 2, DType::F32);

    subject.assert_is(&read("sam_vit_b"), SINGLE);
}
