//! The way of every short command: it opens the database, and writes its result where it is read.

use anyhow::Context;

use crate::config::Storage;
use crate::store::Database;
use crate::store::database::{Absent, whole};

/// The part of the store that a command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    /// The database alone.
    Rows,
    /// The stored files too.
    Files,
}

/// Opens the database of a short command and says where it is.
pub(super) async fn open(
    storage: &Storage,
    absent: Absent,
    uses: Uses,
) -> anyhow::Result<Database> {
    let database = Database::open(storage, absent).await?;
    let folder = format!("data folder {}, ", whole(&storage.data).display());
    let folder = if uses == Uses::Files || database.is_built_in() { folder } else { String::new() };
    tell(&format!("{folder}{}", database.place()));
    Ok(database)
}

/// Tells whoever typed the command what is no result.
#[expect(clippy::print_stderr, reason = "whoever typed the command reads it")]
pub(super) fn tell(text: &str) {
    eprintln!("{text}");
}

/// Writes the command's result for whoever, or whatever, called it.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}").context("standard output is closed")
}
