//! 1x1 convolutions that skip positions: pointwise ones on the positions that are left.

use candle_core::WithDType;
use rayon::prelude::*;

use super::convolution::{Convolution, Receiver, Wanted};
use crate::nn::backbone::resnet::engine::buffers::{Buffer, Buffers};
use crate::nn::backbone::resnet::engine::rows::{Outgoing, Source};
use crate::nn::backbone::resnet::engine::sums::{Moments, Sums};

impl Convolution {
    /// The pointwise convolution on what the stride leaves.
    fn thinned(&self) -> Self {
        Self { height: self.out_height(), width: self.out_width(), stride: 1, ..*self }
    }

    pub(super) fn strided_forward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        out: &mut [T],
        buffers: &Buffers<T>,
        wants_moments: bool,
    ) -> Vec<Moments> {
        let thin = self.thin(source, buffers);
        let source = Source { values: &thin, through: None };
        self.thinned().pointwise_forward(source, weight, out, buffers, wants_moments)
    }

    pub(super) fn strided_backward<T: WithDType>(
        &self,
        source: Source<'_, T>,
        weight: &[T],
        outgoing: Outgoing<'_, T>,
        Wanted { weight: d_weight, input }: Wanted<'_, T>,
        buffers: &Buffers<T>,
    ) -> Vec<Sums> {
        let thin = self.thin(source, buffers);
        let source = Source { values: &thin, through: None };
        let thinned = self.thinned();
        let mut d_thin = input.is_some().then(|| buffers.take(thin.len()));
        let wanted = Wanted {
            weight: d_weight,
            input: d_thin.as_deref_mut().map(|into| Receiver { into, rectified: None }),
        };
        thinned.pointwise_backward(source, weight, outgoing, wanted, buffers);
        let (Some(Receiver { into, rectified }), Some(d_thin)) = (input, d_thin) else {
            return Vec::new();
        };
        let line = self.width * self.inputs;
        let image = self.height * line;
        let thin_image = thinned.height * thinned.width * self.inputs;
        let of_image = |(number, (out, own)): (usize, (&mut [T], &[T]))| {
            self.spread(own, out);
            let range = number * image..(number + 1) * image;
            rectified.map(|rectified| rectified.part(range).pass(out))
        };
        let images = into.par_chunks_exact_mut(image).zip(d_thin.par_chunks_exact(thin_image));
        let sums: Vec<_> = images.enumerate().map(of_image).collect();
        sums.into_iter().flatten().collect()
    }

    /// The positions that the stride leaves, as they are read.
    fn thin<T: WithDType>(&self, source: Source<'_, T>, buffers: &Buffers<T>) -> Buffer<T> {
        let (inputs, out_width) = (self.inputs, self.out_width());
        let mut thin = buffers.take(self.out_rows() * inputs);
        thin.par_chunks_exact_mut(out_width * inputs).enumerate().for_each(|(number, out)| {
            let (image, y) = (number / self.out_height(), number % self.out_height());
            let line = (image * self.height + y * self.stride) * self.width;
            for (x, out) in out.chunks_exact_mut(inputs).enumerate() {
                let start = (line + x * self.stride) * inputs;
                source.part(start..start + inputs).write(out);
            }
        });
        thin
    }

    /// Puts the positions of one image back, zeros between them.
    fn spread<T: WithDType>(&self, thin: &[T], out: &mut [T]) {
        let (inputs, out_width) = (self.inputs, self.out_width());
        out.fill(T::zero());
        for (position, own) in thin.chunks_exact(inputs).enumerate() {
            let (y, x) = (position / out_width, position % out_width);
            let start = (y * self.stride * self.width + x * self.stride) * inputs;
            out[start..start + inputs].copy_from_slice(own);
        }
    }
}
