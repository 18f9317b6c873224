//! The trait that a loader asks of whoever makes batches, and the place of a batch in a run.

use super::order::Plan;
use crate::domain::ImageId;
use crate::training::run::error::TrainingError;
use crate::training::run::host::Host;

/// A batch's place in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Batch within the epoch, from 0.
    pub batch: u64,
}

/// A maker of the batches of a loader: an image at a time, on any thread, then put together.
pub trait Making: Send + Sync {
    /// The part of a batch that is made of one image.
    type Part: Send;
    /// A batch.
    type Batch: Send;

    /// The plan of which images make which batch.
    fn plan(&self) -> &Plan;

    /// The part that is made of example `image` as number `at` of the batch at `place`; a function of
    /// the three and nothing else.
    fn part(&self, image: usize, place: Place, at: usize) -> Result<Self::Part, TrainingError>;

    /// A batch of parts that are ready, in the order of its images.
    fn assemble(
        &self,
        place: Place,
        images: Vec<usize>,
        parts: Vec<Self::Part>,
    ) -> Result<Self::Batch, TrainingError>;

    /// The id of example `image`.
    fn id(&self, image: usize) -> ImageId;

    /// Whom to ask whether the run must stop.
    fn host(&self) -> &dyn Host;

    /// Bytes of a batch.
    fn batch_bytes(&self) -> usize;
}
