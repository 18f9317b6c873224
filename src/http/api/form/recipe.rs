//! A recipe as a JSON body: what does not fit is pointed at, field by field.
//!
//! `Spec` and `Objective` are told apart by their `kind`. Read as what they are, they would be
//! collected first and understood afterwards, when it is no longer known where a value stood. So the
//! kind is looked at here, and the rest is read as what that kind has.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::Sha256;
use crate::domain::augmentation::Preset;
use crate::domain::pretrain::{Barlow, Dino, Matching, Moco, Objective, Pretrain, SimClr, Vicregl};
use crate::domain::run::{Finetune, Kind, Replay, Spec};
use crate::http::app::App;
use crate::http::wire::extract::{JsonBody, json_body};
use crate::http::wire::problem::Problem;
use crate::service::submit;
use crate::service::violation::Violation;

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
    match Kind::ALL.into_iter().find(|known| is_word(kind.as_ref(), known.as_str())) {
        Some(Kind::Finetune) => of_fields::<Finetune>(&fields).map(Spec::Finetune),
        Some(Kind::Replay) => of_fields::<Replay>(&fields).map(Spec::Replay),
        Some(Kind::Pretrain) => {
            let pictures = pictures(&fields)?;
            submit::fill_in_pretraining(&mut fields, pictures).map_err(Problem::internal)?;
            if let Some(Value::Object(wanted)) = fields.get("objective") {
                objective(wanted.clone()).map_err(|problem| under("/objective", &problem))?;
            }
            of_fields::<Pretrain>(&fields).map(Spec::Pretrain)
        }
        None => {
            let asked = Kind::ALL.into_iter().filter(|known| known.is_asked_for());
            let known = listed(&asked.map(Kind::as_str).collect::<Vec<_>>());
            Err(unknown_kind(kind.as_ref(), &format!("{known} are the kinds of runs")))
        }
    }
}

/// The kind of pictures that the views name.
fn pictures(fields: &Map<String, Value>) -> Result<Option<Preset>, Problem> {
    let named = fields.get("views").and_then(|views| views.get("preset"));
    let Some(named) = named.filter(|preset| !preset.is_null()) else { return Ok(None) };
    let preset = read(&serde_json::to_vec(named).map_err(Problem::internal)?);
    preset.map(Some).map_err(|problem| under("/views/preset", &problem))
}

/// Refuses what is not right in an objective.
fn objective(mut fields: Map<String, Value>) -> Result<(), Problem> {
    let kind = fields.remove("kind");
    let every = Objective::of_every_kind();
    match every.iter().find(|known| is_word(kind.as_ref(), known.as_str())) {
        Some(Objective::Matching(_)) => of_fields::<Matching>(&fields).map(drop),
        Some(Objective::Simclr(_)) => of_fields::<SimClr>(&fields).map(drop),
        Some(Objective::BarlowTwins(_)) => of_fields::<Barlow>(&fields).map(drop),
        Some(Objective::Vicregl(_)) => of_fields::<Vicregl>(&fields).map(drop),
        Some(Objective::MocoV2(_)) => of_fields::<Moco>(&fields).map(drop),
        Some(Objective::Dino(_)) => of_fields::<Dino>(&fields).map(drop),
        None => {
            let known = listed(&every.each_ref().map(Objective::as_str));
            Err(unknown_kind(kind.as_ref(), &format!("{known} are known")))
        }
    }
}

fn is_word(found: Option<&Value>, word: &str) -> bool {
    found.and_then(Value::as_str) == Some(word)
}

/// Words as a sentence names them: `a`, `b` and `c`.
fn listed(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        Some(_) | None => words.concat(),
    }
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
    use crate::domain::pretrain::{Objective, Views};
    use crate::domain::run::Spec;

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
    fn words_are_listed_where_a_kind_is_unknown() {
        for (body, expected) in [
            (
                json!({"kind": "train"}),
                "kind is \"train\"; `finetune` and `pretrain` are the kinds of runs",
            ),
            (
                pretrain("objective", json!({})),
                "kind is missing; `matching`, `simclr`, `barlow_twins`, `vicregl`, `moco_v2` and \
                 `dino` are known",
            ),
        ] {
            let problem = recipe(body.to_string().as_bytes()).expect_err("it does not fit");

            let told: Vec<&str> = problem.errors().iter().map(|it| it.detail.as_str()).collect();
            assert_eq!(told, [expected]);
        }
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
        for objective in Objective::of_every_kind() {
            recipes.push(pretrain("objective", json!({ "kind": objective.as_str() })));
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
