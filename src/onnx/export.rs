//! Writing a network with or without a classifier: opset 17, batch size free.

use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::subject::Export;
use super::{OnnxError, PROBABILITIES};
use crate::nn::backbone::each_family;

/// Writes a network as an ONNX file. Its outputs are [`EMBEDDING`](super::EMBEDDING), [`FEATURE_MAP`](super::FEATURE_MAP) and, with a
/// head, [`PROBABILITIES`]: the softmax of `W embedding + b`.
pub fn export(what: &Export<'_>) -> Result<Vec<u8>, OnnxError> {
    let mut graph = Graph::new(what.architecture.as_str());
    let embedding = network(&mut graph, what)?;
    finish(graph, &embedding, what)
}

/// Writes the nodes of a network by the file of its family; its embedding.
fn network(graph: &mut Graph, what: &Export<'_>) -> Result<Value, OnnxError> {
    let layout = what.architecture.family().as_any();
    macro_rules! written_by {
        ($($family:ident),*) => {
            $(if let Some(layout) = layout.downcast_ref::<crate::nn::backbone::$family::Layout>() {
                return crate::onnx::$family::write(graph, layout, what);
            })*
        };
    }
    each_family!(written_by);
    Err(OnnxError::UnknownFamily(what.architecture))
}

/// Adds the head, if there is one.
fn finish(mut graph: Graph, embedding: &str, what: &Export<'_>) -> Result<Vec<u8>, OnnxError> {
    if let Some(head) = what.head {
        let weight = graph.weight("fc.weight", head.weight)?;
        let bias = graph.weight("fc.bias", head.bias)?;
        let transposed = vec![AttributeProto::int("transB", 1)];
        let logits = graph.node("Gemm", &[embedding, &weight, &bias], "logits", transposed);
        let last = vec![AttributeProto::int("axis", -1)];
        graph.node("Softmax", &[&logits], PROBABILITIES, last);
        graph.output(PROBABILITIES, &[head.bias.elem_count()]);
    }
    graph.finish(what.metadata)
}
