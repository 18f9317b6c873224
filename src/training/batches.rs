//! The order of training: every draw a function of seed, epoch and batch, so that it can be resumed.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The batches of one epoch: indices of images, each once, in an order drawn from `seed` and
/// `epoch`. A last batch of one image joins the one before it: batch statistics need company.
pub(super) fn batches(images: usize, size: usize, seed: u64, epoch: u32) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut generator("order", seed, epoch, 0));
    let mut batches: Vec<Vec<usize>> = order.chunks(size.max(1)).map(<[usize]>::to_vec).collect();
    if batches.len() > 1
        && let Some(single) = batches.pop_if(|last| last.len() == 1)
        && let Some(before) = batches.last_mut()
    {
        before.extend(single);
    }
    batches
}

/// How many batches an epoch has.
pub(super) fn batch_count(images: usize, size: usize) -> u64 {
    batches(images, size, 0, 0).len() as u64
}

/// Which images of a batch are mirrored left to right, each with probability one half.
pub(super) fn mirrored(images: usize, seed: u64, epoch: u32, batch: u64) -> Vec<bool> {
    let mut random = generator("mirror", seed, epoch, batch);
    (0..images).map(|_| random.random()).collect()
}

/// A generator for one purpose at one place of a run.
pub(super) fn generator(purpose: &str, seed: u64, epoch: u32, batch: u64) -> StdRng {
    let digest = Sha256::digest(format!("{purpose}/{seed}/{epoch}/{batch}"));
    StdRng::from_seed(digest.into())
}

/// Mirrors a prepared picture `[3, size, size]` left to right.
pub(super) fn mirror(input: &mut [f32], size: usize) {
    input.chunks_exact_mut(size).for_each(<[f32]>::reverse);
}

#[cfg(test)]
mod tests {
    use super::{batch_count, batches, mirror};

    #[test]
    fn an_epoch_shows_every_image_once_and_never_one_alone() {
        let drawn = batches(33, 16, 7, 2);

        let mut all: Vec<usize> = drawn.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..33).collect::<Vec<_>>());
        assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [16, 17]);
        assert_eq!(batch_count(33, 16), 2);
        assert_eq!(batch_count(1, 16), 1);
    }

    #[test]
    fn the_order_is_drawn_anew_each_epoch_and_again_alike() {
        assert_eq!(batches(40, 8, 7, 1), batches(40, 8, 7, 1));
        assert_ne!(batches(40, 8, 7, 1), batches(40, 8, 7, 2));
        assert_ne!(batches(40, 8, 7, 1), batches(40, 8, 8, 1));
    }

    #[test]
    fn mirroring_turns_every_row() {
        let mut input = [1.0, 2.0, 3.0, 4.0];

        mirror(&mut input, 2);

        assert_eq!(input, [2.0, 1.0, 4.0, 3.0]);
    }
}
