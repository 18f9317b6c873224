//! Loading of training pictures: the same batches for any threads, cache and resumption; bounded;
//! errors where they belong; no thread left behind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lvmed::config::Limits;
use lvmed::domain::augmentation::Preset;
use lvmed::domain::imbalance::{Imbalance, Mixup};
use lvmed::domain::run::Progress;
use lvmed::domain::{ImageId, Preprocessing, Sha256, Split, Target};
use lvmed::training::data::{
    Batch, Drawing, Feed, Loader, Pictures, Place, Plan, Prefetch, Source,
};
use lvmed::training::{CachedFeatures, Example, Host, HostError, Stop, TrainingError};

use crate::dicoms::ct;
use crate::pictures::png;

/// A world of pictures in memory.
#[derive(Default)]
struct World {
    originals: HashMap<Sha256, Bytes>,
    /// The number of times that an original was asked for.
    asked: AtomicUsize,
    /// The time that an original takes.
    delay: Duration,
    stop: Mutex<Option<Stop>>,
}

impl Host for World {
    fn original(&self, blob: &Sha256) -> Result<Bytes, HostError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        thread::sleep(self.delay);
        self.originals.get(blob).cloned().ok_or_else(|| "there is no such blob".into())
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

    fn save_checkpoint(&self, _: Bytes) -> Result<(), HostError> {
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
        *self.stop.lock().expect("nobody panics with it")
    }
}

/// Pictures, their world, and what they are prepared for.
struct Set {
    world: World,
    examples: Vec<Example>,
    limits: Limits,
    preprocessing: Preprocessing,
    scratch: tempfile::TempDir,
}

const SIZE: usize = 32;
const PICTURES: u32 = 23;
/// Bytes of a decoded grey PNG in the cache.
const PNG_BYTES: u64 = (SIZE * SIZE) as u64;

impl Set {
    /// Grey PNGs of two classes, every fourth a CT slice instead.
    fn new() -> Self {
        let mut set = Self {
            world: World::default(),
            examples: Vec::new(),
            limits: Limits::default(),
            preprocessing: Preprocessing { size: SIZE as u32, ..Preprocessing::imagenet() },
            scratch: tempfile::tempdir().expect("a folder"),
        };
        for number in 0..PICTURES {
            let class = number as usize % 2;
            let is_ct = number % 4 == 3;
            set.add(class, if is_ct { ct(class, number, "X") } else { png(class, number, 48) });
        }
        set
    }

    fn add(&mut self, label: usize, original: Vec<u8>) {
        let blob = Sha256::of(&original);
        let (image, patient) = (ImageId::new(), self.examples.len().to_string());
        let target = Target::Class(label);
        let example = Example { image, blob, frame: 0, target, patient, split: Split::Train };
        self.examples.push(example);
        self.world.originals.insert(blob, original.into());
    }

    fn pictures(&self) -> Arc<Pictures<'_>> {
        Arc::new(Pictures::new(Source {
            host: &self.world,
            limits: &self.limits,
            preprocessing: &self.preprocessing,
            scratch: self.scratch.path(),
        }))
    }
}

fn plan(examples: &[&Example]) -> Plan {
    let labels: Vec<u32> = examples.iter().map(|example| example.class() as u32).collect();
    let imbalance = Imbalance::BalancedSampling;
    Plan::training(&labels, Drawing { batch_size: 5, imbalance, seed: 11, epochs: 3 })
}

fn feed<'a>(pictures: Arc<Pictures<'a>>, examples: &'a [&'a Example]) -> Feed<'a> {
    Feed::new(pictures, examples, 2, plan(examples))
        .augmented(Preset::Mri.settings())
        .mixed(Some(Mixup { alpha: 0.4 }))
}

/// All that a batch holds, to the bit.
type Content = (Place, Vec<usize>, Vec<u32>, Vec<u32>, Vec<u32>);

fn content(batch: &Batch) -> Content {
    let bits = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().expect("flat").to_vec1::<f32>().expect("values");
        values.into_iter().map(f32::to_bits).collect()
    };
    let (input, targets) = (bits(&batch.input), bits(&batch.targets));
    (batch.place, batch.images.clone(), batch.labels.clone(), input, targets)
}

fn loaded(feed: Feed<'_>, from: Place, prefetch: Prefetch) -> Vec<Content> {
    thread::scope(|scope| {
        let loader = Loader::start(scope, Arc::new(feed), from, prefetch).expect("threads");
        loader.map(|batch| content(&batch.expect("a batch"))).collect()
    })
}

