//! Every query of the store against a real Postgres, and what the tests of it share.

mod blobs;
mod cache;
mod cancelling;
mod datasets;
mod events;
mod models;
mod pretrained;
mod queue;
mod server;
mod sweep;
mod upgrade;
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use lvmed::domain::backbone::{Origin, Parity};
use lvmed::domain::dataset::{SplitCounts, Version};
use lvmed::domain::evaluation::{Calibration, ClassificationEvaluation, Estimate, Evaluation};
use lvmed::domain::image::{Format, Image, Window};
use lvmed::domain::model::Artifact;
use lvmed::domain::name::Name;
use lvmed::domain::pretrain::{Learning, Objective, Pretrain, Views};
use lvmed::domain::run::{Finetune, Method, Provenance, Run, Spec};
use lvmed::domain::training::Training;
use lvmed::domain::{
    Architecture, Backbone, BackboneId, DatasetId, ImageId, Preprocessing, Sha256, Split, Task,
    VersionId, WorkerId,
};
use lvmed::store::models::Publication;
use lvmed::store::queue::{Claimed, claim};
use lvmed::store::runs::{self, NewRun, Once};
use lvmed::store::versions::VersionImage;
use lvmed::store::{self, StoreError, backbones, images};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::database::Scratch;

/// A lease that outlasts any test.
const LONG: Duration = Duration::from_mins(10);

/// A database with all that a run needs: a backbone and a frozen version of four images.
struct Lab {
    scratch: Scratch,
    dataset: DatasetId,
    version: VersionId,
    images: Vec<VersionImage>,
    backbone: BackboneId,
}

impl Lab {
    async fn new() -> Self {
        let scratch = Scratch::new().await;
        let pool = &scratch.store.pool;
        let backbone = backbones::insert(pool, &backbone("lab")).await.expect("inserted").id;
        let dataset =
            store::datasets::create(pool, &name("lab"), Task::default()).await.expect("created").id;
        let mut frozen = Vec::new();
        for number in 0..4 {
            let label = if number % 2 == 0 { "benign" } else { "malignant" };
            let image = image(dataset, number, Some(label));
            assert!(add(pool, &image).await);
            let split = if number < 2 { Split::Train } else { Split::Test };
            frozen.push(VersionImage { image, split });
        }
        let version = version(dataset);
        store::versions::freeze(pool, &version, &frozen).await.expect("frozen");
        Self { dataset, version: version.id, images: frozen, backbone, scratch }
    }

    fn pool(&self) -> &PgPool {
        &self.scratch.store.pool
    }

    async fn queue(&self) -> Run {
        self.queue_as(None).await.expect("queued")
    }

    async fn queue_as(&self, once: Option<&Once>) -> Result<Run, StoreError> {
        let spec = Spec::Finetune(Finetune {
            head: None,
            dataset_version: self.version,
            backbone: self.backbone,
            method: Method::Probe,
            shots: None,
            seed: u64::MAX,
            name: None,
            repeats: 1,
            random_baseline: false,
            training: Training::default(),
        });
        self.queue_spec(&spec, once).await
    }

    async fn queue_spec(&self, spec: &Spec, once: Option<&Once>) -> Result<Run, StoreError> {
        let provenance = Provenance {
            dataset_digest: Sha256::of(b"dataset"),
            backbone_sha256: Some(Sha256::of(b"backbone")),
            code_version: "0.0.0".to_owned(),
            threads: None,
            micro_batch: None,
        };
        let run = NewRun {
            spec,
            provenance: &provenance,
            dataset_version: self.version,
            backbone: Some(self.backbone),
            once,
        };
        runs::insert(self.pool(), &run).await
    }

    /// Queues a run and has a fresh worker take it for a long time.
    async fn running(&self) -> Claimed {
        let run = self.queue().await;
        let claimed = self.take(LONG).await.expect("a run is due");
        assert_eq!(claimed.id, run.id);
        claimed
    }

    /// Queues a run that pretrains and has a fresh worker take it for a long time.
    async fn pretraining(&self) -> Claimed {
        let spec = Spec::Pretrain(Pretrain {
            dataset_version: self.version,
            backbone: Some(self.backbone),
            architecture: None,
            seed: 0,
            name: None,
            objective: Objective::default(),
            views: Views::default(),
            learning: Learning::default(),
            gate: None,
        });
        let run = self.queue_spec(&spec, None).await.expect("queued");
        let claimed = self.take(LONG).await.expect("a run is due");
        assert_eq!(claimed.id, run.id);
        claimed
    }

