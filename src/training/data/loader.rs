//! Batches made ahead on threads of their own, handed over in order.
//!
//! The threads take the images of the next batches one by one, in the order of the plan, but open no
//! batch while `ahead` of them are being made or wait to be taken: that bounds the memory. Whoever
//! finishes the last image of a batch puts it together.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

use super::feed::Feed;
use super::making::{Making, Place};
use super::order::Plan;
use crate::imaging::ImagingError;
use crate::training::run::error::TrainingError;

/// The length of a wait for a batch before the run is asked whether it must stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// Memory that batches made ahead may take, beyond the one that there always is.
const AHEAD_BYTES: usize = 256 << 20;
/// Most batches made ahead.
const MOST_AHEAD: usize = 4;
/// Threads that decode and augment keep even a fast network busy with fewer than this.
const MOST_THREADS: usize = 8;

/// The settings by which a loader works ahead. What comes out does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Threads that decode and augment.
    pub threads: usize,
    /// Batches that are being made or wait to be taken, at most.
    pub ahead: usize,
}

impl Prefetch {
    /// For a feed, on a machine that computes with so many threads.
    pub fn of(feed: &impl Making, threads: usize) -> Self {
        let ahead = AHEAD_BYTES / feed.batch_bytes().max(1);
        Self { threads: threads.clamp(1, MOST_THREADS), ahead: ahead.clamp(1, MOST_AHEAD) }
    }
}

/// The batches of a feed from one place to the end of its last epoch, in order.
///
/// Ends after an error: a batch with an image that cannot be read gives the error where the batch
/// would have been. Dropping it ends its threads once each has finished the image at hand.
pub struct Loader<'a, F: Making = Feed<'a>> {
    shared: Arc<Shared<F>>,
    /// The scope that its threads belong to.
    scope: PhantomData<&'a ()>,
}

struct Shared<F: Making> {
    feed: Arc<F>,
    ahead: usize,
    state: Mutex<State<F>>,
    /// A batch is ready.
    ready: Condvar,
    /// A batch was taken, or there is nothing more to do.
    room: Condvar,
}

struct State<F: Making> {
    stopped: bool,
    /// The next image to be taken by a thread; none when all have been.
    next: Option<Cursor>,
    /// Batches that are being made or wait to be taken.
    making: VecDeque<InHand<F>>,
    /// Batches that were taken: the number of the first of `making`.
    taken: u64,
}

/// An image's place in the run.
struct Cursor {
    place: Place,
    at: usize,
    /// The batches of its epoch.
    batches: Vec<Vec<usize>>,
}

/// A batch that is being made.
struct InHand<F: Making> {
    images: Vec<usize>,
    parts: Vec<Option<Result<F::Part, TrainingError>>>,
    /// Images that are still to be done.
    left: usize,
    batch: Option<Result<F::Batch, TrainingError>>,
}

/// One image to be done.
struct Task {
    /// Number of its batch, counted from the loader's first.
    number: u64,
    place: Place,
    at: usize,
    image: usize,
}

impl<'a, F: Making + 'a> Loader<'a, F> {
    /// Starts making the batches of `feed` from a place on.
    ///
    /// The threads belong to `scope`, which ends once the loader has been dropped or has ended.
    pub fn start(
        scope: &'a Scope<'a, '_>,
        feed: Arc<F>,
        from: Place,
        prefetch: Prefetch,
    ) -> Result<Self, TrainingError> {
        let state = State {
            stopped: false,
            next: Cursor::at(feed.plan(), from),
            making: VecDeque::new(),
            taken: 0,
        };
        let shared = Arc::new(Shared {
            feed,
            ahead: prefetch.ahead.max(1),
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        // Made before the threads: if one of them cannot be started, dropping it ends the others.
        let loader = Self { shared, scope: PhantomData };
        for thread in 0..prefetch.threads.max(1) {
            let shared = Arc::clone(&loader.shared);
            let named = Builder::new().name(format!("loader-{thread}"));
            named.spawn_scoped(scope, move || shared.work())?;
        }
        Ok(loader)
    }
}

impl<F: Making> Iterator for Loader<'_, F> {
    type Item = Result<F::Batch, TrainingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(batch) = state.making.front_mut().and_then(|front| front.batch.take()) {
                state.making.pop_front();
                state.taken += 1;
                state.stopped = batch.is_err();
                self.shared.room.notify_all();
                return Some(batch);
            }
            if state.making.is_empty() && state.next.is_none() {
                return None;
            }
            let waited = self.shared.ready.wait_timeout(state, PATIENCE);
            let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = held;
            if timeout.timed_out()
                && let Some(stop) = self.shared.feed.host().stop()
            {
                state.stopped = true;
                self.shared.room.notify_all();
                return Some(Err(TrainingError::Stopped(stop)));
            }
        }
    }
}

