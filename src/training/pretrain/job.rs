//! One pretraining run as training sees it: what is asked, on which pictures, from which weights.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::domain::backbone::Parity;
use crate::domain::dataset::Version;
use crate::domain::name::Name;
use crate::domain::pretrain::{Comparison, Pretrain};
use crate::domain::{Architecture, Backbone, Preprocessing, Sha256, Split};
use crate::nn::Tensors;
use crate::training::data::example::Example;
use crate::training::run::error::TrainingError;
use crate::training::run::ground::Ground;
use crate::training::run::packed::Packed;

/// Everything that a pretraining run starts from.
#[derive(Debug)]
pub struct Job {
    /// The ground that every job has. What a step costs is that of the network when all of it is
    /// trained.
    pub ground: Ground,
    /// The recipe that is asked for.
    pub spec: Pretrain,
    /// The images of the version, in an order that only their content decides. Labels are not looked
    /// at.
    pub pictures: Vec<Example>,
    /// The weights before the first step.
    pub start: Start,
    /// The way in which pictures enter the network.
    pub preprocessing: Preprocessing,
    /// The network.
    pub architecture: Architecture,
    /// The labelled images on which the backbone is judged before and after.
    pub gate: Option<Judge>,
}

/// The weights before the first step.
#[derive(Debug, Clone)]
pub enum Start {
    /// Those of a backbone.
    Backbone {
        /// The backbone.
        parent: Box<Backbone>,
        /// Its weights.
        weights: PathBuf,
    },
    /// Random ones, drawn from the run's seed.
    Random,
}

/// The labelled images of the gate.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The frozen version.
    pub version: Version,
    /// Name of its dataset.
    pub dataset: Name,
    /// Its images, in an order that only their content decides.
    pub examples: Vec<Example>,
}

/// The result of a finished run.
#[derive(Debug)]
pub struct Pretrained {
    /// The files: `model.safetensors` with the names of the released checkpoints, `model.onnx`
    /// without a head, `card.md`.
    pub files: Vec<Packed>,
    /// The tensors of the backbone.
    pub tensors: Tensors,
    /// The probe before and after, where there is a gate.
    pub comparison: Option<Comparison>,
    /// Whether the gate let it through; otherwise it is a candidate.
    pub published: bool,
    /// The closeness with which candle and ONNX Runtime agree on it.
    pub parity: Parity,
    /// The notices that people should have about it.
    pub notices: Vec<String>,
}

/// Pictures that pretraining is not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Of the test split of their own version.
    pub(super) test: usize,
    /// Others of the same file or the same patient as a test image of the gate.
    pub(super) judged: usize,
}

impl Job {
    /// The licence of the weights: the parent's.
    pub fn license(&self) -> &str {
        match &self.start {
            Start::Backbone { parent, .. } => &parent.license,
            Start::Random => {
                "trained on this server from random weights; no licence of others applies"
            }
        }
    }

    /// The pictures that are learnt from, and how many are not: those of a test split stay unseen,
    /// and so does whatever shows a patient whom the gate tests.
    pub(super) fn shown(&self) -> (Vec<&Example>, LeftOut) {
        let judges = self.gate.iter().flat_map(|judge| &judge.examples);
        let judges: Vec<&Example> = judges.filter(|image| image.split == Split::Test).collect();
        let judged: BTreeSet<Sha256> = judges.iter().map(|image| image.blob).collect();
        let patients: BTreeSet<&str> = judges.iter().map(|image| image.patient.as_str()).collect();
        let mut left_out = LeftOut::default();
        let mut shown = Vec::with_capacity(self.pictures.len());
        for picture in &self.pictures {
            if picture.split == Split::Test {
                left_out.test += 1;
            } else if judged.contains(&picture.blob) || patients.contains(picture.patient.as_str())
            {
                left_out.judged += 1;
            } else {
                shown.push(picture);
            }
        }
        (shown, left_out)
    }

    /// Side of the two views in pixels.
    pub(super) fn side(&self) -> u32 {
        self.spec.side(self.preprocessing.size)
    }

    /// The shorter side that pictures are kept with: enough for the smallest crops not to be
    /// enlarged, as far as that takes no more than twice the side of the views.
    pub(super) fn detail(&self) -> u32 {
        let views = &self.spec.views;
        let needed = |side: u32, area: f64| f64::from(side) / area.max(1e-3).sqrt();
        let small = if views.small_crops > 0 {
            needed(views.small_size, views.small_min_area)
        } else {
            0.0
        };
        let most = f64::from(2 * self.side().max(views.small_size));
        needed(self.side(), views.min_area).max(small).min(most).ceil() as u32
    }

    /// Refuses to go on where `images` are not enough for a batch.
    pub(super) fn has_enough(&self, images: usize) -> Result<(), TrainingError> {
        let batch_size = self.spec.learning.batch_size;
        if images < 2 || images < batch_size as usize {
            return Err(TrainingError::TooFewToPretrain { images, batch_size });
        }
        Ok(())
    }

    /// Refuses to go on where a batch does not fit into the memory, as far as its cost is known.
    pub(super) fn has_room(&self) -> Result<(), TrainingError> {
        if let Some(step) = &self.ground.calibration {
            let network = (self.architecture, self.preprocessing.size);
            self.spec.fits(network, step, self.ground.memory_bytes)?;
        }
        Ok(())
    }
}
