//! A recipe as a JSON body: what does not fit is pointed at, field by field.
//!
//! `Spec` and `Objective` are told apart by their `kind`. Read as what they are, they would be
//! collected first and understood afterwards, when it is no longer known where a value stood. So the
//! kind is looked at here, and the rest is read as what that kind has.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::domain::Sha256;
use crate::domain::augmentation::Preset;
use crate::domain::pretrain::{Barlow, Dino, Matching, Moco, Pretrain, SimClr, Vicregl, Views};
use crate::domain::run::{Finetune, Replay, Spec};
use crate::http::app::App;
use crate::http::wire::extract::{JsonBody, json_body};
use crate::http::wire::problem::Problem;
use crate::service::violation::Violation;

/// The settings of views that the kind of pictures decides.
const DECIDED: [&str; 5] = ["flip", "jitter", "jitter_strength", "grey", "blur"];

/// The longest value that a refusal repeats, in characters.
const MAX_TOLD_CHARS: usize = 80;

/// The recipe of a run, and the digest of the body's bytes, by which one that is sent again is known.
#[derive(Debug, Clone)]
pub struct RecipeBody(pub Spec, pub Sha256);

impl FromRequest<App> for RecipeBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let bytes = json_body(request, app).await?;
        Ok(Self(recipe(&bytes)?, Sha256::of(&bytes)))
    }
}

fn recipe(bytes: &[u8]) -> Result<Spec, Problem> {
    let mut fields: Map<String, Value> = read(bytes)?;
    let kind = fields.remove("kind");
    match word(kind.as_ref()) {
        Some("finetune") => of_fields::<Finetune>(&fields).map(Spec::Finetune),
        Some("replay") => of_fields::<Replay>(&fields).map(Spec::Replay),
        Some("pretrain") => {
            studied(&mut fields);
            views(&mut fields)?;
            if let Some(Value::Object(wanted)) = fields.get("objective") {
                objective(wanted.clone()).map_err(|problem| under("/objective", &problem))?;
            }
            of_fields::<Pretrain>(&fields).map(Spec::Pretrain)
        }
        Some(_) | None => {
            Err(unknown_kind(kind.as_ref(), "`finetune` and `pretrain` are the kinds of runs"))
        }
    }
}

