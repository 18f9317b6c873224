//! The evaluation: its metrics are scikit-learn's and the definitions', its intervals are honest.

use lvmed::domain::evaluation::Estimate;
use lvmed::training::evaluate;
use lvmed::training::judge::metrics::{CannotJudge, Judged, Scorer, Scores};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(serde::Deserialize)]
struct Fixture {
    judged: Vec<Expected>,
}

/// The values that `scripts/fixtures/metrics.py` wrote.
#[derive(serde::Deserialize)]
struct Expected {
    name: String,
    classes: usize,
    truth: Vec<usize>,
    probabilities: Vec<Vec<f32>>,
    accuracy: f64,
    balanced_accuracy: f64,
    macro_auroc: Option<f64>,
    macro_auprc: Option<f64>,
    macro_f1: f64,
    brier: f64,
    log_loss: Option<f64>,
    ece: f64,
    /// The patient of each image; each image is of its own when absent.
    patients: Option<Vec<u32>>,
    confusion: Vec<Vec<u64>>,
}

fn labels(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

fn judged<'a>(images: &'a [(usize, Vec<f32>)], patients: &'a [String]) -> Vec<Judged<'a>> {
    let images = images.iter().zip(patients);
    images
        .map(|((truth, p), patient)| Judged { truth: *truth, probabilities: p, patient })
        .collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("p{at:04}")).collect()
}

/// Images of two classes, right with a probability of `skill`, and never sure.
fn two_classes(count: usize, skill: f64, rng: &mut StdRng) -> Vec<(usize, Vec<f32>)> {
    (0..count)
        .map(|at| {
            let sure = rng.random_range(0.51..0.99_f32);
            let top = if rng.random_bool(skill) { at % 2 } else { 1 - at % 2 };
            (at % 2, if top == 0 { vec![sure, 1.0 - sure] } else { vec![1.0 - sure, sure] })
        })
        .collect()
}

fn score(images: &[(usize, Vec<f32>)], classes: usize, weights: &[u32]) -> Scores {
    let patients = names(images.len());
    Scorer::new(&judged(images, &patients), classes).expect("images to judge").score(weights)
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("fixtures/metrics.json")).expect("the fixture reads");
    assert_eq!(fixture.judged.len(), 43);
    for expected in fixture.judged {
        let images: Vec<_> = expected.truth.into_iter().zip(expected.probabilities).collect();
        let patients = expected.patients.map_or_else(
            || names(images.len()),
            |patients| patients.iter().map(|patient| format!("p{patient:04}")).collect(),
        );

        let found = evaluate(&labels(expected.classes), &judged(&images, &patients), 10, 0)
            .expect("an evaluation");

        let pairs = [
            (Some(found.accuracy.value), Some(expected.accuracy)),
            (Some(found.balanced_accuracy.value), Some(expected.balanced_accuracy)),
            (found.macro_auroc.map(|found| found.value), expected.macro_auroc),
            (found.macro_auprc.map(|found| found.value), expected.macro_auprc),
            (Some(found.macro_f1.value), Some(expected.macro_f1)),
            (Some(found.brier.value), Some(expected.brier)),
            (Some(found.ece.value), Some(expected.ece)),
            (
                found.log_loss.map(|found| found.value).filter(|_| expected.log_loss.is_some()),
                expected.log_loss,
            ),
        ];
        for (metric, (value, expected_value)) in pairs.into_iter().enumerate() {
            let close = match (value, expected_value) {
                (Some(value), Some(expected)) => (value - expected).abs() < 1e-9,
                (value, expected) => value == expected,
            };
            assert!(close, "{}, metric {metric}: {value:?}, not {expected_value:?}", expected.name);
        }
        assert_eq!(found.confusion, expected.confusion, "{}", expected.name);
    }
}

