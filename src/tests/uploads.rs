//! Uploads while they go on: how far they are, told to who sends them.

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::access::key;
use crate::app::App;
use crate::pictures::two_classes;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_tells_its_sender_how_far_it_is_and_nobody_else() {
    let server = App::start().await;
    let dataset = server.empty_dataset("sides").await;
    let (_, mine) = key(&server, "admin", None).await;
    let (_, theirs) = key(&server, "admin", Some(&mine)).await;
    let id = "7d9f4c1e-2f0b-4a76-9d43-6f1f0f5f3a11";
    let state = async |key: &str| -> Value {
        let request = server.request(Method::GET, &format!("/api/v1/uploads/{id}"));
        let answer = request.bearer_auth(key).send().await.expect("the server answers");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.expect("JSON")
    };
    let unknown = json!({"stage": "unknown", "files_read": 0, "files_total": 0});
    let archive = two_classes(3, 16);
    let (first, rest) = archive.split_at(archive.len() / 2);
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (bytes, receiver))
    });
    let path = format!("/api/v1/datasets/{dataset}/uploads?file=a.zip&progress={id}");
    let upload = server.request(Method::POST, &path).bearer_auth(&mine);
    let upload = upload.body(reqwest::Body::wrap_stream(body.map(Ok::<_, std::io::Error>)));

    let before = state(&mine).await;
    let sent = tokio::spawn(upload.send());
    sender.send(first.to_vec()).await.expect("it is being sent");
    let receiving = loop {
        match state(&mine).await {
            state if state == unknown => {}
            state => break state,
        }
    };
    let of_another = state(&theirs).await;
    sender.send(rest.to_vec()).await.expect("it is being sent");
    drop(sender);
    let report = sent.await.expect("no panic").expect("the server answers");
    let after = state(&mine).await;

    assert_eq!(before, unknown);
    assert_eq!(receiving, json!({"stage": "receiving", "files_read": 0, "files_total": 0}));
    assert_eq!(of_another, unknown);
    assert_eq!(report.status(), StatusCode::OK);
    assert_eq!(after, unknown);
}
