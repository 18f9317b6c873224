//! One fine-tuning run as training sees it: what is asked, on which images, from which backbone.

use std::path::PathBuf;

use crate::domain::patients::by_first_image;
use crate::domain::run::Finetune;
use crate::domain::{Backbone, Split};
use crate::training::data::example::Example;
use crate::training::data::few_shot::{Candidate, TooFewImages, choose};
use crate::training::run::ground::Ground;

/// Everything that a fine-tuning run starts from.
#[derive(Debug)]
pub struct Job {
    /// The ground that every job has.
    pub ground: Ground,
    /// The recipe that is asked for.
    pub spec: Finetune,
    /// The images of the version, in an order that only their content decides.
    pub examples: Vec<Example>,
    /// The backbone.
    pub backbone: Backbone,
    /// Its weights.
    pub weights: PathBuf,
    /// Its ONNX file.
    pub onnx: PathBuf,
}

impl Job {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.ground.version.labels.len()
    }

    /// The examples of one split.
    pub fn of(&self, split: Split) -> Vec<&Example> {
        self.examples.iter().filter(|example| example.split == split).collect()
    }

    /// Whether there are images that epochs are validated by.
    pub fn is_validated(&self) -> bool {
        self.examples.iter().any(|example| example.split == Split::Validation)
    }

    /// The examples that training draws from: a probe that chooses by cross-validation has no use for
    /// validation images but to learn from them.
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
                target: example.target,
                patient: if by_content { named } else { &example.patient },
            })
            .collect();
        let chosen = choose(&candidates, &self.ground.version.labels, self.spec.shots, seed)?;
        Ok(chosen.into_iter().map(|at| train[at]).collect())
    }
}
