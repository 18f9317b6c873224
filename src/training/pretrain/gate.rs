//! The gate: a linear probe on the frozen backbone before and after, compared on the same test
//! patients.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::job::{Job, Judge};
use crate::domain::evaluation::Estimate;
use crate::domain::pretrain::{Comparison, Gate as Asked, Verdict};
use crate::domain::run::MAX_SEED;
use crate::domain::{HeadRule, Preprocessing, Sha256, Split};
use crate::nn::Encoder;
use crate::training::bootstrap::{Patients, resample};
use crate::training::error::TrainingError;
use crate::training::features::{images_at_a_time, prepared};
use crate::training::few_shot::{Candidate, choose};
use crate::training::finetune::judged;
use crate::training::head::{self, Sample};
use crate::training::host::Host;
use crate::training::interval::percentiles;
use crate::training::job::Example;
use crate::training::metrics::Scorer;
use crate::training::patients::by_first_image;

/// Bootstrap resamples behind every interval.
const RESAMPLES: u32 = 1000;
/// How far the mean AUROC may fall before a backbone counts as worse, whatever the interval says.
const TOLERANCE: f64 = 0.01;

/// Features by image.
type Features = HashMap<(Sha256, u32), Vec<f32>>;

/// Class probabilities of each test image, by each repeat of the probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Probed(Vec<Vec<Vec<f32>>>);

/// The labelled images of a gate, and what the probe learns from in each repeat.
pub(super) struct Gate<'a> {
    job: &'a Job,
    judge: &'a Judge,
    asked: &'a Asked,
    draws: Vec<Vec<&'a Example>>,
    test: Vec<&'a Example>,
}

