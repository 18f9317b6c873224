//! The rights of callers: every route of the document against every role, and the life of a key.

use std::path::Path;
use std::process::Command;

use reqwest::{Method, RequestBuilder, StatusCode, Version};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::server::Server;

const NOBODY: &str = "00000000-0000-7000-8000-000000000000";
const UNAUTHORIZED: (StatusCode, &str) = (StatusCode::UNAUTHORIZED, "unauthorized");
const FORBIDDEN: (StatusCode, &str) = (StatusCode::FORBIDDEN, "forbidden");

/// The callers who may use a route; each one may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Everybody,
    Viewer,
    Trainer,
    Admin,
}

/// The access that each route asks for. A route of the document that is not here fails the test, and
/// so does a line that names no route.
const RULES: &[(&str, &str, Access)] = &[
    ("get", "/livez", Access::Everybody),
    ("get", "/readyz", Access::Everybody),
    ("get", "/version", Access::Everybody),
    ("get", "/metrics", Access::Everybody),
    ("get", "/api/v1/me", Access::Viewer),
    ("get", "/api/v1/keys", Access::Admin),
    ("post", "/api/v1/keys", Access::Admin),
    ("delete", "/api/v1/keys/{id}", Access::Admin),
    ("get", "/api/v1/architectures", Access::Viewer),
    ("get", "/api/v1/backbones", Access::Viewer),
    ("post", "/api/v1/backbones", Access::Admin),
    ("post", "/api/v1/backbones/random", Access::Admin),
    ("get", "/api/v1/backbones/{id}", Access::Viewer),
    ("patch", "/api/v1/backbones/{id}", Access::Trainer),
    ("delete", "/api/v1/backbones/{id}", Access::Admin),
    ("get", "/api/v1/backbones/{id}/artifacts/{name}", Access::Viewer),
    ("post", "/api/v1/backbones/{id}/embed", Access::Viewer),
    ("get", "/api/v1/datasets", Access::Viewer),
    ("post", "/api/v1/datasets", Access::Trainer),
    ("get", "/api/v1/datasets/{id}", Access::Viewer),
    ("delete", "/api/v1/datasets/{id}", Access::Trainer),
    ("get", "/api/v1/datasets/{id}/rejected", Access::Viewer),
    ("get", "/api/v1/datasets/{id}/images", Access::Viewer),
    ("post", "/api/v1/datasets/{id}/uploads", Access::Trainer),
    ("get", "/api/v1/uploads/{id}", Access::Trainer),
    ("get", "/api/v1/datasets/{id}/versions", Access::Viewer),
    ("post", "/api/v1/datasets/{id}/versions", Access::Trainer),
    ("get", "/api/v1/versions/{id}", Access::Viewer),
    ("get", "/api/v1/versions/{id}/images", Access::Viewer),
    ("get", "/api/v1/images/{id}", Access::Viewer),
    ("delete", "/api/v1/images/{id}", Access::Trainer),
    ("get", "/api/v1/images/{id}/preview", Access::Viewer),
    ("get", "/api/v1/runs", Access::Viewer),
    ("post", "/api/v1/runs", Access::Trainer),
    ("get", "/api/v1/runs/{id}", Access::Viewer),
    ("post", "/api/v1/runs/{id}/cancel", Access::Trainer),
    ("post", "/api/v1/runs/estimate", Access::Trainer),
    ("post", "/api/v1/runs/{id}/retry", Access::Trainer),
    ("post", "/api/v1/runs/{id}/replay", Access::Trainer),
    ("get", "/api/v1/runs/{id}/events", Access::Viewer),
    ("get", "/api/v1/runs/{id}/curves", Access::Viewer),
    ("get", "/api/v1/runs/{id}/predictions", Access::Viewer),
    ("get", "/api/v1/runs/{id}/matching", Access::Viewer),
    ("get", "/api/v1/models", Access::Viewer),
    ("get", "/api/v1/models/{id}", Access::Viewer),
    ("delete", "/api/v1/models/{id}", Access::Trainer),
    ("get", "/api/v1/models/{id}/artifacts/{name}", Access::Viewer),
    ("post", "/api/v1/models/{id}/predict", Access::Viewer),
];

/// The routes of the served document.
async fn documented(server: &Api) -> Vec<(String, String)> {
    let document = server.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().expect("operations").keys();
            methods.map(|method| (method.clone(), path.clone()))
        })
        .collect()
}

/// A request for a route on things that do not exist, with a body that no handler can use: whoever
/// may not ask learns that and nothing else.
fn ask(server: &Api, method: &str, path: &str, key: Option<&str>) -> RequestBuilder {
    let path = path.replace("{id}", NOBODY).replace("{name}", "model.onnx");
    let method: Method = method.to_uppercase().parse().expect("a method");
    let request = server.request(method.clone(), &path);
    let sends = method == Method::POST || method == Method::PATCH;
    let request = if sends { request.body("nothing") } else { request };
    match key {
        Some(key) => request.bearer_auth(key),
        None => request,
    }
}

