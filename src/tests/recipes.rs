//! Recipes over HTTP: what they are checked for, foretold to take, and replayed.

use lvmed::domain::training::Training;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::pictures::two_classes;
use crate::server::Server;

const INVALID: (StatusCode, &str) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");

/// Makes a backbone and a frozen version; a recipe that names them.
async fn recipe(server: &Api) -> Value {
    let backbone = server.random_backbone("resnet18", 32).await;
    let dataset = server.dataset("sides", two_classes(12, 32)).await;
    let version = server.freeze(&dataset).await;
    json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
           "method": "last", "seed": 5})
}

fn with(spec: &Value, changes: &Value) -> Value {
    let mut spec = spec.clone();
    let changes = changes.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(changes);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_that_cannot_be_followed_are_refused_by_their_pointers() {
    let server = App::start().await;
    let spec = recipe(&server).await;
    let cases = [
        (json!({"method": "lora"}), "/method", "no attention"),
        (json!({"training": {"stages": 5}}), "/training/stages", "4 stages"),
        (json!({"training": {"epochs": 0}}), "/training/epochs", "1 to 1000"),
        (json!({"full": {"epochs": 0}}), "/training/epochs", "1 to 1000"),
        (json!({"repeats": 0}), "/repeats", "1 to 100"),
        (
            json!({"training": {"augment": {"horizontal_flip": 2}}}),
            "/training/augment/horizontal_flip",
            "outside 0 to 1",
        ),
        (json!({"training": {"mixup": {"alpha": 0}}}), "/training/mixup/alpha", "outside"),
        (json!({"training": {"max_minutes": 0}}), "/training/max_minutes", "0.001"),
    ];

    for (change, pointer, told) in cases {
        for path in ["/api/v1/runs", "/api/v1/runs/estimate"] {
            let request = server.request(Method::POST, path).json(&with(&spec, &change));
            let problem = server.refused(request, INVALID, &[told]).await;
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem:#}");
        }
    }
    let mut recipe = spec.clone();
    recipe.as_object_mut().expect("an object").remove("kind");
    let replay = json!({"kind": "replay", "run": spec["backbone"], "steps": 1, "recipe": recipe});
    let request = server.request(Method::POST, "/api/v1/runs").json(&replay);
    server.refused(request, INVALID, &["/replay"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_recipe_has_its_defaults_filled_in_and_the_old_name_still_reads() {
    let server = App::start().await;
    let spec = recipe(&server).await;
    let old = with(&spec, &json!({"method": "full", "full": {"epochs": 3, "flip": true}}));

    let run = server.queue(&old).await;
    let last = server.queue(&spec).await;

    let run = server.get(&format!("/api/v1/runs/{run}")).await;
    let training = &run["spec"]["training"];
    assert_eq!((&training["epochs"], &training["learning_rate"]), (&json!(3), &json!(1e-4)));
    assert_eq!(training["augment"]["horizontal_flip"], 0.5, "{run:#}");
    assert_eq!(run["spec"]["repeats"], 1);
    let last = server.get(&format!("/api/v1/runs/{last}")).await;
    let training = &last["spec"]["training"];
    assert_eq!((&training["augment"], &training["clip_norm"]), (&json!("none"), &json!(1.0)));
    assert_eq!(training["learning_rate"], 3e-4, "{last:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_foretold_in_time_and_memory() {
    let server = App::start().await;
    let spec = recipe(&server).await;
    let estimate = async |spec: &Value| {
        let (status, found) = server.estimate(spec).await;
        assert_eq!(status, StatusCode::OK, "{found:#}");
        found
    };

    let once = estimate(&spec).await;
    let thrice = estimate(&with(&spec, &json!({"repeats": 3}))).await;
    let probe = estimate(&with(&spec, &json!({"method": "probe"}))).await;

    let number = |found: &Value, name: &str| found[name].as_f64().expect("a number");
    assert!(number(&once, "seconds") > 0.0 && number(&probe, "seconds") > 0.0);
    assert!(number(&thrice, "seconds") > 2.0 * number(&once, "seconds"), "{once} {thrice}");
    // ResNet-18 has 45 MB of weights.
    assert!(number(&once, "memory_bytes") > 45e6, "{once}");
    assert!(number(&once, "memory_bytes") < number(&once, "available_bytes"), "{once}");
    assert_eq!((&once["micro_batch"], &probe["micro_batch"]), (&json!(14), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_cannot_move_the_weights_is_told_and_repeats_that_cannot_differ_are_refused()
{
    let server = App::start().await;
    let spec = recipe(&server).await;
    let full = json!({"method": "full", "shots": 5, "training": {"epochs": 1}});
    let probe = json!({"method": "probe", "shots": 5});

    let (_, few) = server.estimate(&with(&spec, &full)).await;
    let (_, none) = server.estimate(&with(&spec, &probe)).await;

    let advice = few["advice"].as_str().expect("advice");
    assert!(advice.contains("hardly moves the weights") && advice.contains("probe"), "{advice}");
    assert_eq!(none["advice"], Value::Null, "{none:#}");
    // A probe learns from all images that it is not judged by.
    let version = spec["dataset_version"].as_str().expect("an id");
    let version = server.get(&format!("/api/v1/versions/{version}")).await;
    let tested = version["splits"]["test"]["classes"]["left"].as_u64().expect("a number");
    let same = with(&spec, &json!({"method": "probe", "shots": 12 - tested, "repeats": 3}));
    for path in ["/api/v1/runs", "/api/v1/runs/estimate"] {
        let request = server.request(Method::POST, path).json(&same);
        let problem = server.refused(request, INVALID, &["every repeat would be the same"]).await;
        assert_eq!(problem["errors"][0]["pointer"], "/repeats", "{problem:#}");
    }
    server.queue(&with(&spec, &json!({"method": "probe", "shots": 5, "repeats": 3}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_fit_is_refused_with_both_numbers_before_it_is_queued() {
    let server = App::start_with(&[("LVMED_LIMIT_TRAINING_MEMORY_BYTES", "60000000")]).await;
    let spec = recipe(&server).await;
    let full = with(&spec, &json!({"method": "full"}));

    server.estimate(&full).await;
    for path in ["/api/v1/runs/estimate", "/api/v1/runs"] {
        let request = server.request(Method::POST, path).json(&full);
        let told = ["MB", "60 MB", "LVMED_LIMIT_TRAINING_MEMORY_BYTES"];
        let problem = server.refused(request, INVALID, &told).await;
        assert_eq!(problem["errors"][0]["pointer"], "/method", "{problem:#}");
    }
    let runs = server.get("/api/v1/runs").await;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(0));
    server.queue(&with(&spec, &json!({"method": "probe"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_measurement_and_it_is_made_once_for_the_machine() {
    use rustix::fs::{FlockOperation, flock};

    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let spec = recipe(&server).await;
    let file = std::fs::File::create(server.data().join("measuring.lock")).expect("made");
    // As long as somebody else measures on this machine.
    flock(&file, FlockOperation::LockExclusive).expect("locked");
    let begun = std::time::Instant::now();

    let run = server.queue(&spec).await;
    let found = server.post("/api/v1/runs/estimate", &spec, StatusCode::OK).await;

    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    let run = server.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(run["status"], "queued");
    assert_eq!((&found["measured"], &found["seconds"]), (&json!(false), &Value::Null));
    let notice = found["notice"].as_str().expect("a notice");
    assert!(notice.contains("not measured yet") && notice.contains("is running"), "{notice}");
    flock(&file, FlockOperation::Unlock).expect("unlocked");
    let (_, known) = server.estimate(&spec).await;
    assert!(known["seconds"].as_f64() > Some(0.0), "{known:#}");

    // Another server of these data, which may not measure, knows it at once.
    let server = Server::start_in(server.kill());
    flock(&file, FlockOperation::LockExclusive).expect("locked");
    let found = server.post("/api/v1/runs/estimate", &spec, StatusCode::OK).await;
    assert_eq!(found, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_is_replayed_and_found_the_same() {
    let server = App::start_with_worker(&[]).await;
    let spec = recipe(&server).await;
    let training = json!({"epochs": 2, "batch_size": 2});
    let spec = with(&spec, &json!({"training": training, "repeats": 2, "shots": 6}));
    let run = server.queue(&spec).await;
    let path = format!("/api/v1/runs/{run}/replay");
    let early = server.request(Method::POST, &path).json(&json!({}));
    server.refused(early, (StatusCode::CONFLICT, "conflict"), &["succeeded"]).await;
    let ended = server.succeed(&run).await;

    let replay = server.post(&path, &json!({"steps": 4}), StatusCode::ACCEPTED).await;
    let replay = server.succeed(replay["id"].as_str().expect("an id")).await;

    assert_eq!(replay["replayed"]["compared"], 4, "{replay:#}");
    assert_eq!(replay["replayed"]["equal"], true, "{replay:#}");
    assert_eq!((&replay["model"], &replay["spec"]["run"]), (&Value::Null, &json!(run)));
    assert_eq!(ended["evaluation"]["repeats"]["seeds"], json!([5, 6]), "{ended:#}");
    assert_eq!(ended["provenance"]["micro_batch"], 2, "{ended:#}");
    let steps = json!({"steps": 0});
    let none = server.request(Method::POST, &path).json(&steps);
    server.refused(none, INVALID, &["/steps"]).await;
}

/// Every number that the document bounds, by schema and setting: the bounds are those of the checks.
#[test]
fn the_documents_bounds_are_those_that_the_server_checks() {
    let document: Value =
        serde_json::from_str(include_str!("../../openapi/openapi.json")).expect("JSON");
    let checked = |setting: &str, value: f64| {
        let whole = value.fract() == 0.0 && value.abs() < 1e15;
        let value = if whole { json!(value as i64) } else { json!(value) };
        let training: Training = serde_json::from_value(json!({ setting: value })).ok()?;
        let pointer = format!("/training/{setting}");
        Some(training.validate().iter().all(|wrong| wrong.pointer() != pointer))
    };
    let properties = &document["components"]["schemas"]["Training"]["properties"];
    let mut bounds = 0;
    for (setting, schema) in properties.as_object().expect("an object") {
        let is_float = schema.to_string().contains("double");
        for (name, inside, outside) in [("minimum", 1.0, -1.0), ("maximum", -1.0, 1.0)] {
            let Some(bound) = schema[name].as_f64() else { continue };
            bounds += 1;
            let step = if is_float { bound.abs().max(1e-3) * 1e-6 } else { 1.0 };
            assert_eq!(checked(setting, bound), Some(true), "{setting}: {name} {bound}");
            assert_ne!(checked(setting, bound + outside * step), Some(true), "{setting}: {bound}");
            assert_eq!(checked(setting, bound + inside * step), Some(true), "{setting}: {bound}");
        }
    }
    assert!(bounds >= 25, "{bounds}");
}
