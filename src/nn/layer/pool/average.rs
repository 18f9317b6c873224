//! Average pooling.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::nn::kernel::ops::{Borrowed, with_values};
use crate::nn::kernel::views::{Axis, shifted};

/// The way of a window over an image: rows first, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its size.
    pub size: (usize, usize),
    /// Pixels from one position to the next.
    pub stride: (usize, usize),
    /// Zeros beyond each border, at most half of the window.
    pub padding: (usize, usize),
    /// The divisor of the sum at a border.
    pub border: Border,
}

/// The divisor of the sum of a window that reaches beyond the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Border {
    /// The size of the window: PyTorch's `count_include_pad=True`, its default.
    Counted,
    /// The pixels inside the image.
    LeftOut,
}

/// Means of `x` `[N, C, H, W]` over the positions of a window: `[N, C, H', W']` with
/// `H' = (H + 2 padding − size) / stride + 1`, likewise `W'`.
pub fn average_pool2d(x: &Tensor, window: Window) -> Result<Tensor> {
    let (images, channels, height, width) = x.dims4()?;
    let axis = |size: usize, kernel: usize, stride: usize, padding: usize| {
        let room = (size + 2 * padding).checked_sub(kernel).filter(|_| 2 * padding <= kernel)?;
        let out = room.checked_div(stride).filter(|_| kernel > 0)? + 1;
        Some(Axis { kernel, stride, padding, dilation: 1, out })
    };
    let Window { size, stride, padding, border } = window;
    let (Some(rows), Some(columns)) =
        (axis(height, size.0, stride.0, padding.0), axis(width, size.1, stride.1, padding.1))
    else {
        bail!("{window:?} does not fit {height}x{width} pixels");
    };
    let pool = AveragePool { leading: (images, channels), height, width, rows, columns, border };
    if x.device().is_cpu() { x.contiguous()?.apply_op1(pool) } else { pool.composed(x) }
}

#[derive(Debug, Clone, Copy)]
struct AveragePool {
    leading: (usize, usize),
    height: usize,
    width: usize,
    rows: Axis,
    columns: Axis,
    border: Border,
}

impl AveragePool {
    /// The inputs of position `at` of a dimension of `size` pixels.
    fn span(axis: &Axis, at: usize, size: usize) -> Range<usize> {
        let start = at * axis.stride;
        let end = (start + axis.kernel).saturating_sub(axis.padding).min(size);
        start.saturating_sub(axis.padding).min(end)..end
    }

    /// Visits every position: its number, the rows and columns that it covers, and one divided by
    /// what its sum is divided by.
    fn each_position(&self, mut visit: impl FnMut(usize, Range<usize>, Range<usize>, f64)) {
        for row in 0..self.rows.out {
            let rows = Self::span(&self.rows, row, self.height);
            for column in 0..self.columns.out {
                let columns = Self::span(&self.columns, column, self.width);
                let count = match self.border {
                    Border::Counted => self.rows.kernel * self.columns.kernel,
                    Border::LeftOut => rows.len() * columns.len(),
                };
                let at = row * self.columns.out + column;
                visit(at, rows.clone(), columns, 1.0 / count.max(1) as f64);
            }
        }
    }

    fn forward<T: WithDType>(&self, x: &[T]) -> Vec<T> {
        let out_size = self.rows.out * self.columns.out;
        let mut out = vec![T::zero(); self.leading.0 * self.leading.1 * out_size];
        out.par_chunks_exact_mut(out_size)
            .zip(x.par_chunks_exact(self.height * self.width))
            .for_each(|(out, plane)| {
                self.each_position(|at, rows, columns, share| {
                    let mut sum = T::zero();
                    for row in rows {
                        for value in &plane[row * self.width..][columns.clone()] {
                            sum += *value;
                        }
                    }
                    out[at] = sum * T::from_f64(share);
                });
            });
        out
    }

    fn gradient<T: WithDType>(&self, grad: &[T]) -> Vec<T> {
        let (size, out_size) = (self.height * self.width, self.rows.out * self.columns.out);
        let mut out = vec![T::zero(); self.leading.0 * self.leading.1 * size];
        out.par_chunks_exact_mut(size).zip(grad.par_chunks_exact(out_size)).for_each(
            |(plane, grad)| {
                self.each_position(|at, rows, columns, share| {
                    let part = grad[at] * T::from_f64(share);
                    for row in rows {
                        for value in &mut plane[row * self.width..][columns.clone()] {
                            *value += part;
                        }
                    }
                });
            },
        );
        out
    }

