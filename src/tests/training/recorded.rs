//! The results of every method of fine-tuning, held to a recording.

use lvmed::domain::augmentation::{Augment, Preset};
use lvmed::domain::run::Method;
use lvmed::domain::training::Training;
use lvmed::domain::{Architecture, HeadRule};

use super::world::{World, file};
use crate::recorded::hold;

/// Twenty steps with pictures that vary, from the head that is fitted and from none.
#[test]
#[ignore = "compares with a recording of this machine: LVMED_RECORDED names its folder"]
fn every_method_computes_what_was_recorded() {
    let cases = [
        (Architecture::RESNET18, Method::Probe),
        (Architecture::RESNET18, Method::Last),
        (Architecture::RESNET18, Method::Full),
        (Architecture::RESNET50, Method::Full),
        (Architecture::SAM_VIT_B, Method::Lora),
        (Architecture::SAM_VIT_B, Method::Last),
    ];
    for (architecture, method) in cases {
        for head in [None, Some(HeadRule::Auto)] {
            let mut world = World::on(architecture, 8);
            let training = Training {
                epochs: 10,
                patience: 1000,
                batch_size: 4,
                stages: 2,
                rank: 2,
                learning_rate: Some(1e-3),
                augment: Some(Augment::Preset(Preset::General)),
                ..Training::default()
            };
            world.method(method, training);
            world.job.spec.head = head;

            let outcome = world.run().expect("it ends");

            let series = if method == Method::Probe { "cv_loss" } else { "train_loss" };
            let rule = head.map_or("none", |_| "auto");
            let name = format!("{}-{}-{rule}", architecture.as_str(), method.as_str());
            hold(&name, &world.host.curve(series), &file(&outcome, "model.safetensors"));
        }
    }
}