#[test]
fn batches_are_the_same_for_any_threads_cache_and_place_to_begin() {
    let mut set = Set::new();
    let examples: Vec<Example> = set.examples.clone();
    let examples: Vec<&Example> = examples.iter().collect();
    let first = Place::default();

    let one = Prefetch { threads: 1, ahead: 1 };
    let all = loaded(feed(set.pictures(), &examples), first, one);

    // 23 images in batches of 5, three times.
    assert_eq!(all.len(), 3 * 5);
    assert!(all.iter().map(|batch| batch.0).is_sorted());
    for threads in [2, 4] {
        let prefetch = Prefetch { threads, ahead: 3 };
        assert!(loaded(feed(set.pictures(), &examples), first, prefetch) == all);
    }
    for (epoch, batch) in [(0, 3), (1, 0), (1, 4), (2, 4)] {
        let resumed = loaded(feed(set.pictures(), &examples), Place { epoch, batch }, one);
        assert!(resumed[..] == all[5 * epoch as usize + batch as usize..]);
    }
    let at_hand = feed(set.pictures(), &examples);
    for expected in &all {
        let batch = at_hand.load(expected.0).expect("readable").expect("there is one");
        assert!(content(&batch) == *expected);
    }
    assert!(at_hand.load(Place { epoch: 0, batch: 5 }).expect("readable").is_none());
    (set.limits.training_cache_bytes, set.limits.training_spill_bytes) = (0, 0);
    assert!(loaded(feed(set.pictures(), &examples), first, one) == all);
    set.limits.training_spill_bytes = 1 << 20;
    set.limits.free_bytes = 0;
    assert!(loaded(feed(set.pictures(), &examples), first, one) == all);
}

#[test]
fn each_original_is_decoded_once_as_long_as_there_is_room_and_the_room_is_kept() {
    let mut set = Set::new();
    let examples: Vec<Example> = set.examples.clone();
    let examples: Vec<&Example> = examples.iter().collect();
    let asked = |set: &Set| {
        set.world.asked.store(0, Ordering::SeqCst);
        let pictures = set.pictures();
        let plan = Plan::in_order(examples.len(), 4);
        for _ in 0..3 {
            let feed = Feed::new(Arc::clone(&pictures), &examples, 2, plan.clone());
            loaded(feed, Place::default(), Prefetch { threads: 2, ahead: 2 });
        }
        let used = pictures.used();
        (set.world.asked.load(Ordering::SeqCst) as u64, used.memory, used.file)
    };
    let pictures = u64::from(PICTURES);
    // 16 bits for the five CT slices with a window, 8 for the others.
    let all = (pictures + 5) * PNG_BYTES;

    assert_eq!(asked(&set), (pictures, all, 0));
    set.limits.training_cache_bytes = 0;
    set.limits.free_bytes = 0;
    assert_eq!(asked(&set), (pictures, 0, all));
    assert_eq!(set.scratch.path().read_dir().expect("a folder").count(), 0);
    set.limits.training_spill_bytes = 0;
    assert_eq!(asked(&set), (3 * pictures, 0, 0));
    (set.limits.training_cache_bytes, set.limits.training_spill_bytes) =
        (3 * PNG_BYTES + 17, 5 * PNG_BYTES);
    let (asked, memory, file) = asked(&set);
    assert!(asked > pictures && asked < 3 * pictures, "{asked}");
    assert!(memory <= 3 * PNG_BYTES + 17 && file <= 5 * PNG_BYTES, "{memory} {file}");
}

#[test]
fn no_more_batches_are_made_ahead_than_asked_for() {
    let mut set = Set::new();
    set.limits.training_cache_bytes = 0;
    set.limits.training_spill_bytes = 0;
    let examples: Vec<&Example> = set.examples.iter().collect();
    let wait_for = |images: usize| {
        let until = Instant::now() + Duration::from_secs(30);
        while set.world.asked.load(Ordering::SeqCst) < images && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        // Time enough to go too far.
        thread::sleep(Duration::from_millis(200));
        set.world.asked.load(Ordering::SeqCst)
    };

    thread::scope(|scope| {
        let prefetch = Prefetch { threads: 3, ahead: 2 };
        let feed = Arc::new(feed(set.pictures(), &examples));
        let mut loader = Loader::start(scope, feed, Place::default(), prefetch).expect("threads");

        assert_eq!(wait_for(10), 10);
        loader.next().expect("a batch").expect("readable");
        assert_eq!(wait_for(15), 15);
    });
}

