//! Optimisers against PyTorch's numbers, and that a restored one goes on as if nothing had happened.

use candle_core::{DType, Device, Tensor};
use lvmed::nn::optim::{Group, Groups, Kind, Optimiser, Settings, clip_norm};
use lvmed::nn::{Gradients, Params, Tensors};

const START: [f64; 6] = [1.0, -2.0, 0.5, 0.25, 3.0, -0.75];
/// The loss is `Σ c θ²`.
const CURVES: [f64; 6] = [0.5, 1.0, -2.0, 3.0, 0.1, 1e-3];
const RATE: f64 = 0.01;

fn params(dtype: DType) -> Params {
    let start = Tensor::from_slice(&START, (2, 3), &Device::Cpu).expect("a tensor");
    Params::new(&Tensors::from([("w".to_owned(), start)]), dtype, &Device::Cpu).expect("params")
}

fn gradients(params: &Params) -> Gradients {
    let w = params.get("w").expect("w");
    let curves = Tensor::from_slice(&CURVES, (2, 3), &Device::Cpu).expect("a tensor");
    let gradient = curves.to_dtype(w.dtype()).and_then(|curves| (curves * 2.0)? * w.as_tensor());
    let mut gradients = Gradients::default();
    gradients.insert("w".to_owned(), gradient.expect("a gradient").detach());
    gradients
}

fn values(params: &Params) -> Vec<f64> {
    let w = params.get("w").and_then(|w| w.to_dtype(DType::F64)).expect("w");
    w.flatten_all().and_then(|w| w.to_vec1()).expect("values")
}

fn steps(optimiser: &mut Optimiser, params: &Params, count: usize) {
    for _ in 0..count {
        optimiser.step(params, &gradients(params), RATE).expect("a step");
    }
}

fn settings(kind: Kind) -> Settings {
    Settings { kind, weight_decay: 0.1, ..Settings::default() }
}

/// Values after three steps of `torch.optim` 2.9.1 in 64 bits with the same settings.
fn by_pytorch() -> [(Settings, [f64; 6]); 5] {
    let momentum = settings(Kind::Sgd);
    [
        (
            settings(Kind::AdamW),
            [
                0.967_044_152_496_046_2,
                -1.964_041_910_996_035_6,
                0.528_487_752_890_241_4,
                0.219_329_534_486_010_86,
                2.961_043_225_585_916_7,
                -0.717_797_254_186_674_8,
            ],
        ),
        (
            Settings { beta1: 0.8, beta2: 0.99, ..settings(Kind::Adam) },
            [
                0.970_020_020_252_045_1,
                -1.970_009_851_067_947_1,
                0.530_036_353_004_807_6,
                0.220_088_093_076_400_12,
                2.970_006_532_658_312_7,
                -0.720_026_983_182_140_6,
            ],
        ),
        (
            Settings { momentum: 0.0, weight_decay: 0.0, ..momentum },
            [0.970_299, -1.882_384, 0.562_432, 0.207_646, 2.982_035_976, -0.749_955_000_899_994],
        ),
        (
            momentum,
            [
                0.938_869_469,
                -1.768_595_078,
                0.613_075_059_5,
                0.168_855_954_75,
                2.949_639_519,
                -0.745_712_094_644_093_9,
            ],
        ),
        (
            Settings { nesterov: true, ..momentum },
            [
                0.913_134_738_670_999_9,
                -1.674_081_813_602,
                0.667_735_968_510_5,
                0.139_801_451_330_250_02,
                2.927_933_960_421,
                -0.743_853_361_953_280_8,
            ],
        ),
    ]
}

#[test]
fn three_steps_are_those_of_pytorch() {
    for (settings, expected) in by_pytorch() {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-6)] {
            let params = params(dtype);

            steps(&mut Optimiser::new(settings, Groups::uniform()), &params, 3);

            for (found, expected) in values(&params).iter().zip(expected) {
                let difference = (found - expected).abs();
                assert!(difference < tolerance, "{settings:?} {dtype:?}: {found} {expected}");
            }
        }
    }
}

