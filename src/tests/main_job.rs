//! The main job through HTTP on a real server: upload, fine-tune, evaluate, download, predict.

use lvmed::config::{Compute, Device};
use lvmed::domain::Sha256;
use lvmed::inference::Runtime;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::pictures::{png, two_classes};
use crate::server::Server;

fn probe(version: &str, backbone: &Value) -> Value {
    json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
           "method": "probe", "shots": 8, "seed": 3})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_archive_becomes_an_evaluated_downloadable_and_predicting_model() {
    let mut server = Server::start();
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(24, 64)).await;
    let version = server.freeze(&dataset).await;

    let run = server.succeed(&server.queue(&probe(&version, &backbone)).await).await;

    assert!(run["evaluation"]["accuracy"]["value"].as_f64().expect("accuracy") > 0.9, "{run:#}");
    let model = server.get(&format!("/api/v1/models/{}", run["model"].as_str().expect("id"))).await;
    let id = model["id"].as_str().expect("an id");
    for artifact in model["artifacts"].as_array().expect("artifacts") {
        let name = artifact["name"].as_str().expect("a name");
        let response = server.artifact(id, name).await;
        let length = response.content_length();
        let bytes = response.bytes().await.expect("a whole file");
        assert_eq!(length, Some(bytes.len() as u64), "{name}");
        assert_eq!(artifact["sha256"], Sha256::of(&bytes).to_string(), "{name}");
    }
    let names: Vec<&str> = model["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .filter_map(|artifact| artifact["name"].as_str())
        .collect();
    for wanted in ["model.safetensors", "model.onnx", "card.md", "config.json"] {
        assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
    }

    for (class, label) in ["left", "right"].into_iter().enumerate() {
        let held_back = png(class, 77_000, 64);
        let path = format!("/api/v1/models/{id}/predict");
        let answer = server
            .expect(server.request(Method::POST, &path).body(held_back), StatusCode::OK)
            .await;
        assert_eq!(answer["items"][0]["label"], label, "{answer:#}");
        same_as_the_downloaded_file(&server, id, class, &answer["items"][0]).await;
    }
    assert!(server.stop(), "{}", server.log());
}

/// The downloaded ONNX file gives the served probabilities to 1e-5.
async fn same_as_the_downloaded_file(server: &Api, model: &str, class: usize, served: &Value) {
    let file = server.folder.path().join("model.onnx");
    let onnx = server.artifact(model, "model.onnx").await.bytes().await.expect("a whole file");
    std::fs::write(&file, onnx).expect("written");
    let config: Value =
        server.artifact(model, "config.json").await.json().await.expect("config.json is JSON");
    let preprocessing: lvmed::domain::Preprocessing =
        serde_json::from_value(config["preprocessing"].clone()).expect("a preprocessing");
    let limits = lvmed::config::Limits::default();
    let picture = lvmed::imaging::decode_frame(&png(class, 77_000, 64), 0, &limits).expect("a PNG");
    let input = lvmed::imaging::prepare(&picture, None, &preprocessing).expect("prepared");

    let compute = Compute { onnx_runtime: None, device: Device::Cpu, threads: 2 };
    let runtime = Runtime::load(&compute).expect("ONNX Runtime is installed");
    let mut network = runtime.open(&file, 2).expect("the file loads");
    let own = network.run(&input, 1).expect("it runs").probabilities.expect("it has a head");

    let labels = config["labels"].as_array().expect("labels");
    for (label, own) in labels.iter().zip(own) {
        let items = served["probabilities"].as_array().expect("probabilities");
        let item = items.iter().find(|item| item["label"] == *label).expect("each label");
        let served = item["probability"].as_f64().expect("a number");
        assert!((served - f64::from(own)).abs() < 1e-5, "{label}: {served} and {own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_whole_story_and_resume_where_a_client_left_off() {
    let server = App::start_with_worker(&[]).await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(16, 64)).await;
    let run = server.queue(&probe(&server.freeze(&dataset).await, &backbone)).await;

    let events = format!("/api/v1/runs/{run}/events");
    let whole = server.request(Method::GET, &events).send().await.expect("a stream");
    let whole = whole.text().await.expect("the stream ends with the run");
    let ids: Vec<i64> = whole
        .lines()
        .filter_map(|line| line.strip_prefix("id:"))
        .map(|id| id.trim().parse().expect("a number"))
        .collect();
    let middle = ids[ids.len() / 2];
    let rest = server.request(Method::GET, &events).header("Last-Event-ID", middle.to_string());
    let rest = rest.send().await.expect("a stream").text().await.expect("the stream ends");

    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert!(whole.contains("\"succeeded\""), "{whole}");
    let first = rest.lines().find_map(|line| line.strip_prefix("id:")).expect("an event");
    assert_eq!(first.trim().parse::<i64>().expect("a number"), middle + 1);
    assert!(rest.contains("\"succeeded\""), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_run_is_cancelled_and_the_next_one_still_runs() {
    let server = App::start_with_worker(&[]).await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(24, 64)).await;
    let version = server.freeze(&dataset).await;
    let long = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "full", "full": {"epochs": 1000, "patience": 1000}});

    let first = server.queue(&long).await;
    let second = server.queue(&probe(&version, &backbone)).await;
    let waiting = server.get(&format!("/api/v1/runs/{second}")).await;
    server.wait(&first, |run| run["progress"]["epoch"].as_u64() >= Some(1)).await;
    let cancel = format!("/api/v1/runs/{first}/cancel");
    server.post(&cancel, &json!({}), StatusCode::ACCEPTED).await;

    assert!(waiting["queue_position"].is_u64(), "{waiting:#}");
    let ended = server.wait(&first, |run| run["status"] == "cancelled").await;
    assert_eq!(ended["model"], Value::Null);
    server.succeed(&second).await;
}
