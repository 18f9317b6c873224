//! Networks: embedding, loss and every gradient, small ones and those of full size.

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::backbone::family::Family;
use lvmed::nn::backbone::sam_vit::Layout;
use lvmed::nn::loss::cross_entropy;
use lvmed::nn::ops::linear;
use lvmed::nn::optim::{Group, Groups, Kind, Optimiser, Settings};
use lvmed::nn::{Encoder, Gradients, Mode, Params};

use super::draw::{draw, weights};
use super::fixture::{Network, Pictures, read};

/// Relative difference allowed in 32-bit arithmetic; what was written down has 64.
const SINGLE: f64 = 1e-4;
/// Relative difference allowed in 64-bit arithmetic.
const DOUBLE: f64 = 1e-9;
/// As in the script.
const LEARNING_RATE: f64 = 1e-3;
const EPSILON: f64 = 1e-2;

/// A network, its parameters with a head of three classes, and the pictures that it is shown.
pub(super) struct Subject {
    params: Params,
    network: Encoder,
    images: Tensor,
    mode: Mode,
}

impl Subject {
    /// A network over parameters with a head, and the pictures that it is shown.
    pub(super) fn new(
        (params, network): (Params, Encoder),
        pictures: &Pictures,
        dtype: DType,
        mode: Mode,
    ) -> Self {
        Self { params, network, images: pictures.draw(dtype), mode }
    }

    fn of(architecture: Architecture, mode: Mode, wanted: &Network, dtype: DType) -> Self {
        let params = parameters(architecture.tensors(), architecture.embedding_size(), dtype);
        let network = Encoder::new(architecture, &params).expect("a network");
        Self { params, network, images: wanted.pictures.draw(dtype), mode }
    }

    fn small_vit(wanted: &Network, dtype: DType) -> Self {
        let layout = Layout {
            patch: 8,
            channels: 24,
            depth: 3,
            heads: 3,
            hidden: 40,
            window: 3,
            global: &[1],
            grid: 6,
            neck: 16,
            ..Layout::BASE
        };
        let params = parameters(layout.tensors(), layout.channels, dtype);
        let network = layout.build(&params, None).expect("a network").into();
        Self { params, network, images: wanted.pictures.draw(dtype), mode: Mode::Train }
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
    pub(super) fn assert_is(&self, wanted: &Network, tolerance: f64) {
        let before = self.params.snapshot().expect("values");
        let features = self.network.forward(&self.images, self.mode).expect("features");
        // Running statistics have followed; the gradients are taken from where they were.
        self.params.restore(&before).expect("set");
        wanted.embedding.assert_is("embedding", &features.embedding, tolerance);
        if let Some(map) = &wanted.feature_map {
            map.assert_is("feature map", &features.feature_map, tolerance);
        }
        let (loss, gradients) = self.gradients();
        self.params.restore(&before).expect("set");
        assert!((loss - wanted.loss).abs() <= tolerance * wanted.loss, "{loss} {}", wanted.loss);
        let names: Vec<&str> = gradients.iter().map(|(name, _)| name).collect();
        assert!(wanted.gradients.keys().eq(names), "other parameters have a gradient");
        for (name, gradient) in gradients.iter() {
            // The gradient of the keys' part of the bias is zero but for rounding.
            wanted.gradients[name].assert_is(name, gradient, tolerance);
        }
    }
}

impl Subject {
    /// Three steps with an optimiser: the losses before them, and the weights after them.
    pub(super) fn assert_steps(&self, wanted: &Network, name: &str, tolerance: f64) {
        let kind = match name {
            "adamw" => Kind::AdamW,
            "adam" => Kind::Adam,
            _ => Kind::Sgd,
        };
        let weight_decay = if kind == Kind::AdamW { 0.01 } else { 0.0 };
        let settings = Settings { kind, epsilon: EPSILON, weight_decay, ..Settings::default() };
        // PyTorch decays every parameter alike.
        let groups = Groups::by(|_, _| Group { rate: 1.0, decay: 1.0 });
        let mut optimiser = Optimiser::new(settings, groups);
        let wanted = &wanted.steps[name];
        // A loss that training has made small keeps the rounding of the logits it came from.
        let scale = wanted.losses[0];
        for wanted in &wanted.losses {
            let (loss, gradients) = self.gradients();
            assert!((loss - wanted).abs() <= tolerance * scale, "{name}: {loss} {wanted}");
            optimiser.step(&self.params, &gradients, LEARNING_RATE).expect("a step");
        }
        for (parameter, weights) in &wanted.weights {
            let found = self.params.get(parameter).expect("a parameter");
            weights.assert_is(&format!("{name}: {parameter}"), found, tolerance);
        }
    }
}

pub(super) fn parameters(
    mut shapes: std::collections::BTreeMap<String, Vec<usize>>,
    features: usize,
    dtype: DType,
) -> Params {
    shapes.insert("fc.weight".to_owned(), vec![3, features]);
    shapes.insert("fc.bias".to_owned(), vec![3]);
    Params::new(&weights(&shapes), dtype, &Device::Cpu).expect("parameters")
}

impl Pictures {
    fn draw(&self, dtype: DType) -> Tensor {
        draw(&self.name, &self.shape, 1.0, 0.0).to_dtype(dtype).expect("pictures")
    }
}

#[test]
fn a_small_transformer_computes_what_pytorch_does() {
    let wanted: Network = read("small_vit");

    for (dtype, tolerance) in [(DType::F64, DOUBLE), (DType::F32, SINGLE)] {
        Subject::small_vit(&wanted, dtype).assert_is(&wanted, tolerance);
        for optimiser in ["adamw", "adam", "sgd"] {
            Subject::small_vit(&wanted, dtype).assert_steps(&wanted, optimiser, tolerance);
        }
    }
}

#[test]
fn resnet18_computes_what_pytorch_does_on_either_statistics() {
    for (name, mode) in [("resnet18_train", Mode::Train), ("resnet18_frozen", Mode::Frozen)] {
        let wanted: Network = read(name);

        let subject = Subject::of(Architecture::RESNET18, mode, &wanted, DType::F32);
        subject.assert_is(&wanted, SINGLE);
        for optimiser in wanted.steps.keys() {
            subject.assert_steps(&wanted, optimiser, SINGLE);
        }
    }
}

#[test]
fn resnet50_computes_what_pytorch_does() {
    let wanted: Network = read("resnet50");
    let subject = Subject::of(Architecture::RESNET50, Mode::Frozen, &wanted, DType::F32);

    subject.assert_is(&wanted, SINGLE);
}

#[test]
fn sam_vit_b_computes_what_pytorch_does() {
    let wanted: Network = read("sam_vit_b");
    let subject = Subject::of(Architecture::SAM_VIT_B, Mode::Frozen, &wanted, DType::F32);

    subject.assert_is(&wanted, SINGLE);
}
