//! The loop with a clock that is set by hand and something to learn that counts its steps.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Closing, Cycle, Ended, Point, Stepped, Task, Terms, Watch};
use crate::domain::Sha256;
use crate::domain::run::Progress;
use crate::training::run::error::TrainingError;
use crate::training::run::host::{CachedFeatures, Host, HostError, Stop};
use crate::training::run::reporter::{Reporter, Stage};

/// Batches of an epoch.
const BATCHES: u64 = 4;

/// A world whose time passes when it is told to.
struct World {
    begun: Instant,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    seconds: u64,
    /// Steps and seconds of each checkpoint.
    checkpoints: Vec<String>,
    stop: Option<Stop>,
}

impl World {
    fn new() -> Self {
        Self { begun: Instant::now(), kept: Mutex::default() }
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().expect("not poisoned"))
    }

    fn pass(&self, seconds: u64) {
        self.kept(|kept| kept.seconds += seconds);
    }
}

impl Host for World {
    fn original(&self, _: &Sha256) -> Result<Bytes, HostError> {
        Err("there are no pictures".into())
    }

    fn cached_features(&self, _: &[Sha256]) -> Result<CachedFeatures, HostError> {
        Ok(CachedFeatures::new())
    }

    fn cache_features(&self, _: &[((Sha256, u32), Vec<f32>)]) -> Result<(), HostError> {
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, HostError> {
        Ok(None)
    }

    fn save_checkpoint(&self, bytes: Bytes) -> Result<(), HostError> {
        let text = String::from_utf8(bytes.to_vec())?;
        self.kept(|kept| kept.checkpoints.push(text));
        Ok(())
    }

    fn settle(&self, _: u32) -> Result<(), HostError> {
        Ok(())
    }

    fn progress(&self, _: &Progress) -> Result<(), HostError> {
        Ok(())
    }

    fn metric(&self, _: &str, _: u64, _: f64) -> Result<(), HostError> {
        Ok(())
    }

    fn log(&self, _: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn stop(&self) -> Option<Stop> {
        self.kept(|kept| kept.stop)
    }

    fn now(&self) -> Instant {
        self.begun + Duration::from_secs(self.kept(|kept| kept.seconds))
    }
}

/// Counts: each step takes ten seconds, closing an epoch five that do not count, writing `writes`.
struct Counting<'a> {
    world: &'a World,
    steps: Vec<(u32, u64)>,
    closed: u32,
    writes: u64,
    stop_at: Option<usize>,
}

impl<'a> Counting<'a> {
    fn on(world: &'a World) -> Self {
        Self { world, steps: Vec::new(), closed: 0, writes: 0, stop_at: None }
    }
}

impl Task for Counting<'_> {
    type Batches<'s> = ();
    type State = Point;

    fn open_epoch(&mut self, _: u32) -> u64 {
        BATCHES
    }

    fn step(&mut self, (): &mut (), now: Point) -> Result<Stepped, TrainingError> {
        self.steps.push((now.epoch, now.batch));
        self.world.pass(10);
        if self.stop_at == Some(self.steps.len()) {
            self.world.kept(|kept| kept.stop = Some(Stop::HandedBack));
        }
        Ok(Stepped { loss: 1.0, batches: 1, images: 2 })
    }

    fn close_epoch(&mut self, now: Point, watch: &mut Watch<'_>) -> Result<Closing, TrainingError> {
        watch.aside(|| self.world.pass(5));
        self.closed += 1;
        Ok(if now.ended.is_some() { Closing::Uncounted } else { Closing::Counted })
    }

    fn write(&self, now: Point) -> Result<Vec<u8>, TrainingError> {
        self.world.pass(self.writes);
        Ok(format!("step {} after {} s", now.step, now.seconds).into_bytes())
    }

    fn read(&mut self, state: Point) -> Result<Point, TrainingError> {
        Ok(state)
    }
}

fn terms() -> Terms {
    let stage = Stage { name: "training", from: 0.0, to: 1.0 };
    Terms {
        epochs: 3,
        steps: 3 * BATCHES,
        least_steps: 0,
        most_seconds: None,
        further: 0,
        checkpoint_every: Duration::from_secs(1000),
        stage,
        kept: stage,
        repeat: None,
    }
}

