//! The Postgres server's binaries: where they are looked for, and which version they are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder where the set-up step puts binaries, seen from the project's folder.
const PLACED: &str = ".runtime/postgres/bin";
/// The folder where Debian and its relatives keep one folder a version.
const DISTRIBUTION: &str = "/usr/lib/postgresql";
/// The folders where other systems keep them.
const INSTALLED: [&str; 3] = ["/usr/pgsql/bin", "/usr/local/pgsql/bin", "/usr/bin"];

/// The reason why no binaries can be used.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// None were found.
    #[error(
        "no Postgres server was found; run scripts/setup.sh, install the package `postgresql`, \
         point LVMED_PG_BIN to the folder of `initdb` and `postgres`, or set DATABASE_URL"
    )]
    NotFound,
    /// The configured folder does not hold them.
    #[error("LVMED_PG_BIN is {0}, which holds no `initdb` and `postgres`")]
    NotThere(PathBuf),
    /// They do not run.
    #[error("{0}/postgres does not say its version")]
    NoVersion(PathBuf),
}

/// The folder of `initdb` and `postgres`: the configured one, else what `pg_config` names, the
/// newest of the distribution, or what the set-up step placed.
pub(super) fn find(configured: Option<&Path>) -> Result<PathBuf, BinariesError> {
    if let Some(folder) = configured {
        let missing = || BinariesError::NotThere(folder.to_owned());
        return holds_server(folder).then(|| folder.to_owned()).ok_or_else(missing);
    }
    let working = std::env::current_dir().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let placed = working.ancestors().chain(program.ancestors()).map(|folder| folder.join(PLACED));
    pg_config()
        .into_iter()
        .chain(newest_of_distribution())
        .chain(placed)
        .chain(INSTALLED.map(PathBuf::from))
        .find(|folder| holds_server(folder))
        .ok_or(BinariesError::NotFound)
}

/// The major version of the binaries, such as `17`.
pub(super) fn major_version(binaries: &Path) -> Result<String, BinariesError> {
    let none = || BinariesError::NoVersion(binaries.to_owned());
    let output =
        Command::new(binaries.join("postgres")).arg("--version").output().map_err(|_| none())?;
    // "postgres (PostgreSQL) 17.2 (Debian …)"
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_numeric()));
    let major: String =
        version.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    if major.is_empty() { Err(none()) } else { Ok(major) }
}

fn holds_server(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

fn newest_of_distribution() -> Option<PathBuf> {
    let folders = std::fs::read_dir(DISTRIBUTION).ok()?.flatten();
    let versions = folders.filter_map(|folder| {
        let version: u32 = folder.file_name().to_str()?.parse().ok()?;
        let binaries = folder.path().join("bin");
        holds_server(&binaries).then_some((version, binaries))
    });
    versions.max_by_key(|(version, _)| *version).map(|(_, binaries)| binaries)
}
