//! The gate: a linear probe on the frozen backbone before and after, compared on the same test
//! patients.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::job::{Job, Judge};
use crate::domain::evaluation::Estimate;
use crate::domain::patients::by_first_image;
use crate::domain::pretrain::{AtShots, Comparison, Gate as Asked, Verdict};
use crate::domain::seed::MAX_SEED;
use crate::domain::{HeadRule, Preprocessing, Split};
use crate::nn::Encoder;
use crate::training::data::example::{Example, Key};
use crate::training::data::few_shot::{Candidate, choose, most};
use crate::training::data::prepared::{images_at_a_time, prepared};
use crate::training::judge::bootstrap::{Patients, RESAMPLES, resample};
use crate::training::judge::interval::{TAIL, percentiles, upper};
use crate::training::judge::judged::judged;
use crate::training::judge::metrics::Scorer;
use crate::training::probe::fit::fit;
use crate::training::probe::head::Sample;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// The fall of the mean AUROC beyond which a backbone counts as worse, whatever the interval says.
const TOLERANCE: f64 = 0.01;

/// Features by image.
type Features = HashMap<Key, Vec<f32>>;

/// The number of the rule by which probes are fitted and drawn: what was found by another is not
/// comparable.
const RULE: u32 = 3;

/// Class probabilities of each test image, by each probe: of each number of training images its repeats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probed {
    rule: u32,
    probes: Vec<Vec<Vec<f32>>>,
}

impl Probed {
    /// The number of the rule, and the probabilities `[probes, images, classes]`: a checkpoint's header
    /// would not hold those of many images as text.
    pub(super) fn to_parts(&self) -> Result<(u32, Tensor), TrainingError> {
        let images = self.probes.first().map_or(0, Vec::len);
        let classes = self.probes.first().and_then(|probe| probe.first()).map_or(0, Vec::len);
        let values: Vec<f32> = self.probes.iter().flatten().flatten().copied().collect();
        let shape = (self.probes.len(), images, classes);
        Ok((self.rule, Tensor::from_vec(values, shape, &Device::Cpu)?))
    }

    /// Reads [`Self::to_parts`] back.
    pub(super) fn of_parts(rule: u32, probes: &Tensor) -> Result<Self, TrainingError> {
        Ok(Self { rule, probes: probes.to_vec3::<f32>()? })
    }
}

