//! What runs leave to go on from: features computed once, and the newest checkpoint.

use bytes::Bytes;
use lvmed::domain::Sha256;
use lvmed::store::features::{self, Extractor};
use lvmed::store::{StoreError, checkpoints};

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

    features::put(pool, &extractor, &first, 0, &vector).await.expect("kept");
    features::put(pool, &extractor, &first, 7, &[2.0]).await.expect("kept");
    features::put(pool, &extractor, &first, 0, &[9.0]).await.expect("one is there already");
    features::put(pool, &other, &second, 0, &[3.0]).await.expect("kept");

    let found = features::get(pool, &extractor, &[first, second]).await.expect("answered");
    let bits = |vector: &[f32]| vector.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found[&(first, 0)]), bits(&vector));
    assert_eq!(found[&(first, 7)], [2.0]);
    assert_eq!(found.len(), 2);
    assert!(features::get(pool, &extractor, &[]).await.expect("answered").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_takes_the_place_of_the_one_before_and_is_forgotten_in_the_end() {
    let lab = Lab::new().await;
    let store = &lab.scratch.store;
    let run = lab.running().await;
    let put = async |text: &'static str| {
        checkpoints::put(store, &run, Bytes::from(text)).await.expect("kept")
    };
    let get = async || checkpoints::get(store, run.id).await.expect("answered");
    assert_eq!(get().await, None);

    assert!(put("first").await);
    assert_eq!(get().await, Some(Bytes::from("first")));
    assert!(put("second").await && put("second").await);
    assert_eq!(get().await, Some(Bytes::from("second")));
    assert!(!lab.scratch.holds(b"first").await, "the one before is still stored");

    checkpoints::delete(store, run.id).await.expect("forgotten");
    assert_eq!(get().await, None);
    assert!(!lab.scratch.holds(b"second").await);
    checkpoints::delete(store, run.id).await.expect("forgetting twice is no error");
    assert!(put("third").await);
    store.blobs.delete(&Sha256::of(b"third")).await.expect("lost");
    let lost = checkpoints::get(store, run.id).await;
    assert!(matches!(lost, Err(StoreError::MissingBlob(_))), "{lost:?}");
}
