//! Networks on ONNX Runtime: the library, one session each, and the registry of loaded ones.

mod error;
mod network;
mod parity;
mod registry;
mod runtime;

pub use error::InferenceError;
pub use network::{Network, Output};
pub use parity::{ParityError, Twins, parity};
pub use registry::{Registry, Ticket};
pub use runtime::Runtime;