#[test]
fn a_restored_optimiser_goes_on_bit_for_bit() {
    for (settings, _) in by_pytorch() {
        let (whole, cut) = (params(DType::F32), params(DType::F32));
        steps(&mut Optimiser::new(settings, Groups::uniform()), &whole, 5);

        let mut first = Optimiser::new(settings, Groups::uniform());
        steps(&mut first, &cut, 2);
        let mut second = Optimiser::new(settings, Groups::uniform());
        second.restore(first.steps(), &first.state().expect("a state")).expect("restored");
        let unmoved = second.state().expect("a state");
        steps(&mut second, &cut, 3);

        assert_eq!(values(&whole), values(&cut), "{settings:?}");
        assert_eq!(second.steps(), 5);
        let names: Vec<&str> = unmoved.keys().map(String::as_str).collect();
        let expected: &[&str] = if settings.kind == Kind::Sgd { &["w.m"] } else { &["w.m", "w.v"] };
        assert_eq!(names, expected);
    }
}

#[test]
fn a_group_has_its_own_rate_and_decay() {
    let groups = Groups::by(|_, _| Group { rate: 0.5, decay: 0.0 });
    let (grouped, plain) = (params(DType::F64), params(DType::F64));
    let without = Settings { weight_decay: 0.0, ..settings(Kind::AdamW) };

    Optimiser::new(settings(Kind::AdamW), groups)
        .step(&grouped, &gradients(&grouped), 2.0 * RATE)
        .expect("a step");
    Optimiser::new(without, Groups::uniform())
        .step(&plain, &gradients(&plain), RATE)
        .expect("a step");

    assert_eq!(values(&grouped), values(&plain));
}

#[test]
fn a_gradient_of_another_shape_and_moments_of_another_parameter_are_refused() {
    let params = params(DType::F32);
    let mut optimiser = Optimiser::new(Settings::default(), Groups::uniform());
    let wrong = Tensor::zeros(6, DType::F32, &Device::Cpu).expect("a tensor");
    let mut gradients_of_another = Gradients::default();
    gradients_of_another.insert("w".to_owned(), wrong.clone());

    let refused = optimiser.step(&params, &gradients_of_another, RATE).expect_err("refused");
    assert!(refused.to_string().contains("w is F32 [2, 3], its gradient F32 [6]"), "{refused}");

    let state = Tensors::from([("w.m".to_owned(), wrong.clone())]);
    let refused = optimiser.restore(1, &state).expect_err("refused");
    assert!(refused.to_string().contains("no second moment of w"), "{refused}");
    let state = Tensors::from([("w.m".to_owned(), wrong.clone()), ("w.v".to_owned(), wrong)]);
    optimiser.restore(1, &state).expect("taken");
    let refused = optimiser.step(&params, &gradients(&params), RATE).expect_err("refused");
    assert!(refused.to_string().contains("moments [6] of a parameter [2, 3]"), "{refused}");
}

#[test]
fn parts_of_a_batch_add_up_to_its_gradient() {
    let params = params(DType::F64);
    let part = |factor: f64| {
        let mut part = gradients(&params);
        part.scale(factor).expect("scaled");
        part
    };
    let mut sum = Gradients::default();

    sum.accumulate(part(1.0), 0.75).expect("added");
    sum.accumulate(part(5.0), 0.25).expect("added");

    let expected = part(2.0);
    let flat = |gradients: &Gradients| {
        let flat = gradients.get("w").expect("w").flatten_all();
        flat.and_then(|flat| flat.to_vec1::<f64>()).expect("values")
    };
    for (found, expected) in flat(&sum).iter().zip(flat(&expected)) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}

#[test]
fn norms_and_steps_are_the_same_on_any_number_of_threads() {
    let run = |threads: usize| {
        lvmed::nn::with_threads(threads, || {
            let values = (0..100_003_u32).map(|at| (at as f32 * 0.37).sin());
            let start = Tensor::from_iter(values, &Device::Cpu).expect("a tensor");
            let mut gradients = Gradients::default();
            gradients.insert("w".to_owned(), start.affine(3.0, 0.1).expect("a gradient"));
            let params =
                Params::new(&Tensors::from([("w".to_owned(), start)]), DType::F32, &Device::Cpu)
                    .expect("params");

            let norm = clip_norm(&mut gradients, 1.0).expect("a norm");
            let mut optimiser = Optimiser::new(Settings::default(), Groups::uniform());
            optimiser.step(&params, &gradients, RATE).expect("a step");

            let w = params.get("w").and_then(|w| w.to_vec1::<f32>()).expect("values");
            (norm.to_bits(), w.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        })
        .expect("threads")
    };

    let one = run(1);

    assert!(one == run(2) && one == run(3), "the number of threads is seen in the result");
}
