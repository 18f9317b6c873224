//! The results that pretraining leaves: a backbone with its origin, and the newest pair of graphs.

use lvmed::domain::backbone::{BackboneStage, Origin};
use lvmed::domain::evaluation::Estimate;
use lvmed::domain::pretrain::{AtShots, Comparison, Verdict};
use lvmed::domain::run::{Outcome, Status};
use lvmed::domain::{Backbone, BackboneId, RunId, Split};
use lvmed::store::versions::{self, VersionImage};
use lvmed::store::{StoreError, backbones, deletion, matched_pairs};
use serde_json::json;

use super::{LONG, Lab, add, artifact, backbone, image, version};

fn comparison() -> Comparison {
    let estimate = |value| Estimate { value, low: value - 0.1, high: value + 0.1 };
    Comparison {
        before: estimate(0.7),
        after: estimate(0.75),
        difference: estimate(0.05),
        each: vec![AtShots {
            shots: None,
            before: estimate(0.7),
            after: estimate(0.75),
            difference: estimate(0.05),
        }],
        before_repeats: vec![0.6, 0.8],
        after_repeats: vec![0.7, 0.8],
        repeats: 2,
        shots: None,
        images: 40,
        patients: 20,
        resamples: 1000,
        tolerance: 0.01,
        verdict: Verdict::NotWorse,
        notices: vec!["few patients".to_owned()],
    }
}

fn pretrained(lab: &Lab, run: RunId) -> Backbone {
    let origin = Origin {
        stage: BackboneStage::Candidate,
        parent: Some(lab.backbone),
        run: Some(run),
        comparison: Some(comparison()),
        artifacts: vec![artifact("model.safetensors"), artifact("card.md")],
    };
    Backbone { origin, ..backbone("adapted") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pretrained_backbone_is_published_with_its_run_and_can_be_approved() {
    let lab = Lab::new().await;
    let (pool, run) = (lab.pool(), lab.pretraining().await);
    let given = pretrained(&lab, run.id);

    let made = backbones::publish(pool, &run, &given).await.expect("published");

    assert_eq!(made.origin, given.origin);
    let ended = lab.run(&run).await;
    let found = |backbone| Some(Outcome::Pretrain { backbone, comparison: Some(comparison()) });
    assert_eq!((ended.status, ended.outcome), (Status::Succeeded, found(Some(given.id))));
    let approved = backbones::set_stage(pool, given.id, BackboneStage::Approved).await;
    let approved = approved.expect("answered").expect("there");
    assert_eq!(approved.origin.stage, BackboneStage::Approved);
    assert_eq!(approved.origin.comparison, Some(comparison()));
    let none = backbones::set_stage(pool, BackboneId::new(), BackboneStage::Approved).await;
    assert!(none.expect("answered").is_none());
    // What it was compared with stays on record when the backbone is deleted.
    assert!(deletion::backbone(&lab.scratch.store, given.id).await.expect("answered"));
    assert_eq!(lab.run(&run).await.outcome, found(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_run_publishes_no_backbone_and_shows_nothing() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    lab.queue().await;
    let lost = lab.take(std::time::Duration::ZERO).await.expect("a run is due");
    let holder = lab.take(LONG).await.expect("its lease has run out");
    assert_eq!(holder.id, lost.id);

    let published = backbones::publish(pool, &lost, &pretrained(&lab, lost.id)).await;
    let shown = matched_pairs::put(pool, &lost, 3, &json!({"partners": [0]})).await;

    assert!(matches!(published, Err(StoreError::LeaseLost)), "{published:?}");
    assert!(!shown.expect("answered"));
    assert_eq!(backbones::list(pool).await.expect("answered").len(), 1);
    assert_eq!(matched_pairs::get(pool, lost.id).await.expect("answered"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_matched_pair_takes_the_place_of_the_one_before() {
    let lab = Lab::new().await;
    let (pool, run) = (lab.pool(), lab.running().await);

    for step in [3, 9] {
        let pair = json!({"partners": [step, null]});
        assert!(matched_pairs::put(pool, &run, step, &pair).await.expect("kept"));
    }

    let found = matched_pairs::get(pool, run.id).await.expect("answered");
    assert_eq!(found, Some((9, json!({"partners": [9, null]}))));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_a_label_can_be_frozen() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let unlabelled = image(lab.dataset, 9, None);
    assert!(add(pool, &unlabelled).await);
    let mut frozen = lab.images.clone();
    frozen.push(VersionImage { image: unlabelled.clone(), split: Split::Train });

    let made = versions::freeze(pool, &version(lab.dataset), &frozen).await.expect("frozen");

    let found = versions::images(pool, made.id, None).await.expect("answered");
    let without: Vec<_> = found.iter().filter(|entry| entry.image.label.is_none()).collect();
    assert_eq!((found.len(), without.len()), (5, 1));
    assert_eq!(without[0].image.id, unlabelled.id);
}
