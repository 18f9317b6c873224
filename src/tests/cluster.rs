//! The built-in Postgres cluster as an operator meets it: one server a folder, nothing left behind.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;

use crate::pictures::two_classes;
use crate::server::Server;

/// The longest that children may outlive a killed server.
const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_folder_is_refused_and_the_first_goes_on() {
    let server = Server::start();

    let started = Instant::now();
    let second = Command::new(env!("CARGO_BIN_EXE_lvmed"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.data())
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");

    assert!(!second.status.success());
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("another server runs on the data folder"), "{told}");
    assert!(told.contains(&server.data().display().to_string()), "{told}");
    assert!(
        server
            .request(reqwest::Method::GET, "/readyz")
            .send()
            .await
            .expect("it answers")
            .status()
            .is_success()
    );
    assert_eq!(server.workers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_takes_postgres_and_its_workers_along_and_starts_again_at_once() {
    let server = Server::start();
    server.post("/api/v1/datasets", &json!({"name": "kept"}), StatusCode::CREATED).await;
    let children = children(&server);
    assert!(children.len() >= 2, "Postgres and a worker are running: {children:?}");

    let folder = server.kill();
    // At once: the old cluster is still ending.
    let again = Server::start_in(folder);

    let found = again.get("/api/v1/datasets").await;
    assert_eq!(found["items"][0]["name"], "kept");
    gone(&children).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_leaves_no_process_and_no_lock_of_postgres_behind() {
    let mut server = Server::start();
    let children = children(&server);

    assert!(server.stop(), "{}", server.log());

    gone(&children).await;
    assert!(!server.data().join("postgres/postmaster.pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_enough_for_uploads_and_a_run() {
    let server = Server::start_with(&[("LVMED_DATABASE_CONNECTIONS", "1")]);
    let backbone = server.random_backbone("resnet18", 32).await;
    let dataset = server.dataset("sides", two_classes(8, 32)).await;
    let others = [server.empty_dataset("one").await, server.empty_dataset("two").await];
    let uploads = others.iter().map(|dataset| {
        server.expect(server.upload(dataset, "a.zip", two_classes(12, 32)), StatusCode::OK)
    });

    let version = server.freeze(&dataset).await;
    let spec = json!({"kind": "finetune", "dataset_version": version, "backbone": backbone["id"],
                      "method": "probe"});
    let run = server.queue(&spec).await;
    futures_util::future::join_all(uploads).await;
    server.succeed(&run).await;

    // The stream of events holds none.
    let events = server.request(reqwest::Method::GET, &format!("/api/v1/runs/{run}/events"));
    let told = events.send().await.expect("a stream").text().await.expect("it ends");
    assert!(told.contains("succeeded"), "{told}");
}

/// Whatever runs on a data folder: the processes that were given it or whose working folder lies in it.
fn at_work_in(folder: &std::path::Path) -> Vec<String> {
    let name = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("a /proc").flatten();
    let found = processes.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works = std::fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let is_found = line.contains(&name) || works.starts_with(folder);
        is_found.then(|| format!("{} {line}", process.file_name().to_string_lossy()))
    });
    found.collect()
}

/// Starts a server on an empty folder, asks it to end after so many milliseconds, and says what was
/// wrong with how it did.
fn stopped_after(milliseconds: u64) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("ours");
    let data = folder.path().join("data");
    let mut server = Command::new(env!("CARGO_BIN_EXE_lvmed"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    std::thread::sleep(Duration::from_millis(milliseconds));
    let asked = Instant::now();
    crate::server::signal(server.id(), "TERM");
    while matches!(server.try_wait(), Ok(None)) && asked.elapsed() < 4 * PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = matches!(server.try_wait(), Ok(Some(_)));
    if !ended {
        let _ = server.kill();
    }
    let output = server.wait_with_output().expect("the child is ours");
    let told = String::from_utf8_lossy(&output.stderr);
    // Before its first line the program has started nothing, and may be ended by the signal itself.
    let is_orderly = output.status.success() || !data.exists();
    let left = at_work_in(folder.path());
    (!ended || !is_orderly || !left.is_empty())
        .then(|| format!("after {milliseconds} ms: {}, left {left:?}\n{told}", output.status))
}

#[test]
fn a_server_asked_to_stop_at_any_moment_of_its_start_ends_by_itself_and_leaves_nothing() {
    let moments = [0, 30, 100, 250, 500, 1000, 2000, 3000, 4500];

    // All at once, so that each is as slow as on a busy machine.
    let servers = moments.map(|moment| std::thread::spawn(move || stopped_after(moment)));
    let wrong = servers.map(|server| server.join().expect("it ends"));

    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_replaced_though_its_process_lives() {
    let server = Server::start();
    let backbone = server.random_backbone("resnet18", 32).await;
    let dataset = server.dataset("sides", crate::pictures::two_classes(12, 32)).await;
    let frozen = server.freeze(&dataset).await;
    let replaced = async |hanging: Vec<u32>| {
        let asked = Instant::now();
        while server.workers().is_empty() || server.workers() == hanging {
            assert!(asked.elapsed() < PATIENCE, "{hanging:?} still there\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };

    // One without a run.
    replaced(server.freeze_workers()).await;

    // And one within a run, which then goes on.
    let training = json!({"epochs": 1000, "patience": 1000, "batch_size": 4});
    let spec = json!({"kind": "finetune", "dataset_version": frozen, "backbone": backbone["id"],
                      "method": "last", "training": training});
    let run = server.queue(&spec).await;
    server.wait(&run, |run| run["progress"]["epoch"].as_u64() >= Some(1)).await;
    replaced(server.freeze_workers()).await;
    let found = server.wait(&run, |run| run["attempt"] == 2).await;

    assert_ne!(found["status"], "failed", "{found:#}");
    assert!(server.log().contains("hangs and is killed"), "{}", server.log());
    server.post(&format!("/api/v1/runs/{run}/cancel"), &json!({}), StatusCode::ACCEPTED).await;
}

#[test]
fn a_folder_that_postgres_may_not_enter_or_binaries_that_are_none_get_a_clear_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let migrate = |data: &std::path::Path, binaries: Option<&std::path::Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lvmed"));
        command.args(["migrate", "--init", "--data"]).arg(data).env_remove("DATABASE_URL");
        if let Some(binaries) = binaries {
            command.arg("--pg-bin").arg(binaries);
        }
        let output = command.output().expect("the program runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };

    let told = migrate(&folder.path().join("data"), Some(folder.path()));

    assert!(told.contains("holds no `initdb` and `postgres`"), "{told}");
    if rustix::process::geteuid().is_root() {
        // Postgres runs as another user then.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))
            .expect("the folder is ours");
        let told = migrate(&folder.path().join("data"), None);
        assert!(told.contains("may not enter") && told.contains("chmod o+x"), "{told}");
    }
    std::fs::create_dir_all(folder.path().join("file")).expect("made");
    std::fs::write(folder.path().join("file/data"), b"").expect("written");
    let told = migrate(&folder.path().join("file/data"), None);
    assert!(told.contains("data folder"), "{told}");
}

/// The processes of Postgres and of the workers, by id and by when they started.
fn children(server: &Server) -> Vec<(u32, String)> {
    let lock = std::fs::read_to_string(server.data().join("postgres/postmaster.pid"))
        .expect("Postgres is running");
    let postgres = lock.lines().next().and_then(|line| line.parse().ok()).expect("its process");
    let mut all = server.workers();
    all.push(postgres);
    all.into_iter().filter_map(|process| Some((process, started_at(process)?))).collect()
}

/// The time at which a process started, so that another one that gets its number is not taken for it.
fn started_at(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // proc_pid_stat(5): the name in brackets may hold spaces; the start time is field 22.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

async fn gone(children: &[(u32, String)]) {
    let asked = Instant::now();
    let is_there =
        |(process, started): &&(u32, String)| started_at(*process).as_ref() == Some(started);
    while children.iter().any(|child| is_there(&child)) {
        let left: Vec<_> = children.iter().filter(is_there).collect();
        assert!(asked.elapsed() < PATIENCE, "still running: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
