//! The convolution composed of candle's operators, for devices that this module has no kernels for.
//!
//! The views of the image that the offsets of the kernel meet are stacked to columns, and one matrix
//! product for each group sums them over offsets and channels. candle differentiates both, where its
//! own convolution cannot be differentiated for images that are not square.

use candle_core::{Result, Tensor};

use super::geometry::Geometry;
use crate::nn::kernel::views::{Axis, shifted};

impl Geometry {
    /// Convolves `x` `[N, C, H, W]` with `weight` `[O, C/G, kh, kw]`.
    pub(super) fn composed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let (groups, inner) = (self.groups, self.channels / self.groups);
        let taps = self.kernel_height * self.kernel_width;
        let lines = self.images * self.positions();
        // Channels first, so that one product covers all images.
        let views = shifted(&x.transpose(0, 1)?, &self.rows(), &self.columns())?;
        let columns = Tensor::stack(&views, 0)?.reshape((taps, groups, inner, lines))?;
        let columns = columns.transpose(0, 1)?.reshape((groups, taps * inner, lines))?;
        let weight = weight.reshape((groups, self.outputs / groups, inner, taps))?;
        let weight = weight.transpose(2, 3)?.reshape((groups, (), taps * inner))?;
        let out = weight.matmul(&columns)?;
        let out = out.reshape((self.outputs, self.images, self.out_height, self.out_width))?;
        out.transpose(0, 1)?.contiguous()
    }

    fn rows(&self) -> Axis {
        Axis {
            kernel: self.kernel_height,
            stride: self.strides.0,
            padding: self.paddings.0,
            dilation: self.dilations.0,
            out: self.out_height,
        }
    }

    fn columns(&self) -> Axis {
        Axis {
            kernel: self.kernel_width,
            stride: self.strides.1,
            padding: self.paddings.1,
            dilation: self.dilations.1,
            out: self.out_width,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use crate::nn::layer::conv::{ConvSettings, Geometry, convolve};

    fn variable(shape: (usize, usize, usize, usize), seed: u64) -> Var {
        let mut random = StdRng::seed_from_u64(seed);
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values: Vec<f64> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
        Var::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    }

    fn flat(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn it_equals_the_kernel_forward_and_backward(
            images in 1_usize..4, inner in 1_usize..3, outer in 1_usize..3, groups in 1_usize..4,
            height in 4_usize..9, width in 4_usize..9,
            kernel in (1_usize..4, 1_usize..4), stride in (1_usize..4, 1_usize..4),
            padding in (0_usize..3, 0_usize..3), dilation in (1_usize..3, 1_usize..3),
            seed in 0_u64..1000,
        ) {
            let settings = ConvSettings { stride, padding, dilation, groups };
            let span = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
            prop_assume!(span(kernel.0, dilation.0) <= height + 2 * padding.0);
            prop_assume!(span(kernel.1, dilation.1) <= width + 2 * padding.1);
            let x = variable((images, inner * groups, height, width), seed);
            let weight = variable((outer * groups, inner, kernel.0, kernel.1), seed + 1);

            let own = convolve(&x, &weight, &settings).expect("by the kernel");
            let geometry = Geometry::of(
                x.dims4().expect("dims"), weight.dims4().expect("dims"), &settings);
            let composed = geometry.and_then(|g| g.composed(&x, &weight)).expect("composed");

            prop_assert_eq!(own.shape(), composed.shape());
            let near = |one: &Tensor, other: &Tensor| {
                for (one, other) in flat(one).iter().zip(flat(other)) {
                    prop_assert!((one - other).abs() < 1e-11, "{} {}", one, other);
                }
                Ok(())
            };
            near(&own, &composed)?;
            let weighed = |out: &Tensor| {
                let factors = variable(out.dims4().expect("dims"), seed + 2);
                let loss = (out * factors.as_detached_tensor()).and_then(|out| out.sum_all());
                loss.and_then(|loss| loss.backward()).expect("gradients")
            };
            let (one, other) = (weighed(&own), weighed(&composed));
            for variable in [&x, &weight] {
                near(one.get(variable).expect("one"), other.get(variable).expect("other"))?;
            }
        }
    }
}
