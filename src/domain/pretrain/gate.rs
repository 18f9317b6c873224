//! The gate: a frozen probe on labelled images, before and after pretraining.

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::training::{BadSetting, outside};
use crate::domain::words::ids::VersionId;

/// A labelled dataset version on which the backbone is judged by a frozen probe, before and after;
/// a backbone that is worse stays a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The labelled version. The probe learns from its training images and is judged on its test
    /// images. Pretraining is never shown those, nor other images of the same patients.
    pub dataset_version: VersionId,
    /// Numbers of training images per class that the probe learns from in turn, each from 1 to 1000000:
    /// a verdict at one may be another at the next. 5, 20 and all of them when absent, as far as each
    /// class has more. A single number is read as a list of it.
    #[serde(default, deserialize_with = "one_or_several")]
    #[schema(min_items = 1, max_items = 5)]
    pub shots: Option<Vec<u32>>,
    /// How often the probe is trained with each number of images, each time on others. With all images
    /// and several repeats each leaves out a fifth of every class's patients.
    #[serde(default = "Gate::five")]
    #[schema(minimum = 1, maximum = 100, default = 5)]
    pub repeats: u32,
    /// Epochs between two probes during the run; only before and after when absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub every: Option<u32>,
}

impl Gate {
    /// Numbers of images per class that are tried where a recipe names none, beside all of them.
    const USUAL: [u32; 2] = [5, 20];
    /// Numbers of images that one gate tries at most.
    const MOST: usize = 5;

    /// The numbers of training images per class that the probe learns from in turn, where the smallest
    /// class has `smallest`; none stands for all of them.
    pub fn counts(&self, smallest: u64) -> Vec<Option<u32>> {
        match &self.shots {
            Some(shots) => shots.iter().copied().map(Some).collect(),
            None => {
                // Of all images several repeats leave out a fifth.
                let all = if self.repeats > 1 { smallest * 4 / 5 } else { smallest };
                let usual = Self::USUAL.into_iter().filter(|shots| u64::from(*shots) < all);
                usual.map(Some).chain([None]).collect()
            }
        }
    }

    fn five() -> u32 {
        5
    }

    pub(super) fn validate(&self) -> Vec<BadSetting> {
        let whole = |number: Option<u32>| number.map_or(1.0, f64::from);
        let mut wrong = outside(&[
            ("/gate/repeats", f64::from(self.repeats), 1.0, 100.0, "1 to 100"),
            ("/gate/every", whole(self.every), 1.0, 1000.0, "1 to 1000"),
        ]);
        let shots = self.shots.as_deref().unwrap_or_default();
        for number in shots {
            let number = f64::from(*number);
            wrong.extend(outside(&[("/gate/shots", number, 1.0, 1e6, "1 to 1000000")]));
        }
        let is_repeated = shots.iter().enumerate().any(|(at, number)| shots[..at].contains(number));
        let is_empty = self.shots.is_some() && shots.is_empty();
        if is_empty || is_repeated || shots.len() > Self::MOST {
            let detail = format!(
                "give one to {} different numbers of images per class, or leave `shots` out",
                Self::MOST
            );
            wrong.push(BadSetting::DoesNotFit { pointer: "/gate/shots".to_owned(), detail });
        }
        wrong
    }
}

/// A list, or what recipes of former versions have: one number.
fn one_or_several<'de, D: Deserializer<'de>>(shots: D) -> Result<Option<Vec<u32>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a number of images per class, or a list of such numbers"
    )]
    enum Read {
        One(u32),
        Several(Vec<u32>),
    }
    let read = Option::<Read>::deserialize(shots)?;
    Ok(read.map(|read| match read {
        Read::One(number) => vec![number],
        Read::Several(numbers) => numbers,
    }))
}

#[cfg(test)]
mod tests {
    use super::Gate;

    fn gate(shots: &str) -> Gate {
        let text = format!(
            r#"{{"dataset_version": "01890000-0000-7000-8000-000000000001", "shots": {shots}}}"#
        );
        serde_json::from_str(&text).expect("a gate")
    }

    #[test]
    fn a_gate_that_names_no_shots_tries_what_each_class_has_more_of_and_all() {
        assert_eq!(gate("null").counts(50), [Some(5), Some(20), None]);
        assert_eq!(gate("null").counts(25), [Some(5), None], "all but a fifth are 20");
        assert_eq!(gate("null").counts(6), [None]);
        assert_eq!(gate("null").counts(4), [None]);
        assert_eq!(gate("7").counts(4), [Some(7)]);
        assert_eq!(gate("[3, 9]").counts(50), [Some(3), Some(9)]);
    }

    #[test]
    fn shots_are_a_few_different_numbers() {
        for good in ["null", "1", "[1, 2, 3, 4, 5]"] {
            assert_eq!(gate(good).validate(), [], "{good}");
        }
        for bad in ["0", "[]", "[5, 5]", "[5, 0]", "[1, 2, 3, 4, 5, 6]", "1000001"] {
            let wrong = gate(bad).validate();
            assert!(wrong.iter().all(|found| found.pointer() == "/gate/shots"), "{bad}: {wrong:?}");
            assert!(!wrong.is_empty(), "{bad}");
        }
        let absent = r#"{"dataset_version": "01890000-0000-7000-8000-000000000001"}"#;
        assert_eq!(serde_json::from_str::<Gate>(absent).expect("a gate"), gate("null"));
        assert!(
            serde_json::from_str::<Gate>(&absent.replace('}', r#", "shots": "all"}"#)).is_err()
        );
    }
}
