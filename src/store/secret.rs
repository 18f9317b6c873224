//! The server's secret: what makes patient keys impossible to reverse without it.
//!
//! It lies beside the data, never in the database, so that a copy of the rows alone cannot be
//! matched against a list of patient numbers.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use sqlx::{PgPool, Row};

use super::StoreError;
use crate::domain::Sha256;

/// The secret could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("the secret {path} could not be used: {source}")]
    File {
        /// Where it was looked for.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds {found} bytes; a secret has 32")]
    Length {
        /// Where it was looked for.
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
        /// Where it was looked for.
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
        let mut secret = [0; 32];
        OsRng.try_fill_bytes(&mut secret).map_err(|error| failed(std::io::Error::other(error)))?;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            // Another process made it in the meantime: that one counts.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
            Ok(mut file) => {
                file.write_all(&secret).and_then(|()| file.sync_all()).map_err(failed)?;
            }
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
    let known: String = sqlx::query(
        "with made as (insert into server (secret_fingerprint) values ($1)
                       on conflict do nothing returning secret_fingerprint)
         select secret_fingerprint from made union all select secret_fingerprint from server limit 1",
    )
    .bind(&fingerprint)
    .fetch_one(pool)
    .await
    .and_then(|row| row.try_get("secret_fingerprint"))
    .map_err(StoreError::from)?;
    if known == fingerprint { Ok(secret) } else { Err(SecretError::Other { path: shown }) }
}
