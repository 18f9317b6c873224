//! Stored files that were damaged, swapped or lost: told in words, never given out, and healed by
//! the same file again.

use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::pictures::{png, two_classes};
use crate::server::Server;

const DAMAGED: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "damaged");
const WHAT_TO_DO: &[&str] = &["is damaged", "same file again", "backup", "lvmed check"];

/// The place where a blob lies.
fn place(server: &Api, sha256: &Value) -> PathBuf {
    let name = sha256.as_str().expect("a digest");
    server.data().join("blobs/blobs").join(&name[..2]).join(name)
}

/// Changes one byte of a file in its middle, and nothing else.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a stored file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

fn check(server: &Api) -> (bool, Value) {
    let ended = server.command(&["check", "--json"]);
    let found = serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr));
    });
    (ended.status.success(), found)
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_damaged_and_lost_originals_are_told_and_heal_with_the_same_file() {
    let server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let archive = two_classes(2, 64);
    let dataset = server.dataset("sides", archive.clone()).await;
    let images = server.get(&format!("/api/v1/datasets/{dataset}/images")).await;
    let preview = |at: usize| -> RequestBuilder {
        let id = images["items"][at]["id"].as_str().expect("an image");
        server.request(Method::GET, &format!("/api/v1/images/{id}/preview"))
    };
    let blob = |at: usize| place(&server, &images["items"][at]["blob"]);
    server.expect(preview(0), StatusCode::OK).await;

    std::fs::rename(blob(0), blob(0).with_extension("aside")).expect("moved");
    std::fs::rename(blob(1), blob(0)).expect("moved");
    std::fs::rename(blob(0).with_extension("aside"), blob(1)).expect("moved");
    flip(&blob(2));
    std::fs::remove_file(blob(3)).expect("lost");

    for _ in 0..2 {
        for at in 0..3 {
            server.refused(preview(at), DAMAGED, WHAT_TO_DO).await;
        }
        server.refused(preview(3), DAMAGED, &["is missing", "same file again", "backup"]).await;
    }
    let log = server.log();
    let logged = log.lines().filter(|line| line.contains("a stored file is damaged"));
    assert_eq!(logged.count(), 3, "each once: {log}");
    let (well, found) = check(&server);
    assert!(!well);
    let count = |kind: &str| found[kind].as_array().expect("findings").len();
    assert_eq!((count("damaged"), count("missing"), count("unnamed")), (3, 1, 0), "{found:#}");
    assert_eq!(found["missing"][0]["blob"], images["items"][3]["blob"]);
    let what = found["missing"][0]["what"].as_str().expect("words");
    assert!(what.contains("image") && what.contains("\"sides\""), "{what}");
    let told = server.command(&["check"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("3 damaged") && told.contains("1 missing"), "{told}");

    let upload = server.upload(&dataset, "images.zip", archive);
    let report = server.expect(upload, StatusCode::OK).await;

    assert_eq!((&report["images"], &report["duplicates"]), (&json!(0), &json!(4)));
    for at in 0..4 {
        server.expect(preview(at), StatusCode::OK).await;
    }
    let (well, found) = check(&server);
    assert!(well && found["files"] == 4, "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_network_answers_nothing_and_its_files_are_not_sent() {
    let server = App::start_with_worker(&[]).await;
    let backbone = server.random_backbone("resnet18", 32).await;
    let dataset = server.dataset("sides", two_classes(8, 32)).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.succeed(&server.queue(&spec).await).await;
    let model = format!("/api/v1/models/{}", run["model"].as_str().expect("a model"));
    let artifacts = server.get(&model).await["artifacts"].clone();
    let mut files = artifacts.as_array().expect("files").iter();
    let network = files.find(|file| file["name"] == "model.onnx").expect("a network");
    let predict = || server.request(Method::POST, &format!("{model}/predict")).body(png(0, 1, 32));
    let embed = || {
        let path = format!("/api/v1/backbones/{}/embed", backbone["id"].as_str().expect("an id"));
        server.request(Method::POST, &path).body(png(0, 1, 32))
    };
    server.expect(predict(), StatusCode::OK).await;
    server.expect(embed(), StatusCode::OK).await;

    flip(&place(&server, &network["sha256"]));
    flip(&place(&server, &backbone["onnx_sha256"]));
    flip(&place(&server, &backbone["weights_sha256"]));

    // Though it was loaded before the damage.
    server.refused(predict(), DAMAGED, WHAT_TO_DO).await;
    server.refused(embed(), DAMAGED, WHAT_TO_DO).await;
    let download = server.request(Method::GET, &format!("{model}/artifacts/model.onnx"));
    server.refused(download, DAMAGED, WHAT_TO_DO).await;
    let failed = server.queue(&spec).await;
    let failed = server.wait(&failed, |run| run["status"] == "failed").await;
    assert_eq!(failed["attempt"], 1, "another attempt would meet the same: {failed:#}");
    assert!(failed["error"].as_str().expect("words").contains("same file again"), "{failed:#}");

    let weights = server.random_weights("resnet18");
    let again = server.import("random resnet18", 32, weights);
    let again = again.send().await.expect("an answer");
    assert!(again.status().is_success(), "{:?}", again.text().await);

    server.expect(embed(), StatusCode::OK).await;
    server.succeed(&server.queue(&spec).await).await;
    // The same run gives the same files.
    server.expect(predict(), StatusCode::OK).await;
}
