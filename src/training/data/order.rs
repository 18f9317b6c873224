//! The order of images in batches: every draw a function of the seed and the epoch, so that it can be
//! resumed anywhere.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use crate::domain::imbalance::Imbalance;

/// A generator for one purpose at one place of a run.
pub fn generator(purpose: &str, seed: u64, epoch: u32, place: u64) -> StdRng {
    let digest = Sha256::digest(format!("{purpose}/{seed}/{epoch}/{place}"));
    StdRng::from_seed(digest.into())
}

/// The plan of which images make which batch, epoch by epoch.
#[derive(Debug, Clone)]
pub struct Plan {
    order: Order,
    batch_size: usize,
    seed: u64,
    epochs: u32,
}

/// The origin of the order of an epoch.
#[derive(Debug, Clone)]
enum Order {
    /// As they are given.
    Given(usize),
    /// Each once, shuffled.
    Shuffled(usize),
    /// Shuffled, as many as make whole batches.
    Whole(usize),
    /// As many of each class, `total` in all. The classes hold the images of each that has any.
    Balanced { classes: Vec<Vec<usize>>, total: usize },
    /// Each, and those of smaller classes again.
    Oversampled { classes: Vec<Vec<usize>>, largest: usize },
}

/// The rule by which the batches of training are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    /// Images in a batch.
    pub batch_size: usize,
    /// The remedy for classes of unequal size.
    pub imbalance: Imbalance,
    /// Seed of the run.
    pub seed: u64,
    /// Epochs of the run.
    pub epochs: u32,
}

impl Plan {
    /// Every image once in the order given: for validation, tests and cached activations. The last
    /// batch has what is left, even a single image.
    pub fn in_order(images: usize, batch_size: usize) -> Self {
        Self { order: Order::Given(images), batch_size: batch_size.max(1), seed: 0, epochs: 1 }
    }

    /// Epochs of training images with these classes.
    pub fn training(labels: &[u32], drawing: Drawing) -> Self {
        let Drawing { batch_size, imbalance, seed, epochs } = drawing;
        let images = labels.len();
        let order = match imbalance {
            Imbalance::None | Imbalance::ClassWeights => Order::Shuffled(images),
            Imbalance::BalancedSampling => {
                Order::Balanced { classes: by_class(labels), total: images }
            }
            Imbalance::Oversampling => {
                let classes = by_class(labels);
                let largest = classes.iter().map(Vec::len).max().unwrap_or(0);
                Order::Oversampled { classes, largest }
            }
        };
        Self { order, batch_size: batch_size.max(1), seed, epochs }
    }

    /// Epochs of images without classes, in whole batches alone: another few images are left out of
    /// each epoch.
    pub fn whole(images: usize, batch_size: usize, seed: u64, epochs: u32) -> Self {
        Self { order: Order::Whole(images), batch_size: batch_size.max(1), seed, epochs }
    }

    /// Images that an epoch shows; one that it shows twice counts twice.
    pub fn images(&self) -> usize {
        match &self.order {
            Order::Given(images) | Order::Shuffled(images) => *images,
            Order::Whole(images) => images - images % self.batch_size,
            Order::Balanced { total, .. } => *total,
            Order::Oversampled { classes, largest } => classes.len() * largest,
        }
    }

    /// Epochs that there are.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// Images in a batch; the last of an epoch may differ.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Seed of all draws.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Batches that an epoch has; the same for every epoch.
    pub fn batch_count(&self) -> u64 {
        let (full, left) = (self.images() / self.batch_size, self.images() % self.batch_size);
        let joined = left == 1 && full > 0 && self.joins_single();
        (full + usize::from(left > 0 && !joined)) as u64
    }

    /// The batches of an epoch: indices of images.
    ///
    /// In training, a last batch of one image joins the one before it: batch statistics need company.
    pub fn batches(&self, epoch: u32) -> Vec<Vec<usize>> {
        let order = self.order(epoch);
        let mut batches: Vec<Vec<usize>> =
            order.chunks(self.batch_size).map(<[usize]>::to_vec).collect();
        if self.joins_single()
            && batches.len() > 1
            && let Some(single) = batches.pop_if(|last| last.len() == 1)
            && let Some(before) = batches.last_mut()
        {
            before.extend(single);
        }
        batches
    }

