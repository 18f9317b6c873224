//! The repeats of a run with other seeds: which one is published, and how far they lie apart.

use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use crate::domain::evaluation::Repeats;
use crate::domain::training::Selection;
use crate::nn::Tensors;
use crate::training::judge::metrics::{CannotJudge, Judged, Scorer};
use crate::training::judge::student::spread;

/// One repeat that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Repeat {
    pub(super) seed: u64,
    /// Its score on the validation images, higher is better; none where there are none.
    pub(super) score: Option<f64>,
    pub(super) recipe: Recipe,
    /// Class probabilities of the test images.
    pub(super) probabilities: Vec<Vec<f32>>,
}

/// The repeats that are done, and the model of the best.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) repeats: Vec<Repeat>,
    /// The number of the best of them, from 0.
    pub(super) best: usize,
    /// Backbone and head of the best; what training left as it was may be absent.
    #[serde(skip)]
    pub(super) kept: Tensors,
}

impl Done {
    /// Adds a repeat; its model is kept when it is the first or better than all before.
    pub(super) fn add(&mut self, repeat: Repeat, tensors: Tensors) {
        let before = self.repeats.get(self.best).map(|best| best.score);
        let is_better = match before {
            None => true,
            Some(before) => repeat.score > before,
        };
        if is_better {
            (self.best, self.kept) = (self.repeats.len(), tensors);
        }
        self.repeats.push(repeat);
    }

    /// The repeat that is published.
    pub(super) fn published(&self) -> Option<&Repeat> {
        self.repeats.get(self.best)
    }

    /// The summary of the repeats together, of a run with several.
    pub(super) fn summary(
        &self,
        judged: impl Fn(&Repeat) -> Result<Scorer, CannotJudge>,
    ) -> Result<Option<Repeats>, CannotJudge> {
        if self.repeats.len() < 2 {
            return Ok(None);
        }
        let (mut accuracy, mut balanced, mut auroc) = (Vec::new(), Vec::new(), Vec::new());
        for repeat in &self.repeats {
            let scores = judged(repeat)?.score(&vec![1; repeat.probabilities.len()]);
            accuracy.push(scores.accuracy);
            balanced.push(scores.balanced_accuracy);
            auroc.extend(scores.macro_auroc);
        }
        let all_defined = auroc.len() == self.repeats.len();
        Ok(Some(Repeats {
            seeds: self.repeats.iter().map(|repeat| repeat.seed).collect(),
            published: self.best as u32,
            accuracy: spread(accuracy),
            balanced_accuracy: spread(balanced),
            macro_auroc: all_defined.then(|| spread(auroc)),
        }))
    }
}

/// The score by which epochs and repeats are chosen, higher is better: of validation images whose
/// mean log loss is `loss`.
pub(super) fn score(
    select: Selection,
    loss: f64,
    judged: &[Judged<'_>],
    classes: usize,
) -> Result<f64, CannotJudge> {
    let scores = || Ok(Scorer::new(judged, classes)?.score(&vec![1; judged.len()]));
    Ok(match select {
        Selection::Loss => -loss,
        Selection::Accuracy => scores()?.accuracy,
        // Where validation images are all of one class there is no area; the loss says more.
        Selection::Auroc => scores()?.macro_auroc.unwrap_or(-loss),
    })
}

/// Mean of `-ln p` of the true class; a probability of 0 counts as the smallest number there is.
pub(super) fn log_loss(judged: &[Judged<'_>]) -> f64 {
    let of = |image: &Judged<'_>| {
        let p = image.probabilities.get(image.truth).copied().unwrap_or(0.0);
        -f64::from(p.max(f32::MIN_POSITIVE)).ln()
    };
    judged.iter().map(of).sum::<f64>() / judged.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{Done, Recipe, Repeat};
    use crate::nn::Tensors;
    use crate::training::judge::metrics::{Judged, Scorer};
    use crate::training::probe::head::HeadFacts;

    fn repeat(seed: u64, score: Option<f64>, right: bool) -> Repeat {
        let head = HeadFacts {
            rule: None,
            parts: Vec::new(),
            temperature: 1.0,
            folds: 0,
            loss: None,
            auroc: None,
            notices: Vec::new(),
        };
        let recipe = Recipe::Probe { training_images: 2, head };
        let probabilities = if right { [[0.9, 0.1], [0.2, 0.8]] } else { [[0.9, 0.1], [0.8, 0.2]] };
        Repeat { seed, score, recipe, probabilities: probabilities.map(Vec::from).to_vec() }
    }

    fn judged(repeat: &Repeat) -> Result<Scorer, super::CannotJudge> {
        let images: Vec<Judged<'_>> = repeat
            .probabilities
            .iter()
            .enumerate()
            .map(|(truth, probabilities)| Judged { truth, probabilities, patient: "p" })
            .collect();
        Scorer::new(&images, 2)
    }

    #[test]
    fn the_best_validation_is_published_and_the_first_where_there_is_none() {
        let mut scored = Done::default();
        for (seed, score) in [(1, 0.3), (2, 0.5), (3, 0.5), (4, 0.1)] {
            scored.add(repeat(seed, Some(score), true), Tensors::new());
        }
        let mut blind = Done::default();
        blind.add(repeat(7, None, false), Tensors::new());
        blind.add(repeat(8, None, true), Tensors::new());

        assert_eq!(scored.published().expect("one").seed, 2);
        assert_eq!(blind.published().expect("one").seed, 7);
        let summary = blind.summary(judged).expect("judged").expect("several");
        assert_eq!(summary.seeds, [7, 8]);
        assert_eq!(summary.accuracy.values, [0.5, 1.0]);
        assert!((summary.accuracy.mean - 0.75).abs() < 1e-12);
        assert!(summary.accuracy.low < 0.0, "two repeats say little: {summary:?}");
    }

    #[test]
    fn one_repeat_has_no_spread() {
        let mut alone = Done::default();
        alone.add(repeat(1, Some(0.1), true), Tensors::new());

        assert_eq!(alone.summary(judged), Ok(None));
    }
}
