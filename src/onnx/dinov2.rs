//! DINOv2's transformers as ONNX graphs, positions at the size of the input.

use candle_core::{Device, Tensor};

use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::subject::{Export, INPUT};
use super::{EMBEDDING, FEATURE_MAP, OnnxError};
use crate::nn::backbone::dinov2::{Layout, at_size};

/// Writes the nodes of a transformer; its embedding.
pub(super) fn write(
    graph: &mut Graph,
    layout: &Layout,
    what: &Export<'_>,
) -> Result<Value, OnnxError> {
    let side = what.size as usize / layout.patch;
    Writer { graph, layout, what, side }.network()
}

struct Writer<'a> {
    graph: &'a mut Graph,
    layout: &'a Layout,
    what: &'a Export<'a>,
    /// Side of the map in tokens.
    side: usize,
}

impl Writer<'_> {
    /// Tokens of a picture.
    fn tokens(&self) -> usize {
        self.layout.special() + self.side * self.side
    }

    fn network(&mut self) -> Result<Value, OnnxError> {
        let (channels, side) = (self.layout.channels, self.side);
        let tokens = self.embed()?;
        // From here on every token is a row.
        let mut x = self.graph.reshape(&tokens, &[-1, channels as i64], "tokens.rows");
        for block in 0..self.layout.depth {
            x = self.block(&x, block)?;
        }
        let x = self.graph.norm(self.what, &x, "norm")?;
        let shape = [-1, self.tokens() as i64, channels as i64];
        let x = self.graph.reshape(&x, &shape, "norm.tokens");
        let class = self.part(&x, (0, 1), "norm.class");
        let class = self.graph.reshape(&class, &[-1, channels as i64], "norm.class.rows");
        let special = self.layout.special();
        let patches = self.part(&x, (special, self.tokens()), "norm.patches");
        let over = vec![AttributeProto::ints("axes", &[1]), AttributeProto::int("keepdims", 0)];
        let mean = self.graph.node("ReduceMean", &[&patches], "norm.mean", over);
        let beside = vec![AttributeProto::int("axis", 1)];
        let embedding = self.graph.node("Concat", &[&class, &mean], EMBEDDING, beside);
        self.graph.output(EMBEDDING, &[2 * channels]);
        let map = self.graph.transpose(&patches, &[0, 2, 1], "norm.map");
        let shape = [-1, channels as i64, side as i64, side as i64];
        self.graph.reshape(&map, &shape, FEATURE_MAP);
        self.graph.output(FEATURE_MAP, &[channels, side, side]);
        Ok(embedding)
    }

    /// Patches with their positions, after the class token and the registers.
    fn embed(&mut self) -> Result<Value, OnnxError> {
        let Layout { patch, channels, .. } = *self.layout;
        let size = self.what.size as usize;
        let images = self.graph.input(INPUT, &[3, size, size]);
        let name = "patch_embed.proj";
        let weight = self.graph.weight_of_layer(self.what, name, "weight")?;
        let bias = self.graph.weight_of_layer(self.what, name, "bias")?;
        let strides = vec![
            AttributeProto::ints("kernel_shape", &[patch, patch]),
            AttributeProto::ints("strides", &[patch, patch]),
        ];
        let map = self.graph.node("Conv", &[&images, &weight, &bias], name, strides);
        let map = self.graph.transpose(&map, &[0, 2, 3, 1], "patch_embed.map");
        let shape = [-1, (self.side * self.side) as i64, channels as i64];
        let map = self.graph.reshape(&map, &shape, "patch_embed.tokens");
        let (first, positions) = self.constants()?;
        let positions = self.graph.weight("pos_embed", &positions)?;
        let map = self.graph.node("Add", &[&map, &positions], "patch_embed.placed", vec![]);
        let first = self.graph.weight("first_tokens", &first)?;
        // Once for each picture of the batch.
        let all = self.graph.node("Shape", &[&images], "images.shape", vec![]);
        let zero = self.graph.integers(&[0]);
        let count = self.graph.node("Gather", &[&all, &zero], "images.count", vec![]);
        let rest = self.graph.integers(&[self.layout.special() as i64, channels as i64]);
        let along = vec![AttributeProto::int("axis", 0)];
        let shape = self.graph.node("Concat", &[&count, &rest], "first_tokens.shape", along);
        let first = self.graph.node("Expand", &[&first, &shape], "first_tokens.each", vec![]);
        let after = vec![AttributeProto::int("axis", 1)];
        Ok(self.graph.node("Concat", &[&first, &map], "tokens", after))
    }

    /// The tokens before the patches `[1, 1 + registers, D]`, and the positions of the patches.
    fn constants(&self) -> Result<(Tensor, Tensor), OnnxError> {
        let tensor = |name: &str| match self.what.tensors.get(name) {
            Some(tensor) => Ok(tensor.to_device(&Device::Cpu)?),
            None => Err(OnnxError::MissingTensor(name.to_owned())),
        };
        let positions = tensor("pos_embed")?;
        let class = (tensor("cls_token")? + positions.narrow(1, 0, 1)?)?;
        let first = if self.layout.registers > 0 {
            Tensor::cat(&[&class, &tensor("register_tokens")?], 1)?
        } else {
            class
        };
        let learnt = positions.narrow(1, 1, positions.dim(1)? - 1)?.contiguous()?;
        Ok((first, at_size(&learnt, (self.side, self.side), self.layout.interpolation)?))
    }

    /// Some of the tokens.
    fn part(&mut self, x: &str, (from, to): (usize, usize), output: &str) -> Value {
        let starts = self.graph.integers(&[from as i64]);
        let ends = self.graph.integers(&[to as i64]);
        let axis = self.graph.integers(&[1]);
        self.graph.node("Slice", &[x, &starts, &ends, &axis], output, vec![])
    }

    fn block(&mut self, x: &str, block: usize) -> Result<Value, OnnxError> {
        let name = format!("blocks.{block}");
        let normal = self.graph.norm(self.what, x, &format!("{name}.norm1"))?;
        let attended = self.attention(&normal, &format!("{name}.attn"))?;
        let attended = self.graph.linear(self.what, &attended, &format!("{name}.attn.proj"))?;
        let middle =
            self.added(x, &attended, (&format!("{name}.ls1"), &format!("{name}.middle")))?;
        let normal = self.graph.norm(self.what, &middle, &format!("{name}.norm2"))?;
        let hidden = self.graph.linear(self.what, &normal, &format!("{name}.mlp.fc1"))?;
        let active = self.graph.gelu(&hidden, &format!("{name}.mlp.act"));
        let out = self.graph.linear(self.what, &active, &format!("{name}.mlp.fc2"))?;
        self.added(&middle, &out, (&format!("{name}.ls2"), &name))
    }

    /// `x + γ y`.
    fn added(
        &mut self,
        x: &str,
        y: &str,
        (scale, output): (&str, &str),
    ) -> Result<Value, OnnxError> {
        let gamma = self.graph.weight_of_layer(self.what, scale, "gamma")?;
        let scaled = self.graph.node("Mul", &[y, &gamma], &format!("{scale}.scaled"), vec![]);
        Ok(self.graph.node("Add", &[x, &scaled], output, vec![]))
    }

    /// Attention over all tokens without its last layer, rows to rows.
    fn attention(&mut self, normal: &str, name: &str) -> Result<Value, OnnxError> {
        let (heads, size) = (self.layout.heads as i64, self.layout.head_size());
        let qkv = self.graph.linear(self.what, normal, &format!("{name}.qkv"))?;
        let shape = [-1, self.tokens() as i64, 3, heads, size as i64];
        let parts = self.graph.reshape(&qkv, &shape, &format!("{name}.parts"));
        let parts = self.graph.transpose(&parts, &[2, 0, 3, 1, 4], &format!("{name}.heads"));
        let [q, k, v] = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
        self.graph.split(&parts, [&q, &k, &v], name);
        let scale = self.graph.scalar(1.0 / (size as f32).sqrt());
        let scaled = self.graph.node("Mul", &[&q, &scale], &format!("{name}.q.scaled"), vec![]);
        let k = self.graph.transpose(&k, &[0, 1, 3, 2], &format!("{name}.k.transposed"));
        let scores = self.graph.node("MatMul", &[&scaled, &k], &format!("{name}.scores"), vec![]);
        let last = vec![AttributeProto::int("axis", -1)];
        let weights = self.graph.node("Softmax", &[&scores], &format!("{name}.softmax"), last);
        let out = self.graph.node("MatMul", &[&weights, &v], &format!("{name}.values"), vec![]);
        let out = self.graph.transpose(&out, &[0, 2, 1, 3], &format!("{name}.out.heads"));
        let rows = [-1, self.layout.channels as i64];
        Ok(self.graph.reshape(&out, &rows, &format!("{name}.out.rows")))
    }
}
