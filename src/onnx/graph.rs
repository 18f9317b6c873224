//! A graph under construction: nodes that name their output, weights as raw little-endian floats.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use prost::Message;

use super::OnnxError;
use super::proto::{
    AttributeProto, Dimension, DimensionProto, FLOAT, GraphProto, INT64, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use super::subject::Export;

/// The operator set that is written.
const OPSET: i64 = 17;
/// The version of the file format that came with it, in ONNX 1.12 (onnx/docs/Versioning.md). ONNX
/// Runtime up to 1.14 and Triton up to 22.12 refuse a later one, whatever the file uses.
const IR_VERSION: i64 = 8;

/// The name of a value in the graph.
pub(super) type Value = String;

/// A graph under construction.
#[derive(Default)]
pub(super) struct Graph(GraphProto);

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Self(GraphProto { name: name.to_owned(), ..GraphProto::default() })
    }

    /// Declares an input of 32-bit floats, the first dimension free.
    pub(super) fn input(&mut self, name: &str, rest: &[usize]) -> Value {
        self.0.input.push(value_info(name, rest));
        name.to_owned()
    }

    /// Declares a value as an output, the first dimension free.
    pub(super) fn output(&mut self, name: &str, rest: &[usize]) {
        self.0.output.push(value_info(name, rest));
    }

    /// Adds a weight.
    pub(super) fn weight(&mut self, name: &str, tensor: &Tensor) -> Result<Value, OnnxError> {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        self.floats(name, tensor.dims(), &values);
        Ok(name.to_owned())
    }

    /// Adds a weight of what is exported, under its own name.
    pub(super) fn weight_of(&mut self, what: &Export<'_>, name: &str) -> Result<Value, OnnxError> {
        let Some(tensor) = what.tensors.get(name) else {
            return Err(OnnxError::MissingTensor(name.to_owned()));
        };
        self.weight(name, tensor)
    }

    /// Adds a weight from a slice.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let mut raw_data = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| raw_data.extend_from_slice(&value.to_le_bytes()));
        self.constant(name, shape, FLOAT, raw_data)
    }

    /// A list of whole numbers, such as a shape; equal lists are written once.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        let name = format!("integers/{}", words.join(","));
        if self.has(&name) {
            return name;
        }
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&name, &[values.len()], INT64, raw_data)
    }

    /// A number; equal ones are written once.
    pub(super) fn scalar(&mut self, value: f32) -> Value {
        let name = format!("number/{value}");
        if self.has(&name) { name } else { self.floats(&name, &[], &[value]) }
    }

    fn has(&self, name: &str) -> bool {
        self.0.initializer.iter().any(|constant| constant.name == name)
    }

    fn constant(
        &mut self,
        name: &str,
        shape: &[usize],
        data_type: i32,
        raw_data: Vec<u8>,
    ) -> Value {
        let dims = shape.iter().map(|size| *size as i64).collect();
        let name = name.to_owned();
        self.0.initializer.push(TensorProto { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// Adds a node; its one output is called `output`.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) -> Value {
        self.0.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op_type.to_owned(),
            attribute,
        });
        output.to_owned()
    }

    /// The file.
    pub(super) fn finish(self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, OnnxError> {
        let property = |(key, value): (&String, &String)| StringStringEntryProto {
            key: key.clone(),
            value: value.clone(),
        };
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "lvmed".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.0),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata.iter().map(property).collect(),
        };
        match model.encoded_len() {
            length if i32::try_from(length).is_err() => Err(OnnxError::TooLarge(length)),
            _ => Ok(model.encode_to_vec()),
        }
    }
}

fn value_info(name: &str, rest: &[usize]) -> ValueInfoProto {
    let batch = Dimension::Named("batch".to_owned());
    let fixed = rest.iter().map(|size| Dimension::Fixed(*size as i64));
    let dim = std::iter::once(batch)
        .chain(fixed)
        .map(|value| DimensionProto { value: Some(value) })
        .collect();
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    let kind = TypeProto { tensor_type: Some(tensor) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind) }
}
