//! Resampling of patients: images of one patient are alike, so patients are the units.
//!
//! As many patients of each class as there are, drawn with replacement, each with all their images
//! (Davison & Hinkley, Bootstrap Methods and their Application, §3.2 and §3.8): a draw has the classes
//! that the test split has. Where a class has one patient, who would be in every draw as if nothing else
//! could have come, patients are drawn whatever their class.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::metrics::{Judged, Scorer, Scores};

/// Bootstrap resamples behind every interval of a run.
pub(in crate::training) const RESAMPLES: u32 = 1000;

/// The patients of judged images, by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patients {
    /// The patient of each image, below `count`.
    of_image: Vec<usize>,
    /// The groups that are drawn within: the patients of a class, by the class that most of a
    /// patient's images have (the first of equals), or all together.
    strata: Vec<Vec<usize>>,
    /// Patients of the class that has the fewest.
    fewest: usize,
    count: usize,
}

impl Patients {
    /// The patients of judged images, in the order of their keys.
    pub fn of(judged: &[Judged<'_>]) -> Self {
        let mut by_key: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
        for image in judged {
            *by_key.entry(image.patient).or_default().entry(image.truth).or_default() += 1;
        }
        let places: BTreeMap<&str, usize> = by_key.keys().copied().zip(0..).collect();
        let mut strata: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (patient, counts) in by_key.values().enumerate() {
            let most = counts.iter().max_by_key(|(class, count)| (**count, usize::MAX - **class));
            strata.entry(most.map_or(0, |(class, _)| *class)).or_default().push(patient);
        }
        let fewest = strata.values().map(Vec::len).min().unwrap_or(0);
        let strata: Vec<Vec<usize>> = if fewest < 2 {
            vec![(0..by_key.len()).collect()]
        } else {
            strata.into_values().collect()
        };
        Self {
            of_image: judged
                .iter()
                .filter_map(|image| places.get(image.patient).copied())
                .collect(),
            strata,
            fewest,
            count: by_key.len(),
        }
    }

    /// The number of patients.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Patients of the class that has the fewest.
    pub fn fewest(&self) -> usize {
        self.fewest
    }

    /// The number of times that each image counts when each patient counts so often.
    fn weights(&self, of_patient: &[u32]) -> Vec<u32> {
        self.of_image.iter().map(|patient| of_patient[*patient]).collect()
    }
}

/// Scores of `resamples` draws of patients.
///
/// Draws run side by side on the current rayon pool. Each has a generator of its own, seeded from
/// `seed` and its number, so that the scores do not depend on the number of threads, nor on the
/// order of the images.
pub fn resample(scorer: &Scorer, patients: &Patients, resamples: u32, seed: u64) -> Vec<Scores> {
    let mut seeds = StdRng::seed_from_u64(seed);
    let seeds: Vec<u64> = (0..resamples).map(|_| seeds.random()).collect();
    seeds
        .into_par_iter()
        .map(|seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut drawn = vec![0_u32; patients.count];
            for stratum in &patients.strata {
                for _ in stratum {
                    drawn[stratum[rng.random_range(0..stratum.len())]] += 1;
                }
            }
            scorer.score(&patients.weights(&drawn))
        })
        .collect()
}

/// Scores without each patient in turn, class by class; a class's only patient is never left out.
pub fn leave_one_out(scorer: &Scorer, patients: &Patients) -> Vec<Vec<Scores>> {
    let without = |left_out: &usize| {
        let mut counts = vec![1; patients.count];
        counts[*left_out] = 0;
        scorer.score(&patients.weights(&counts))
    };
    let several = patients.strata.iter().filter(|stratum| stratum.len() > 1);
    several.map(|stratum| stratum.par_iter().map(without).collect()).collect()
}
