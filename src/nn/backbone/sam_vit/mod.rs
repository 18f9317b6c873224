//! Vision transformers as SAM's image encoder has them (Kirillov et al. 2023, after Li et al. 2022): patches,
//! blocks that attend in windows or over the whole map with relative positions, and a neck of two
//! convolutions.

mod block;
mod composed;
mod family;
mod layout;
mod neck;
mod network;
mod parameters;
mod tower;

pub use composed::offset_table;
pub use family::KNOWN;
pub use layout::Layout;
