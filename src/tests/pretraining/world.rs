//! A pretraining job on a small network and pictures in memory, and objectives made for tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use candle_core::{Device, Tensor};
use lvmed::domain::pretrain::{Gate, Learning, Pretrain, Views};
use lvmed::domain::run::Progress;
use lvmed::domain::{Architecture, BackboneId, ImageId, Sha256, Split, Target, VersionId};
use lvmed::nn::{Params, Tensors, weights};
use lvmed::training::objective::{MatchedPair, Moment, Objective, Scored, Shown};
use lvmed::training::pretrain::{Job, Judge, Pretrained, Start, pretrain, with_objective};
use lvmed::training::{CachedFeatures, Example, Host, HostError, Stop, TrainingError};

use crate::ground::{SIDE, backbone, ground, name, preprocessing, version};
use crate::pictures::png;

const ARCHITECTURE: Architecture = Architecture::RESNET18;

pub(super) struct World {
    pub(super) job: Job,
    pub(super) host: Memory,
    _folder: tempfile::TempDir,
}

impl World {
    /// A job on so many pictures, four a batch, from a ResNet-18 with a licence.
    pub(super) fn of(images: u32) -> Self {
        Self::with(ARCHITECTURE, images)
    }

    /// The same from another network.
    pub(super) fn with(architecture: Architecture, images: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weights");
        let tensors = weights::random(architecture, 1).expect("weights");
        weights::write(&tensors, &BTreeMap::new(), &path).expect("written");
        let mut host = Memory::default();
        let pictures = (0..images)
            .map(|number| host.keep(png(number as usize % 2, number, 48), number, Split::Train))
            .collect();
        let parent = Box::new(backbone("parent", "For research alone", architecture));
        let ground = ground("made", folder.path());
        let start = Start::Backbone { parent, weights: path };
        let (spec, preprocessing) = (spec(), preprocessing(architecture));
        let job = Job { ground, spec, pictures, start, preprocessing, architecture, gate: None };
        Self { job, host, _folder: folder }
    }

    /// Names labelled images of two classes, `test` of them to be judged by.
    pub(super) fn gate(&mut self, train: u32, test: u32) {
        let mut examples = Vec::new();
        for (split, images) in [(Split::Train, train), (Split::Test, test)] {
            for _ in 0..images {
                let number = 100 + examples.len() as u32;
                let bytes = png(number as usize % 2, number, SIDE);
                examples.push(self.host.keep(bytes, number, split));
            }
        }
        self.job.spec.gate = Some(Gate {
            dataset_version: VersionId::new(),
            shots: Some(vec![2]),
            repeats: 3,
            every: None,
        });
        self.job.gate = Some(Judge { version: version(), dataset: name("labelled"), examples });
    }

    pub(super) fn learning(&mut self) -> &mut Learning {
        &mut self.job.spec.learning
    }

    /// Runs the job with the objective of its recipe.
    pub(super) fn pretrain(&self) -> Result<Pretrained, TrainingError> {
        let run = || pretrain(&self.job, &self.host);
        lvmed::nn::with_threads(self.job.ground.threads, run).expect("threads start")
    }

    pub(super) fn run(
        &self,
        objective: impl Objective + 'static,
    ) -> Result<Pretrained, TrainingError> {
        let objective: Box<dyn Objective> = Box::new(objective);
        let pool = lvmed::nn::with_threads(self.job.ground.threads, || {
            with_objective(&self.job, objective, &self.host)
        });
        pool.expect("threads start")
    }
}

fn spec() -> Pretrain {
    Pretrain {
        dataset_version: VersionId::new(),
        backbone: Some(BackboneId::new()),
        architecture: None,
        seed: 5,
        name: None,
        objective: lvmed::domain::pretrain::Objective::default(),
        views: Views::default(),
        learning: Learning { epochs: 2, batch_size: 4, learning_rate: 1e-3, ..Learning::default() },
        gate: None,
    }
}

/// A published file.
pub(super) fn file(made: &Pretrained, name: &str) -> Vec<u8> {
    let found = made.files.iter().find(|file| file.name == name).expect("it is made");
    found.bytes.to_vec()
}

