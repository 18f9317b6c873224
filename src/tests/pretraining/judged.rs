//! The gate: what it lets through, what it holds back, and what it keeps from being learnt.

use lvmed::domain::Split;
use lvmed::domain::pretrain::Verdict;
use lvmed::domain::training::Optimiser;
use lvmed::training::{Stop, TrainingError};

use super::world::{Push, Tiny, World, card};

#[test]
fn a_backbone_that_is_not_worse_is_published_with_the_comparison_on_its_card() {
    let mut world = World::of(8);
    world.gate(8, 12);
    world.job.spec.gate.as_mut().expect("a gate").every = Some(1);
    world.learning().learning_rate = 1e-9;

    let made = world.run(Tiny::new(false)).expect("it ends");

    let found = made.comparison.as_ref().expect("it was judged");
    assert!(made.published && found.verdict == Verdict::NotWorse, "{found:?}");
    assert_eq!((found.repeats, found.images, found.patients), (3, 12, 12));
    assert!(found.difference.low <= found.difference.high);
    assert_eq!(found.after_repeats.len(), 3);
    // Before, after the first of two epochs, after the last.
    let curve = world.host.curve("probe_auroc");
    assert!(curve.keys().eq(&[0, 2, 4]), "{curve:?}");
    let text = card(&made);
    assert!(text.contains("| difference |") && text.contains("Verdict: not worse"), "{text}");
}

#[test]
fn a_gate_that_names_no_shots_judges_by_several_and_shows_each() {
    let mut world = World::of(8);
    world.gate(20, 12);
    world.job.spec.gate.as_mut().expect("a gate").shots = None;
    world.learning().learning_rate = 1e-9;

    let made = world.run(Tiny::new(false)).expect("it ends");

    let found = made.comparison.as_ref().expect("it was judged");
    // Ten images of each class: five of them, then all.
    let counts: Vec<Option<u32>> = found.each.iter().map(|each| each.shots).collect();
    assert_eq!((counts, found.shots), (vec![Some(5), None], None));
    let mean = found.each.iter().map(|each| each.after.value).sum::<f64>() / 2.0;
    assert!((found.after.value - mean).abs() < 1e-12, "{found:?}");
    let repeats = found.after_repeats.iter().sum::<f64>() / 3.0;
    assert!(found.after_repeats.len() == 3 && (repeats - mean).abs() < 1e-12, "{found:?}");
    let text = card(&made);
    assert!(text.contains("| difference with 5 image(s) of each class |"), "{text}");
    assert!(
        text.contains(
            "| difference with all training images but those of a fifth of the patients |"
        ),
        "{text}"
    );
}

#[test]
fn a_backbone_that_became_worse_stays_a_candidate() {
    let mut world = World::of(8);
    world.gate(8, 12);
    let learning = world.learning();
    // What decays by all of itself is gone after a step; next to nothing pulls the other way.
    (learning.optimiser, learning.learning_rate) = (Optimiser::AdamW, 1.0);
    learning.weight_decay = 1.0;

    let made = world.run(Push(1e-30)).expect("it ends");

    let found = made.comparison.as_ref().expect("it was judged");
    assert_eq!(found.verdict, Verdict::Worse, "{found:?}");
    assert!(found.difference.value < -0.2, "{found:?}");
    assert!(!made.published);
    assert!(made.notices[0].contains("did not pass"), "{:?}", made.notices);
    assert!(card(&made).contains("Verdict: worse"));
}

#[test]
fn test_images_and_patients_of_the_gate_and_the_versions_own_are_never_shown() {
    let mut world = World::of(8);
    world.gate(8, 12);
    let judge = world.job.gate.as_ref().expect("a gate");
    let test = judge.examples.iter().filter(|image| image.split == Split::Test);
    let mut leaked: Vec<_> = test.take(3).cloned().collect();
    let learnt = judge.examples.iter().find(|image| image.split == Split::Train).cloned();
    // Another picture of a patient who is tested.
    let mut other = world.host.keep(crate::pictures::png(0, 900, 32), 900, Split::Train);
    other.patient = leaked.swap_remove(2).patient;
    leaked.push(other);
    // Of another split here, but the same files; a training image of the gate may be learnt from.
    world.job.pictures.extend(
        leaked
            .into_iter()
            .chain(learnt)
            .map(|image| lvmed::training::Example { split: Split::Train, ..image }),
    );
    world.job.pictures[0].split = Split::Test;
    world.learning().batch_size = 12;

    let refused = world.run(Tiny::new(false)).expect_err("eight images are left");

    assert!(matches!(refused, TrainingError::TooFewToPretrain { images: 8, .. }), "{refused}");
    world.learning().batch_size = 4;
    let made = world.run(Tiny::new(false)).expect("it ends");
    let text = card(&made);
    assert!(text.contains("Shown were 8 images"), "{text}");
    assert!(text.contains("1 image(s) of its test split were never shown, nor 3 of patients"));
}

