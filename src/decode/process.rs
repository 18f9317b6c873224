//! One child as the server sees it: started, asked, listened to within its bounds, and ended.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::breach::{Bounds, Breach};
use super::confine::Confined;
use super::message::{Ask, Tell};
use super::wire::{self, Message};
use crate::config::Limits;

/// Time for a child to start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Time for a child whose socket is closed to be gone.
const END: Duration = Duration::from_millis(500);
/// Of what a child wrote to its standard error, this much is looked at.
const SAID_BYTES: u64 = 4096;
/// Free memory that a child keeps for its next picture, in bytes: the most that glibc takes for a
/// threshold of blocks of their own.
const KEPT_BYTES: &str = "33554432";

/// The program and limits that every child is started with.
#[derive(Debug, Clone)]
pub(super) struct Starting {
    /// This program.
    pub(super) program: PathBuf,
    pub(super) limits: Limits,
}

/// A child process that waits for what it is asked.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    socket: UnixStream,
    bounds: Bounds,
    confined: Option<Confined>,
    /// The number of times that it was asked so far.
    pub(super) asked: u32,
}

impl Process {
    /// Starts a child that reads pictures and uploads.
    pub(super) fn start(starting: &Starting) -> io::Result<Self> {
        let limits = &starting.limits;
        let bounds = Bounds {
            memory_bytes: limits.decode_memory_bytes,
            memory_setting: "LVMED_LIMIT_DECODE_MEMORY_BYTES",
            seconds: limits.decode_seconds,
        };
        Self::launch(starting, bounds, None)
    }

    /// Starts a child that reads one checkpoint, and may open nothing else.
    pub(super) fn for_checkpoint(
        starting: &Starting,
        bounds: Bounds,
        checkpoint: &Path,
    ) -> io::Result<Self> {
        Self::launch(starting, bounds, Some(checkpoint))
    }

    fn launch(starting: &Starting, bounds: Bounds, readable: Option<&Path>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&starting.program);
        command.arg("decode");
        if let Some(path) = readable {
            command.arg("--checkpoint").arg(path.canonicalize()?);
        }
        let child = command
            // No secret of the server is in its environment, and no folder of anybody beneath it.
            .env_clear()
            // A second arena would take address space of its own.
            .env("MALLOC_ARENA_MAX", "1")
            // Memory given back after each picture would be taken page by page for the next one.
            .env("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES)
            .env("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut process = Self { child, socket: ours, bounds, confined: None, asked: 0 };
        let limits = Box::new(starting.limits.clone());
        let settings = Ask::Settings { limits, memory_bytes: bounds.memory_bytes };
        wire::send(&mut process.socket, &settings, &[])?;
        Ok(process)
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready; what confines it.
    pub(super) fn ready(&mut self) -> io::Result<Confined> {
        if let Some(confined) = self.confined {
            return Ok(confined);
        }
        self.socket.set_read_timeout(Some(START))?;
        match wire::receive::<Tell>(&mut self.socket)?.said {
            Tell::Ready(confined) => {
                self.confined = Some(confined);
                Ok(confined)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Asks for work on a file.
    pub(super) fn ask(&mut self, ask: &Ask, file: &std::fs::File) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.ready()?;
        self.asked += 1;
        self.renew();
        wire::send_descriptor(&self.socket, file)?;
        wire::send(&mut self.socket, ask, &[])
    }

    /// Gives it the processor time of one file from now on.
    pub(super) fn renew(&self) {
        let renewed = i32::try_from(self.child.id()).map_err(io::Error::other).and_then(|id| {
            let current = Some(seconds_used(id)? + self.bounds.seconds + 1);
            // The soft limit alone: its signal tells that it was time, and a hard one cannot be
            // raised.
            let limit = Rlimit { current, maximum: None };
            Ok(prlimit(Pid::from_raw(id), Resource::Cpu, limit)?)
        });
        // One that has ended needs none, and whoever listens to it will hear of that.
        if let Err(error) = renewed {
            tracing::debug!(%error, "a child's processor time cannot be renewed");
        }
    }

    /// Waits for what it tells next, for `patience` at most.
    pub(super) fn told(&mut self, patience: Duration) -> Result<Message<Tell>, Breach> {
        let deadline = Instant::now() + patience;
        let heard = wire::receive(&mut Timed { socket: &self.socket, deadline });
        heard.map_err(|error| self.breach(&error))
    }

    /// Reads the bytes beside a message into `sink`, with `patience` for all of them.
    pub(super) fn bytes(
        &mut self,
        length: u64,
        sink: &mut impl io::Write,
        patience: Duration,
    ) -> Result<(), Breach> {
        let deadline = Instant::now() + patience;
        let timed = Timed { socket: &self.socket, deadline };
        match io::copy(&mut timed.take(length), sink) {
            Ok(copied) if copied == length => Ok(()),
            Ok(_) => Err(self.breach(&io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.breach(&error)),
        }
    }

    /// The breach that it committed, once it is silent or gone. It is of no use after that.
    fn breach(&mut self, error: &io::Error) -> Breach {
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let breach = if is_late {
            Breach::Time { seconds: self.bounds.seconds }
        } else {
            let status = self.end();
            Breach::of(status, &self.said(), &self.bounds)
        };
        breach.count();
        breach
    }

    /// The way in which it ended; it is killed when it does not end by itself.
    fn end(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        self.child.wait().ok().filter(|status| status.signal().is_none())
    }

    /// The text that it wrote to its standard error before it ended.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(stream) = self.child.stderr.take() {
            // The bytes are looked at and never shown.
            let _ = stream.take(SAID_BYTES).read_to_end(&mut said);
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // That it has ended already is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that is read until a deadline.
struct Timed<'a> {
    socket: &'a UnixStream,
    deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        (&mut &*self.socket).read(buffer)
    }
}

/// Whole seconds of processor time that a process has used (proc(5), fields 14 and 15).
fn seconds_used(process: i32) -> io::Result<u64> {
    /// Clock ticks a second, the same on every Linux that matters here.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut times = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let used = times.next().zip(times.next()).map(|(user, system)| user + system);
    used.map(|ticks| ticks / TICKS).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