    fn joins_single(&self) -> bool {
        // Batches of one are then what is asked for.
        self.batch_size > 1 && !matches!(self.order, Order::Given(_))
    }

    fn order(&self, epoch: u32) -> Vec<usize> {
        let mut random = generator("order", self.seed, epoch, 0);
        let mut order: Vec<usize> = match &self.order {
            Order::Given(images) => return (0..*images).collect(),
            Order::Shuffled(images) | Order::Whole(images) => (0..*images).collect(),
            Order::Balanced { classes, total } => {
                // Which classes get one more, where they do not divide evenly, is drawn as well.
                let mut ranks: Vec<usize> = (0..classes.len()).collect();
                ranks.shuffle(&mut random);
                let quota = |rank: usize| (total + rank) / classes.len();
                let drawn = classes.iter().zip(ranks);
                drawn.flat_map(|(class, rank)| take(class, quota(rank), &mut random)).collect()
            }
            Order::Oversampled { classes, largest } => {
                classes.iter().flat_map(|class| take(class, *largest, &mut random)).collect()
            }
        };
        order.shuffle(&mut random);
        order.truncate(self.images());
        order
    }
}

/// `count` images of a class: all of them in a drawn order before any comes again.
fn take(class: &[usize], count: usize, random: &mut StdRng) -> Vec<usize> {
    let mut taken = Vec::with_capacity(count + class.len());
    while taken.len() < count {
        let start = taken.len();
        taken.extend_from_slice(class);
        taken[start..].shuffle(random);
    }
    taken.truncate(count);
    taken
}

/// The images of each class that has any.
fn by_class(labels: &[u32]) -> Vec<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let mut found = vec![Vec::new(); classes];
    for (at, label) in labels.iter().enumerate() {
        found[*label as usize].push(at);
    }
    found.retain(|class| !class.is_empty());
    found
}

