//! Processes killed at bad moments: nothing finished is lost, and the resumed run is the same run.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::pictures::two_classes;
use crate::server::Server;

struct Job {
    architecture: &'static str,
    size: u32,
    each: u32,
    settings: Value,
}

impl Job {
    /// Runs the job on a fresh server, calling `disturb` when `reached` first holds.
    async fn run(
        &self,
        reached: impl Fn(&Value) -> bool,
        disturb: impl Fn(&Server),
    ) -> (String, Value) {
        let server = Server::start();
        let backbone = server.random_backbone(self.architecture, self.size).await;
        let dataset = server.dataset("sides", two_classes(self.each, self.size)).await;
        let mut spec = self.settings.clone();
        spec["kind"] = json!("finetune");
        spec["dataset_version"] = json!(server.freeze(&dataset).await);
        spec["backbone"] = backbone["id"].clone();
        let run = server.queue(&spec).await;
        server.wait(&run, reached).await;
        disturb(&server);
        let ended = server.succeed(&run).await;
        (server.weights_digest(&ended).await, ended)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_with_its_worker_killed_publishes_the_same_weights() {
    let job = Job {
        architecture: "resnet34",
        size: 224,
        each: 60,
        settings: json!({"method": "probe", "shots": 20, "seed": 5}),
    };

    let (whole, _) = job.run(|_| true, |_| ()).await;
    let (resumed, run) = job
        .run(
            |run| run["status"] == "running" && run["progress"]["done"].as_u64() >= Some(3),
            Server::kill_workers,
        )
        .await;

    assert_eq!(run["attempt"], 2, "{run:#}");
    assert_eq!(resumed, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_with_its_worker_killed_publishes_the_same_weights() {
    let job = Job {
        architecture: "resnet18",
        size: 64,
        each: 30,
        settings: json!({"method": "full", "seed": 5,
            "full": {"epochs": 12, "patience": 12, "batch_size": 8, "learning_rate": 0.001}}),
    };

    let (whole, _) = job.run(|_| true, |_| ()).await;
    let (resumed, run) =
        job.run(|run| run["progress"]["epoch"].as_u64() >= Some(4), Server::kill_workers).await;

    assert_eq!(run["attempt"], 2, "{run:#}");
    assert_eq!(resumed, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_starts_again_with_everything_it_had_finished() {
    let server = Server::start();
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(20, 64)).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "full", "full": {"epochs": 30, "patience": 30}});
    let run = server.queue(&spec).await;
    server.wait(&run, |run| run["progress"]["epoch"].as_u64() >= Some(2)).await;

    let folder = server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let server = Server::start_in(folder);

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 40);
    let ended = server.succeed(&run).await;
    let model = ended["model"].as_str().expect("a model");
    server.artifact(model, "model.safetensors").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_middle_of_an_upload_leaves_nothing_behind() {
    let server = Server::start();
    let created =
        server.post("/api/v1/datasets", &json!({"name": "cut"}), StatusCode::CREATED).await;
    let path =
        format!("/api/v1/datasets/{}/uploads?file=a.zip", created["id"].as_str().expect("id"));
    let archive = two_classes(20, 64);
    let half = archive[..archive.len() / 2].to_vec();
    let body =
        futures_util::stream::iter([Ok(half), Err(std::io::Error::other("the client goes away"))]);

    let sent =
        server.request(Method::POST, &path).body(reqwest::Body::wrap_stream(body)).send().await;

    assert!(sent.is_err());
    let found =
        server.get(&format!("/api/v1/datasets/{}", created["id"].as_str().expect("id"))).await;
    assert_eq!(found["images"], 0);
    server.expect(server.request(Method::POST, &path).body(archive), StatusCode::OK).await;
}
