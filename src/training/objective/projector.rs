//! The small networks between the backbone and a loss: linear layers with something in between.

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand::rngs::StdRng;

use crate::nn::batch_norm::by_batch;
use crate::nn::gelu::gelu;
use crate::nn::kernel::draw::normal;
use crate::nn::ops::relu;
use crate::nn::{Params, Tensors};

/// Deviation of the random weights of a head with GELU (DINO, appendix C: as in transformers).
const GELU_STD: f64 = 0.02;

/// The layers between two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// ReLU; the layers have biases.
    Relu,
    /// GELU; the layers have biases.
    Gelu,
    /// Batch normalisation by the statistics of the batch, then ReLU. The layers have no biases,
    /// which the normalisation would take away again. Nothing follows the statistics: a projector is
    /// used in training alone.
    NormalisedRelu,
}

/// A projector and the names of its parameters: `{name}.{layer}.weight` `[outputs, inputs]` and,
/// depending on what stands in between, `.bias`, `.norm.weight` and `.norm.bias` `[outputs]`.
#[derive(Debug, Clone)]
pub(super) struct Projector {
    name: &'static str,
    /// Outputs of each layer.
    widths: Vec<usize>,
    between: Between,
}

impl Projector {
    /// A projector whose layers have `widths` outputs.
    pub(super) fn new(name: &'static str, widths: &[u32], between: Between) -> Self {
        let widths = widths.iter().map(|width| *width as usize).collect();
        Self { name, widths, between }
    }

    /// Adds its parameters before the first step: weights and biases uniform within
    /// `1 / √inputs` as PyTorch's, or normal with biases of zero between GELUs; normalisation 1, 0.
    pub(super) fn initial(
        &self,
        random: &mut StdRng,
        inputs: usize,
        into: &mut Tensors,
    ) -> Result<()> {
        let mut inputs = inputs;
        for (layer, outputs) in self.widths.iter().copied().enumerate() {
            let bound = 1.0 / (inputs as f64).sqrt();
            let mut uniform = |count: usize| -> Vec<f32> {
                (0..count).map(|_| random.random_range(-bound..bound) as f32).collect()
            };
            let (weight, bias) = match self.between {
                Between::Relu => (uniform(inputs * outputs), Some(uniform(outputs))),
                Between::NormalisedRelu => (uniform(inputs * outputs), None),
                Between::Gelu => {
                    (normal(random, inputs * outputs, GELU_STD), Some(vec![0.0; outputs]))
                }
            };
            let mut add = |end: &str, values: Vec<f32>, shape: &[usize]| -> Result<()> {
                let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
                into.insert(format!("{}.{layer}.{end}", self.name), tensor);
                Ok(())
            };
            add("weight", weight, &[outputs, inputs])?;
            if let Some(bias) = bias {
                add("bias", bias, &[outputs])?;
            }
            if self.between == Between::NormalisedRelu && !self.is_last(layer) {
                add("norm.weight", vec![1.0; outputs], &[outputs])?;
                add("norm.bias", vec![0.0; outputs], &[outputs])?;
            }
            inputs = outputs;
        }
        Ok(())
    }

    /// Rows `[N, inputs]` to rows `[N, outputs]`.
    pub(super) fn forward(&self, params: &Params, rows: &Tensor) -> Result<Tensor> {
        let tensor =
            |layer: usize, end: &str| params.tensor(&format!("{}.{layer}.{end}", self.name));
        // Columns: a channel's values lie side by side, as normalisation reads them, and products
        // take a transposed matrix as it is.
        let mut columns = rows.t()?;
        for layer in 0..self.widths.len() - 1 {
            let sums = tensor(layer, "weight")?.matmul(&columns)?;
            let biased = || sums.broadcast_add(&tensor(layer, "bias")?.unsqueeze(1)?);
            columns = match self.between {
                Between::Relu => relu(&biased()?)?,
                Between::Gelu => gelu(&biased()?)?,
                Between::NormalisedRelu => {
                    let norm = (tensor(layer, "norm.weight")?, tensor(layer, "norm.bias")?);
                    relu(&normalise_columns(&sums, &norm.0, &norm.1)?)?
                }
            };
        }
        let last = self.widths.len() - 1;
        let out = columns.t()?.matmul(&tensor(last, "weight")?.t()?)?;
        match self.between {
            Between::Relu | Between::Gelu => out.broadcast_add(&tensor(last, "bias")?),
            Between::NormalisedRelu => Ok(out),
        }
    }

    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.widths.len()
    }
}

/// Normalises each row of `x` `[C, N]`, the N values of a channel, by their mean and variance.
fn normalise_columns(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (channels, count) = x.dims2()?;
    by_batch(&x.reshape((1, channels, count, 1))?, weight, bias)?.reshape((channels, count))
}

/// Each channel of rows `[N, C]` with mean 0 and variance 1 over the batch, `(x − mean) / √(variance
/// + 10⁻⁵)`; a channel that is the same for all becomes 0.
pub(super) fn standardised(rows: &Tensor) -> Result<Tensor> {
    let columns = rows.t()?.contiguous()?;
    let ones = Tensor::ones(columns.dim(0)?, rows.dtype(), rows.device())?;
    normalise_columns(&columns, &ones, &ones.zeros_like()?)?.t()?.contiguous()
}
