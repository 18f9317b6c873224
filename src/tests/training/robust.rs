//! The failures in training, and what they leave.

use lvmed::domain::forecast::Calibration;
use lvmed::domain::run::Method;
use lvmed::domain::training::{Optimiser, Training};
use lvmed::training::TrainingError;

use super::quick;
use super::world::{World, file, numbers};

#[test]
fn numbers_that_end_stop_the_run_with_step_and_layer_and_the_last_good_state_kept() {
    let mut world = World::of(8);
    let broken = Training {
        epochs: 50,
        optimiser: Optimiser::Sgd,
        learning_rate: Some(1e12),
        clip_norm: 0.0,
        ..quick()
    };
    world.method(Method::Full, broken);
    world.host.stop_after(1);
    assert!(matches!(world.run(), Err(TrainingError::Stopped(_))));
    world.host.go_on();
    let before = world.host.checkpoints();

    let error = world.run().expect_err("such a rate breaks anything");

    let TrainingError::Diverged { step, layer, .. } = &error else { panic!("{error}") };
    assert!(*step > 1, "{error}");
    let named = ["conv", "bn", "layer", "fc"].iter().any(|part| layer.contains(part));
    assert!(named, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("step {step}")) && text.contains(layer), "{text}");
    let kept = world.host.checkpoints();
    assert!(!before.is_empty() && kept.starts_with(&before), "the good state was replaced");
}

#[test]
fn parts_of_a_batch_add_up_to_the_whole_when_statistics_are_frozen() {
    for method in [Method::Last, Method::Full] {
        let mut world = World::of(8);
        world.method(method, Training { batch_size: 8, ..quick() });
        let whole = world.run().expect("it ends");
        let losses: Vec<f64> = world.host.curve("train_loss").into_values().collect();
        world.host.forget();
        world.job.spec.training.micro_batch = Some(3);

        let parts = world.run().expect("it ends");

        let in_parts: Vec<f64> = world.host.curve("train_loss").into_values().collect();
        for (one, other) in losses.iter().zip(&in_parts) {
            assert!((one - other).abs() < 1e-4 * one.abs().max(1.0), "{losses:?} {in_parts:?}");
        }
        let (whole, parts) = (numbers(&whole, "fc.bias"), numbers(&parts, "fc.bias"));
        for (one, other) in whole.iter().zip(&parts) {
            assert!((one - other).abs() < 1e-3, "{method:?}: {whole:?} and {parts:?}");
        }
    }
}

#[test]
fn a_batch_that_would_not_fit_is_halved_and_the_choice_is_on_record() {
    let mut world = World::of(8);
    world.method(Method::Full, Training { epochs: 1, batch_size: 8, ..quick() });
    world.job.ground.memory_bytes = 3_000_000_000;
    world.job.ground.calibration = Some(Calibration {
        base_bytes: 1_000_000_000,
        image_bytes: 500_000_000,
        checkpoint_bytes: 0,
        step_seconds: 0.0,
        image_seconds: 0.0,
        forward_seconds: 0.0,
        frozen_seconds: 0.0,
    });

    let outcome = world.run().expect("it ends");

    assert_eq!(world.host.settled(), Some(2));
    let log = world.host.log_text();
    assert!(log.contains("2 images are computed at a time") && log.contains("5750 MB"), "{log}");
    let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
    assert!(card.contains("2 images at a time"), "{card}");

    world.job.ground.memory_bytes = 1_000_000_000;
    let refused = world.run().expect_err("not even one image fits");
    assert!(matches!(refused, TrainingError::TooLarge(_)), "{refused}");
    assert!(refused.to_string().contains("1000 MB"), "{refused}");
}

#[test]
fn minutes_that_are_used_up_end_the_run_with_the_best_so_far() {
    let mut world = World::of(8);
    let endless = Training { epochs: 1000, max_minutes: Some(0.01), ..quick() };
    world.method(Method::Last, endless);
    let begun = std::time::Instant::now();

    let outcome = world.run().expect("it ends");

    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let config: serde_json::Value =
        serde_json::from_slice(&file(&outcome, "config.json")).expect("JSON");
    assert_eq!(config["training"]["ended"], "time_budget", "{config:#}");
    let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
    assert!(card.contains("the minutes allowed were used up"), "{card}");
}

#[test]
fn a_state_that_cannot_be_read_is_no_silent_new_start() {
    let mut world = World::of(4);
    world.method(Method::Last, quick());
    world.host.stop_after(1);
    assert!(world.run().is_err());
    world.host.go_on();
    world.host.spoil_checkpoint();

    let error = world.run().expect_err("the checkpoint is cut");

    assert!(matches!(error, TrainingError::Weights(_)), "{error}");
}