/// Area under the ROC curve as the share of pairs put in order, ties half.
fn pairs_in_order(scores: &[(bool, f32)]) -> f64 {
    let (mut won, mut pairs) = (0.0, 0.0);
    for (_, positive) in scores.iter().filter(|(is, _)| *is) {
        for (_, negative) in scores.iter().filter(|(is, _)| !*is) {
            pairs += 1.0;
            won += match positive.total_cmp(negative) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    won / pairs
}

/// `Σ (Rₙ − Rₙ₋₁) Pₙ` with every distinct score as a threshold.
fn average_precision(scores: &[(bool, f32)]) -> f64 {
    let mut thresholds: Vec<f32> = scores.iter().map(|(_, score)| *score).collect();
    thresholds.sort_by(|one, other| other.total_cmp(one));
    thresholds.dedup();
    let positives = scores.iter().filter(|(is, _)| *is).count() as f64;
    let (mut sum, mut before) = (0.0, 0.0);
    for threshold in thresholds {
        let above = scores.iter().filter(|(_, score)| *score >= threshold);
        let hits = above.clone().filter(|(is, _)| *is).count() as f64;
        sum += (hits / positives - before) * hits / above.count() as f64;
        before = hits / positives;
    }
    sum
}

proptest! {
    #[test]
    fn areas_are_their_definitions_and_a_weight_is_a_repetition(
        drawn in prop::collection::vec((0_usize..3, 0_u8..8, 0_u8..8, 0_u32..4), 1..40),
    ) {
        let images: Vec<(usize, Vec<f32>)> = drawn
            .iter()
            .map(|(truth, a, b, _)| {
                let (a, b) = (f32::from(*a) / 16.0, f32::from(*b) / 16.0);
                (*truth, vec![a, b, 1.0 - a - b])
            })
            .collect();
        let weights: Vec<u32> = drawn.iter().map(|(.., weight)| *weight).collect();
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let repeated: Vec<(usize, Vec<f32>)> = images
            .iter()
            .zip(&weights)
            .flat_map(|(image, weight)| std::iter::repeat_n(image.clone(), *weight as usize))
            .collect();

        let weighted = score(&images, 3, &weights);
        let plain = score(&repeated, 3, &vec![1; repeated.len()]);

        let one_vs_rest = (0..3)
            .map(|class| {
                repeated.iter().map(|(truth, p)| (*truth == class, p[class])).collect::<Vec<_>>()
            })
            .filter(|scores| scores.iter().any(|(is, _)| *is) && !scores.iter().all(|(is, _)| *is))
            .collect::<Vec<_>>();
        let mean = |metric: fn(&[(bool, f32)]) -> f64| {
            one_vs_rest.iter().map(|scores| metric(scores)).sum::<f64>() / one_vs_rest.len() as f64
        };
        prop_assert_eq!(weighted.macro_auroc.is_some(), !one_vs_rest.is_empty());
        if let (Some(auroc), Some(auprc)) = (weighted.macro_auroc, weighted.macro_auprc) {
            prop_assert!((auroc - mean(pairs_in_order)).abs() < 1e-12);
            prop_assert!((auprc - mean(average_precision)).abs() < 1e-12);
        }
        prop_assert_eq!(weighted.macro_auroc, plain.macro_auroc);
        prop_assert_eq!(weighted.accuracy.to_bits(), plain.accuracy.to_bits());
        prop_assert!((weighted.macro_f1 - plain.macro_f1).abs() < 1e-12);
        prop_assert!((weighted.balanced_accuracy - plain.balanced_accuracy).abs() < 1e-12);
        prop_assert!((weighted.brier - plain.brier).abs() < 1e-12);
        prop_assert!((weighted.ece - plain.ece).abs() < 1e-12);
    }
}

fn accuracy_interval(
    images: &[(usize, Vec<f32>)],
    patients: &[String],
    resamples: u32,
) -> Estimate {
    evaluate(&labels(2), &judged(images, patients), resamples, 5).expect("an evaluation").accuracy
}

#[test]
fn the_interval_of_a_share_is_the_normal_one_when_every_image_is_a_patient() {
    let images = two_classes(400, 0.8, &mut StdRng::seed_from_u64(1));

    let found = accuracy_interval(&images, &names(400), 4000);

    let half = 1.96 * (found.value * (1.0 - found.value) / 400.0).sqrt();
    assert!((found.low - (found.value - half)).abs() < 0.006, "{found:?}");
    assert!((found.high - (found.value + half)).abs() < 0.006, "{found:?}");
}

#[test]
fn repeating_each_patients_image_does_not_narrow_the_interval() {
    let once = two_classes(100, 0.8, &mut StdRng::seed_from_u64(2));
    let repeated: Vec<_> = once.iter().flat_map(|image| vec![image.clone(); 10]).collect();
    let patients: Vec<String> = names(100).into_iter().flat_map(|name| vec![name; 10]).collect();

    let single = accuracy_interval(&once, &names(100), 1000);
    let clustered = accuracy_interval(&repeated, &patients, 1000);

    assert!((single.low - clustered.low).abs() < 1e-12);
    assert!((single.high - clustered.high).abs() < 1e-12);
}

#[test]
fn about_nineteen_in_twenty_intervals_hold_the_truth() {
    let mut rng = StdRng::seed_from_u64(3);

    let held = (0..300).filter(|_| {
        let found = accuracy_interval(&two_classes(80, 0.75, &mut rng), &names(80), 400);
        found.low <= 0.75 && 0.75 <= found.high
    });

    let held = held.count();
    assert!((270..=297).contains(&held), "{held} of 300");
}

#[test]
fn intervals_depend_on_the_seed_but_not_on_threads_or_the_order_of_images() {
    let images = two_classes(60, 0.8, &mut StdRng::seed_from_u64(4));
    let reversed: Vec<_> = images.iter().rev().cloned().collect();
    let patients: Vec<String> = (0..60).map(|at| format!("p{}", at / 3)).collect();
    let backwards: Vec<String> = patients.iter().rev().cloned().collect();
    let on = |threads: usize, images: &[_], patients: &[String], seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| evaluate(&labels(2), &judged(images, patients), 200, seed))
            .expect("an evaluation")
    };

    let one = on(1, &images, &patients, 7);

    assert_eq!(one, on(3, &images, &patients, 7));
    assert_eq!(one.macro_auroc, on(2, &reversed, &backwards, 7).macro_auroc);
    assert_ne!(one.macro_auroc, on(1, &images, &patients, 8).macro_auroc);
}

