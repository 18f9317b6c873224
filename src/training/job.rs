//! One fine-tuning run as training sees it: what is asked, on which images, from which backbone.

use std::path::PathBuf;

use super::few_shot::{Candidate, TooFewImages, choose};
use crate::config::Limits;
use crate::domain::dataset::Version;
use crate::domain::forecast::Calibration;
use crate::domain::name::Name;
use crate::domain::patients::by_first_image;
use crate::domain::run::{Finetune, Provenance};
use crate::domain::{Backbone, ImageId, RunId, Sha256, Split};
use crate::inference::Runtime;

/// A labelled image of the frozen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The image.
    pub image: ImageId,
    /// Its stored original.
    pub blob: Sha256,
    /// Frame within the original.
    pub frame: u32,
    /// Index of its class in the version's labels.
    pub label: usize,
    /// Key of its patient.
    pub patient: String,
    /// The part of the version it belongs to.
    pub split: Split,
}

/// Everything that a fine-tuning run starts from.
#[derive(Debug)]
pub struct Job {
    /// The run.
    pub run: RunId,
    /// What is asked.
    pub spec: Finetune,
    /// What it takes to repeat it.
    pub provenance: Provenance,
    /// Name of the model to be published.
    pub name: Name,
    /// Name of the dataset.
    pub dataset: Name,
    /// The frozen version.
    pub version: Version,
    /// Its images, in an order that only their content decides.
    pub examples: Vec<Example>,
    /// The backbone.
    pub backbone: Backbone,
    /// Its weights.
    pub weights: PathBuf,
    /// Its ONNX file.
    pub onnx: PathBuf,
    /// ONNX Runtime.
    pub runtime: Runtime,
    /// Compute threads.
    pub threads: usize,
    /// Folder for temporary files.
    pub scratch: PathBuf,
    /// Limits of decoding and of the caches.
    pub limits: Limits,
    /// Memory that training may use, in bytes.
    pub memory_bytes: u64,
    /// What a step costs, where it was measured.
    pub calibration: Option<Calibration>,
}

impl Job {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.version.labels.len()
    }

    /// The examples of one split.
    pub fn of(&self, split: Split) -> Vec<&Example> {
        self.examples.iter().filter(|example| example.split == split).collect()
    }

    /// Whether there are images that epochs are validated by.
    pub fn is_validated(&self) -> bool {
        self.examples.iter().any(|example| example.split == Split::Validation)
    }

    /// What training draws from: a probe that chooses by cross-validation has no use for validation
    /// images but to learn from them.
    pub fn pool(&self) -> Vec<&Example> {
        let learns = |example: &&Example| self.spec.learns_from(example.split);
        self.examples.iter().filter(learns).collect()
    }

    /// The training examples that `shots` leaves of a repeat with this seed.
    pub fn shots(&self, seed: u64) -> Result<Vec<&Example>, TooFewImages> {
        let train = self.pool();
        let named = by_first_image(train.iter().map(|example| example.patient.as_str()));
        // Recipes without a head are of a time when patients were drawn by their keys.
        let by_content = self.spec.head.is_some();
        let candidates: Vec<Candidate<'_>> = train
            .iter()
            .zip(&named)
            .map(|(example, named)| Candidate {
                label: example.label,
                patient: if by_content { named } else { &example.patient },
            })
            .collect();
        let chosen = choose(&candidates, &self.version.labels, self.spec.shots, seed)?;
        Ok(chosen.into_iter().map(|at| train[at]).collect())
    }
}
