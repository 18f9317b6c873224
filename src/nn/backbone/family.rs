//! The account that a family of backbones gives of each of its architectures: facts, tensors, names
//! of others, and how the network is built.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::Result;

use crate::nn::backbone::network::Network;
use crate::nn::tape::params::{Params, Tensors};

/// The facts of an architecture that can be told without its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The word used in JSON, SQL and on the command line.
    pub word: &'static str,
    /// A name for people.
    pub title: &'static str,
    /// Length of the embedding.
    pub embedding_size: usize,
    /// Channels of the feature map.
    pub map_channels: usize,
    /// Pixels of the input that a step on the feature map stands for.
    pub map_stride: usize,
    /// Stages that the network can be cut between (blocks of a transformer): those that can be trained
    /// apart from the rest.
    pub stages: usize,
    /// Pixels of which the side of an input is a multiple.
    pub size_step: u32,
    /// Whether it has normalisation by statistics of its batches.
    pub has_batch_norm: bool,
    /// Whether it has attention layers, which low-rank factors are added to.
    pub has_attention: bool,
}

/// The place of a tensor in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the first stage.
    Stem,
    /// In a stage, counted from 0.
    Stage(usize),
    /// After the last stage, on the way to the embedding.
    Top,
    /// After the last stage, on the way to the feature map alone.
    Map,
}

/// The value of a tensor before any training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum First {
    /// One number everywhere.
    Constant(f32),
    /// Normal with mean 0 and this deviation.
    Normal(f64),
}

/// An architecture as its family describes it.
pub trait Family: Debug + Send + Sync {
    /// The facts that can be told without weights.
    fn facts(&self) -> Facts;

    /// Every tensor's name and shape: no classifier, nothing that only counts.
    fn tensors(&self) -> BTreeMap<String, Vec<usize>>;

    /// The place of a tensor by its name; none of one that is no part of the network.
    fn place(&self, name: &str) -> Option<Place>;

    /// The first value of a tensor.
    fn first(&self, name: &str, shape: &[usize]) -> First;

    /// Whether checkpoints hold a tensor of this name that the network does without.
    fn ignores(&self, name: &str) -> bool;

    /// A checkpoint's tensors by the names that the network has, without those that it ignores, and what
    /// people should know of either.
    fn adopt(&self, tensors: Tensors) -> Result<(Tensors, Vec<String>)>;

    /// The network over `params`, which keep its values. Low-rank factors among them weigh `alpha` over
    /// their rank; their rank is `alpha` where none is given.
    fn build(&self, params: &Params, alpha: Option<f64>) -> Result<Box<dyn Network>>;

    /// This, for those who know the family.
    fn as_any(&self) -> &dyn Any;
}
