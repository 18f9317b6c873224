//! Processes killed at bad moments: nothing finished is lost, and the resumed run is the same run.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::pictures::two_classes;
use crate::server::{Server, signal};

/// Share of a run that the features are which training starts from: they are kept for good, before there
/// is any checkpoint.
const FEATURES: f64 = 0.1;

struct Job {
    architecture: &'static str,
    size: u32,
    each: u32,
    settings: Value,
}

/// A run that was done twice on one server: once to its end, once with its workers killed.
struct Twice {
    /// SHA-256 of the weights of each.
    weights: [String; 2],
    /// The run whose workers were killed, as it ended.
    killed: Value,
    /// The events of the attempt after the kill.
    events: Vec<Value>,
}

impl Job {
    /// Does the job twice on a fresh server. The second time its workers are killed once `reached`
    /// holds and something is kept that the next attempt can go on from.
    async fn twice(&self, reached: impl Fn(&Value) -> bool) -> Twice {
        let server = Server::start();
        insists_on_disk(&server).await;
        let backbone = server.random_backbone(self.architecture, self.size).await;
        let dataset = server.dataset("sides", two_classes(self.each, self.size)).await;
        let mut spec = self.settings.clone();
        spec["kind"] = json!("finetune");
        spec["dataset_version"] = json!(server.freeze(&dataset).await);
        spec["backbone"] = backbone["id"].clone();
        let whole = server.succeed(&server.queue(&spec).await).await;
        // What the first run computed must not help the second.
        let mut database = server.database().await;
        sqlx::query("delete from features").execute(&mut database).await.expect("deleted");
        let run = server.queue(&spec).await;
        server.wait(&run, reached).await;
        let features = if self.settings["method"] == "probe" { 0.0 } else { FEATURES };
        keeps_more_than(&server, &run, features).await;
        server.kill_workers();
        let killed = server.succeed(&run).await;
        assert_eq!(killed["attempt"], 2, "{killed:#}");
        let weights = [server.weights_digest(&whole).await, server.weights_digest(&killed).await];
        Twice { weights, killed, events: events(&server, &run, 2).await }
    }
}

impl Twice {
    /// Insists that the second attempt went on from a checkpoint, took none of the first steps again,
    /// and ended in the weights of a run that was never killed.
    fn went_on_from_its_checkpoint(&self) {
        let told = lines(&self.events);
        assert!(is_resumed(&told), "it started anew: {told:?}\n{:#}", self.killed);
        let first = json!({"event": "metric", "name": "train_loss", "step": 1});
        let is_first = |event: &&Value| {
            first.as_object().expect("an object").iter().all(|(key, value)| event[key] == *value)
        };
        assert_eq!(self.events.iter().find(is_first), None, "it began at the beginning");
        assert_eq!(self.weights[0], self.weights[1]);
    }
}

/// The files that are on disk after a kill are those that the server believes to be there: its
/// Postgres syncs.
async fn insists_on_disk(server: &Server) {
    let mut database = server.database().await;
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let shown: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut database)
            .await
            .expect("answered");
        assert_eq!(shown, "on", "{setting}");
    }
}

