//! The state that the server itself relies on: keys, its secret, the schema.

use lvmed::domain::{KeyId, Role};
use lvmed::store::secret::{self, SecretError};
use lvmed::store::{StoreError, connect, keys};

use super::name;
use crate::database::Scratch;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_until_it_is_revoked_and_its_text_is_nowhere_in_the_database() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let verify = async |text: &str| keys::verify(pool, text).await.expect("answered");
    assert!(!keys::any(pool).await.expect("answered"));

    let (key, text) =
        keys::create(pool, &name("reading room"), Role::Trainer, None).await.expect("made");
    let (other, _) =
        keys::create(pool, &name("reading room"), Role::Viewer, None).await.expect("made");

    assert!(keys::any(pool).await.expect("answered"));
    assert_eq!((key.role, key.last_used_at), (Role::Trainer, None));
    assert!(text.starts_with(&key.prefix) && key.prefix.len() < 16);
    assert_eq!(verify(&text).await.map(|key| key.id), Some(key.id));
    for wrong in ["", "lvmed_", &text[..text.len() - 1], &text.to_uppercase()] {
        assert_eq!(verify(wrong).await, None, "{wrong:?}");
    }
    let listed = keys::list(pool).await.expect("answered");
    assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), [key.id, other.id]);
    assert!(listed[0].last_used_at.is_some() && listed[1].last_used_at.is_none());
    let rows: Vec<String> = sqlx::query_scalar("select api_keys::text from api_keys")
        .fetch_all(pool)
        .await
        .expect("answered");
    assert!(rows.iter().all(|row| !row.contains(&text)));

    assert!(keys::revoke(pool, key.id).await.expect("answered"));

    assert!(!keys::revoke(pool, key.id).await.expect("answered"), "revoked twice");
    assert!(!keys::revoke(pool, KeyId::new()).await.expect("answered"));
    assert_eq!(verify(&text).await, None);
    assert_eq!(keys::list(pool).await.expect("answered").len(), 1);
    keys::revoke(pool, other.id).await.expect("revoked");
    assert!(keys::any(pool).await.expect("answered"), "revoking the last key opens nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_and_the_admin_key_that_lasts_longest_stays() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let admin = async |days: Option<&str>| {
        let lifetime = days.map(|days| days.parse().expect("a number of days"));
        keys::create(pool, &name("admin"), Role::Admin, lifetime).await.expect("made")
    };
    let (short, text) = admin(Some("1")).await;
    let (long, _) = admin(Some("90")).await;

    let days = |key: &keys::Key| key.expires_at.map(|at| (at - key.created_at).whole_days());
    assert_eq!((days(&short), days(&long)), (Some(1), Some(90)));
    let last = keys::revoke(pool, long.id).await;
    assert!(matches!(last, Err(StoreError::LastAdmin)), "{last:?}");
    let (lasting, _) = admin(None).await;
    assert_eq!(days(&lasting), None);
    assert!(keys::revoke(pool, long.id).await.expect("answered"));
    let last = keys::revoke(pool, lasting.id).await;
    assert!(matches!(last, Err(StoreError::LastAdmin)), "{last:?}");

    assert_eq!(
        keys::verify(pool, &text).await.expect("answered").map(|key| key.id),
        Some(short.id)
    );
    sqlx::query("update api_keys set expires_at = now() where id = $1")
        .bind(short.id.0)
        .execute(pool)
        .await
        .expect("time passes");

    assert_eq!(keys::verify(pool, &text).await.expect("answered"), None);
    let listed = keys::list(pool).await.expect("answered");
    assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), [lasting.id]);
    let ended = keys::ended(pool).await.expect("answered").keys;
    assert!(ended.contains(&short.id) && ended.contains(&long.id) && ended.len() == 2);
    assert!(!keys::revoke(pool, short.id).await.expect("answered"), "it has ended already");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_key_stays_even_when_all_are_revoked_at_once() {
    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let (viewer, _) = keys::create(pool, &name("viewer"), Role::Viewer, None).await.expect("made");
    for _ in 0..5 {
        let mut admins = keys::list(pool).await.expect("answered");
        admins.retain(|key| key.role == Role::Admin);
        while admins.len() < 4 {
            admins
                .push(keys::create(pool, &name("admin"), Role::Admin, None).await.expect("made").0);
        }

        let revoking = admins.iter().map(|key| keys::revoke(pool, key.id));
        let revoked = futures_util::future::join_all(revoking).await;

        let done = revoked.iter().filter(|revoked| matches!(revoked, Ok(true))).count();
        let refused = revoked.iter().filter(|done| matches!(done, Err(StoreError::LastAdmin)));
        assert_eq!((done, refused.count()), (3, 1));
        let ended = keys::ended(pool).await.expect("answered");
        assert!(ended.any && !ended.keys.contains(&viewer.id));
        assert_eq!(admins.iter().filter(|key| ended.keys.contains(&key.id)).count(), 3);
    }
    assert!(keys::revoke(pool, viewer.id).await.expect("answered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_made_once_and_another_a_cut_or_a_lost_one_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new().await;
    let pool = &scratch.store.pool;
    let path = scratch.folder.path().join("secret");

    let loaded = futures_util::future::join_all((0..4).map(|_| secret::load(pool, &path))).await;

    let kept = std::fs::read(&path).expect("the secret was written");
    assert_eq!(kept.len(), 32);
    assert!(loaded.into_iter().all(|loaded| loaded.expect("loaded")[..] == kept));
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    std::fs::write(&path, [7; 32]).expect("written");
    let other = secret::load(pool, &path).await;
    assert!(matches!(other, Err(SecretError::Other { .. })), "{other:?}");
    std::fs::write(&path, [7; 31]).expect("written");
    let cut = secret::load(pool, &path).await;
    assert!(matches!(cut, Err(SecretError::Length { found: 31, .. })), "{cut:?}");
    std::fs::remove_file(&path).expect("removed");
    let lost = secret::load(pool, &path).await;
    assert!(matches!(lost, Err(SecretError::Lost { .. })), "{lost:?}");
    assert!(!path.exists(), "a new secret would hide that the old one is lost");
    std::fs::write(&path, &kept).expect("restored");
    assert_eq!(secret::load(pool, &path).await.expect("loaded")[..], kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_brought_up_to_date_by_several_processes_at_once_and_again() {
    let scratch = Scratch::new().await;

    let connecting = (0..3).map(|_| connect(&scratch.url, 2));
    let pools = futures_util::future::join_all(connecting).await;

    for pool in pools {
        let pool = pool.expect("connected");
        assert!(!keys::any(&pool).await.expect("the schema is there"));
        pool.close().await;
    }
}
