//! Bodies of requests: read within bounds, spooled to disk, drained when they are refused.

pub mod bounds;
pub mod drain;
pub mod spool;
