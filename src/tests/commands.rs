//! Short commands: they work on the database of the server that is meant, or not at all.

use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::server::Server;

fn run(arguments: &[&str], data: &Path) -> (Output, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_lvmed"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env_remove("DATABASE_URL")
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended, told)
}

const CREATE: [&str; 6] = ["key", "create", "--name", "ward-3", "--role", "trainer"];
const COMMANDS: [&[&str]; 5] =
    [&CREATE, &["key", "list"], &["migrate"], &["check"], &["check", "--json"]];

#[test]
fn no_command_makes_a_data_folder_or_a_database_that_no_server_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let absent = folder.path().join("mistyped");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");

    for command in COMMANDS {
        let (ended, told) = run(command, &absent);
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{told}");
        assert!(told.contains(&format!("no data folder {}", absent.display())), "{told}");
        assert!(told.contains("--data") && told.contains("LVMED_DATA"), "{told}");
        assert!(!absent.exists(), "{command:?} made it");

        let (ended, told) = run(command, &empty);
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{told}");
        assert!(told.contains("no built-in database") && told.contains("DATABASE_URL"), "{told}");
        assert!(std::fs::read_dir(&empty).expect("read").next().is_none(), "{command:?} wrote");
    }
}

#[test]
fn a_command_does_not_start_the_database_that_the_running_server_does_not_use() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // As a server with DATABASE_URL holds it, in a folder that had a built-in database before.
    std::fs::create_dir(folder.path().join("postgres")).expect("made");
    std::fs::write(folder.path().join("postgres/PG_VERSION"), "17\n").expect("written");
    let lock = std::fs::File::create(folder.path().join("server.lock")).expect("made");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");

    let (ended, told) = run(&CREATE, folder.path());

    assert!(!ended.status.success() && ended.stdout.is_empty(), "{told}");
    assert!(told.contains("a server runs on the data folder"), "{told}");
    assert!(told.contains("DATABASE_URL"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked_on_the_running_server_and_without_it() {
    let mut server = Server::start_with(&[("LVMED_WORKERS", "0")]);
    let make = |name: &str, role: &str| {
        let ended = server.command(&["key", "create", "--name", name, "--role", role]);
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(told.contains(&server.data().display().to_string()), "{told}");
        assert!(told.contains("of a running server"), "{told}");
        String::from_utf8_lossy(&ended.stdout).trim().to_owned()
    };

    let (admin, viewer) = (make("head", "admin"), make("ward", "viewer"));

    let me = |key: &str| server.request(Method::GET, "/api/v1/me").bearer_auth(key);
    let found = server.expect(me(&viewer), StatusCode::OK).await;
    assert_eq!((&found["role"], &found["name"]), (&json!("viewer"), &json!("ward")));
    let list = |server: &Server| {
        let ended = server.command(&["key", "list"]);
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    let listed = list(&server);
    assert!(!listed.contains(&viewer) && !listed.contains(&admin), "{listed}");
    let id = |name: &str| {
        let line = listed.lines().find(|line| line.ends_with(name)).expect("a line");
        line.split_whitespace().next().expect("an id").to_owned()
    };
    let revoke = |server: &Server, id: &str| server.command(&["key", "revoke", id]);
    assert!(revoke(&server, &id("ward")).status.success());
    let refused = me(&viewer).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let last = revoke(&server, &id("head"));
    assert!(!last.status.success());
    let told = String::from_utf8_lossy(&last.stderr).into_owned();
    assert!(told.contains("last admin key"), "{told}");
    assert!(!revoke(&server, &id("ward")).status.success(), "revoked twice");

    let visitor = ["key", "create", "--name", "visitor", "--role", "viewer", "--valid-days"];
    for (days, works) in [("30", true), ("0", false), ("3651", false), ("soon", false)] {
        let ended = server.command(&[visitor.as_slice(), &[days]].concat());
        assert_eq!(ended.status.success(), works, "{days}");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(works || told.contains("1 to 3650 days"), "{told}");
    }

    // With the server down the command runs the same database for a moment.
    assert!(server.stop(), "{}", server.log());
    let listed = list(&server);
    assert!(listed.contains("head") && !listed.contains("ward"), "{listed}");
    let line = |name: &str| listed.lines().find(|line| line.ends_with(name)).expect("a line");
    assert!(
        line("head").contains("  revoked  ") && !line("visitor").contains("revoked"),
        "{listed}"
    );
}
