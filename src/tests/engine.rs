//! The CPU's engine for residual networks against the same network composed of small operators.

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::backbone::resnet::Layout;
use lvmed::nn::backbone::resnet::network::ResNet;
use lvmed::nn::weights::random;
use lvmed::nn::{Encoder, Gradients, Mode, Params, Tensors};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Largest difference of 64-bit results, relative to the largest value.
const TOLERANCE: f64 = 1e-9;

/// Weights with normalisations that differ from channel to channel, as trained ones do.
fn weights(architecture: Architecture) -> Tensors {
    let mut random_values = StdRng::seed_from_u64(11);
    let start = random(architecture, 3).expect("weights");
    start
        .into_iter()
        .map(|(name, tensor)| {
            if tensor.rank() > 1 {
                return (name, tensor);
            }
            let (low, high) = if name.ends_with("running_mean") || name.ends_with("bias") {
                (-0.3, 0.3)
            } else {
                (0.5, 1.5)
            };
            let values: Vec<f32> =
                (0..tensor.elem_count()).map(|_| random_values.random_range(low..high)).collect();
            (name, Tensor::from_vec(values, tensor.shape(), &Device::Cpu).expect("a tensor"))
        })
        .collect()
}

fn layout(architecture: Architecture) -> &'static Layout {
    architecture.family().as_any().downcast_ref().expect("a residual network")
}

fn pictures(shape: (usize, usize, usize, usize)) -> Tensor {
    let mut random = StdRng::seed_from_u64(2);
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values: Vec<f64> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a batch")
}

/// A loss in which every position and channel counts differently.
fn loss(map: &Tensor, embedding: &Tensor) -> Tensor {
    let weigh = |t: &Tensor| {
        let values: Vec<f64> =
            (0..t.elem_count()).map(|at| ((at * 37 % 101) as f64 / 50.0) - 1.0).collect();
        let weights = Tensor::from_vec(values, t.shape(), &Device::Cpu).expect("weights");
        (t * weights).and_then(|t| t.sum_all()).expect("a sum")
    };
    (weigh(map) + weigh(embedding)).expect("a loss")
}

fn assert_close(one: &Tensor, other: &Tensor, what: &str) {
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f64>()).expect("values");
    let (one, other) = (values(one), values(other));
    assert_eq!(one.len(), other.len(), "{what}");
    let largest = other.iter().fold(1e-12_f64, |largest, value| largest.max(value.abs()));
    for (one, other) in one.iter().zip(&other) {
        let apart = (one - other).abs() / largest;
        assert!(apart <= TOLERANCE, "{what}: {one} and {other}, {apart:.1e} apart");
    }
}

#[test]
fn the_engine_is_the_composed_network_forward_backward_and_in_its_statistics() {
    for (architecture, shape) in
        [(Architecture::RESNET18, (3, 3, 50, 38)), (Architecture::RESNET50, (2, 3, 64, 64))]
    {
        for mode in [Mode::Train, Mode::Frozen] {
            let start = weights(architecture);
            let made = || Params::new(&start, DType::F64, &Device::Cpu).expect("parameters");
            let (params, apart) = (made(), made());
            let engine = Encoder::new(architecture, &params).expect("a network");
            let composed = ResNet::new(layout(architecture), &apart).expect("a network");

            let found = engine.forward(&pictures(shape), mode).expect("features");
            let expected = composed.composed(&pictures(shape), mode).expect("features");
            let gradients = engine
                .backward(&loss(&found.feature_map, &found.embedding), &params)
                .expect("gradients");
            let store = loss(&expected.feature_map, &expected.embedding).backward();
            let reference = Gradients::from_store(&apart, &store.expect("gradients"));

            assert_close(&found.feature_map, &expected.feature_map, "the feature map");
            assert_close(&found.embedding, &expected.embedding, "the embedding");
            assert_eq!(gradients.len(), params.trainable().count());
            for (name, expected) in reference.iter() {
                let found = gradients.get(name).expect("every parameter has a gradient");
                assert_close(found, expected, &format!("{architecture} {mode:?} {name}"));
            }
            let after = apart.snapshot().expect("values");
            for (name, tensor) in params.snapshot().expect("values") {
                assert_close(&tensor, &after[&name], &name);
            }
        }
    }
}

#[test]
fn a_network_cut_in_two_is_the_network_and_only_its_tail_is_trained() {
    let architecture = Architecture::RESNET18;
    let start = weights(architecture);
    for stages in 0..=4 {
        let mut params = Params::new(&start, DType::F64, &Device::Cpu).expect("parameters");
        let all = Params::new(&start, DType::F64, &Device::Cpu).expect("parameters");
        params.train_only(|name| architecture.is_in_tail(name, stages));
        let cut = Encoder::new(architecture, &params).expect("a network");
        let whole = Encoder::new(architecture, &all).expect("a network");
        let batch = pictures((2, 3, 64, 48));

        let activations = cut.trunk(&batch, stages, Mode::Frozen).expect("activations");
        let found = cut.tail(&activations, stages, Mode::Frozen).expect("features");
        let expected = whole.forward(&batch, Mode::Frozen).expect("features");
        let inferred = cut.infer(&batch).expect("features");

        assert_close(&found.feature_map, &expected.feature_map, "the feature map");
        assert_close(&inferred.embedding, &expected.embedding, "the embedding");
        assert!(!inferred.embedding.track_op() && !activations.track_op());
        if stages == 0 {
            continue;
        }
        let gradients =
            cut.backward(&loss(&found.feature_map, &found.embedding), &params).expect("gradients");
        let reference = whole
            .backward(&loss(&expected.feature_map, &expected.embedding), &all)
            .expect("gradients");
        let names: Vec<&str> = gradients.iter().map(|(name, _)| name).collect();
        let wanted: Vec<&str> = params.trainable().map(|(name, _)| name).collect();
        assert_eq!(names, wanted, "{stages} stages");
        for (name, gradient) in gradients.iter() {
            assert_close(gradient, reference.get(name).expect("a gradient"), name);
        }
    }
}