/// Runs from a point; where it ended.
fn run(task: &mut Counting<'_>, terms: Terms, from: Option<Point>) -> Result<Point, TrainingError> {
    let world = task.world;
    let reporter = Reporter::new(world);
    let mut cycle = Cycle::new(world, &reporter, terms);
    if let Some(from) = from {
        cycle.restore(task, from)?;
    }
    cycle.run(task, &mut ())?;
    Ok(cycle.point())
}

#[test]
fn all_epochs_are_run_and_kept_at_their_ends() {
    let world = World::new();
    let mut task = Counting::on(&world);

    let end = run(&mut task, terms(), None).expect("it ends");

    assert_eq!((task.steps.len(), task.closed), (12, 3));
    assert_eq!((end.epoch, end.batch, end.step), (3, 0, 12));
    assert_eq!(end.ended, Some(Ended::AllEpochs));
    // What closing an epoch took does not count.
    let kept = ["step 4 after 40 s", "step 8 after 80 s", "step 12 after 120 s"];
    assert_eq!(world.kept(|kept| kept.checkpoints.clone()), kept);
}

#[test]
fn a_checkpoint_that_takes_long_is_not_written_at_every_end_of_an_epoch() {
    let world = World::new();
    let mut task = Counting { writes: 30, ..Counting::on(&world) };

    run(&mut task, Terms { epochs: 20, ..terms() }, None).expect("it ends");

    let written = world.kept(|kept| kept.checkpoints.len());
    // Thirty of the seconds since the one before are a tenth after seven epochs of 45.
    assert_eq!(written, 3);
}

#[test]
fn a_long_epoch_is_kept_before_its_end() {
    let world = World::new();
    let mut task = Counting::on(&world);
    let often = Terms { epochs: 1, checkpoint_every: Duration::from_secs(20), ..terms() };

    run(&mut task, often, None).expect("it ends");

    let kept = ["step 2 after 20 s", "step 4 after 40 s", "step 4 after 40 s"];
    assert_eq!(world.kept(|kept| kept.checkpoints.clone()), kept);
}

#[test]
fn time_that_is_used_up_ends_it_but_not_before_the_least_steps() {
    for (least_steps, steps) in [(0, 3), (6, 6)] {
        let world = World::new();
        let mut task = Counting::on(&world);
        let terms = Terms { most_seconds: Some(30.0), least_steps, ..terms() };

        let end = run(&mut task, terms, None).expect("it ends");

        assert_eq!((end.ended, end.step), (Some(Ended::TimeBudget), steps));
        assert_eq!(task.steps.len() as u64, steps);
    }
}

#[test]
fn what_is_handed_back_is_kept_and_goes_on_with_no_step_twice_and_none_left_out() {
    let world = World::new();
    let mut first = Counting { stop_at: Some(6), ..Counting::on(&world) };

    let stopped = run(&mut first, terms(), None);

    assert!(matches!(stopped, Err(TrainingError::Stopped(Stop::HandedBack))));
    let newest = world.kept(|kept| kept.checkpoints.last().cloned());
    assert_eq!(newest.as_deref(), Some("step 6 after 60 s"));
    world.kept(|kept| kept.stop = None);
    let mut second = Counting::on(&world);
    let from = Point { epoch: 1, batch: 2, step: 6, ended: None, seconds: 60.0 };
    let end = run(&mut second, terms(), Some(from)).expect("it ends");
    let all: Vec<(u32, u64)> = first.steps.into_iter().chain(second.steps).collect();
    let wanted = (0..3).flat_map(|epoch| (0..BATCHES).map(move |batch| (epoch, batch)));
    assert_eq!(all, wanted.collect::<Vec<_>>());
    assert_eq!(end.step, 12);
    // The seconds of before count.
    let newest = world.kept(|kept| kept.checkpoints.last().cloned());
    assert_eq!(newest.as_deref(), Some("step 12 after 120 s"));
}
