//! One network on one session: prepared pictures in, embedding and probabilities out.

use ort::session::Session;
use ort::value::{TensorRef, ValueType};

use super::InferenceError;
use crate::onnx::{EMBEDDING, FEATURE_MAP, INPUT, PROBABILITIES};

/// The output of a network for a batch, image after image.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[images, D]`.
    pub embedding: Vec<f32>,
    /// `[images, K]`, where the network has a head.
    pub probabilities: Option<Vec<f32>>,
}

/// A loaded network. Needs `&mut`: a session serves one caller at a time.
#[derive(Debug)]
pub struct Network {
    session: Session,
    /// Side of the square input in pixels.
    size: usize,
    has_head: bool,
}

impl Network {
    pub(super) fn new(session: Session) -> Result<Self, InferenceError> {
        let input = session.inputs().iter().find(|input| input.name() == INPUT);
        let size = match input.map(ort::value::Outlet::dtype) {
            Some(ValueType::Tensor { shape, .. }) if shape.len() == 4 => shape[3],
            _ => 0,
        };
        let has = |name| session.outputs().iter().any(|output| output.name() == name);
        let (has_embedding, has_head) = (has(EMBEDDING), has(PROBABILITIES));
        match usize::try_from(size) {
            Ok(size) if size > 0 && has_embedding => Ok(Self { session, size, has_head }),
            _ => Err(InferenceError::BadNetwork(format!(
                "it has no input `{INPUT}` [batch, 3, size, size] or no output `{EMBEDDING}`"
            ))),
        }
    }

    /// Values of one prepared picture: `3 * size * size`.
    pub fn input_len(&self) -> usize {
        3 * self.size * self.size
    }

    /// Runs `images` prepared pictures `[images, 3, size, size]`.
    pub fn run(&mut self, input: &[f32], images: usize) -> Result<Output, InferenceError> {
        let wanted = if self.has_head { &[EMBEDDING, PROBABILITIES][..] } else { &[EMBEDDING] };
        let mut found = self.outputs(input, images, wanted)?.into_iter();
        let embedding = found.next().unwrap_or_default();
        Ok(Output { embedding, probabilities: found.next() })
    }

    /// The last feature map of `images` prepared pictures, `[images, D, size / 32, size / 32]`.
    pub fn feature_map(
        &mut self,
        input: &[f32],
        images: usize,
    ) -> Result<Vec<f32>, InferenceError> {
        let found = self.outputs(input, images, &[FEATURE_MAP])?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    fn outputs(
        &mut self,
        input: &[f32],
        images: usize,
        wanted: &[&str],
    ) -> Result<Vec<Vec<f32>>, InferenceError> {
        let expected = images * self.input_len();
        if input.len() != expected || images == 0 {
            let found = input.len();
            return Err(InferenceError::WrongInput { images, expected, found });
        }
        let failed = |error: ort::Error| InferenceError::Failed(error.to_string());
        let shape = [images, 3, self.size, self.size];
        let tensor = TensorRef::from_array_view((shape, input)).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![INPUT => tensor]).map_err(failed)?;
        let values = |name: &&str| {
            let (_, values) = outputs[*name].try_extract_tensor::<f32>().map_err(failed)?;
            Ok(values.to_vec())
        };
        wanted.iter().map(values).collect()
    }
}
