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
async fn last_with_its_worker_killed_in_the_second_repeat_publishes_the_same_weights() {
    let job = Job {
        architecture: "resnet18",
        size: 64,
        each: 30,
        settings: json!({"method": "last", "seed": 5, "repeats": 2, "shots": 12,
            "training": {"epochs": 10, "patience": 10, "batch_size": 8, "stages": 2,
                         "ema_decay": 0.9, "checkpoint_seconds": 1}}),
    };

    let (whole, _) = job.run(|_| true, |_| ()).await;
    let reached = |run: &Value| {
        run["progress"]["repeat"] == 2 && run["progress"]["epoch"].as_u64() >= Some(3)
    };
    let (resumed, run) = job.run(reached, Server::kill_workers).await;

    assert_eq!(run["attempt"], 2, "{run:#}");
    assert_eq!(resumed, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_damaged_on_disk_is_noticed_and_the_one_before_it_used() {
    let settings = json!({"kind": "finetune", "method": "full", "seed": 5,
        "training": {"epochs": 12, "patience": 12, "batch_size": 8, "checkpoint_seconds": 3}});
    let mut digests = Vec::new();
    for is_damaged in [false, true] {
        let mut server = Server::start();
        let backbone = server.random_backbone("resnet18", 64).await;
        let dataset = server.dataset("sides", two_classes(30, 64)).await;
        let mut spec = settings.clone();
        spec["dataset_version"] = json!(server.freeze(&dataset).await);
        spec["backbone"] = backbone["id"].clone();
        let run = server.queue(&spec).await;
        if is_damaged {
            let kept = server.data().join("blobs");
            server.wait(&run, |_| checkpoints(&kept).len() >= 2).await;
            // A file is on record a moment after it is on disk, and the next one seconds away: no
            // file that is being written is taken for it.
            tokio::time::sleep(Duration::from_millis(400)).await;
            server = Server::start_in({
                let folder = server.kill();
                tokio::time::sleep(Duration::from_secs(1)).await;
                flip_last_byte(checkpoints(&kept).last().expect("there is one"));
                folder
            });
        }
        let ended = server.succeed(&run).await;
        digests.push(server.weights_digest(&ended).await);
        let events = server.request(Method::GET, &format!("/api/v1/runs/{run}/events"));
        let told = events.send().await.expect("a stream").text().await.expect("it ends");
        assert_eq!(told.contains("checkpoint is damaged"), is_damaged, "{told}");
        assert_eq!(told.contains("the one before it is used"), is_damaged, "{told}");
    }
    assert_eq!(digests[0], digests[1]);
}

/// The checkpoint files under a folder, oldest first.
fn checkpoints(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What is being written has another name.
            if path.to_string_lossy().contains('#') {
                continue;
            }
            let start = std::fs::File::open(&path).map(|file| {
                let mut start = Vec::new();
                // That it is gone by now is fine.
                let _ =
                    std::io::Read::read_to_end(&mut std::io::Read::take(file, 4096), &mut start);
                start
            });
            let start = String::from_utf8_lossy(&start.unwrap_or_default()).into_owned();
            let written = entry.metadata().and_then(|about| about.modified());
            if start.contains("position")
                && let Ok(written) = written
            {
                found.push((written, path));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn flip_last_byte(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).expect("read");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(file, bytes).expect("written");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_workers_die_twice_goes_on_with_half_as_many_images_at_a_time() {
    let server = Server::start();
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(30, 64)).await;
    let training = json!({"epochs": 12, "patience": 12, "batch_size": 8, "micro_batch": 8,
                          "checkpoint_seconds": 1});
    let spec = json!({"kind": "finetune", "method": "full", "backbone": backbone["id"],
                      "dataset_version": server.freeze(&dataset).await, "training": training});
    let run = server.queue(&spec).await;
    for attempt in [1, 2] {
        let trains =
            |run: &Value| run["attempt"] == attempt && run["progress"]["epoch"].as_u64() >= Some(1);
        let before = server.wait(&run, trains).await;
        assert_eq!(before["provenance"]["micro_batch"], 8, "{before:#}");
        server.kill_workers();
    }

    let ended = server.succeed(&run).await;

    assert_eq!(ended["attempt"], 3, "{ended:#}");
    assert_eq!(ended["provenance"]["micro_batch"], 4, "{ended:#}");
}
