//! Importing a backbone: a stranger's checkpoint becomes stored weights, an ONNX file and a row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256 as Hasher};

use crate::domain::backbone::{BadPreprocessing, Origin, Parity};
use crate::domain::name::Name;
use crate::domain::{Architecture, Backbone, BackboneId, Preprocessing, Sha256};
use crate::inference::{ParityError, Runtime, Twins, parity};
use crate::nn::weights::{self, Imported, ReadOptions, WeightsError};
use crate::nn::{self, Tensors};
use crate::onnx::{Export, OnnxError, export};
use crate::store::{Store, StoreError, backbones};

/// Longest source and licence text, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// What the importer is told beside the file.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Name of the backbone.
    pub name: Name,
    /// Where the weights come from.
    pub source_url: String,
    /// Their licence: a name or the whole text.
    pub license: String,
    /// How pictures are prepared.
    pub preprocessing: Preprocessing,
    /// How to read the checkpoint.
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
    /// How pictures are prepared.
    pub preprocessing: Preprocessing,
}

/// Why a backbone was not imported. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The preprocessing cannot be used.
    #[error(transparent)]
    Preprocessing(#[from] BadPreprocessing),
    /// A text is missing or too long.
    #[error("`{field}` must have 1 to {max} bytes; it has {found}")]
    Text {
        /// The field.
        field: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// candle and ONNX Runtime disagree on these weights, or could not be compared.
    #[error(transparent)]
    Parity(#[from] ParityError),
    /// The graph could not be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work itself broke.
    #[error("the import failed: {0}")]
    Failed(String),
}

/// Imports backbones.
#[derive(Debug, Clone)]
pub struct Importer {
    store: Store,
    runtime: Runtime,
    scratch: PathBuf,
    threads: usize,
    /// Held from looking for the same backbone to recording a new one.
    recording: std::sync::Arc<tokio::sync::Mutex<()>>,
}

/// What reading, exporting and checking a file gives.
struct Made {
    imported: Imported,
    weights: Vec<u8>,
    onnx: Vec<u8>,
    source: Sha256,
    parity: Parity,
}

impl Importer {
    /// An importer that puts temporary files into `scratch` and computes on `threads` threads.
    pub fn new(store: Store, runtime: Runtime, scratch: PathBuf, threads: usize) -> Self {
        Self { store, runtime, scratch, threads, recording: std::sync::Arc::default() }
    }

    /// Imports the file; the backbone, and whether it is new: the same weights under the same name
    /// and preprocessing are imported once.
    pub async fn import(
        &self,
        file: &Path,
        request: ImportRequest,
    ) -> Result<(Backbone, bool), ImportError> {
        request.preprocessing.validate()?;
        check_text("source_url", &request.source_url)?;
        check_text("license", &request.license)?;
        let made = self.make(file, &request).await?;
        let digest = Sha256::of(&made.weights);
        let name = request.name.as_str();
        let pool = &self.store.pool;
        let _recording = self.recording.lock().await;
        if let Some(same) = backbones::same(pool, name, &digest, &request.preprocessing).await? {
            return Ok((same, false));
        }
        let architecture = made.imported.architecture;
        let backbone = Backbone {
            id: BackboneId::new(),
            name: request.name,
            architecture,
            preprocessing: request.preprocessing,
            embedding_size: architecture.embedding_size() as u32,
            parameters: trained(&made.imported.tensors),
            weights_sha256: digest,
            weights_size_bytes: made.weights.len() as u64,
            onnx_sha256: Sha256::of(&made.onnx),
            source_sha256: made.source,
            source_url: request.source_url,
            license: request.license,
            notices: made.imported.notices,
            parity: made.parity,
            origin: Origin::default(),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
        };
        // Blobs before the row that names them.
        self.store.blobs.put_bytes(Bytes::from(made.weights)).await?;
        self.store.blobs.put_bytes(Bytes::from(made.onnx)).await?;
        Ok((backbones::insert(pool, &backbone).await?, true))
    }

    /// Makes a backbone of random weights, which goes the way of any other: its file is imported.
    pub async fn make_random(
        &self,
        wanted: RandomRequest,
    ) -> Result<(Backbone, bool), ImportError> {
        let RandomRequest { name, architecture, seed, preprocessing } = wanted;
        preprocessing.validate()?;
        let scratch = self.scratch.clone();
        let write = move || -> Result<tempfile::NamedTempFile, ImportError> {
            let file = tempfile::NamedTempFile::new_in(scratch).map_err(StoreError::from)?;
            let tensors = weights::random(architecture, seed).map_err(WeightsError::from)?;
            weights::write(&tensors, &BTreeMap::new(), file.path())?;
            Ok(file)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let file = written.map_err(|error| ImportError::Failed(error.to_string()))??;
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
        let (file, options, size) = (file.to_owned(), request.options, request.preprocessing.size);
        let (runtime, scratch, threads) =
            (self.runtime.clone(), self.scratch.clone(), self.threads);
        let work = move || -> Result<Made, ImportError> {
            let source = digest_of(&file).map_err(StoreError::from)?;
            let imported = weights::read(&file, options)?;
            let metadata = BTreeMap::from([
                ("architecture".to_owned(), imported.architecture.to_string()),
                ("source_sha256".to_owned(), source.to_string()),
            ]);
            let weights = weights::to_bytes(&imported.tensors, &metadata)?;
            let Imported { architecture, tensors, .. } = &imported;
            let onnx = export(&Export {
                architecture: *architecture,
                tensors,
                size,
                head: None,
                metadata: &metadata,
            })?;
            let twins = Twins { architecture: *architecture, tensors, onnx: &onnx, size };
            let parity = parity(&twins, &runtime, &scratch, threads)?;
            Ok(Made { imported, weights, onnx, source, parity })
        };
        let made = tokio::task::spawn_blocking(move || nn::with_threads(threads, work)).await;
        let made = made.map_err(|error| ImportError::Failed(error.to_string()))?;
        made.map_err(|error| ImportError::Failed(error.to_string()))?
    }
}

/// Weights that training would move: running statistics are not counted.
pub(crate) fn trained(tensors: &Tensors) -> u64 {
    let moved = tensors.iter().filter(|(name, _)| !name.contains("running_"));
    moved.map(|(_, tensor)| tensor.elem_count() as u64).sum()
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