    /// Has a fresh worker take the next run.
    async fn take(&self, lease: Duration) -> Option<Claimed> {
        claim(self.pool(), WorkerId::new(), lease, 2).await.expect("the queue answers")
    }

    async fn run(&self, run: &Claimed) -> Run {
        runs::one(self.pool(), run.id).await.expect("the database answers").expect("it is there")
    }

    fn publication(&self, title: &str) -> Publication {
        let test = self.images.iter().filter(|entry| entry.split == Split::Test);
        Publication {
            name: name(title),
            backbone: self.backbone,
            labels: vec!["benign".to_owned(), "malignant".to_owned()],
            preprocessing: Preprocessing::imagenet(),
            evaluation: evaluation(),
            license: "a licence".to_owned(),
            artifacts: vec![artifact("model.onnx"), artifact("card.md")],
            predictions: test.map(|entry| (entry.image.id, vec![0.25, 0.75])).collect(),
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn artifact(file: &str) -> Artifact {
    Artifact {
        name: file.to_owned(),
        media_type: "application/octet-stream".to_owned(),
        size_bytes: 7,
        sha256: Sha256::of(file.as_bytes()),
    }
}

fn backbone(title: &str) -> Backbone {
    Backbone {
        id: BackboneId::new(),
        name: name(title),
        architecture: Architecture::RESNET50,
        preprocessing: Preprocessing::imagenet(),
        embedding_size: 2048,
        parameters: 23_508_032,
        weights_sha256: Sha256::of(b"weights"),
        weights_size_bytes: 94_000_000,
        onnx_sha256: Sha256::of(b"onnx"),
        source_sha256: Sha256::of(b"source"),
        source_url: "https://example.org/weights".to_owned(),
        license: "a licence".to_owned(),
        notices: vec!["dropped the classifier".to_owned()],
        parity: Parity { max_relative_difference: 1e-6, bound: 1e-3 },
        origin: Origin::default(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

/// The image of this number; each number is a file and a patient of its own.
fn image(dataset: DatasetId, number: u32, label: Option<&str>) -> Image {
    Image {
        id: ImageId::new(),
        dataset,
        number: u64::from(number) + 1,
        frame: 0,
        label: label.map(str::to_owned),
        patient_key: format!("patient-{number}"),
        split: (number == 0).then_some(Split::Train),
        format: Format::Dicom,
        width: 64,
        height: 48,
        modality: Some("CT".to_owned()),
        window: Some(Window { center: 40.5, width: 400.0 }),
        blob: Sha256::of(&number.to_le_bytes()),
        size_bytes: 1234,
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

/// Adds an image as the only one of its file; whether it was new.
async fn add(pool: &PgPool, image: &Image) -> bool {
    let mut transaction = pool.begin().await.expect("begun");
    let original = format!("original of {}", image.blob);
    let added = images::add(&mut transaction, std::slice::from_ref(image), &original).await;
    transaction.commit().await.expect("committed");
    added.expect("added").images == 1
}

fn version(dataset: DatasetId) -> Version {
    Version {
        id: VersionId::new(),
        dataset,
        number: 0,
        task: Task::Classification,
        digest: Sha256::of(b"version"),
        seed: u64::MAX,
        labels: vec!["benign".to_owned(), "malignant".to_owned()],
        splits: BTreeMap::from([(Split::Train, SplitCounts::default())]),
        notices: vec!["few patients".to_owned()],
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn evaluation() -> Evaluation {
    let estimate = Estimate { value: 0.9, low: 0.8, high: 0.95 };
    Evaluation::Classification(ClassificationEvaluation {
        labels: vec!["benign".to_owned(), "malignant".to_owned()],
        images: 2,
        patients: 2,
        accuracy: estimate,
        balanced_accuracy: estimate,
        macro_auroc: None,
        macro_auprc: Some(estimate),
        macro_f1: estimate,
        brier: estimate,
        log_loss: Some(estimate),
        ece: Calibration { value: 0.1, by_chance: Some(0.08), by_chance_95: Some(0.2) },
        confusion: vec![vec![1, 0], vec![0, 1]],
        resamples: 1000,
        repeats: None,
        baselines: vec![],
        notices: vec![],
    })
}
