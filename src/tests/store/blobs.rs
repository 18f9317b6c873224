//! Blobs: stored under their digest and held to it, in a folder or in another object store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use lvmed::domain::Sha256;
use lvmed::store::blobs::State;
use lvmed::store::{Blobs, StoreError};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

/// Several chunks and a rest.
const LARGE_BYTES: usize = (5 << 20) + 17;

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_reads_back_whole_and_in_chunks_from_every_kind_of_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("upload");
    std::fs::write(&file, large()).expect("written");
    let local = Blobs::local(&folder.path().join("blobs")).expect("a blob folder");
    for blobs in [local, Blobs::remote(Arc::new(InMemory::new()))] {
        let blob = blobs.put_file(&file).await.expect("stored");
        let small = blobs.put_bytes(Bytes::from_static(b"small")).await.expect("stored");
        let empty = blobs.put_bytes(Bytes::new()).await.expect("stored");

        assert_eq!((blob.sha256, blob.size_bytes), (Sha256::of(&large()), LARGE_BYTES as u64));
        assert_eq!(blobs.bytes(&blob.sha256).await.expect("read"), large());
        assert_eq!(blobs.bytes(&small.sha256).await.expect("read"), "small");
        assert_eq!(blobs.bytes(&empty.sha256).await.expect("read"), "");
        let stream = blobs.stream(&blob.sha256).await.expect("streams");
        let chunks: Vec<Bytes> = stream.try_collect().await.expect("read");
        assert_eq!(chunks.concat(), large());
        let copies = folder.path().join("copies");
        for _ in 0..2 {
            let path = blobs.materialise(&blob.sha256, &copies).await.expect("a path");
            assert_eq!(std::fs::read(path).expect("read"), large());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_stored_once_and_what_is_gone_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::local(folder.path()).expect("a blob folder");
    let file = folder.path().join("upload");
    std::fs::write(&file, b"content").expect("written");

    let puts = (0..8).map(|_| blobs.put_bytes(Bytes::from_static(b"content")));
    for put in futures_util::future::join_all(puts).await {
        assert_eq!(put.expect("stored").sha256, Sha256::of(b"content"));
    }
    let blob = blobs.put_file(&file).await.expect("stored already");

    let place = folder.path().join(format!("blobs/{}", &blob.sha256.to_string()[..2]));
    let names: Vec<String> = std::fs::read_dir(&place)
        .expect("the folder of the digest")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, [blob.sha256.to_string()]);
    blobs.delete(&blob.sha256).await.expect("deleted");
    blobs.delete(&blob.sha256).await.expect("deleting twice is no error");
    assert!(!blobs.exists(&blob.sha256).await.expect("answered"));
    let missing =
        |error: StoreError| matches!(error, StoreError::MissingBlob(found) if found == blob.sha256);
    assert!(blobs.bytes(&blob.sha256).await.is_err_and(missing));
    assert!(blobs.stream(&blob.sha256).await.is_err_and(missing));
    assert!(blobs.materialise(&blob.sha256, folder.path()).await.is_err_and(missing));
}

/// Another store that a test can reach into, and the folder of a local one.
struct Places {
    folder: tempfile::TempDir,
    memory: Arc<InMemory>,
}

impl Places {
    /// Puts `content` in the place of a blob, in whichever store has it.
    async fn damage(&self, blob: &Sha256, content: &'static [u8]) {
        let name = blob.to_string();
        let key = format!("blobs/{}/{name}", &name[..2]);
        let file = self.folder.path().join("blobs").join(&key);
        if file.exists() {
            std::fs::write(file, content).expect("written");
        }
        let put = Bytes::from_static(content).into();
        self.memory.put(&key.into(), put).await.expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_never_given_out_and_heals_when_the_same_content_is_stored_again() {
    let places = Places { folder: tempfile::tempdir().expect("a folder"), memory: Arc::default() };
    let folder = places.folder.path();
    let file = folder.join("upload");
    std::fs::write(&file, b"content").expect("written");
    let local = Blobs::local(&folder.join("blobs")).expect("a blob folder");
    for blobs in [local, Blobs::remote(places.memory.clone())] {
        let copies = tempfile::tempdir().expect("a temporary folder");
        let name = blobs.put_file(&file).await.expect("stored").sha256;
        // Read once, it may be known to be whole.
        blobs.bytes(&name).await.expect("read");
        for damage in [b"contenT".as_slice(), b"conten", b""] {
            places.damage(&name, damage).await;

            assert_eq!(blobs.state(&name).await.expect("answered"), State::Damaged);
            let damaged = |error: StoreError| matches!(error, StoreError::DamagedBlob(found) if found == name);
            assert!(blobs.bytes(&name).await.is_err_and(damaged));
            assert!(blobs.stream(&name).await.is_err_and(damaged));
            assert!(blobs.materialise(&name, copies.path()).await.is_err_and(damaged));
            assert!(std::fs::read_dir(copies.path()).expect("read").next().is_none());

            let again = if damage.is_empty() {
                blobs.put_file(&file).await
            } else {
                blobs.put_bytes(Bytes::from_static(b"content")).await
            };
            assert_eq!(again.expect("stored").sha256, name);
            assert_eq!(blobs.bytes(&name).await.expect("whole again"), "content");
        }
        let path = blobs.materialise(&name, copies.path()).await.expect("a path");
        assert_eq!(std::fs::read(&path).expect("read"), b"content");
        if path.starts_with(copies.path()) {
            std::fs::write(&path, b"contenT").expect("the copy is damaged");
            let path = blobs.materialise(&name, copies.path()).await.expect("copied again");
            assert_eq!(std::fs::read(path).expect("read"), b"content");
        }
    }
}
