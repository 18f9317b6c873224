//! The convolution of one image, forward and backward, tile by tile.

use candle_core::WithDType;

use super::geometry::Geometry;
use crate::nn::kernel::gemm::{Into, Matrix, Target, Threads, multiply};

/// Columns of a tile, kept from image to image so that nothing is allocated in between.
pub(super) struct Scratch<T> {
    columns: Vec<T>,
    gradient: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { columns: Vec::new(), gradient: Vec::new() }
    }
}

impl Geometry {
    /// `out = W unfold(image)`, `[O, positions]`.
    pub(super) fn forward_image<T: WithDType>(
        &self,
        image: &[T],
        weight: &[T],
        out: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        if self.groups > 1 {
            let group = self.of_group();
            let weights = weight.chunks_exact(weight.len() / self.groups);
            let images = image.chunks_exact(group.image());
            for ((out, image), weight) in
                out.chunks_exact_mut(group.output()).zip(images).zip(weights)
            {
                group.forward_image(image, weight, out, scratch);
            }
            return;
        }
        let weight = Matrix::new(weight, self.outputs, self.taps());
        // One image cannot be shared out by images: then its products are.
        let threads = if self.images == 1 { Threads::Pool } else { Threads::One };
        for rows in self.tiles(size_of::<T>()) {
            let range = rows.start * self.out_width..rows.end * self.out_width;
            let columns = if self.is_plain() {
                image
            } else {
                self.unfold(image, &rows, &mut scratch.columns);
                &scratch.columns
            };
            let columns = Matrix::new(columns, self.taps(), range.len());
            let target = Target::new(out, self.outputs, self.positions()).columns(range);
            multiply(target, weight, columns, Into::Replace, threads);
        }
    }

    /// With `grad` `[O, positions]`: `d_image += fold(Wᵀ grad)`, `d_weight += grad unfold(image)ᵀ`.
    pub(super) fn backward_image<T: WithDType>(
        &self,
        (image, weight, grad): (&[T], &[T], &[T]),
        d_image: Option<&mut [T]>,
        d_weight: &mut [T],
        scratch: &mut Scratch<T>,
    ) {
        if self.groups > 1 {
            let group = self.of_group();
            let share = weight.len() / self.groups;
            let mut d_images = d_image.map(|d_image| d_image.chunks_exact_mut(group.image()));
            let weights = weight.chunks_exact(share).zip(d_weight.chunks_exact_mut(share));
            let images = image.chunks_exact(group.image());
            let grads = grad.chunks_exact(group.output());
            for (((weight, d_weight), image), grad) in weights.zip(images).zip(grads) {
                let d_image = d_images.as_mut().and_then(Iterator::next);
                group.backward_image((image, weight, grad), d_image, d_weight, scratch);
            }
            return;
        }
        let weight = Matrix::new(weight, self.outputs, self.taps()).transposed();
        let grad = Matrix::new(grad, self.outputs, self.positions());
        let mut d_image = d_image;
        for rows in self.tiles(size_of::<T>()) {
            let range = rows.start * self.out_width..rows.end * self.out_width;
            let count = range.len();
            let grad = grad.columns(range);
            if let Some(d_image) = &mut d_image {
                if self.is_plain() {
                    let target = Target::new(d_image, self.taps(), count);
                    multiply(target, weight, grad, Into::Add, Threads::One);
                } else {
                    scratch.gradient.resize(self.taps() * count, T::zero());
                    let target = Target::new(&mut scratch.gradient, self.taps(), count);
                    multiply(target, weight, grad, Into::Replace, Threads::One);
                    self.fold(&scratch.gradient, &rows, d_image);
                }
            }
            let columns = if self.is_plain() {
                image
            } else {
                self.unfold(image, &rows, &mut scratch.columns);
                &scratch.columns
            };
            let columns = Matrix::new(columns, self.taps(), count).transposed();
            let target = Target::new(d_weight, self.outputs, self.taps());
            multiply(target, grad, columns, Into::Add, Threads::One);
        }
    }
}
