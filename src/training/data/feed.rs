//! The batches that a run learns from: pictures, their order, augmentation and mixup in one.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::augment::Drawn;
use super::example::Example;
use super::making::{Making, Place};
use super::mixup::Mixing;
use super::order::{Plan, generator};
use super::pictures::Pictures;
use crate::domain::augmentation::Augmentation;
use crate::domain::imbalance::Mixup;
use crate::imaging::normalise;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// A batch, ready to go through a network.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its place in the run.
    pub place: Place,
    /// Indices of its images among the feed's examples.
    pub images: Vec<usize>,
    /// The class of each image itself, whatever it is mixed with.
    pub labels: Vec<u32>,
    /// Prepared pictures `[N, 3, size, size]`, `f32` on the CPU.
    pub input: Tensor,
    /// Share of each class `[N, K]`, `f32` on the CPU; rows add up to 1, one-hot where nothing is mixed.
    pub targets: Tensor,
}

/// The batches that a run learns from.
pub struct Feed<'a> {
    pictures: Arc<Pictures<'a>>,
    examples: &'a [&'a Example],
    classes: usize,
    plan: Plan,
    augmentation: Augmentation,
    mixup: Option<Mixup>,
}

impl<'a> Feed<'a> {
    /// Batches of `examples` in the order of `plan`, pictures as they are.
    pub fn new(
        pictures: Arc<Pictures<'a>>,
        examples: &'a [&'a Example],
        classes: usize,
        plan: Plan,
    ) -> Self {
        let augmentation = Augmentation::default();
        Self { pictures, examples, classes, plan, augmentation, mixup: None }
    }

    /// With pictures varied.
    #[must_use]
    pub fn augmented(self, augmentation: Augmentation) -> Self {
        Self { augmentation, ..self }
    }

    /// With images mixed, if `mixup` says so.
    #[must_use]
    pub fn mixed(self, mixup: Option<Mixup>) -> Self {
        Self { mixup, ..self }
    }

    /// One batch, made on the calling thread; nothing past the last batch of an epoch.
    pub fn load(&self, place: Place) -> Result<Option<Batch>, TrainingError> {
        let mut batches = self.plan.batches(place.epoch);
        if place.batch >= batches.len() as u64 {
            return Ok(None);
        }
        let images = batches.swap_remove(place.batch as usize);
        let pictures = (0..images.len())
            .map(|at| self.part(images[at], place, at))
            .collect::<Result<Vec<_>, _>>()?;
        self.assemble(place, images, pictures).map(Some)
    }
}

impl Making for Feed<'_> {
    /// A prepared picture, `3 * size * size` values.
    type Part = Vec<f32>;
    type Batch = Batch;

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn batch_bytes(&self) -> usize {
        let side = self.pictures.preprocessing().size as usize;
        self.plan.batch_size() * 3 * side * side * size_of::<f32>()
    }

    fn part(&self, image: usize, place: Place, at: usize) -> Result<Vec<f32>, TrainingError> {
        let compact = self.pictures.get(self.examples[image])?;
        // Only the last batch of an epoch has another length than those before it.
        let position = place.batch * self.plan.batch_size() as u64 + at as u64;
        let random = generator("augment", self.plan.seed(), place.epoch, position);
        let side = compact.width();
        let drawn = Drawn::draw(&self.augmentation, side, random);
        Ok(normalise(&drawn.apply(compact.planes(), side), self.pictures.preprocessing()))
    }

    fn assemble(
        &self,
        place: Place,
        images: Vec<usize>,
        pictures: Vec<Vec<f32>>,
    ) -> Result<Batch, TrainingError> {
        let mixing = match self.mixup {
            Some(mixup) => {
                let Place { epoch, batch } = place;
                Mixing::draw(mixup, images.len(), self.plan.seed(), epoch, batch)
            }
            None => Mixing::none(images.len()),
        };
        let labels: Vec<u32> =
            images.iter().map(|image| self.examples[*image].class() as u32).collect();
        let side = self.pictures.preprocessing().size as usize;
        let cpu = Device::Cpu;
        let input = Tensor::from_vec(mixing.mix(&pictures), (images.len(), 3, side, side), &cpu)?;
        let targets = mixing.targets(&labels, self.classes);
        let targets = Tensor::from_vec(targets, (images.len(), self.classes), &cpu)?;
        Ok(Batch { place, images, labels, input, targets })
    }

    fn id(&self, image: usize) -> crate::domain::ImageId {
        self.examples[image].image
    }

    fn host(&self) -> &dyn Host {
        self.pictures.host()
    }
}
