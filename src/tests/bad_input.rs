//! Bad input: each gets an answer that names what is wrong, and the rest is kept.

use std::io::{Cursor, Write};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::app::App;
use crate::dicoms::ct;
use crate::pictures::{png, two_classes, zip};

const INVALID: (StatusCode, &str) = (StatusCode::UNPROCESSABLE_ENTITY, "invalid");
const NOT_FOUND: (StatusCode, &str) = (StatusCode::NOT_FOUND, "not_found");
const BAD_REQUEST: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "bad_request");
const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "too_large");
const BUSY: (StatusCode, &str) = (StatusCode::TOO_MANY_REQUESTS, "busy");
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// Two pictures that nothing is wrong with.
fn good() -> Vec<(String, Vec<u8>)> {
    vec![("left/1.png".to_owned(), png(0, 1, 32)), ("right/2.png".to_owned(), png(1, 2, 32))]
}

/// The good pictures and one more entry.
fn with(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    zip(&[good(), vec![(name.to_owned(), bytes)]].concat())
}

/// The good pictures under a table of labels.
fn labelled(table: &str) -> Vec<u8> {
    with("labels.csv", table.as_bytes().to_vec())
}

fn with_link() -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (name, bytes) in good() {
        archive.start_file(name, options).expect("an entry starts");
        archive.write_all(&bytes).expect("an entry is written");
    }
    archive.add_symlink("left/link.png", "/etc/passwd", options).expect("a link is added");
    archive.finish().expect("an archive ends").into_inner()
}

/// Sets the flag of encryption (APPNOTE 4.4.4, bit 0) in both headers of `left/secret.png`.
fn with_encrypted() -> Vec<u8> {
    let name = b"left/secret.png";
    let mut bytes = with("left/secret.png", png(0, 3, 32));
    let found: Vec<usize> = bytes
        .windows(name.len())
        .enumerate()
        .filter_map(|(at, window)| (window == name).then_some(at))
        .collect();
    // The name lies at 30 of the local header and at 46 of the central one, the flags at 6 and 8.
    let flags = [found[0] - 30 + 6, found[1] - 46 + 8];
    flags.into_iter().for_each(|at| bytes[at] |= 1);
    bytes
}

