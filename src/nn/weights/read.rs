//! Checkpoints of strangers into exactly the tensors of an architecture, without running code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::panic::catch_unwind;
use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};

use super::WeightsError;
use super::safetensors::load;
use crate::nn::backbone::architecture::Architecture;
use crate::nn::tape::params::Tensors;
use crate::nn::trace::brief;

/// Wrappers that training scripts put in front of names.
const PREFIXES: [&str; 7] =
    ["module.", "backbone.", "encoder.", "image_encoder.", "model.", "state_dict.", "resnet."];
/// Keys under which checkpoints keep their weights.
const KEYS: [&str; 4] = ["state_dict", "model", "model_state_dict", "encoder"];
/// Names shown of a file that fits nothing.
const NAMES_SHOWN: usize = 5;

/// The options for reading a checkpoint.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct ReadOptions {
    /// The architecture; found from the tensors when absent.
    pub architecture: Option<Architecture>,
    /// Sums 3-D kernels `[O, I, D, H, W]` over their depth: the 2-D network then answers as the 3-D
    /// one does on input that is constant along its depth, borders apart.
    pub collapse_depth: bool,
}

/// Weights of a known architecture.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The architecture.
    pub architecture: Architecture,
    /// Exactly its tensors, 32-bit.
    pub tensors: Tensors,
    /// The notices of what was left out or changed.
    pub notices: Vec<String>,
}

/// Reads a checkpoint: safetensors or a torch zip file, by content.
pub fn read(path: &Path, options: ReadOptions) -> Result<Imported, WeightsError> {
    let raw = match kind(path)? {
        Kind::Safetensors => load(path)?,
        Kind::TorchZip => torch_zip(path)?,
    };
    let mut notices = Vec::new();
    let tensors = strip_prefixes(raw, &mut notices);
    let tensors = drop_ignored(tensors, &mut notices);
    let tensors =
        if options.collapse_depth { collapse_depth(tensors, &mut notices)? } else { tensors };
    let architecture = match options.architecture {
        Some(architecture) => architecture,
        None => detect(&tensors)?,
    };
    let (tensors, told) = architecture.family().adopt(tensors)?;
    notices.extend(told);
    compare(architecture, &tensors)?;
    let mut exact = Tensors::new();
    for (name, tensor) in tensors {
        let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
        let sum = tensor.abs()?.sum_all()?.to_scalar::<f32>()?;
        if !sum.is_finite() {
            return Err(WeightsError::NonFinite(name));
        }
        exact.insert(name, tensor);
    }
    Ok(Imported { architecture, tensors: exact, notices })
}

enum Kind {
    Safetensors,
    TorchZip,
}

fn kind(path: &Path) -> Result<Kind, WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(16).read_to_end(&mut start).map_err(failed)?;
    if start.starts_with(b"PK\x03\x04") {
        Ok(Kind::TorchZip)
    } else if start.get(8) == Some(&b'{') && start.len() == 16 {
        Ok(Kind::Safetensors)
    } else if start.first() == Some(&0x80) && start.get(1).is_some_and(|protocol| *protocol <= 5) {
        Err(WeightsError::LegacyPickle)
    } else {
        Err(WeightsError::NotACheckpoint)
    }
}

/// Reads a torch zip file by candle's interpreter, which knows tensors and nothing else. It takes
/// the arguments that torch.save writes for granted and panics on fewer.
fn torch_zip(path: &Path) -> Result<Tensors, WeightsError> {
    let what = "it describes its tensors in another way than torch.save does";
    catch_unwind(|| interpret(path)).unwrap_or(Err(WeightsError::Unreadable(what.to_owned())))
}

