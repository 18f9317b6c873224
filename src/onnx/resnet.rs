//! Residual networks as ONNX graphs.

use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::subject::{Export, INPUT};
use super::{EMBEDDING, FEATURE_MAP, OnnxError};
use crate::nn::backbone::resnet::layout::{BlockLayout, Layout};
use crate::nn::batch_norm::EPSILON;

/// Writes the nodes of a residual network; its embedding.
pub(super) fn write(
    graph: &mut Graph,
    layout: &Layout,
    what: &Export<'_>,
) -> Result<Value, OnnxError> {
    let mut writer = Writer { graph, what };
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
    let blocks = layout.each_block();
    for (at, block) in blocks.iter().enumerate() {
        let is_last = at + 1 == blocks.len();
        x = writer.block(&x, block, is_last)?;
    }
    let channels = what.architecture.embedding_size();
    let side = size.div_ceil(what.architecture.family().facts().map_stride);
    graph.output(FEATURE_MAP, &[channels, side, side]);
    let pooled = graph.node("GlobalAveragePool", &[&x], "pooled", vec![]);
    let flat = vec![AttributeProto::int("axis", 1)];
    let embedding = graph.node("Flatten", &[&pooled], EMBEDDING, flat);
    graph.output(EMBEDDING, &[channels]);
    Ok(embedding)
}

struct Writer<'a> {
    graph: &'a mut Graph,
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

    fn tensor(&mut self, name: &str) -> Result<Value, OnnxError> {
        self.graph.weight_of(self.what, name)
    }
}
