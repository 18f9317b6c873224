//! Clients that keep a server waiting: each is given up in time, and nobody else has to wait for it.

use std::time::{Duration, Instant};

use lvmed::domain::KeyId;
use lvmed::store::keys;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::access::key;
use crate::api::Api;
use crate::app::App;
use crate::pictures::two_classes;
use crate::server::Server;

/// A connection to the server, with nothing sent.
async fn connect(server: &Api) -> TcpStream {
    TcpStream::connect(host(server)).await.expect("the server accepts")
}

fn host(server: &Api) -> &str {
    server.address.trim_start_matches("http://")
}

/// A connection with a request under way, whose body does not come.
async fn working(server: &Api) -> TcpStream {
    let mut stream = connect(server).await;
    let head = format!(
        "POST /api/v1/datasets HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{{",
        host(server)
    );
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    stream
}

/// The bytes that still come until the server closes the connection, and after how long that was.
async fn rest(mut stream: TcpStream) -> (String, Duration) {
    let (started, mut text) = (Instant::now(), Vec::new());
    let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
    assert!(closed.is_ok(), "the connection stays open");
    (String::from_utf8_lossy(&text).into_owned(), started.elapsed())
}

/// A request on a connection of its own.
async fn alone(server: &Api, path: &str) -> String {
    let mut stream = connect(server).await;
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(server));
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    rest(stream).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_idle_connections_nor_ones_that_work_keep_probes_out() {
    let server = Server::start_with(&[
        ("LVMED_WORKERS", "0"),
        ("LVMED_LIMIT_CONNECTIONS", "12"),
        ("LVMED_LIMIT_RESERVED_CONNECTIONS", "3"),
        ("LVMED_HEALTH_LISTEN", "127.0.0.1:0"),
    ]);
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(connect(&server).await);
    }
    for path in ["/livez", "/readyz", "/api/v1/me"] {
        let answer = alone(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }

    let mut busy = Vec::new();
    for _ in 0..12 {
        busy.push(working(&server).await);
    }
    // Once they are read, the next connection finds no place.
    let started = Instant::now();
    let mut refused = alone(&server, "/api/v1/me").await;
    while refused.starts_with("HTTP/1.1 200") && started.elapsed() < Duration::from_secs(10) {
        busy.push(working(&server).await);
        refused = alone(&server, "/api/v1/me").await;
    }
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("retry-after: ") && refused.contains("connection: close"),
        "{refused}"
    );
    assert!(refused.contains("LVMED_LIMIT_CONNECTIONS"), "{refused}");
    for _ in 0..8 {
        idle.push(connect(&server).await);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = alone(&server, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    drop(busy);

    let log = server.log();
    let (_, health) = log.split_once("probes are answered on http://").expect("it is announced");
    let health: String = health.chars().take_while(|c| !c.is_whitespace()).collect();
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 503)] {
        let answer = server.http.get(format!("http://{health}{path}")).send().await;
        assert_eq!(answer.expect("an answer").status(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_server_waiting_is_given_up_in_time() {
    let server = App::start_with(&[
        ("LVMED_LIMIT_HEAD_SECONDS", "1"),
        ("LVMED_LIMIT_IDLE_SECONDS", "2"),
        ("LVMED_LIMIT_BODY_GRACE_SECONDS", "1"),
        ("LVMED_LIMIT_BODY_BYTES_PER_SECOND", "1000"),
        ("LVMED_LIMIT_BODY_SECONDS", "3"),
        ("LVMED_LIMIT_SEND_SECONDS", "1"),
    ])
    .await;
    let dataset = server.empty_dataset("slow").await;

    tokio::join!(
        slow_head(&server),
        idle(&server),
        body(&server, &dataset, (20, Duration::from_millis(100)), "1000 are needed after 1 s"),
        body(&server, &dataset, (2000, Duration::from_millis(50)), "LVMED_LIMIT_BODY_SECONDS"),
        form(&server),
        unread_answers(&server),
    );

    let found = server.get(&format!("/api/v1/datasets/{dataset}")).await;
    assert_eq!(found["images"], 0);
}

/// A byte of the head now and then does not stop the clock.
async fn slow_head(server: &Api) {
    let (started, mut stream) = (Instant::now(), connect(server).await);
    for byte in b"GET /livez HTTP/1.1\r\nHost: a-name-that-does-not-end".iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the connection stays open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
}

/// Between two requests there is more time than for a head, and it ends as well, also after a request
/// whose answer was not ready at once.
async fn idle(server: &Api) {
    let mut stream = connect(server).await;
    for pause in [0, 1500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let head = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\n\r\n", host(server));
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = [0; 4096];
        while !rest.windows(6).any(|part| part == b"\"cpu\"}") {
            let read = stream.read(&mut rest).await.expect("the rest");
            assert!(read > 0, "the connection is closed");
        }
    }
    let (_, waited) = rest(stream).await;
    assert!(waited > Duration::from_millis(1500) && waited < Duration::from_secs(8), "{waited:?}");
}

/// A body without end: so many bytes every so often.
fn drip(bytes: usize, pause: Duration) -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(vec![b'P'; bytes]), ()))
    }))
}