    /// The same from candle's own operators: the sum of the shifted views of the padded input.
    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let mut views = shifted(x, &self.rows, &self.columns)?.into_iter();
        let Some(mut sum) = views.next() else { bail!("a pooling window has no values") };
        for view in views {
            sum = (sum + view)?;
        }
        let mut shares = vec![0.0; self.rows.out * self.columns.out];
        self.each_position(|at, _, _, share| shares[at] = share);
        let shares = Tensor::from_vec(shares, (self.rows.out, self.columns.out), x.device())?;
        sum.broadcast_mul(&shares.to_dtype(x.dtype())?)
    }
}

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average-pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, storage, layout) =>
            WithDType::to_cpu_storage_owned(self.forward(x)));
        Ok((storage, (self.leading.0, self.leading.1, self.rows.out, self.columns.out).into()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let borrowed = Borrowed::of(&grad);
        let gradient = match grad.dtype() {
            DType::F32 => {
                Tensor::from_vec(self.gradient(borrowed.values::<f32>()?), x.shape(), x.device())
            }
            _ => Tensor::from_vec(self.gradient(borrowed.values::<f64>()?), x.shape(), x.device()),
        };
        Ok(Some(gradient?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};
    use proptest::prelude::*;

    use super::{AveragePool, Axis, Border, Window, average_pool2d};

    #[test]
    fn borders_are_counted_or_left_out_as_asked() {
        let x = Tensor::new(&[[[[1.0_f64, 2.0, 3.0], [4.0, 5.0, 6.0]]]], &Device::Cpu).expect("x");
        let mean = |border| {
            let window = Window { size: (2, 2), stride: (2, 1), padding: (1, 1), border };
            let mean = average_pool2d(&x, window).and_then(|mean| mean.flatten_all());
            mean.and_then(|mean| mean.to_vec1::<f64>()).expect("means")
        };

        assert_eq!(mean(Border::Counted), [0.25, 0.75, 1.25, 0.75, 1.0, 2.25, 2.75, 1.5]);
        assert_eq!(mean(Border::LeftOut), [1.0, 1.5, 2.5, 3.0, 4.0, 4.5, 5.5, 6.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_composed_path_equals_the_kernel_forward_and_backward(
            images in 1_usize..3, channels in 1_usize..3, height in 3_usize..8, width in 3_usize..8,
            size in (1_usize..4, 1_usize..4), stride in (1_usize..4, 1_usize..4), is_counted: bool,
        ) {
            let values: Vec<f64> = (0..images * channels * height * width)
                .map(|at| (at * 37 % 101) as f64).collect();
            let x = Var::from_vec(values, (images, channels, height, width), &Device::Cpu)
                .expect("a tensor");
            let padding = (size.0 / 2, size.1 / 2);
            let border = if is_counted { Border::Counted } else { Border::LeftOut };
            let axis = |length: usize, kernel: usize, stride: usize| Axis {
                kernel,
                stride,
                padding: kernel / 2,
                dilation: 1,
                out: (length + 2 * (kernel / 2) - kernel) / stride + 1,
            };
            let pool = AveragePool {
                leading: (images, channels),
                height,
                width,
                rows: axis(height, size.0, stride.0),
                columns: axis(width, size.1, stride.1),
                border,
            };

            let kernel = average_pool2d(&x, Window { size, stride, padding, border }).expect("own");
            let composed = pool.composed(&x).expect("composed");

            prop_assert_eq!(kernel.shape(), composed.shape());
            let flat =
                |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f64>()).expect("values");
            let gradient = |y: &Tensor| {
                let grads = y.sqr().and_then(|y| y.sum_all()).and_then(|y| y.backward());
                flat(grads.expect("gradients").get(&x).expect("a gradient"))
            };
            let pairs = [(flat(&kernel), flat(&composed)), (gradient(&kernel), gradient(&composed))];
            for (one, other) in pairs {
                for (one, other) in one.iter().zip(other) {
                    prop_assert!((one - other).abs() < 1e-9, "{} {}", one, other);
                }
            }
        }
    }
}
