//! Mixup (Zhang et al., 2018): training on mixtures of two images of a batch and of their labels.

use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};

use super::order::generator;
use crate::domain::imbalance::Mixup;

/// The pairs of images of a batch that are mixed, and how much of each: section 2 of the paper,
/// `x̃ = λ xᵢ + (1 − λ) xⱼ`, `ỹ = λ yᵢ + (1 − λ) yⱼ` with `λ ~ Beta(α, α)` for each pair.
///
/// Serves any vectors of an image: a prepared picture, or the cached activations of a frozen part.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixing {
    /// The image `j` that each image is mixed with; every image is the partner of exactly one.
    pub partners: Vec<usize>,
    /// The share `λ` that each image keeps of itself.
    pub shares: Vec<f32>,
}

impl Mixing {
    /// Draws the mixtures of a batch of `images`; the same again for the same seed, epoch and batch.
    pub fn draw(mixup: Mixup, images: usize, seed: u64, epoch: u32, batch: u64) -> Self {
        let mut random = generator("mixup", seed, epoch, batch);
        let mut partners: Vec<usize> = (0..images).collect();
        partners.shuffle(&mut random);
        let shares = match Beta::new(mixup.alpha, mixup.alpha) {
            Ok(beta) => (0..images).map(|_| beta.sample(&mut random) as f32).collect(),
            // A shape that is no positive number mixes nothing.
            Err(_) => vec![1.0; images],
        };
        Self { partners, shares }
    }

    /// The batch as it is.
    pub fn none(images: usize) -> Self {
        Self { partners: (0..images).collect(), shares: vec![1.0; images] }
    }

    /// The mixtures of vectors of one length, one after another.
    pub fn mix<T: AsRef<[f32]>>(&self, images: &[T]) -> Vec<f32> {
        let length = images.first().map_or(0, |image| image.as_ref().len());
        let mut mixed = Vec::with_capacity(images.len() * length);
        for (image, (partner, share)) in images.iter().zip(self.pairs()) {
            let image = image.as_ref();
            if share == 1.0 {
                mixed.extend_from_slice(image);
            } else {
                let pairs = image.iter().zip(images[partner].as_ref());
                mixed.extend(pairs.map(|(one, other)| share * one + (1.0 - share) * other));
            }
        }
        mixed
    }

    /// The soft targets `[N, classes]`, row by row; each row adds up to 1.
    pub fn targets(&self, labels: &[u32], classes: usize) -> Vec<f32> {
        let mut targets = vec![0.0; labels.len() * classes];
        for (at, (partner, share)) in self.pairs().enumerate() {
            targets[at * classes + labels[at] as usize] += share;
            targets[at * classes + labels[partner] as usize] += 1.0 - share;
        }
        targets
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, f32)> {
        self.partners.iter().copied().zip(self.shares.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::{Mixing, Mixup};

    #[test]
    fn shares_have_the_moments_of_the_beta_distribution() {
        for alpha in [0.05, 0.2, 0.4, 1.0, 3.0] {
            let drawn = Mixing::draw(Mixup { alpha }, 200_000, 5, 0, 0);

            let shares = || drawn.shares.iter().map(|share| f64::from(*share));
            let n = drawn.shares.len() as f64;
            let mean = shares().sum::<f64>() / n;
            let variance = shares().map(|share| (share - 0.5).powi(2)).sum::<f64>() / n;
            let fourth = shares().map(|share| (share - 0.5).powi(4)).sum::<f64>() / n;
            // Var = 1 / (4 (2α + 1)); the kurtosis is 3 − 6 / (2α + 3). Five standard errors.
            let expected = 0.25 / (2.0 * alpha + 1.0);
            let kurtosis = 3.0 - 6.0 / (2.0 * alpha + 3.0);
            assert!(shares().all(|share| (0.0..=1.0).contains(&share)));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n).sqrt(), "{alpha}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.01, "{alpha}: {variance}");
            let found = fourth / (expected * expected);
            assert!((found / kurtosis - 1.0).abs() < 0.02, "{alpha}: {found}, not {kurtosis}");
        }
    }

    #[test]
    fn images_and_labels_are_mixed_by_the_same_shares() {
        let mixing = Mixing { partners: vec![2, 1, 0], shares: vec![0.25, 0.5, 1.0] };

        let mixed = mixing.mix(&[[4.0, 0.0], [7.0, 1.0], [8.0, -4.0]]);

        assert_eq!(mixed, [7.0, -3.0, 7.0, 1.0, 8.0, -4.0]);
        let targets = mixing.targets(&[0, 1, 2], 3);
        assert_eq!(targets, [0.25, 0.0, 0.75, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn every_draw_keeps_targets_that_add_up_to_one_and_partners_of_one_image_each() {
        let labels: Vec<u32> = (0..17).map(|at| at % 4).collect();
        for batch in 0..50 {
            let mixing = Mixing::draw(Mixup { alpha: 0.3 }, 17, 9, 1, batch);

            let mut partners = mixing.partners.clone();
            partners.sort_unstable();
            assert_eq!(partners, (0..17).collect::<Vec<_>>());
            for row in mixing.targets(&labels, 4).chunks(4) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
            }
        }
    }

    #[test]
    fn mixtures_depend_on_seed_epoch_and_batch_alone() {
        let drawn = |seed, epoch, batch| Mixing::draw(Mixup { alpha: 0.4 }, 8, seed, epoch, batch);

        assert_eq!(drawn(1, 2, 3), drawn(1, 2, 3));
        assert_ne!(drawn(1, 2, 3), drawn(2, 2, 3));
        assert_ne!(drawn(1, 2, 3), drawn(1, 3, 3));
        assert_ne!(drawn(1, 2, 3), drawn(1, 2, 4));
    }

    #[test]
    fn no_mixing_leaves_everything_as_it_is() {
        let mixing = Mixing::none(2);

        assert_eq!(mixing.mix(&[[1.0, 2.0], [3.0, 4.0]]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(mixing.targets(&[1, 0], 2), [0.0, 1.0, 1.0, 0.0]);
    }
}
