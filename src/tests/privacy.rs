//! A canary in everything that comes from outside: after the whole job it is nowhere to be found.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use lvmed::store::postgres::Cluster;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::canaries::{everywhere, in_structure, named};
use crate::database::dump;
use crate::dicoms::ct;
use crate::pictures::{png, zip};
use crate::server::Server;

const CANARY: &str = "QZXCANARY";
const BIRTH_DATE: &str = "19370213";
/// Names of files and folders; the second and the third are one name in two forms.
const NAMES: [&str; 5] =
    ["山田太郎", "Mülleritsch", "Mu\u{308}lleritsch", "Мейерова", "O'Brienski"];

#[tokio::test(flavor = "multi_thread")]
async fn no_patient_data_and_no_name_reaches_the_disk_the_database_the_logs_or_an_answer() {
    let mut server = Server::start_with(&[("LVMED_LOG", "debug")]);
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.empty_dataset("canaries").await;
    let mut answers = Vec::new();

    let report = server.upload(&dataset, &format!("{CANARY}.zip"), zip(&entries()));
    let report = server.expect(report, StatusCode::OK).await;
    assert_eq!(report["rejected_total"].as_u64(), Some(refused_at_least(&report)), "{report:#}");
    for file in report["rejected"].as_array().expect("a list") {
        answers.push(file["reason"].clone());
    }
    let query = format!("file={CANARY}.png&patient={CANARY}");
    let path = format!("/api/v1/datasets/{dataset}/uploads?{query}");
    let alone = server.request(Method::POST, &path).body(png(0, 900, 64));
    server.expect(alone, StatusCode::OK).await;
    let telling = format!("{path}&label=of-{CANARY}-9");
    let telling = server.request(Method::POST, &telling).body(png(0, 901, 64));
    let telling = server.expect(telling, StatusCode::OK).await;
    assert_eq!(telling["rejected_total"], 1, "{telling:#}");
    for list in ["images?limit=1000", "rejected"] {
        let listed = server.get(&format!("/api/v1/datasets/{dataset}/{list}")).await;
        assert!(listed["items"].as_array().is_some_and(|items| items.len() > 10), "{listed:#}");
        answers.push(listed);
    }
    let image = answers[answers.len() - 2]["items"][0]["id"].as_str().expect("an id").to_owned();
    let preview = format!("/api/v1/images/{image}/preview");
    server.expect(server.request(Method::GET, &preview), StatusCode::OK).await;
    let version = server.freeze(&dataset).await;
    answers.push(server.get(&format!("/api/v1/versions/{version}/images")).await);
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.succeed(&server.queue(&spec).await).await;
    let id = run["id"].as_str().expect("an id");
    answers.push(server.get(&format!("/api/v1/runs/{id}/predictions")).await);
    let model = run["model"].as_str().expect("a model").to_owned();
    answers.extend(predictions(&server, &format!("/api/v1/models/{model}/predict")).await);
    let embed = format!("/api/v1/backbones/{}/embed", backbone["id"].as_str().expect("an id"));
    answers.extend(predictions(&server, &embed).await);
    for name in ["card.md", "config.json"] {
        let text = server.artifact(&model, name).await.text().await.expect("text");
        answers.push(Value::String(text));
    }
    let metrics = server.request(Method::GET, "/metrics").send().await.expect("metrics");
    answers.push(Value::String(metrics.text().await.expect("text")));
    answers.push(run);

    assert!(server.stop(), "{}", server.log());
    assert!(server.log().contains("DEBUG"), "the log does not say everything");
    for text in answers.iter().map(ToString::to_string).chain(lines(&server.log())) {
        assert_eq!(told(&text), None, "{text}");
    }
    let (files, found) = search(&server.data());
    assert!(files > 20, "only {files} files were looked at");
    assert!(found.is_empty(), "patient data in {found:?}");
    let cluster = Cluster::start(&server.data(), None).expect("the database starts");
    let url = cluster.database_url().await.expect("the database answers");
    let rows = dump(&sqlx::PgPool::connect(&url).await.expect("connected")).await;
    assert!(rows.len() > 50, "only {} rows were looked at", rows.len());
    for row in rows {
        assert_eq!(told(&row), None, "{row}");
    }
}

