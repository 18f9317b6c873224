//! Short commands: they work on the database of the server that is meant, or not at all.

use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::Api;
use crate::app::App;
use crate::pictures::{png, two_classes, zip};
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
const COMMANDS: [&[&str]; 6] = [
    &CREATE,
    &["key", "list"],
    &["migrate"],
    &["check"],
    &["check", "--json"],
    &["dataset", "import", "src/tests/fixtures/pictures", "--name", "sides"],
];

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
    let list = |server: &Api| {
        let ended = server.command(&["key", "list"]);
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    let listed = list(&server);
    assert!(!listed.contains(&viewer) && !listed.contains(&admin), "{listed}");
    let id = |name: &str| {
        let line = listed.lines().find(|line| line.ends_with(name)).expect("a line");
        line.split_whitespace().next().expect("an id").to_owned()
    };
    let revoke = |server: &Api, id: &str| server.command(&["key", "revoke", id]);
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

/// The text that a command printed, and what it told beside that.
fn said(ended: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&ended.stdout), text(&ended.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_its_archive_become_the_same_dataset_as_an_upload_does() {
    let server = App::start().await;
    let folder = server.folder.path().join("pictures");
    let mut entries = Vec::new();
    for (class, label) in ["left", "right"].into_iter().enumerate() {
        std::fs::create_dir_all(folder.join(label)).expect("made");
        for number in 0..3 {
            let name = format!("{label}/{number}.png");
            let picture = png(class, number + 1000 * class as u32, 32);
            std::fs::write(folder.join(&name), &picture).expect("written");
            entries.push((name, picture));
        }
    }
    std::fs::write(folder.join("left/broken.png"), "no picture").expect("written");
    let archive = server.folder.path().join("pictures.zip");
    std::fs::write(&archive, zip(&entries)).expect("written");
    let import = |source: &Path, more: &[&str]| {
        let source = source.to_str().expect("a path");
        let arguments =
            [["dataset", "import", source, "--name", "sides"].as_slice(), more].concat();
        server.command(&arguments)
    };

    let made = import(&folder, &[]);

    let (printed, told) = said(&made);
    assert!(made.status.success(), "{told}");
    assert!(printed.contains("6 files were taken, with 6 images that are new"), "{printed}");
    assert!(printed.contains("1 file could not be taken"), "{printed}");
    assert!(printed.contains("left/broken.png: "), "{printed}");
    let datasets = server.get("/api/v1/datasets").await;
    assert_eq!(datasets["items"][0]["name"], "sides", "{datasets:#}");
    assert_eq!(datasets["items"][0]["classes"], json!({"left": 3, "right": 3}), "{datasets:#}");

    let refused = import(&archive, &[]);
    let (printed, told) = said(&refused);
    assert!(!refused.status.success() && printed.is_empty(), "{printed}");
    assert!(told.contains("\"sides\" is already taken") && told.contains("--add"), "{told}");

    let added = import(&archive, &["--add", "--json"]);
    let (printed, told) = said(&added);
    assert!(added.status.success(), "{told}");
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(report["dataset"]["id"], datasets["items"][0]["id"], "{report:#}");
    assert_eq!(report["upload"]["duplicates"], 6, "{report:#}");
    assert_eq!(report["dataset"]["images"], 6, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_keeps_nothing_leaves_no_dataset_and_says_what_to_do() {
    let server = App::start().await;
    let folder = server.folder.path();
    let broken = folder.join("broken.zip");
    let archive = two_classes(1, 32);
    std::fs::write(&broken, &archive[..archive.len() / 2]).expect("written");
    std::fs::create_dir(folder.join("empty")).expect("made");
    let import = |source: &str, more: &[&str]| {
        let source = folder.join(source);
        let source = source.to_str().expect("a path");
        let ended = server
            .command(&[["dataset", "import", source, "--name", "sides"].as_slice(), more].concat());
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{source}");
        said(&ended).1
    };

    for (source, more, expected) in [
        ("absent", &[] as &[&str], "absent cannot be read"),
        ("empty", &[], "holds no files"),
        ("broken.zip", &["--upload-bytes", "10"], "LVMED_LIMIT_UPLOAD_BYTES"),
        ("broken.zip", &[], "ZIP"),
    ] {
        let told = import(source, more);
        assert!(told.contains(expected), "{source}: {told}");
    }
    assert_eq!(server.get("/api/v1/datasets").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_on_the_command_line_as_it_does_over_http() {
    let server = App::start_with_worker(&[]).await;
    let backbone = server.random_backbone("resnet18", 64).await;
    let version = server.freeze(&server.dataset("sides", two_classes(12, 64)).await).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.succeed(&server.queue(&spec).await).await;
    let model = run["model"].as_str().expect("a model");
    let picture = server.folder.path().join("new.png");
    std::fs::write(&picture, png(1, 77_000, 64)).expect("written");
    let file = picture.to_str().expect("a path");
    let request = server.request(Method::POST, &format!("/api/v1/models/{model}/predict"));
    let answer = server.expect(request.body(png(1, 77_000, 64)), StatusCode::OK).await;

    let whole = server.command(&["predict", "--model", model, file, "--json"]);
    let short = server.command(&["predict", "--model", model, file]);

    let (printed, told) = said(&whole);
    assert!(whole.status.success(), "{told}");
    let found: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(found["items"][0]["file"], file, "{found:#}");
    assert_eq!(found["items"][0]["label"], answer["items"][0]["label"], "{found:#}");
    let probability = |answer: &Value| {
        answer["items"][0]["probabilities"][0]["probability"].as_f64().expect("a number")
    };
    assert!((probability(&found) - probability(&answer)).abs() < 1e-5, "{found:#}");
    let (printed, _) = said(&short);
    let label = answer["items"][0]["label"].as_str().expect("a label");
    assert!(printed.starts_with(&format!("{file}: {label} ")), "{printed}");

    let nobody = "01890000-0000-7000-8000-000000000000";
    let weights = server.folder.path().join("resnet18.safetensors");
    let weights = weights.to_str().expect("a path");
    for (arguments, expected) in [
        (["predict", "--model", nobody, file], model),
        (["predict", "--model", model, "absent.png"], "absent.png cannot be read"),
        (["predict", "--model", model, "src"], "src is not a file"),
        (["predict", "--model", model, weights], "not a PNG, JPEG or DICOM file"),
    ] {
        let refused = server.command(&arguments);
        let (printed, told) = said(&refused);
        assert!(!refused.status.success() && printed.is_empty(), "{printed}");
        assert!(told.contains(expected), "{told}");
    }
}