pub(super) fn card(made: &Pretrained) -> String {
    String::from_utf8(file(made, "card.md")).expect("text")
}

/// A host in memory.
#[derive(Default)]
pub(super) struct Memory {
    originals: HashMap<Sha256, Bytes>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    checkpoints: Vec<Bytes>,
    curves: BTreeMap<String, BTreeMap<u64, f64>>,
    /// The number of times that each curve was told a point.
    told: BTreeMap<String, usize>,
    log: Vec<String>,
    pictures: Vec<serde_json::Value>,
    /// A gate's picture that stops the run when it is looked at after so many losses.
    trap: Option<(Sha256, usize)>,
    /// Losses until it stops, and why.
    left: Option<(usize, Stop)>,
}

impl Memory {
    /// Keeps an original; an image of it.
    pub(super) fn keep(&mut self, bytes: Vec<u8>, number: u32, split: Split) -> Example {
        let bytes = Bytes::from(bytes);
        let blob = Sha256::of(&bytes);
        self.originals.insert(blob, bytes);
        Example {
            image: ImageId::new(),
            blob,
            frame: 0,
            target: Target::Class(number as usize % 2),
            patient: format!("patient-{number}"),
            split,
        }
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().expect("not poisoned"))
    }

    /// Has the run stop after so many losses.
    pub(super) fn stop_after(&self, losses: usize, stop: Stop) {
        self.kept(|kept| kept.left = Some((losses, stop)));
    }

    pub(super) fn go_on(&self) {
        self.kept(|kept| kept.left = None);
    }

    /// Forgets every checkpoint and curve, as if nothing had been run.
    pub(super) fn forget(&self) {
        self.kept(|kept| *kept = Kept::default());
    }

    pub(super) fn checkpoints(&self) -> Vec<Bytes> {
        self.kept(|kept| kept.checkpoints.clone())
    }

    pub(super) fn curve(&self, name: &str) -> BTreeMap<u64, f64> {
        self.kept(|kept| kept.curves.get(name).cloned().unwrap_or_default())
    }

    /// The number of times that a curve was told a point, again and again for one step if it was.
    pub(super) fn told(&self, name: &str) -> usize {
        self.kept(|kept| kept.told.get(name).copied().unwrap_or_default())
    }

    pub(super) fn log_lines(&self) -> Vec<String> {
        self.kept(|kept| kept.log.clone())
    }

    /// Hands the run back when it looks at a picture after so many losses.
    pub(super) fn trap(&self, picture: Sha256, losses: usize) {
        self.kept(|kept| kept.trap = Some((picture, losses)));
    }

    pub(super) fn shown(&self) -> Vec<serde_json::Value> {
        self.kept(|kept| kept.pictures.clone())
    }
}

impl Host for Memory {
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError> {
        self.kept(|kept| {
            let losses = kept.told.get("loss").copied().unwrap_or_default();
            if kept.trap.is_some_and(|(picture, after)| picture == *blob && losses >= after) {
                (kept.trap, kept.left) = (None, Some((0, Stop::HandedBack)));
            }
        });
        self.originals.get(blob).cloned().ok_or_else(|| "no such original".into())
    }

    fn cached_features(&self, _: &[Sha256]) -> Result<CachedFeatures, HostError> {
        Ok(CachedFeatures::new())
    }