#[test]
fn one_image_is_evaluated_with_warnings() {
    let (images, patients) = ([(1, vec![0.25, 0.75])], names(1));

    let found = evaluate(&labels(2), &judged(&images, &patients), 50, 0).expect("an evaluation");

    // One of one patient right: anything above 0.025 would show that once in forty times.
    assert!((found.accuracy.low - 0.025).abs() < 1e-12 && found.accuracy.high >= 1.0);
    assert_eq!((found.macro_auroc, found.macro_auprc), (None, None));
    assert!((found.brier.value - 0.125).abs() < 1e-12 && (found.ece.value - 0.25).abs() < 1e-12);
    let notices = found.notices.join("\n");
    for expected in ["\"class 0\"", "all of one class", "all of one patient"] {
        assert!(notices.contains(expected), "{expected} is not in {notices}");
    }
}

#[test]
fn equal_probabilities_rank_like_chance() {
    let images: Vec<_> = (0..20).map(|at| (at % 4, vec![0.25; 4])).collect();
    let patients = names(20);

    let found = evaluate(&labels(4), &judged(&images, &patients), 100, 0).expect("an evaluation");

    let auroc = found.macro_auroc.expect("defined");
    assert!([auroc.value, auroc.low, auroc.high].iter().all(|value| (value - 0.5).abs() < 1e-12));
    assert!(found.notices.iter().any(|notice| notice.contains("learnt nothing")), "{found:?}");
    assert!((found.macro_auprc.expect("defined").value - 0.25).abs() < 1e-12);
    assert!((found.balanced_accuracy.value - 0.25).abs() < 1e-12);
    assert_eq!(found.confusion[3], [5, 0, 0, 0]);
}

#[test]
fn nothing_wrong_among_few_test_images_is_not_certainty() {
    // Of 30 patients, and of 51 of whom one has the finding: exact bounds, in patients.
    for (count, positives, low) in [(30, 15, 0.884), (51, 1, 0.930)] {
        let of = |at: usize| {
            let is_positive = at < positives;
            let other = 0.1 + 0.3 * at as f32 / count as f32;
            let probabilities =
                if is_positive { vec![other, 1.0 - other] } else { vec![1.0 - other, other] };
            (usize::from(is_positive), probabilities)
        };
        let images: Vec<_> = (0..count).map(of).collect();
        let patients = names(count);

        let found =
            evaluate(&labels(2), &judged(&images, &patients), 500, 0).expect("an evaluation");

        let auroc = found.macro_auroc.expect("defined");
        for estimate in [found.accuracy, found.balanced_accuracy, auroc, found.macro_f1] {
            assert!(estimate.value >= 1.0 && estimate.high >= 1.0, "{estimate:?}");
            assert!((estimate.low - low).abs() < 5e-4, "{estimate:?}");
        }
    }
}

