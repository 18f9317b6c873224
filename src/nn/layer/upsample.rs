//! Upsampling to any size, nearest and bilinear, with exact gradients.
//!
//! Both are linear and work on rows and columns apart: each output row is a weighted sum of at most
//! two input rows, likewise each column. Going backwards the weights are the same.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::nn::kernel::ops::{Borrowed, with_values};

/// The rule by which values between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Output `i` of `m` takes input `⌊i n / m⌋` of `n`: PyTorch's `nearest`, with the quotient of
    /// whole numbers in place of its rounded factor.
    Nearest,
    /// Pixels are squares whose centres are interpolated and whose borders go on beyond: input place
    /// `max((i + ½) n / m − ½, 0)`, PyTorch's `bilinear` with `align_corners=False`.
    Bilinear,
}

/// Resamples `x` `[N, C, H, W]` to `[N, C, height, width]`. Making images smaller is allowed; nothing
/// is averaged then.
pub fn upsample(
    x: &Tensor,
    (height, width): (usize, usize),
    interpolation: Interpolation,
) -> Result<Tensor> {
    let (images, channels, from_height, from_width) = x.dims4()?;
    if from_height * from_width * height * width == 0 {
        bail!("{from_height}x{from_width} pixels cannot become {height}x{width}");
    }
    let op = Upsample {
        leading: (images, channels),
        rows: Mix::all(from_height, height, interpolation),
        columns: Mix::all(from_width, width, interpolation),
        from: (from_height, from_width),
    };
    if x.device().is_cpu() { x.contiguous()?.apply_op1(op) } else { op.composed(x) }
}

/// An output place along one dimension: `(1 − share) x[low] + share x[high]`.
#[derive(Debug, Clone, Copy)]
struct Mix {
    low: usize,
    high: usize,
    share: f64,
}

impl Mix {
    fn all(from: usize, to: usize, interpolation: Interpolation) -> Vec<Self> {
        let nearest = |at: usize| {
            let low = at * from / to;
            Self { low, high: low, share: 0.0 }
        };
        let bilinear = |at: usize| {
            let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let low = (place as usize).min(from - 1);
            Self { low, high: (low + 1).min(from - 1), share: (place - low as f64).min(1.0) }
        };
        match interpolation {
            Interpolation::Nearest => (0..to).map(nearest).collect(),
            Interpolation::Bilinear => (0..to).map(bilinear).collect(),
        }
    }

    /// `[from, to]`: what each input gives to each output.
    fn matrix(mixes: &[Self], from: usize, like: &Tensor) -> Result<Tensor> {
        let mut matrix = vec![0.0; from * mixes.len()];
        for (at, mix) in mixes.iter().enumerate() {
            matrix[mix.low * mixes.len() + at] += 1.0 - mix.share;
            matrix[mix.high * mixes.len() + at] += mix.share;
        }
        Tensor::from_vec(matrix, (from, mixes.len()), like.device())?.to_dtype(like.dtype())
    }
}

struct Upsample {
    leading: (usize, usize),
    /// Height and width of the input.
    from: (usize, usize),
    rows: Vec<Mix>,
    columns: Vec<Mix>,
}

impl Upsample {
    fn planes(&self) -> usize {
        self.leading.0 * self.leading.1
    }

    fn forward<T: WithDType>(&self, x: &[T]) -> Vec<T> {
        let (width, size) = (self.from.1, self.from.0 * self.from.1);
        let mut out = vec![T::zero(); self.planes() * self.rows.len() * self.columns.len()];
        let planes = out.par_chunks_exact_mut(self.rows.len() * self.columns.len());
        planes.zip(x.par_chunks_exact(size)).for_each(|(out, plane)| {
            let mut line = vec![T::zero(); width];
            for (out, row) in out.chunks_exact_mut(self.columns.len()).zip(&self.rows) {
                let (keep, share) = (T::from_f64(1.0 - row.share), T::from_f64(row.share));
                let (low, high) = (&plane[row.low * width..], &plane[row.high * width..]);
                for (line, (low, high)) in line.iter_mut().zip(low.iter().zip(high)) {
                    *line = keep * *low + share * *high;
                }
                for (out, column) in out.iter_mut().zip(&self.columns) {
                    let (keep, share) = (T::from_f64(1.0 - column.share), column.share);
                    *out = keep * line[column.low] + T::from_f64(share) * line[column.high];
                }
            }
        });
        out
    }

