//! The values that PyTorch computed, and how far a tensor is from them.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde::Deserialize;

/// A tensor told by its shape, sum, norm and some values.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    shape: Vec<usize>,
    sum: f64,
    norm: f64,
    values: Vec<f64>,
}

impl Summary {
    /// Fails unless the tensor is this one to within `tolerance`: of the norm for the norm, of the
    /// typical value (norm over root of the count) for the values, and likewise for the sum.
    pub(super) fn assert_is(&self, what: &str, found: &Tensor, tolerance: f64) {
        assert_eq!(found.dims(), self.shape, "{what}");
        let flat = found.flatten_all().and_then(|flat| flat.to_dtype(DType::F64));
        let values = flat.and_then(|flat| flat.to_vec1::<f64>()).expect("values");
        let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let root = (values.len() as f64).sqrt();
        let step = (values.len() / self.values.len()).max(1);
        let close = |name: &str, found: f64, wanted: f64, scale: f64| {
            assert!(
                (found - wanted).abs() <= tolerance * scale,
                "{what}: {name} {found}, by PyTorch {wanted}; relative {:e}",
                (found - wanted).abs() / scale
            );
        };
        close("norm", norm, self.norm, self.norm);
        close("sum", values.iter().sum(), self.sum, self.norm * root);
        for (at, wanted) in self.values.iter().enumerate() {
            // A value may be much smaller than its neighbours, whose rounding it shares.
            close("value", values[at * step], *wanted, (self.norm / root).max(wanted.abs()));
        }
    }
}

/// A layer's output and the gradients of its inputs.
#[derive(Debug, Deserialize)]
pub(super) struct Layer {
    pub(super) out: Summary,
    pub(super) gradients: BTreeMap<String, Summary>,
}

/// A network's loss and gradients, and three steps with each optimiser.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    pub(super) pictures: Pictures,
    pub(super) embedding: Summary,
    pub(super) loss: f64,
    pub(super) gradients: BTreeMap<String, Summary>,
    pub(super) steps: BTreeMap<String, Steps>,
    pub(super) feature_map: Option<Summary>,
}

/// The name that pictures are drawn by, and their shape.
#[derive(Debug, Deserialize)]
pub(super) struct Pictures {
    pub(super) name: String,
    pub(super) shape: [usize; 4],
}

/// Losses before each of three steps, and the weights after them.
#[derive(Debug, Deserialize)]
pub(super) struct Steps {
    pub(super) losses: Vec<f64>,
    pub(super) weights: BTreeMap<String, Summary>,
}

/// A fixture by its name.
pub(super) fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    read_from("torch", name)
}

/// A fixture by its folder and name.
pub(super) fn read_from<T: serde::de::DeserializeOwned>(folder: &str, name: &str) -> T {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/fixtures");
    let path = std::path::Path::new(fixtures).join(folder).join(name).with_extension("json");
    let bytes = std::fs::read(&path).expect("the fixture is there");
    serde_json::from_slice(&bytes).expect("the fixture reads")
}