/// The labelled images of a gate, and what each probe learns from.
pub(super) struct Gate<'a> {
    job: &'a Job,
    judge: &'a Judge,
    asked: &'a Asked,
    /// Numbers of training images per class; none for all of them.
    counts: Vec<Option<u32>>,
    /// The training images of every repeat with the first number, then with the next.
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
            .map(|(example, patient)| Candidate { target: example.target, patient })
            .collect();
        let classes = &judge.version.labels;
        let of_class =
            |class| candidates.iter().filter(|found| found.target.class() == class).count();
        let smallest = (0..classes.len()).map(of_class).min().unwrap_or(0);
        let counts = asked.counts(smallest as u64);
        let mut draws = Vec::new();
        for shots in &counts {
            for repeat in 0..asked.repeats {
                let seed = seed_of(job, repeat);
                let chosen = if shots.is_none() && asked.repeats > 1 {
                    most(&candidates, classes.len(), seed)
                } else {
                    choose(&candidates, classes, *shots, seed)?
                };
                draws.push(chosen.into_iter().map(|at| train[at]).collect());
            }
        }
        let classes: BTreeSet<usize> = test.iter().map(|example| example.class()).collect();
        if classes.len() < 2 {
            return Err(TrainingError::CannotCompare { images: test.len() });
        }
        Ok(Some(Self { job, judge, asked, counts, draws, test }))
    }

    /// Whether this was found as it would be found now.
    pub(super) fn compares_with(&self, probed: &Probed) -> bool {
        probed.rule == RULE && probed.probes.len() == self.draws.len()
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
        let of = |example: &Example| features.get(&example.key()).map_or(&[][..], Vec::as_slice);
        let mut repeats = Vec::with_capacity(self.draws.len());
        let numbers = (0..self.asked.repeats).cycle();
        for (repeat, draw) in numbers.zip(&self.draws) {
            let samples: Vec<Sample<'_>> = draw
                .iter()
                .map(|example| Sample {
                    features: of(example),
                    label: example.class(),
                    patient: &example.patient,
                })
                .collect();
            let seed = seed_of(self.job, repeat);
            let mut stop = None;
            let mut observe = |_, _, _| {
                stop = host.stop();
                if stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let fitted = fit(&samples, classes, seed, Some(HeadRule::Auto), &mut observe);
            if let Some(stop) = stop {
                return Err(TrainingError::Stopped(stop));
            }
            let head = fitted?.head;
            repeats.push(self.test.iter().map(|image| head.probabilities(of(image))).collect());
        }
        Ok(Probed { rule: RULE, probes: repeats })
    }

    /// Features of every image that is needed, in batches of a size that depends on nothing.
    fn features(&self, network: &Encoder, host: &dyn Host) -> Result<Features, TrainingError> {
        let mut seen = BTreeSet::new();
        let mut needed: Vec<&Example> = self.draws.iter().flatten().copied().collect();
        needed.extend(&self.test);
        needed.retain(|example| seen.insert(example.key()));
        let preprocessing: &Preprocessing = &self.job.preprocessing;
        let side = preprocessing.size as usize;
        let mut found = Features::with_capacity(needed.len());
        for batch in needed.chunks(images_at_a_time(side)) {
            if let Some(stop) = host.stop() {
                return Err(TrainingError::Stopped(stop));
            }
            let pictures = batch
                .par_iter()
                .map(|example| prepared(example, host, &self.job.ground.limits, preprocessing))
                .collect::<Result<Vec<_>, _>>()?;
            let shape = (batch.len(), 3, side, side);
            let input = Tensor::from_vec(pictures.concat(), shape, &Device::Cpu)?;
            let vectors = network.infer(&input)?.embedding.to_vec2::<f32>()?;
            found.extend(batch.iter().map(|example| example.key()).zip(vectors));
        }
        Ok(found)
    }

    /// The macro AUROC of each probe.
    pub(super) fn auroc(&self, probed: &Probed) -> Result<Vec<f64>, TrainingError> {
        let once = vec![1; self.test.len()];
        let each = probed.probes.iter().map(|repeat| {
            let auroc = self.scorer(repeat)?.score(&once).macro_auroc;
            auroc.ok_or(TrainingError::CannotCompare { images: self.test.len() })
        });
        each.collect()
    }

    /// Compares what the probes found before and after. Every resample draws test patients, the same for
    /// both and for every probe, and repeats, the same for both: the intervals are over whom one tests
    /// and over which images a probe happens to learn from. One in which some probe has no AUROC does not
    /// count.
    pub(super) fn compare(
        &self,
        before: &Probed,
        after: &Probed,
    ) -> Result<Comparison, TrainingError> {
        let (one, other) = (self.resampled(before)?, self.resampled(after)?);
        let (first, second) = (self.auroc(before)?, self.auroc(after)?);
        let repeats = self.asked.repeats as usize;
        let mut random = StdRng::seed_from_u64(self.job.spec.seed);
        let mut is_harmed = false;
        let mut drawn: Vec<Vec<(f64, f64)>> = Vec::new();
        for at in 0..RESAMPLES as usize {
            let chosen: Vec<usize> =
                (0..repeats).map(|_| random.random_range(0..repeats)).collect();
            let means = (0..self.counts.len()).map(|count| {
                let mean_of = |probes: &[Vec<Option<f64>>]| -> Option<f64> {
                    let of =
                        |repeat: &usize| probes.get(count * repeats + repeat)?.get(at).copied()?;
                    Some(mean(&chosen.iter().map(of).collect::<Option<Vec<f64>>>()?))
                };
                mean_of(&one).zip(mean_of(&other))
            });
            drawn.extend(means.collect::<Option<Vec<_>>>());
        }
        let each: Vec<AtShots> = self
            .counts
            .iter()
            .enumerate()
            .zip(first.chunks(repeats).zip(second.chunks(repeats)))
            .map(|((count, shots), (before, after))| {
                let drawn: Vec<_> =
                    drawn.iter().filter_map(|means| means.get(count).copied()).collect();
                let (before, after, difference) = estimates((mean(before), mean(after)), &drawn);
                let differences = drawn.iter().map(|(before, after)| after - before).collect();
                is_harmed |= is_worse(differences, self.counts.len());
                AtShots { shots: *shots, before, after, difference }
            })
            .collect();
        let drawn = drawn.iter().map(|means| {
            let of =
                |side: fn(&(f64, f64)) -> f64| mean(&means.iter().map(side).collect::<Vec<_>>());
            (of(|pair| pair.0), of(|pair| pair.1))
        });
        let values = (mean(&first), mean(&second));
        let (before, after, difference) = estimates(values, &drawn.collect::<Vec<_>>());
        let of_repeats = |probes: &[f64]| -> Vec<f64> {
            let of = |repeat: usize| probes.iter().skip(repeat).step_by(repeats).copied();
            (0..repeats).map(|repeat| mean(&of(repeat).collect::<Vec<_>>())).collect()
        };
        let patients: BTreeSet<&str> =
            self.test.iter().map(|example| example.patient.as_str()).collect();
        Ok(Comparison {
            notices: self.notices(before, after),
            before,
            after,
            difference,
            verdict: Verdict::of(difference, is_harmed, TOLERANCE),
            each,
            before_repeats: of_repeats(&first),
            after_repeats: of_repeats(&second),
            repeats: self.asked.repeats,
            shots: if let [shots] = self.counts[..] { shots } else { None },
            images: self.test.len() as u64,
            patients: patients.len() as u64,
            resamples: RESAMPLES,
            tolerance: TOLERANCE,
        })
    }

    /// The notices that a reader of the comparison must have: what was said of the images when they
    /// were frozen holds for it as well.
    fn notices(&self, before: Estimate, after: Estimate) -> Vec<String> {
        let told = at_chance(before, after).map(str::to_owned);
        told.into_iter().chain(self.judge.version.notices.iter().cloned()).collect()
    }

    /// The AUROC of each probe in each resample of test patients; the same patients whenever it is
    /// called.
    fn resampled(&self, probed: &Probed) -> Result<Vec<Vec<Option<f64>>>, TrainingError> {
        let of = |repeat: &Vec<Vec<f32>>| {
            let scorer = self.scorer(repeat)?;
            let patients = Patients::of(&judged(&self.test, repeat));
            let scores = resample(&scorer, &patients, RESAMPLES, self.job.spec.seed);
            Ok(scores.into_iter().map(|scores| scores.macro_auroc).collect())
        };
        probed.probes.iter().map(of).collect()
    }

    fn scorer(&self, probabilities: &[Vec<f32>]) -> Result<Scorer, TrainingError> {
        let judged = judged(&self.test, probabilities);
        Ok(Scorer::new(&judged, self.judge.version.labels.len())?)
    }
}

