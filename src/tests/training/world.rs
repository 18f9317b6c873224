//! A job on generated pictures and random weights, and a host in memory that can stop it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use lvmed::domain::run::{Finetune, Method, Progress};
use lvmed::domain::training::Training;
use lvmed::domain::{Architecture, BackboneId, ImageId, Sha256, Split, Target, VersionId};
use lvmed::nn::weights;
use lvmed::onnx::{Export, export};
use lvmed::training::{
    self, CachedFeatures, Example, Host, HostError, Job, Outcome, Stop, TrainingError,
};

use crate::ground::{SIDE, backbone, ground, side};
use crate::pictures::png;
use crate::tensors::floats;

/// A curve's points.
pub(super) type Curve = BTreeMap<u64, f64>;

pub(super) struct World {
    pub(super) job: Job,
    pub(super) host: Memory,
    _folder: tempfile::TempDir,
}

impl World {
    /// A job on `training` pictures of two classes, four for validation and six for the test.
    pub(super) fn of(training: usize) -> Self {
        Self::on(Architecture::RESNET18, training)
    }

    /// The same on another network.
    pub(super) fn on(architecture: Architecture, training: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tensors = weights::random(architecture, 1).expect("weights");
        let (weights, onnx) = (folder.path().join("weights"), folder.path().join("onnx"));
        weights::write(&tensors, &BTreeMap::new(), &weights).expect("written");
        let metadata = BTreeMap::new();
        let what = Export {
            architecture,
            tensors: &tensors,
            size: side(architecture),
            head: None,
            metadata: &metadata,
        };
        std::fs::write(&onnx, export(&what).expect("a graph")).expect("written");
        let mut originals = HashMap::new();
        let sets = [(Split::Train, training), (Split::Validation, 4), (Split::Test, 6)];
        let mut examples = Vec::new();
        for (split, images) in sets {
            for number in 0..images {
                let label = number % 2;
                let bytes = Bytes::from(png(label, examples.len() as u32, SIDE));
                let blob = Sha256::of(&bytes);
                examples.push(Example {
                    image: ImageId::new(),
                    blob,
                    frame: 0,
                    target: Target::Class(label),
                    patient: format!("patient-{}", examples.len()),
                    split,
                });
                originals.insert(blob, bytes);
            }
        }
        let ground = ground("small", folder.path());
        let backbone = backbone("random", "none", architecture);
        let job = Job { ground, spec: spec(), examples, backbone, weights, onnx };
        Self { job, host: Memory { originals, ..Memory::default() }, _folder: folder }
    }

    /// Follows a recipe without augmentation.
    pub(super) fn method(&mut self, method: Method, training: Training) {
        (self.job.spec.method, self.job.spec.training) = (method, training);
    }

    /// Gives the training pictures labels that only learning by heart can find, and takes them for
    /// the test as well.
    pub(super) fn judge_what_was_learnt(&mut self) {
        self.job.examples.retain(|example| example.split == Split::Train);
        for (at, example) in self.job.examples.iter_mut().enumerate() {
            example.target = Target::Class((at / 2) % 2);
        }
        let again = self.job.examples.clone().into_iter();
        self.job.examples.extend(again.map(|example| Example { split: Split::Test, ..example }));
    }

    pub(super) fn run(&self) -> Result<Outcome, TrainingError> {
        let pool = lvmed::nn::with_threads(2, || training::run(&self.job, &self.host));
        pool.expect("threads start")
    }
}

fn spec() -> Finetune {
    Finetune {
        head: None,
        dataset_version: VersionId::new(),
        backbone: BackboneId::new(),
        method: Method::Full,
        shots: None,
        seed: 5,
        name: None,
        repeats: 1,
        random_baseline: false,
        training: Training::default(),
    }
}

/// A published file.
pub(super) fn file(outcome: &Outcome, name: &str) -> Vec<u8> {
    let found = outcome.files.iter().find(|file| file.name == name).expect("it is published");
    found.bytes.to_vec()
}

/// The values of a published tensor.
pub(super) fn numbers(outcome: &Outcome, tensor: &str) -> Vec<f32> {
    let tensors = weights::load_bytes(&file(outcome, "model.safetensors")).expect("weights");
    floats(&tensors[tensor])
}

