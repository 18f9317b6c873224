//! Things that are deleted are gone, from the disk and from the database, and nothing else is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::api::Api;
use crate::app::App;
use crate::database::dump;
use crate::dicoms::ct;
use crate::pictures::{png, zip};
use crate::server::Server;

/// Stands in the name of every file and in what a DICOM file says of its patient.
const CANARY: &str = "QZXCANARY";
/// Stands in the labels that no run has learnt.
const LABEL: &str = "JKWLABEL";
/// The longest that a sweep is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn deleting_removes_the_stored_files_that_nothing_else_holds() {
    let server = App::start().await;
    let entry = |number: u32| (format!("left/{number}.png"), png(0, number, 64));
    let first = server.dataset("first", zip(&[entry(1), entry(2), entry(3)])).await;
    let second = server.dataset("second", zip(&[entry(3), entry(4)])).await;
    let blobs = server.data().join("blobs");
    assert_eq!(files(&blobs).len(), 4, "equal files are stored once");

    delete(&server, &format!("/api/v1/datasets/{first}")).await;
    assert_eq!(files(&blobs).len(), 2, "the other dataset keeps what it holds");

    let images = server.get(&format!("/api/v1/datasets/{second}/images")).await;
    for image in images["items"].as_array().expect("images") {
        let id = image["id"].as_str().expect("an id");
        let preview = server.request(Method::GET, &format!("/api/v1/images/{id}/preview"));
        server.expect(preview, StatusCode::OK).await;
    }
    let one = images["items"][0]["id"].as_str().expect("an id");
    delete(&server, &format!("/api/v1/images/{one}")).await;
    assert_eq!(files(&blobs).len(), 1);
    delete(&server, &format!("/api/v1/datasets/{second}")).await;
    assert_eq!(files(&blobs).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_deleted_during_an_upload_ends_it_and_leaves_nothing() {
    let server = App::start().await;
    let dataset = server.empty_dataset("short-lived").await;
    let entry = |number| (format!("{LABEL}/{CANARY}{number}.png"), png(0, number, 96));
    let archive = zip(&(0..600).map(entry).collect::<Vec<_>>());
    let upload = tokio::spawn(server.upload(&dataset, "images.zip", archive).send());
    let path = format!("/api/v1/datasets/{dataset}");
    while server.get(&path).await["images"].as_u64() < Some(3) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    delete(&server, &path).await;

    let answer = upload.await.expect("it ends").expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let problem: Value = answer.json().await.expect("a problem");
    let detail = problem["detail"].as_str().expect("a detail");
    assert_eq!(detail, "the dataset was deleted meanwhile");
    assert_eq!(files(&server.data().join("blobs")), Vec::<PathBuf>::new());
    let rows = dump(server.pool()).await;
    assert_eq!(told(&rows, CANARY), Vec::<String>::new());
    assert_eq!(told(&rows, LABEL), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_deleted_in_every_state_leaves_an_empty_store_and_no_name() {
    // Swept all the while and with hardly any grace: nothing that is needed may go.
    let swept = [("LVMED_SWEEP_SECONDS", "1"), ("LVMED_SWEEP_GRACE_SECONDS", "3")];
    let server = Server::start_with(&swept);
    let backbone = server.random_backbone("resnet18", 32).await["id"].clone();
    let sides = server.dataset("sides", named(12)).await;
    let version = server.freeze(&sides).await;
    let probe = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone,
                       "method": "probe"});
    let long = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone,
                      "method": "full", "training": {"epochs": 500, "patience": 500, "checkpoint_seconds": 1}});
    let ended = server.succeed(&server.queue(&probe).await).await;
    let model = ended["model"].as_str().expect("a model").to_owned();
    let cancelled = server.queue(&long).await;
    server.wait(&cancelled, |run| run["progress"]["epoch"].as_u64() >= Some(3)).await;
    let queued = server.queue(&probe).await;
    for run in [&queued, &cancelled] {
        server.post(&format!("/api/v1/runs/{run}/cancel"), &json!({}), StatusCode::ACCEPTED).await;
    }
    let stopped = Instant::now();
    while server.get(&format!("/api/v1/runs/{cancelled}")).await["status"] != "cancelled" {
        assert!(stopped.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A dataset with a frozen version, a deleted image, a rejected file and a patient, but no run.
    let file = |number: u32| {
        let class = number as usize % 2;
        (format!("{LABEL}{class}/{CANARY}_{number}.dcm"), ct(class, number, CANARY))
    };
    let mut entries: Vec<_> = (0..16).map(file).collect();
    entries.push((format!("{LABEL}0/{CANARY}.png"), b"no picture".to_vec()));
    let plain = server.dataset("plain", zip(&entries)).await;
    server.freeze(&plain).await;
    let images = server.get(&format!("/api/v1/datasets/{plain}/images")).await;
    let image = images["items"][0]["id"].as_str().expect("an image").to_owned();
    assert!(told(&rows(&server).await, LABEL).len() > 16, "the search finds nothing anyway");

    for path in [
        format!("/api/v1/images/{image}"),
        format!("/api/v1/datasets/{plain}"),
        format!("/api/v1/datasets/{sides}"),
        format!("/api/v1/models/{model}"),
        format!("/api/v1/backbones/{}", backbone.as_str().expect("an id")),
    ] {
        delete(&server, &path).await;
    }

    let deleted = Instant::now();
    while !files(&server.data().join("blobs")).is_empty() {
        let left = files(&server.data().join("blobs"));
        assert!(deleted.elapsed() < PATIENCE, "{left:?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rows = rows(&server).await;
    assert_eq!(told(&rows, CANARY), Vec::<String>::new());
    assert_eq!(told(&rows, LABEL), Vec::<String>::new());
    for table in [
        "images",
        "version_images",
        "predictions",
        "rejected_files",
        "features",
        "artifacts",
        "checkpoints",
        "matched_pairs",
    ] {
        let left: Vec<_> =
            rows.iter().filter(|row| row.starts_with(&format!("{table}: "))).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // What a finished run found stays on record.
    let run = server.get(&format!("/api/v1/runs/{}", ended["id"].as_str().expect("an id"))).await;
    assert_eq!(run["evaluation"], ended["evaluation"]);
    let wrong = server.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(wrong, 0, "{}", server.log());
}

/// Two classes, each file named by a canary.
fn named(each: u32) -> Vec<u8> {
    let entry = |class: usize, number: u32| {
        let name = format!("{}/{CANARY}{number}.png", ["left", "right"][class]);
        (name, png(class, number + 1000 * class as u32, 32))
    };
    let entries = (0..each).flat_map(|number| [entry(0, number), entry(1, number)]);
    zip(&entries.collect::<Vec<_>>())
}

async fn delete(server: &Api, path: &str) {
    server.expect(server.request(Method::DELETE, path), StatusCode::NO_CONTENT).await;
}

/// The files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let inner = entries.map(|entry| entry.path());
    inner.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn rows(server: &Server) -> Vec<String> {
    dump(&PgPool::connect(&server.database_url()).await.expect("Postgres")).await
}

fn told(rows: &[String], needle: &str) -> Vec<String> {
    rows.iter().filter(|row| row.contains(needle)).cloned().collect()
}
