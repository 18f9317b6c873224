//! `lvmed key`: makes, lists and revokes API keys, on the database that the server uses.

use anyhow::ensure;
use clap::Subcommand;
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::database::{Uses, open, print};
use crate::config::Storage;
use crate::domain::name::Name;
use crate::domain::{KeyId, Lifetime, Role};
use crate::store;
use crate::store::database::Absent;
use crate::store::keys::{self, Key};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Makes a key and prints it; it is shown this once.
    Create {
        /// Whom or what it is for.
        #[arg(long)]
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        role: Role,
        /// Days until it ends by itself; without, it is valid until it is revoked.
        #[arg(long, value_name = "DAYS")]
        valid_days: Option<Lifetime>,
        #[command(flatten)]
        storage: Storage,
    },
    /// Lists the keys that are valid, oldest first, without the keys themselves.
    List {
        #[command(flatten)]
        storage: Storage,
    },
    /// Revokes a key at once.
    Revoke {
        /// Its id, as `lvmed key list` shows it.
        id: KeyId,
        #[command(flatten)]
        storage: Storage,
    },
}

pub(super) async fn run(command: KeyCommand) -> anyhow::Result<()> {
    let (KeyCommand::Create { storage, .. }
    | KeyCommand::List { storage }
    | KeyCommand::Revoke { storage, .. }) = &command;
    let database = open(storage, Absent::Refuse, Uses::Rows).await?;
    let done = match store::connect(database.url(), 2).await {
        Ok(pool) => {
            let done = act(&pool, &command).await;
            pool.close().await;
            done
        }
        Err(error) => Err(error.into()),
    };
    database.stop();
    print(&done?)
}

/// Does it; what to print.
async fn act(pool: &PgPool, command: &KeyCommand) -> anyhow::Result<String> {
    match command {
        KeyCommand::Create { name, role, valid_days, .. } => {
            Ok(keys::create(pool, &Name::parse(name)?, *role, *valid_days).await?.1)
        }
        KeyCommand::List { .. } => Ok(table(&keys::list(pool).await?)),
        KeyCommand::Revoke { id, .. } => {
            ensure!(keys::revoke(pool, *id).await?, "there is no key {id}");
            Ok(format!("revoked {id}"))
        }
    }
}

fn table(keys: &[Key]) -> String {
    let mut lines = vec![format!(
        "{:<36}  {:<7}  {:<12}  {:<20}  {:<20}  {:<20}  name",
        "id", "role", "begins with", "made", "last used", "valid until"
    )];
    for key in keys {
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), time);
        let until = key.expires_at.map_or_else(|| "revoked".to_owned(), time);
        lines.push(format!(
            "{:<36}  {:<7}  {:<12}  {:<20}  {used:<20}  {until:<20}  {}",
            key.id.to_string(),
            key.role.to_string(),
            key.prefix,
            time(key.created_at),
            key.name
        ));
    }
    lines.join("\n")
}

/// To the second, in UTC.
fn time(at: OffsetDateTime) -> String {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}
