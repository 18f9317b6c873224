//! A canary in every identifying element: after the whole job it is nowhere to be found.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::dicoms::ct;
use crate::pictures::zip;
use crate::server::Server;

const CANARY: &str = "QZXCANARY";
const BIRTH_DATE: &str = "19370213";

#[tokio::test(flavor = "multi_thread")]
async fn no_patient_data_reaches_the_disk_the_database_the_logs_or_an_answer() {
    let mut server = Server::start();
    let mut entries = Vec::new();
    for class in 0..2 {
        for number in 0..12 {
            let number = number + 100 * class as u32;
            // The archive names a file by the patient's identifier, as exports often do.
            let name = format!("{}/{CANARY}01N{number}_scan.dcm", ["left", "right"][class]);
            entries.push((name, ct(class, number, CANARY)));
        }
    }
    let cut = ct(0, 999, CANARY);
    entries.push(("left/cut.dcm".to_owned(), cut[..cut.len() - 5000].to_vec()));
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("canaries", zip(&entries)).await;
    let mut answers = Vec::new();

    let path = format!("/api/v1/datasets/{dataset}/rejected");
    let rejected = server.get(&path).await;
    assert_eq!(rejected["items"].as_array().map(Vec::len), Some(1), "{rejected:#}");
    answers.push(rejected);
    let images = server.get(&format!("/api/v1/datasets/{dataset}/images")).await;
    let image = images["items"][0]["id"].as_str().expect("an image").to_owned();
    answers.push(images);
    let preview = format!("/api/v1/images/{image}/preview");
    server.expect(server.request(Method::GET, &preview), StatusCode::OK).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.succeed(&server.queue(&spec).await).await;
    let model = run["model"].as_str().expect("a model").to_owned();
    let predict = format!("/api/v1/models/{model}/predict");
    let request = server.request(Method::POST, &predict).body(ct(0, 555, CANARY));
    answers.push(server.expect(request, StatusCode::OK).await);
    let request = server.request(Method::POST, &predict).body(cut[..700].to_vec());
    answers.push(server.expect(request, StatusCode::UNPROCESSABLE_ENTITY).await);
    for name in ["card.md", "config.json"] {
        let text = server.artifact(&model, name).await.text().await.expect("text");
        answers.push(Value::String(text));
    }
    let metrics = server.request(Method::GET, "/metrics").send().await.expect("metrics");
    answers.push(Value::String(metrics.text().await.expect("text")));
    answers.push(run);

    assert!(server.stop(), "{}", server.log());
    for text in answers.iter().map(ToString::to_string).chain([server.log()]) {
        assert!(!text.contains(CANARY) && !text.contains(BIRTH_DATE), "{text}");
    }
    let (files, found) = search(&server.data());
    assert!(files > 20, "only {files} files were looked at");
    assert!(found.is_empty(), "patient data in {found:?}");
}

/// How many files lie under `folder`, and which of them hold a canary.
fn search(folder: &Path) -> (usize, Vec<String>) {
    let (mut files, mut found, mut folders) = (0, Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder reads").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).expect("a file reads");
                let holds = |needle: &str| {
                    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
                };
                let named = entry.file_name().to_string_lossy().contains(CANARY);
                if named || holds(CANARY) || holds(BIRTH_DATE) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    (files, found)
}
