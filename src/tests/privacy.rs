//! A canary in every identifying element: after the whole job it is nowhere to be found.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::dicoms::ct;
use crate::pictures::{png, zip};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_named_by_a_table_or_by_the_caller_is_masked_in_every_file_name() {
    let mut server = Server::start();
    let patient = |number: u32| format!("{CANARY}{number:03}");
    let name = |number: u32| format!("scan_{}.png", patient(number));
    let row = |number: u32| format!("{},left,{}\n", name(number), patient(number));
    let table = "file,label,patient\n".to_owned() + &(0..5).map(row).collect::<String>();
    let entries = [
        ("labels.csv".to_owned(), table.into_bytes()),
        (name(0), png(0, 0, 64)),
        // Does not decode, is an archive in the archive, and leads outside; number 4 is not there.
        (name(1), b"no picture".to_vec()),
        (name(2), zip(&[("inner".to_owned(), b"inner".to_vec())])),
        (format!("../{}", name(3)), png(0, 3, 64)),
    ];
    let dataset = server.dataset("named", zip(&entries)).await;
    let path = format!("/api/v1/datasets/{dataset}/uploads?file=a-{0}.png&patient={0}", patient(9));
    let request = server.request(Method::POST, &path).body(png(1, 9, 64));
    let report = server.expect(request, StatusCode::OK).await;

    let images = server.get(&format!("/api/v1/datasets/{dataset}/images")).await;
    let rejected = server.get(&format!("/api/v1/datasets/{dataset}/rejected")).await;

    assert_eq!(images["items"].as_array().map(Vec::len), Some(2), "{images:#}");
    assert_eq!(rejected["items"].as_array().map(Vec::len), Some(4), "{rejected:#}");
    assert!(server.stop(), "{}", server.log());
    for text in [report.to_string(), images.to_string(), rejected.to_string(), server.log()] {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert_eq!(search(&server.data()).1, Vec::<String>::new());
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
