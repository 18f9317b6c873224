//! The server's secret: what makes patient keys impossible to reverse without it.
//!
//! It lies beside the data, never in the database, so that a copy of the rows alone cannot be
//! matched against a list of patient numbers.

use std::io::Write;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use sqlx::{PgPool, Row};

use super::error::StoreError;
use crate::domain::Sha256;

/// The secret could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("the secret {path} could not be used: {source}")]
    File {
        /// The path where it was looked for.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds {found} bytes; a secret has 32")]
    Length {
        /// The path where it was looked for.
        path: String,
        /// Bytes found.
        found: usize,
    },
    /// The database was filled under another secret.
    #[error(
        "the secret {path} is not the one this database was filled with; patients could no longer \
         be recognised. Restore the secret file that belongs to it"
    )]
    Other {
        /// The path where it was looked for.
        path: String,
    },
    /// The database was filled under a secret that is gone.
    #[error(
        "the secret {path} is gone, but this database was filled with one; patients could no \
         longer be recognised. Restore the secret file that belongs to it"
    )]
    Lost {
        /// The path where it was looked for.
        path: String,
    },
    /// The fingerprint could not be compared.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the secret at `path`, making it when neither it nor any data exists yet.
pub async fn load(pool: &PgPool, path: &Path) -> Result<[u8; 32], SecretError> {
    let shown = path.display().to_string();
    let failed = |source| SecretError::File { path: shown.clone(), source };
    if !path.exists() {
        let filled = known(pool).await?.is_some();
        // Looked for again: who filled the database a moment ago has made the file before.
        if !filled {
            make(path).map_err(failed)?;
        } else if !path.exists() {
            // A new secret would hide that the old one is lost.
            return Err(SecretError::Lost { path: shown });
        }
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let secret: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| SecretError::Length { path: shown.clone(), found: bytes.len() })?;
    let mut named = b"lvmed secret fingerprint".to_vec();
    named.extend(secret);
    let fingerprint = Sha256::of(&named).to_string();
    // The update changes nothing but makes the row of a process that was faster visible.
    let known: String = sqlx::query(
        "insert into server (secret_fingerprint) values ($1)
         on conflict (only_row) do update set secret_fingerprint = server.secret_fingerprint
         returning secret_fingerprint",
    )
    .bind(&fingerprint)
    .fetch_one(pool)
    .await
    .and_then(|row| row.try_get("secret_fingerprint"))
    .map_err(StoreError::from)?;
    if known == fingerprint { Ok(secret) } else { Err(SecretError::Other { path: shown }) }
}

/// The fingerprint of the secret that the database was filled with, once it was.
async fn known(pool: &PgPool) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("select secret_fingerprint from server").fetch_optional(pool).await?;
    Ok(row.map(|row| row.try_get("secret_fingerprint")).transpose()?)
}

/// Makes the file whole or not at all; one that another process made in the meantime counts.
fn make(path: &Path) -> std::io::Result<()> {
    let mut secret = [0; 32];
    OsRng.try_fill_bytes(&mut secret).map_err(std::io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    // Readable by its owner only, as temporary files are.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&secret)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(refused) => Err(refused.error),
        Ok(_) => Ok(()),
    }
}