/// A host in memory.
#[derive(Default)]
pub(super) struct Memory {
    originals: HashMap<Sha256, Bytes>,
    features: Mutex<CachedFeatures>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    checkpoints: Vec<Bytes>,
    curves: BTreeMap<String, Curve>,
    log: Vec<String>,
    settled: Option<u32>,
    /// The share of the run that a further attempt need not do again.
    share: f64,
    /// Metrics until it stops.
    left: Option<usize>,
    /// The stage in which it stops.
    stage: Option<&'static str>,
}

impl Memory {
    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().expect("not poisoned"))
    }

    /// Has the run handed back after so many losses.
    pub(super) fn stop_after(&self, losses: usize) {
        self.kept(|kept| kept.left = Some(losses));
    }

    /// Has the run handed back as soon as a stage tells of itself.
    pub(super) fn stop_in(&self, stage: &'static str) {
        self.kept(|kept| kept.stage = Some(stage));
    }

    pub(super) fn go_on(&self) {
        self.kept(|kept| (kept.left, kept.stage) = (None, None));
    }

    /// Forgets every checkpoint and curve, as if nothing had been run.
    pub(super) fn forget(&self) {
        self.kept(|kept| *kept = Kept::default());
        self.features.lock().expect("not poisoned").clear();
    }

    /// The cached features.
    pub(super) fn features(&self) -> CachedFeatures {
        self.features.lock().expect("not poisoned").clone()
    }

    /// Forgets all but so many cached features.
    pub(super) fn keep_features(&self, count: usize) {
        let mut features = self.features.lock().expect("not poisoned");
        let mut keys: Vec<_> = features.keys().copied().collect();
        keys.sort_unstable();
        for key in keys.split_off(count) {
            features.remove(&key);
        }
    }

    pub(super) fn checkpoints(&self) -> Vec<Bytes> {
        self.kept(|kept| kept.checkpoints.clone())
    }

    /// Cuts the newest checkpoint in half.
    pub(super) fn spoil_checkpoint(&self) {
        self.kept(|kept| {
            let newest = kept.checkpoints.last_mut().expect("there is one");
            *newest = newest.slice(..newest.len() / 2);
        });
    }

    pub(super) fn curve(&self, name: &str) -> Curve {
        self.kept(|kept| kept.curves.get(name).cloned().unwrap_or_default())
    }

    /// Every curve of losses.
    pub(super) fn losses(&self) -> BTreeMap<String, Curve> {
        self.kept(|kept| kept.curves.clone())
    }

    pub(super) fn log_text(&self) -> String {
        self.kept(|kept| kept.log.join("\n"))
    }

    pub(super) fn share(&self) -> f64 {
        self.kept(|kept| kept.share)
    }

    pub(super) fn settled(&self) -> Option<u32> {
        self.kept(|kept| kept.settled)
    }
}

impl Host for Memory {
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError> {
        self.originals.get(blob).cloned().ok_or_else(|| "no such original".into())
    }

    fn cached_features(&self, _: &[Sha256]) -> Result<CachedFeatures, HostError> {
        Ok(self.features.lock().expect("not poisoned").clone())
    }

    fn cache_features(&self, features: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
        let mut known = self.features.lock().expect("not poisoned");
        known.extend(features.iter().cloned());
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, HostError> {
        Ok(self.kept(|kept| kept.checkpoints.last().cloned()))
    }

    fn save_checkpoint(&self, bytes: Bytes) -> Result<(), HostError> {
        self.kept(|kept| kept.checkpoints.push(bytes));
        Ok(())
    }

    fn kept(&self, share: f64) -> Result<(), HostError> {
        Self::kept(self, |kept| kept.share = share);
        Ok(())
    }

    fn settle(&self, micro_batch: u32) -> Result<(), HostError> {
        self.kept(|kept| kept.settled = Some(micro_batch));
        Ok(())
    }

    fn progress(&self, progress: &Progress) -> Result<(), HostError> {
        self.kept(|kept| {
            if kept.stage.is_some_and(|stage| stage == progress.stage) {
                kept.left = Some(0);
            }
        });
        Ok(())
    }

    fn metric(&self, name: &str, step: u64, value: f64) -> Result<(), HostError> {
        self.kept(|kept| {
            kept.curves.entry(name.to_owned()).or_default().insert(step, value);
            if name.starts_with("train_loss") || name.starts_with("cv_loss") {
                kept.left = kept.left.map(|left| left.saturating_sub(1));
            }
        });
        Ok(())
    }

    fn log(&self, message: &str) -> Result<(), HostError> {
        self.kept(|kept| kept.log.push(message.to_owned()));
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.kept(|kept| (kept.left == Some(0)).then_some(Stop::HandedBack))
    }
}