/// A weight for the loss of each class: inverse to its frequency, `w_k ∝ 1 / n_k`, with mean 1 over
/// the classes that have an image; a class that has none weighs 1.
pub fn class_weights(labels: &[u32], classes: usize) -> Vec<f32> {
    let mut counts = vec![0.0_f64; classes];
    for label in labels {
        if let Some(count) = counts.get_mut(*label as usize) {
            *count += 1.0;
        }
    }
    let present = counts.iter().filter(|count| **count > 0.0);
    let (number, total) =
        present.fold((0.0, 0.0), |(number, total), count| (number + 1.0, total + 1.0 / count));
    let weight = |count: &f64| if *count > 0.0 { (number / (count * total)) as f32 } else { 1.0 };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::{Drawing, Plan, class_weights};
    use crate::domain::imbalance::Imbalance;

    fn plan(labels: &[u32], batch_size: usize, imbalance: Imbalance, seed: u64) -> Plan {
        Plan::training(labels, Drawing { batch_size, imbalance, seed, epochs: 3 })
    }

    fn shuffled(images: usize, batch_size: usize, seed: u64) -> Plan {
        plan(&vec![0; images], batch_size, Imbalance::None, seed)
    }

    /// 30 images of class 0, 10 of class 1, none of class 2, 2 of class 3.
    fn unequal() -> Vec<u32> {
        [vec![0; 30], vec![1; 10], vec![3; 2]].concat()
    }

    fn shown(plan: &Plan, epoch: u32) -> Vec<usize> {
        plan.batches(epoch).into_iter().flatten().collect()
    }

    fn counts(labels: &[u32], shown: &[usize]) -> [usize; 4] {
        let mut counts = [0; 4];
        shown.iter().for_each(|at| counts[labels[*at] as usize] += 1);
        counts
    }

    #[test]
    fn an_epoch_shows_every_image_once_and_never_one_alone() {
        let drawn = shuffled(33, 16, 7).batches(2);

        let mut all: Vec<usize> = drawn.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..33).collect::<Vec<_>>());
        assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [16, 17]);
    }

    #[test]
    fn the_number_of_batches_is_that_of_the_batches_drawn() {
        for images in 0..40 {
            for size in [1, 2, 3, 16] {
                let plans = [
                    shuffled(images, size, 1),
                    Plan::in_order(images, size),
                    Plan::whole(images, size, 1, 3),
                ];
                for plan in plans {
                    assert_eq!(plan.batch_count(), plan.batches(0).len() as u64, "{plan:?}");
                }
            }
        }
        assert_eq!(Plan::in_order(33, 16).batches(0)[2], [32]);
    }

    #[test]
    fn whole_batches_leave_other_images_out_of_each_epoch() {
        let plan = Plan::whole(33, 16, 7, 9);

        assert!((0..9).all(|epoch| plan.batches(epoch).iter().all(|batch| batch.len() == 16)));
        let out: Vec<usize> = (0..9)
            .filter_map(|epoch| (0..33).find(|at| !shown(&plan, epoch).contains(at)))
            .collect();
        assert!(out.len() == 9 && out.iter().any(|at| *at != out[0]), "{out:?}");
        assert_eq!(Plan::whole(15, 16, 7, 9).batch_count(), 0);
    }

    #[test]
    fn the_order_is_drawn_anew_each_epoch_and_again_alike() {
        for imbalance in [Imbalance::None, Imbalance::BalancedSampling, Imbalance::Oversampling] {
            let (one, again) =
                (plan(&unequal(), 8, imbalance, 7), plan(&unequal(), 8, imbalance, 7));
            assert_eq!(one.batches(1), again.batches(1));
            assert_ne!(one.batches(1), one.batches(2));
            assert_ne!(one.batches(1), plan(&unequal(), 8, imbalance, 8).batches(1));
        }
    }

    #[test]
    fn balanced_sampling_shows_each_class_as_often_and_repeats_only_when_all_were_shown() {
        let labels = unequal();
        let plan = plan(&labels, 8, Imbalance::BalancedSampling, 3);

        let shown = shown(&plan, 0);

        assert_eq!((shown.len(), plan.images()), (42, 42));
        assert_eq!(counts(&labels, &shown), [14, 14, 0, 14]);
        let times = |at: usize| shown.iter().filter(|one| **one == at).count();
        assert!((0..30).all(|at| times(at) <= 1), "{shown:?}");
        assert!((30..40).all(|at| (1..=2).contains(&times(at))), "{shown:?}");
        assert_eq!([times(40), times(41)], [7, 7]);
    }

    #[test]
    fn classes_that_do_not_divide_an_epoch_take_turns_at_the_rest() {
        let labels = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2];
        let plan = plan(&labels, 4, Imbalance::BalancedSampling, 3);

        let larger: Vec<usize> = (0..20)
            .map(|epoch| {
                let counts = counts(&labels, &shown(&plan, epoch));
                assert_eq!(counts.iter().sum::<usize>(), 10);
                counts.iter().position(|count| *count == 4).expect("one class has 4")
            })
            .collect();

        assert!((0..3).all(|class| larger.contains(&class)), "{larger:?}");
    }

    #[test]
    fn oversampling_shows_every_image_and_each_class_as_often_as_the_largest() {
        let labels = unequal();
        let plan = plan(&labels, 8, Imbalance::Oversampling, 3);

        let shown = shown(&plan, 0);

        assert_eq!((shown.len(), plan.images()), (90, 90));
        assert_eq!(counts(&labels, &shown), [30, 30, 0, 30]);
        assert!((0..42).all(|at| shown.contains(&at)));
    }

    #[test]
    fn weights_of_classes_are_inverse_to_their_size_with_mean_one() {
        let weights = class_weights(&unequal(), 4);

        assert!((weights[0] * 30.0 - weights[1] * 10.0).abs() < 1e-5, "{weights:?}");
        assert!((weights[1] * 10.0 - weights[3] * 2.0).abs() < 1e-5, "{weights:?}");
        assert!((weights[0] + weights[1] + weights[3] - 3.0).abs() < 1e-5, "{weights:?}");
        assert_eq!(weights[2], 1.0);
        assert_eq!(class_weights(&[0, 1, 1, 0], 2), [1.0, 1.0]);
    }
}
