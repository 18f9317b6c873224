//! The importer: reads a checkpoint in a child, has it transcribed, and records the backbone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256 as Hasher};
use tempfile::TempDir;

use super::error::ImportError;
use super::transcribe::{Transcribed, Transcription};
use crate::config::Compute;
use crate::decode::{DecodeError, Pool};
use crate::domain::backbone::{Origin, Parity};
use crate::domain::name::Name;
use crate::domain::{Architecture, Backbone, BackboneId, Preprocessing, Sha256};
use crate::inference::ParityError;
use crate::nn::weights::ReadOptions;
use crate::store::{Content, Store, StoreError, backbones, settle};

/// Longest source and licence text, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// The facts that the importer is told beside the file.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Name of the backbone.
    pub name: Name,
    /// The address that the weights come from.
    pub source_url: String,
    /// Their licence: a name or the whole text.
    pub license: String,
    /// The preparation of pictures.
    pub preprocessing: Preprocessing,
    /// The options for reading the checkpoint.
    pub options: ReadOptions,
}

/// A backbone of random weights to be made, for trying things out.
#[derive(Debug, Clone)]
pub struct RandomRequest {
    /// Name of the backbone.
    pub name: Name,
    /// Its architecture.
    pub architecture: Architecture,
    /// Equal seeds give equal weights.
    pub seed: u64,
    /// The preparation of pictures.
    pub preprocessing: Preprocessing,
}

/// Imports backbones.
#[derive(Debug, Clone)]
pub struct Importer {
    store: Store,
    compute: Compute,
    scratch: PathBuf,
    decoder: Pool,
    /// Held from looking for the same backbone to recording a new one.
    recording: std::sync::Arc<tokio::sync::Mutex<()>>,
}

/// The result of reading, exporting and checking a file.
struct Made {
    architecture: Architecture,
    notices: Vec<String>,
    source: Sha256,
    parity: Parity,
    parameters: u64,
    /// The place of its files, and their folder, which goes when this does.
    files: Transcription,
    #[expect(dead_code, reason = "held for as long as its files are wanted")]
    folder: TempDir,
}

impl Importer {
    /// An importer that puts temporary files into `scratch`, and computes as `compute` says.
    pub fn new(store: Store, compute: Compute, scratch: PathBuf, decoder: Pool) -> Self {
        Self { store, compute, scratch, decoder, recording: std::sync::Arc::default() }
    }

