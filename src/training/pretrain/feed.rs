//! The views of a batch, made on any thread, alike on all of them.

use candle_core::{Device, Tensor};

use super::job::Job;
use super::views::{Drawn, Size};
use crate::domain::ImageId;
use crate::domain::pretrain::Views;
use crate::imaging::normalise;
use crate::training::data::example::Example;
use crate::training::data::{Making, Pictures, Place, Plan, Source, generator};
use crate::training::objective::Crop;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// The two views that are compared.
pub(super) const LARGE: usize = 2;

/// The views of a batch of `B` images.
pub(super) struct Batch {
    /// The two large views, `[2 B, 3, side, side]`: the first of every image, then the second.
    pub(super) large: Tensor,
    /// The small crops, `[n B, 3, side, side]` in the same order, where there are any.
    pub(super) small: Option<Tensor>,
    /// The place where each view was cut, view by view, image by image.
    pub(super) crops: Vec<Vec<Crop>>,
}

impl Batch {
    /// Number of images.
    pub(super) fn images(&self) -> usize {
        self.crops.first().map_or(0, Vec::len)
    }
}

/// The views of a run's pictures, batch by batch. Each view is a function of the seed, the epoch, the
/// place of its image in the epoch and the number of the view.
pub(super) struct ViewFeed<'a> {
    job: &'a Job,
    pictures: Pictures<'a>,
    shown: Vec<&'a Example>,
    plan: Plan,
}

impl<'a> ViewFeed<'a> {
    /// Views of the pictures of a job that are `shown`.
    pub(super) fn new(job: &'a Job, host: &'a dyn Host, shown: Vec<&'a Example>) -> Self {
        let source = Source {
            host,
            limits: &job.ground.limits,
            preprocessing: &job.preprocessing,
            scratch: &job.ground.scratch,
        };
        let learning = &job.spec.learning;
        let batch_size = learning.batch_size as usize;
        let plan = Plan::whole(shown.len(), batch_size, job.spec.seed, learning.epochs);
        Self { job, pictures: Pictures::new(source).within(job.detail()), shown, plan }
    }

    /// Fails when there is nothing to see on any picture. Looks at them in the order of the first
    /// epoch until there is, so that what is decoded is needed next.
    pub(super) fn look(&self) -> Result<(), TrainingError> {
        for image in self.plan.batches(0).into_iter().flatten() {
            if self.pictures.get(self.shown[image])?.has_contrast() {
                return Ok(());
            }
        }
        Err(TrainingError::NothingToSee { images: self.shown.len() })
    }

    fn settings(&self) -> &'a Views {
        &self.job.spec.views
    }

    fn side(&self, size: Size) -> u32 {
        match size {
            Size::Large => self.job.side(),
            Size::Small => self.settings().small_size,
        }
    }

    fn sizes(&self) -> impl Iterator<Item = Size> {
        let small = self.settings().small_crops as usize;
        std::iter::repeat_n(Size::Large, LARGE).chain(std::iter::repeat_n(Size::Small, small))
    }

    /// One view of each image on top of another.
    fn stack(
        &self,
        parts: &[Vec<(Vec<f32>, Crop)>],
        views: std::ops::Range<usize>,
        size: Size,
    ) -> Result<Tensor, TrainingError> {
        let side = self.side(size) as usize;
        let count = views.len() * parts.len();
        let mut values = Vec::with_capacity(count * 3 * side * side);
        for view in views {
            for part in parts {
                values.extend_from_slice(&part[view].0);
            }
        }
        Ok(Tensor::from_vec(values, (count, 3, side, side), &Device::Cpu)?)
    }
}

impl Making for ViewFeed<'_> {
    /// Each view of an image, prepared, and where it was cut.
    type Part = Vec<(Vec<f32>, Crop)>;
    type Batch = Batch;

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn part(&self, image: usize, place: Place, at: usize) -> Result<Self::Part, TrainingError> {
        let example = self.shown[image];
        let picture = self.pictures.get(example)?;
        let position = place.batch * self.plan.batch_size() as u64 + at as u64;
        let (views, seed) = (self.settings(), self.plan.seed());
        let each = self.sizes().enumerate().map(|(view, size)| {
            let mut random = generator(&format!("view/{view}"), seed, place.epoch, position);
            let shape = (picture.width(), picture.height());
            let drawn = Drawn::draw(views, size, shape, &mut random);
            let unreadable = |error| TrainingError::Image { image: example.image, error };
            let planes = drawn.apply(&picture, self.side(size)).map_err(unreadable)?;
            Ok((normalise(&planes, &self.job.preprocessing), drawn.crop(views)))
        });
        each.collect()
    }

    fn assemble(
        &self,
        _: Place,
        _: Vec<usize>,
        parts: Vec<Self::Part>,
    ) -> Result<Batch, TrainingError> {
        let views = self.sizes().count();
        let small = match views {
            LARGE => None,
            _ => Some(self.stack(&parts, LARGE..views, Size::Small)?),
        };
        let crops = |view: usize| parts.iter().map(|part| part[view].1).collect();
        Ok(Batch {
            large: self.stack(&parts, 0..LARGE, Size::Large)?,
            small,
            crops: (0..views).map(crops).collect(),
        })
    }

    fn id(&self, image: usize) -> ImageId {
        self.shown[image].image
    }

    fn host(&self) -> &dyn Host {
        self.pictures.host()
    }

    fn batch_bytes(&self) -> usize {
        let pixels = self.sizes().map(|size| (self.side(size) as usize).pow(2)).sum::<usize>();
        self.plan.batch_size() * 3 * pixels * size_of::<f32>()
    }
}
