//! Pretraining objectives where they could go wrong: constant features, single images, checkpoints.

use candle_core::{DType, Device, Tensor, Var};
use lvmed::domain::pretrain::{
    Barlow, Convolution, Dino, Matching, Moco, Objective, SimClr, Vicregl,
};
use lvmed::nn::{Features, Params, Tensors};
use lvmed::training::TrainingError;
use lvmed::training::objective::{Crop, Moment, Scored, Shown, View, objective};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const EMBEDDING: usize = 8;
const MAP: usize = 6;
const SIDE: usize = 3;

fn every_baseline() -> [Objective; 5] {
    [
        Objective::Simclr(SimClr { hidden: 12, output: 6, ..SimClr::default() }),
        Objective::BarlowTwins(Barlow { hidden: 12, output: 6, ..Barlow::default() }),
        Objective::Vicregl(Vicregl { hidden: 12, output: 6, ..Vicregl::default() }),
        Objective::MocoV2(moco()),
        Objective::Dino(Dino { hidden: 12, bottleneck: 5, output: 16, ..Dino::default() }),
    ]
}

fn moco() -> Moco {
    Moco { hidden: 12, output: 6, queue: 20, ..Moco::default() }
}

#[test]
fn weights_and_teachers_are_as_many_as_forecasts_count_on() {
    let first = Moment { seed: 1, step: 0, steps: 10, part: 0 };
    let matching = [Convolution::Gcn, Convolution::GraphConv]
        .map(|convolution| Objective::Matching(Matching { convolution, ..Matching::default() }));
    for settings in every_baseline().into_iter().chain(matching) {
        let built = objective(&settings, 50);

        let tensors = built.initial(1, EMBEDDING, MAP).expect("parameters");

        let matrices = tensors.values().filter(|tensor| tensor.rank() > 1);
        let weights: usize = matrices.map(Tensor::elem_count).sum();
        let counted = settings.weights(EMBEDDING as u64, MAP as u64);
        assert_eq!(weights as u64, counted, "{}", settings.as_str());
        assert_eq!(built.teacher_momentum(first).is_some(), settings.has_teacher());
        // MoCo's queries and DINO's teacher are what their papers go on with.
        assert_eq!(built.publishes_teacher(), settings.as_str() == "dino");
    }
}

/// The parts of a batch: views, what the teacher makes of them, and the leaves to differentiate by.
struct Batch {
    views: Vec<View>,
    taught: [Tensor; 2],
    leaves: Vec<Var>,
}

impl Batch {
    /// Features by `value`, which is told the place of each within the batch.
    fn new(images: usize, dtype: DType, mut value: impl FnMut() -> f64) -> Self {
        let mut tensor = |shape: &[usize]| {
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| value()).collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
            tensor.and_then(|tensor| tensor.to_dtype(dtype)).expect("a tensor")
        };
        let (mut views, mut leaves) = (Vec::new(), Vec::new());
        for shift in 0..2_u8 {
            let embedding = Var::from_tensor(&tensor(&[images, EMBEDDING])).expect("a leaf");
            let map = Var::from_tensor(&tensor(&[images, MAP, SIDE, SIDE])).expect("a leaf");
            let features = Features {
                embedding: embedding.as_tensor().clone(),
                feature_map: map.as_tensor().clone(),
            };
            let left = f32::from(shift) * 7.0;
            let crop = Crop { top: 0.0, left, height: 30.0, width: 40.0, flipped: shift == 1 };
            views.push(View { features, crops: vec![crop; images] });
            leaves.extend([embedding, map]);
        }
        let taught = [tensor(&[images, EMBEDDING]), tensor(&[images, EMBEDDING])];
        Self { views, taught, leaves }
    }

    fn random(images: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self::new(images, DType::F64, || random.random_range(-1.0..1.0))
    }

    fn shown(&self) -> Shown<'_> {
        Shown { views: &self.views, teacher: Some(&self.taught) }
    }
}

fn moment(step: u64) -> Moment {
    Moment { seed: 5, step, steps: 100, part: 0 }
}

fn params(tensors: &Tensors, dtype: DType) -> Params {
    Params::new(tensors, dtype, &Device::Cpu).expect("parameters")
}