/// An upload that is too slow, or takes too long, is given up.
async fn body(server: &Api, dataset: &str, pace: (usize, Duration), told: &str) {
    let slow = server.upload(dataset, "a.zip", Vec::new()).body(drip(pace.0, pace.1));
    let started = Instant::now();
    server.refused(slow, (StatusCode::REQUEST_TIMEOUT, "timeout"), &[told]).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A form is held to the pace like any other body.
async fn form(server: &Api) {
    let file = reqwest::multipart::Part::stream(drip(20, Duration::from_millis(100)));
    let form = reqwest::multipart::Form::new()
        .text("name", "slow")
        .text("source_url", "https://example.org/weights")
        .text("license", "none")
        .part("file", file);
    let slow = server.request(Method::POST, "/api/v1/backbones").multipart(form);
    let told = ["1000 are needed after 1 s"];
    server.refused(slow, (StatusCode::REQUEST_TIMEOUT, "timeout"), &told).await;
}

/// Whoever asks for much and reads nothing is not sent the rest.
async fn unread_answers(server: &Api) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = host(server).parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("the server accepts");
    let head = format!("GET /openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n", host(server));
    stream.write_all(head.repeat(200).as_bytes()).await.expect("the heads are sent");

    tokio::time::sleep(Duration::from_secs(4)).await;

    let mut text = Vec::new();
    // Whether what was on its way still comes before the reset is up to the system.
    let _ = stream.read_to_end(&mut text).await;
    let answers = text.windows(12).filter(|part| part == b"HTTP/1.1 200").count();
    assert!(answers < 200, "all {answers} answers came");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_single_bytes_costs_no_minutes() {
    let server = App::start().await;
    let dataset = server.empty_dataset("crumbs").await;
    let mut stream = connect(&server).await;
    let head = format!(
        "POST /api/v1/datasets/{dataset}/uploads?file=a.png HTTP/1.1\r\nHost: {}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        host(&server)
    );
    let started = Instant::now();

    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    stream.write_all("1\r\nx\r\n".repeat(1 << 20).as_bytes()).await.expect("the crumbs are sent");
    stream.write_all(b"0\r\n\r\n").await.expect("the end is sent");
    let (answer, _) = rest(stream).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("not a PNG, JPEG or DICOM file"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_what_is_under_way_and_closes_what_waits() {
    let mut server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let dataset = server.empty_dataset("stopping").await;
    let waiting = connect(&server).await;
    let slow = futures_util::stream::unfold(0, |number| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (number < 10).then(|| (Ok::<_, std::io::Error>(vec![b'x'; 1000]), number + 1))
    });
    let upload = server.upload(&dataset, "a.txt", Vec::new());
    let upload = tokio::spawn(upload.body(reqwest::Body::wrap_stream(slow)).send());
    tokio::time::sleep(Duration::from_millis(300)).await;

    assert!(server.stop(), "{}", server.log());

    let answer = upload.await.expect("not broken").expect("the upload is answered");
    assert_eq!(answer.status(), StatusCode::OK);
    let (_, waited) = rest(waiting).await;
    assert!(waited < Duration::from_secs(1));
    assert!(!server.log().contains("were dropped"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_when_its_key_is_revoked_or_expires() {
    let server = App::start().await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let dataset = server.dataset("sides", two_classes(12, 32)).await;
    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let once = |spec: &Value, key: Option<&str>| {
        let request = server.request(Method::POST, "/api/v1/runs").header("idempotency-key", "one");
        let request = request.json(spec);
        key.map_or(request.try_clone(), |key| Some(request.bearer_auth(key))).expect("no stream")
    };
    let run = server.expect(once(&spec, None), StatusCode::ACCEPTED).await;
    let again = server.expect(once(&spec, None), StatusCode::ACCEPTED).await;
    assert_eq!(again["id"], run["id"]);
    let mut other = spec.clone();
    other["seed"] = json!(2);
    let conflict = (StatusCode::CONFLICT, "conflict");
    server.refused(once(&other, None), conflict, &["Idempotency-Key", "another body"]).await;
    let stream = format!("/api/v1/runs/{}/events", run["id"].as_str().expect("an id"));
    let mut open = server.request(Method::GET, &stream).send().await.expect("a stream");
    assert_eq!(open.headers()["x-accel-buffering"], "no");
    assert_eq!(open.headers()["cache-control"], "no-cache, no-transform");

    let (_, admin) = key(&server, "admin", None).await;
    ends(&mut open).await;
    let (id, trainer) = key(&server, "trainer", Some(&admin)).await;
    let theirs = server.expect(once(&other, Some(&trainer)), StatusCode::ACCEPTED).await;
    assert_ne!(theirs["id"], run["id"], "the key of one caller is nothing to another");
    let listen =
        |key: &str| server.request(Method::GET, &stream).bearer_auth(key.to_owned()).send();
    let mut revoked = listen(&trainer).await.expect("a stream");
    let mut kept = listen(&admin).await.expect("a stream");
    let upload = server.upload(&dataset, "a.zip", Vec::new()).bearer_auth(&trainer);
    let upload = upload.body(drip(20_000, Duration::from_millis(50)));
    let unauthorized = (StatusCode::UNAUTHORIZED, "unauthorized");
    let cut_off = server.refused(upload, unauthorized, &["revoked"]);
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Behind the server's back, as the command line does it.
        let id = KeyId(id.parse().expect("an id"));
        assert!(keys::revoke(server.pool(), id).await.expect("answered"));
    };
    tokio::join!(cut_off, revoking);
    ends(&mut revoked).await;
    let first = kept.chunk().await.expect("a part");
    assert!(first.is_some(), "another key's stream goes on");
    let more = tokio::time::timeout(Duration::from_millis(300), kept.chunk()).await;
    assert!(more.is_err(), "another key's stream goes on: {more:?}");

    let (id, viewer) = key(&server, "viewer", Some(&admin)).await;
    let mut expired = listen(&viewer).await.expect("a stream");
    sqlx::query("update api_keys set expires_at = now() where id::text = $1")
        .bind(&id)
        .execute(server.pool())
        .await
        .expect("time passes");
    ends(&mut expired).await;
    let late = server.request(Method::GET, "/api/v1/me").bearer_auth(viewer);
    server.refused(late, unauthorized, &["has expired"]).await;
}

/// Reads a stream until it ends, which it does soon.
async fn ends(stream: &mut reqwest::Response) {
    let reading = async { while stream.chunk().await.expect("a whole end").is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(8), reading).await;
    assert!(ended.is_ok(), "the stream goes on");
}
