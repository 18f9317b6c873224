//! Deletion and the sweep: nothing that a row names is removed, and everything else is.

use std::fs::{File, FileTimes};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lvmed::domain::evaluation::Evaluation;
use lvmed::domain::receipt::{Capped, Refused};
use lvmed::domain::run::Outcome;
use lvmed::domain::{DatasetId, Sha256, Task};
use lvmed::store::queue::{Ending, end};
use lvmed::store::sweep::{Keep, Swept, sweep};
use lvmed::store::{
    Content, Store, StoreError, checkpoints, datasets, deletion, images, models, secret, versions,
};

use super::{Lab, image, name, version};
use crate::database::Scratch;

/// Everything counts as old.
const AT_ONCE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_hours(1);

/// Sweeps a store whose folder belongs to its database.
async fn swept(scratch: &Scratch, grace: Duration) -> Swept {
    let secret = scratch.folder.path().join("secret");
    secret::load(&scratch.store.pool, &secret).await.expect("the database is a server's");
    sweep(&scratch.store, &keep(scratch, grace)).await.expect("swept")
}

fn keep(scratch: &Scratch, grace: Duration) -> Keep {
    Keep { grace, checkpoints: AT_ONCE, owner: scratch.folder.path().join("database-id") }
}

async fn put(store: &Store, content: impl Into<Bytes>) -> Sha256 {
    store.blobs.put_bytes(content.into()).await.expect("stored").sha256
}

