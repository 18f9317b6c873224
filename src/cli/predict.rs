//! `lvmed predict`: asks a model for the classes of pictures.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use sqlx::PgPool;

use super::database::{Uses, open, print};
use super::folder::unreadable;
use crate::config::{Compute, Limits, Storage};
use crate::decode::Pool;
use crate::domain::model::{Model, Prediction};
use crate::domain::{ModelId, Size};
use crate::inference::{Registry, Runtime};
use crate::service::predict::{Network, Predictor, Sent, predictions};
use crate::store::database::{Absent, insist_on_folder};
use crate::store::{self, Blobs, Store, models};

/// Models that are named when there is none of the id given.
const SHOWN: usize = 10;

#[derive(Args)]
pub(super) struct Predict {
    /// Id of the model, as the page and the API show it.
    #[arg(long)]
    model: ModelId,
    /// PNG, JPEG or DICOM files; each frame of a multi-frame DICOM file is answered for.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Prints everything as JSON, as the API answers.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    limits: Limits,
}

pub(super) async fn run(wanted: Predict) -> anyhow::Result<()> {
    // Told before anything is started.
    insist_on_folder(&wanted.storage)?;
    let files = sent(&wanted)?;
    let runtime = Runtime::load(&wanted.compute)?;
    let database = open(&wanted.storage, Absent::Refuse, Uses::Files).await?;
    let done = match store::connect(database.url(), 2).await {
        Ok(pool) => {
            let done = answered(&wanted, runtime, files, &pool).await;
            pool.close().await;
            done
        }
        Err(error) => Err(error.into()),
    };
    database.stop();
    let items = done?;
    if wanted.json {
        print(&serde_json::to_string_pretty(&serde_json::json!({ "items": items }))?)
    } else {
        print(&items.iter().map(told).collect::<Vec<_>>().join("\n"))
    }
}

/// The files, opened; nothing of them is read here.
fn sent(wanted: &Predict) -> anyhow::Result<Vec<Sent>> {
    let mut all = 0;
    let mut files = Vec::new();
    for path in &wanted.files {
        let file = File::open(path).with_context(|| unreadable(path))?;
        let about = file.metadata().with_context(|| unreadable(path))?;
        ensure!(about.is_file(), "{} is not a file; name the pictures in it", path.display());
        all += about.len();
        files.push(Sent { name: Some(path.display().to_string()), file });
    }
    let max = wanted.limits.predict_bytes as u64;
    ensure!(
        all <= max,
        "the files have {}; the limit is {} (LVMED_LIMIT_PREDICT_BYTES). Ask for fewer at a time",
        Size(all),
        Size(max)
    );
    Ok(files)
}

async fn answered(
    wanted: &Predict,
    runtime: Runtime,
    files: Vec<Sent>,
    pool: &PgPool,
) -> anyhow::Result<Vec<Prediction>> {
    let Predict { storage, compute, limits, .. } = wanted;
    let model = model(pool, wanted.model).await?;
    let store = Store { pool: pool.clone(), blobs: Blobs::local(&storage.blobs())? };
    let scratch = tempfile::tempdir()?;
    let decoder = Pool::start(std::env::current_exe()?, limits, scratch.path().to_owned())?;
    let registry = Registry::new(runtime, compute, limits);
    let predictor = Predictor::new(store, registry, decoder, scratch.path());
    let queued = predictor.queue(Network::of_model(&model)?)?;
    let answers = predictor.answer(queued, files).await?;
    Ok(predictions(&model, answers)?)
}

async fn model(pool: &PgPool, id: ModelId) -> anyhow::Result<Model> {
    if let Some(model) = models::one(pool, id).await? {
        return Ok(model);
    }
    let known = models::list(pool).await?;
    let known = known
        .iter()
        .take(SHOWN)
        .map(|known| format!("\n  {}  {} (version {})", known.id, known.name, known.version));
    let known: String = known.collect();
    let known = if known.is_empty() { "\n  none yet".to_owned() } else { known };
    Err(anyhow!("there is no model {id}; the newest models are:{known}"))
}

/// A line for people: the file, and its classes from the most probable one on.
fn told(prediction: &Prediction) -> String {
    let file = prediction.file.as_deref().unwrap_or("the file");
    let frame = match prediction.frame {
        0 => String::new(),
        frame => format!(", frame {frame}"),
    };
    let classes = prediction.probabilities.iter();
    let classes = classes.map(|class| format!("{} {:.3}", class.label, class.probability));
    format!("{file}{frame}: {}", classes.collect::<Vec<_>>().join(", "))
}