    /// Imports the file; the backbone, and whether it is new: the same weights under the same name
    /// and preprocessing are imported once.
    pub async fn import(
        &self,
        file: &Path,
        request: ImportRequest,
    ) -> Result<(Backbone, bool), ImportError> {
        request.preprocessing.validate(request.options.architecture)?;
        check_text("source_url", &request.source_url)?;
        check_text("license", &request.license)?;
        let made = self.make(file, &request).await?;
        let blobs = &self.store.blobs;
        let name = request.name.as_str();
        let pool = &self.store.pool;
        let _recording = self.recording.lock().await;
        // Blobs before the row that names them; of one that is imported already they may be damaged.
        let files = [made.files.weights(), made.files.onnx()].map(Content::File);
        let weights = blobs.put(&files[0]).await?;
        let onnx = blobs.put(&files[1]).await?;
        let same = backbones::same(pool, name, &weights.sha256, &request.preprocessing).await?;
        if let Some(same) = same {
            return Ok((same, false));
        }
        let backbone = Backbone {
            id: BackboneId::new(),
            name: request.name,
            architecture: made.architecture,
            preprocessing: request.preprocessing,
            embedding_size: made.architecture.embedding_size() as u32,
            parameters: made.parameters,
            weights_sha256: weights.sha256,
            weights_size_bytes: weights.size_bytes,
            onnx_sha256: onnx.sha256,
            source_sha256: made.source,
            source_url: request.source_url,
            license: request.license,
            notices: made.notices,
            parity: made.parity,
            origin: Origin::default(),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        let backbone = backbones::insert(pool, &backbone).await?;
        settle(
            &self.store,
            &[weights.sha256, onnx.sha256].into_iter().zip(files).collect::<Vec<_>>(),
        )
        .await?;
        Ok((backbone, true))
    }

    /// Makes a backbone of random weights, which goes the way of any other: its file is imported.
    pub async fn make_random(
        &self,
        wanted: RandomRequest,
    ) -> Result<(Backbone, bool), ImportError> {
        let RandomRequest { name, architecture, seed, preprocessing } = wanted;
        preprocessing.validate(Some(architecture))?;
        // Made by another process: the memory that takes is not the server's.
        let file = tempfile::NamedTempFile::new_in(&self.scratch).map_err(StoreError::from)?;
        let made = tokio::process::Command::new(self.decoder.program())
            .args(["backbone", "random", "--architecture", architecture.as_str()])
            .args(["--seed", &seed.to_string(), "--out"])
            .arg(file.path())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(StoreError::from)?;
        if !made.status.success() {
            return Err(ImportError::Failed(format!(
                "no random weights were made: {}",
                made.status
            )));
        }
        let request = ImportRequest {
            name,
            source_url: format!("random weights of seed {seed}, made by this server"),
            license: "none: random weights".to_owned(),
            preprocessing,
            options: ReadOptions { architecture: Some(architecture), collapse_depth: false },
        };
        self.import(file.path(), request).await
    }

    async fn make(&self, file: &Path, request: &ImportRequest) -> Result<Made, ImportError> {
        let folder = tempfile::tempdir_in(&self.scratch).map_err(StoreError::from)?;
        let tensors = folder.path().join("tensors.safetensors");
        let (checkpoint, out, options) = (file.to_owned(), tensors.clone(), request.options);
        let decoder = self.decoder.clone();
        let work = move || -> Result<_, ImportError> {
            let source = digest_of(&checkpoint).map_err(StoreError::from)?;
            let (architecture, notices) = read(&decoder, &checkpoint, options, &out)?;
            Ok((source, architecture, notices))
        };
        let read = tokio::task::spawn_blocking(work).await;
        let read = read.map_err(|error| ImportError::Failed(error.to_string()))?;
        let (source, architecture, notices) = read?;
        request.preprocessing.validate(Some(architecture))?;
        let files = Transcription {
            tensors,
            architecture,
            size: request.preprocessing.size,
            metadata: BTreeMap::from([
                ("architecture".to_owned(), architecture.to_string()),
                ("source_sha256".to_owned(), source.to_string()),
            ]),
            compute: self.compute.clone(),
            folder: folder.path().to_owned(),
        };
        match files.elsewhere(self.decoder.program()).await? {
            Transcribed::Made { parity, parameters } => {
                Ok(Made { architecture, notices, source, parity, parameters, files, folder })
            }
            Transcribed::Differs { found, bound } => {
                Err(ParityError::Beyond { found, bound }.into())
            }
        }
    }
}

/// Has a child read a checkpoint and write its tensors to `out`, which can hold nothing but the
/// tensors of a known architecture.
fn read(
    decoder: &Pool,
    checkpoint: &Path,
    options: ReadOptions,
    out: &Path,
) -> Result<(Architecture, Vec<String>), ImportError> {
    let out = std::fs::File::create(out).map_err(StoreError::from)?;
    let read = decoder.checkpoint(checkpoint, options, &out);
    Ok(read.map_err(|error| match error {
        DecodeError::Breach(breach) => ImportError::Breach(breach),
        DecodeError::Io(error) => StoreError::from(error).into(),
        other @ (DecodeError::Refused(_) | DecodeError::Stopped) => {
            ImportError::Failed(other.to_string())
        }
    })??)
}

fn digest_of(path: &Path) -> std::io::Result<Sha256> {
    let mut hasher = Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut HashWriter(&mut hasher))?;
    Ok(Sha256::finish(hasher))
}

struct HashWriter<'a>(&'a mut Hasher);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), ImportError> {
    match text.trim().len() {
        found if found == 0 || found > TEXT_MAX => {
            Err(ImportError::Text { field, found, max: TEXT_MAX })
        }
        _ => Ok(()),
    }
}
