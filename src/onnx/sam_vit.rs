//! Vision transformers as ONNX graphs: windows and relative positions in plain operators.

use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::subject::{Export, INPUT};
use super::{EMBEDDING, FEATURE_MAP, OnnxError};
use crate::nn::backbone::sam_vit::{Layout, offset_table};

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
    fn network(&mut self) -> Result<Value, OnnxError> {
        let Layout { patch, channels, neck, .. } = *self.layout;
        let (size, side) = (self.what.size as usize, self.side);
        let images = self.graph.input(INPUT, &[3, size, size]);
        let name = "patch_embed.proj";
        let (weight, bias) = (
            self.graph.weight_of_layer(self.what, name, "weight")?,
            self.graph.weight_of_layer(self.what, name, "bias")?,
        );
        let strides = vec![
            AttributeProto::ints("kernel_shape", &[patch, patch]),
            AttributeProto::ints("strides", &[patch, patch]),
        ];
        let map = self.graph.node("Conv", &[&images, &weight, &bias], name, strides);
        let map = self.graph.transpose(&map, &[0, 2, 3, 1], "patch_embed.tokens");
        // From here on every token is a row.
        let mut x = self.graph.reshape(&map, &[-1, channels as i64], "tokens");
        for block in 0..self.layout.depth {
            x = self.block(&x, block)?;
        }
        let rows = [-1, (side * side) as i64, channels as i64];
        let tokens = self.graph.reshape(&x, &rows, "tokens.images");
        let mean = vec![AttributeProto::ints("axes", &[1]), AttributeProto::int("keepdims", 0)];
        let embedding = self.graph.node("ReduceMean", &[&tokens], EMBEDDING, mean);
        self.graph.output(EMBEDDING, &[channels]);
        let map = [-1, side as i64, side as i64, channels as i64];
        let map = self.graph.reshape(&x, &map, "neck.tokens");
        let map = self.graph.transpose(&map, &[0, 3, 1, 2], "neck.map");
        let map = self.neck(&map, 0, 1, "neck.0.norm")?;
        self.neck(&map, 2, 3, FEATURE_MAP)?;
        self.graph.output(FEATURE_MAP, &[neck, side, side]);
        Ok(embedding)
    }

    fn block(&mut self, x: &str, block: usize) -> Result<Value, OnnxError> {
        let name = format!("blocks.{block}");
        let normal = self.graph.norm(self.what, x, &format!("{name}.norm1"))?;
        let attended = self.attention(&normal, block)?;
        let attended = self.graph.linear(self.what, &attended, &format!("{name}.attn.proj"))?;
        let middle = self.graph.node("Add", &[x, &attended], &format!("{name}.middle"), vec![]);
        let normal = self.graph.norm(self.what, &middle, &format!("{name}.norm2"))?;
        let hidden = self.graph.linear(self.what, &normal, &format!("{name}.mlp.lin1"))?;
        let active = self.graph.gelu(&hidden, &format!("{name}.mlp.act"));
        let out = self.graph.linear(self.what, &active, &format!("{name}.mlp.lin2"))?;
        Ok(self.graph.node("Add", &[&middle, &out], &name, vec![]))
    }

    /// Attention of a block without its last layer, rows to rows.
    fn attention(&mut self, normal: &str, block: usize) -> Result<Value, OnnxError> {
        let Layout { channels, heads, window, .. } = *self.layout;
        let name = format!("blocks.{block}.attn");
        let is_global = self.layout.global.contains(&block);
        let side = if is_global { self.side } else { window };
        let tokens = if is_global {
            normal.to_owned()
        } else {
            self.partition(normal, &format!("{name}.windows"))
        };
        let qkv = self.graph.linear(self.what, &tokens, &format!("{name}.qkv"))?;
        let keys = (side * side) as i64;
        let size = self.layout.head_size();
        let parts = [-1, keys, 3, heads as i64, size as i64];
        let parts = self.graph.reshape(&qkv, &parts, &format!("{name}.parts"));
        let parts = self.graph.transpose(&parts, &[2, 0, 3, 1, 4], &format!("{name}.heads"));
        let [q, k, v] = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
        self.graph.split(&parts, [&q, &k, &v], &name);
        let scale = self.graph.scalar(1.0 / (size as f32).sqrt());
        let scaled = self.graph.node("Mul", &[&q, &scale], &format!("{name}.q.scaled"), vec![]);
        let k = self.graph.transpose(&k, &[0, 1, 3, 2], &format!("{name}.k.transposed"));
        let scores = self.graph.node("MatMul", &[&scaled, &k], &format!("{name}.qk"), vec![]);
        let scores = self.positions(&scores, &q, &name, side)?;
        let last = vec![AttributeProto::int("axis", -1)];
        let weights = self.graph.node("Softmax", &[&scores], &format!("{name}.softmax"), last);
        let out = self.graph.node("MatMul", &[&weights, &v], &format!("{name}.values"), vec![]);
        let out = self.graph.transpose(&out, &[0, 2, 1, 3], &format!("{name}.out.heads"));
        let rows = self.graph.reshape(&out, &[-1, channels as i64], &format!("{name}.out.rows"));
        Ok(if is_global { rows } else { self.put_together(&rows, &format!("{name}.map")) })
    }

    /// Adds the scores of relative positions: `scores` is `[W, heads, L, L]`, `q` `[W, heads, L, S]`.
    fn positions(
        &mut self,
        scores: &str,
        q: &str,
        name: &str,
        side: usize,
    ) -> Result<Value, OnnxError> {
        let (s, heads, size) =
            (side as i64, self.layout.heads as i64, self.layout.head_size() as i64);
        let map = self.graph.reshape(q, &[-1, heads, s, s, size], &format!("{name}.q.map"));
        let down = self.table(&format!("{name}.rel_pos_h"), side)?;
        let down = self.graph.node("MatMul", &[&map, &down], &format!("{name}.rel_h.qr"), vec![]);
        let turned = self.graph.transpose(&map, &[0, 1, 3, 2, 4], &format!("{name}.q.turned"));
        let across = self.table(&format!("{name}.rel_pos_w"), side)?;
        let across =
            self.graph.node("MatMul", &[&turned, &across], &format!("{name}.rel_w.qr"), vec![]);
        let across = self.graph.transpose(&across, &[0, 1, 3, 2, 4], &format!("{name}.rel_w.map"));
        let down = self.graph.reshape(&down, &[-1, heads, s * s, s, 1], &format!("{name}.rel_h"));
        let across =
            self.graph.reshape(&across, &[-1, heads, s * s, 1, s], &format!("{name}.rel_w"));
        let scores =
            self.graph.reshape(scores, &[-1, heads, s * s, s, s], &format!("{name}.scores.map"));
        let sum = self.graph.node("Add", &[&scores, &down], &format!("{name}.scores.h"), vec![]);
        let sum = self.graph.node("Add", &[&sum, &across], &format!("{name}.scores.w"), vec![]);
        Ok(self.graph.reshape(&sum, &[-1, heads, s * s, s * s], &format!("{name}.scores")))
    }

    /// `[queries, S, keys]`: the row of a table for each query and key along a side.
    fn table(&mut self, name: &str, side: usize) -> Result<Value, OnnxError> {
        let Some(table) = self.what.tensors.get(name) else {
            return Err(OnnxError::MissingTensor(name.to_owned()));
        };
        self.graph.weight(name, &offset_table(table, side)?)
    }

    /// Windows in a map, and tokens that fill it up.
    fn windows(&self) -> (usize, usize) {
        let windows = self.side.div_ceil(self.layout.window);
        (windows, windows * self.layout.window - self.side)
    }

    /// Rows of tokens in windows, filled up with zeros.
    fn partition(&mut self, rows: &str, name: &str) -> Value {
        let (side, window) = (self.side as i64, self.layout.window as i64);
        let channels = self.layout.channels as i64;
        let (count, missing) = self.windows();
        let (count, missing) = (count as i64, missing as i64);
        if count == 1 && missing == 0 {
            return rows.to_owned();
        }
        let map = self.graph.reshape(rows, &[-1, side, side, channels], &format!("{name}.map"));
        let pads = self.graph.integers(&[0, 0, 0, 0, 0, missing, missing, 0]);
        let map = self.graph.node("Pad", &[&map, &pads], &format!("{name}.padded"), vec![]);
        let split = [-1, count, window, count, window, channels];
        let map = self.graph.reshape(&map, &split, &format!("{name}.split"));
        let map = self.graph.transpose(&map, &[0, 1, 3, 2, 4, 5], &format!("{name}.turned"));
        self.graph.reshape(&map, &[-1, channels], name)
    }

    /// Rows of tokens in windows as rows of tokens in maps.
    fn put_together(&mut self, rows: &str, name: &str) -> Value {
        let (side, window) = (self.side as i64, self.layout.window as i64);
        let channels = self.layout.channels as i64;
        let (count, missing) = self.windows();
        if count == 1 && missing == 0 {
            return rows.to_owned();
        }
        let count = count as i64;
        let split = [-1, count, count, window, window, channels];
        let map = self.graph.reshape(rows, &split, &format!("{name}.split"));
        let map = self.graph.transpose(&map, &[0, 1, 3, 2, 4, 5], &format!("{name}.turned"));
        let whole = [-1, count * window, count * window, channels];
        let map = self.graph.reshape(&map, &whole, &format!("{name}.padded"));
        let starts = self.graph.integers(&[0, 0]);
        let ends = self.graph.integers(&[side, side]);
        let axes = self.graph.integers(&[1, 2]);
        let inputs = [map.as_str(), &starts, &ends, &axes];
        let map = self.graph.node("Slice", &inputs, &format!("{name}.whole"), vec![]);
        self.graph.reshape(&map, &[-1, channels], name)
    }

    /// A convolution of the neck, and the normalisation over the channels after it.
    fn neck(
        &mut self,
        map: &str,
        conv: usize,
        norm: usize,
        output: &str,
    ) -> Result<Value, OnnxError> {
        let name = format!("neck.{conv}");
        let weight = self.graph.weight_of_layer(self.what, &name, "weight")?;
        let kernel = if conv == 0 { 1 } else { 3 };
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &[kernel, kernel]),
            AttributeProto::ints("pads", &[kernel / 2; 4]),
        ];
        let map = self.graph.node("Conv", &[map, &weight], &name, attributes);
        let map = self.graph.transpose(&map, &[0, 2, 3, 1], &format!("{name}.last"));
        let map = self.graph.norm(self.what, &map, &format!("neck.{norm}"))?;
        Ok(self.graph.transpose(&map, &[0, 3, 1, 2], output))
    }
}
