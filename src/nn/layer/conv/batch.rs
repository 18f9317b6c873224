//! The convolution of a batch: images shared out over threads, sums in an order of their own.

use candle_core::WithDType;
use rayon::prelude::*;

use super::geometry::Geometry;
use super::image::Scratch;

/// Groups of images whose weight gradients are summed apart and then together. Fixed, so that the
/// order of the sum, and with it every bit, is the same on any number of threads.
const GROUPS: usize = 4;

/// Gradients of the input, when it was asked for, and of the weight.
pub(super) struct Gradients<T> {
    pub(super) input: Option<Vec<T>>,
    pub(super) weight: Vec<T>,
}

impl Geometry {
    pub(super) fn forward<T: WithDType>(&self, x: &[T], weight: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); self.images * self.output()];
        out.par_chunks_exact_mut(self.output())
            .zip(x.par_chunks_exact(self.image()))
            .for_each_init(Scratch::default, |scratch, (out, image)| {
                self.forward_image(image, weight, out, scratch);
            });
        out
    }

    /// Gradients from that of the output, which `grad` puts into the given slice for each image.
    pub(super) fn backward<T: WithDType>(
        &self,
        x: &[T],
        weight: &[T],
        grad: &(impl Fn(usize, &mut [T]) + Sync),
        wants_input: bool,
    ) -> Gradients<T> {
        let group = self.images.div_ceil(GROUPS).max(1);
        let mut input = vec![T::zero(); if wants_input { x.len() } else { 0 }];
        // Empty parts when no gradient of the input is wanted: the zip needs as many of them.
        let parts: Vec<Option<&mut [T]>> = if wants_input {
            input.chunks_mut(group * self.image()).map(Some).collect()
        } else {
            (0..self.images.div_ceil(group)).map(|_| None).collect()
        };
        let sums: Vec<Vec<T>> = parts
            .into_par_iter()
            .zip(x.par_chunks(group * self.image()))
            .enumerate()
            .map(|(number, (part, images))| {
                let mut sum = vec![T::zero(); weight.len()];
                let (mut scratch, mut own) = (Scratch::default(), vec![T::zero(); self.output()]);
                let mut parts = part.map(|part| part.chunks_exact_mut(self.image()));
                for (at, image) in images.chunks_exact(self.image()).enumerate() {
                    grad(number * group + at, &mut own);
                    let d_image = parts.as_mut().and_then(Iterator::next);
                    self.backward_image((image, weight, &own), d_image, &mut sum, &mut scratch);
                }
                sum
            })
            .collect();
        Gradients { input: wants_input.then_some(input), weight: add_up(sums) }
    }
}

/// The sum of equally long vectors, in their order.
fn add_up<T: WithDType>(vectors: Vec<Vec<T>>) -> Vec<T> {
    let mut vectors = vectors.into_iter();
    let mut sum = vectors.next().unwrap_or_default();
    for vector in vectors {
        sum.par_iter_mut()
            .with_min_len(crate::nn::ops::CHUNK)
            .zip(vector.par_iter().with_min_len(crate::nn::ops::CHUNK))
            .for_each(|(sum, value)| *sum += *value);
    }
    sum
}
