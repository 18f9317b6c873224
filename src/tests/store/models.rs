//! Publishing: all or nothing, one version after the other.

use std::collections::BTreeSet;

use lvmed::domain::model::Stage;
use lvmed::domain::run::{Outcome, Status};
use lvmed::domain::{ModelId, Task};
use lvmed::store::{StoreError, deletion, models, predictions};

use super::{Lab, artifact, evaluation};

#[tokio::test(flavor = "multi_thread")]
async fn a_published_model_reads_back_with_its_files_and_predictions_and_ends_its_run() {
    let lab = Lab::new().await;
    let (pool, run) = (lab.pool(), lab.running().await);
    let publication = lab.publication("breast");

    let id = models::publish(pool, &run, &publication).await.expect("published");

    let model = models::one(pool, id).await.expect("answered").expect("there");
    assert_eq!((model.name, model.version, model.stage), (publication.name, 1, Stage::Candidate));
    assert_eq!((model.run, model.backbone), (run.id, lab.backbone));
    assert_eq!((model.labels, model.license), (publication.labels, publication.license));
    assert_eq!(model.task, Task::Classification);
    assert_eq!((model.preprocessing, model.evaluation), (publication.preprocessing, evaluation()));
    assert_eq!(model.artifacts, [artifact("card.md"), artifact("model.onnx")]);
    let ended = lab.run(&run).await;
    assert_eq!(ended.status, Status::Succeeded);
    let found = |model| Some(Outcome::Finetune { evaluation: Box::new(evaluation()), model });
    assert_eq!(ended.outcome, found(Some(id)));
    assert!((ended.progress.fraction - 1.0).abs() < f64::EPSILON);
    let listed = predictions::list(pool, run.id).await.expect("answered");
    let told: Vec<_> = listed.iter().map(|one| (one.number, one.truth.as_str())).collect();
    assert_eq!(told, [(3, "benign"), (4, "malignant")]);
    assert_eq!(listed[0].image, lab.images[2].image.id);
    assert_eq!(listed[0].probabilities, [0.25, 0.75]);
    assert!(models::one(pool, ModelId::new()).await.expect("answered").is_none());
    // What it found stays on record when the model is deleted.
    assert!(deletion::model(&lab.scratch.store, id).await.expect("answered"));
    assert_eq!(lab.run(&run).await.outcome, found(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_fails_half_way_leaves_nothing_behind() {
    let lab = Lab::new().await;
    let (pool, run) = (lab.pool(), lab.running().await);
    let mut broken = lab.publication("breast");
    broken.artifacts.push(artifact("model.onnx"));
    let before = lab.run(&run).await;

    let published = models::publish(pool, &run, &broken).await;

    assert!(matches!(published, Err(StoreError::Database(_))), "{published:?}");
    assert_eq!(lab.run(&run).await, before);
    assert!(models::list(pool).await.expect("answered").is_empty());
    assert!(predictions::list(pool, run.id).await.expect("answered").is_empty());
    models::publish(pool, &run, &lab.publication("breast")).await.expect("published after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_name_count_up_even_when_runs_finish_together_or_a_model_is_deleted() {
    let lab = Lab::new().await;
    let pool = lab.pool();
    let mut running = Vec::new();
    for _ in 0..6 {
        running.push(lab.running().await);
    }
    let publication = lab.publication("breast");

    let published = running.iter().map(|run| models::publish(pool, run, &publication));
    let ids: BTreeSet<ModelId> = futures_util::future::join_all(published)
        .await
        .into_iter()
        .map(|published| published.expect("published"))
        .collect();

    assert_eq!(ids.len(), 6);
    let listed = models::list(pool).await.expect("answered");
    let versions: BTreeSet<u32> = listed.iter().map(|model| model.version).collect();
    assert_eq!(versions, (1..=6).collect());
    assert!(listed.is_sorted_by(|one, other| one.id > other.id), "not newest first");
    let newest = listed.iter().find(|model| model.version == 6).expect("there").clone();
    assert!(deletion::model(&lab.scratch.store, newest.id).await.expect("answered"));
    assert!(
        !deletion::model(&lab.scratch.store, newest.id).await.expect("answered"),
        "deleted twice"
    );
    assert!(models::one(pool, newest.id).await.expect("answered").is_none());
    let other = lab.publication("chest");
    let chest = models::publish(pool, &lab.running().await, &other).await.expect("published");
    let breast = models::publish(pool, &lab.running().await, &publication).await.expect("done");
    let version = async |id| models::one(pool, id).await.expect("answered").map(|one| one.version);
    assert_eq!((version(chest).await, version(breast).await), (Some(1), Some(7)));
}
