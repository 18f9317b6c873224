//! Training on a small network: every method learns, repeats itself, resumes and says what it did.

mod recorded;
mod robust;
mod world;

use lvmed::domain::augmentation::{Augment, Preset};
use lvmed::domain::run::Method;
use lvmed::domain::training::{Optimiser, Schedule, Selection, Training};
use lvmed::domain::{Architecture, HeadRule, Split};
use lvmed::training::{Stop, TrainingError, replay, run};

use world::{World, file};

/// Settings under which a random ResNet-18 learns a handful of pictures within seconds.
fn quick() -> Training {
    Training {
        epochs: 3,
        patience: 1000,
        batch_size: 4,
        stages: 2,
        learning_rate: Some(1e-3),
        weight_decay: 0.0,
        ..Training::default()
    }
}

#[test]
fn every_method_learns_a_tiny_set_by_heart() {
    for (method, epochs) in [(Method::Probe, 1), (Method::Last, 30), (Method::Full, 30)] {
        let mut world = World::of(8);
        world.judge_what_was_learnt();
        world.method(method, Training { epochs, batch_size: 8, ..quick() });

        let outcome = world.run().expect("it ends");

        let accuracy = outcome.evaluation.accuracy.value;
        assert!((accuracy - 1.0).abs() < f64::EPSILON, "{method:?}: {accuracy}");
    }
}

#[test]
fn training_starts_from_the_fitted_head_and_keeps_it_where_nothing_is_better() {
    let mut world = World::of(8);
    world.job.spec.head = Some(HeadRule::Auto);
    // A probe would learn from them.
    world.job.examples.retain(|example| example.split != Split::Validation);
    world.method(Method::Probe, quick());
    let probe = world.run().expect("it ends");
    for method in [Method::Last, Method::Full] {
        // Pictures that vary: without, `last` takes a hundred steps at least.
        let augment = Some(Augment::Preset(Preset::General));
        let still = Training { epochs: 1, learning_rate: Some(1e-9), augment, ..quick() };
        world.method(method, still);
        world.host.forget();

        let outcome = world.run().expect("it ends");

        for ((_, found), (_, start)) in outcome.predictions.iter().zip(&probe.predictions) {
            let near = found.iter().zip(start).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(near, "{method:?}: {found:?}, from {start:?}");
        }
    }

    // A rate at which steps make it worse: the best of the start and of the epochs is published.
    let mut world = World::of(8);
    world.job.spec.head = Some(HeadRule::Auto);
    let wild =
        Training { epochs: 2, learning_rate: Some(0.5), optimiser: Optimiser::Sgd, ..quick() };
    world.method(Method::Full, wild);
    let outcome = world.run().expect("it ends");

    let validation = world.host.losses().remove("validation_loss").expect("a curve");
    let best = validation.values().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(validation.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "the start is judged");
    let kept = validation.iter().find(|(_, loss)| loss.total_cmp(&best).is_eq());
    let (epoch, _) = kept.expect("a best epoch");
    let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
    assert!(card.contains(&format!("epoch {epoch} of")), "{card}");
    assert!(card.contains("started from a head"), "{card}");
}

#[test]
fn equal_seeds_give_equal_bytes_and_a_resumed_run_is_the_uninterrupted_one() {
    let settings = [
        (Method::Last, 1, quick()),
        (Method::Last, 2, Training { ema_decay: 0.9, ..quick() }),
        (
            Method::Full,
            2,
            Training {
                epochs: 2,
                optimiser: Optimiser::Sgd,
                schedule: Schedule::Plateau,
                select: Selection::Auroc,
                label_smoothing: 0.1,
                layer_decay: 0.7,
                ..quick()
            },
        ),
        (Method::Full, 1, Training { micro_batch: Some(3), ema_decay: 0.5, ..quick() }),
        (Method::Probe, 2, quick()),
    ];
    for (method, repeats, training) in settings {
        let mut world = World::of(6);
        world.method(method, training);
        world.job.spec.repeats = repeats;
        // Recipes of before and of now.
        let is_of_now = repeats == 2 && method != Method::Last;
        world.job.spec.head = is_of_now.then_some(HeadRule::Auto);

        let whole = world.run().expect("it ends");
        let losses = world.host.losses();
        for stop_after in [1, 4, 5] {
            world.host.forget();
            world.host.stop_after(stop_after);
            let stopped = world.run();
            assert!(matches!(stopped, Err(TrainingError::Stopped(_))), "{method:?}: {stopped:?}");
            world.host.go_on();
            let before = world.host.log_text().len();
            let resumed = world.run().expect("it ends");
            let told = world.host.log_text().split_off(before);
            let expected = match method {
                Method::Probe => "images are known already",
                Method::Last | Method::Full | Method::Lora => "resumed from a checkpoint in epoch",
            };
            assert!(told.contains(expected), "{method:?} started anew: {told}");

            for name in ["model.safetensors", "model.onnx", "config.json", "card.md"] {
                assert!(file(&whole, name) == file(&resumed, name), "{method:?} {repeats} {name}");
            }
            assert_eq!(world.host.losses(), losses, "{method:?}");
        }
    }
}

