//! API keys: shown once, stored as a hash, valid until they are revoked or expire.

use std::collections::HashSet;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use sha2::{Digest, Sha256 as Hasher};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;

use super::error::StoreError;
use super::row::{name, parsed};
use crate::domain::name::Name;
use crate::domain::{KeyId, Lifetime, Role};

/// The start of every key, so that a leaked one is recognised.
pub const PREFIX: &str = "lvmed_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 43 digits of base 62 hold over 256 bits.
const KEY_DIGITS: usize = 43;
/// The condition on which a key still opens anything. The database's clock is the one that all
/// servers share.
const VALID: &str = "(revoked_at is null and (expires_at is null or expires_at > now()))";

/// A key as it is shown: everything but the key.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Key {
    /// Identifier.
    pub id: KeyId,
    /// Whom or what it is for.
    pub name: Name,
    /// What it allows.
    pub role: Role,
    /// Its first characters, to tell keys apart.
    pub prefix: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it ends by itself; null for one that is valid until it is revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

impl FromRow<'_, PgRow> for Key {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: KeyId(row.try_get("id")?),
            name: name(row, "name")?,
            role: parsed(row, "role")?,
            prefix: row.try_get("prefix")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
            expires_at: row.try_get("expires_at")?,
        })
    }
}

/// Makes a key, valid for a time or until it is revoked; the text of it is returned here and nowhere
/// else.
pub async fn create(
    pool: &PgPool,
    name: &Name,
    role: Role,
    lifetime: Option<Lifetime>,
) -> Result<(Key, String), StoreError> {
    let text = generate()?;
    let key: Key = sqlx::query_as(
        "insert into api_keys (id, name, role, prefix, hash, expires_at)
         values ($1, $2, $3, $4, $5, now() + make_interval(days => $6))
         returning *",
    )
    .bind(KeyId::new().0)
    .bind(name.as_str())
    .bind(role.as_str())
    .bind(&text[..PREFIX.len() + 6])
    .bind(hash(&text))
    .bind(lifetime.map(|lifetime| i32::from(lifetime.days())))
    .fetch_one(pool)
    .await?;
    Ok((key, text))
}

/// The key that `text` is, while it is valid.
pub async fn verify(pool: &PgPool, text: &str) -> Result<Option<Key>, StoreError> {
    // The look-up is by hash: its timing tells nothing about how much of a guess was right.
    let key: Option<Key> = sqlx::query_as(AssertSqlSafe(format!(
        "select * from api_keys where hash = $1 and {VALID}"
    )))
    .bind(hash(text))
    .fetch_optional(pool)
    .await?;
    if let Some(key) = &key {
        sqlx::query(
            "update api_keys set last_used_at = now()
             where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
        )
        .bind(key.id.0)
        .execute(pool)
        .await?;
    }
    Ok(key)
}

/// Whether any key was ever made; from then on every caller needs one.
pub async fn any(pool: &PgPool) -> Result<bool, StoreError> {
    let row = sqlx::query("select exists (select 1 from api_keys) as any").fetch_one(pool).await?;
    Ok(row.try_get("any")?)
}

/// All keys that are valid, oldest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Key>, StoreError> {
    let keys = format!("select * from api_keys where {VALID} order by id");
    Ok(sqlx::query_as(AssertSqlSafe(keys)).fetch_all(pool).await?)
}

/// Revokes a key; whether there was one. An admin key stays while no other one lasts as long. When the
/// last one expires, the command line on the server's machine makes another.
pub async fn revoke(pool: &PgPool, id: KeyId) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    // Locked: of two requests that each revoke another of the last two, the second one waits here
    // and then finds that one is left.
    let admins =
        format!("select * from api_keys where role = 'admin' and {VALID} order by id for update");
    let admins: Vec<Key> =
        sqlx::query_as(AssertSqlSafe(admins)).fetch_all(&mut *transaction).await?;
    if let Some(own) = admins.iter().find(|key| key.id == id) {
        let mut others = admins.iter().filter(|key| key.id != id);
        if !others.any(|other| lasts_as_long(other, own)) {
            return Err(StoreError::LastAdmin);
        }
    }
    let revoke = format!("update api_keys set revoked_at = now() where id = $1 and {VALID}");
    let done = sqlx::query(AssertSqlSafe(revoke)).bind(id.0).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected() > 0)
}

fn lasts_as_long(key: &Key, other: &Key) -> bool {
    match (key.expires_at, other.expires_at) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => one >= other,
    }
}

/// The keys that have come to an end for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether any key was ever made, which ended the time of callers without one.
    pub any: bool,
    /// Keys that are no longer valid.
    pub keys: HashSet<KeyId>,
}

/// The keys that have come to an end so far.
pub async fn ended(pool: &PgPool) -> Result<Ended, StoreError> {
    let keys = format!("select id, not {VALID} from api_keys");
    let rows: Vec<(uuid::Uuid, bool)> = sqlx::query_as(AssertSqlSafe(keys)).fetch_all(pool).await?;
    let any = !rows.is_empty();
    let keys = rows.into_iter().filter(|(_, has_ended)| *has_ended).map(|(id, _)| KeyId(id));
    Ok(Ended { any, keys: keys.collect() })
}

fn hash(text: &str) -> Vec<u8> {
    Hasher::digest(text.as_bytes()).to_vec()
}

fn generate() -> Result<String, StoreError> {
    let mut text = String::from(PREFIX);
    while text.len() < PREFIX.len() + KEY_DIGITS {
        let mut bytes = [0; 64];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
            StoreError::Io(std::io::Error::other(format!("no randomness: {error}")))
        })?;
        // 248 is the largest multiple of 62 in a byte: digits above it would not be uniform.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        text.extend(fair.map(|byte| char::from(DIGITS[usize::from(byte % 62)])));
    }
    text.truncate(PREFIX.len() + KEY_DIGITS);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{KEY_DIGITS, PREFIX, generate};

    #[test]
    fn keys_are_long_plain_and_never_alike() {
        let (one, other) = (generate().expect("a key"), generate().expect("a key"));

        assert_eq!(one.len(), PREFIX.len() + KEY_DIGITS);
        assert!(
            one.strip_prefix(PREFIX)
                .is_some_and(|rest| { rest.chars().all(|digit| digit.is_ascii_alphanumeric()) })
        );
        assert_ne!(one, other);
    }
}
