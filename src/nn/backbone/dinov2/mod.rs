//! Vision transformers as DINOv2 has them (Oquab et al. 2023; with registers Darcet et al. 2023): a class
//! token before patches of 14 pixels, layer scale, and positions that are interpolated.

mod block;
mod family;
mod layout;
mod names;
mod network;
mod positions;

pub use family::KNOWN;
pub use layout::Layout;
pub use positions::{Interpolation, at_size, shares};
