//! A recording of what training computes, for work on its code that must change no number.
//!
//! Numbers depend on the processor, so that none are committed: record before the work and compare after
//! it on one machine, as CONTRIBUTING says.

use std::collections::BTreeMap;
use std::path::Path;

use lvmed::domain::Sha256;
use lvmed::nn::weights;
use serde_json::{Value, json};

/// Steps of which the losses are kept.
const STEPS: usize = 20;

/// Writes the first losses of a run and a digest of its published weights into the folder that
/// `LVMED_RECORDED` names, or holds them to what is there.
pub(crate) fn hold(name: &str, losses: &BTreeMap<u64, f64>, published: &[u8]) {
    let folder = std::env::var_os("LVMED_RECORDED").expect("LVMED_RECORDED names a folder");
    let file = Path::new(&folder).join(format!("{name}.json"));
    let losses: Vec<f64> = losses.values().copied().take(STEPS).collect();
    assert!(!losses.is_empty(), "{name} has no losses");
    let found = json!({"losses": losses, "weights": digest(published)});
    if file.exists() {
        let recorded = std::fs::read(&file).expect("a recording reads");
        let recorded: Value = serde_json::from_slice(&recorded).expect("JSON");
        assert_eq!(found, recorded, "{name} is not what was recorded");
    } else {
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(file, found.to_string()).expect("written");
    }
}

/// Of the values of all tensors in the order of their names, whatever else the file says.
fn digest(published: &[u8]) -> String {
    let tensors = weights::load_bytes(published).expect("weights");
    let sorted: BTreeMap<_, _> = tensors.iter().collect();
    let mut bytes = Vec::new();
    for (name, tensor) in sorted {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values");
        bytes.extend_from_slice(format!("{name} {:?} ", tensor.dims()).as_bytes());
        bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    Sha256::of(&bytes).to_string()
}
