//! The things that runs leave to go on from: features computed once, and the newest checkpoint.

use bytes::Bytes;
use lvmed::domain::Sha256;
use lvmed::store::checkpoints;
use lvmed::store::features::{self, Extractor};

use super::Lab;
use crate::database::Scratch;

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_vector_is_kept_bit_for_bit_and_only_for_its_extractor() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let extractor =
        Extractor { backbone: Sha256::of(b"weights"), preprocessing: Sha256::of(b"224") };
    let other = Extractor { preprocessing: Sha256::of(b"256"), ..extractor };
    let (first, second) = (Sha256::of(b"first"), Sha256::of(b"second"));
    let vector = [0.1, -0.0, f32::MIN_POSITIVE, f32::MAX];

    let put = async |extractor: &Extractor, vectors: &[((Sha256, u32), Vec<f32>)]| {
        features::put(pool, extractor, vectors).await.expect("kept");
    };
    put(&extractor, &[((first, 0), vector.to_vec()), ((first, 7), vec![2.0])]).await;
    // One is there already.
    put(&extractor, &[((first, 0), vec![9.0])]).await;
    put(&other, &[((second, 0), vec![3.0])]).await;
    put(&other, &[]).await;

    let found = features::get(pool, &extractor, &[first, second]).await.expect("answered");
    let bits = |vector: &[f32]| vector.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found[&(first, 0)]), bits(&vector));
    assert_eq!(found[&(first, 7)], [2.0]);
    assert_eq!(found.len(), 2);
    assert!(features::get(pool, &extractor, &[]).await.expect("answered").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_its_newest_checkpoint_and_the_one_before_until_it_has_finished() {
    let lab = Lab::new().await;
    let store = &lab.scratch.store;
    let run = lab.running().await;
    let put = async |text: &'static str| {
        checkpoints::put(store, &run, Bytes::from(text)).await.expect("kept")
    };
    let get = async || checkpoints::get(store, run.id).await.expect("answered").bytes;
    assert_eq!(get().await, None);

    assert!(put("first").await);
    assert_eq!(get().await, Some(Bytes::from("first")));
    assert!(put("second").await && put("second").await);
    assert_eq!(get().await, Some(Bytes::from("second")));
    assert!(lab.scratch.holds(b"first").await, "the one before is gone");
    assert!(put("third").await);
    assert!(!lab.scratch.holds(b"first").await, "the one before the last is still stored");

    checkpoints::delete(store, run.id).await.expect("forgotten");
    assert_eq!(get().await, None);
    assert!(!lab.scratch.holds(b"second").await && !lab.scratch.holds(b"third").await);
    checkpoints::delete(store, run.id).await.expect("forgetting twice is no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_found_by_its_hash_and_the_one_before_is_used() {
    let lab = Lab::new().await;
    let store = &lab.scratch.store;
    let run = lab.running().await;
    for text in ["first", "second"] {
        assert!(checkpoints::put(store, &run, Bytes::from(text)).await.expect("kept"));
    }
    let newest = Sha256::of(b"second");
    let name = newest.to_string();
    let file = lab.scratch.folder.path().join("blobs/blobs").join(&name[..2]).join(&name);
    std::fs::write(&file, b"sechnd").expect("one bit flips");

    let found = checkpoints::get(store, run.id).await.expect("answered");

    assert_eq!((found.bytes, found.damaged), (Some(Bytes::from("first")), vec![newest]));
    // The same state, reached and written again, is whole again.
    assert!(checkpoints::put(store, &run, Bytes::from("second")).await.expect("kept"));
    let found = checkpoints::get(store, run.id).await.expect("answered");
    assert_eq!((found.bytes, found.damaged), (Some(Bytes::from("second")), vec![]));
    for text in [b"first".as_slice(), b"second"] {
        store.blobs.delete(&Sha256::of(text)).await.expect("lost");
    }
    let found = checkpoints::get(store, run.id).await.expect("answered");
    assert_eq!((found.bytes, found.damaged.len()), (None, 2));
}
