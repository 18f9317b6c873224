//! The linear probe: scikit-learn's solution, a penalty chosen over patients, repeatable always.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use lvmed::domain::HeadRule;
use lvmed::training::probe::discriminant;
use lvmed::training::probe::folds::divide;
use lvmed::training::probe::lbfgs::Stop;
use lvmed::training::probe::logistic::Problem;
use lvmed::training::probe::matrix::Rows;
use lvmed::training::probe::standardise::Scale;
use lvmed::training::probe::temper::temper;
use lvmed::training::{Probe, ProbeError, Sample, fit};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(serde::Deserialize)]
struct Fixture {
    logistic: Vec<Expected>,
}

/// The values that `scripts/fixtures/heads.py` wrote.
#[derive(serde::Deserialize)]
struct Heads {
    discriminants: Vec<Discriminant>,
    temperatures: Vec<Temperature>,
}

#[derive(serde::Deserialize)]
struct Discriminant {
    name: String,
    classes: usize,
    labels: Vec<usize>,
    features: Vec<Vec<f64>>,
    shrinkage: f64,
    logits: Vec<Vec<f64>>,
}

#[derive(serde::Deserialize)]
struct Temperature {
    name: String,
    labels: Vec<usize>,
    logits: Vec<Vec<f64>>,
    factor: f64,
    loss: f64,
}

/// The values that `scripts/fixtures/metrics.py` wrote.
#[derive(serde::Deserialize)]
struct Expected {
    name: String,
    classes: usize,
    labels: Vec<usize>,
    features: Vec<Vec<f64>>,
    lambda: f64,
    weight: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

/// A training image: class, patient, features.
type Owned = (usize, String, Vec<f32>);

/// Images of three classes, two a patient, that differ in the first features by `distance`; the
/// features have a mean and a spread each, and the last one does not vary.
fn images(patients: usize, dimensions: usize, distance: f32, seed: u64) -> Vec<Owned> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..2 * patients)
        .map(|at| {
            let label = (at / 2) % 3;
            let mut features: Vec<f32> = (0..dimensions)
                .map(|d| {
                    let noise: f32 = (0..4).map(|_| rng.random_range(-1.0..1.0_f32)).sum();
                    let lean = if d % 3 == label && d < 9 { distance } else { 0.0 };
                    (noise + lean) * (1.0 + (d % 7) as f32) + (d % 11) as f32
                })
                .collect();
            features[dimensions - 1] = 0.1;
            (label, format!("p{:03}", at / 2), features)
        })
        .collect()
}

fn samples(images: &[Owned]) -> Vec<Sample<'_>> {
    let images = images.iter();
    images.map(|(label, patient, features)| Sample { features, label: *label, patient }).collect()
}

/// By the rule of recipes that name no head.
fn fitted(images: &[Owned], seed: u64) -> Result<Probe, ProbeError> {
    fitted_by(None, images, seed)
}

fn fitted_by(rule: Option<HeadRule>, images: &[Owned], seed: u64) -> Result<Probe, ProbeError> {
    fit(&samples(images), 3, seed, rule, &mut |_, _, _| ControlFlow::Continue(()))
}

/// Mean log loss of images.
fn loss(probe: &Probe, images: &[Owned]) -> f64 {
    let of = |(label, _, features): &Owned| {
        -f64::from(probe.head.probabilities(features)[*label]).max(1e-9).ln()
    };
    images.iter().map(of).sum::<f64>() / images.len() as f64
}

const RULES: [HeadRule; 3] = [HeadRule::Auto, HeadRule::Logistic, HeadRule::Lda];

fn right(probe: &Probe, images: &[Owned]) -> usize {
    let is_right = |(label, _, features): &&Owned| {
        let p = probe.head.probabilities(features);
        p.iter().all(|other| *other <= p[*label])
    };
    images.iter().filter(is_right).count()
}

