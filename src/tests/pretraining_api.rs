//! Pretraining over HTTP: what is asked for, what is refused, and what images without labels are for.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::pictures::{png, two_classes, zip};
use crate::server::Server;

const INVALID: (StatusCode, &str) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
const MISSING: (StatusCode, &str) = (StatusCode::NOT_FOUND, "not_found");

/// `count` pictures that lie in no folder and so have no label.
fn unlabelled(count: u32) -> Vec<u8> {
    let file = |number| (format!("{number}.png"), png(number as usize % 2, number, 32));
    zip(&(0..count).map(file).collect::<Vec<_>>())
}

async fn freeze_all(server: &Api, dataset: &str) -> Value {
    let path = format!("/api/v1/datasets/{dataset}/versions");
    server.post(&path, &json!({"include_unlabelled": true}), StatusCode::CREATED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_labels_freeze_for_pretraining_and_for_nothing_else() {
    let server = App::start().await;
    let backbone = server.random_backbone("resnet18", 32).await["id"].clone();
    let dataset = server.dataset("plain", unlabelled(20)).await;
    let path = format!("/api/v1/datasets/{dataset}/versions");
    let without = server.request(Method::POST, &path).json(&json!({}));
    server.refused(without, INVALID, &["include_unlabelled"]).await;

    let version = freeze_all(&server, &dataset).await;

    assert_eq!(version["labels"], json!([]));
    assert_eq!(version["splits"]["train"]["images"], 20);
    let finetune = json!({"kind": "finetune", "dataset_version": version["id"],
                          "backbone": backbone, "method": "probe"});
    let request = server.request(Method::POST, "/api/v1/runs").json(&finetune);
    let problem = server.refused(request, INVALID, &["only pretraining learns from it"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/dataset_version");
    let pretrain = json!({"kind": "pretrain", "dataset_version": version["id"],
                          "backbone": backbone, "learning": {"batch_size": 16}});
    let run = server.queue(&pretrain).await;
    let run = server.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(run["spec"]["objective"]["kind"], "matching", "{run:#}");
    assert_eq!(run["spec"]["objective"]["nodes"], 16);
    assert_eq!((&run["backbone"], &run["comparison"]), (&Value::Null, &Value::Null));
    let empty = server.empty_dataset("empty").await;
    let path = format!("/api/v1/datasets/{empty}/versions");
    let request = server.request(Method::POST, &path).json(&json!({"include_unlabelled": true}));
    server.refused(request, INVALID, &["no image"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_that_cannot_be_followed_are_refused_by_their_pointers() {
    let server = App::start().await;
    let backbone = server.random_backbone("resnet18", 32).await["id"].clone();
    let labelled = server.freeze(&server.dataset("sides", two_classes(12, 32)).await).await;
    let plain = server.dataset("plain", unlabelled(40)).await;
    let plain = freeze_all(&server, &plain).await["id"].clone();
    let recipe = json!({"kind": "pretrain", "dataset_version": plain, "backbone": backbone,
                        "learning": {"batch_size": 32}});
    let nobody = "01890000-0000-7000-8000-000000000001";
    let cases = [
        (json!({"backbone": null}), "/backbone", "either a backbone"),
        (json!({"architecture": "resnet18"}), "/backbone", "either a backbone"),
        (json!({"backbone": nobody}), "/backbone", "there is no backbone"),
        (json!({"dataset_version": nobody}), "/dataset_version", "there is no dataset version"),
        (json!({"learning": {"batch_size": 64}}), "/learning/batch_size", "40 image(s)"),
        (json!({"learning": {"batch_size": 8}}), "/learning/batch_size", "no graph of 16 nodes"),
        (
            json!({"objective": {"kind": "matching", "neighbours": 16}}),
            "/objective/neighbours",
            "at most 15",
        ),
        (
            json!({"objective": {"kind": "matching", "nodes": 128, "neighbours": 127},
                   "learning": {"batch_size": 128}}),
            "/objective/neighbours",
            "1024 edges are the most",
        ),
        (
            json!({"objective": {"kind": "simclr", "temperature": 0}}),
            "/objective/temperature",
            "outside",
        ),
        (json!({"views": {"size": 100}}), "/views/size", "multiple of 32"),
        (
            json!({"objective": {"kind": "simclr"}, "views": {"small_crops": 2}}),
            "/views/small_crops",
            "nothing of small crops",
        ),
        (json!({"gate": {"dataset_version": nobody}}), "/gate/dataset_version", "there is no"),
        (json!({"gate": {"dataset_version": plain}}), "/gate/dataset_version", "has a label"),
        (json!({"gate": {"dataset_version": labelled, "repeats": 0}}), "/gate/repeats", "1 to 100"),
        (
            json!({"gate": {"dataset_version": labelled, "shots": 50}}),
            "/gate/shots",
            "fewer than the 50 shots",
        ),
    ];
    for (change, pointer, told) in cases {
        let mut spec = recipe.clone();
        let change = change.as_object().expect("an object").clone();
        spec.as_object_mut().expect("an object").extend(change);
        let request = server.request(Method::POST, "/api/v1/runs").json(&spec);
        let problem = server.refused(request, INVALID, &[told]).await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem:#}");
    }
    let one_sided = zip(&[
        ("left/0.png".to_owned(), png(0, 0, 32)),
        ("left/1.png".to_owned(), png(0, 1, 32)),
        ("right/2.png".to_owned(), png(1, 2, 32)),
        (
            "labels.csv".to_owned(),
            b"file,label,split\nleft/0.png,left,train\nleft/1.png,left,test\n\
              right/2.png,right,train\n"
                .to_vec(),
        ),
    ]);
    let one_sided = server.freeze(&server.dataset("one-sided", one_sided).await).await;
    let mut gated = recipe.clone();
    gated["gate"] = json!({"dataset_version": one_sided});
    let request = server.request(Method::POST, "/api/v1/runs").json(&gated);
    let problem = server.refused(request, INVALID, &["1 class(es)"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/gate/dataset_version");
    let unknown = json!({"kind": "pretrain", "dataset_version": plain, "backbone": backbone,
                         "objective": {"kind": "guesswork"}});
    let request = server.request(Method::POST, "/api/v1/runs").json(&unknown);
    server.refused(request, INVALID, &["guesswork"]).await;

    let run = server.queue(&recipe).await;
    let again = server.request(Method::POST, &format!("/api/v1/runs/{run}/replay"));
    let conflict = (StatusCode::CONFLICT, "conflict");
    server.refused(again.json(&json!({})), conflict, &["fine-tuning run"]).await;
    let pair = server.request(Method::GET, &format!("/api/v1/runs/{run}/matching"));
    server.refused(pair, MISSING, &["matched pair"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pretraining_is_foretold_and_what_cannot_fit_is_refused_before_it_is_queued() {
    let memory = ("LVMED_LIMIT_TRAINING_MEMORY_BYTES", "1500000000");
    let server = App::start_with(&[memory]).await;
    let plain = server.dataset("plain", unlabelled(64)).await;
    let plain = freeze_all(&server, &plain).await["id"].clone();
    let recipe = |learning: Value| {
        json!({"kind": "pretrain", "dataset_version": plain, "architecture": "resnet18",
               "views": {"size": 32}, "learning": learning})
    };
    let estimate = async |spec: &Value| {
        let (status, found) = server.estimate(spec).await;
        assert_eq!(status, StatusCode::OK, "{found:#}");
        found
    };

    let once = estimate(&recipe(json!({"batch_size": 32, "epochs": 10}))).await;
    let thrice = estimate(&recipe(json!({"batch_size": 32, "epochs": 30}))).await;

    let number = |found: &Value, name: &str| found[name].as_f64().expect("a number");
    let ratio = number(&thrice, "seconds") / number(&once, "seconds");
    assert!((ratio - 3.0).abs() < 1e-6, "{once} {thrice}");
    // ResNet-18 has 45 MB of weights, four times in training.
    assert!(number(&once, "memory_bytes") > 180e6, "{once}");
    assert_eq!(
        (&once["available_bytes"], &once["micro_batch"]),
        (&json!(1_500_000_000), &Value::Null)
    );

    let mut large = recipe(json!({"batch_size": 64}));
    large["views"]["size"] = json!(192);
    server.estimate(&large).await;
    for path in ["/api/v1/runs/estimate", "/api/v1/runs"] {
        let request = server.request(Method::POST, path).json(&large);
        let told = ["a batch of 64 images", "1500 MB", "learning.batch_size", "accumulate"];
        let problem = server.refused(request, INVALID, &told).await;
        assert_eq!(problem["errors"][0]["pointer"], "/learning/batch_size", "{problem:#}");
    }
    let runs = server.get("/api/v1/runs").await;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_backbone_is_approved_and_has_no_files_of_its_own() {
    let server = App::start().await;
    let backbone = server.random_backbone("resnet18", 32).await;
    let path = format!("/api/v1/backbones/{}", backbone["id"].as_str().expect("an id"));

    assert_eq!((&backbone["stage"], &backbone["parent"]), (&json!("approved"), &Value::Null));
    let file = server.request(Method::GET, &format!("{path}/artifacts/card.md"));
    server.refused(file, MISSING, &["card.md"]).await;
    let change = server.request(Method::PATCH, &path).json(&json!({"stage": "candidate"}));
    let changed = server.expect(change, StatusCode::OK).await;
    assert_eq!(changed["stage"], "candidate");
    assert_eq!(server.get(&path).await["stage"], "candidate");
    let change = server.request(Method::PATCH, &path).json(&json!({"stage": "perfect"}));
    server.refused(change, INVALID, &["perfect"]).await;
}

/// A recipe that is quickly done: small graphs of 32-pixel pictures from random weights.
fn small(version: &Value, epochs: u32) -> Value {
    json!({"kind": "pretrain", "dataset_version": version, "architecture": "resnet18", "seed": 3,
           "objective": {"kind": "matching", "nodes": 4, "neighbours": 2, "channels": 16},
           "views": {"size": 32},
           "learning": {"epochs": epochs, "batch_size": 8, "learning_rate": 0.001,
                        "checkpoint_seconds": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_is_pretrained_judged_shown_and_fine_tuned() {
    let server = App::start_with_worker(&[]).await;
    let dataset = server.dataset("plain", unlabelled(24)).await;
    let plain = freeze_all(&server, &dataset).await["id"].clone();
    let labelled = server.freeze(&server.dataset("sides", two_classes(12, 32)).await).await;
    let mut recipe = small(&plain, 2);
    recipe["gate"] = json!({"dataset_version": labelled, "repeats": 2});

    let run = server.succeed(&server.queue(&recipe).await).await;

    let comparison = &run["comparison"];
    for side in ["before", "after", "difference"] {
        assert!(comparison[side]["value"].is_number(), "{run:#}");
    }
    let path = format!("/api/v1/backbones/{}", run["backbone"].as_str().expect("a backbone"));
    let backbone = server.get(&path).await;
    assert_eq!((&backbone["run"], &backbone["parent"]), (&run["id"], &Value::Null));
    let stage = if comparison["verdict"] == "worse" { "candidate" } else { "approved" };
    assert_eq!(backbone["stage"], stage, "{backbone:#}");
    assert_eq!(&backbone["comparison"], comparison);
    assert_eq!(backbone["preprocessing"]["size"], 32);
    let names: Vec<_> = backbone["artifacts"].as_array().expect("files").iter().collect();
    assert_eq!(names.len(), 3, "{backbone:#}");
    let card = server.request(Method::GET, &format!("{path}/artifacts/card.md"));
    let card = card.send().await.expect("answered").text().await.expect("text");
    assert!(card.contains("plain"), "{card}");
    let id = run["id"].as_str().expect("an id");
    let pair = server.get(&format!("/api/v1/runs/{id}/matching")).await;
    assert_eq!(pair["nodes"].as_array().expect("nodes").len(), 4, "{pair:#}");
    assert!(pair["nodes"][0]["first"].as_str().expect("a URL").starts_with("data:image/png"));
    let curves = server.get(&format!("/api/v1/runs/{id}/curves")).await;
    for name in [
        "loss",
        "matching_accuracy",
        "zero_gradient_share",
        "affinity_gradient_norm",
        "duality_gap",
        "images_per_second",
        "probe_auroc",
    ] {
        let points = curves["curves"][name].as_array();
        assert!(points.is_some_and(|points| !points.is_empty()), "{name}: {curves:#}");
    }
    let finetune = json!({"kind": "finetune", "dataset_version": labelled, "method": "probe",
                          "backbone": run["backbone"]});
    server.succeed(&server.queue(&finetune).await).await;

    // What was learnt stays; the pictures of the people it was learnt from do not.
    let deleted = server.request(Method::DELETE, &format!("/api/v1/datasets/{dataset}"));
    server.expect(deleted, StatusCode::NO_CONTENT).await;
    let pair = server.request(Method::GET, &format!("/api/v1/runs/{id}/matching"));
    server.refused(pair, MISSING, &["matched pair"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_a_run_is_judged_by_cannot_be_deleted() {
    let server = App::start().await;
    let plain = server.dataset("plain", unlabelled(24)).await;
    let sides = server.dataset("sides", two_classes(12, 32)).await;
    let mut recipe = small(&freeze_all(&server, &plain).await["id"], 1);
    recipe["gate"] = json!({"dataset_version": server.freeze(&sides).await});
    let run = server.queue(&recipe).await;
    let delete = || server.request(Method::DELETE, &format!("/api/v1/datasets/{sides}"));

    server.refused(delete(), (StatusCode::CONFLICT, "conflict"), &["1 queued or running"]).await;

    server.post(&format!("/api/v1/runs/{run}/cancel"), &json!({}), StatusCode::ACCEPTED).await;
    server.expect(delete(), StatusCode::NO_CONTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pretraining_run_with_its_worker_killed_gives_the_same_weights() {
    let server = Server::start();
    let plain = server.dataset("plain", unlabelled(48)).await;
    let recipe = small(&freeze_all(&server, &plain).await["id"], 12);
    let weights = async |run: &Value| {
        let id = run["backbone"].as_str().expect("a backbone");
        server.get(&format!("/api/v1/backbones/{id}")).await["weights_sha256"].clone()
    };

    let whole = server.succeed(&server.queue(&recipe).await).await;
    let id = server.queue(&recipe).await;
    server.wait(&id, |run| run["progress"]["epoch"].as_u64() >= Some(4)).await;
    server.kill_workers();
    let resumed = server.succeed(&id).await;

    assert_eq!(resumed["attempt"], 2, "{resumed:#}");
    let events = server.request(Method::GET, &format!("/api/v1/runs/{id}/events"));
    let told = events.send().await.expect("a stream").text().await.expect("it ends");
    assert!(told.contains("resumed from a checkpoint"), "{told}");
    assert_eq!(weights(&resumed).await, weights(&whole).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_without_anything_on_them_end_in_an_error_that_says_so() {
    let server = App::start_with_worker(&[]).await;
    let flat = |shade: u8| {
        let picture = image::GrayImage::from_pixel(40, 40, image::Luma([shade]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture encodes");
        (format!("{shade}.png"), bytes.into_inner())
    };
    let archive = zip(&(0..8).map(|number| flat(number * 20)).collect::<Vec<_>>());
    let dataset = server.dataset("flat", archive).await;
    let recipe = small(&freeze_all(&server, &dataset).await["id"], 1);

    let id = server.queue(&recipe).await;
    let run = server.wait(&id, |run| run["status"] == "failed").await;

    let error = run["error"].to_string();
    assert!(error.contains("all 8 image(s) are flat"), "{error}");
    assert_eq!((&run["backbone"], &run["attempt"]), (&Value::Null, &json!(1)), "{run:#}");

    let one = server.dataset("one", unlabelled(1)).await;
    let recipe = small(&freeze_all(&server, &one).await["id"], 1);
    let request = server.request(Method::POST, "/api/v1/runs").json(&recipe);
    let problem = server.refused(request, INVALID, &["1 image(s)", "add images"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/learning/batch_size", "{problem:#}");
}
