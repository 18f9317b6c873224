//! MoCo v2: each view finds its image's key, made by a slow teacher, among keys of earlier images.
//!
//! He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020; the projector
//! is that of Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020. Shuffling
//! (section 3.3) keeps the statistics of a batch from telling which key belongs to which query. That
//! is not prevented here: a batch is on one device, where shuffling would change nothing. A backbone
//! with `frozen_statistics`, or a ViT, has no such statistics. Small crops are not part of the method
//! and are left out.

use candle_core::{DType, Device, Tensor};

use super::contrast::contrast;
use super::projector::{Between, Projector};
use super::scored::{Moment, Objective, Scored, mismatch};
use super::views::Shown;
use crate::domain::pretrain::Moco;
use crate::nn::kernel::draw::normal;
use crate::nn::ops::unit;
use crate::nn::{Params, Tensors};
use crate::training::data::generator;
use crate::training::run::error::TrainingError;

const QUEUE: &str = "objective.queue";

/// The objective, its projector and its queue.
#[derive(Debug)]
pub(super) struct Queued {
    projector: Projector,
    temperature: f64,
    momentum: f64,
    /// Keys in the queue, and channels of each.
    size: (usize, usize),
    /// Keys of length one, the oldest first; drawn at random at the first step.
    queue: Option<Tensor>,
}

impl Queued {
    /// The queue holds at most as many keys as there are `images`: those of half an epoch, since an
    /// image gives two. In a longer one most images would meet their own earlier keys among what
    /// they have to differ from.
    pub(super) fn new(settings: &Moco, images: usize) -> Self {
        let widths = [settings.hidden, settings.output];
        Self {
            projector: Projector::new("objective.projector", &widths, Between::Relu),
            temperature: settings.temperature,
            momentum: settings.momentum,
            size: ((settings.queue as usize).min(images.max(1)), settings.output as usize),
            queue: None,
        }
    }

    /// The queue as it is, or one of random directions as the authors' code begins with.
    fn keys(&self, moment: Moment, like: &Tensor) -> candle_core::Result<Tensor> {
        let keys = if let Some(queue) = &self.queue {
            queue.clone()
        } else {
            let mut random = generator("queue", moment.seed, 0, 0);
            let values = normal(&mut random, self.size.0 * self.size.1, 1.0);
            let directions = Tensor::from_vec(values, self.size, &Device::Cpu)?;
            unit(&directions.to_dtype(DType::F64)?)?
        };
        keys.to_dtype(like.dtype())?.to_device(like.device())
    }

    /// Puts the newest keys at the end and lets the oldest go.
    fn push(&mut self, queue: &Tensor, newest: [&Tensor; 2]) -> candle_core::Result<()> {
        let [first, second] = newest;
        let all = Tensor::cat(&[queue, first, second], 0)?;
        let surplus = all.dim(0)? - self.size.0;
        self.queue = Some(all.narrow(0, surplus, self.size.0)?.copy()?.detach());
        Ok(())
    }

    /// Eq. 1, `−log exp(q·k₊ / τ) / Σ_i exp(q·k_i / τ)`, over the own key and those of the queue.
    fn find(&self, q: &Tensor, own: &Tensor, queue: &Tensor) -> candle_core::Result<(Tensor, f64)> {
        let own = (q * own)?.sum_keepdim(1)?;
        let logits = (Tensor::cat(&[own, q.matmul(&queue.t()?)?], 1)? / self.temperature)?;
        contrast(&logits, &vec![0; q.dim(0)?])
    }
}

impl Objective for Queued {
    fn initial(&self, seed: u64, embedding: usize, _map: usize) -> Result<Tensors, TrainingError> {
        let mut tensors = Tensors::new();
        let mut random = generator("moco", seed, 0, 0);
        self.projector.initial(&mut random, embedding, &mut tensors)?;
        Ok(tensors)
    }

    /// `m` of Eq. 2, the same throughout.
    fn teacher_momentum(&self, _moment: Moment) -> Option<f64> {
        Some(self.momentum)
    }

    /// The mean of Eq. 1 over both directions, since both networks see both views: queries of one
    /// view, keys of the other. The keys of both then enter the queue.
    fn loss(
        &mut self,
        params: &Params,
        teacher: Option<&Params>,
        shown: &Shown<'_>,
        moment: Moment,
    ) -> Result<Scored, TrainingError> {
        let (first, second) = shown.large()?;
        let (teacher, [first_seen, second_seen]) = shown.taught(teacher)?;
        let query = |of: &Tensor| unit(&self.projector.forward(params, of)?);
        let key = |of: &Tensor| -> candle_core::Result<Tensor> {
            Ok(unit(&self.projector.forward(teacher, &of.detach())?)?.detach())
        };
        let (first_key, second_key) = (key(first_seen)?, key(second_seen)?);
        let queue = self.keys(moment, &first_key)?;
        let there = self.find(&query(&first.features.embedding)?, &second_key, &queue)?;
        let back = self.find(&query(&second.features.embedding)?, &first_key, &queue)?;
        self.push(&queue, [&first_key, &second_key])?;
        let found = f64::midpoint(there.1, back.1);
        let loss = ((there.0 + back.0)? * 0.5)?;
        Ok(Scored { loss, series: vec![("contrast_accuracy", found)] })
    }

    fn state(&self) -> Result<Tensors, TrainingError> {
        let mut state = Tensors::new();
        if let Some(queue) = &self.queue {
            state.insert(QUEUE.to_owned(), queue.to_device(&Device::Cpu)?.copy()?);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &Tensors) -> Result<(), TrainingError> {
        self.queue = match state.get(QUEUE) {
            None => None,
            Some(queue) if queue.dims2()? == self.size => Some(queue.copy()?.detach()),
            Some(queue) => {
                return Err(mismatch(QUEUE, queue, &[self.size.0, self.size.1]));
            }
        };
        Ok(())
    }
}