#[test]
fn features_are_the_same_whatever_was_cached_before_and_goes_through_beside() {
    let mut world = World::of(30);
    world.method(Method::Probe, quick());
    world.run().expect("it ends");
    let whole = world.host.features();
    assert_eq!(whole.len(), 36);

    for kept in [1, 7, 35] {
        world.host.keep_features(kept);
        world.run().expect("it ends");
        assert_eq!(world.host.features(), whole, "{kept} were kept");
    }
}

#[test]
fn an_evaluation_says_what_pixels_and_a_random_network_reach_on_the_same_images() {
    let mut world = World::of(12);
    world.method(Method::Probe, Training::default());
    // The seed of the backbone's own random weights: the random network is then the same one.
    let spec = &mut world.job.spec;
    (spec.head, spec.seed, spec.random_baseline) = (Some(HeadRule::Auto), 1, true);

    let first = world.run().expect("it ends").evaluation;
    let again = world.run().expect("it ends").evaluation;

    let [pixels, random] = &first.baselines[..] else { panic!("{:?}", first.baselines) };
    assert_eq!((pixels.name.as_str(), random.name.as_str()), ("pixels", "random"));
    // One half of each picture is bright.
    assert_eq!(pixels.macro_auroc.expect("defined").value, 1.0);
    assert_eq!(random.balanced_accuracy, first.balanced_accuracy);
    assert_eq!(random.macro_auroc, first.macro_auroc);
    assert_eq!(random.log_loss, first.log_loss);
    let told = |text: &str| first.notices.iter().any(|notice| notice.contains(text));
    assert!(told("For comparison, without any backbone, a linear discriminant"), "{first:#?}");
    assert!(
        told("For comparison, the same architecture, frozen with random weights"),
        "{first:#?}"
    );
    assert_eq!(again, first, "features that are cached leave pictures to be decoded for pixels");
    world.job.spec.random_baseline = false;
    assert_eq!(world.run().expect("it ends").evaluation.baselines, first.baselines[..1]);
}

#[test]
fn a_random_network_is_a_floor_of_every_method_and_may_be_stopped() {
    for method in [Method::Probe, Method::Full] {
        let mut world = World::of(8);
        world.method(method, Training { epochs: 1, ..quick() });
        (world.job.spec.head, world.job.spec.random_baseline) = (Some(HeadRule::Auto), true);
        world.host.stop_in("judging a random network");

        let stopped = world.run();
        assert!(matches!(stopped, Err(TrainingError::Stopped(Stop::HandedBack))), "{stopped:?}");
        world.host.go_on();
        let resumed = world.run().expect("it ends");
        world.host.forget();
        let whole = world.run().expect("it ends");

        let names: Vec<&str> =
            whole.evaluation.baselines.iter().map(|floor| floor.name.as_str()).collect();
        assert_eq!(names, ["pixels", "random"], "{method:?}");
        assert_eq!(whole.evaluation, resumed.evaluation, "{method:?}");
    }
}

#[test]
fn the_card_and_the_configuration_say_how_a_head_was_fitted() {
    let mut world = World::of(12);
    world.method(Method::Probe, Training::default());
    world.job.spec.head = Some(HeadRule::Auto);

    let outcome = world.run().expect("it ends");

    let config: serde_json::Value =
        serde_json::from_slice(&file(&outcome, "config.json")).expect("JSON");
    let head = &config["training"]["head"];
    let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
    assert_eq!(head["rule"], "auto", "{config:#}");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let mean = format!("temperature of {:.3}:", number(&head["temperature"]));
    assert!(card.contains(&mean), "{mean} is not in {card}");
    let parts = head["parts"].as_array().expect("a list");
    assert_eq!(parts.len(), 3);
    for part in parts {
        let (regularisation, own) = (&part["regularisation"], number(&part["temperature"]));
        let told = format!("{:.3e}, temperature {own:.3})", number(regularisation));
        assert!(card.contains(&told), "{told} is not in {card}");
    }
    assert!(card.contains("fold cross-validation"), "{card}");
}

/// Of DINOv2 everything is composed: every method trains it, and what is published answers as it did.
#[test]
fn every_method_trains_and_publishes_a_network_without_kernels_of_its_own() {
    for method in [Method::Probe, Method::Last, Method::Lora, Method::Full] {
        let mut world = World::on(Architecture::DINOV2_VITS14, 8);
        let augment = Some(Augment::Preset(Preset::General));
        world.method(method, Training { epochs: 2, rank: 2, augment, ..quick() });

        let outcome = world.run().expect("it ends");

        let accuracy = outcome.evaluation.accuracy.value;
        assert!((0.0..=1.0).contains(&accuracy), "{method:?}: {accuracy}");
        let tensors =
            lvmed::nn::weights::load_bytes(&file(&outcome, "model.safetensors")).expect("weights");
        let mut wanted = Architecture::DINOV2_VITS14.tensors();
        wanted.insert("fc.bias".to_owned(), vec![2]);
        wanted.insert("fc.weight".to_owned(), vec![2, 768]);
        assert!(tensors.keys().eq(wanted.keys()), "{method:?}");
        assert!(!file(&outcome, "model.onnx").is_empty());
        if method != Method::Probe {
            assert_eq!(world.host.curve("train_loss").len(), 4, "{method:?}");
        }
    }
}

