//! A disk that is full or fills up: told at once, and what was kept stays.

use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};

use crate::app::App;
use crate::pictures::two_classes;
use crate::skipped::Need;

const FULL: (StatusCode, &str) = (StatusCode::INSUFFICIENT_STORAGE, "storage_full");

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_would_eat_into_the_reserve_is_refused() {
    let server = App::start_with(&[("LVMED_LIMIT_FREE_BYTES", "1000000000000000000")]).await;
    let dataset = server.empty_dataset("full").await;

    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    let ready = server.request(Method::GET, "/readyz");
    server.refused(ready, unavailable, &["free;", "LVMED_LIMIT_FREE_BYTES"]).await;
    let upload = server.upload(&dataset, "a.zip", two_classes(2, 32));
    server.refused(upload, FULL, &["free; ", "LVMED_LIMIT_FREE_BYTES"]).await;
    let import = server.import("full", 64, b"weights".to_vec());
    server.refused(import, FULL, &["LVMED_LIMIT_FREE_BYTES"]).await;

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 0);
}

/// A file system of a few kilobytes over a folder of the server; dropped, it is gone.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn over(folder: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder)
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(folder)),
            Ok(done) => skip(&String::from_utf8_lossy(&done.stderr)),
            Err(error) => skip(&error.to_string()),
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

fn skip<T>(reason: &str) -> Option<T> {
    let reason = format!("a small file system cannot be mounted here: {reason}");
    crate::skipped::skip(Need::Mount, &reason);
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_and_what_was_kept_stays() {
    let server = App::start_with(&[("LVMED_LIMIT_FREE_BYTES", "0")]).await;
    let dataset = server.empty_dataset("full").await;
    let archive = two_classes(60, 64);
    let (scratch, blobs) = (server.data().join("scratch/server"), server.data().join("blobs"));

    let Some(small) = Small::over(&scratch, "64k") else { return };
    let parts = archive.chunks(4096).map(|part| Ok::<_, std::io::Error>(part.to_vec()));
    let parts: Vec<_> = parts.collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(parts));
    let spooled = server.upload(&dataset, "a.zip", Vec::new()).body(body);
    server.refused(spooled, FULL, &["disk", "full"]).await;
    drop(small);
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 0, "{found:#}");

    let Some(small) = Small::over(&blobs, "256k") else { return };
    let stored = server.upload(&dataset, "a.zip", archive.clone());
    server.refused(stored, FULL, &["disk", "full", "images of this upload were kept"]).await;
    drop(small);
    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    let kept = found["images"].as_u64().expect("a number");
    assert!((1..120).contains(&kept), "{found:#}");

    let other = server.empty_dataset("after").await;
    let report = server.expect(server.upload(&other, "a.zip", archive), StatusCode::OK).await;
    assert_eq!(report["images"], 120, "{report:#}");
}
