//! Whole networks: every trainable parameter has a gradient, on any number of threads the same.

use candle_core::{DType, Device, Tensor};
use lvmed::domain::Architecture;
use lvmed::nn::weights::random;
use lvmed::nn::{Encoder, Mode, Params};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[test]
fn one_step_moves_every_trainable_parameter_and_the_running_statistics_only_in_training() {
    for architecture in [Architecture::RESNET18, Architecture::RESNET50] {
        for mode in [Mode::Train, Mode::Frozen] {
            let start = random(architecture, 1).expect("weights");
            let params = Params::new(&start, DType::F32, &Device::Cpu).expect("parameters");
            let network = Encoder::new(architecture, &params).expect("a network");
            let mut generator = StdRng::seed_from_u64(2);
            let input: Vec<f32> =
                (0..2 * 3 * 64 * 64).map(|_| generator.random_range(-1.0..1.0)).collect();
            let input = Tensor::from_vec(input, (2, 3, 64, 64), &Device::Cpu).expect("a batch");

            let out = network.forward(&input, mode).expect("features").embedding;
            let loss = out.sqr().and_then(|out| out.mean_all()).expect("a loss");
            let grads = network.backward(&loss, &params).expect("gradients");

            assert_eq!(params.trainable().count(), architecture.tensors().len() * 3 / 5);
            for (name, _) in params.trainable() {
                let gradient = grads.get(name).unwrap_or_else(|| panic!("{name} has none"));
                let size = gradient.abs().and_then(|g| g.sum_all()).expect("a sum");
                let size = size.to_scalar::<f32>().expect("a number");
                assert!(size > 0.0 && size.is_finite(), "{architecture} {mode:?} {name}: {size}");
            }
            let after = params.snapshot().expect("values");
            for (name, before) in start.iter().filter(|(name, _)| name.contains("running_")) {
                let moved = (before - &after[name]).and_then(|d| d.abs()).and_then(|d| d.sum_all());
                let moved = moved.expect("a sum").to_scalar::<f32>().expect("a number");
                assert_eq!(moved > 0.0, mode == Mode::Train, "{architecture} {mode:?} {name}");
            }
        }
    }
}

#[test]
fn results_are_the_same_on_any_number_of_threads() {
    let run = |threads: usize| {
        lvmed::nn::with_threads(threads, || {
            let start = random(Architecture::RESNET18, 1).expect("weights");
            let params = Params::new(&start, DType::F32, &Device::Cpu).expect("parameters");
            let network = Encoder::new(Architecture::RESNET18, &params).expect("a network");
            let mut generator = StdRng::seed_from_u64(2);
            let input: Vec<f32> =
                (0..4 * 3 * 64 * 64).map(|_| generator.random_range(-1.0..1.0)).collect();
            let input = Tensor::from_vec(input, (4, 3, 64, 64), &Device::Cpu).expect("a batch");
            let out = network.forward(&input, Mode::Train).expect("features").embedding;
            let loss = out.sqr().and_then(|out| out.mean_all()).expect("a loss");
            let grads = network.backward(&loss, &params).expect("gradients");
            params
                .trainable()
                .flat_map(|(name, _)| {
                    let gradient = grads.get(name).expect("a gradient").flatten_all();
                    gradient.and_then(|flat| flat.to_vec1::<f32>()).expect("values")
                })
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        })
        .expect("threads")
    };

    assert!(run(1) == run(2), "gradients differ between one and two threads");
}
