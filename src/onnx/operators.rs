//! Operators that transformers are written with.

use super::OnnxError;
use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::subject::Export;
use crate::nn::layer::layer_norm::TRANSFORMER_EPSILON;

impl Graph {
    /// The normalisation over the last dimension.
    pub(super) fn norm(
        &mut self,
        what: &Export<'_>,
        x: &str,
        name: &str,
    ) -> Result<Value, OnnxError> {
        let (weight, bias) = (
            self.weight_of_layer(what, name, "weight")?,
            self.weight_of_layer(what, name, "bias")?,
        );
        let attributes = vec![
            AttributeProto::int("axis", -1),
            AttributeProto::float("epsilon", TRANSFORMER_EPSILON as f32),
        ];
        Ok(self.node("LayerNormalization", &[x, &weight, &bias], name, attributes))
    }

    /// A linear layer on rows.
    pub(super) fn linear(
        &mut self,
        what: &Export<'_>,
        x: &str,
        name: &str,
    ) -> Result<Value, OnnxError> {
        let (weight, bias) = (
            self.weight_of_layer(what, name, "weight")?,
            self.weight_of_layer(what, name, "bias")?,
        );
        let transposed = vec![AttributeProto::int("transB", 1)];
        Ok(self.node("Gemm", &[x, &weight, &bias], name, transposed))
    }

    /// `x (1 + erf(x / √2)) / 2`.
    pub(super) fn gelu(&mut self, x: &str, name: &str) -> Value {
        let root = self.scalar(std::f32::consts::SQRT_2);
        let (one, half) = (self.scalar(1.0), self.scalar(0.5));
        let shrunk = self.node("Div", &[x, &root], &format!("{name}.shrunk"), vec![]);
        let erf = self.node("Erf", &[&shrunk], &format!("{name}.erf"), vec![]);
        let sum = self.node("Add", &[&erf, &one], &format!("{name}.sum"), vec![]);
        let product = self.node("Mul", &[x, &sum], &format!("{name}.product"), vec![]);
        self.node("Mul", &[&product, &half], name, vec![])
    }

    /// The first dimension's three entries, each a value of its own.
    pub(super) fn split(&mut self, parts: &str, outputs: [&str; 3], name: &str) {
        for (at, output) in outputs.into_iter().enumerate() {
            let index = self.integers(&[at as i64]);
            let axis = vec![AttributeProto::int("axis", 0)];
            let kept = format!("{name}.part{at}");
            let kept = self.node("Gather", &[parts, &index], &kept, axis);
            let first = self.integers(&[0]);
            self.node("Squeeze", &[&kept, &first], output, vec![]);
        }
    }

    /// The values in another shape.
    pub(super) fn reshape(&mut self, x: &str, shape: &[i64], output: &str) -> Value {
        let shape = self.integers(shape);
        self.node("Reshape", &[x, &shape], output, vec![])
    }

    /// The dimensions in another order.
    pub(super) fn transpose(&mut self, x: &str, order: &[usize], output: &str) -> Value {
        let order = vec![AttributeProto::ints("perm", order)];
        self.node("Transpose", &[x], output, order)
    }

    /// A tensor of a layer.
    pub(super) fn weight_of_layer(
        &mut self,
        what: &Export<'_>,
        layer: &str,
        end: &str,
    ) -> Result<Value, OnnxError> {
        self.weight_of(what, &format!("{layer}.{end}"))
    }
}
