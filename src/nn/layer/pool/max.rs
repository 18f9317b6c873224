//! Max pooling with an exact gradient: each output's gradient goes to the one input it came from.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail,
};
use rayon::prelude::*;

use crate::nn::kernel::ops::with_values;
use crate::nn::kernel::views::{Axis, shifted_padded};

/// Max pooling of `[N, C, H, W]` by `kernel x kernel` windows; padding never wins.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (images, channels, height, width) = x.dims4()?;
    if padding * 2 > kernel || height + 2 * padding < kernel || width + 2 * padding < kernel {
        bail!(
            "{kernel}x{kernel} windows with padding {padding} do not fit {height}x{width} pixels"
        );
    }
    let pool = MaxPool {
        planes: images * channels,
        shape: (images, channels),
        height,
        width,
        kernel,
        stride,
        padding,
    };
    if x.device().is_cpu() { x.contiguous()?.apply_op1(pool) } else { pool.composed(x) }
}

#[derive(Debug, Clone, Copy)]
struct MaxPool {
    planes: usize,
    shape: (usize, usize),
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl MaxPool {
    fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// The first largest value of a window, in reading order, as PyTorch chooses it.
    fn largest<T: WithDType>(&self, plane: &[T], row: usize, column: usize) -> usize {
        let span = |at: usize, length: usize| {
            let start = at * self.stride;
            start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(length)
        };
        let rows = span(row, self.height);
        let columns = span(column, self.width);
        let mut best = rows.start * self.width + columns.start;
        for row in rows {
            for at in row * self.width + columns.start..row * self.width + columns.end {
                // A NaN wins, so that it is seen.
                if plane[at] > plane[best] || plane[at].partial_cmp(&plane[at]).is_none() {
                    best = at;
                }
            }
        }
        best
    }

    fn each_output<T: WithDType>(&self, plane: &[T], mut visit: impl FnMut(usize, usize)) {
        for row in 0..self.out_height() {
            for column in 0..self.out_width() {
                visit(row * self.out_width() + column, self.largest(plane, row, column));
            }
        }
    }

    fn forward<T: WithDType>(&self, x: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); self.planes * self.out_height() * self.out_width()];
        out.par_chunks_exact_mut(self.out_height() * self.out_width())
            .zip(x.par_chunks_exact(self.height * self.width))
            .for_each(|(out, plane)| self.each_output(plane, |at, from| out[at] = plane[from]));
        out
    }

    fn gradient<T: WithDType>(&self, x: &[T], grad: &[T]) -> Vec<T> {
        let mut out = vec![T::zero(); x.len()];
        out.par_chunks_exact_mut(self.height * self.width)
            .zip(x.par_chunks_exact(self.height * self.width))
            .zip(grad.par_chunks_exact(self.out_height() * self.out_width()))
            .for_each(|((out, plane), grad)| {
                self.each_output(plane, |at, from| out[from] += grad[at]);
            });
        out
    }

    /// The same from candle's own operators, for devices that this module has no kernels for: the
    /// maximum over the shifted views of the padded input.
    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let lowest = Tensor::full(f32::MIN, (), x.device())?.to_dtype(x.dtype())?;
        let pad = |x: &Tensor, dim: usize| -> Result<Tensor> {
            let mut dims = x.dims().to_vec();
            dims[dim] = self.padding + self.stride;
            let border = lowest.broadcast_as(dims)?;
            Tensor::cat(&[&border.narrow(dim, 0, self.padding)?, x, &border], dim)
        };
        let padded =
            if self.padding > 0 || self.stride > 1 { pad(&pad(x, 2)?, 3)? } else { x.clone() };
        let axis = |out: usize| Axis {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: 1,
            out,
        };
        let (rows, columns) = (axis(self.out_height()), axis(self.out_width()));
        let mut out: Option<Tensor> = None;
        for view in shifted_padded(&padded, &rows, &columns)? {
            out = Some(match out {
                None => view,
                Some(largest) => {
                    // What is not equal to itself, a NaN, wins here too.
                    let wins = (view.gt(&largest)? + view.ne(&view)?)?;
                    wins.where_cond(&view, &largest)?
                }
            });
        }
        out.ok_or_else(|| candle_core::Error::Msg("a pooling window has no values".to_owned()))
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, storage, layout) =>
            WithDType::to_cpu_storage_owned(self.forward(x)));
        Ok((storage, (self.shape.0, self.shape.1, self.out_height(), self.out_width()).into()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &Gradient(*self))?))
    }
}

struct Gradient(MaxPool);

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        "max-pool2d-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, s1, l1), (grad, s2, l2) =>
            WithDType::to_cpu_storage_owned(self.0.gradient(x, grad)));
        Ok((storage, l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};
    use proptest::prelude::*;

    use super::{MaxPool, max_pool2d};

    fn flat(x: &Tensor) -> Vec<f64> {
        x.flatten_all().and_then(|x| x.to_vec1()).expect("values")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_composed_path_equals_the_kernel_forward_and_backward(
            images in 1_usize..3, channels in 1_usize..4, height in 4_usize..9, width in 4_usize..9,
            kernel in 1_usize..5, stride in 1_usize..4, is_padded: bool,
        ) {
            let padding = if is_padded { kernel / 2 } else { 0 };
            // Some values are there twice: the first one of a window has its gradient.
            let values: Vec<f64> = (0..images * channels * height * width)
                .map(|at| (at * 37 % 29) as f64 - 14.0).collect();
            let x = Var::from_vec(values, (images, channels, height, width), &Device::Cpu)
                .expect("a tensor");
            let planes = images * channels;
            let shape = (images, channels);
            let pool = MaxPool { planes, shape, height, width, kernel, stride, padding };

            let own = max_pool2d(&x, kernel, stride, padding).expect("pooled");
            let composed = pool.composed(&x).expect("pooled");

            prop_assert_eq!(own.shape(), composed.shape());
            prop_assert_eq!(flat(&own), flat(&composed));
            let gradient = |y: &Tensor| {
                let grads = y.sqr().and_then(|y| y.sum_all()).and_then(|y| y.backward());
                flat(grads.expect("gradients").get(&x).expect("a gradient"))
            };
            prop_assert_eq!(gradient(&own), gradient(&composed));
        }
    }

    #[test]
    fn what_is_not_a_number_is_seen_on_both_paths() {
        let mut values = vec![1.0; 25];
        values[12] = f64::NAN;
        let x = Tensor::from_vec(values, (1, 1, 5, 5), &Device::Cpu).expect("a tensor");
        let pool = MaxPool {
            planes: 1,
            shape: (1, 1),
            height: 5,
            width: 5,
            kernel: 2,
            stride: 1,
            padding: 0,
        };
        let places = |y: Tensor| flat(&y).iter().map(|value| value.is_nan()).collect::<Vec<_>>();

        let own = places(max_pool2d(&x, 2, 1, 0).expect("pooled"));

        assert_eq!(own, places(pool.composed(&x).expect("pooled")));
        assert_eq!(own.iter().filter(|is_nan| **is_nan).count(), 4);
    }
}