/// The place where a blob lies in the folder of a test.
fn place(scratch: &Scratch, content: &[u8]) -> PathBuf {
    let name = Sha256::of(content).to_string();
    scratch.folder.path().join("blobs/blobs").join(&name[..2]).join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_what_no_row_names_once_it_is_old() {
    let lab = Lab::new().await;
    let (store, scratch) = (&lab.scratch.store, &lab.scratch);
    let run = lab.running().await;
    for number in 0..4_u32 {
        put(store, number.to_le_bytes().to_vec()).await;
    }
    for content in ["weights", "onnx", "card.md", "model.onnx"] {
        put(store, content).await;
    }
    models::publish(lab.pool(), &run, &lab.publication("kept")).await.expect("published");
    let going_on = lab.running().await;
    for state in ["dropped", "before", "newest"] {
        checkpoints::put(store, &going_on, Bytes::from(state)).await.expect("kept");
    }
    put(store, "unnamed").await;
    let unfinished = place(scratch, b"unnamed");
    let unfinished = unfinished.with_file_name(format!("{}#1", Sha256::of(b"unnamed")));
    std::fs::write(&unfinished, b"unn").expect("a write that never ended");

    assert_eq!(swept(scratch, HOUR).await, Swept::default());
    assert!(scratch.holds(b"unnamed").await && unfinished.exists());
    assert_eq!(swept(scratch, AT_ONCE).await, Swept { blobs: 1, leftovers: 1 });

    assert!(!scratch.holds(b"unnamed").await && !unfinished.exists());
    for content in
        [&b"weights"[..], b"onnx", b"card.md", b"model.onnx", b"before", b"newest", &[2, 0, 0, 0]]
    {
        assert!(scratch.holds(content).await, "{content:?} is named and gone");
    }
    assert_eq!(swept(scratch, AT_ONCE).await, Swept::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_again_is_as_young_as_what_is_new() {
    let scratch = Scratch::new().await;
    let old = FileTimes::new().set_modified(SystemTime::now() - 2 * HOUR);
    for content in ["forgotten", "wanted again"] {
        put(&scratch.store, content).await;
        let file = File::options().write(true).open(place(&scratch, content.as_bytes()));
        file.and_then(|file| file.set_times(old)).expect("set back");
    }

    put(&scratch.store, "wanted again").await;

    // The folder is taken for this database's while it is empty of its files, or has been used.
    datasets::create(&scratch.store.pool, &name("used"), Task::default()).await.expect("created");
    assert_eq!(swept(&scratch, HOUR).await.blobs, 1);
    assert!(scratch.holds(b"wanted again").await && !scratch.holds(b"forgotten").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_another_database_are_not_swept() {
    let (mine, other) = (Scratch::new().await, Scratch::new().await);
    let stranger = Store { pool: other.store.pool.clone(), blobs: mine.store.blobs.clone() };
    let secret = mine.folder.path().join("secret");
    for pool in [&mine.store.pool, &other.store.pool] {
        secret::load(pool, &secret).await.expect("the same secret fits a new database");
    }
    put(&mine.store, "precious").await;

    // Neither before the folder was ever swept, nor after.
    let refused = sweep(&stranger, &keep(&mine, AT_ONCE)).await.expect_err("it named nothing");
    assert!(refused.to_string().contains("DATABASE_URL"), "{refused}");
    datasets::create(&mine.store.pool, &name("used"), Task::default()).await.expect("created");
    sweep(&mine.store, &keep(&mine, HOUR)).await.expect("swept");
    datasets::create(&other.store.pool, &name("used"), Task::default()).await.expect("created");
    let refused = sweep(&stranger, &keep(&mine, AT_ONCE)).await.expect_err("another database");

    assert!(refused.to_string().contains("another database"), "{refused}");
    assert!(mine.holds(b"precious").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_that_comes_back_while_its_last_dataset_is_deleted_stays() {
    let scratch = Scratch::new().await;
    let store = &scratch.store;
    let kept =
        datasets::create(&store.pool, &name("kept"), Task::default()).await.expect("created").id;
    for number in 0..24_u32 {
        let dataset = datasets::create(&store.pool, &name("first"), Task::default())
            .await
            .expect("created")
            .id;
        let keep = async |dataset: DatasetId| {
            let content = Content::Bytes(Bytes::copy_from_slice(&number.to_le_bytes()));
            images::keep(store, &content, &[image(dataset, number, None)], "original").await
        };
        keep(dataset).await.expect("kept");

        let (deleted, held) = tokio::join!(deletion::dataset(store, dataset), keep(kept));

        assert!(deleted.expect("deleted"));
        assert_eq!(held.expect("kept").images, 1);
        assert!(scratch.holds(&number.to_le_bytes()).await, "number {number} is named and gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_a_dataset_that_was_deleted() {
    let lab = Lab::new().await;
    let (store, pool) = (&lab.scratch.store, lab.pool());
    assert!(deletion::dataset(store, lab.dataset).await.expect("deleted"));
    let mut rejected = Capped::new(1);
    rejected.push(Refused::new("a", 1, "b"));
    let content = Content::Bytes(Bytes::copy_from_slice(&9_u32.to_le_bytes()));
    let late = image(lab.dataset, 9, None);

    let failures = [
        images::keep(store, &content, &[late], "original").await.map(|_| ()),
        datasets::reject(pool, lab.dataset, "upload", &rejected).await,
        datasets::begin_upload(pool, lab.dataset, "upload").await.map(|_| ()),
        versions::freeze(pool, &version(lab.dataset), &lab.images).await.map(|_| ()),
    ];

    for failure in failures {
        assert!(matches!(failure, Err(StoreError::Gone(_))), "{failure:?}");
    }
    assert!(!lab.scratch.holds(&9_u32.to_le_bytes()).await);
    assert_eq!(rows(&lab, "images").await + rows(&lab, "rejected_files").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_dataset_leaves_only_the_versions_that_runs_learnt_from() {
    let lab = Lab::new().await;
    let (store, pool) = (&lab.scratch.store, lab.pool());
    let unused = version(lab.dataset);
    versions::freeze(pool, &unused, &lab.images).await.expect("frozen");
    let run = lab.running().await;
    models::publish(pool, &run, &lab.publication("kept")).await.expect("published");
    let failed = lab.running().await;
    checkpoints::put(store, &failed, Bytes::from("state")).await.expect("kept");
    end(pool, &failed, &Ending::Failed("no".to_owned())).await.expect("ended");

    assert!(deletion::dataset(store, lab.dataset).await.expect("deleted"));

    for table in ["images", "version_images", "predictions", "rejected_files", "checkpoints"] {
        assert_eq!(rows(&lab, table).await, 0, "rows of {table}");
    }
    assert!(!lab.scratch.holds(b"state").await, "nothing can go on from it");
    assert!(versions::one(pool, unused.id).await.expect("answered").is_none());
    let kept = versions::one(pool, lab.version).await.expect("answered").expect("on record");
    assert_eq!((kept.digest, kept.labels.len()), (Sha256::of(b"version"), 2));
    let Some(Outcome::Finetune { evaluation, .. }) = lab.run(&run).await.outcome else {
        panic!("what it found stays")
    };
    let Evaluation::Classification(evaluation) = *evaluation;
    assert_eq!(evaluation.images, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_two_runs_came_to_outlives_the_first_of_them() {
    let lab = Lab::new().await;
    let store = &lab.scratch.store;
    let (first, second) = (lab.running().await, lab.running().await);
    for run in [&first, &second] {
        checkpoints::put(store, run, Bytes::from("same")).await.expect("kept");
    }

    checkpoints::delete(store, first.id).await.expect("forgotten");

    let found = checkpoints::get(store, second.id).await.expect("answered");
    assert_eq!(found.bytes, Some(Bytes::from("same")));
    checkpoints::delete(store, second.id).await.expect("forgotten");
    assert!(!lab.scratch.holds(b"same").await);
}

async fn rows(lab: &Lab, table: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(query).fetch_one(lab.pool()).await.expect("counted")
}
