//! Importing a backbone: a stranger's checkpoint becomes stored weights, an ONNX file and a row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256 as Hasher};

use crate::domain::backbone::{BadPreprocessing, Origin, Parity};
use crate::domain::name::Name;
use crate::domain::{Architecture, Backbone, BackboneId, Preprocessing, Sha256};
use crate::inference::{InferenceError, Runtime};
use crate::nn::weights::{self, Imported, ReadOptions, WeightsError};
use crate::nn::{self, Encoder, Params, Tensors};
use crate::onnx::{Export, OnnxError, export};
use crate::store::{Store, StoreError, backbones};

/// The largest relative difference between candle and ONNX Runtime that an import accepts.
const PARITY_BOUND: f64 = 1e-3;
/// Pictures of the parity check.
const PARITY_IMAGES: usize = 2;
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
    /// candle and ONNX Runtime disagree on these weights.
    #[error(
        "candle and ONNX Runtime differ by {found:.2e} relative on these weights; the bound is \
         {bound:.0e}"
    )]
    Parity {
        /// The difference found.
        found: f64,
        /// The bound.
        bound: f64,
    },
    /// The graph could not be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The graph could not be run.
    #[error(transparent)]
    Inference(#[from] InferenceError),
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
            let parity = check_parity(&imported, &onnx, size, &runtime, &scratch, threads)?;
            Ok(Made { imported, weights, onnx, source, parity })
        };
        let made = tokio::task::spawn_blocking(move || nn::with_threads(threads, work)).await;
        let made = made.map_err(|error| ImportError::Failed(error.to_string()))?;
        made.map_err(|error| ImportError::Failed(error.to_string()))?
    }
}

/// Runs two random pictures through candle and through ONNX Runtime.
fn check_parity(
    imported: &Imported,
    onnx: &[u8],
    size: u32,
    runtime: &Runtime,
    scratch: &Path,
    threads: usize,
) -> Result<Parity, ImportError> {
    let side = size as usize;
    let mut random = StdRng::seed_from_u64(0);
    let count = PARITY_IMAGES * 3 * side * side;
    let input: Vec<f32> = (0..count).map(|_| random.random_range(-2.0..2.0)).collect();
    let ours = candle_features(imported.architecture, &imported.tensors, &input, side)
        .map_err(WeightsError::Tensor)?;
    let file = tempfile::NamedTempFile::new_in(scratch).map_err(StoreError::from)?;
    std::fs::write(file.path(), onnx).map_err(StoreError::from)?;
    let mut network = runtime.open(file.path(), threads)?;
    let embedding = network.run(&input, PARITY_IMAGES)?.embedding;
    let theirs = [embedding, network.feature_map(&input, PARITY_IMAGES)?];
    let each = ours.iter().zip(&theirs).map(|(ours, theirs)| difference(ours, theirs));
    let found = each.fold(0.0, f64::max);
    if found <= PARITY_BOUND {
        Ok(Parity { max_relative_difference: found, bound: PARITY_BOUND })
    } else {
        Err(ImportError::Parity { found, bound: PARITY_BOUND })
    }
}

/// The largest difference over the largest value; infinite when it cannot be told.
fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let largest = ours.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let pairs = ours.iter().zip(theirs);
    let most = pairs.clone().fold(0.0_f32, |most, (one, other)| most.max((one - other).abs()));
    // `max` passes over what is not a number.
    let is_told = ours.len() == theirs.len() && pairs.into_iter().all(|(a, b)| (a - b).is_finite());
    if is_told { f64::from(most) / f64::from(largest) } else { f64::INFINITY }
}

/// The embedding and the last feature map.
fn candle_features(
    architecture: Architecture,
    tensors: &Tensors,
    input: &[f32],
    side: usize,
) -> candle_core::Result<[Vec<f32>; 2]> {
    let params = Params::new(tensors, DType::F32, &Device::Cpu)?;
    let network = Encoder::new(architecture, &params)?;
    let input = Tensor::from_slice(input, (PARITY_IMAGES, 3, side, side), &Device::Cpu)?;
    let features = network.infer(&input)?;
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    Ok([flat(&features.embedding)?, flat(&features.feature_map)?])
}

/// Weights that training would move: running statistics are not counted.
fn trained(tensors: &Tensors) -> u64 {
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