fn value(scored: &Scored) -> f64 {
    let loss = scored.loss.to_dtype(DType::F64).and_then(|loss| loss.to_scalar::<f64>());
    loss.expect("a number")
}

/// Whether the loss and every gradient that there is are numbers.
fn all_are_finite(scored: &Scored, own: &Params, leaves: &[Var]) -> bool {
    let store = scored.loss.backward().expect("gradients");
    let variables = own.iter().map(|(_, variable)| variable).chain(leaves);
    let finite = |gradient: &Tensor| {
        let flat = gradient.flatten_all().and_then(|flat| flat.to_dtype(DType::F64));
        flat.and_then(|flat| flat.to_vec1::<f64>()).expect("values").iter().all(|g| g.is_finite())
    };
    value(scored).is_finite()
        && scored.series.iter().all(|(_, value)| value.is_finite())
        && variables.filter_map(|variable| store.get(variable)).all(finite)
}

#[test]
fn constant_features_give_numbers_and_never_nan() {
    for spec in every_baseline() {
        for dtype in [DType::F32, DType::F64] {
            for constant in [0.0, 0.7] {
                let mut objective = objective(&spec, 100);
                let initial = objective.initial(1, EMBEDDING, MAP).expect("parameters");
                let own = params(&initial, dtype);
                let batch = Batch::new(4, dtype, || constant);

                let scored = objective.loss(&own, Some(&own), &batch.shown(), moment(0));

                let scored = scored.expect("a loss");
                let name = spec.as_str();
                assert!(
                    all_are_finite(&scored, &own, &batch.leaves),
                    "{name} {dtype:?} {constant}"
                );
            }
        }
    }
}

#[test]
fn a_single_image_is_refused_where_images_are_compared_and_gives_a_number_elsewhere() {
    for spec in every_baseline() {
        let mut objective = objective(&spec, 100);
        let own = params(&objective.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);
        let batch = Batch::random(1, 3);

        let scored = objective.loss(&own, Some(&own), &batch.shown(), moment(0));

        match (&spec, scored) {
            (Objective::MocoV2(_) | Objective::Dino(_), scored) => {
                assert!(all_are_finite(&scored.expect("a loss"), &own, &batch.leaves));
            }
            (_, refused) => {
                let error = refused.expect_err("refused");
                assert!(matches!(error, TrainingError::SmallBatch { images: 1, .. }), "{error}");
            }
        }
    }
}

#[test]
fn an_objective_with_a_teacher_does_not_go_on_without_one() {
    for spec in [Objective::MocoV2(moco()), Objective::Dino(Dino::default())] {
        let mut objective = objective(&spec, 100);
        let own = params(&objective.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);
        let batch = Batch::random(4, 3);

        let refused = objective.loss(&own, None, &batch.shown(), moment(0));

        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("was computed without one"), "{text}");
    }
}

#[test]
fn a_restored_objective_goes_on_alike_and_a_fresh_one_does_not_remember() {
    for spec in every_baseline() {
        let mut first = objective(&spec, 100);
        let own = params(&first.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);
        let teacher = params(&first.initial(2, EMBEDDING, MAP).expect("parameters"), DType::F64);
        let batches = [Batch::random(4, 3), Batch::random(4, 4)];
        first.loss(&own, Some(&teacher), &batches[0].shown(), moment(0)).expect("a loss");
        let state = first.state().expect("a state");
        let mut resumed = objective(&spec, 100);
        resumed.restore(&state).expect("restored");
        let mut fresh = objective(&spec, 100);

        let losses = [&mut first, &mut resumed, &mut fresh].map(|objective| {
            let shown = batches[1].shown();
            value(&objective.loss(&own, Some(&teacher), &shown, moment(1)).expect("a loss"))
        });

        let remembers = matches!(spec, Objective::MocoV2(_) | Objective::Dino(_));
        assert_eq!(state.is_empty(), !remembers);
        assert_eq!(losses[0], losses[1], "{}", spec.as_str());
        assert_eq!(losses[0] != losses[2], remembers, "{}: {losses:?}", spec.as_str());
        let text = |state: Tensors| {
            format!("{:?}", state.values().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(text(first.state().expect("a state")), text(resumed.state().expect("a state")));
    }
}

#[test]
fn a_state_of_other_settings_is_refused() {
    let wrong = Tensor::zeros((3, 2), DType::F64, &Device::Cpu).expect("a tensor");
    let cases = [
        (Objective::MocoV2(moco()), "objective.queue"),
        (Objective::Dino(Dino::default()), "objective.centre"),
    ];
    for (spec, name) in cases {
        let mut objective = objective(&spec, 100);

        let refused = objective.restore(&Tensors::from([(name.to_owned(), wrong.clone())]));

        let text = refused.expect_err("refused").to_string();
        assert!(text.contains(name) && text.contains("[3, 2]"), "{text}");
    }
}

#[test]
fn a_queue_longer_than_the_data_is_cut_to_it() {
    let spec = Objective::MocoV2(Moco { hidden: 12, output: 6, ..Moco::default() });
    let mut objective = objective(&spec, 30);
    let own = params(&objective.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);

    for step in 0..5 {
        let batch = Batch::random(4, step);
        objective.loss(&own, Some(&own), &batch.shown(), moment(step)).expect("a loss");
    }

    let queue = objective.state().expect("a state").remove("objective.queue").expect("a queue");
    assert_eq!(queue.dims(), [30, 6]);
    let lengths = queue.sqr().and_then(|squares| squares.sum(1)?.to_vec1::<f64>()).expect("values");
    assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-9), "{lengths:?}");
}

