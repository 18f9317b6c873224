//! The frequency with which the intervals of an evaluation hold the truth: simulated test splits of a
//! known model.
//!
//! Images of a class have logits that are normal about the class's, with a part that a patient's images
//! share. The truth of each metric is that of very many patients.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use lvmed::domain::evaluation::{ClassificationEvaluation, Estimate};
use lvmed::training::evaluate;
use lvmed::training::judge::metrics::Judged;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::StandardNormal;
use rayon::prelude::*;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Simulated test splits of each kind.
const SPLITS: u64 = 1000;
/// Patients behind the truth, and how often anew.
const MANY: usize = 20_000;
const RESAMPLES: u32 = 1000;

/// A kind of test split.
struct Kind {
    name: &'static str,
    images: usize,
    images_a_patient: usize,
    classes: usize,
    /// The distance between the classes, in standard deviations of an image.
    distance: f64,
    /// Share of the first class; the others have equal parts of the rest.
    first: f64,
}

const fn kind(
    name: &'static str,
    (images, images_a_patient): (usize, usize),
    (classes, distance, first): (usize, f64, f64),
) -> Kind {
    Kind { name, images, images_a_patient, classes, distance, first }
}

const KINDS: [Kind; 9] = [
    kind("30-alone", (30, 1), (2, 1.3, 0.5)),
    kind("60-alone", (60, 1), (2, 1.3, 0.5)),
    kind("120-alone", (120, 1), (2, 1.3, 0.5)),
    kind("30-three-a-patient", (30, 3), (2, 1.3, 0.5)),
    kind("60-three-a-patient", (60, 3), (2, 1.3, 0.5)),
    kind("120-three-a-patient", (120, 3), (2, 1.3, 0.5)),
    kind("60-three-classes", (60, 1), (3, 1.5, 0.34)),
    kind("120-three-classes-three-a-patient", (120, 3), (3, 1.5, 0.34)),
    kind("120-rare-finding", (120, 1), (2, 1.6, 0.85)),
];

/// Images of a test split: class, probabilities, patient.
struct Split(Vec<(usize, Vec<f32>, String)>);

impl Split {
    /// Patients of whom each class has its share, as a draw from a hospital's archive has.
    fn new(kind: &Kind, patients: usize, random: &mut StdRng) -> Self {
        let mut images = Vec::new();
        for patient in 0..patients {
            let place = (patient as f64 + 0.5) / patients as f64;
            let rest = (kind.classes - 1) as f64;
            let class = if place < kind.first {
                0
            } else {
                1 + ((place - kind.first) / (1.0 - kind.first) * rest) as usize
            };
            let class = class.min(kind.classes - 1);
            let shared: Vec<f64> =
                (0..kind.classes).map(|_| random.sample(StandardNormal)).collect();
            for _ in 0..kind.images_a_patient {
                let logits: Vec<f64> = (0..kind.classes)
                    .map(|other| {
                        let own: f64 = random.sample(StandardNormal);
                        let lean = if other == class { kind.distance } else { 0.0 };
                        // Half of the variance is the patient's.
                        lean + (shared[other] + own) / std::f64::consts::SQRT_2
                    })
                    .collect();
                let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
                let probabilities = logits.iter().map(|logit| (logit.exp() / total) as f32);
                images.push((class, probabilities.collect(), format!("{patient:06}")));
            }
        }
        Self(images)
    }

    fn evaluated(
        &self,
        classes: usize,
        resamples: u32,
        seed: u64,
    ) -> Result<ClassificationEvaluation, Failed> {
        let labels: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
        let judged: Vec<Judged<'_>> = self
            .0
            .iter()
            .map(|(truth, probabilities, patient)| Judged { truth: *truth, probabilities, patient })
            .collect();
        Ok(evaluate(&labels, &judged, resamples, seed)?)
    }
}

const METRICS: [&str; 7] = [
    "accuracy",
    "balanced accuracy",
    "macro AUROC",
    "macro AUPRC",
    "macro F1",
    "Brier",
    "log loss",
];

fn estimates(found: &ClassificationEvaluation) -> Result<[Estimate; 7], Failed> {
    Ok([
        found.accuracy,
        found.balanced_accuracy,
        found.macro_auroc.ok_or("no AUROC")?,
        found.macro_auprc.ok_or("no AUPRC")?,
        found.macro_f1,
        found.brier,
        found.log_loss.ok_or("no log loss")?,
    ])
}

fn main() -> Result<(), Failed> {
    let splits = std::env::var("LVMED_BENCH_SPLITS").ok().and_then(|text| text.parse().ok());
    let splits: u64 = splits.unwrap_or(SPLITS);
    println!("share of {splits} intervals of 95 % that hold the truth\n");
    println!("| test split | {} |", METRICS.join(" | "));
    println!("| --- |{}", " --- |".repeat(METRICS.len()));
    let mut lines = Vec::new();
    for kind in &KINDS {
        let truth = truth(kind)?;
        let held = (0..splits)
            .into_par_iter()
            .map(|split| {
                let mut random = StdRng::seed_from_u64(split);
                let patients = kind.images / kind.images_a_patient;
                let split_of = Split::new(kind, patients, &mut random);
                let found = estimates(&split_of.evaluated(kind.classes, RESAMPLES, split)?)?;
                let holds =
                    |(found, truth): (&Estimate, &f64)| found.low <= *truth && *truth <= found.high;
                Ok(found.iter().zip(&truth).map(holds).map(u64::from).collect::<Vec<u64>>())
            })
            .collect::<Result<Vec<_>, Failed>>()?;
        let share = |at: usize| held.iter().map(|row| row[at]).sum::<u64>() as f64 / splits as f64;
        let shares: Vec<f64> = (0..METRICS.len()).map(share).collect();
        let shown: Vec<String> =
            shares.iter().map(|share| format!("{:.1} %", 100.0 * share)).collect();
        println!("| {} | {} |", kind.name, shown.join(" | "));
        for (metric, share) in METRICS.iter().zip(&shares) {
            let metric = metric.to_lowercase().replace(' ', "-");
            lines.push(format!(
                "{{\"bench\":\"coverage/{}/{metric}\",\"ours\":{share:.4},\"aim\":[0.92,0.98],\"met\":{}}}",
                kind.name,
                (0.92..=0.98).contains(share)
            ));
        }
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Each metric of very many patients of the kind.
fn truth(kind: &Kind) -> Result<[f64; 7], Failed> {
    let split = Split::new(kind, MANY, &mut StdRng::seed_from_u64(u64::MAX));
    Ok(estimates(&split.evaluated(kind.classes, 0, 0)?)?.map(|estimate| estimate.value))
}
