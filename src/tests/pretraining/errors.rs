//! The images that cannot be learnt from, and the failures while learning.

use lvmed::domain::Split;
use lvmed::domain::forecast::Calibration;
use lvmed::domain::training::Optimiser;
use lvmed::training::{Stop, TrainingError};

use super::world::{Push, Tiny, World};

/// The message of a run that must fail.
fn refusal(world: &World) -> String {
    world.run(Tiny::new(false)).expect_err("it cannot be learnt from").to_string()
}

fn flat_png(shade: u8) -> Vec<u8> {
    let picture = image::GrayImage::from_pixel(40, 40, image::Luma([shade]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture encodes");
    bytes.into_inner()
}

#[test]
fn too_few_images_are_refused_with_what_to_do() {
    let none = refusal(&World::of(0));
    let one = refusal(&World::of(1));
    let few = refusal(&World::of(3));

    assert!(none.contains("no image") && none.contains("add images"), "{none}");
    assert!(one.contains("one image alone") && one.contains("add images"), "{one}");
    assert!(few.contains("3 images make no batch of 4") && few.contains("batch_size"), "{few}");
}

#[test]
fn a_dataset_of_flat_pictures_is_refused_and_one_that_has_others_is_not() {
    let mut world = World::of(0);
    for shade in 0..8 {
        let example = world.host.keep(flat_png(shade * 20), shade.into(), Split::Train);
        world.job.pictures.push(example);
    }

    let refused = refusal(&world);

    assert!(refused.contains("all 8 image(s) are flat"), "{refused}");
    let other = World::of(1).job.pictures[0].clone();
    let kept = world.host.keep(crate::pictures::png(0, 0, 48), 0, Split::Train);
    assert_eq!(kept.blob, other.blob);
    world.job.pictures.push(kept);
    world.learning().batch_size = 9;
    world.run(Tiny::new(false)).expect("one of them shows something");
}

#[test]
fn an_image_that_cannot_be_read_is_named() {
    let mut world = World::of(7);
    let broken = world.host.keep(b"\x89PNG\r\n\x1a\nnothing".to_vec(), 9, Split::Train);
    let id = broken.image.to_string();
    world.job.pictures.push(broken);

    let refused = refusal(&world);

    assert!(refused.contains(&id), "{refused}");
}

#[test]
fn numbers_that_end_name_step_and_layer_and_the_last_good_state_is_kept() {
    let mut world = World::of(8);
    let refused = world.run(Push(f64::NAN)).expect_err("the loss is not a number");
    let TrainingError::Diverged { what, step, layer, .. } = &refused else { panic!("{refused}") };
    assert_eq!((*what, *step, layer.as_str()), ("loss", 1, "the objective"));

    let learning = world.learning();
    (learning.optimiser, learning.learning_rate, learning.epochs) = (Optimiser::Sgd, 1e30, 20);
    world.host.stop_after(1, Stop::HandedBack);
    assert!(matches!(world.run(Tiny::new(true)), Err(TrainingError::Stopped(_))));
    world.host.go_on();
    let before = world.host.checkpoints();

    let refused = world.run(Tiny::new(true)).expect_err("such a rate breaks anything");

    let TrainingError::Diverged { step, layer, .. } = &refused else { panic!("{refused}") };
    assert!(
        *step > 1 && ["conv", "bn", "layer", "objective"].iter().any(|part| layer.contains(part))
    );
    assert_eq!(world.host.checkpoints(), before);
    assert!(!before.is_empty() && refused.to_string().contains("Try a learning rate below"));
}

/// A step that takes a gigabyte, and a tenth of one for each picture.
const STEP: Calibration = Calibration {
    base_bytes: 1_000_000_000,
    image_bytes: 100_000_000,
    checkpoint_bytes: 0,
    step_seconds: 0.0,
    image_seconds: 0.0,
    forward_seconds: 0.0,
    frozen_seconds: 0.0,
};

#[test]
fn a_batch_that_does_not_fit_says_which_would() {
    let mut world = World::of(64);
    world.learning().batch_size = 64;
    world.job.ground.memory_bytes = 10_000_000_000;
    world.job.ground.calibration = Some(STEP);

    let refused = refusal(&world);

    // 1.15 (1 GB + 2 views x 38 x 0.1 GB) and the weights of the objective are the most that fits.
    assert!(refused.contains("`learning.batch_size` to 38 or less"), "{refused}");
    assert!(refused.contains("15871 MB") && refused.contains("10000 MB"), "{refused}");
}

#[test]
fn a_run_that_has_fitted_once_is_not_refused_for_memory_when_it_goes_on() {
    let mut world = World::of(8);
    (world.job.ground.calibration, world.job.ground.memory_bytes) = (Some(STEP), 10_000_000_000);
    world.host.stop_after(1, Stop::HandedBack);
    assert!(matches!(world.run(Tiny::new(false)), Err(TrainingError::Stopped(_))));
    world.host.go_on();
    world.job.ground.memory_bytes = 1_000_000;

    world.run(Tiny::new(false)).expect("it goes on from its checkpoint");

    world.host.forget();
    let refused = refusal(&world);
    assert!(refused.contains("1 MB may be used"), "{refused}");
}
