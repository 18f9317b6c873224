//! API keys, and who the caller is.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::domain::name::Name;
use crate::domain::{KeyId, Lifetime, Role};
use crate::http::app::App;
use crate::http::wire::answer::shape::{Created, Items, Json};
use crate::http::wire::caller::{AsAdmin, Caller};
use crate::http::wire::documented::{BadJson, Conflict, Guarded, Missing};
use crate::http::wire::extract::{Id, JsonBody};
use crate::http::wire::problem::Problem;
use crate::store::keys::{self, Key};

/// Who the caller is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Me {
    /// What the caller may do.
    pub role: Role,
    /// The name of the caller's key; null without one.
    #[schema(required)]
    pub name: Option<Name>,
    /// No key exists yet, and everybody at the machine itself is let in.
    pub open: bool,
}

/// A key to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Whom or what it is for.
    pub name: Name,
    /// What it allows.
    pub role: Role,
    /// Days until it ends by itself; null, or left out, for a key that is valid until it is revoked.
    #[serde(default)]
    pub valid_days: Option<Lifetime>,
}

/// A key that was just made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MadeKey {
    /// The key as it is shown from now on.
    pub key: Key,
    /// The key itself, shown this once.
    #[schema(example = "lvmed_…")]
    pub secret: String,
}

/// Who the caller is and what it may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "keys", operation_id = "get_me",
    responses((status = 200, description = "The caller", body = Me), Guarded))]
pub async fn me(caller: Caller) -> Json<Me> {
    Json(Me { role: caller.role, name: caller.name, open: caller.open })
}

/// All API keys that are valid, without the keys themselves.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, description = "All keys", body = Items<Key>), Guarded))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Items<Key>>, Problem> {
    caller.must(Role::Admin)?;
    Ok(Items::json(keys::list(&app.store.pool).await?))
}

/// Makes an API key. From the first one on, every caller needs a key.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys",
    operation_id = "create_key", request_body = NewKey,
    responses((status = 201, description = "The key, shown this once", body = MadeKey,
        headers(("Location" = String, description = "Where it can be revoked"))),
        BadJson, Guarded))]
pub async fn create(
    State(app): State<App>,
    _: AsAdmin,
    JsonBody(wanted): JsonBody<NewKey>,
) -> Result<Created<MadeKey>, Problem> {
    let (key, secret) =
        keys::create(&app.store.pool, &wanted.name, wanted.role, wanted.valid_days).await?;
    app.standing.closed();
    tracing::info!(key.id = %key.id, role = %key.role, "an API key was made");
    Ok(Created::at(format!("/api/v1/keys/{}", key.id), MadeKey { key, secret }))
}

/// Revokes an API key at once, and ends what is under way with it. The last admin key stays.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = KeyId, Path, description = "The key's id")),
    responses((status = 204, description = "The key is no longer valid"),
        Conflict, Missing, Guarded))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<KeyId>,
) -> Result<StatusCode, Problem> {
    caller.must(Role::Admin)?;
    if !keys::revoke(&app.store.pool, id).await? {
        return Err(Problem::missing("key", id));
    }
    app.standing.revoked(id);
    tracing::info!(key.id = %id, "an API key was revoked");
    Ok(StatusCode::NO_CONTENT)
}