#[test]
fn a_broken_original_is_named_where_its_batch_would_have_been() {
    let mut set = Set::new();
    let whole = png(1, 900, 48);
    set.add(1, whole[..whole.len() / 2].to_vec());
    set.examples.swap(9, PICTURES as usize);
    let examples: Vec<&Example> = set.examples.iter().collect();
    let broken = examples[9].image;
    for threads in [1, 4] {
        let feed = Feed::new(set.pictures(), &examples, 2, Plan::in_order(examples.len(), 4));

        let batches: Vec<_> = thread::scope(|scope| {
            let prefetch = Prefetch { threads, ahead: 3 };
            Loader::start(scope, Arc::new(feed), Place::default(), prefetch)
                .expect("threads")
                .collect()
        });

        assert_eq!(batches.len(), 3);
        assert!(batches[..2].iter().all(Result::is_ok));
        let error = batches[2].as_ref().expect_err("image 9 is in batch 2");
        assert!(matches!(error, TrainingError::Image { image, .. } if *image == broken));
        assert!(error.to_string().contains(&broken.to_string()), "{error}");
    }
}

#[test]
fn a_blob_that_is_gone_is_the_worlds_fault_and_worth_another_attempt() {
    let mut set = Set::new();
    set.world.originals.remove(&set.examples[0].blob);
    let examples: Vec<&Example> = set.examples.iter().collect();
    let feed = Feed::new(set.pictures(), &examples, 2, Plan::in_order(examples.len(), 4));

    let first = thread::scope(|scope| {
        let prefetch = Prefetch { threads: 2, ahead: 2 };
        let mut loader =
            Loader::start(scope, Arc::new(feed), Place::default(), prefetch).expect("threads");
        let first = loader.next().expect("an answer");
        assert!(loader.next().is_none());
        first
    });

    assert!(first.expect_err("no blob").is_transient());
}

#[test]
fn a_loader_that_is_dropped_ends_its_threads_at_once() {
    let mut set = Set::new();
    set.world.delay = Duration::from_millis(50);
    let examples: Vec<&Example> = set.examples.iter().collect();
    for taken in [0, 1, 3] {
        let began = thread::scope(|scope| {
            let prefetch = Prefetch { threads: 4, ahead: 2 };
            let feed = Arc::new(feed(set.pictures(), &examples));
            let loader = Loader::start(scope, feed, Place::default(), prefetch).expect("threads");
            assert_eq!(loader.take(taken).flatten().count(), taken);
            Instant::now()
        });

        // An image at hand may still take its 50 ms.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn a_run_that_must_stop_does_not_wait_for_its_batch() {
    let mut set = Set::new();
    set.world.delay = Duration::from_millis(700);
    set.world.stop = Mutex::new(Some(Stop::Cancelled));
    let examples: Vec<&Example> = set.examples.iter().collect();

    let answer = thread::scope(|scope| {
        let prefetch = Prefetch { threads: 1, ahead: 1 };
        let feed = Arc::new(feed(set.pictures(), &examples));
        let mut loader = Loader::start(scope, feed, Place::default(), prefetch).expect("threads");
        loader.next().expect("an answer")
    });

    assert!(matches!(answer, Err(TrainingError::Stopped(Stop::Cancelled))));
    assert_eq!(set.world.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn nothing_to_load_is_no_batch_and_no_wait() {
    let set = Set::new();
    let examples: Vec<&Example> = set.examples.iter().collect();
    let prefetch = Prefetch { threads: 2, ahead: 2 };

    let none = Feed::new(set.pictures(), &[], 2, Plan::in_order(0, 4));
    assert_eq!(loaded(none, Place::default(), prefetch).len(), 0);
    let past = Place { epoch: 3, batch: 0 };
    assert_eq!(loaded(feed(set.pictures(), &examples), past, prefetch).len(), 0);
    let last = Place { epoch: 2, batch: 5 };
    assert_eq!(loaded(feed(set.pictures(), &examples), last, prefetch).len(), 0);
}

#[test]
fn large_pictures_are_made_less_far_ahead_and_no_machine_loads_on_all_its_threads() {
    let mut set = Set::new();
    let prefetch = |set: &Set, threads| {
        let examples: Vec<&Example> = set.examples.iter().collect();
        Prefetch::of(&feed(set.pictures(), &examples), threads)
    };

    assert_eq!(prefetch(&set, 2), Prefetch { threads: 2, ahead: 4 });
    assert_eq!(prefetch(&set, 0).threads, 1);
    assert_eq!(prefetch(&set, 64).threads, 8);
    // 5 pictures of 3 MiB values.
    set.preprocessing.size = 1024;
    assert_eq!(prefetch(&set, 2).ahead, 4);
    set.preprocessing.size = 2048;
    assert_eq!(prefetch(&set, 2).ahead, 1);
}