#[test]
fn a_class_of_one_patient_does_not_make_an_interval_narrow() {
    // Four patients, two images each: one of either rare class, two of the common one.
    let truths = [0, 0, 1, 1, 2, 2, 2, 2];
    let said = [1, 1, 1, 1, 2, 1, 2, 2];
    let of = |(truth, said): (&usize, &usize)| {
        (*truth, (0..3).map(|class| if class == *said { 0.6 } else { 0.2 }).collect::<Vec<f32>>())
    };
    let images: Vec<_> = truths.iter().zip(&said).map(of).collect();
    let patients: Vec<String> = (0..8).map(|at| format!("p{}", at / 2)).collect();

    let found = evaluate(&labels(3), &judged(&images, &patients), 1000, 0).expect("an evaluation");

    assert!(found.accuracy.high - found.accuracy.low > 0.4, "{:?}", found.accuracy);
    let auroc = found.macro_auroc.expect("defined");
    assert!(auroc.high - auroc.low > 0.2, "{auroc:?}");
}

#[test]
fn guessing_is_measured_by_the_classes_that_are_there() {
    // Three classes of which the test split has two: 0.45 is below guessing among two.
    let images: Vec<_> = (0..40)
        .map(|at| {
            let right = at % 20 < 9;
            let truth = at % 2;
            let said = if right { truth } else { 1 - truth };
            (truth, (0..3).map(|class| if class == said { 0.6 } else { 0.2 }).collect())
        })
        .collect();
    let patients = names(40);

    let found = evaluate(&labels(3), &judged(&images, &patients), 500, 0).expect("an evaluation");

    let told = found.notices.iter().any(|notice| notice.contains("above 0.50"));
    assert!(told, "{:?}", found.notices);
}

#[test]
fn the_calibration_error_is_told_beside_what_chance_shows() {
    let mut rng = StdRng::seed_from_u64(9);
    let honest: Vec<_> = (0..60)
        .map(|at| {
            let sure = rng.random_range(0.5..1.0_f32);
            let top = if rng.random::<f32>() < sure { at % 2 } else { 1 - at % 2 };
            (at % 2, if top == 0 { vec![sure, 1.0 - sure] } else { vec![1.0 - sure, sure] })
        })
        .collect();
    let boasting: Vec<_> = two_classes(60, 0.5, &mut rng)
        .into_iter()
        .map(|(truth, p)| (truth, p.iter().map(|p| if *p > 0.5 { 0.97 } else { 0.03 }).collect()))
        .collect();
    let patients = names(60);
    let of = |images: &[(usize, Vec<f32>)]| {
        evaluate(&labels(2), &judged(images, &patients), 400, 0).expect("an evaluation").ece
    };

    let (honest, boasting) = (of(&honest), of(&boasting));

    let chance = honest.by_chance.expect("computed");
    assert!((0.05..0.2).contains(&chance), "{honest:?}");
    assert!(honest.value <= honest.by_chance_95.expect("computed"), "{honest:?}");
    assert!(boasting.value > boasting.by_chance_95.expect("computed"), "{boasting:?}");
}

#[test]
fn what_cannot_be_judged_is_refused_by_name() {
    let patients = names(1);
    let refused = |truth, probabilities: Vec<f32>| {
        let images = [(truth, probabilities)];
        evaluate(&labels(2), &judged(&images, &patients), 10, 0).expect_err("refused")
    };

    assert_eq!(evaluate(&labels(2), &[], 10, 0), Err(CannotJudge::NoImages));
    assert_eq!(
        refused(2, vec![0.5, 0.5]),
        CannotJudge::UnknownClass { image: 0, truth: 2, classes: 2 }
    );
    assert_eq!(refused(0, vec![1.0]), CannotJudge::WrongLength { image: 0, found: 1, classes: 2 });
    assert!(matches!(refused(0, vec![f32::NAN, 0.5]), CannotJudge::NotAProbability { .. }));
    assert!(matches!(refused(0, vec![1.5, 0.0]), CannotJudge::NotAProbability { .. }));
}