impl<'a> Gate<'a> {
    /// The gate of a job that has one. Fails when nothing could be told by it.
    pub(super) fn of(job: &'a Job) -> Result<Option<Self>, TrainingError> {
        let (Some(judge), Some(asked)) = (&job.gate, &job.spec.gate) else { return Ok(None) };
        let of = |split: Split| -> Vec<&'a Example> {
            judge.examples.iter().filter(|example| example.split == split).collect()
        };
        let (train, test) = (of(Split::Train), of(Split::Test));
        let named = by_first_image(train.iter().map(|example| example.patient.as_str()));
        let candidates: Vec<Candidate<'_>> = train
            .iter()
            .zip(&named)
            .map(|(example, patient)| Candidate { label: example.label, patient })
            .collect();
        let mut draws = Vec::new();
        for repeat in 0..asked.repeats {
            let seed = seed_of(job, repeat);
            let chosen = choose(&candidates, &judge.version.labels, asked.shots, seed)?;
            draws.push(chosen.into_iter().map(|at| train[at]).collect());
        }
        let classes: BTreeSet<usize> = test.iter().map(|example| example.label).collect();
        if classes.len() < 2 {
            return Err(TrainingError::CannotCompare { images: test.len() });
        }
        Ok(Some(Self { job, judge, asked, draws, test }))
    }

    /// Epochs between two probes during the run.
    pub(super) fn every(&self) -> Option<u32> {
        self.asked.every
    }

    /// Fits the probe of every repeat on the frozen features of a network.
    pub(super) fn probe(
        &self,
        network: &Encoder,
        host: &dyn Host,
    ) -> Result<Probed, TrainingError> {
        let features = self.features(network, host)?;
        let classes = self.judge.version.labels.len();
        let of = |example: &Example| features.get(&key(example)).map_or(&[][..], Vec::as_slice);
        let mut repeats = Vec::with_capacity(self.draws.len());
        for (repeat, draw) in (0..).zip(&self.draws) {
            let samples: Vec<Sample<'_>> = draw
                .iter()
                .map(|example| Sample {
                    features: of(example),
                    label: example.label,
                    patient: &example.patient,
                })
                .collect();
            let seed = seed_of(self.job, repeat);
            let mut stop = None;
            let mut observe = |_, _, _| {
                stop = host.stop();
                if stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let fitted = head::fit(&samples, classes, seed, Some(HeadRule::Auto), &mut observe);
            if let Some(stop) = stop {
                return Err(TrainingError::Stopped(stop));
            }
            let head = fitted?.head;
            repeats.push(self.test.iter().map(|image| head.probabilities(of(image))).collect());
        }
        Ok(Probed(repeats))
    }

    /// Features of every image that is needed, in batches of a size that depends on nothing.
    fn features(&self, network: &Encoder, host: &dyn Host) -> Result<Features, TrainingError> {
        let mut seen = BTreeSet::new();
        let mut needed: Vec<&Example> = self.draws.iter().flatten().copied().collect();
        needed.extend(&self.test);
        needed.retain(|example| seen.insert(key(example)));
        let preprocessing: &Preprocessing = &self.job.preprocessing;
        let side = preprocessing.size as usize;
        let mut found = Features::with_capacity(needed.len());
        for batch in needed.chunks(images_at_a_time(side)) {
            if let Some(stop) = host.stop() {
                return Err(TrainingError::Stopped(stop));
            }
            let pictures = batch
                .par_iter()
                .map(|example| prepared(example, host, &self.job.limits, preprocessing))
                .collect::<Result<Vec<_>, _>>()?;
            let shape = (batch.len(), 3, side, side);
            let input = Tensor::from_vec(pictures.concat(), shape, &Device::Cpu)?;
            let vectors = network.infer(&input)?.embedding.to_vec2::<f32>()?;
            found.extend(batch.iter().map(|example| key(example)).zip(vectors));
        }
        Ok(found)
    }

    /// The macro AUROC of each repeat.
    pub(super) fn auroc(&self, probed: &Probed) -> Result<Vec<f64>, TrainingError> {
        let once = vec![1; self.test.len()];
        let each = probed.0.iter().map(|repeat| {
            let auroc = self.scorer(repeat)?.score(&once).macro_auroc;
            auroc.ok_or(TrainingError::CannotCompare { images: self.test.len() })
        });
        each.collect()
    }

    /// Compares what the probe found before and after. Every resample draws test patients, the same for
    /// both and for every repeat, and repeats, the same for both: the interval is over whom one tests
    /// and over which images the probe happens to learn from. One in which some repeat has no AUROC does
    /// not count.
    pub(super) fn compare(
        &self,
        before: &Probed,
        after: &Probed,
    ) -> Result<Comparison, TrainingError> {
        let (one, other) = (self.resampled(before)?, self.resampled(after)?);
        let mut random = StdRng::seed_from_u64(self.job.spec.seed);
        let mut pairs: Vec<(f64, f64)> = Vec::new();
        for at in 0..RESAMPLES as usize {
            let drawn: Vec<usize> = one.iter().map(|_| random.random_range(0..one.len())).collect();
            let mean_of = |repeats: &[Vec<Option<f64>>]| -> Option<f64> {
                let drawn = drawn.iter().map(|repeat| repeats.get(*repeat)?.get(at).copied()?);
                Some(mean(&drawn.collect::<Option<Vec<f64>>>()?))
            };
            pairs.extend(mean_of(&one).zip(mean_of(&other)));
        }
        let (before_repeats, after_repeats) = (self.auroc(before)?, self.auroc(after)?);
        let (from, to) = (mean(&before_repeats), mean(&after_repeats));
        let of = |value: f64, draw: fn(&(f64, f64)) -> f64| -> Estimate {
            percentiles(value, pairs.iter().map(draw).collect())
        };
        let difference = of(to - from, |(before, after)| after - before);
        let patients: BTreeSet<&str> =
            self.test.iter().map(|example| example.patient.as_str()).collect();
        Ok(Comparison {
            before: of(from, |(before, _)| *before),
            after: of(to, |(_, after)| *after),
            difference,
            before_repeats,
            after_repeats,
            repeats: self.asked.repeats,
            shots: self.asked.shots,
            images: self.test.len() as u64,
            patients: patients.len() as u64,
            resamples: RESAMPLES,
            tolerance: TOLERANCE,
            verdict: Verdict::of(difference, TOLERANCE),
        })
    }

    /// The AUROC of each repeat in each resample of test patients; the same patients whenever it is
    /// called.
    fn resampled(&self, probed: &Probed) -> Result<Vec<Vec<Option<f64>>>, TrainingError> {
        let of = |repeat: &Vec<Vec<f32>>| {
            let scorer = self.scorer(repeat)?;
            let patients = Patients::of(&judged(&self.test, repeat));
            let scores = resample(&scorer, &patients, RESAMPLES, self.job.spec.seed);
            Ok(scores.into_iter().map(|scores| scores.macro_auroc).collect())
        };
        probed.0.iter().map(of).collect()
    }

    fn scorer(&self, probabilities: &[Vec<f32>]) -> Result<Scorer, TrainingError> {
        let judged = judged(&self.test, probabilities);
        Ok(Scorer::new(&judged, self.judge.version.labels.len())?)
    }
}

/// The mean of a few values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The seed of a repeat of the probe: the run's own for the first, then the next numbers.
fn seed_of(job: &Job, repeat: u32) -> u64 {
    (job.spec.seed + u64::from(repeat)) & MAX_SEED
}

fn key(example: &Example) -> (Sha256, u32) {
    (example.blob, example.frame)
}
