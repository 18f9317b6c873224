//! The outcome of a run in its JSON: tagged by kind, and beside that in the fields of before.

use serde::{Serialize, Serializer};

use super::outcome::Outcome;
use super::replay::Replayed;
use crate::domain::pretrain::Comparison;
use crate::domain::results::evaluation::Evaluation;
use crate::domain::words::ids::{BackboneId, ModelId};

/// The outcome of a run, whole and in parts.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = RunOutcome)]
pub(super) struct Shown {
    /// What the run found and published, once it has succeeded.
    outcome: Option<Outcome>,
    /// The evaluation on the test split, once finished; also in `outcome`.
    evaluation: Option<Evaluation>,
    /// What it found, once a replay has finished; also in `outcome`.
    replayed: Option<Replayed>,
    /// The model that it published, once finished; also in `outcome`.
    model: Option<ModelId>,
    /// The backbone that it published, once pretraining has finished; also in `outcome`.
    backbone: Option<BackboneId>,
    /// The frozen probe before and after pretraining, where the run was asked to judge it; also in
    /// `outcome`.
    comparison: Option<Comparison>,
}

impl Shown {
    fn of(outcome: &Outcome) -> Self {
        let shown = Self { outcome: Some(outcome.clone()), ..Self::default() };
        match outcome {
            Outcome::Finetune { evaluation, model } => {
                Self { evaluation: Some(evaluation.as_ref().clone()), model: *model, ..shown }
            }
            Outcome::Pretrain { backbone, comparison } => {
                Self { backbone: *backbone, comparison: comparison.clone(), ..shown }
            }
            Outcome::Replay { replayed } => Self { replayed: Some(replayed.clone()), ..shown },
        }
    }
}

/// Writes the outcome of a run among the run's own fields.
#[expect(clippy::ref_option, reason = "serde hands a field over like this")]
pub(super) fn serialize<S: Serializer>(
    outcome: &Option<Outcome>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    outcome.as_ref().map_or_else(Shown::default, Shown::of).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Replayed, Shown};

    #[test]
    fn an_outcome_is_shown_tagged_and_in_the_field_of_before() {
        let replayed = Replayed { compared: 4, equal: true, first_difference: None };
        let shown = Shown::of(&Outcome::Replay { replayed });

        let json = serde_json::to_value(shown).expect("JSON");

        assert_eq!(json["outcome"]["kind"], "replay");
        assert_eq!(json["outcome"]["replayed"], json["replayed"]);
        assert_eq!(json["replayed"]["compared"], 4);
        for absent in ["evaluation", "model", "backbone", "comparison"] {
            assert!(json.as_object().is_some_and(|fields| fields.contains_key(absent)), "{absent}");
            assert!(json[absent].is_null(), "{absent}");
        }
    }
}
