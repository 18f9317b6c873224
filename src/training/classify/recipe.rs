//! The training of a model as it was done, beside what was asked: what a reader of its card has to
//! know.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::run::Method;
use crate::training::cycle::Ended;
use crate::training::probe::head::HeadFacts;

/// The training of a model as it was done, beside what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recipe {
    /// A linear probe.
    Probe {
        /// Images it learnt from.
        training_images: usize,
        /// The facts on how its head was fitted.
        head: HeadFacts,
    },
    /// A network trained by gradients.
    Network(Network),
}

/// The statistics that batch normalisation went by.
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

/// The facts of a training by gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) method: Method,
    /// The facts on the fit of the head that training started from; none where it was random.
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
    /// The statistics that batch normalisation went by.
    pub(super) normalised: Normalised,
    /// Images computed at a time.
    pub(super) micro_batch: u32,
}

impl Network {
    /// The statistics that batch normalisation went by, as a clause that may be empty.
    pub(super) fn with_statistics(&self) -> &'static str {
        match self.normalised {
            Normalised::Frozen => ", with frozen normalisation statistics",
            Normalised::Batch => ", with the normalisation statistics of each batch",
            Normalised::Absent => "",
        }
    }

    /// The reason why the epochs ended, in words.
    pub(super) fn why_ended(&self) -> &'static str {
        match self.ended {
            Ended::AllEpochs => "all epochs were run",
            Ended::Patience => "the validation did not improve any more",
            Ended::TimeBudget => "the minutes allowed were used up",
        }
    }
}

impl Recipe {
    /// The facts on the fit of the published head, where no training changed it.
    pub(super) fn head_as_published(&self) -> Option<&HeadFacts> {
        match self {
            Self::Probe { head, .. } => Some(head),
            Self::Network(network) => network.head.as_ref().filter(|_| network.epoch == 0),
        }
    }

    /// The notices that a reader of the result must have of how it was made.
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

#[cfg(test)]
mod tests {
    use super::{Network, Normalised, Recipe};
    use crate::domain::HeadRule;
    use crate::domain::run::Method;
    use crate::training::cycle::Ended;
    use crate::training::probe::head::HeadFacts;

    fn head(auroc: Option<f64>) -> HeadFacts {
        HeadFacts {
            rule: Some(HeadRule::Auto),
            parts: Vec::new(),
            temperature: 1.0,
            folds: 5,
            loss: None,
            auroc,
            notices: vec!["of the head".to_owned()],
        }
    }

    fn network(epoch: u32, validation_images: usize, auroc: f64) -> Recipe {
        Recipe::Network(Network {
            method: Method::Last,
            head: Some(head(Some(auroc))),
            training_images: 10,
            validation_images,
            trained_parameters: 1,
            epoch,
            epochs: 3,
            steps: 3,
            ended: Ended::AllEpochs,
            normalised: Normalised::Absent,
            micro_batch: 2,
        })
    }

    fn told(recipe: &Recipe, words: &str) -> bool {
        let notices = recipe.notices();
        assert!(notices.contains(&"of the head".to_owned()), "{notices:?}");
        notices.iter().any(|notice| notice.contains(words))
    }

    #[test]
    fn a_head_that_ranks_held_out_images_no_better_than_chance_is_told() {
        let of = |auroc| Recipe::Probe { training_images: 10, head: head(auroc) };

        assert!(told(&of(Some(0.5)), "(AUROC 0.50)"));
        assert!(!told(&of(Some(0.51)), "guessing"));
        assert!(!told(&of(None), "guessing"));
        // A network that was trained is another than the head that it began with.
        assert!(told(&network(0, 4, 0.4), "guessing") && !told(&network(1, 4, 0.4), "guessing"));
    }

    #[test]
    fn training_that_kept_its_start_or_that_nothing_validated_is_told() {
        let (kept, blind) = ("did not improve on its start", "No validation images");

        assert!(told(&network(0, 4, 0.9), kept) && !told(&network(0, 4, 0.9), blind));
        assert!(told(&network(2, 0, 0.9), blind) && !told(&network(2, 0, 0.9), kept));
        assert_eq!(network(2, 4, 0.9).notices(), ["of the head"]);
    }
}
