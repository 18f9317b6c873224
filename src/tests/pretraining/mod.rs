//! Pretraining on a small network: the same on any threads and after any interruption, judged by its
//! gate, published by the released names, and with errors that say what to do.

mod errors;
mod judged;
mod recorded;
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use lvmed::domain::pretrain::Matching;
use lvmed::domain::{Architecture, Split};
use lvmed::nn::{Tensors, weights};
use lvmed::training::objective::GraphMatching;
use lvmed::training::{Example, Stop, TrainingError};

use lvmed::training::pretrain::Start;
use world::{Tiny, World, card, file};

#[test]
fn an_interrupted_run_makes_the_weights_of_the_uninterrupted_one_on_any_threads() {
    let mut world = World::of(14);
    world.job.spec.views.small_crops = 1;
    world.job.spec.views.small_size = 32;
    world.learning().accumulate = 2;
    let whole = world.run(Tiny::new(true)).expect("it ends");
    let losses = world.host.curve("loss");
    // Three batches of four of an epoch's fourteen images: a step of two and one of one.
    assert_eq!(losses.len(), 4);

    world.host.forget();
    world.job.ground.threads = 1;
    for stop in 1..3 {
        world.host.stop_after(stop, Stop::HandedBack);
        let stopped = world.run(Tiny::new(true));
        assert!(matches!(stopped, Err(TrainingError::Stopped(Stop::HandedBack))));
    }
    world.host.go_on();
    world.job.ground.threads = 3;
    let parts = world.run(Tiny::new(true)).expect("it ends");

    assert!(world.host.checkpoints().len() >= 2);
    assert_eq!(world.host.curve("loss"), losses);
    // No step was done twice: what was done before is in the checkpoint.
    assert_eq!(world.host.told("loss"), losses.len());
    let resumed = |line: &&String| line.contains("resumed from a checkpoint");
    assert_eq!(world.host.log_lines().iter().filter(resumed).count(), 2);
    assert!(file(&whole, "model.safetensors") == file(&parts, "model.safetensors"));
    assert!(file(&whole, "model.onnx") == file(&parts, "model.onnx"));
    assert_eq!(card(&whole), card(&parts));
}

/// Names of the tensors that are what they were.
fn unmoved(before: &Path, after: &Tensors) -> Vec<String> {
    let before = weights::load(before).expect("weights");
    let values = |tensor: &candle_core::Tensor| {
        tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values")
    };
    let still = before.into_iter().filter(|(name, tensor)| values(tensor) == values(&after[name]));
    still.map(|(name, _)| name).collect()
}

#[test]
fn what_is_published_has_the_released_names_and_its_parents_licence() {
    let world = World::of(8);

    let made = world.run(Tiny::new(true)).expect("it ends");

    let tensors = weights::load_bytes(&file(&made, "model.safetensors")).expect("weights");
    let expected = world.job.architecture.tensors();
    let names: BTreeSet<&String> = tensors.keys().collect();
    assert_eq!(names, expected.keys().collect());
    assert!(expected.iter().all(|(name, shape)| tensors[name].dims() == shape));
    assert!(made.tensors.keys().eq(tensors.keys()));
    let Start::Backbone { weights: before, .. } = &world.job.start else { panic!("a parent") };
    assert_eq!(unmoved(before, &tensors), Vec::<String>::new(), "training left them as they were");
    assert!(made.parity.max_relative_difference <= made.parity.bound);
    assert!(!made.published && made.comparison.is_none());
    let card = card(&made);
    for part in ["For research alone", "*parent*", "stays a candidate", "| loss |", "Gate\n\nNone"]
    {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }
}

#[test]
fn curves_have_a_point_each_step_and_the_rate_is_halved_as_asked() {
    let mut world = World::of(8);
    (world.learning().epochs, world.learning().halvings) = (3, 2);

    world.run(Tiny::new(false)).expect("it ends");

    let rates: Vec<f64> = world.host.curve("learning_rate").into_values().collect();
    assert_eq!(rates, [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]);
    for name in ["loss", "images_per_second", "part"] {
        assert!(world.host.curve(name).keys().eq(&[1, 2, 3, 4, 5, 6]), "{name}");
    }
}

#[test]
fn a_cancelled_run_stops_between_two_steps_and_a_full_hour_at_its_end() {
    let mut world = World::of(8);
    world.host.stop_after(1, Stop::Cancelled);

    let stopped = world.run(Tiny::new(false));

    assert!(matches!(stopped, Err(TrainingError::Stopped(Stop::Cancelled))));
    assert_eq!(world.host.curve("loss").len(), 1);
    world.host.forget();
    world.learning().epochs = 10_000;
    world.learning().max_minutes = Some(0.01);
    let made = world.run(Tiny::new(false)).expect("it ends");
    assert!(card(&made).contains("the minutes allowed were used up"));
    assert!(!world.host.curve("loss").is_empty());
}