/// Whether the differences of resamples after pretraining show harm at one of `numbers` numbers of
/// images: of several, one would look worse by chance more often than once in forty.
fn is_worse(differences: Vec<f64>, numbers: usize) -> bool {
    let tail = TAIL / numbers.max(1) as f64;
    upper(differences, tail).is_some_and(|high| high < 0.0)
}

/// The sentence to say where neither side is shown to rank better than guessing.
fn at_chance(before: Estimate, after: Estimate) -> Option<&'static str> {
    (before.low <= 0.5 && after.low <= 0.5).then_some(
        "Neither before nor after is the AUROC shown to be above 0.5, which guessing reaches: this check \
         cannot tell the backbones apart. More labelled images could.",
    )
}

/// Before, after and their difference, with intervals by what resamples gave.
fn estimates((from, to): (f64, f64), drawn: &[(f64, f64)]) -> (Estimate, Estimate, Estimate) {
    let of = |value: f64, side: fn(&(f64, f64)) -> f64| -> Estimate {
        percentiles(value, drawn.iter().map(side).collect())
    };
    (of(from, |pair| pair.0), of(to, |pair| pair.1), of(to - from, |pair| pair.1 - pair.0))
}

/// The mean of a few values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The seed of a repeat of the probe: the run's own for the first, then the next numbers.
fn seed_of(job: &Job, repeat: u32) -> u64 {
    (job.spec.seed + u64::from(repeat)) & MAX_SEED
}

#[cfg(test)]
mod tests {
    use super::{Estimate, at_chance, is_worse};

    #[test]
    fn only_two_sides_at_chance_cannot_be_told_apart() {
        let of = |low| Estimate { value: 0.6, low, high: 0.7 };

        assert!(at_chance(of(0.5), of(0.45)).is_some_and(|told| told.contains("cannot tell")));
        assert_eq!(at_chance(of(0.51), of(0.45)), None);
        assert_eq!(at_chance(of(0.45), of(0.51)), None);
    }

    /// Of a hundred resamples two end above zero: at one number of images that is harm beyond chance
    /// (2.5 %), at one of three it is not.
    #[test]
    fn several_numbers_of_images_need_more_to_count_as_harm() {
        let differences: Vec<f64> = (0..100).map(|at| f64::from(at) - 97.5).collect();

        assert!(is_worse(differences.clone(), 1));
        assert!(!is_worse(differences, 3));
        assert!(is_worse(vec![-0.1; 100], 3));
        assert!(!is_worse(Vec::new(), 1));
    }
}
