//! A worker process beside the server: started, watched, replaced when it dies, and ended.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use sqlx::PgPool;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::domain::WorkerId;
use crate::store::queue;
use crate::worker;

/// Pause before a worker that died is replaced; doubled for each death in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that lived this long did not die in a row.
const STEADY: Duration = Duration::from_mins(1);

/// A worker process that is replaced when it dies.
pub(super) struct Supervised<'a> {
    /// The arguments that follow the name of its command.
    pub(super) arguments: &'a [OsString],
    pub(super) database_url: &'a str,
    pub(super) pool: &'a PgPool,
    /// Cancelled when it is to end.
    pub(super) shutdown: &'a CancellationToken,
    /// A worker that gave no sign of life for as long as this hangs.
    pub(super) lease: Duration,
    /// The time it is given to end.
    pub(super) patience: Duration,
}

impl Supervised<'_> {
    /// Starts it, and another one whenever it has died, until all is to end.
    pub(super) async fn keep_alive(self) {
        let mut pause = FIRST_PAUSE;
        while !self.shutdown.is_cancelled() {
            let id = WorkerId::new();
            let started = std::time::Instant::now();
            match self.start(id) {
                Ok((mut worker, mut signs)) => {
                    let status = tokio::select! {
                        status = worker.wait() => status,
                        () = silence(&mut signs, self.lease) => {
                            tracing::warn!(worker = %id, "a worker hangs and is killed");
                            let _ = worker.kill().await;
                            worker.wait().await
                        }
                        () = self.shutdown.cancelled() => {
                            self.end(id, &mut worker).await;
                            return;
                        }
                    };
                    self.mourn(id, status.ok()).await;
                }
                Err(error) => tracing::error!(%error, "a worker cannot be started"),
            }
            pause = if started.elapsed() > STEADY { FIRST_PAUSE } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Starts a worker; its signs of life come through the socket.
    fn start(&self, id: WorkerId) -> std::io::Result<(Child, UnixStream)> {
        let (own, other) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        // Asked anew: where another version was installed meanwhile, this fails instead of starting it.
        let worker = Command::new(std::env::current_exe()?)
            .arg("worker")
            .args(self.arguments)
            .env("DATABASE_URL", self.database_url)
            .env(worker::WORKER_ID, id.to_string())
            .env(worker::SUPERVISOR, std::process::id().to_string())
            .stdin(std::os::fd::OwnedFd::from(other))
            // An interrupt typed at the terminal is for the server, which stops its workers.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok((worker, UnixStream::from_std(own)?))
    }

    async fn mourn(&self, id: WorkerId, status: Option<ExitStatus>) {
        let status = status.map_or("unknown status".to_owned(), |status| status.to_string());
        tracing::warn!(worker = %id, status, "a worker died");
        if let Err(error) = queue::orphan(self.pool, id).await {
            tracing::warn!(worker = %id, %error, "its run waits for the lease to end");
        }
    }

    /// Asks a worker to checkpoint and end, and insists when the time is up.
    async fn end(&self, id: WorkerId, worker: &mut Child) {
        let process = worker.id().and_then(|id| i32::try_from(id).ok());
        if let Some(process) = process.and_then(rustix::process::Pid::from_raw) {
            // That it ended in between is no error.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(self.patience, worker.wait()).await.is_err() {
            tracing::warn!("a worker did not end in time and was killed");
            let _ = worker.kill().await;
            self.mourn(id, None).await;
        }
    }
}

/// Returns when no sign of life came for as long as `lease`. A worker that has closed its end is
/// ending, which is noticed elsewhere.
async fn silence(signs: &mut UnixStream, lease: Duration) {
    let mut read = [0; 64];
    loop {
        match tokio::time::timeout(lease, signs.read(&mut read)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}