#[test]
fn solutions_are_those_of_scikit_learn() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("fixtures/metrics.json")).expect("the fixture reads");
    for expected in fixture.logistic {
        let mut rows = Rows::new(expected.features[0].len());
        expected.features.iter().for_each(|row| rows.push(row));
        let problem = Problem {
            rows: &rows,
            labels: &expected.labels,
            classes: expected.classes,
            lambda: expected.lambda,
        };

        let found = problem.solve(None, Stop { gradient: 1e-10, iterations: 2000 });

        let weights = expected.weight.iter().enumerate().flat_map(|(class, weight)| {
            found.weight(class).iter().copied().zip(weight.iter().copied())
        });
        let biases = found.bias().iter().copied().zip(expected.bias.iter().copied());
        for (value, wanted) in weights.chain(biases) {
            assert!((value - wanted).abs() < 1e-6, "{}: {value}, not {wanted}", expected.name);
        }
    }
}

#[test]
fn discriminants_and_temperatures_are_those_of_scikit_learn_and_scipy() {
    let heads: Heads =
        serde_json::from_str(include_str!("fixtures/heads.json")).expect("the fixture reads");
    for expected in heads.discriminants {
        let dimensions = expected.features[0].len();
        let mut rows = Rows::new(dimensions);
        expected.features.iter().for_each(|row| rows.push(row));

        let found = discriminant::fit(&rows, &expected.labels, expected.classes, dimensions);

        let name = &expected.name;
        assert!((found.shrinkage - expected.shrinkage).abs() < 1e-9, "{name}");
        for (row, wanted) in rows.iter().zip(&expected.logits) {
            let logits = found.solution.logits(row);
            // In the span of few images a constant may be left out that is the same for all classes.
            let shift = logits[0] - wanted[0];
            let near = |(a, b): (&f64, &f64)| (a - shift - b).abs() < 1e-6 * (1.0 + b.abs());
            assert!(logits.iter().zip(wanted).all(near), "{name}: {logits:?}, not {wanted:?}");
        }
    }
    for expected in heads.temperatures {
        let found = temper(&expected.logits, &expected.labels);

        assert!(
            (found.factor / expected.factor - 1.0).abs() < 1e-6,
            "{}: {found:?}",
            expected.name
        );
        assert!((found.loss - expected.loss).abs() < 1e-9, "{}: {found:?}", expected.name);
    }
}

#[test]
fn every_rule_learns_what_the_features_tell_and_is_as_sure_as_it_may_be() {
    let test = images(60, 40, 1.0, 22);
    for seed in 0..4 {
        let train = images(9, 40, 1.0, 100 + seed);
        let former = loss(&fitted(&train, seed).expect("a probe"), &test);
        for rule in RULES {
            let probe = fitted_by(Some(rule), &train, seed).expect("a probe");

            let found = loss(&probe, &test);
            let told = probe.facts.loss.expect("patients were held out");
            assert!(right(&probe, &test) > 50, "{rule}: {} of 120", right(&probe, &test));
            assert!(found < 3.0_f64.ln(), "{rule}: {found}");
            assert!(found < former + 0.25, "{rule}: {found}, formerly {former}");
            assert!((found - told).abs() < 0.35, "{rule}: {found}, told {told}");
            assert_eq!((probe.facts.rule, probe.facts.folds), (Some(rule), 3));
            let parts = if rule == HeadRule::Auto { 3 } else { 1 };
            assert_eq!(probe.facts.parts.len(), parts);
            assert_eq!(probe.candidates.is_empty(), rule == HeadRule::Lda);
        }
    }
}

#[test]
fn images_of_a_class_that_are_all_alike_are_told_apart_by_finite_numbers() {
    for alike in [1e-30_f32, 1.0, 1e20] {
        let row =
            |class: usize| (0..6).map(|at| if at % 3 == class { alike } else { 0.0 }).collect();
        let train: Vec<Owned> = (0..18).map(|at| (at % 3, format!("p{at}"), row(at % 3))).collect();
        for rule in RULES {
            let probe = fitted_by(Some(rule), &train, 0).expect("a probe");

            let is_finite = probe.head.weight.iter().chain(&probe.head.bias).all(|w| w.is_finite());
            let p = probe.head.probabilities(&train[0].2);
            assert!(
                is_finite && p.iter().all(|p| (0.0..=1.0).contains(p)),
                "{rule} {alike}: {p:?}"
            );
            assert!(alike < 1e-10 || right(&probe, &train) == 18, "{rule} {alike}: {p:?}");
        }
    }
}

