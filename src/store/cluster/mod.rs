//! Postgres itself: the database that is given, or the built-in cluster.

mod binaries;
pub mod database;
pub mod postgres;
mod process;
mod unprivileged;
