//! `lvmed dataset`: makes a dataset of a folder or an archive, by the rules of an upload.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, Subcommand};
use sqlx::PgPool;

use super::database::{Uses, open, print};
use super::folder::{packed, unreadable};
use crate::config::{Limits, Storage};
use crate::decode::Pool;
use crate::domain::counted::counted;
use crate::domain::dataset::{Dataset, UploadReport};
use crate::domain::name::Name;
use crate::domain::{Size, Task};
use crate::imaging::{PatientHasher, UploadProgress};
use crate::service::intake::{Intake, IntakeError, Upload};
use crate::store::database::{Absent, insist_on_folder, whole};
use crate::store::{self, Blobs, Store, StoreError, datasets, deletion, secret};

/// Files that could not be taken, and remarks, that are listed for people at most.
const SHOWN: usize = 50;

#[derive(Subcommand)]
pub(super) enum DatasetCommand {
    /// Makes a dataset of a folder or of a ZIP archive: a folder for each class, or a `labels.csv`.
    Import(Box<Import>),
}

#[derive(Args)]
pub(super) struct Import {
    /// The folder, or the ZIP archive; a single PNG, JPEG or DICOM file is taken as well.
    source: PathBuf,
    /// Name of the dataset.
    #[arg(long)]
    name: String,
    /// Adds to the dataset of this name, where there is one.
    #[arg(long)]
    add: bool,
    /// Prints everything as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    limits: Limits,
}

/// The dataset that the files go to.
struct Target {
    dataset: Dataset,
    /// Made by this command.
    is_new: bool,
}

pub(super) async fn run(command: DatasetCommand) -> anyhow::Result<()> {
    let DatasetCommand::Import(wanted) = command;
    // Told before anything is started.
    let name = Name::parse(&wanted.name)?;
    let about = wanted.source.metadata().with_context(|| unreadable(&wanted.source))?;
    ensure!(
        about.is_file() || about.is_dir(),
        "{} is neither a folder nor a file",
        wanted.source.display()
    );
    if about.is_dir() {
        apart(&wanted.source, &wanted.storage.data)?;
    }
    insist_on_folder(&wanted.storage)?;
    let database = open(&wanted.storage, Absent::Refuse, Uses::Files).await?;
    let done = match store::connect(database.url(), wanted.storage.database_connections).await {
        Ok(pool) => {
            let done = import(&wanted, &name, &pool).await;
            pool.close().await;
            done
        }
        Err(error) => Err(error.into()),
    };
    database.stop();
    print(&done?)
}

/// Refuses a folder that the stored data lie in, or that lies in them: other datasets would be imported.
fn apart(source: &Path, data: &Path) -> anyhow::Result<()> {
    let (source, data) = (source.canonicalize()?, whole(data));
    let data = data.canonicalize().unwrap_or(data);
    ensure!(
        !data.starts_with(&source) && !source.starts_with(&data),
        "{} and the data folder {} lie in each other; import a folder apart from it",
        source.display(),
        data.display()
    );
    Ok(())
}

/// Does it; what to print.
async fn import(wanted: &Import, name: &Name, pool: &PgPool) -> anyhow::Result<String> {
    let Import { storage, limits, .. } = wanted;
    let store = Store { pool: pool.clone(), blobs: Blobs::local(&storage.blobs())? };
    // On the disk of the data folder, where there is to be room for the files anyway.
    std::fs::create_dir_all(storage.scratch())?;
    let scratch = tempfile::tempdir_in(storage.scratch())?;
    let file = opened(wanted, scratch.path())?;
    let decoder = Pool::start(std::env::current_exe()?, limits, scratch.path().to_owned())?;
    let hasher = PatientHasher::new(secret::load(pool, &storage.secret()).await?);
    let intake = Intake::new(store.clone(), decoder, hasher, limits);
    let Target { dataset, is_new } = target(wanted, name, pool).await?;
    let upload = Upload {
        dataset: dataset.id,
        file,
        name: wanted.source.file_name().map(|name| name.to_string_lossy().into_owned()),
        label: None,
        patient: None,
        split: None,
        progress: UploadProgress::default(),
    };
    let taken = tokio::task::spawn_blocking(move || intake.take_in(upload)).await?;
    match taken {
        Ok(report) if is_new && report.files == 0 => {
            deletion::dataset(&store, dataset.id).await?;
            let lines = told(&dataset, &report);
            let (_, rest) = lines.split_once('\n').unwrap_or_default();
            Err(anyhow!("nothing could be taken, so that no dataset was made\n{rest}"))
        }
        Ok(report) if wanted.json => {
            let dataset = datasets::one(pool, dataset.id).await?;
            let whole = serde_json::json!({ "dataset": dataset, "upload": report });
            Ok(serde_json::to_string_pretty(&whole)?)
        }
        Ok(report) => Ok(told(&dataset, &report)),
        Err(error @ IntakeError::BrokenOff { .. }) => Err(anyhow!(
            "{error}. Import it again with --add: what is here already is not added twice"
        )),
        Err(
            error @ (IntakeError::Refused(_)
            | IntakeError::Breach(_)
            | IntakeError::Decode(_)
            | IntakeError::Store(_)),
        ) => {
            // That it cannot be taken away again must not hide why it is empty.
            if is_new && let Err(left) = deletion::dataset(&store, dataset.id).await {
                return Err(anyhow!("{error}; the empty dataset {name} is left behind: {left}"));
            }
            Err(error.into())
        }
    }
}