#[test]
fn two_images_a_class_of_a_patient_each_make_a_head_that_says_something() {
    for seed in 0..6 {
        let train: Vec<Owned> = images(6, 40, 3.0, 300 + seed).into_iter().step_by(2).collect();
        let test = images(30, 40, 3.0, 400);
        for rule in RULES {
            let probe = fitted_by(Some(rule), &train, seed).expect("a probe");

            let tops = test.iter().map(|(_, _, row)| {
                probe.head.probabilities(row).into_iter().fold(0.0_f32, f32::max)
            });
            let surest = tops.fold(0.0_f32, f32::max);
            assert!(surest > 1.0 / 3.0 + 0.03, "{rule}, seed {seed}: {surest}");
            assert!(right(&probe, &test) > 24, "{rule}, seed {seed}: {}", right(&probe, &test));
        }
    }
}

#[test]
fn a_feature_that_hardly_varies_in_training_decides_nothing_in_the_test() {
    let mut train = images(9, 40, 1.5, 31);
    train
        .iter_mut()
        .enumerate()
        .for_each(|(at, (_, _, row))| row[3] = 1.0 + 1e-5 * (at % 2) as f32);
    let (_, _, seen) = train[0].clone();
    let mut moved = seen.clone();
    moved[3] += 0.05;
    for rule in RULES {
        let probe = fitted_by(Some(rule), &train, 0).expect("a probe");

        let (one, other) = (probe.head.probabilities(&seen), probe.head.probabilities(&moved));
        let far = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.03, "{rule}: {one:?} and {other:?}");
    }
}

#[test]
fn a_head_says_something_whatever_the_folds_and_does_not_mind_the_patients_keys() {
    for seed in 0..30 {
        let train = images(6, 40, 0.3, 200 + seed);
        let mut renamed = train.clone();
        renamed.iter_mut().for_each(|(_, patient, _)| {
            *patient = format!(
                "{:x}",
                seed.wrapping_mul(0x9E37_79B9).rotate_left(7) ^ patient.len() as u64
            ) + &patient.chars().rev().collect::<String>();
        });

        let probe = fitted_by(Some(HeadRule::Auto), &train, seed).expect("a probe");

        let tops = train
            .iter()
            .map(|(_, _, row)| probe.head.probabilities(row).into_iter().fold(0.0_f32, f32::max));
        let surest = tops.fold(0.0_f32, f32::max);
        assert!(surest > 1.0 / 3.0 + 0.03, "a flat head: {surest}");
        assert_eq!(fitted_by(Some(HeadRule::Auto), &renamed, seed).as_ref(), Ok(&probe));
    }
}

#[test]
fn a_probe_learns_what_the_features_tell_and_says_how_it_chose() {
    let (train, test) = (images(30, 40, 2.0, 1), images(60, 40, 2.0, 2));

    let probe = fitted(&train, 0).expect("a probe");

    assert!(right(&probe, &test) > 100, "{} of 120", right(&probe, &test));
    let facts = &probe.facts;
    assert_eq!((facts.folds, probe.candidates.len(), facts.notices.len()), (5, 9, 0));
    let lowest = probe.candidates.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    assert!(probe.candidates.contains(&(facts.parts[0].regularisation, lowest)));
    assert!(lowest < 3.0_f64.ln() / 2.0, "{lowest}");
}

#[test]
fn features_that_tell_nothing_are_hardly_used() {
    let probe = fitted(&images(30, 40, 0.0, 3), 0).expect("a probe");

    let best = probe.candidates.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    assert!(probe.facts.parts[0].regularisation >= probe.candidates[2].0, "{:?}", probe.candidates);
    assert!((best - 3.0_f64.ln()).abs() < 0.1, "{best}");
}