/// Files with a token in every element, in structure words, in their names and in those of folders.
fn entries() -> Vec<(String, Vec<u8>)> {
    let mut entries = Vec::new();
    for class in 0..2 {
        for number in 0..12 {
            let number = number + 100 * class as u32;
            let folder = ["left", "right"][class];
            let name = format!("{folder}/{CANARY}01N{number}_{}.dcm", NAMES[number as usize % 5]);
            entries.push((name, everywhere(class, number, CANARY)));
        }
    }
    for (what, file) in in_structure(CANARY, BIRTH_DATE) {
        entries.push((format!("left/{CANARY} {what}.dcm"), file));
    }
    for (number, name) in NAMES.into_iter().enumerate() {
        entries.push((format!("right/{name}.png"), png(1, 700 + number as u32, 64)));
        entries.push((format!("right/{name}.dcm"), named(1, 710 + number as u32, name)));
        // A folder named after the patient, in whatever form of the name.
        entries.push((format!("{name}_1/a.dcm"), named(1, 720 + number as u32, name)));
        entries.push((format!("right/{name}.txt"), format!("of {CANARY}").into_bytes()));
    }
    // Folders named after patients would be classes; links, archives and damaged pictures.
    entries.push((format!("{CANARY}01N300/scan.dcm"), everywhere(0, 300, CANARY)));
    entries.push((format!("born-{BIRTH_DATE}/scan.dcm"), everywhere(0, 301, CANARY)));
    entries.push((format!("left/{CANARY}.zip"), zip(&[(CANARY.to_owned(), b"inner".to_vec())])));
    entries.push((format!("left/{CANARY}.png"), with_chunk(&png(0, 1, 16))));
    entries.push((format!("left/{CANARY}-cut.png"), with_chunk(&png(0, 2, 16))[..60].to_vec()));
    let comment =
        [b"\xFF\xD8\xFF\xFE\x00\x0B".as_slice(), CANARY.as_bytes(), b"\xFF\xC0\x00\x03"].concat();
    entries.push((format!("left/{CANARY}.jpg"), comment));
    let root = format!("{CANARY} {}", NAMES[1]);
    entries.into_iter().map(|(name, bytes)| (format!("{root}/{name}"), bytes)).collect()
}

/// A PNG with the token as a text and as the name of a chunk.
fn with_chunk(png: &[u8]) -> Vec<u8> {
    let text = [9_u32.to_be_bytes().as_slice(), b"tEXt", CANARY.as_bytes(), &[0; 4]].concat();
    let odd = [9_u32.to_be_bytes().as_slice(), b"QZXC", CANARY.as_bytes(), &[0; 4]].concat();
    [&png[..33], &text, &odd, &png[33..]].concat()
}

/// The number of files that were refused: surely the texts, the folders of patients, the archive, and
/// the pictures that are none.
fn refused_at_least(report: &Value) -> u64 {
    let refused = report["rejected"].as_array().map_or(0, Vec::len) as u64;
    assert!(refused >= 5 + 7 + 1 + 2 + 8, "only {refused} files were refused: {report:#}");
    refused
}

/// The answers for files that hold the token, whose names are sent and come back.
async fn predictions(server: &Server, path: &str) -> Vec<Value> {
    let post = || server.request(Method::POST, path);
    let mut answers =
        vec![server.expect(post().body(everywhere(0, 555, CANARY)), StatusCode::OK).await];
    for (_, file) in in_structure(CANARY, BIRTH_DATE) {
        let answer = post().body(file).send().await.expect("the server answers");
        answers.push(Value::String(answer.text().await.expect("text")));
    }
    let part = reqwest::multipart::Part::bytes(png(0, 5, 64)).file_name(format!("{CANARY}.png"));
    let form = reqwest::multipart::Form::new().part("file", part);
    let named = server.expect(post().multipart(form), StatusCode::OK).await;
    assert_eq!(named["items"][0]["file"], format!("{CANARY}.png"));
    answers
}

/// The token that a text holds.
fn told(text: &str) -> Option<&'static str> {
    [CANARY, BIRTH_DATE].into_iter().chain(NAMES).find(|token| text.contains(token))
}

fn lines(log: &str) -> Vec<String> {
    log.lines().map(str::to_owned).collect()
}

#[test]
fn a_name_put_where_a_number_belongs_is_not_stored() {
    let limits = lvmed::config::Limits::default();
    let file = ct(0, 1, CANARY);
    let mut object = dicom_object::from_reader(file.as_slice()).expect("a DICOM file");
    for (tag, vr) in [
        (tags::WINDOW_CENTER, VR::DS),
        (tags::SLICE_THICKNESS, VR::LO),
        (tags::PIXEL_SPACING, VR::UN),
        (tags::MODALITY, VR::CS),
    ] {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(CANARY)));
    }
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).expect("written");

    let taken = lvmed::imaging::take_in(&bytes, &limits).expect("still a picture");

    let holds = taken.stored.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    assert!(!holds, "the stored file holds what was hidden in it");
    assert_eq!(taken.frames[0].modality, None);
}

/// The number of files under `folder`, and which of them hold a token.
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
                let text = String::from_utf8_lossy(&bytes);
                let holds = told(&text).or_else(|| told(&entry.file_name().to_string_lossy()));
                found.extend(holds.map(|token| format!("{}: {token}", entry.path().display())));
            }
        }
    }
    (files, found)
}