    fn gradient<T: WithDType>(&self, grad: &[T]) -> Vec<T> {
        let (width, size) = (self.from.1, self.from.0 * self.from.1);
        let mut out = vec![T::zero(); self.planes() * size];
        let grads = grad.par_chunks_exact(self.rows.len() * self.columns.len());
        out.par_chunks_exact_mut(size).zip(grads).for_each(|(plane, grad)| {
            let mut line = vec![T::zero(); width];
            for (grad, row) in grad.chunks_exact(self.columns.len()).zip(&self.rows) {
                line.fill(T::zero());
                for (grad, column) in grad.iter().zip(&self.columns) {
                    line[column.low] += *grad * T::from_f64(1.0 - column.share);
                    line[column.high] += *grad * T::from_f64(column.share);
                }
                for (at, share) in [(row.low, 1.0 - row.share), (row.high, row.share)] {
                    let share = T::from_f64(share);
                    for (value, line) in plane[at * width..].iter_mut().zip(&line) {
                        *value += share * *line;
                    }
                }
            }
        });
        out
    }

    /// The same as two matrix products, for devices that this module has no kernels for.
    fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let (images, channels) = self.leading;
        let (from_height, from_width) = self.from;
        let (height, width) = (self.rows.len(), self.columns.len());
        let columns = Mix::matrix(&self.columns, from_width, x)?;
        let rows = Mix::matrix(&self.rows, from_height, x)?;
        let wide = x.reshape(((), from_width))?.matmul(&columns)?;
        let wide = wide.reshape((self.planes(), from_height, width))?.transpose(1, 2)?;
        let out = wide.reshape(((), from_height))?.matmul(&rows)?;
        let out = out.reshape((self.planes(), width, height))?.transpose(1, 2)?;
        out.reshape((images, channels, height, width))
    }
}

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = with_values!((x, storage, layout) =>
            WithDType::to_cpu_storage_owned(self.forward(x)));
        let (images, channels) = self.leading;
        Ok((storage, (images, channels, self.rows.len(), self.columns.len()).into()))
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

    use super::{Interpolation, Mix, Upsample, upsample};

    fn flat(x: &Tensor) -> Vec<f64> {
        x.flatten_all().and_then(|x| x.to_vec1()).expect("values")
    }

    #[test]
    fn a_row_is_resampled_as_pytorch_does() {
        let x = Tensor::new(&[[[[1.0_f64, 2.0, 4.0]]]], &Device::Cpu).expect("a tensor");
        let to = |width, interpolation| {
            flat(&upsample(&x, (1, width), interpolation).expect("resampled"))
        };

        assert_eq!(to(5, Interpolation::Nearest), [1.0, 1.0, 2.0, 2.0, 4.0]);
        assert_eq!(to(2, Interpolation::Nearest), [1.0, 2.0]);
        // torch 2.9.1, `interpolate(x, size, mode='bilinear', align_corners=False)`.
        for (width, expected) in
            [(5, &[1.0, 1.4, 2.0, 3.2, 4.0][..]), (2, &[1.25, 3.5]), (3, &[1.0, 2.0, 4.0])]
        {
            for (found, expected) in to(width, Interpolation::Bilinear).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{width}: {found} {expected}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_composed_path_equals_the_kernel_forward_and_backward(
            images in 1_usize..3, channels in 1_usize..3, from in (1_usize..6, 1_usize..6),
            to in (1_usize..12, 1_usize..12), is_nearest: bool,
        ) {
            let interpolation =
                if is_nearest { Interpolation::Nearest } else { Interpolation::Bilinear };
            let values: Vec<f64> =
                (0..images * channels * from.0 * from.1).map(|at| (at * 37 % 101) as f64).collect();
            let x = Var::from_vec(values, (images, channels, from.0, from.1), &Device::Cpu)
                .expect("a tensor");
            let op = Upsample {
                leading: (images, channels),
                from,
                rows: Mix::all(from.0, to.0, interpolation),
                columns: Mix::all(from.1, to.1, interpolation),
            };

            let kernel = upsample(&x, to, interpolation).expect("by the kernel");
            let composed = op.composed(&x).expect("composed");

            prop_assert_eq!(kernel.shape(), composed.shape());
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
