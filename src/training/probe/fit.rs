//! Fits a head by the rule that a recipe names.

use super::head::{Observe, Probe, ProbeError, Sample};
use super::task::Task;
use super::{plain, tempered};
use crate::domain::HeadRule;
use crate::domain::patients::by_first_image;

/// Fits a head by `rule`; by none as recipes did that name no head. Folds are drawn from `seed`, by a
/// rule in an order that the images' content decides, as they are listed.
pub fn fit(
    samples: &[Sample<'_>],
    classes: usize,
    seed: u64,
    rule: Option<HeadRule>,
    observe: &mut Observe<'_>,
) -> Result<Probe, ProbeError> {
    let Some(rule) = rule else {
        return plain::fit(&Task::new(samples, classes, seed)?, observe);
    };
    let named = by_first_image(samples.iter().map(|sample| sample.patient));
    let named = samples.iter().zip(&named);
    let samples: Vec<Sample<'_>> =
        named.map(|(sample, patient)| Sample { patient, ..*sample }).collect();
    tempered::fit(&Task::new(&samples, classes, seed)?, rule, observe)
}
