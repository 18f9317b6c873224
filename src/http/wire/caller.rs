//! The caller who asks: an API key and its role, or somebody at the machine itself while no key
//! exists.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, Version};

use super::problem::{Code, Problem};
use super::standing::Seat;
use crate::domain::name::Name;
use crate::domain::{KeyId, Role};
use crate::http::app::App;
use crate::store::keys;

/// Longer texts are no keys, and are not hashed.
const LONGEST_KEY: usize = 200;
/// Headers that only proxies send.
const PROXY_HEADERS: [&str; 9] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "cdn-loop",
];
/// The prefixes of other such headers.
const PROXY_PREFIXES: [&str; 3] = ["x-forwarded", "x-original-", "x-envoy-"];

/// Whoever sent the request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The role of the caller: what it may do.
    pub role: Role,
    /// The caller's key; none while no key exists.
    pub key: Option<KeyId>,
    /// The name of the caller's key.
    pub name: Option<Name>,
    /// No key exists yet: the caller is let in because of where the server listens.
    pub open: bool,
}

impl Caller {
    /// Goes on only when the caller's role includes `role`.
    pub fn must(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let have = self.role;
        Err(Problem::new(
            Code::Forbidden,
            format!("this needs the role {role}; the key given has the role {have}"),
        ))
    }
}

/// A caller that may change data. Asked for in a handler's arguments, it is refused before the body
/// is read.
#[derive(Debug, Clone)]
pub struct AsTrainer(pub Caller);

impl FromRequestParts<App> for AsTrainer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.must(Role::Trainer)?;
        Ok(Self(caller))
    }
}

/// A caller that may do anything, likewise.
#[derive(Debug, Clone)]
pub struct AsAdmin(pub Caller);

impl FromRequestParts<App> for AsAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.must(Role::Admin)?;
        Ok(Self(caller))
    }
}

/// Whoever may read the metrics, likewise: the holder of any key, or a program of this machine itself
/// even where keys exist, for they tell nothing of the data.
#[derive(Debug, Clone, Copy)]
pub struct AsScraper;

impl FromRequestParts<App> for AsScraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if parts.headers.contains_key(AUTHORIZATION) {
            Caller::from_request_parts(parts, app).await?;
        } else {
            must_be_here(parts)?;
        }
        Ok(Self)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = found(parts, app).await?;
        // From here on, the bodies of the request and of its answer end with the key.
        if let Some(seat) = parts.extensions.get::<Seat>() {
            seat.take(caller.key);
        }
        Ok(caller)
    }
}

async fn found(parts: &Parts, app: &App) -> Result<Caller, Problem> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let text = header.to_str().ok().and_then(bearer);
        let text = text.ok_or_else(|| refused("`Authorization` must be `Bearer lvmed_…`"))?;
        let key = keys::verify(&app.store.pool, text).await?;
        let key = key.ok_or_else(|| {
            refused("the API key is not valid, or no longer: it was revoked or has expired")
        })?;
        return Ok(Caller { role: key.role, key: Some(key.id), name: Some(key.name), open: false });
    }
    // Asked every time: from the first key on, everybody needs one.
    if !app.loopback || keys::any(&app.store.pool).await? {
        return Err(refused("send an API key as `Authorization: Bearer lvmed_…`"));
    }
    must_be_here(parts)?;
    Ok(Caller { role: Role::Admin, key: None, name: None, open: true })
}

/// Goes on only when a program of this machine itself asks, without a proxy in between.
fn must_be_here(parts: &Parts) -> Result<(), Problem> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let is_here = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if !is_here {
        return Err(refused(
            "a request from another machine needs an API key: send it as \
                            `Authorization: Bearer lvmed_…` (`lvmed key create` makes one)",
        ));
    }
    if let Some(sign) = proxied(parts) {
        return Err(refused(&format!(
            "a request through a proxy needs an API key ({sign}): send it as `Authorization: \
             Bearer lvmed_…` (`lvmed key create` makes one)"
        )));
    }
    if !is_local(&parts.uri, &parts.headers) {
        return Err(Problem::new(
            Code::Forbidden,
            "without an API key only pages and programs of this machine itself are served; \
             create a key to use the server from elsewhere",
        ));
    }
    Ok(())
}

/// The header that shows that a proxy passed the request on, which may have come from anywhere.
fn proxied(parts: &Parts) -> Option<String> {
    let is_sign = |name: &str| {
        PROXY_HEADERS.contains(&name) || PROXY_PREFIXES.iter().any(|p| name.starts_with(p))
    };
    let header = parts.headers.keys().map(HeaderName::as_str).find(|name| is_sign(name));
    let header = header.map(|name| format!("it has the header `{name}`"));
    // nginx speaks it to what is behind it, and adds no header, unless it is told otherwise.
    header.or_else(|| (parts.version < Version::HTTP_11).then(|| "it is of HTTP/1.0".to_owned()))
}

fn refused(detail: &str) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    let key = key.trim();
    let is_key = key.starts_with(keys::PREFIX) && key.len() <= LONGEST_KEY;
    (scheme.eq_ignore_ascii_case("bearer") && is_key).then_some(key)
}

/// Whether the request was meant for this machine. A page of a stranger that is open in a browser
/// here can reach loopback too: by its own name made to point here (then `Host` is not local), or
/// directly (then `Origin` is another).
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(Authority::as_str).or_else(|| text(HOST));
    let Some(host) = host else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|digit| digit.is_ascii_digit()) { name } else { host }
    });
    let local = name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    let same_origin = match headers.get(ORIGIN) {
        None => true,
        Some(_) => text(ORIGIN)
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, origin)| origin.eq_ignore_ascii_case(host)),
    };
    local && same_origin
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Request, Uri, Version};

    use super::{bearer, is_local, proxied};

    fn local(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static(host));
        origin.map(|origin| headers.insert("origin", HeaderValue::from_static(origin)));
        is_local(&Uri::from_static("/api/v1/me"), &headers)
    }

    #[test]
    fn a_strangers_page_in_a_local_browser_is_not_local() {
        assert!(local("127.0.0.1:8080", None));
        assert!(local("[::1]:8080", None));
        assert!(local("localhost:8080", Some("http://localhost:8080")));
        assert!(!local("localhost:8080", Some("http://evil.example")));
        assert!(!local("evil.example:8080", Some("http://evil.example:8080")));
        assert!(!local("127.0.0.1.evil.example", None));
        assert!(!local("localhost:8080", Some("null")));
    }

    #[test]
    fn a_request_that_a_proxy_passed_on_shows_it() {
        let sign = |name: &'static str, version| {
            let request = Request::builder().version(version).header(name, "10.0.0.1").body(());
            proxied(&request.expect("a request").into_parts().0)
        };

        for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Via"] {
            let sign = sign(name, Version::HTTP_11).expect("a sign");
            assert!(sign.contains(&name.to_lowercase()), "{sign}");
        }
        assert_eq!(sign("accept", Version::HTTP_11), None);
        assert!(sign("accept", Version::HTTP_10).is_some_and(|sign| sign.contains("HTTP/1.0")));
    }

    #[test]
    fn only_bearer_keys_of_this_server_are_looked_up() {
        assert_eq!(bearer("Bearer lvmed_abc"), Some("lvmed_abc"));
        assert_eq!(bearer("bearer lvmed_abc"), Some("lvmed_abc"));
        assert_eq!(bearer("Basic lvmed_abc"), None);
        assert_eq!(bearer("Bearer eyJ"), None);
    }
}
