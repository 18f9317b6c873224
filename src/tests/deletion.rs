//! What is deleted is gone from the disk too, and nothing else is.

use std::path::Path;

use reqwest::{Method, StatusCode};

use crate::pictures::{png, zip};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn deleting_removes_the_stored_files_that_nothing_else_holds() {
    let server = Server::start();
    let entry = |number: u32| (format!("left/{number}.png"), png(0, number, 64));
    let first = server.dataset("first", zip(&[entry(1), entry(2), entry(3)])).await;
    let second = server.dataset("second", zip(&[entry(3), entry(4)])).await;
    let blobs = server.data().join("blobs");
    assert_eq!(files(&blobs), 4, "equal files are stored once");

    delete(&server, &format!("/api/v1/datasets/{first}")).await;
    assert_eq!(files(&blobs), 2, "the other dataset keeps what it holds");

    let images = server.get(&format!("/api/v1/datasets/{second}/images")).await;
    for image in images["items"].as_array().expect("images") {
        let id = image["id"].as_str().expect("an id");
        let preview = server.request(Method::GET, &format!("/api/v1/images/{id}/preview"));
        server.expect(preview, StatusCode::OK).await;
    }
    let one = images["items"][0]["id"].as_str().expect("an id");
    delete(&server, &format!("/api/v1/images/{one}")).await;
    assert_eq!(files(&blobs), 1);
    delete(&server, &format!("/api/v1/datasets/{second}")).await;
    assert_eq!(files(&blobs), 0);
}

async fn delete(server: &Server, path: &str) {
    server.expect(server.request(Method::DELETE, path), StatusCode::NO_CONTENT).await;
}

/// Files under a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}