/// Makes a key; its id and the key itself.
pub(crate) async fn key(server: &Api, role: &str, admin: Option<&str>) -> (String, String) {
    let request = server.request(Method::POST, "/api/v1/keys");
    let request = request.json(&json!({"name": format!("the {role}"), "role": role}));
    let request = match admin {
        Some(admin) => request.bearer_auth(admin),
        None => request,
    };
    let made = server.expect(request, StatusCode::CREATED).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["key"]["id"]), text(&made["secret"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_lets_in_whom_it_should_and_nobody_else() {
    let server = App::start().await;
    let (_, admin) = key(&server, "admin", None).await;
    let (_, trainer) = key(&server, "trainer", Some(&admin)).await;
    let (_, viewer) = key(&server, "viewer", Some(&admin)).await;
    let routes = documented(&server).await;
    let known = |(method, path): &(String, String)| {
        RULES.iter().find(|(m, p, _)| m == method && p == path).map(|(_, _, access)| *access)
    };
    let without: Vec<_> = routes.iter().filter(|route| known(route).is_none()).collect();
    assert!(without.is_empty(), "routes without a rule of who may use them: {without:?}");
    assert_eq!(routes.len(), RULES.len(), "a rule names no route");

    let forged = format!("lvmed_{}", "a".repeat(43));
    for (method, path, access) in RULES.iter().copied() {
        let holders =
            [(Access::Viewer, &viewer), (Access::Trainer, &trainer), (Access::Admin, &admin)];
        for (role, key) in holders {
            let request = ask(&server, method, path, Some(key));
            if role < access {
                let needed = format!("{access:?}").to_lowercase();
                server.refused(request, FORBIDDEN, &[&needed]).await;
            } else {
                let status = request.send().await.expect("the server answers").status();
                let refused = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
                assert!(!refused, "{role:?} {method} {path}: {status}");
                assert!(!status.is_server_error(), "{role:?} {method} {path}: {status}");
            }
        }
        if access == Access::Everybody {
            let open = ask(&server, method, path, None).send().await.expect("an answer");
            assert_eq!(open.status(), StatusCode::OK, "{method} {path}");
            continue;
        }
        server.refused(ask(&server, method, path, None), UNAUTHORIZED, &["Bearer"]).await;
        server.refused(ask(&server, method, path, Some(&forged)), UNAUTHORIZED, &["valid"]).await;
    }
    for open in ["/", "/docs/", "/openapi.json"] {
        let status = ask(&server, "get", open, None).send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::OK, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_closes_the_server_is_kept_as_a_hash_and_ends_when_revoked() {
    let mut server = Server::start_with(&[("LVMED_WORKERS", "0"), ("LVMED_LISTEN", "127.0.0.2:0")]);
    let me = server.get("/api/v1/me").await;
    assert_eq!((&me["role"], &me["open"]), (&json!("admin"), &json!(true)), "{me:#}");
    assert!(server.log().contains("no API key exists"), "{}", server.log());
    let foreign = server.request(Method::GET, "/api/v1/me").header("host", "evil.example");
    server.refused(foreign, FORBIDDEN, &["this machine"]).await;
    let foreign = server.request(Method::GET, "/api/v1/me").header("origin", "http://evil.example");
    server.refused(foreign, FORBIDDEN, &["this machine"]).await;

    let (_, admin) = key(&server, "admin", None).await;
    let anonymous = server.request(Method::GET, "/api/v1/me");
    server.refused(anonymous, UNAUTHORIZED, &["Authorization: Bearer"]).await;
    let me = |key: &str| server.request(Method::GET, "/api/v1/me").bearer_auth(key.to_owned());
    let found = server.expect(me(&admin), StatusCode::OK).await;
    assert_eq!(found, json!({"role": "admin", "name": "the admin", "open": false}));
    let (id, viewer) = key(&server, "viewer", Some(&admin)).await;
    server.expect(me(&viewer), StatusCode::OK).await;
    server.refused(me(&viewer[..viewer.len() - 1]), UNAUTHORIZED, &["not valid"]).await;
    server.refused(me("eyJhbGciOi"), UNAUTHORIZED, &["lvmed_"]).await;
    let basic = server.request(Method::GET, "/api/v1/me").basic_auth("lvmed", Some(&admin));
    server.refused(basic, UNAUTHORIZED, &["Bearer"]).await;
    let query = server.request(Method::GET, &format!("/api/v1/me?key={admin}"));
    server.refused(query, UNAUTHORIZED, &["Bearer"]).await;
    let listed = server.request(Method::GET, "/api/v1/keys").bearer_auth(&admin);
    let listed = server.expect(listed, StatusCode::OK).await.to_string();
    assert!(!listed.contains(&admin) && !listed.contains(&viewer), "{listed}");

    for days in [json!(0), json!(3651), json!(-1), json!("soon")] {
        let made = server.request(Method::POST, "/api/v1/keys").bearer_auth(&admin);
        let made = made.json(&json!({"name": "visitor", "role": "viewer", "valid_days": days}));
        server.refused(made, (StatusCode::UNPROCESSABLE_ENTITY, "invalid"), &["valid_days"]).await;
    }

    let revoke = format!("/api/v1/keys/{id}");
    let delete = || server.request(Method::DELETE, &revoke).bearer_auth(&admin);
    server.expect(delete(), StatusCode::NO_CONTENT).await;
    server.refused(me(&viewer), UNAUTHORIZED, &["not valid"]).await;
    server.refused(delete(), (StatusCode::NOT_FOUND, "not_found"), &[&id]).await;

    assert!(server.stop(), "{}", server.log());
    for secret in [&admin, &viewer] {
        assert!(!server.log().contains(secret.as_str()), "a key is in the log");
        let found = holders(&server.data(), secret.as_bytes());
        assert!(found.is_empty(), "a key is in {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nobody_behind_a_proxy_is_let_in_and_metrics_are_no_exception() {
    let server = App::start().await;
    let proxied = [
        ("Forwarded", "for=10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "127.0.0.1"),
        ("Via", "1.1 proxy"),
    ];
    let metrics = || server.request(Method::GET, "/metrics");
    for closed in [false, true] {
        for (name, value) in proxied {
            let sign = if closed { "Bearer" } else { &name.to_lowercase() };
            let me = server.request(Method::GET, "/api/v1/me").header(name, value);
            server.refused(me, UNAUTHORIZED, &[sign]).await;
            let scraped = metrics().header(name, value);
            server.refused(scraped, UNAUTHORIZED, &[&name.to_lowercase(), "lvmed key"]).await;
            let probe = server.request(Method::GET, "/livez").header(name, value);
            server.expect(probe, StatusCode::OK).await;
        }
        server.expect(metrics(), StatusCode::OK).await;
        let foreign = [("host", "evil.example"), ("origin", "http://evil.example")];
        for (name, value) in foreign {
            server.refused(metrics().header(name, value), FORBIDDEN, &["this machine"]).await;
        }
        if !closed {
            let old = server.request(Method::GET, "/api/v1/me").version(Version::HTTP_10);
            server.refused(old, UNAUTHORIZED, &["HTTP/1.0"]).await;
            let (_, admin) = key(&server, "admin", None).await;
            let (_, viewer) = key(&server, "viewer", Some(&admin)).await;
            let scraped = metrics().header("via", "1.1 proxy").bearer_auth(viewer);
            server.expect(scraped, StatusCode::OK).await;
            let forged = metrics().bearer_auth("lvmed_forged");
            server.refused(forged, UNAUTHORIZED, &["not valid"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_admins_who_revoke_each_other_at_once_one_stays() {
    let server = App::start().await;
    let (mut first, mut first_key) = key(&server, "admin", None).await;
    for _ in 0..8 {
        let (second, second_key) = key(&server, "admin", Some(&first_key)).await;
        let revoke = |id: &str, key: &str| {
            let path = format!("/api/v1/keys/{id}");
            server.request(Method::DELETE, &path).bearer_auth(key.to_owned()).send()
        };

        let (one, other) = tokio::join!(revoke(&second, &first_key), revoke(&first, &second_key));

        let status = [one, other].map(|answer| answer.expect("an answer").status());
        let done = status.iter().filter(|status| **status == StatusCode::NO_CONTENT).count();
        assert_eq!(done, 1, "{status:?}");
        if status[1] == StatusCode::NO_CONTENT {
            (first, first_key) = (second, second_key);
        }
    }
    let last = server.request(Method::DELETE, &format!("/api/v1/keys/{first}"));
    let conflict = (StatusCode::CONFLICT, "conflict");
    server.refused(last.bearer_auth(&first_key), conflict, &["last admin key"]).await;
}

#[test]
fn a_server_without_keys_does_not_listen_beyond_this_machine() {
    let folder = tempfile::tempdir().expect("a temporary folder");

    let ended = Command::new(env!("CARGO_BIN_EXE_lvmed"))
        .args(["serve", "--listen", "0.0.0.0:0", "--data"])
        .arg(folder.path().join("data"))
        .env_remove("DATABASE_URL")
        .output()
        .expect("the program runs");

    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{told}");
    assert!(told.contains("refusing to listen on 0.0.0.0:0 without authentication"), "{told}");
    assert!(told.contains("lvmed key create"), "{told}");
}

/// The files under a folder that hold `needle`.
fn holders(folder: &Path, needle: &[u8]) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder reads").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).expect("a file reads");
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}