    fn cache_features(&self, _: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, HostError> {
        Ok(self.kept(|kept| kept.checkpoints.last().cloned()))
    }

    fn save_checkpoint(&self, bytes: Bytes) -> Result<(), HostError> {
        self.kept(|kept| kept.checkpoints.push(bytes));
        Ok(())
    }

    fn settle(&self, _: u32) -> Result<(), HostError> {
        Ok(())
    }

    fn progress(&self, _: &Progress) -> Result<(), HostError> {
        Ok(())
    }

    fn metric(&self, name: &str, step: u64, value: f64) -> Result<(), HostError> {
        self.kept(|kept| {
            kept.curves.entry(name.to_owned()).or_default().insert(step, value);
            *kept.told.entry(name.to_owned()).or_default() += 1;
            if name == "loss"
                && let Some((left, _)) = &mut kept.left
            {
                *left = left.saturating_sub(1);
            }
        });
        Ok(())
    }

    fn show(&self, _: u64, picture: &serde_json::Value) -> Result<(), HostError> {
        self.kept(|kept| kept.pictures.push(picture.clone()));
        Ok(())
    }

    fn log(&self, line: &str) -> Result<(), HostError> {
        self.kept(|kept| kept.log.push(line.to_owned()));
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.kept(|kept| kept.left.filter(|(left, _)| *left == 0).map(|(_, stop)| stop))
    }
}

/// Draws the projections of two views together: with a teacher whose projections are centred by a
/// mean that is remembered. Uses all that a loop has to keep for an objective.
pub(super) struct Tiny {
    has_teacher: bool,
    publishes_teacher: bool,
    centre: Tensor,
}

impl Tiny {
    pub(super) fn new(has_teacher: bool) -> Self {
        let centre = Tensor::zeros((1, 8), candle_core::DType::F32, &Device::Cpu);
        Self { has_teacher, publishes_teacher: false, centre: centre.expect("a tensor") }
    }

    pub(super) fn publishing_its_teacher() -> Self {
        Self { publishes_teacher: true, ..Self::new(true) }
    }
}

impl Objective for Tiny {
    fn initial(&self, seed: u64, embedding: usize, _: usize) -> Result<Tensors, TrainingError> {
        let value = |at: usize| ((at as u64 * 7919 + seed) % 101) as f32 / 1010.0 - 0.05;
        let values = (0..8 * embedding).map(value).collect();
        let weight = Tensor::from_vec(values, (embedding, 8), &Device::Cpu)?;
        Ok(Tensors::from([("objective.weight".to_owned(), weight)]))
    }

    fn teacher_momentum(&self, _: Moment) -> Option<f64> {
        self.has_teacher.then_some(0.7)
    }

    fn publishes_teacher(&self) -> bool {
        self.publishes_teacher
    }

    fn loss(
        &mut self,
        params: &Params,
        teacher: Option<&Params>,
        shown: &Shown<'_>,
        moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let weight = params.get("objective.weight")?;
        let of = |view: usize| shown.views[view].features.embedding.matmul(weight);
        let target = match (teacher, shown.teacher) {
            (Some(teacher), Some([first, _])) => {
                let raw = first.matmul(teacher.get("objective.weight")?)?.detach();
                let target = raw.broadcast_sub(&self.centre)?;
                let mean = raw.mean_keepdim(0)?;
                self.centre = ((&self.centre * 0.9)? + (mean * 0.1)?)?;
                target
            }
            _ => of(0)?,
        };
        let mut loss = ((of(1)? - target)?.sqr()?.mean_all()? - (of(0)?.mean_all()? * 0.1)?)?;
        for view in &shown.views[2..] {
            loss = (loss + (view.features.feature_map.sqr()?.mean_all()? * 0.01)?)?;
        }
        Ok(Scored { loss, series: vec![("part", f64::from(moment.part))] })
    }

    fn state(&self) -> Result<Tensors, TrainingError> {
        Ok(Tensors::from([("centre".to_owned(), self.centre.clone())]))
    }

    fn restore(&mut self, state: &Tensors) -> Result<(), TrainingError> {
        self.centre = state["centre"].clone();
        Ok(())
    }

    fn matched(&self) -> Option<MatchedPair> {
        Some(MatchedPair {
            images: vec![2, 0],
            partners: vec![Some(0), Some(1)],
            affinity: vec![vec![0.5; 2]; 2],
            first_edges: vec![(0, 1)],
            second_edges: vec![(1, 0)],
        })
    }
}

/// The mean of the embeddings times a factor: near 0 nothing is learnt, with `NaN` numbers end.
pub(super) struct Push(pub(super) f64);

impl Objective for Push {
    fn initial(&self, _: u64, _: usize, _: usize) -> Result<Tensors, TrainingError> {
        Ok(Tensors::new())
    }

    fn loss(
        &mut self,
        _: &Params,
        _: Option<&Params>,
        shown: &Shown<'_>,
        _: Moment,
    ) -> Result<Scored, TrainingError> {
        let mean = shown.views[0].features.embedding.mean_all()?;
        Ok(Scored { loss: (mean * self.0)?, series: vec![] })
    }
}
