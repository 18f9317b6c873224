//! Graph matching as an objective: what it makes of whole batches of views.

use candle_core::{DType, Device, Tensor, Var};
use lvmed::domain::pretrain::{Hamming, Local, Matching, Mode, Noise};
use lvmed::nn::kernel::draw::normal;
use lvmed::nn::{Features, Params, with_threads};
use lvmed::training::objective::{
    Crop, GraphMatching, MatchedPair, Moment, Objective, Shown, View,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

const CHANNELS: usize = 12;
const MOMENT: Moment = Moment { seed: 5, step: 2, steps: 10, part: 0 };

/// The map of one view, `[B, C, side, side]`, and what was cut to make it.
struct Seen {
    map: Var,
    crops: Vec<Crop>,
}

impl Seen {
    /// Random features around those of the images: views of one image resemble each other.
    fn draw(images: usize, side: usize, seed: u64) -> Self {
        Self::noisy(images, side, seed, 0.5)
    }

    fn noisy(images: usize, side: usize, seed: u64, deviation: f64) -> Self {
        let own = normal(&mut StdRng::seed_from_u64(1), images * CHANNELS, 1.0);
        let mut random = StdRng::seed_from_u64(seed);
        let noise = normal(&mut random, images * CHANNELS * side * side, deviation);
        let value = |(at, noise): (usize, &f32)| own[at / (side * side)] + noise;
        let values: Vec<f32> = noise.iter().enumerate().map(value).collect();
        Self::of(&values, images, side)
    }

    fn of(values: &[f32], images: usize, side: usize) -> Self {
        let crop = |image: usize| {
            let corner = 3.0 * image as f32;
            let flipped = image % 2 == 1;
            Crop { top: corner, left: 40.0 - corner, height: 96.0, width: 64.0, flipped }
        };
        let map = Var::from_slice(values, (images, CHANNELS, side, side), &Device::Cpu);
        Self { map: map.expect("a map"), crops: (0..images).map(crop).collect() }
    }

    fn view(&self) -> View {
        let map = self.map.as_tensor().clone();
        let embedding = map.flatten_from(2).and_then(|map| map.mean(2)).expect("a mean");
        View { features: Features { embedding, feature_map: map }, crops: self.crops.clone() }
    }
}

fn quiet() -> Matching {
    Matching {
        nodes: 6,
        neighbours: 2,
        channels: 8,
        noise: Noise { scale: 0.0 },
        ..Matching::default()
    }
}

struct Learnt {
    loss: f64,
    /// The gradients of the maps of all views, and of the objective's parameters.
    gradients: Vec<Vec<f32>>,
    series: Vec<(&'static str, f64)>,
    matched: MatchedPair,
}

fn learn(settings: &Matching, seen: &[&Seen], moment: Moment) -> Learnt {
    let mut objective = GraphMatching::new(settings.clone());
    let tensors = objective.initial(3, CHANNELS, CHANNELS).expect("parameters");
    let params = Params::new(&tensors, DType::F32, &Device::Cpu).expect("parameters");
    let views: Vec<View> = seen.iter().map(|seen| seen.view()).collect();
    let shown = Shown { views: &views, teacher: None };

    let scored = objective.loss(&params, None, &shown, moment).expect("a loss");
    assert!(objective.after_backward().is_empty(), "nothing is known before");
    let grads = scored.loss.backward().expect("gradients");

    let variables = seen.iter().map(|seen| &seen.map).chain(params.trainable().map(|(_, v)| v));
    let gradient = |variable: &Var| match grads.get(variable) {
        Some(gradient) => gradient.flatten_all().and_then(|g| g.to_vec1()).expect("values"),
        None => Vec::new(),
    };
    let mut series = scored.series;
    series.extend(objective.after_backward());
    Learnt {
        loss: f64::from(scored.loss.to_scalar::<f32>().expect("a number")),
        gradients: variables.map(gradient).collect(),
        series,
        matched: objective.matched().expect("a pair"),
    }
}

fn curve(learnt: &Learnt, name: &str) -> f64 {
    let found = learnt.series.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", learnt.series)).1
}

#[test]
fn everything_that_should_learn_gets_a_gradient_and_curves_are_told() {
    let (one, other) = (Seen::draw(14, 3, 11), Seen::draw(14, 3, 12));
    let settings = Matching { noise: Noise { scale: 1.0 }, ..quiet() };

    let learnt = learn(&settings, &[&one, &other], MOMENT);

    assert!(learnt.loss > 0.0);
    for gradient in &learnt.gradients {
        assert!(gradient.iter().all(|value| value.is_finite()));
        assert!(gradient.iter().any(|value| *value != 0.0), "{:?}", learnt.gradients);
    }
    // The last two of 14 images make no graph of six.
    let size = CHANNELS * 9;
    assert!(learnt.gradients[0][12 * size..].iter().all(|value| *value == 0.0));
    assert!(curve(&learnt, "zero_gradient_share") < 1.0);
    assert!(curve(&learnt, "affinity_gradient_norm") > 0.0);
    assert!(curve(&learnt, "duality_gap").is_finite());
    // Sum over two graphs of 12 (1 - accuracy), averaged over both ways.
    let accuracy = curve(&learnt, "matching_accuracy");
    assert!((learnt.loss - 24.0 * (1.0 - accuracy)).abs() < 1e-5, "{} {accuracy}", learnt.loss);
}

#[test]
fn views_change_places_without_changing_the_loss() {
    // Noise of its own would differ between the directions: the features have to be hard.
    let (one, other) = (Seen::noisy(12, 3, 11, 6.0), Seen::noisy(12, 3, 12, 6.0));
    for local in [Local::Eq3, Local::Pseudo { gamma: 4 }, Local::None] {
        let settings = Matching { local, alpha: 0.3, ..quiet() };

        let there = learn(&settings, &[&one, &other], MOMENT);
        let back = learn(&settings, &[&other, &one], MOMENT);

        assert_eq!(there.loss, back.loss, "{local:?}");
        assert!(there.loss > 0.0 && there.gradients[0].iter().any(|value| *value != 0.0));
        for (one, other) in there.gradients[0].iter().zip(&back.gradients[1]) {
            assert!((one - other).abs() < 1e-6, "{local:?}: {one} {other}");
        }
    }
}

#[test]
fn images_without_any_structure_give_numbers() {
    let constant = Seen::of(&[0.7; 12 * CHANNELS * 9], 12, 3);
    let nothing = Seen::of(&[0.0; 12 * CHANNELS * 9], 12, 3);
    for scale in [0.0, 1.0] {
        for seen in [[&constant, &constant], [&nothing, &nothing], [&constant, &nothing]] {
            let settings = Matching { noise: Noise { scale }, ..quiet() };

            let learnt = learn(&settings, &seen, MOMENT);

            assert!(learnt.loss.is_finite());
            assert!(learnt.gradients.iter().flatten().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn features_that_are_no_numbers_are_seen_in_the_loss() {
    let mut values = vec![0.5; 12 * CHANNELS * 9];
    values[17] = f32::NAN;
    let (wrong, other) = (Seen::of(&values, 12, 3), Seen::draw(12, 3, 12));

    let learnt = learn(&quiet(), &[&wrong, &other], MOMENT);

    assert!(learnt.loss.is_nan());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads| {
        with_threads(threads, || {
            let seen = [Seen::draw(18, 3, 11), Seen::draw(18, 3, 12), Seen::draw(18, 2, 13)];
            let settings = Matching { noise: Noise { scale: 1.0 }, ..quiet() };
            let learnt = learn(&settings, &[&seen[0], &seen[1], &seen[2]], MOMENT);
            (learnt.loss, learnt.gradients, learnt.series)
        })
        .expect("a pool")
    };

    let one = run(1);

    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn noise_depends_on_the_moment_only() {
    let (one, other) = (Seen::draw(12, 3, 11), Seen::draw(12, 3, 12));
    let settings = Matching { noise: Noise { scale: 2.0 }, ..quiet() };
    let at = |moment| {
        let learnt = learn(&settings, &[&one, &other], moment);
        (learnt.gradients, learnt.matched)
    };

    assert_eq!(at(MOMENT), at(Moment { steps: 99, ..MOMENT }));
    for moved in
        [Moment { step: 3, ..MOMENT }, Moment { part: 1, ..MOMENT }, Moment { seed: 6, ..MOMENT }]
    {
        assert_ne!(at(MOMENT), at(moved), "{moved:?}");
    }
}

#[test]
fn small_crops_are_matched_with_both_large_views() {
    let (one, other, small) = (Seen::draw(12, 3, 11), Seen::draw(12, 3, 12), Seen::draw(12, 2, 13));
    let hard = Matching { noise: Noise { scale: 1.0 }, ..quiet() };

    let without = learn(&hard, &[&one, &other], MOMENT);
    let with = learn(&hard, &[&one, &other, &small], MOMENT);

    assert!(with.gradients[2].iter().any(|value| *value != 0.0));
    // The first pair is the same, with the same noise.
    assert_eq!(with.matched, without.matched);
    // Means over pairs: a loss per graph between 0 and 2 N.
    assert!((0.0..=24.0).contains(&with.loss), "{}", with.loss);
}

#[test]
fn ablations_leave_their_part_out() {
    let (one, other) = (Seen::draw(12, 3, 11), Seen::draw(12, 3, 12));
    let noisy = Matching { noise: Noise { scale: 1.0 }, ..quiet() };
    let ablations = [
        Matching { edge_weight: 0.0, ..noisy.clone() },
        Matching { message_layers: 0, ..noisy.clone() },
        Matching { local: Local::None, ..noisy.clone() },
        Matching { alpha: 1.0, ..noisy.clone() },
        Matching { symmetric: false, ..noisy.clone() },
        Matching { implicit: true, ..noisy.clone() },
    ];
    let full = learn(&noisy, &[&one, &other], MOMENT);

    for settings in ablations {
        let learnt = learn(&settings, &[&one, &other], MOMENT);

        assert!(
            learnt.loss.is_finite() && learnt.gradients[0] != full.gradients[0],
            "{settings:?}"
        );
        assert!(learnt.gradients.iter().flatten().all(|value| value.is_finite()), "{settings:?}");
    }
}

#[test]
fn nodes_that_do_not_go_together_stay_alone_where_they_may() {
    let value = |at: usize| 1.0 + 0.01 * ((at * 37 % 101) as f32 / 101.0);
    let values: Vec<f32> = (0..12 * CHANNELS * 9).map(value).collect();
    let opposite: Vec<f32> = values.iter().map(|value| -value).collect();
    let (one, other) = (Seen::of(&values, 12, 3), Seen::of(&opposite, 12, 3));
    // Every cosine is close to -1.
    let alike = Matching { alpha: 1.0, edge_weight: 0.0, message_layers: 0, ..quiet() };

    let free = learn(&Matching { mode: Mode::Partial, ..alike.clone() }, &[&one, &other], MOMENT);
    let bound = learn(&alike, &[&one, &other], MOMENT);

    assert_eq!(free.matched.partners, [None; 6]);
    // A node that is alone is wrong once, and the step draws it to its partner.
    assert_eq!(free.loss, 12.0);
    assert_eq!(curve(&free, "zero_gradient_share"), 0.0);
    assert!(bound.matched.partners.iter().all(Option::is_some));
}

#[test]
fn losses_are_divided_as_asked() {
    let (one, other) = (Seen::draw(12, 3, 11), Seen::draw(12, 3, 12));
    let loss = |hamming| {
        let settings = Matching { hamming, noise: Noise { scale: 2.0 }, ..quiet() };
        learn(&settings, &[&one, &other], MOMENT).loss
    };

    let sum = loss(Hamming::Sum);

    assert!(sum > 0.0);
    assert!((loss(Hamming::MeanNodes) - sum / 6.0).abs() < 1e-6);
    assert!((loss(Hamming::MeanGraphs) - sum / 2.0).abs() < 1e-6);
}

#[test]
fn equal_views_match_without_noise_and_the_pair_is_shown() {
    let one = Seen::draw(12, 3, 11);

    let learnt = learn(&quiet(), &[&one, &one], MOMENT);

    assert_eq!(learnt.loss, 0.0);
    assert_eq!(curve(&learnt, "matching_accuracy"), 1.0);
    // The bound proves it.
    assert!(curve(&learnt, "duality_gap") < 1e-5, "{:?}", learnt.series);
    assert_eq!(curve(&learnt, "zero_gradient_share"), 1.0);
    let MatchedPair { images, partners, affinity, first_edges, second_edges } = learnt.matched;
    assert_eq!(images, [0, 1, 2, 3, 4, 5]);
    assert_eq!(partners, (0..6).map(Some).collect::<Vec<_>>());
    assert_eq!((affinity.len(), affinity[0].len()), (6, 6));
    assert_eq!(first_edges.len(), 12);
    assert_eq!(first_edges, second_edges);
}

#[test]
fn a_batch_without_a_whole_graph_is_refused() {
    let few = Seen::draw(5, 3, 11);
    let mut objective = GraphMatching::new(quiet());
    let tensors = objective.initial(3, CHANNELS, CHANNELS).expect("parameters");
    let params = Params::new(&tensors, DType::F32, &Device::Cpu).expect("parameters");
    let views = [few.view(), few.view()];
    let shown = Shown { views: &views, teacher: None };

    let error = objective.loss(&params, None, &shown, MOMENT).expect_err("five images");

    assert!(error.to_string().contains("5 images makes no graph of 6 nodes"), "{error}");
}

#[test]
fn weights_before_the_first_step_depend_on_the_seed_only() {
    let objective = GraphMatching::new(quiet());
    let drawn = |seed| {
        let tensors = objective.initial(seed, CHANNELS, CHANNELS).expect("parameters");
        let values = |tensor: &Tensor| tensor.flatten_all().and_then(|t| t.to_vec1::<f32>());
        let values = tensors.values().map(|tensor| values(tensor).expect("values")).collect();
        (tensors.keys().cloned().collect(), values)
    };
    let (names, values): (Vec<String>, Vec<Vec<f32>>) = drawn(1);

    assert_eq!((names.clone(), values.clone()), drawn(1));
    assert_ne!(values, drawn(2).1);
    let expected = [
        "objective.message.0.weight",
        "objective.message.1.weight",
        "objective.projector.bias",
        "objective.projector.weight",
    ];
    assert_eq!(names, expected);
}