#[test]
fn a_batch_longer_than_the_queue_leaves_its_newest_keys() {
    let mut objective = objective(&Objective::MocoV2(moco()), 3);
    let own = params(&objective.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);
    let batch = Batch::random(4, 1);

    let scored = objective.loss(&own, Some(&own), &batch.shown(), moment(0)).expect("a loss");

    assert!(value(&scored).is_finite());
    assert_eq!(objective.state().expect("a state")["objective.queue"].dims(), [3, 6]);
}

#[test]
fn the_teacher_of_dino_slows_down_along_a_cosine_and_that_of_moco_keeps_its_pace() {
    let momentum =
        |spec: &Objective, step: u64| objective(spec, 100).teacher_momentum(moment(step));
    let [simclr, barlow, vicregl, moco, dino] = every_baseline();

    for (step, expected) in [(0, 0.996), (25, 0.996_585_786_437_627), (50, 0.998), (100, 1.0)] {
        let found = momentum(&dino, step).expect("a momentum");
        assert!((found - expected).abs() < 1e-12, "step {step}: {found}");
    }
    assert_eq!([0, 99].map(|step| momentum(&moco, step)), [Some(0.999); 2]);
    assert_eq!([simclr, barlow, vicregl].map(|spec| momentum(&spec, 0)), [None; 3]);
}

#[test]
fn parameters_are_drawn_from_the_seed_and_named_as_the_objectives() {
    for spec in every_baseline() {
        let initial = |seed: u64| {
            let objective = objective(&spec, 100);
            let tensors = objective.initial(seed, EMBEDDING, MAP).expect("parameters");
            tensors
                .into_iter()
                .map(|(name, tensor)| {
                    assert!(name.starts_with("objective."), "{name}");
                    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
                    (name, values.expect("values"))
                })
                .collect::<Vec<_>>()
        };

        assert_eq!(initial(1), initial(1));
        assert_ne!(initial(1), initial(2));
    }
}

#[test]
fn views_that_are_alike_are_a_smaller_loss_than_views_that_are_not() {
    for spec in every_baseline() {
        let mut objective = objective(&spec, 100);
        let own = params(&objective.initial(1, EMBEDDING, MAP).expect("parameters"), DType::F64);
        let apart = Batch::random(6, 3);
        let mut alike = Batch::random(6, 3);
        alike.views[1] = alike.views[0].clone();
        alike.taught = [0, 1].map(|at: usize| alike.views[at].features.embedding.clone());
        let state = objective.state().expect("a state");

        let mut loss = |batch: &Batch| {
            objective.restore(&state).expect("restored");
            value(&objective.loss(&own, Some(&own), &batch.shown(), moment(0)).expect("a loss"))
        };

        let (alike, apart) = (loss(&alike), loss(&apart));
        assert!(alike < apart, "{}: {alike} {apart}", spec.as_str());
    }
}