fn interpret(path: &Path) -> Result<Tensors, WeightsError> {
    let unreadable =
        |error: candle_core::Error| WeightsError::Unreadable(brief(&error.to_string()));
    let mut file = PthTensors::new(path, None).map_err(unreadable)?;
    for key in KEYS {
        if !file.tensor_infos().is_empty() {
            break;
        }
        if let Ok(nested) = PthTensors::new(path, Some(key)) {
            file = nested;
        }
    }
    if file.tensor_infos().is_empty() {
        return Err(WeightsError::NotACheckpoint);
    }
    check_sizes(path, &file)?;
    let names: BTreeSet<String> = file.tensor_infos().keys().cloned().collect();
    let mut tensors = Tensors::new();
    for name in names {
        if let Some(tensor) = file.get(&name).map_err(unreadable)? {
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// Storages are never packed: what needs more bytes than the file has was made to exhaust memory.
fn check_sizes(path: &Path, file: &PthTensors) -> Result<(), WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    let room = path.metadata().map_err(failed)?.len();
    let needed = file.tensor_infos().values().try_fold(0_u64, |sum, tensor| {
        let width = tensor.dtype.size_in_bytes() as u64;
        let bytes = tensor
            .layout
            .dims()
            .iter()
            .try_fold(width, |bytes, dimension| bytes.checked_mul(*dimension as u64))?;
        sum.checked_add(bytes)
    });
    if needed.is_some_and(|needed| needed <= room) {
        return Ok(());
    }
    let what = "its tensors take more bytes than the file has";
    Err(WeightsError::Unreadable(what.to_owned()))
}

/// Strips wrappers as long as every tensor that counts carries the same one. A checkpoint that also
/// holds other networks (a decoder, a projector) keeps those under their names, to be listed.
fn strip_prefixes(mut tensors: Tensors, notices: &mut Vec<String>) -> Tensors {
    loop {
        let carries = |prefix: &str| {
            let mut counted = tensors.keys().filter(|name| !is_ignored(name)).peekable();
            counted.peek().is_some() && counted.all(|name| name.starts_with(prefix))
        };
        let Some(prefix) = PREFIXES.into_iter().find(|prefix| carries(prefix)) else {
            return tensors;
        };
        notices.push(format!("stripped the prefix `{prefix}` from the names"));
        tensors = tensors
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix(prefix) {
                Some(rest) => (rest.to_owned(), tensor),
                None => (name, tensor),
            })
            .collect();
    }
}

/// The name without the wrappers that come first.
fn bare(name: &str) -> &str {
    PREFIXES.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
}

/// Whether no network has a tensor of this name: a classifier's, or a counter.
fn is_dropped(bare: &str) -> bool {
    bare.starts_with("fc.") || bare.ends_with("num_batches_tracked")
}

fn is_ignored(name: &str) -> bool {
    let bare = bare(name);
    is_dropped(bare) || Architecture::all().iter().any(|known| known.family().ignores(bare))
}

fn drop_ignored(tensors: Tensors, notices: &mut Vec<String>) -> Tensors {
    let (dropped, kept): (Tensors, Tensors) =
        tensors.into_iter().partition(|(name, _)| is_dropped(bare(name)));
    let classifier: Vec<&str> =
        dropped.keys().filter(|name| name.contains("fc.")).map(String::as_str).collect();
    if !classifier.is_empty() {
        notices.push(format!("dropped the classifier: {}", classifier.join(", ")));
    }
    let counters = dropped.keys().filter(|name| name.ends_with("num_batches_tracked")).count();
    if counters > 0 {
        notices.push(format!("dropped {counters} batch counters (num_batches_tracked)"));
    }
    kept
}

fn collapse_depth(tensors: Tensors, notices: &mut Vec<String>) -> Result<Tensors, WeightsError> {
    let mut collapsed = 0;
    let mut flat = |(name, tensor): (String, Tensor)| -> Result<(String, Tensor), WeightsError> {
        if tensor.rank() != 5 {
            return Ok((name, tensor));
        }
        collapsed += 1;
        Ok((name, tensor.to_dtype(DType::F32)?.sum(2)?))
    };
    let tensors = tensors.into_iter().map(&mut flat).collect::<Result<Tensors, _>>()?;
    notices.push(format!("summed {collapsed} 3-D kernels over their depth"));
    Ok(tensors)
}

/// The architecture whose names these are.
fn detect(tensors: &Tensors) -> Result<Architecture, WeightsError> {
    let mut best: Option<(f64, Architecture)> = None;
    for architecture in Architecture::all().iter().copied() {
        let overlap = overlap(architecture, tensors);
        if best.is_none_or(|(most, _)| overlap >= most) {
            best = Some((overlap, architecture));
        }
    }
    match best {
        Some((overlap, architecture)) if overlap > 0.5 => Ok(architecture),
        _ => Err(WeightsError::UnknownArchitecture {
            count: tensors.len(),
            sample: tensors.keys().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// The tensors that an architecture and a checkpoint share, over all that either has: a larger network
/// contains a smaller one's names.
fn overlap(architecture: Architecture, tensors: &Tensors) -> f64 {
    // What a family cannot even rename is not its own.
    let Ok((found, _)) = architecture.family().adopt(tensors.clone()) else { return 0.0 };
    let shapes = architecture.tensors();
    let shared = shapes.iter().filter(|(name, shape)| {
        found.get(*name).is_some_and(|tensor| tensor.dims() == shape.as_slice())
    });
    let shared = shared.count();
    shared as f64 / (shapes.len() + found.len() - shared) as f64
}

fn compare(architecture: Architecture, tensors: &Tensors) -> Result<(), WeightsError> {
    let shapes: BTreeMap<String, Vec<usize>> = architecture.tensors();
    let missing: Vec<String> =
        shapes.keys().filter(|name| !tensors.contains_key(*name)).cloned().collect();
    let unexpected: Vec<String> =
        tensors.keys().filter(|name| !shapes.contains_key(*name)).cloned().collect();
    let wrong_shape: Vec<_> = shapes
        .iter()
        .filter_map(|(name, shape)| {
            let found = tensors.get(name)?.dims();
            (found != shape.as_slice()).then(|| (name.clone(), shape.clone(), found.to_vec()))
        })
        .collect();
    if missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty() {
        return Ok(());
    }
    let only_deep = missing.is_empty() && unexpected.is_empty();
    let kernels = wrong_shape.len();
    let deep = only_deep && wrong_shape.iter().all(|(_, flat, found)| is_deep(flat, found));
    let architecture = architecture.to_string();
    if deep {
        return Err(WeightsError::HasDepth { architecture, kernels });
    }
    Err(WeightsError::Mismatch { architecture, missing, unexpected, wrong_shape })
}

/// Whether a shape is that of a kernel `[O, I, H, W]` with a depth before its height.
fn is_deep(flat: &[usize], found: &[usize]) -> bool {
    match (flat, found) {
        ([o, i, h, w], [other_o, other_i, _, other_h, other_w]) => {
            [o, i, h, w] == [other_o, other_i, other_h, other_w]
        }
        _ => false,
    }
}