#[test]
fn every_objective_learns_on_the_loop_and_resumes_with_what_it_remembers() {
    let settings = [
        r#"{"kind": "matching", "nodes": 4, "neighbours": 2, "channels": 16}"#,
        r#"{"kind": "simclr", "hidden": 32, "output": 16}"#,
        r#"{"kind": "barlow_twins", "hidden": 32, "output": 16}"#,
        r#"{"kind": "vicregl", "hidden": 32, "output": 16, "gamma": 1}"#,
        r#"{"kind": "moco_v2", "hidden": 32, "output": 16, "queue": 12}"#,
        r#"{"kind": "dino", "hidden": 32, "output": 16, "bottleneck": 8}"#,
    ];
    for text in settings {
        let mut world = World::of(8);
        world.job.spec.objective = serde_json::from_str(text).expect("an objective");
        let whole = world.pretrain().expect("it ends");
        world.host.forget();
        world.host.stop_after(3, Stop::HandedBack);
        assert!(world.pretrain().is_err());
        world.host.go_on();

        let parts = world.pretrain().expect("it ends");

        assert!(file(&whole, "model.safetensors") == file(&parts, "model.safetensors"), "{text}");
        assert_eq!(card(&whole), card(&parts), "{text}");
        assert_eq!(world.host.told("loss"), 4, "{text}: a step was done twice");
        let Start::Backbone { weights: before, .. } = &world.job.start else { panic!("a parent") };
        assert_eq!(unmoved(before, &parts.tensors), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_newest_matched_pair_is_shown_with_its_views() {
    let mut world = World::of(16);
    world.learning().epochs = 1;
    world.learning().batch_size = 8;
    let matching = Matching { nodes: 4, neighbours: 2, channels: 16, ..Matching::default() };

    world.run(GraphMatching::new(matching)).expect("it ends");

    let shown = world.host.shown();
    let first = shown.first().expect("a pair is shown");
    assert_eq!(first["nodes"].as_array().expect("nodes").len(), 4);
    assert_eq!(first["first_edges"].as_array().expect("edges").len(), 8);
    assert_eq!(world.host.curve("matching_accuracy").len(), 2);
    assert_eq!(world.host.curve("zero_gradient_share").len(), 2);
}

#[test]
fn every_kind_of_network_learns_and_is_published() {
    for architecture in [
        Architecture::RESNET34,
        Architecture::RESNET50,
        Architecture::SAM_VIT_B,
        Architecture::DINOV2_VITS14_REG,
    ] {
        let mut world = World::with(architecture, 4);
        world.learning().epochs = 1;
        let text = r#"{"kind": "matching", "nodes": 4, "neighbours": 2, "noise": {"scale": 3}}"#;
        world.job.spec.objective = serde_json::from_str(text).expect("an objective");

        let made = world.pretrain().expect("it ends");

        let Start::Backbone { weights: before, .. } = &world.job.start else { panic!("a parent") };
        let still = unmoved(before, &made.tensors);
        assert!(still.is_empty(), "{architecture}: {still:?} stayed as they were");
        let names = architecture.tensors();
        assert!(made.tensors.keys().eq(names.keys()), "{architecture}");
        assert!(made.parity.max_relative_difference <= made.parity.bound, "{architecture}");
    }
}

#[test]
fn frames_of_one_file_are_pictures_of_their_own() {
    let mut world = World::of(0);
    let original = world.host.keep(crate::dicom_values::frames(8, 48), 0, Split::Train);
    world.job.pictures = (0..8).map(|frame| Example { frame, ..original.clone() }).collect();
    world.learning().batch_size = 8;
    let text = r#"{"kind": "matching", "nodes": 8, "neighbours": 2, "noise": {"scale": 0}}"#;
    world.job.spec.objective = serde_json::from_str(text).expect("an objective");

    world.pretrain().expect("it ends");

    // The picture of the matched pair has eight different images.
    let pair = world.host.shown().pop().expect("a pair");
    let nodes = pair["nodes"].as_array().expect("nodes");
    let images: BTreeSet<&str> =
        nodes.iter().map(|node| node["first"].as_str().expect("a picture")).collect();
    assert_eq!(images.len(), 8);
}

#[test]
fn the_teacher_is_published_where_the_method_says_so() {
    let moved = |objective: Tiny| {
        let world = World::of(8);
        let made = world.run(objective).expect("it ends");
        let Start::Backbone { weights: before, .. } = &world.job.start else { panic!("a parent") };
        let before = weights::load(before).expect("weights");
        let name = "layer1.0.conv1.weight";
        (&made.tensors[name] - &before[name])
            .and_then(|moved| moved.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>())
            .expect("a number")
    };

    let student = moved(Tiny::new(true));
    let teacher = moved(Tiny::publishing_its_teacher());

    // Four steps, of each of which it takes up three tenths, are about half of the way.
    assert!(teacher > 0.2 * student && teacher < 0.8 * student, "{teacher} {student}");
}