#[test]
fn the_head_predicts_from_raw_features_what_the_fit_does_from_standardised_ones() {
    let stop = Stop { gradient: 1e-10, iterations: 5000 };
    // The first is solved in the span of its images, the second as it is.
    for (patients, dimensions) in [(9, 64), (30, 12)] {
        let train = images(patients, dimensions, 1.5, 4);
        let probe = fitted(&train, 0).expect("a probe");

        let features = train.iter().map(|(_, _, features)| features.as_slice());
        let rows = Scale::of(features.clone(), dimensions).apply(features);
        let labels: Vec<usize> = train.iter().map(|(label, _, _)| *label).collect();
        let lambda = probe.facts.parts[0].regularisation;
        let direct = Problem { rows: &rows, labels: &labels, classes: 3, lambda }.solve(None, stop);

        for ((_, _, features), row) in train.iter().zip(rows.iter()) {
            let logits: Vec<f64> = direct.logits(row).iter().map(|logit| logit.exp()).collect();
            let total: f64 = logits.iter().sum();
            for (p, logit) in probe.head.probabilities(features).iter().zip(&logits) {
                assert!((f64::from(*p) - logit / total).abs() < 1e-5);
            }
        }
        let last = (0..3).map(|class| probe.head.weight[(class + 1) * dimensions - 1]);
        assert!(last.into_iter().all(|weight| weight == 0.0), "a constant is not used");
    }
}

#[test]
fn equal_seeds_fit_the_same_bits_on_any_number_of_threads() {
    let train = images(18, 80, 1.0, 5);
    let on = |threads: usize, seed, rule| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| fitted_by(rule, &train, seed)).expect("a probe")
    };

    for rule in [None, Some(HeadRule::Auto)] {
        let one = on(1, 7, rule);

        assert_eq!(one, on(4, 7, rule));
        assert_ne!(one.candidates, on(1, 8, rule).candidates);
    }
}

#[test]
fn how_well_held_out_images_are_ranked_is_told_and_is_chance_where_labels_are() {
    let of = |distance, seed| {
        let probe = fitted_by(Some(HeadRule::Auto), &images(60, 30, distance, seed), 1);
        probe.expect("a probe").facts.auroc.expect("held out")
    };

    assert!(of(8.0, 11) > 0.99);
    let nothing: f64 = (0..10).map(|seed| of(0.0, seed)).sum::<f64>() / 10.0;
    assert!((nothing - 0.5).abs() < 0.05, "{nothing}");
}

