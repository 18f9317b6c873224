//! LVM-Med server: few-shot fine-tuning and serving of medical vision backbones.
//!
//! The modules form layers, and dependencies run one way only (`src/tests/layering.rs` holds the
//! table): `domain` is the vocabulary, `imaging` turns bytes into pictures, `nn` trains, `onnx`
//! writes graphs, `inference` runs them, `training` fine-tunes and evaluates, `store` keeps rows
//! and blobs, `service` is what the product does, `http` puts it into a protocol. `training` and
//! `service` meet only in the database and the blob store.

pub mod cli;
pub mod config;
pub mod decode;
pub mod domain;
pub mod estimate;
pub mod http;
pub mod imaging;
pub mod inference;
pub mod matching;
pub mod nn;
pub mod onnx;
pub mod serve;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod training;
pub mod worker;