#[test]
fn what_was_judged_before_is_not_judged_again_by_another_attempt() {
    let mut world = World::of(8);
    world.gate(8, 12);
    let whole = world.run(Tiny::new(true)).expect("it ends");
    world.host.forget();
    world.host.stop_after(2, Stop::HandedBack);
    assert!(world.run(Tiny::new(true)).is_err());
    world.host.go_on();

    let parts = world.run(Tiny::new(true)).expect("it ends");

    assert_eq!(parts.comparison, whole.comparison);
    assert_eq!(card(&parts), card(&whole));
    // Once before and once after.
    assert_eq!(world.host.told("probe_auroc"), 2);
}

#[test]
fn a_probe_that_was_interrupted_is_done_by_the_next_attempt() {
    let mut world = World::of(8);
    world.gate(8, 12);
    world.job.spec.gate.as_mut().expect("a gate").every = Some(1);
    let whole = world.run(Tiny::new(true)).expect("it ends");
    let curve = world.host.curve("probe_auroc");
    world.host.forget();
    let judged = world.job.gate.as_ref().expect("a gate").examples.last().expect("an image").blob;
    // Two steps are the first of two epochs.
    world.host.trap(judged, 2);
    assert!(matches!(world.run(Tiny::new(true)), Err(TrainingError::Stopped(Stop::HandedBack))));
    assert_eq!((world.host.told("loss"), world.host.told("probe_auroc")), (2, 1));
    world.host.go_on();

    let parts = world.run(Tiny::new(true)).expect("it ends");

    assert_eq!(world.host.curve("probe_auroc"), curve);
    assert_eq!((world.host.told("loss"), world.host.told("probe_auroc")), (4, 3));
    assert_eq!(card(&parts), card(&whole));
}

#[test]
fn minutes_are_those_of_training_and_one_step_is_always_done() {
    let mut world = World::of(8);
    world.gate(8, 12);
    world.learning().epochs = 1000;
    // Sixty milliseconds, less than the probe before takes.
    world.learning().max_minutes = Some(0.001);

    world.run(Tiny::new(false)).expect("it ends");

    let steps = world.host.curve("loss").len();
    assert!((1..1000).contains(&steps), "{steps}");
}

#[test]
fn a_gate_that_can_tell_nothing_is_refused_before_the_first_step() {
    let mut world = World::of(8);
    world.gate(8, 12);
    let judge = world.job.gate.as_mut().expect("a gate");
    judge.examples.retain(|image| image.split == Split::Train || image.class() == 0);

    let refused = world.run(Tiny::new(false)).expect_err("one class is not told from another");

    assert!(matches!(refused, TrainingError::CannotCompare { images: 6 }), "{refused}");
    assert!(world.host.curve("loss").is_empty());
}

#[test]
fn what_another_version_found_before_is_found_anew_with_the_network_as_it_was() {
    let mut world = World::of(8);
    world.gate(8, 12);
    let whole = world.run(Tiny::new(false)).expect("it ends").comparison;
    let saved = world.host.checkpoints().pop().expect("a checkpoint");
    // The number of the rule, in as many bytes: the header of the file says where its tensors begin.
    let mut bytes = saved.to_vec();
    let is_rule = |window: &[u8]| {
        window.starts_with(b"before") && window[6] != b'/' && window.contains(&b'3')
    };
    let at = bytes.windows(20).position(is_rule).expect("it is there");
    let rule = bytes[at..at + 20].iter_mut().find(|byte| **byte == b'3').expect("a number");
    *rule = b'1';
    world.host.forget();
    lvmed::training::Host::save_checkpoint(&world.host, bytes.into()).expect("kept");

    let resumed = world.run(Tiny::new(false)).expect("it ends").comparison;

    assert_eq!(resumed, whole);
}
