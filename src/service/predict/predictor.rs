//! Runs pictures through networks, with a place in the network's queue for each caller.
//!
//! A place is taken before anything is read, so that a busy server says so at once and never holds
//! more pictures than it can answer for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::PredictError;
use super::pictures::{Prepared, Preparer, Sent};
use crate::decode::Pool;
use crate::domain::model::{ClassProbability, Model, Prediction};
use crate::domain::{Backbone, Preprocessing, Sha256};
use crate::inference::{Output, Registry, Ticket};
use crate::store::Store;

/// Pictures that go to a network at a time, and that wait for it.
const AT_A_TIME: usize = 16;
/// The file of a model that is its network.
const NETWORK_FILE: &str = "model.onnx";

/// A stored network, and how pictures are prepared for it.
#[derive(Debug, Clone)]
pub struct Network {
    sha256: Sha256,
    preprocessing: Preprocessing,
}

impl Network {
    /// The network of a model.
    pub fn of_model(model: &Model) -> Result<Self, PredictError> {
        let file = model.artifacts.iter().find(|artifact| artifact.name == NETWORK_FILE);
        let file = file.ok_or(PredictError::NoNetwork(NETWORK_FILE))?;
        Ok(Self { sha256: file.sha256, preprocessing: model.preprocessing.clone() })
    }

    /// The network of a backbone.
    pub fn of_backbone(backbone: &Backbone) -> Self {
        Self { sha256: backbone.onnx_sha256, preprocessing: backbone.preprocessing.clone() }
    }
}

/// A place in a network's queue; dropped, it is free again.
#[derive(Debug)]
pub struct Queued {
    network: Network,
    ticket: Ticket,
}

/// The answer of a network for one picture.
#[derive(Debug)]
pub struct Answer {
    /// The caller's name of its file.
    pub file: Option<String>,
    /// Frame within the file, from 0.
    pub frame: u32,
    /// The answer.
    pub output: Output,
}

/// Runs pictures through networks.
#[derive(Debug, Clone)]
pub struct Predictor {
    store: Store,
    registry: Registry,
    preparer: Preparer,
    /// Folder of networks that the blob store cannot give a path of.
    folder: PathBuf,
}

impl Predictor {
    /// A predictor that decodes for as many callers at a time as there are cores: more at once would
    /// only take more memory. What must lie in files lies in `scratch`.
    pub fn new(store: Store, registry: Registry, decoder: Pool, scratch: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let gate = Arc::new(Semaphore::new(cores));
        let preparer = Preparer { decoder, gate, waiting: AT_A_TIME };
        Self { store, registry, preparer, folder: scratch.join("networks") }
    }

    /// The word for the device that networks run on.
    pub fn device(&self) -> &'static str {
        self.registry.device()
    }

    /// Takes a place in the queue of a network.
    pub fn queue(&self, network: Network) -> Result<Queued, PredictError> {
        let ticket = self.registry.queue(network.sha256)?;
        Ok(Queued { network, ticket })
    }

    /// Runs the pictures of files through the network, as they become ready.
    pub async fn answer(
        &self,
        queued: Queued,
        files: Vec<Sent>,
    ) -> Result<Vec<Answer>, PredictError> {
        let Queued { network: Network { sha256, preprocessing }, ticket } = queued;
        let path = self.store.blobs.materialise(&sha256, &self.folder).await?;
        let (mut ready, preparing) = self.preparer.prepare(files, preprocessing).await?;
        let mut answers = Vec::new();
        let mut pictures = Vec::with_capacity(AT_A_TIME);
        while ready.recv_many(&mut pictures, AT_A_TIME).await > 0 {
            let input = |picture: &mut Prepared| std::mem::take(&mut picture.input);
            let inputs = pictures.iter_mut().map(input).collect();
            let outputs = self.registry.run(&ticket, &path, inputs).await?;
            for (picture, output) in pictures.drain(..).zip(outputs) {
                let Prepared { file, frame, .. } = picture;
                answers.push(finite(Answer { file, frame, output })?);
            }
        }
        preparing.end().await?;
        Ok(answers)
    }
}

/// Refuses an answer that is not a number: it is none, and JSON would make `null` of it.
fn finite(answer: Answer) -> Result<Answer, PredictError> {
    let probabilities = answer.output.probabilities.iter().flatten();
    if answer.output.embedding.iter().chain(probabilities).all(|value| value.is_finite()) {
        return Ok(answer);
    }
    Err(PredictError::NotANumber { frame: answer.frame })
}

/// A model's answers as classes, the most probable first.
pub fn predictions(model: &Model, answers: Vec<Answer>) -> Result<Vec<Prediction>, PredictError> {
    answers.into_iter().map(|answer| prediction(answer, &model.labels)).collect()
}

fn prediction(answer: Answer, labels: &[String]) -> Result<Prediction, PredictError> {
    let found = answer.output.probabilities.unwrap_or_default();
    if found.len() != labels.len() || labels.is_empty() {
        return Err(PredictError::OtherClasses { found: found.len(), labels: labels.len() });
    }
    let mut probabilities: Vec<ClassProbability> = labels
        .iter()
        .zip(found)
        .map(|(label, probability)| ClassProbability { label: label.clone(), probability })
        .collect();
    probabilities.sort_by(|one, other| other.probability.total_cmp(&one.probability));
    let label = probabilities[0].label.clone();
    Ok(Prediction { file: answer.file, frame: answer.frame, label, probabilities })
}

#[cfg(test)]
mod tests {
    use super::{Answer, PredictError, finite, prediction};
    use crate::inference::Output;

    #[test]
    fn what_is_not_a_number_never_leaves() {
        let answer = |probabilities: Option<Vec<f32>>, embedding: Vec<f32>| {
            finite(Answer { file: None, frame: 3, output: Output { embedding, probabilities } })
        };

        assert!(answer(Some(vec![0.5]), vec![1.0]).is_ok());
        for refused in [
            answer(Some(vec![f32::NAN]), vec![1.0]),
            answer(Some(vec![f32::INFINITY]), vec![1.0]),
            answer(None, vec![f32::NEG_INFINITY]),
        ] {
            assert!(matches!(refused, Err(PredictError::NotANumber { frame: 3 })), "{refused:?}");
        }
    }

    #[test]
    fn classes_come_most_probable_first() {
        let output = Output { embedding: Vec::new(), probabilities: Some(vec![0.2, 0.7, 0.1]) };
        let answer = Answer { file: None, frame: 2, output };
        let labels = ["a", "b", "c"].map(str::to_owned);

        let found = prediction(answer, &labels).expect("a prediction");

        assert_eq!((found.label.as_str(), found.frame), ("b", 2));
        let order: Vec<&str> = found.probabilities.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }
}
