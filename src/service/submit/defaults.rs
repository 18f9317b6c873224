//! The settings that a recipe of pretraining leaves out, by what our studies found.
//!
//! They are filled in where a run is asked for, by the settings that its request names: what a type has
//! as its default are the settings of before, by which stored recipes are read.

use serde_json::{Map, Value, json};

use crate::domain::augmentation::Preset;
use crate::domain::pretrain::{Matching, Objective, Views};

/// The settings of views that the kind of pictures decides.
const DECIDED: [&str; 5] = ["flip", "jitter", "jitter_strength", "grey", "blur"];

/// Fills in what a recipe of pretraining leaves out; `pictures` is the preset that its views name.
/// Fields of another shape than a recipe has stay as they are: who reads them refuses them.
pub fn fill_in_pretraining(
    fields: &mut Map<String, Value>,
    pictures: Option<Preset>,
) -> Result<(), serde_json::Error> {
    studied(fields);
    views(fields, pictures)
}

/// Fills in what our studies found (`docs/pretraining.md`), unless the paper's settings are asked for:
/// messages between neighbours and noise as loud as the affinities harmed whatever the start. From random
/// weights the rates are those of the study too.
fn studied(fields: &mut Map<String, Value>) {
    let matching = Objective::Matching(Matching::default()).as_str();
    let is_random = fields.get("architecture").is_some_and(|architecture| !architecture.is_null());
    let objective = fields.entry("objective").or_insert_with(|| json!({ "kind": matching }));
    let Some(objective) = objective.as_object_mut() else { return };
    if objective.get("preset").is_some_and(|preset| !preset.is_null()) {
        return;
    }
    if objective.get("kind").and_then(Value::as_str) == Some(matching) {
        objective.entry("message_layers").or_insert_with(|| json!(0));
        let noise = objective.entry("noise").or_insert_with(|| json!({}));
        if let Some(noise) = noise.as_object_mut() {
            noise.entry("scale").or_insert_with(|| json!(0.05));
        }
    }
    let learning = fields.entry("learning").or_insert_with(|| json!({}));
    let Some(learning) = learning.as_object_mut().filter(|_| is_random) else { return };
    let steady = json!({"optimiser": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01,
                        "schedule": "cosine"});
    for (name, value) in steady.as_object().into_iter().flatten() {
        learning.entry(name).or_insert_with(|| value.clone());
    }
}

/// Fills in what the views leave out by the kind of pictures, `general` where none is named: not
/// mirrored, since a side may be a finding. Who asks for the paper's settings gets the paper's views.
fn views(
    fields: &mut Map<String, Value>,
    pictures: Option<Preset>,
) -> Result<(), serde_json::Error> {
    let is_papers = fields.get("objective").is_some_and(|objective| objective["preset"] == "paper");
    let views = fields.entry("views").or_insert_with(|| json!({}));
    let Some(views) = views.as_object_mut() else { return Ok(()) };
    if pictures.is_none() && is_papers {
        return Ok(());
    }
    let preset = pictures.unwrap_or(Preset::General);
    let filled = serde_json::to_value(Views::of(preset))?;
    // Views that say all of it themselves, such as those of a recipe on record, are of no kind.
    let is_whole = DECIDED.iter().all(|name| views.contains_key(*name));
    if pictures.is_some() || !is_whole {
        views.insert("preset".to_owned(), json!(preset));
    }
    for (name, value) in
        filled.as_object().into_iter().flatten().filter(|(name, _)| *name != "preset")
    {
        views.entry(name).or_insert_with(|| value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::fill_in_pretraining;
    use crate::domain::augmentation::Preset;
    use crate::domain::pretrain::{Learning, Objective, Pace, Pretrain, Views};
    use crate::domain::training::Optimiser;

    const ID: &str = "01890000-0000-7000-8000-000000000001";

    /// A recipe of some fields, filled in; they are read as a request is.
    fn filled(fields: Value) -> Pretrain {
        let Value::Object(mut recipe) = fields else { panic!("an object") };
        recipe.insert("dataset_version".to_owned(), json!(ID));
        let named = recipe.get("views").and_then(|views| views.get("preset")).cloned();
        let pictures = serde_json::from_value(named.unwrap_or_default()).expect("pictures");
        fill_in_pretraining(&mut recipe, pictures).expect("filled in");
        serde_json::from_value(Value::Object(recipe)).expect("it fits")
    }

    #[test]
    fn matching_leaves_messages_out_unless_the_papers_settings_are_asked_for() {
        let of = |start: (&str, &str), objective: Value| {
            let mut fields = json!({ "objective": objective });
            fields[start.0] = json!(start.1);
            let found = filled(fields);
            let Objective::Matching(matching) = found.objective else { panic!("matching") };
            let is_papers = found.learning == Learning::default();
            (matching.message_layers, matching.noise.scale, is_papers)
        };
        let (random, parent) = (("architecture", "resnet18"), ("backbone", ID));
        let matching = json!({"kind": "matching"});

        assert_eq!(of(random, matching.clone()), (0, 0.05, false));
        assert_eq!(of(parent, matching), (0, 0.05, true));
        let paper = json!({"kind": "matching", "preset": "paper"});
        assert_eq!(of(parent, paper.clone()), (2, 1.0, true));
        assert_eq!(of(random, paper), (2, 1.0, true));
        let own = json!({"kind": "matching", "message_layers": 1, "noise": {"scale": 2.0}});
        assert_eq!(of(random, own), (1, 2.0, false));
        let found = filled(json!({"architecture": "resnet18", "learning": {"learning_rate": 0.1}}));
        let Learning { learning_rate, optimiser, schedule, .. } = found.learning;
        assert_eq!((learning_rate, optimiser, schedule), (0.1, Optimiser::AdamW, Pace::Cosine));
    }

    #[test]
    fn views_are_those_of_the_kind_of_pictures_but_for_what_is_asked_for() {
        let of = |views: Value, objective: Value| {
            filled(json!({"backbone": ID, "views": views, "objective": objective})).views
        };
        let matching = json!({"kind": "matching"});

        assert_eq!(of(json!({}), matching.clone()), Views::of(Preset::General));
        assert_eq!(of(json!({"preset": null}), matching.clone()).flip, 0.0);
        let mri = of(json!({"preset": "mri", "blur": 0.1}), matching.clone());
        assert_eq!(mri, Views { blur: 0.1, ..Views::of(Preset::Mri) });
        assert_eq!(of(json!({"flip": 0.5}), matching).flip, 0.5);
        let recorded = serde_json::to_value(Views::default()).expect("written");
        assert_eq!(of(recorded, json!({"kind": "simclr"})), Views::default());
        let paper = json!({"kind": "matching", "preset": "paper"});
        assert_eq!(of(json!({}), paper.clone()), Views::default());
        let chest = of(json!({"preset": "chest_xray"}), paper);
        assert_eq!(chest, Views::of(Preset::ChestXray));
    }
}
