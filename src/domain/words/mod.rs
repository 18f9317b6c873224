//! The small words that everything else is said with: names, identifiers, digests, roles, sizes.

pub mod counted;
pub mod digest;
pub mod ids;
pub mod lifetime;
pub mod line;
pub mod name;
pub mod role;
pub mod seed;
pub mod size;
pub mod word;
