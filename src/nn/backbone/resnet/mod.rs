//! Residual networks with torchvision's names and numbers (He et al. 2016, stride on the 3x3).

mod block;
pub mod engine;
mod family;
pub mod layout;
pub mod network;

pub use family::KNOWN;
pub use layout::Layout;