#[test]
fn every_step_is_told_and_any_may_cancel() {
    let train = images(12, 10, 1.0, 6);
    let mut told = Vec::new();
    let probe = fit(&samples(&train), 3, 0, None, &mut |done, total, loss| {
        told.push((done, total, loss));
        ControlFlow::Continue(())
    })
    .expect("a probe");

    let losses: Vec<f64> = told.iter().filter_map(|(_, _, loss)| *loss).collect();
    let chosen: Vec<f64> = probe.candidates.iter().map(|(_, loss)| *loss).collect();
    assert_eq!(losses, chosen);
    assert_eq!((told[0], told[told.len() - 1]), ((0, 10, None), (10, 10, None)));
    let mut calls = 0;
    let cancelled = fit(&samples(&train), 3, 0, None, &mut |done, _, _| {
        calls += 1;
        if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((cancelled, calls), (Err(ProbeError::Cancelled), 3));
}

#[test]
fn one_patient_a_class_gets_a_default_penalty_and_is_told_so() {
    let train = images(3, 20, 1.0, 7);

    for rule in [None, Some(HeadRule::Auto), Some(HeadRule::Lda)] {
        let probe = fitted_by(rule, &train, 0).expect("a probe");

        let facts = &probe.facts;
        assert_eq!((facts.folds, probe.candidates.len(), facts.rule), (0, 0, rule));
        assert!(facts.notices.iter().any(|notice| notice.contains("default")), "{facts:?}");
        assert_eq!((right(&probe, &train), facts.parts.len(), facts.loss), (6, 1, None));
    }
}

#[test]
fn features_that_never_vary_give_the_shares_of_the_classes() {
    let mut train = images(4, 5, 0.0, 8);
    train.iter_mut().for_each(|(_, _, features)| features.fill(3.0));

    let probe = fitted(&train, 0).expect("a probe");

    let p = probe.head.probabilities(&[9.0; 5]);
    assert!((p[0] - 0.5).abs() < 1e-5 && (p[1] - 0.25).abs() < 1e-5, "{p:?}");
}

#[test]
fn what_cannot_be_fitted_is_refused_by_name() {
    let good = images(6, 5, 1.0, 9);
    let broken = |break_it: fn(&mut Vec<Owned>)| {
        let mut images = good.clone();
        break_it(&mut images);
        fitted(&images, 0).expect_err("refused")
    };

    assert_eq!(broken(Vec::clear), ProbeError::EmptyClass { class: 0 });
    assert_eq!(broken(|all| all.truncate(4)), ProbeError::EmptyClass { class: 2 });
    assert_eq!(broken(|all| all[3].2[1] = f32::NAN), ProbeError::NotFinite { sample: 3 });
    assert_eq!(
        broken(|all| all[2].2.truncate(4)),
        ProbeError::UnevenFeatures { sample: 2, found: 4, expected: 5 }
    );
    assert_eq!(
        broken(|all| all[1].0 = 3),
        ProbeError::UnknownClass { sample: 1, label: 3, classes: 3 }
    );
    let one = fit(&samples(&good), 1, 0, None, &mut |_, _, _| ControlFlow::Continue(()));
    assert_eq!(one, Err(ProbeError::OneClass { classes: 1 }));
}

#[test]
fn folds_share_out_the_patients_of_each_class_evenly() {
    let names: Vec<String> = (0..40).map(|patient| format!("p{patient}")).collect();
    let images: Vec<(usize, &str)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (usize::from(at % 4 == 0), name.as_str()))
        .collect();

    let folds = divide(&images, 2, 1);

    for fold in 0..5 {
        let held_out = images.iter().zip(&folds.held_out).filter(|(_, of)| **of == Some(fold));
        let rare = held_out.clone().filter(|((label, _), _)| *label == 1).count();
        assert_eq!((held_out.count(), rare), (8, 2));
    }
}

#[test]
fn a_class_of_one_patient_stays_in_training_while_others_are_held_out() {
    let images = [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e"), (2, "f"), (2, "f")];

    let folds = divide(&images, 3, 0);

    assert_eq!((folds.count, &folds.held_out[5..]), (2, &[None, None][..]));
    assert!(folds.held_out[..5].iter().all(Option::is_some));
    assert!(folds.notices[0].starts_with("1 of 3 classes"), "{:?}", folds.notices);
}

proptest! {
    #[test]
    fn no_patient_is_in_two_folds_and_every_fold_trains_on_every_class(
        drawn in prop::collection::vec((0_usize..4, 0_usize..15), 1..60),
        seed: u64,
    ) {
        let names: Vec<String> = (0..15).map(|patient| format!("p{patient}")).collect();
        let images: Vec<(usize, &str)> =
            drawn.iter().map(|(label, patient)| (*label, names[*patient].as_str())).collect();
        let reversed: Vec<(usize, &str)> = images.iter().rev().copied().collect();

        let folds = divide(&images, 4, seed);

        let places: BTreeSet<(&str, Option<usize>)> =
            images.iter().zip(&folds.held_out).map(|((_, patient), fold)| (*patient, *fold)).collect();
        let patients: BTreeSet<&str> = images.iter().map(|(_, patient)| *patient).collect();
        prop_assert_eq!(places.len(), patients.len());
        let classes = |kept: &dyn Fn(Option<usize>) -> bool| -> BTreeSet<usize> {
            let images = images.iter().zip(&folds.held_out);
            images.filter(|(_, fold)| kept(**fold)).map(|((label, _), _)| *label).collect()
        };
        for fold in 0..folds.count {
            prop_assert_eq!(classes(&|of| of != Some(fold)), classes(&|_| true));
            prop_assert!(!classes(&|of| of == Some(fold)).is_empty());
        }
        let mut backwards = divide(&reversed, 4, seed).held_out;
        backwards.reverse();
        prop_assert_eq!(backwards, folds.held_out);
    }
}
