//! The built-in Postgres cluster: for one machine without a database of its own.
//!
//! It listens on a Unix socket only, keeps `fsync` on, runs as an unprivileged user when the server
//! is root (Postgres refuses root), and is told to stop when the server dies. Production sets
//! `DATABASE_URL` instead.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::binaries::{self, BinariesError};
use super::process::{self, LOOK};
use super::unprivileged::{self, User};
use crate::domain::Sha256;

/// The role and the database of the server.
const NAME: &str = "lvmed";
/// The longest that a start may take, recovery after a crash included.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest that a short command's cluster, or another server's, is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);
/// Linux allows 107 bytes for the path of a socket; Postgres adds `/.s.PGSQL.5432`.
const SOCKET_FOLDER_MAX: usize = 90;

/// The reason why the built-in cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No usable server binaries.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// Postgres would run as a user who cannot reach its files.
    #[error(
        "the built-in Postgres runs as user {user}, who may not enter {folder}; choose another \
         data folder with --data, open that folder with `chmod o+x`, or set DATABASE_URL"
    )]
    Unreachable {
        /// The user.
        user: String,
        /// The folder that bars the way.
        folder: PathBuf,
    },
    /// The cluster was made by another major version.
    #[error(
        "the cluster in {cluster} was made by Postgres {made}, but the binaries found are version \
         {found}; point LVMED_PG_BIN to version {made}"
    )]
    Version {
        /// The cluster.
        cluster: PathBuf,
        /// The version that made it.
        made: String,
        /// The version of the binaries.
        found: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended while it was starting.
    #[error("the built-in Postgres did not start; the end of {log} says:\n{tail}")]
    NotStarted {
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// The work that was being done.
        what: String,
        /// The reason why it failed.
        source: io::Error,
    },
    /// Somebody asked to stop before it was up.
    #[error("the start of the built-in Postgres was stopped")]
    Stopped,
    /// The database could not be made.
    #[error("the database could not be created: {0}")]
    Database(#[from] sqlx::Error),
}

/// A running cluster; dropped, it is stopped.
#[derive(Debug)]
pub struct Cluster {
    child: Child,
    socket: PathBuf,
    /// Held for as long as the cluster runs, so that one process at a time makes and starts it.
    _lock: fs::File,
}

impl Cluster {
    /// Starts the cluster under the data folder, which must exist, making it at the first start.
    ///
    /// Must be called from a thread that lives as long as the process: the kernel stops the cluster
    /// when that thread ends.
    pub fn start(data: &Path, pg_bin: Option<&Path>) -> Result<Self, ClusterError> {
        Self::start_unless(data, pg_bin, &CancellationToken::new())
    }

    /// Like [`Cluster::start`], but given up soon after `stopping` is cancelled: whatever was started
    /// by then is ended first.
    pub fn start_unless(
        data: &Path,
        pg_bin: Option<&Path>,
        stopping: &CancellationToken,
    ) -> Result<Self, ClusterError> {
        let binaries = binaries::find(pg_bin)?;
        let lock = lock(data, stopping)?;
        let data = data.canonicalize().map_err(failed("the data folder cannot be found"))?;
        let user = unprivileged::user_to_become();
        if let Some(user) = &user
            && let Some(folder) = user.barred_from(&data)
        {
            return Err(ClusterError::Unreachable { user: user.name.clone(), folder });
        }
        let cluster = data.join("postgres");
        let place = Place { binaries, cluster, user, stopping: stopping.clone() };
        place.initialise()?;
        place.check_version()?;
        let socket = place.socket_folder(&data)?;
        let log = data.join("postgres.log");
        let child = place.launch(&socket, &log)?;
        Ok(Self { child, socket, _lock: lock })
    }

    /// The URL of the server's database, which is made when it is missing.
    pub async fn database_url(&self) -> Result<String, ClusterError> {
        let mut connection =
            <sqlx::PgConnection as sqlx::Connection>::connect(&url(&self.socket, "postgres"))
                .await?;
        let exists = sqlx::query("select 1 from pg_database where datname = $1")
            .bind(NAME)
            .fetch_optional(&mut connection)
            .await?;
        if exists.is_none() {
            sqlx::query("create database lvmed").execute(&mut connection).await?;
        }
        Ok(url(&self.socket, NAME))
    }

    /// Whether the cluster has ended without being asked to.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the cluster, its connections first. Blocks until it has ended.
    pub fn stop(&mut self) {
        // Postgres: INT is the fast shutdown, QUIT the immediate one.
        process::end(&mut self.child, [Signal::INT, Signal::QUIT]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until no other process runs, or is starting, the cluster of this data folder.
fn lock(data: &Path, stopping: &CancellationToken) -> Result<fs::File, ClusterError> {
    let what = "the lock of the cluster cannot be taken; another command or server uses it";
    let file = fs::File::create(data.join("postgres.lock")).map_err(failed(what))?;
    let asked = Instant::now();
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if asked.elapsed() > LOCK_TIMEOUT => {
                return Err(failed(what)(error.into()));
            }
            Err(_) if stopping.is_cancelled() => return Err(ClusterError::Stopped),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// The URL of the cluster's database when a server of this data folder is running it now.
pub(super) async fn running_url(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join("postgres/postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // PostgreSQL's `miscadmin.h` numbers the lines of its lock file: 5 is the socket's folder.
    let url = url(Path::new(lines.get(4)?), NAME);
    // A file that a crash left behind answers nothing.
    <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.ok()?;
    Some(url)
}

fn url(socket: &Path, database: &str) -> String {
    let socket = percent_encode(&socket.to_string_lossy());
    format!("postgres://{NAME}@localhost/{database}?host={socket}")
}

/// The place where the cluster lies and who runs it.
struct Place {
    binaries: PathBuf,
    cluster: PathBuf,
    user: Option<User>,
    /// Cancelled when nobody wants the cluster any more.
    stopping: CancellationToken,
}

impl Place {
    /// Makes the cluster. It gets its name last: a half-made one is made anew.
    fn initialise(&self) -> Result<(), ClusterError> {
        if self.cluster.join("PG_VERSION").exists() {
            return Ok(());
        }
        let part = self.cluster.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).map_err(failed("a half-made cluster cannot be removed"))?;
        }
        self.private_folder(&part)?;
        let mut initdb = self.command("initdb");
        initdb.args(["--username", NAME, "--auth", "trust", "--encoding", "UTF8"]);
        initdb.args(["--locale", "C", "--data-checksums", "--pgdata"]).arg(&part);
        // A group of its own, which is asked to end with all that initdb starts.
        initdb.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        process::end_with_parent(&mut initdb, Signal::TERM);
        let mut child = initdb.spawn().map_err(failed("initdb cannot be run"))?;
        while matches!(child.try_wait(), Ok(None)) {
            if self.stopping.is_cancelled() {
                process::end_group(&mut child);
                return Err(ClusterError::Stopped);
            }
            std::thread::sleep(LOOK);
        }
        // What it says of a failure fits in the pipe.
        let output = child.wait_with_output().map_err(failed("initdb cannot be run"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ClusterError::Initdb(text));
        }
        fs::rename(&part, &self.cluster).map_err(failed("the new cluster cannot be named"))
    }

    fn check_version(&self) -> Result<(), ClusterError> {
        let made = fs::read_to_string(self.cluster.join("PG_VERSION"))
            .map_err(failed("the version of the cluster cannot be read"))?;
        let found = binaries::major_version(&self.binaries)?;
        if made.trim() == found {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        Err(ClusterError::Version { cluster, made: made.trim().to_owned(), found })
    }

    /// The folder of the socket: under the data folder, unless that path is too long for one.
    fn socket_folder(&self, data: &Path) -> Result<PathBuf, ClusterError> {
        let beside = data.join("postgres-socket");
        let folder = if beside.as_os_str().len() <= SOCKET_FOLDER_MAX {
            beside
        } else {
            let digest = Sha256::of(data.as_os_str().as_encoded_bytes()).to_string();
            std::env::temp_dir().join(format!("lvmed-{}", &digest[..16]))
        };
        self.private_folder(&folder)?;
        Ok(folder)
    }

    /// Makes a folder that only the cluster's user may enter, or insists that it is one.
    fn private_folder(&self, folder: &Path) -> Result<(), ClusterError> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("a folder of the cluster cannot be made"))?,
        }
        let what = "a folder of the cluster cannot be made private";
        if let Some(user) = &self.user {
            // Not through a link, which somebody else may have put there.
            lchown(folder, Some(user.uid), Some(user.gid)).map_err(failed(what))?;
        }
        let found = fs::symlink_metadata(folder).map_err(failed(what))?;
        let owner = self.user.as_ref().map_or(rustix::process::geteuid().as_raw(), |user| user.uid);
        if !found.is_dir() || found.uid() != owner {
            let source = io::Error::other(format!("{} belongs to somebody else", folder.display()));
            return Err(failed(what)(source));
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(what))
    }

    /// Starts the server and waits until it takes connections. A cluster that a killed server left
    /// behind is still ending then: its lock is waited for.
    fn launch(&self, socket: &Path, log: &Path) -> Result<Child, ClusterError> {
        let started = Instant::now();
        loop {
            let before = fs::metadata(log).map_or(0, |about| about.len());
            let mut child = self.spawn(socket, log)?;
            if self.wait_until_ready(&mut child, started) {
                return Ok(child);
            }
            if self.stopping.is_cancelled() {
                process::end(&mut child, [Signal::INT, Signal::QUIT]);
                return Err(ClusterError::Stopped);
            }
            let ended = matches!(child.try_wait(), Ok(Some(_)));
            // The lock may have gone since the attempt failed on it. The cluster that held it writes into
            // the same log, before and after what the attempt wrote.
            let text = fs::read(log).unwrap_or_default();
            let since = text.get(usize::try_from(before).unwrap_or(0)..).unwrap_or_default();
            let locked = String::from_utf8_lossy(since)
                .contains("lock file \"postmaster.pid\" already exists");
            if !ended || !locked || started.elapsed() > START_TIMEOUT {
                // Whatever still runs must not outlive the attempt.
                let _ = child.kill();
                let _ = child.wait();
                return Err(ClusterError::NotStarted { log: log.to_owned(), tail: tail(log) });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn spawn(&self, socket: &Path, log: &Path) -> Result<Child, ClusterError> {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(log)
            .map_err(failed("the log of the cluster cannot be opened"))?;
        let copy = file.try_clone().map_err(failed("the log of the cluster cannot be opened"))?;
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(&self.cluster).arg("-k").arg(socket);
        for setting in [
            "listen_addresses=",
            "unix_socket_permissions=0700",
            "fsync=on",
            "max_connections=100",
            // Details of an error quote values of rows.
            "log_error_verbosity=terse",
        ] {
            postgres.args(["-c", setting]);
        }
        // A group of its own: an interrupt typed at the terminal is for the server, which then
        // stops the cluster after everything that needs it.
        postgres.process_group(0).stdin(Stdio::null()).stdout(file).stderr(copy);
        process::end_with_parent(&mut postgres, Signal::INT);
        postgres.spawn().map_err(failed("postgres cannot be started"))
    }

    /// Whether the server came up; its own status line in `postmaster.pid` says so.
    fn wait_until_ready(&self, child: &mut Child, started: Instant) -> bool {
        let own = child.id().to_string();
        loop {
            let text = fs::read_to_string(self.cluster.join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            if lines.first() == Some(&own.as_str()) && lines.get(7) == Some(&"ready") {
                return true;
            }
            let is_over = started.elapsed() > START_TIMEOUT || self.stopping.is_cancelled();
            if is_over || !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // Postgres insists on a working folder that it may enter, and on untranslated messages.
        command.current_dir("/").env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

fn failed(what: &str) -> impl Fn(io::Error) -> ClusterError + use<> {
    let what = what.to_owned();
    move |source| ClusterError::Io { what: what.clone(), source }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
