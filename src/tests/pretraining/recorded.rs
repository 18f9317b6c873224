//! What every objective of pretraining computes, held to a recording.

use lvmed::domain::Architecture;

use super::world::{World, file};
use crate::recorded::hold;

const OBJECTIVES: [&str; 7] = [
    r#"{"kind": "matching", "nodes": 4, "neighbours": 2, "channels": 16}"#,
    r#"{"kind": "matching", "nodes": 4, "neighbours": 2, "channels": 16, "message_layers": 2}"#,
    r#"{"kind": "simclr", "hidden": 32, "output": 16}"#,
    r#"{"kind": "barlow_twins", "hidden": 32, "output": 16}"#,
    r#"{"kind": "vicregl", "hidden": 32, "output": 16, "gamma": 1}"#,
    r#"{"kind": "moco_v2", "hidden": 32, "output": 16, "queue": 12}"#,
    r#"{"kind": "dino", "hidden": 32, "output": 16, "bottleneck": 8}"#,
];

/// Twenty steps on a network with batch normalisation and ten on one with attention.
#[test]
#[ignore = "compares with a recording of this machine: LVMED_RECORDED names its folder"]
fn every_objective_computes_what_was_recorded() {
    for (number, objective) in OBJECTIVES.iter().enumerate() {
        for (architecture, epochs) in [(Architecture::Resnet18, 10), (Architecture::SamVitB, 1)] {
            let mut world = World::with(architecture, 8);
            world.job.spec.objective = serde_json::from_str(objective).expect("an objective");
            world.learning().epochs = epochs;

            let made = world.pretrain().expect("it ends");

            let name = format!("pretrain-{}-{number}", architecture.as_str());
            hold(&name, &world.host.curve("loss"), &file(&made, "model.safetensors"));
        }
    }
}
