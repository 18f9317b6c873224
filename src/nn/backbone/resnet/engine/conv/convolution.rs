//! The sizes of a convolution, and where its gradients go.

use crate::nn::backbone::resnet::engine::sums::Rectified;

/// The sizes of a convolution: `[N, H, W, C]` with `[O, C, k, k]` to `[N, H', W', O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nn::backbone::resnet::engine) struct Convolution {
    pub(in crate::nn::backbone::resnet::engine) images: usize,
    pub(in crate::nn::backbone::resnet::engine) height: usize,
    pub(in crate::nn::backbone::resnet::engine) width: usize,
    pub(in crate::nn::backbone::resnet::engine) inputs: usize,
    pub(in crate::nn::backbone::resnet::engine) outputs: usize,
    pub(in crate::nn::backbone::resnet::engine) kernel: usize,
    pub(in crate::nn::backbone::resnet::engine) stride: usize,
    pub(in crate::nn::backbone::resnet::engine) padding: usize,
}

/// The place where the gradient of the input goes.
pub(in crate::nn::backbone::resnet::engine) struct Receiver<'a, T> {
    pub(in crate::nn::backbone::resnet::engine) into: &'a mut [T],
    /// The treatment of it there: nothing, or the backward pass through the rectifier it was read by.
    pub(in crate::nn::backbone::resnet::engine) rectified: Option<Rectified<'a, T>>,
}

/// The gradients that are asked for.
pub(in crate::nn::backbone::resnet::engine) struct Wanted<'a, T> {
    pub(in crate::nn::backbone::resnet::engine) weight: Option<&'a mut [T]>,
    pub(in crate::nn::backbone::resnet::engine) input: Option<Receiver<'a, T>>,
}

impl Convolution {
    pub(in crate::nn::backbone::resnet::engine) fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub(in crate::nn::backbone::resnet::engine) fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Rows of the input.
    pub(in crate::nn::backbone::resnet::engine) fn in_rows(&self) -> usize {
        self.images * self.height * self.width
    }

    /// Rows of the output.
    pub(in crate::nn::backbone::resnet::engine) fn out_rows(&self) -> usize {
        self.images * self.out_height() * self.out_width()
    }

    /// Values of the weight.
    pub(in crate::nn::backbone::resnet::engine) fn weights(&self) -> usize {
        self.outputs * self.inputs * self.kernel * self.kernel
    }
}
