//! An empty database for one test: on `DATABASE_URL` when it is set, else on the built-in cluster,
//! which is started once a test process and removed with its last database.

mod template;

use std::future::Future;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use lvmed::domain::Sha256;
use lvmed::store::postgres::Cluster;
use lvmed::store::{Blobs, MIGRATIONS, Store, connect};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool, Row};

/// The cluster of this process, as long as a test uses it.
static SHARED: Mutex<Weak<OwnCluster>> = Mutex::new(Weak::new());

/// A store with an empty database and an empty blob folder; dropped, both are removed.
pub(crate) struct Scratch {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
    name: String,
    administration: String,
    /// Outlives the database.
    _cluster: Option<Arc<OwnCluster>>,
}

impl Scratch {
    pub(crate) async fn new() -> Self {
        Self::made(None).await
    }

    /// A database as it was after this migration.
    pub(crate) async fn as_of(migration: i64) -> Self {
        Self::made(Some(migration)).await
    }

    async fn made(migration: Option<i64>) -> Self {
        let configured = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        let cluster = if configured.is_none() { Some(shared()) } else { None };
        let administration = configured
            .or_else(|| cluster.as_ref().map(|cluster| cluster.url.clone()))
            .expect("either is there");
        let name = format!("lvmed_test_{}", uuid::Uuid::now_v7().simple());
        let url = of_database(&administration, &name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pool = match migration {
            None => {
                template::clone(&administration, &name).await;
                connect(&url, 16).await.expect("the schema is there")
            }
            Some(migration) => {
                execute(&administration, format!("create database {name}")).await;
                let pool = PgPoolOptions::new().connect(&url).await.expect("Postgres answers");
                MIGRATIONS.run_to(migration, &pool).await.expect("an old schema is made");
                pool
            }
        };
        let blobs = Blobs::local(&folder.path().join("blobs")).expect("a blob folder");
        let store = Store { pool, blobs };
        Self { store, url, folder, name, administration, _cluster: cluster }
    }

    /// Whether a blob is stored.
    pub(crate) async fn holds(&self, content: &[u8]) -> bool {
        self.store.blobs.exists(&Sha256::of(content)).await.expect("the blob store answers")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (url, name) = (self.administration.clone(), self.name.clone());
        // A runtime of its own: this may be dropped inside the test's.
        let dropped = std::thread::spawn(move || {
            block_on(execute(&url, format!("drop database if exists {name} with (force)")));
        });
        // A failing test's own message matters more than that its database stays.
        let _ = dropped.join();
    }
}

/// Every row of every table, as text.
pub(crate) async fn dump(pool: &PgPool) -> Vec<String> {
    let tables = "select tablename from pg_tables where schemaname = 'public'";
    let mut rows = Vec::new();
    for table in sqlx::query(tables).fetch_all(pool).await.expect("the tables") {
        let table: String = table.get("tablename");
        let all = format!("select '{table}: ' || to_jsonb(t)::text as row from {table} t");
        let all = sqlx::query(sqlx::AssertSqlSafe(all)).fetch_all(pool).await.expect("a table");
        rows.extend(all.iter().map(|row| row.get::<String, _>("row")));
    }
    rows
}

/// A cluster in a temporary folder, started and stopped by a thread that lives in between: the
/// kernel stops a cluster when the thread that started it ends.
struct OwnCluster {
    url: String,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl OwnCluster {
    fn start() -> Self {
        let (started, url) = channel();
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || run_cluster(&started, &stopped));
        let url = url.recv().expect("the built-in cluster starts; the thread's panic says why not");
        Self { url, stop, thread: Some(thread) }
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn shared() -> Arc<OwnCluster> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = shared.upgrade().unwrap_or_else(|| Arc::new(OwnCluster::start()));
    *shared = Arc::downgrade(&cluster);
    cluster
}

fn run_cluster(started: &Sender<String>, stopped: &Receiver<()>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    open_to_others(folder.path());
    let cluster = Cluster::start(folder.path(), None).expect("the built-in cluster starts");
    let url = block_on(cluster.database_url()).expect("the cluster answers");
    started.send(url).expect("the test waits for it");
    // An error is a test that has ended too.
    let _ = stopped.recv();
}

/// The cluster's user may be another one and has to pass through.
fn open_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder, open).expect("the folder is ours");
}

async fn execute(url: &str, statement: String) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .expect("the statement runs");
    connection.close().await.expect("the connection ends");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// `url` with another database: what follows the last slash before the parameters.
fn of_database(url: &str, name: &str) -> String {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = address.rsplit_once('/').expect("DATABASE_URL names a database");
    format!("{server}/{name}?{parameters}")
}
