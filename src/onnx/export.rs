//! Residual networks as ONNX graphs, with or without a classifier, opset 17, batch size free.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::{EMBEDDING, FEATURE_MAP, OnnxError, PROBABILITIES};
use crate::domain::Architecture;
use crate::nn::Tensors;
use crate::nn::batch_norm::EPSILON;
use crate::nn::resnet::{BlockLayout, Layout};

/// The one input: prepared pictures `[batch, 3, size, size]`.
pub const INPUT: &str = "images";

/// A linear classifier on the embedding.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[K, D]`.
    pub weight: &'a Tensor,
    /// `[K]`.
    pub bias: &'a Tensor,
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The architecture.
    pub architecture: Architecture,
    /// Its tensors, by torchvision's names.
    pub tensors: &'a Tensors,
    /// Side of the square input in pixels.
    pub size: u32,
    /// The classifier, if there is one.
    pub head: Option<Head<'a>>,
    /// Text properties of the file.
    pub metadata: &'a BTreeMap<String, String>,
}

/// Writes a network as an ONNX file. Its outputs are [`EMBEDDING`], [`FEATURE_MAP`] and, with a
/// head, [`PROBABILITIES`]: the softmax of `W embedding + b`.
pub fn export(what: &Export<'_>) -> Result<Vec<u8>, OnnxError> {
    let mut writer = Writer { graph: Graph::new(what.architecture.as_str()), what };
    let size = what.size as usize;
    let images = writer.graph.input(INPUT, &[3, size, size]);
    let stem = writer.conv_norm(&images, "conv1", "bn1", 7, 2)?;
    let stem = writer.graph.node("Relu", &[&stem], "relu", vec![]);
    let pool = vec![
        AttributeProto::ints("kernel_shape", &[3, 3]),
        AttributeProto::ints("strides", &[2, 2]),
        AttributeProto::ints("pads", &[1, 1, 1, 1]),
    ];
    let mut x = writer.graph.node("MaxPool", &[&stem], "maxpool", pool);
    let blocks = Layout::of(what.architecture).each_block();
    for (at, block) in blocks.iter().enumerate() {
        let is_last = at + 1 == blocks.len();
        x = writer.block(&x, block, is_last)?;
    }
    let channels = what.architecture.embedding_size();
    writer.graph.output(FEATURE_MAP, &[channels, size.div_ceil(32), size.div_ceil(32)]);
    let pooled = writer.graph.node("GlobalAveragePool", &[&x], "pooled", vec![]);
    let flat = vec![AttributeProto::int("axis", 1)];
    let embedding = writer.graph.node("Flatten", &[&pooled], EMBEDDING, flat);
    writer.graph.output(EMBEDDING, &[channels]);
    if let Some(head) = what.head {
        writer.head(&embedding, head)?;
    }
    writer.graph.finish(what.metadata)
}

struct Writer<'a> {
    graph: Graph,
    what: &'a Export<'a>,
}

impl Writer<'_> {
    fn block(&mut self, x: &str, block: &BlockLayout, is_last: bool) -> Result<Value, OnnxError> {
        let prefix = &block.prefix;
        let mut main = x.to_owned();
        let convolutions = block.convolutions();
        for (number, _, _, kernel, stride) in &convolutions {
            let (conv, norm) = (format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}"));
            main = self.conv_norm(&main, &conv, &norm, *kernel, *stride)?;
            if *number < convolutions.len() {
                let name = format!("{prefix}.relu{number}");
                main = self.graph.node("Relu", &[&main], &name, vec![]);
            }
        }
        let shortcut = if block.has_downsample() {
            let (conv, norm) = (format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"));
            self.conv_norm(x, &conv, &norm, 1, block.stride)?
        } else {
            x.to_owned()
        };
        let sum = self.graph.node("Add", &[&main, &shortcut], &format!("{prefix}.add"), vec![]);
        let name = if is_last { FEATURE_MAP.to_owned() } else { format!("{prefix}.relu") };
        Ok(self.graph.node("Relu", &[&sum], &name, vec![]))
    }

    /// A convolution padded by half its kernel and its normalisation on running statistics.
    fn conv_norm(
        &mut self,
        x: &str,
        conv: &str,
        norm: &str,
        kernel: usize,
        stride: usize,
    ) -> Result<Value, OnnxError> {
        let weight = self.tensor(&format!("{conv}.weight"))?;
        let padding = kernel / 2;
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &[kernel, kernel]),
            AttributeProto::ints("strides", &[stride, stride]),
            AttributeProto::ints("pads", &[padding; 4]),
        ];
        let convolved = self.graph.node("Conv", &[x, &weight], conv, attributes);
        let [scale, bias, mean, variance] =
            ["weight", "bias", "running_mean", "running_var"].map(|end| format!("{norm}.{end}"));
        for name in [&scale, &bias, &mean, &variance] {
            self.tensor(name)?;
        }
        let inputs = [convolved.as_str(), &scale, &bias, &mean, &variance];
        let epsilon = vec![AttributeProto::float("epsilon", EPSILON as f32)];
        Ok(self.graph.node("BatchNormalization", &inputs, norm, epsilon))
    }

    fn head(&mut self, embedding: &str, head: Head<'_>) -> Result<(), OnnxError> {
        let weight = self.graph.weight("fc.weight", head.weight)?;
        let bias = self.graph.weight("fc.bias", head.bias)?;
        let transposed = vec![AttributeProto::int("transB", 1)];
        let logits = self.graph.node("Gemm", &[embedding, &weight, &bias], "logits", transposed);
        let last = vec![AttributeProto::int("axis", -1)];
        self.graph.node("Softmax", &[&logits], PROBABILITIES, last);
        self.graph.output(PROBABILITIES, &[head.bias.elem_count()]);
        Ok(())
    }

    fn tensor(&mut self, name: &str) -> Result<Value, OnnxError> {
        let Some(tensor) = self.what.tensors.get(name) else {
            return Err(OnnxError::MissingTensor(name.to_owned()));
        };
        self.graph.weight(name, tensor)
    }
}