/// Renames an entry where the archive's writer would not: the names are equally long.
fn renamed(name: &str, to: &str) -> Vec<u8> {
    assert_eq!(name.len(), to.len());
    let mut bytes = with(name, png(0, 3, 32));
    let at = |bytes: &[u8]| bytes.windows(name.len()).position(|w| w == name.as_bytes());
    while let Some(at) = at(&bytes) {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// A file that begins as a PNG and goes on as so many zeros.
fn zeros_as_png(bytes: usize) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.resize(bytes, 0);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_named_and_the_rest_of_its_archive_is_kept() {
    let server = App::start().await;
    let cut = ct(0, 1, "NOBODY");
    let cut = cut[..cut.len() - 3000].to_vec();
    let picture = png(0, 3, 32);
    let inner = zip(&good());
    let named = "file,label\n1.png,left\n2.png,right\nabsent.png,left\n";
    let cases = [
        ("../x.png", renamed("aa/x.png", "../x.png"), "outside of the archive"),
        ("/etc/x.png", renamed("aetc/x.png", "/etc/x.png"), "outside of the archive"),
        ("C:\\x.png", renamed("aaax.png", "C:\\x.png"), "outside of the archive"),
        ("left/link.png", with_link(), "symbolic link"),
        ("left/secret.png", with_encrypted(), "encrypted"),
        ("left/inner.zip", with("left/inner.zip", inner), "archive inside the archive"),
        (
            "left/bomb.png",
            with("left/bomb.png", zeros_as_png(32 << 20)),
            "LVMED_LIMIT_ARCHIVE_RATIO",
        ),
        ("left/cut.dcm", with("left/cut.dcm", cut), "damaged DICOM"),
        (
            "left/text.dcm",
            with("left/text.dcm", b"not a picture".to_vec()),
            "is not a PNG, JPEG or DICOM file",
        ),
        ("left/empty.png", with("left/empty.png", Vec::new()), "is empty"),
        ("left/cut.png", with("left/cut.png", picture[..60].to_vec()), "cut short"),
        ("absent.png", labelled(named), "row 4 names this file, which is not in the archive"),
    ];

    for (file, archive, reason) in cases {
        let dataset = server.empty_dataset(file).await;
        let report = server.expect(server.upload(&dataset, "a.zip", archive), StatusCode::OK).await;

        assert_eq!(report["images"], 2, "{file}: {report:#}");
        assert_eq!(report["rejected"].as_array().map(Vec::len), Some(1), "{file}: {report:#}");
        let rejected = &report["rejected"][0];
        assert_eq!(rejected["file"], file, "{report:#}");
        assert!(rejected["reason"].as_str().is_some_and(|r| r.contains(reason)), "{report:#}");
        let listed = server.get(&format!("/api/v1/datasets/{dataset}/rejected")).await;
        assert_eq!(listed["items"][0]["entry"], rejected["entry"], "{listed:#}");
        assert_eq!(listed["items"][0]["reason"], rejected["reason"], "{listed:#}");
        let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
        assert_eq!(found["images"], 2, "{found:#}");
    }

    let dataset = server.empty_dataset("single files").await;
    for (file, bytes) in [("a.dcm", b"text".to_vec()), ("b.png", picture[..60].to_vec())] {
        let report = server.expect(server.upload(&dataset, file, bytes), StatusCode::OK).await;
        assert_eq!(report["rejected"][0]["file"], file, "{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_formats_are_named_with_what_to_do() {
    let server = App::start().await;
    let dataset = server.empty_dataset("formats").await;
    let nifti = [b"\x5C\x01\0\0".to_vec(), vec![0; 400]].concat();
    let cases: [(&str, &[u8], &str); 9] = [
        ("left/a.tif", b"II*\0\x08\0\0\0", "is a TIFF picture"),
        ("left/b.bmp", b"BM6\x08\0\0\0\0\0\0\x36\0", "is a BMP picture"),
        ("left/c.gif", b"GIF87a \0", "is a GIF picture"),
        ("left/d.webp", b"RIFF\x16\x03\0\0WEBPVP8 ", "is a WebP picture"),
        ("left/e.nii", &nifti, "is a NIfTI volume"),
        ("left/f.nii.gz", b"\x1F\x8B\x08\0", "packed NIfTI volume"),
        ("left/g.nrrd", b"NRRD0004\n", "is an NRRD volume"),
        ("left/h.jpg", b"\xFF\xD8\xFF\xF7\0\x0B\x08", "is a JPEG-LS picture"),
        ("left/i.mp4", b"\0\0\0\x18ftypmp42", "is a video"),
    ];
    let entries = cases.map(|(name, bytes, _)| (name.to_owned(), bytes.to_vec()));
    let archive = zip(&[good(), entries.to_vec()].concat());

    let report = server.expect(server.upload(&dataset, "a.zip", archive), StatusCode::OK).await;
    let lone = server.upload(&dataset, "a.7z", b"7z\xBC\xAF\x27\x1C".to_vec());
    let lone = server.expect(lone, StatusCode::OK).await;
    let cut = server.upload(&dataset, "a.ZIP", b"what was in the middle of it".to_vec());
    server.refused(cut, INVALID, &["the ZIP archive cannot be read", "cut short"]).await;

    assert_eq!(report["images"], 2, "{report:#}");
    let rejected = report["rejected"].as_array().expect("a list");
    for (file, _, told) in cases {
        let found = rejected.iter().find(|rejected| rejected["file"] == file);
        let reason = found.and_then(|found| found["reason"].as_str()).unwrap_or_default();
        assert!(reason.contains(told), "{file}: {reason}");
        let advises = ["save", "convert"].iter().any(|advice| reason.contains(advice));
        assert!(advises && !reason.contains("byte"), "{file}: {reason}");
    }
    let reason = lone["rejected"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("is a 7z archive") && reason.contains("unpack it"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_used_is_refused_in_words_and_nothing_is_kept() {
    let server = App::start_with(&[
        ("LVMED_LIMIT_ARCHIVE_ENTRIES", "40"),
        ("LVMED_LIMIT_LABEL_ROWS", "10"),
        ("LVMED_LIMIT_UPLOAD_BYTES", "200000"),
        ("LVMED_LIMIT_JSON_BYTES", "1000"),
    ])
    .await;
    let dataset = server.empty_dataset("refused").await;
    let whole = zip(&good());
    let rows = (0..20).fold("file,label\n".to_owned(), |rows, n| rows + &format!("{n}.png,a\n"));
    let cases: [(Vec<u8>, &[&str]); 12] = [
        (Vec::new(), &["the upload is empty"]),
        (zip(&[]), &["holds no files"]),
        (zip(&[("README.txt".to_owned(), b"only this".to_vec())]), &["holds no files"]),
        (whole[..whole.len() / 2].to_vec(), &["the ZIP archive cannot be read"]),
        (b"PK\x03\x04 and so on".to_vec(), &["the ZIP archive cannot be read"]),
        (two_classes(21, 8), &["42 entries", "40", "LVMED_LIMIT_ARCHIVE_ENTRIES"]),
        (labelled("name,class\n1.png,left\n"), &["`file`", "is missing"]),
        (labelled("file,label,patiant\n1.png,left,p\n"), &["`patiant`", "not known"]),
        (labelled("file,label,label\n1.png,a,b\n"), &["`label`", "twice"]),
        (
            labelled("file,label,split\n1.png,left,train\n2.png,right,held out\n"),
            &["row 3", "\"held out\" is not a known split"],
        ),
        (
            labelled("file,label\n1.png,left\n1.png,right\n,left\n2.png\n"),
            &["row 3: the same file", "row 4: `file` is empty", "row 5: wrong number of columns"],
        ),
        (labelled(&rows), &["more than 10 rows", "LVMED_LIMIT_LABEL_ROWS"]),
    ];

    for (archive, told) in cases {
        server.refused(server.upload(&dataset, "a.zip", archive), INVALID, told).await;
    }
    let limit = ["195.3 KiB", "LVMED_LIMIT_UPLOAD_BYTES"];
    let large = server.upload(&dataset, "large.zip", vec![0; 200_001]);
    server.refused(large, TOO_LARGE, &limit).await;
    let parts = futures_util::stream::iter((0..30).map(|_| Ok::<_, std::io::Error>(vec![0; 9000])));
    let chunked = server.upload(&dataset, "large.zip", Vec::new());
    let chunked = chunked.body(reqwest::Body::wrap_stream(parts));
    server.refused(chunked, TOO_LARGE, &limit).await;
    let long = json!({"name": "x".repeat(2000)});
    let long = server.request(Method::POST, "/api/v1/datasets").json(&long);
    server.refused(long, TOO_LARGE, &["1000", "LVMED_LIMIT_JSON_BYTES"]).await;

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 0, "{found:#}");
    let report = server.expect(server.upload(&dataset, "a.zip", whole), StatusCode::OK).await;
    assert_eq!(report["images"], 2, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_before_an_archive_grew_too_large_is_told() {
    let server = App::start_with(&[("LVMED_LIMIT_ARCHIVE_BYTES", "100000")]).await;
    let dataset = server.empty_dataset("large").await;
    let noise = (0_u32..200_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    let noisy: Vec<u8> = zeros_as_png(8).into_iter().chain(noise).collect();

    let request = server.upload(&dataset, "a.zip", with("left/z.png", noisy));
    let told = ["97.7 KiB", "LVMED_LIMIT_ARCHIVE_BYTES", "2 images of this upload were kept"];
    server.refused(request, INVALID, &told).await;

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 2, "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_allows_no_honest_split_is_not_frozen() {
    let server = App::start().await;
    let freeze = |dataset: &str| {
        let path = format!("/api/v1/datasets/{dataset}/versions");
        server.request(Method::POST, &path).json(&json!({}))
    };

    let leaking = "file,label,patient,split\n1.png,left,MRN4711,train\n2.png,right,MRN4711,test\n";
    let leak = server.dataset("leak", labelled(leaking)).await;
    let told = ["more than one split", "image 1.png in train", "image 2.png in test"];
    let problem = server.refused(freeze(&leak), INVALID, &told).await;
    assert!(!problem.to_string().contains("4711"), "{problem:#}");

    let entries: Vec<(String, Vec<u8>)> =
        (0..6).map(|n| (format!("left/{n}.png"), png(0, n, 32))).collect();
    let one_class = server.dataset("one class", zip(&entries)).await;
    server.refused(freeze(&one_class), INVALID, &["one class", "two classes"]).await;

    let one = "file,label,patient\n1.png,left,p\n2.png,right,p\n";
    let one_patient = server.dataset("one patient", labelled(one)).await;
    server.refused(freeze(&one_patient), INVALID, &["one patient", "two patients"]).await;

    let held = "file,label,patient,split\n1.png,left,p,train\n2.png,right,q,test\n";
    let untrained = server.dataset("untrained", labelled(held)).await;
    server.refused(freeze(&untrained), INVALID, &["\"right\"", "no training image"]).await;

    let unlabelled =
        server.dataset("unlabelled", zip(&[("1.png".to_owned(), png(0, 1, 32))])).await;
    server.refused(freeze(&unlabelled), INVALID, &["no image has a label"]).await;

    let path = format!("/api/v1/datasets/{leak}/versions");
    let shares = server.request(Method::POST, &path).json(&json!({"validation": 0.6, "test": 0.5}));
    let problem = server.refused(shares, INVALID, &["0.6", "0.5"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/validation", "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_only_fail_is_refused_and_full_queues_say_when_to_come_back() {
    let server =
        App::start_with(&[("LVMED_LIMIT_QUEUED_RUNS", "1"), ("LVMED_LIMIT_PREDICT_QUEUE", "0")])
            .await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(12, 32)).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let with = |at: &str, value: Value| {
        let mut spec = spec.clone();
        spec[at] = value;
        server.request(Method::POST, "/api/v1/runs").json(&spec)
    };

    let told = ["\"left\"", "\"right\"", "500 shots"];
    let problem = server.refused(with("shots", json!(500)), INVALID, &told).await;
    assert_eq!(problem["errors"][0]["pointer"], "/shots", "{problem:#}");
    let problem = server.refused(with("shots", json!(0)), INVALID, &["shots"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/shots", "{problem:#}");
    let problem = server.refused(with("backbone", json!(NOBODY)), INVALID, &[NOBODY]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/backbone", "{problem:#}");
    server.refused(with("dataset_version", json!(NOBODY)), INVALID, &[NOBODY]).await;
    server.refused(with("method", json!("guess")), INVALID, &["guess", "probe"]).await;
    server.refused(with("kind", json!("train")), INVALID, &["train", "finetune"]).await;
    server.refused(with("epochs", json!(3)), INVALID, &["epochs"]).await;
    server.refused(with("full", json!({"epochs": 0})), INVALID, &["epochs"]).await;

    server.queue(&spec).await;
    let told = ["LVMED_LIMIT_QUEUED_RUNS"];
    server.refused(with("seed", json!(2)), BUSY, &told).await;
    let path = format!("/api/v1/backbones/{}/embed", backbone["id"].as_str().expect("an id"));
    let embed = server.request(Method::POST, &path).body(png(0, 1, 32));
    server.refused(embed, BUSY, &["LVMED_LIMIT_PREDICT_QUEUE"]).await;
    let used = format!("/api/v1/backbones/{}", backbone["id"].as_str().expect("an id"));
    let conflict = (StatusCode::CONFLICT, "conflict");
    server.refused(server.request(Method::DELETE, &used), conflict, &["run"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_problems() {
    let server = App::start().await;
    let post = |path: &str| server.request(Method::POST, path);
    let json_body = |path: &str, text: &'static str| {
        post(path).header("content-type", "application/json").body(text)
    };

    for id in [NOBODY, "not-an-id", "%00", "%ff", "..%2f..%2fetc"] {
        for path in ["datasets", "runs", "models", "backbones", "versions", "images"] {
            let request = server.request(Method::GET, &format!("/api/v1/{path}/{id}"));
            server.refused(request, NOT_FOUND, &[]).await;
        }
    }
    let predict = format!("/api/v1/models/{NOBODY}/predict");
    server.refused(post(&predict).body(png(0, 1, 32)), NOT_FOUND, &[NOBODY]).await;
    let upload = server.upload(NOBODY, "a.zip", zip(&good()));
    server.refused(upload, NOT_FOUND, &[NOBODY]).await;
    server.refused(json_body("/api/v1/datasets", "{"), BAD_REQUEST, &["EOF"]).await;
    server.refused(json_body("/api/v1/datasets", ""), BAD_REQUEST, &[]).await;
    let unknown = json_body("/api/v1/datasets", "{\"name\": \"a\", \"colour\": 1}");
    server.refused(unknown, INVALID, &["colour"]).await;
    server.refused(json_body("/api/v1/datasets", "{\"name\": \" \"}"), INVALID, &["empty"]).await;
    server.refused(json_body("/api/v1/datasets", "{}"), INVALID, &["name"]).await;
    let kind = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    let plain = post("/api/v1/datasets").header("content-type", "text/plain").body("{}");
    server.refused(plain, kind, &["application/json"]).await;
    server.refused(post("/api/v1/backbones").body("x"), BAD_REQUEST, &["boundary"]).await;
    for (query, told) in [("limit=0", "limit"), ("limit=x", "limit"), ("colour=1", "colour")] {
        let request = server.request(Method::GET, &format!("/api/v1/runs?{query}"));
        server.refused(request, INVALID, &[told]).await;
    }
    let method = (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    for (wrong, path) in [
        (Method::PUT, "/api/v1/datasets"),
        (Method::PATCH, "/api/v1/runs"),
        (Method::POST, "/livez"),
    ] {
        server.refused(server.request(wrong, path), method, &["method"]).await;
    }
    for path in ["/api/v1/nothing", "/api/v2/datasets", "/nothing", "/static/nothing.js"] {
        server.refused(server.request(Method::GET, path), NOT_FOUND, &[]).await;
    }

    server.post("/api/v1/datasets", &json!({"name": "once"}), StatusCode::CREATED).await;
    let twice = post("/api/v1/datasets").json(&json!({"name": "once"}));
    server.refused(twice, (StatusCode::CONFLICT, "conflict"), &["once"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_on_something_else_than_a_picture_says_so() {
    let server = App::start_with_worker(&[("LVMED_LIMIT_PREDICT_BYTES", "100000")]).await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(12, 32)).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.succeed(&server.queue(&spec).await).await;
    let path = format!("/api/v1/models/{}/predict", run["model"].as_str().expect("a model"));
    let post = || server.request(Method::POST, &path);
    let cut = ct(0, 1, "NOBODY");

    server.refused(post().body("garbage"), INVALID, &["not a PNG, JPEG or DICOM file"]).await;
    server.refused(post(), INVALID, &["is empty"]).await;
    server.refused(post().body(png(0, 1, 32)[..50].to_vec()), INVALID, &["PNG"]).await;
    server.refused(post().body(cut[..700].to_vec()), INVALID, &["DICOM"]).await;
    server.refused(post().body(zip(&good())), INVALID, &["is a ZIP archive"]).await;
    server.refused(post().body(vec![0; 100_001]), TOO_LARGE, &["LVMED_LIMIT_PREDICT_BYTES"]).await;
    let part = |bytes: Vec<u8>| reqwest::multipart::Part::bytes(bytes).file_name("a");
    let form = reqwest::multipart::Form::new()
        .part("file", part(png(0, 1, 32)))
        .part("file", part(b"garbage".to_vec()));
    let problem = server.refused(post().multipart(form), INVALID, &["file 2"]).await;
    assert_eq!(problem["errors"][0]["pointer"], "/file/1", "{problem:#}");
    let form = reqwest::multipart::Form::new().part("picture", part(png(0, 1, 32)));
    server.refused(post().multipart(form), INVALID, &["`file`"]).await;

    server.expect(post().body(png(0, 1, 32)), StatusCode::OK).await;
}