/// Fills in what a recipe of pretraining leaves out by what our studies found (`docs/pretraining.md`),
/// unless the paper's settings are asked for: messages between neighbours and noise as loud as the
/// affinities harmed whatever the start. From random weights the rates are those of the study too.
fn studied(fields: &mut Map<String, Value>) {
    let is_random = fields.get("architecture").is_some_and(|architecture| !architecture.is_null());
    let objective = fields.entry("objective").or_insert_with(|| json!({"kind": "matching"}));
    let Some(objective) = objective.as_object_mut() else { return };
    if objective.get("preset").is_some_and(|preset| !preset.is_null()) {
        return;
    }
    if word(objective.get("kind")) == Some("matching") {
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
fn views(fields: &mut Map<String, Value>) -> Result<(), Problem> {
    let is_papers = fields.get("objective").is_some_and(|objective| objective["preset"] == "paper");
    let views = fields.entry("views").or_insert_with(|| json!({}));
    let Some(views) = views.as_object_mut() else { return Ok(()) };
    let named = views.get("preset").filter(|preset| !preset.is_null()).cloned();
    let preset = match named {
        None if is_papers => return Ok(()),
        None => Preset::General,
        Some(ref named) => {
            let read = read(&serde_json::to_vec(named).map_err(Problem::internal)?);
            read.map_err(|problem: Problem| under("/views/preset", &problem))?
        }
    };
    let filled = serde_json::to_value(Views::of(preset)).map_err(Problem::internal)?;
    // Views that say all of it themselves, such as those of a recipe on record, are of no kind.
    let is_whole = DECIDED.iter().all(|name| views.contains_key(*name));
    if named.is_some() || !is_whole {
        views.insert("preset".to_owned(), json!(preset));
    }
    for (name, value) in
        filled.as_object().into_iter().flatten().filter(|(name, _)| *name != "preset")
    {
        views.entry(name).or_insert_with(|| value.clone());
    }
    Ok(())
}

/// Refuses what is not right in an objective; the words are those of `Objective::as_str`.
fn objective(mut fields: Map<String, Value>) -> Result<(), Problem> {
    let kind = fields.remove("kind");
    match word(kind.as_ref()) {
        Some("matching") => of_fields::<Matching>(&fields).map(drop),
        Some("simclr") => of_fields::<SimClr>(&fields).map(drop),
        Some("barlow_twins") => of_fields::<Barlow>(&fields).map(drop),
        Some("vicregl") => of_fields::<Vicregl>(&fields).map(drop),
        Some("moco_v2") => of_fields::<Moco>(&fields).map(drop),
        Some("dino") => of_fields::<Dino>(&fields).map(drop),
        Some(_) | None => Err(unknown_kind(
            kind.as_ref(),
            "`matching`, `simclr`, `barlow_twins`, `vicregl`, `moco_v2` and `dino` are known",
        )),
    }
}

fn word(kind: Option<&Value>) -> Option<&str> {
    kind.and_then(Value::as_str)
}

fn unknown_kind(kind: Option<&Value>, known: &str) -> Problem {
    let found = match kind {
        None => "is missing".to_owned(),
        Some(kind) => {
            format!("is {}", kind.to_string().chars().take(MAX_TOLD_CHARS).collect::<String>())
        }
    };
    Problem::wrong("/kind", format!("kind {found}; {known}"))
}

fn of_fields<T: DeserializeOwned>(fields: &Map<String, Value>) -> Result<T, Problem> {
    read(&serde_json::to_vec(fields).map_err(Problem::internal)?)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    JsonBody::of(bytes).map(|JsonBody(value)| value)
}

/// A problem with a part of the body, its pointers seen from the whole.
fn under(part: &str, problem: &Problem) -> Problem {
    let told = problem.errors().iter();
    let told = told.map(|found| Violation::new(format!("{part}{}", found.pointer), &found.detail));
    Problem::invalid(told.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::recipe;
    use crate::domain::augmentation::Preset;
    use crate::domain::pretrain::{Learning, Objective, Pace, Views};
    use crate::domain::run::Spec;
    use crate::domain::training::Optimiser;

    const ID: &str = "01890000-0000-7000-8000-000000000001";

    fn pointer(body: &Value) -> String {
        let problem = recipe(body.to_string().as_bytes()).expect_err("it does not fit");
        problem.errors().first().map(|found| found.pointer.clone()).unwrap_or_default()
    }

    fn finetune(field: &str, value: Value) -> Value {
        let mut body = json!({"kind": "finetune", "dataset_version": ID, "backbone": ID,
                              "method": "full"});
        body[field] = value;
        body
    }

    fn pretrain(field: &str, value: Value) -> Value {
        let mut body = json!({"kind": "pretrain", "dataset_version": ID, "backbone": ID});
        body[field] = value;
        body
    }

    #[test]
    fn matching_leaves_messages_out_unless_the_papers_settings_are_asked_for() {
        let of = |start: Value, objective: Value| {
            let mut body =
                json!({"kind": "pretrain", "dataset_version": ID, "objective": objective});
            body.as_object_mut()
                .expect("an object")
                .extend(start.as_object().expect("one").clone());
            let Spec::Pretrain(found) = recipe(body.to_string().as_bytes()).expect("it fits")
            else {
                panic!("a pretraining recipe");
            };
            let Objective::Matching(matching) = found.objective else { panic!("matching") };
            let is_papers = found.learning == Learning::default();
            (matching.message_layers, matching.noise.scale, is_papers)
        };
        let (random, parent) = (json!({"architecture": "resnet18"}), json!({"backbone": ID}));
        let matching = json!({"kind": "matching"});

        assert_eq!(of(random.clone(), matching.clone()), (0, 0.05, false));
        assert_eq!(of(parent.clone(), matching), (0, 0.05, true));
        let paper = json!({"kind": "matching", "preset": "paper"});
        assert_eq!(of(parent, paper.clone()), (2, 1.0, true));
        assert_eq!(of(random.clone(), paper), (2, 1.0, true));
        let own = json!({"kind": "matching", "message_layers": 1, "noise": {"scale": 2.0}});
        assert_eq!(of(random, own), (1, 2.0, false));
        let body = json!({"kind": "pretrain", "dataset_version": ID, "architecture": "resnet18",
                          "learning": {"learning_rate": 0.1}});
        let Spec::Pretrain(found) = recipe(body.to_string().as_bytes()).expect("it fits") else {
            panic!("a pretraining recipe");
        };
        let Learning { learning_rate, optimiser, schedule, .. } = found.learning;
        assert_eq!((learning_rate, optimiser, schedule), (0.1, Optimiser::AdamW, Pace::Cosine));
    }

    #[test]
    fn views_are_those_of_the_kind_of_pictures_but_for_what_is_asked_for() {
        let of = |views: Value, objective: Value| {
            let mut body = pretrain("objective", objective);
            body["views"] = views;
            match recipe(body.to_string().as_bytes()).expect("it fits") {
                Spec::Pretrain(found) => found.views,
                Spec::Finetune(_) | Spec::Replay(_) => panic!("a pretraining recipe"),
            }
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

    #[test]
    fn what_does_not_fit_a_recipe_is_pointed_at() {
        for (body, expected) in [
            (finetune("shots", json!("five")), "/shots"),
            (finetune("shots", json!(-1)), "/shots"),
            (finetune("seed", json!(0.5)), "/seed"),
            (finetune("method", json!("guess")), "/method"),
            (finetune("backbone", json!("mine")), "/backbone"),
            (finetune("training", json!({"epochs": "many"})), "/training/epochs"),
            (finetune("training", json!({"epohcs": 3})), "/training/epohcs"),
            (finetune("training", json!({"augment": {"flip": 1}})), "/training/augment/flip"),
            (finetune("full", json!({"epochs": null})), "/full/epochs"),
            (finetune("shoots", json!(5)), "/shoots"),
            (json!({"kind": "finetune", "backbone": ID, "method": "full"}), "/dataset_version"),
            (json!({"dataset_version": ID}), "/kind"),
            (json!({"kind": "train"}), "/kind"),
            (json!({"kind": 3}), "/kind"),
            (pretrain("learning", json!({"epochs": "many"})), "/learning/epochs"),
            (pretrain("views", json!({"sides": 3})), "/views/sides"),
            (pretrain("views", json!({"preset": "x-ray"})), "/views/preset"),
            (pretrain("views", json!({"flip": "never"})), "/views/flip"),
            (pretrain("views", json!(3)), "/views"),
            (pretrain("gate", json!({"shots": 3})), "/gate/dataset_version"),
            (pretrain("objective", json!({"kind": "magic"})), "/objective/kind"),
            (pretrain("objective", json!({})), "/objective/kind"),
            (
                pretrain("objective", json!({"kind": "simclr", "temperature": "hot"})),
                "/objective/temperature",
            ),
            (pretrain("objective", json!({"kind": "dino", "heat": 1})), "/objective/heat"),
            (pretrain("objective", json!("simclr")), "/objective"),
        ] {
            assert_eq!(pointer(&body), expected, "{body}");
        }
    }

    #[test]
    fn every_kind_of_recipe_and_of_objective_reads_as_it_is_written() {
        let mut recipes = vec![finetune("shots", json!(5))];
        recipes.push(json!({"kind": "replay", "run": ID, "steps": 3,
            "recipe": {"dataset_version": ID, "backbone": ID, "method": "probe"}}));
        for kind in ["matching", "simclr", "barlow_twins", "vicregl", "moco_v2", "dino"] {
            recipes.push(pretrain("objective", json!({ "kind": kind })));
        }

        for body in recipes {
            let read = recipe(body.to_string().as_bytes()).expect("it fits");

            let mut same: Spec = serde_json::from_value(body.clone()).expect("it fits");
            if let Spec::Pretrain(recipe) = &mut same {
                recipe.views = Views::of(Preset::General);
                if let Objective::Matching(matching) = &mut recipe.objective {
                    (matching.message_layers, matching.noise.scale) = (0, 0.05);
                }
            }
            assert_eq!(read, same);
            if let Spec::Pretrain(recipe) = &read {
                assert_eq!(body["objective"]["kind"], recipe.objective.as_str());
            }
            assert_eq!(body["kind"], read.kind());
        }
    }
}
