//! How a model was trained, beside what was asked: what a reader of its card has to know.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkpoint::Ended;
use super::head::HeadFacts;
use crate::domain::run::Method;

/// How a model was trained, beside what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recipe {
    /// A linear probe.
    Probe {
        /// Images it learnt from.
        training_images: usize,
        /// How its head was fitted.
        head: HeadFacts,
    },
    /// A network trained by gradients.
    Network(Network),
}

/// What batch normalisation went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Normalised {
    /// The pretrained statistics.
    Frozen,
    /// Those of each batch; the running ones followed.
    Batch,
    /// The network has none.
    Absent,
}

/// How a network was trained by gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) method: Method,
    /// How the head was fitted that training started from; none where it was random.
    #[serde(default)]
    pub(super) head: Option<HeadFacts>,
    pub(super) training_images: usize,
    pub(super) validation_images: usize,
    /// Numbers that were trained.
    pub(super) trained_parameters: u64,
    /// The epoch that was kept, from 1; 0 where training did not improve on its start.
    pub(super) epoch: u32,
    pub(super) epochs: u32,
    pub(super) steps: u64,
    pub(super) ended: Ended,
    /// What batch normalisation went by.
    pub(super) normalised: Normalised,
    /// Images computed at a time.
    pub(super) micro_batch: u32,
}

impl Network {
    /// What batch normalisation went by, as a clause that may be empty.
    pub(super) fn with_statistics(&self) -> &'static str {
        match self.normalised {
            Normalised::Frozen => ", with frozen normalisation statistics",
            Normalised::Batch => ", with the normalisation statistics of each batch",
            Normalised::Absent => "",
        }
    }

    /// Why the epochs ended, in words.
    pub(super) fn why_ended(&self) -> &'static str {
        match self.ended {
            Ended::AllEpochs => "all epochs were run",
            Ended::Patience => "the validation did not improve any more",
            Ended::TimeBudget => "the minutes allowed were used up",
        }
    }
}

impl Recipe {
    /// How the published head was fitted, where no training changed it.
    pub(super) fn head_as_published(&self) -> Option<&HeadFacts> {
        match self {
            Self::Probe { head, .. } => Some(head),
            Self::Network(network) => network.head.as_ref().filter(|_| network.epoch == 0),
        }
    }

    /// What a reader of the result must know of how it was made.
    pub(super) fn notices(&self) -> Vec<String> {
        let (head, network) = match self {
            Self::Probe { head, .. } => (Some(head), None),
            Self::Network(network) => (network.head.as_ref(), Some(network)),
        };
        let mut notices = head.map(|head| head.notices.clone()).unwrap_or_default();
        let chance =
            self.head_as_published().and_then(|head| head.auroc.filter(|area| *area <= 0.5));
        notices.extend(chance.map(|area| {
            format!(
                "Held out in turn, the training images were ranked no better than by guessing (AUROC \
                 {area:.2}): the model may have learnt nothing. More labelled images, or another backbone, \
                 could help."
            )
        }));
        if let Some(network) = network {
            if network.epoch == 0 && network.head.is_some() {
                notices.push(
                    "Training did not improve on its start by the validation images: the model is the head \
                     that a probe fits, on the backbone as it was."
                        .to_owned(),
                );
            }
            if network.validation_images == 0 {
                notices.push(
                    "No validation images told when to stop: the last epoch is published, and may have \
                     learnt by heart. Set some aside when freezing, or take the method probe."
                        .to_owned(),
                );
            }
        }
        notices
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Probe { training_images, head } => json!({
                "method": "probe", "training_images": training_images, "head": head,
            }),
            Self::Network(network) => json!({
                "method": network.method, "training_images": network.training_images,
                "validation_images": network.validation_images,
                "trained_parameters": network.trained_parameters,
                "epoch": network.epoch, "epochs": network.epochs, "steps": network.steps,
                "head": network.head, "ended": network.ended, "batch_norm_statistics": network.normalised,
                "micro_batch": network.micro_batch,
            }),
        }
    }
}