impl<F: Making> Drop for Loader<'_, F> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
    }
}

impl<F: Making> Shared<F> {
    /// The work of a thread until there is nothing left.
    fn work(&self) {
        while let Some(task) = self.task() {
            let Task { image, place, at, .. } = task;
            // A decoder that panics must not leave the other side waiting for ever.
            let work = AssertUnwindSafe(|| self.feed.part(image, place, at));
            let part = catch_unwind(work).unwrap_or_else(|_| {
                let error = ImagingError::DecoderFailed;
                Err(TrainingError::Image { image: self.feed.id(image), error })
            });
            if let Some((images, parts)) = self.deliver(&task, part) {
                let work = AssertUnwindSafe(|| {
                    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
                    self.feed.assemble(task.place, images, parts)
                });
                let batch = catch_unwind(work).unwrap_or_else(|_| {
                    Err(std::io::Error::other("a batch could not be put together").into())
                });
                self.finish(&task, batch);
            }
        }
    }

    /// Waits for an image to do; none when there is nothing left.
    fn task(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let opens = state.next.as_ref()?.at == 0;
            if !opens || state.making.len() < self.ahead {
                break;
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let state = &mut *state;
        let cursor = state.next.as_mut()?;
        let images = &cursor.batches[cursor.place.batch as usize];
        if cursor.at == 0 {
            state.making.push_back(InHand {
                images: images.clone(),
                parts: images.iter().map(|_| None).collect(),
                left: images.len(),
                batch: None,
            });
        }
        let (place, at, image) = (cursor.place, cursor.at, images[cursor.at]);
        cursor.at += 1;
        if cursor.at == images.len() {
            let after = Place { epoch: place.epoch, batch: place.batch + 1 };
            state.next = state.next.take().and_then(|cursor| cursor.moved(self.feed.plan(), after));
            if state.next.is_none() {
                self.room.notify_all();
            }
        }
        let number = state.taken + state.making.len() as u64 - 1;
        Some(Task { number, place, at, image })
    }

    /// Hands what was made of an image in; all of its batch when it was the last.
    #[expect(clippy::type_complexity, reason = "the parts of a batch, taken apart at once")]
    fn deliver(
        &self,
        task: &Task,
        part: Result<F::Part, TrainingError>,
    ) -> Option<(Vec<usize>, Vec<Result<F::Part, TrainingError>>)> {
        let mut state = self.lock();
        let number = task.number.checked_sub(state.taken)?;
        let making = state.making.get_mut(number as usize)?;
        making.parts[task.at] = Some(part);
        making.left -= 1;
        if making.left > 0 {
            return None;
        }
        let parts = std::mem::take(&mut making.parts).into_iter().flatten().collect();
        Some((std::mem::take(&mut making.images), parts))
    }

    /// Hands a batch in.
    fn finish(&self, task: &Task, batch: Result<F::Batch, TrainingError>) {
        let mut state = self.lock();
        let Some(number) = task.number.checked_sub(state.taken) else { return };
        if let Some(making) = state.making.get_mut(number as usize) {
            making.batch = Some(batch);
            self.ready.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cursor {
    /// The first image at a place or after it.
    fn at(plan: &Plan, place: Place) -> Option<Self> {
        let epoch = place.epoch;
        let batches = if epoch < plan.epochs() { plan.batches(epoch) } else { vec![] };
        Self { place, at: 0, batches }.settled(plan)
    }

    /// The first image of a batch of the same epoch, or what comes after it.
    fn moved(self, plan: &Plan, place: Place) -> Option<Self> {
        Self { place, at: 0, ..self }.settled(plan)
    }

    /// Past the end of an epoch comes the next one; past the last one nothing.
    fn settled(self, plan: &Plan) -> Option<Self> {
        let Place { epoch, batch } = self.place;
        if batch < self.batches.len() as u64 {
            return Some(self);
        }
        let epoch = epoch.checked_add(1).filter(|epoch| *epoch < plan.epochs())?;
        let batches = plan.batches(epoch);
        let next = Self { place: Place { epoch, batch: 0 }, at: 0, batches };
        (!next.batches.is_empty()).then_some(next)
    }
}