/// The file that is read: the file itself, or the folder as an archive.
fn opened(wanted: &Import, scratch: &Path) -> anyhow::Result<File> {
    let Import { source, limits, .. } = wanted;
    let file = if source.is_dir() {
        packed(source, limits, scratch)?
    } else {
        File::open(source).with_context(|| unreadable(source))?
    };
    let (found, max) = (file.metadata()?.len(), limits.upload_bytes);
    ensure!(
        found <= max,
        "{} has {}; the limit is {} (LVMED_LIMIT_UPLOAD_BYTES)",
        source.display(),
        Size(found),
        Size(max)
    );
    Ok(file)
}

/// The dataset of this name: a new one, or the one that is to be added to.
async fn target(wanted: &Import, name: &Name, pool: &PgPool) -> anyhow::Result<Target> {
    if wanted.add {
        let known = datasets::list(pool).await?.into_iter().find(|known| known.name == *name);
        if let Some(dataset) = known {
            return Ok(Target { dataset, is_new: false });
        }
    }
    match datasets::create(pool, name, Task::default()).await {
        Ok(dataset) => Ok(Target { dataset, is_new: true }),
        Err(error @ StoreError::NameTaken(_)) => {
            Err(anyhow!("{error}; choose another --name, or add to that dataset with --add"))
        }
        Err(error) => Err(error.into()),
    }
}

fn told(dataset: &Dataset, report: &UploadReport) -> String {
    let files = counted(report.files, "file was taken", "files were taken");
    let images = counted(report.images, "image", "images");
    let mut lines = vec![
        format!("dataset {} {:?}", dataset.id, dataset.name.as_str()),
        format!("{files}, with {images} that are new"),
    ];
    if report.duplicates > 0 {
        let duplicates = counted(report.duplicates, "image was", "images were");
        lines.push(format!("{duplicates} here already and not added again"));
    }
    if report.rejected_total > 0 {
        let rejected = counted(report.rejected_total, "file", "files");
        lines.push(format!("{rejected} could not be taken:"));
        for refused in report.rejected.iter().take(SHOWN) {
            lines.push(format!("  {}: {}", refused.file, refused.reason));
        }
        let more = report.rejected_total - report.rejected.len().min(SHOWN) as u64;
        if more > 0 {
            lines.push(format!("  and {more} more; --json lists them"));
        }
    }
    lines.extend(report.notices.iter().take(SHOWN).map(|notice| format!("note: {notice}")));
    // Names may come from a stranger's archive: they must not steer the terminal.
    lines.join("\n").replace(|c: char| c.is_control() && c != '\n', "?")
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn a_folder_and_the_data_folder_must_not_lie_in_each_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let of = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).expect("made");
            path
        };
        let (pictures, data, others) = (of("pictures"), of("pictures/data"), of("others"));

        for (source, data) in [(&pictures, &data), (&data, &pictures), (&pictures, &pictures)] {
            let refused = apart(source, data).expect_err("refused").to_string();
            assert!(refused.contains("lie in each other"), "{refused}");
        }
        apart(&others, &data).expect("they are apart");
    }
}
