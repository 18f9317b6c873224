//! The ground that every kind of training stands on: its world, its errors, its files.

pub(in crate::training) mod checkpoint;
pub(in crate::training) mod error;
pub(in crate::training) mod ground;
pub(in crate::training) mod host;
pub(in crate::training) mod numbers;
pub(in crate::training) mod packed;
pub(in crate::training) mod plain;
pub(in crate::training) mod rate;
pub(in crate::training) mod reporter;