#[test]
fn low_rank_factors_learn_by_heart_are_merged_and_resume_to_the_same_bytes() {
    let mut world = World::on(Architecture::SAM_VIT_B, 4);
    world.judge_what_was_learnt();
    let training = Training { epochs: 20, rank: 2, learning_rate: Some(2e-3), ..quick() };
    world.method(Method::Lora, training);

    world.host.stop_after(3);
    let stopped = world.run();
    assert!(matches!(stopped, Err(TrainingError::Stopped(_))), "{stopped:?}");
    let early = world.host.curve("train_loss");
    let checkpoint = world.host.checkpoints().pop().expect("there is one");
    world.host.go_on();
    let share = world.host.share();
    assert!(share > 0.0 && share < 1.0, "{share} of the run is kept");
    let resumed = world.run().expect("it ends");
    let told = world.host.log_text();
    assert!(told.contains("resumed from a checkpoint in epoch"), "it started anew: {told}");
    let losses = world.host.losses();
    world.host.forget();
    let whole = world.run().expect("it ends");

    assert_eq!(early.len(), 3);
    assert!(file(&whole, "model.safetensors") == file(&resumed, "model.safetensors"));
    assert_eq!(world.host.losses(), losses);
    let accuracy = whole.evaluation.accuracy.value;
    assert!((accuracy - 1.0).abs() < f64::EPSILON, "{accuracy}");
    // What is trained is small, and so is what has to be kept of it.
    let model = file(&whole, "model.safetensors");
    assert!(checkpoint.len() < model.len() / 20, "{} {}", checkpoint.len(), model.len());
    let tensors = lvmed::nn::weights::load_bytes(&model).expect("weights");
    assert!(tensors.keys().all(|name| !name.contains("lora")), "factors were published");
}

#[test]
fn repeats_use_other_seeds_and_are_told_with_their_mean_and_interval() {
    for method in [Method::Probe, Method::Last] {
        let mut world = World::of(12);
        world.method(method, quick());
        (world.job.spec.repeats, world.job.spec.shots) = (3, Some(2));

        let outcome = world.run().expect("it ends");

        let repeats = outcome.evaluation.repeats.as_ref().expect("several");
        assert_eq!(repeats.seeds, [5, 6, 7]);
        assert_eq!(repeats.accuracy.values.len(), 3);
        let published = repeats.accuracy.values[repeats.published as usize];
        assert!((outcome.evaluation.accuracy.value - published).abs() < 1e-12, "{repeats:?}");
        assert!(repeats.accuracy.low <= repeats.accuracy.mean);
        let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
        assert!(card.contains("### Repeats") && card.contains("t-intervals"), "{card}");
        let series = if method == Method::Probe { "cv_loss" } else { "train_loss" };
        let first = world.host.curve(series);
        let third = world.host.curve(&format!("{series}/3"));
        assert!(!first.is_empty() && first.len() == third.len() && first != third, "{method:?}");
    }
}

#[test]
fn a_replay_finds_the_recorded_losses_and_names_the_first_that_differs() {
    for method in [Method::Probe, Method::Last, Method::Full] {
        let mut world = World::of(8);
        world.method(method, quick());
        world.run().expect("it ends");
        let series = replay::series(method);
        let recorded = world.host.curve(series);
        world.host.forget();

        let same = replay::replay(&world.job, &world.host, &recorded, 3).expect("it ends");
        let mut changed = recorded.clone();
        changed.entry(2).and_modify(|loss| *loss += f64::EPSILON);
        let other = replay::replay(&world.job, &world.host, &changed, 3).expect("it ends");

        assert_eq!((same.compared, same.equal, same.first_difference), (3, true, None));
        assert!(!other.equal, "{method:?}");
        let difference = other.first_difference.expect("there is one");
        assert_eq!((difference.step, difference.found), (2, recorded[&2]), "{method:?}");
        assert!(world.host.checkpoints().is_empty(), "a replay leaves no checkpoint");
    }
}

#[test]
fn what_was_chosen_for_the_user_is_in_log_and_card() {
    let mut world = World::of(8);
    world.method(Method::Last, quick());

    let outcome = run(&world.job, &world.host).expect("it ends");

    let log = world.host.log_text();
    assert!(log.contains("keeps the pretrained statistics, with 8 training images"), "{log}");
    assert!(log.contains("computed once an image"), "{log}");
    let card = String::from_utf8(file(&outcome, "card.md")).expect("text");
    assert!(card.contains("the last 2 stages or blocks"), "{card}");
    assert!(card.contains("frozen normalisation statistics, 4 images at a time"), "{card}");
}