/// Waits until more than this share of a run need not be done again, whatever happens; that share.
async fn keeps_more_than(server: &Server, run: &str, share: f64) -> f64 {
    let mut database = server.database().await;
    let id: uuid::Uuid = run.parse().expect("an id");
    loop {
        let kept: f64 = sqlx::query_scalar("select kept_share from runs where id = $1")
            .bind(id)
            .fetch_one(&mut database)
            .await
            .expect("answered");
        if kept > share {
            return kept;
        }
        let status = server.get(&format!("/api/v1/runs/{run}")).await["status"].clone();
        assert!(status == "queued" || status == "running", "it kept nothing and is {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The events of an attempt of a run that has ended.
async fn events(server: &Server, run: &str, attempt: u32) -> Vec<Value> {
    let events = server.request(Method::GET, &format!("/api/v1/runs/{run}/events"));
    let told = events.send().await.expect("a stream").text().await.expect("it ends");
    let events = told.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.map(|data| serde_json::from_str::<Value>(data).expect("an event"));
    events.filter(|event| event["attempt"] == attempt).collect()
}

/// The lines of the log among events.
fn lines(events: &[Value]) -> Vec<&str> {
    let lines = events.iter().filter(|event| event["event"] == "log");
    lines.map(|event| event["message"].as_str().expect("a line")).collect()
}

/// Whether an attempt says that it read a checkpoint.
fn is_resumed(told: &[&str]) -> bool {
    told.iter().any(|line| line.starts_with("resumed from a checkpoint in epoch "))
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_with_its_worker_killed_goes_on_with_its_features_to_the_same_weights() {
    let job = Job {
        architecture: "resnet34",
        size: 224,
        each: 60,
        settings: json!({"method": "probe", "shots": 20, "seed": 5}),
    };

    let twice = job
        .twice(|run| run["status"] == "running" && run["progress"]["done"].as_u64() >= Some(3))
        .await;

    let told = lines(&twice.events);
    let known = told.iter().find_map(|line| {
        let (done, rest) = line.strip_prefix("the features of ")?.split_once(" of ")?;
        rest.ends_with("are known already").then(|| done.parse::<u32>().ok())?
    });
    assert!(known >= Some(3), "it started anew: {told:?}");
    assert_eq!(twice.weights[0], twice.weights[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_with_its_worker_killed_goes_on_from_its_checkpoint_to_the_same_weights() {
    let job = Job {
        architecture: "resnet18",
        size: 64,
        each: 30,
        settings: json!({"method": "full", "seed": 5,
            "full": {"epochs": 12, "patience": 12, "batch_size": 8, "learning_rate": 0.001,
                     "checkpoint_seconds": 1}}),
    };

    let twice = job.twice(|run| run["progress"]["epoch"].as_u64() >= Some(4)).await;

    twice.went_on_from_its_checkpoint();
}

#[tokio::test(flavor = "multi_thread")]
async fn last_with_its_worker_killed_in_the_second_repeat_publishes_the_same_weights() {
    let job = Job {
        architecture: "resnet18",
        size: 64,
        each: 30,
        settings: json!({"method": "last", "seed": 5, "repeats": 2, "shots": 12,
            "training": {"epochs": 10, "patience": 10, "batch_size": 3, "stages": 2,
                         "ema_decay": 0.9, "checkpoint_seconds": 1}}),
    };
    let twice = job
        .twice(|run| run["progress"]["repeat"] == 2 && run["progress"]["epoch"].as_u64() >= Some(3))
        .await;

    twice.went_on_from_its_checkpoint();
}

#[tokio::test(flavor = "multi_thread")]
async fn lora_with_its_worker_killed_goes_on_from_its_checkpoint_to_the_same_weights() {
    let job = Job {
        architecture: "sam_vit_b",
        size: 32,
        each: 8,
        settings: json!({"method": "lora", "seed": 5,
            "training": {"epochs": 12, "patience": 12, "batch_size": 4, "rank": 2,
                         "checkpoint_seconds": 1}}),
    };

    let twice = job.twice(|run| run["progress"]["epoch"].as_u64() >= Some(3)).await;

    twice.went_on_from_its_checkpoint();
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
            // A file is on record some time after it is on disk: the one on record is damaged.
            let newest = newest_on_record(&server).await;
            server = Server::start_in({
                // A worker that outlives its server would keep what it has in a newer checkpoint.
                let workers = server.freeze_workers();
                let folder = server.kill();
                workers.iter().for_each(|worker| signal(*worker, "KILL"));
                tokio::time::sleep(Duration::from_secs(1)).await;
                let files = checkpoints(&kept);
                let file = files.iter().find(|file| file.ends_with(&newest));
                flip_last_byte(file.expect("it is there"));
                folder
            });
        }
        let ended = server.succeed(&run).await;
        digests.push(server.weights_digest(&ended).await);
        let events = server.request(Method::GET, &format!("/api/v1/runs/{run}/events"));
        let told = events.send().await.expect("a stream").text().await.expect("it ends");
        assert_eq!(told.contains("checkpoint is damaged"), is_damaged, "{told}");
        assert_eq!(told.contains("the one before it is used"), is_damaged, "{told}");
        assert_eq!(told.contains("resumed from a checkpoint"), is_damaged, "{told}");
    }
    assert_eq!(digests[0], digests[1]);
}

/// The name of the newest checkpoint on record, once there is one before it.
async fn newest_on_record(server: &Server) -> String {
    let mut database = PgConnection::connect(&server.database_url()).await.expect("Postgres");
    loop {
        let newest = "select blob from checkpoints where previous is not null";
        let found: Option<String> =
            sqlx::query_scalar(newest).fetch_optional(&mut database).await.expect("an answer");
        if let Some(found) = found {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
                      "method": "full",
                      "full": {"epochs": 30, "patience": 30, "checkpoint_seconds": 1}});
    let run = server.queue(&spec).await;
    server.wait(&run, |run| run["progress"]["epoch"].as_u64() >= Some(2)).await;
    keeps_more_than(&server, &run, FEATURES).await;

    let folder = server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let server = Server::start_in(folder);

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 40);
    let ended = server.succeed(&run).await;
    assert!(is_resumed(&lines(&events(&server, &run, 2).await)), "{}", server.log());
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
async fn a_run_that_gets_further_outlives_more_crashes_than_it_has_attempts_and_spares_memory() {
    let server = Server::start();
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(30, 64)).await;
    let training = json!({"epochs": 16, "patience": 16, "batch_size": 8, "micro_batch": 8,
                          "checkpoint_seconds": 1});
    let spec = json!({"kind": "finetune", "method": "full", "backbone": backbone["id"],
                      "dataset_version": server.freeze(&dataset).await, "training": training});
    let run = server.queue(&spec).await;
    let mut kept = FEATURES;
    for (attempt, micro_batch) in [(1, 8), (2, 8), (3, 4)] {
        // Until it trains, a run still shows how far the attempt before it was.
        let trains = |run: &Value| {
            run["attempt"] == attempt
                && run["progress"]["epoch"].as_u64() >= Some(1)
                && run["progress"]["stage"] == "training"
        };
        let before = server.wait(&run, trains).await;
        assert_eq!(before["provenance"]["micro_batch"], micro_batch, "{before:#}");
        kept = keeps_more_than(&server, &run, kept).await;
        server.kill_workers();
    }

    let ended = server.succeed(&run).await;

    // Two attempts in a row that end without a word are put down to memory.
    assert_eq!(ended["attempt"], 4, "{ended:#}");
    assert_eq!(ended["provenance"]["micro_batch"], 2, "{ended:#}");
    let notices = ended["notices"].as_array().expect("notices");
    assert_eq!(notices.len(), 2, "{ended:#}");
    let notice = notices[0].as_str().expect("a notice");
    for part in ["4 images are computed at a time", "not 8", "last digits"] {
        assert!(notice.contains(part), "{notice}");
    }
    assert!(lines(&events(&server, &run, 3).await).contains(&notice));
    for attempt in 2..=4 {
        let events = events(&server, &run, attempt).await;
        let told = lines(&events);
        assert!(is_resumed(&told), "attempt {attempt} started anew: {told:?}");
    }
}
