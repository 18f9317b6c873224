//! Frozen versions: numbered one after the other, unchanged by what happens to the dataset.

use std::collections::BTreeSet;

use lvmed::domain::{Split, VersionId};
use lvmed::store::{deletion, versions};

use super::{Lab, version};

#[tokio::test(flavor = "multi_thread")]
async fn versions_frozen_together_get_one_number_each() {
    let lab = Lab::new().await;
    let pool = lab.pool();

    let freezing = (0..6).map(|_| async {
        let version = version(lab.dataset);
        versions::freeze(pool, &version, &lab.images).await.expect("frozen").number
    });
    let numbers: BTreeSet<u32> =
        futures_util::future::join_all(freezing).await.into_iter().collect();

    assert_eq!(numbers, (2..=7).collect());
    let listed = versions::list(pool, lab.dataset).await.expect("answered");
    assert!(listed.iter().map(|version| version.number).eq(1..=7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_keeps_what_it_froze() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let given = version(lab.dataset);

    let mut found = versions::one(pool, lab.version).await.expect("answered").expect("there");

    (found.id, found.created_at, found.number) = (given.id, given.created_at, 0);
    assert_eq!(found, given);
    for entry in &lab.images {
        assert!(deletion::image(&lab.scratch.store, entry.image.id).await.expect("answered"));
    }
    let images = versions::images(pool, lab.version, None).await.expect("answered");
    assert_eq!(images.len(), 4);
    assert!(images.is_sorted_by_key(|entry| entry.image.blob.to_string()), "not by content");
    let test = versions::images(pool, lab.version, Some(Split::Test)).await.expect("answered");
    let files: BTreeSet<u64> = test.iter().map(|entry| entry.image.number).collect();
    assert_eq!(files, [3, 4].into());
    assert!(test.iter().all(|entry| entry.split == Split::Test));
    let none = versions::images(pool, lab.version, Some(Split::Validation)).await;
    assert!(none.expect("answered").is_empty());
    assert!(versions::one(pool, VersionId::new()).await.expect("answered").is_none());
}
