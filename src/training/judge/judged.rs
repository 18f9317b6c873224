//! Examples beside what a model makes of them.

use super::metrics::Judged;
use crate::training::data::example::Example;

/// Probabilities beside what the images are.
pub(in crate::training) fn judged<'a>(
    examples: &'a [&'a Example],
    probabilities: &'a [Vec<f32>],
) -> Vec<Judged<'a>> {
    let pairs = examples.iter().zip(probabilities);
    pairs
        .map(|(example, probabilities)| Judged {
            truth: example.class(),
            probabilities,
            patient: &example.patient,
        })
        .collect()
}
