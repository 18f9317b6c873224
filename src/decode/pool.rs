//! The pool of children: some wait, started early; what is asked of one goes through here.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::breach::{Bounds, Breach, DecodeError};
use super::confine::Confined;
use super::message::{Ask, Frame, Stored, Tell, UploadAsk};
use super::process::{Process, Starting};
use crate::config::Limits;
use crate::domain::image::Window;
use crate::domain::{Architecture, Preprocessing};
use crate::imaging::{Found, RejectedEntry};
use crate::nn::weights::{ReadOptions, WeightsError};

/// A child is replaced after this many files: what a reader leaks stays bounded.
const ASKED_MAX: u32 = 1000;
/// Time of an upload for each of its files, beside that for its bytes.
const FILE_ALLOWANCE: Duration = Duration::from_millis(250);
/// Time of a request for each mebibyte of it.
const MEBIBYTE_ALLOWANCE: Duration = Duration::from_secs(1);
/// Address space that reading a checkpoint may take, over its size.
const CHECKPOINT_RATIO: u64 = 8;
/// Larger files are kept out of memory until they are stored.
const IN_MEMORY_BYTES: u64 = 16 << 20;
/// Bytes of a PNG that a preview may have.
const PREVIEW_BYTES: u64 = 256 << 20;

/// Takes what is found in an upload, and the bytes of a kept file; breaking stops the reading.
pub type Listener<'a> = dyn FnMut(Found, Stored) -> ControlFlow<()> + 'a;

/// Children that read what strangers send.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    starting: Starting,
    /// Folder of large files on their way.
    scratch: PathBuf,
    /// Children that wait.
    size: usize,
    idle: Mutex<Vec<Process>>,
}

impl Pool {
    /// Starts the children of `program`, which is this one: as many as there are cores, or as the
    /// limits say. Large files on their way lie in `scratch`.
    pub fn start(program: PathBuf, limits: &Limits, scratch: PathBuf) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let size = match limits.decode_processes {
            0 => cores,
            processes => processes,
        };
        let starting = Starting { program, limits: limits.clone() };
        let idle = (0..size).map(|_| Process::start(&starting)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self(Arc::new(Shared { starting, scratch, size, idle: Mutex::new(idle) })))
    }

    /// The program that the children run.
    pub fn program(&self) -> &Path {
        &self.0.starting.program
    }

    /// Waits for the first child; what confines it.
    pub fn confined(&self) -> io::Result<Confined> {
        let mut process = self.take()?;
        let confined = process.ready()?;
        self.give_back(process);
        Ok(confined)
    }

    /// Ends the children that wait.
    pub fn end(&self) {
        self.idle().clear();
    }

    /// The process ids of the children that wait.
    pub fn waiting(&self) -> Vec<u32> {
        self.idle().iter().map(Process::id).collect()
    }

    /// The time that one request may take of a child.
    pub fn budget(&self) -> Budget {
        Budget { left: self.seconds(), of_one: self.seconds() }
    }

    /// Hands each picture of a file, as a network's input, to `then`.
    pub fn inputs(
        &self,
        file: &File,
        preprocessing: &Preprocessing,
        budget: &mut Budget,
        then: &mut dyn FnMut(Frame) -> ControlFlow<()>,
    ) -> Result<(), DecodeError> {
        let length = 12 * u64::from(preprocessing.size) * u64::from(preprocessing.size);
        budget.allow(file.metadata()?.len());
        budget.left += FILE_ALLOWANCE;
        let mut process = self.ask(&Ask::Inputs { preprocessing: preprocessing.clone() }, file)?;
        let mut next = 0;
        // The frames of one file together may take as long as one file.
        let mut of_file = budget.of_one.min(budget.left);
        loop {
            let started = Instant::now();
            let message = process.told(of_file);
            let message = message.inspect_err(|_| budget.spend(started.elapsed()))?;
            match message.said {
                Tell::Input { frame } if frame == next && message.bytes == length => {
                    let mut bytes = Vec::with_capacity(length as usize);
                    process.bytes(length, &mut bytes, of_file)?;
                    let spent = started.elapsed();
                    budget.spend(spent);
                    of_file = of_file.saturating_sub(spent);
                    next += 1;
                    let value =
                        |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                    let input = bytes.chunks_exact(4).map(value).collect();
                    if then(Frame { frame, input }).is_break() {
                        // What it still has to say is for nobody.
                        return Err(DecodeError::Stopped);
                    }
                }
                Tell::Done if next > 0 => {
                    self.give_back(process);
                    return Ok(());
                }
                Tell::Refused(reason) => {
                    self.give_back(process);
                    return Err(DecodeError::Refused(reason));
                }
                _ => return Err(nonsense()),
            }
        }
    }

    /// One picture of a file as a PNG.
    pub fn preview(
        &self,
        file: &File,
        frame: u32,
        window: Option<Window>,
        max_side: u32,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut process = self.ask(&Ask::Preview { frame, window, max_side }, file)?;
        let message = process.told(self.seconds())?;
        match message.said {
            Tell::Preview if message.bytes <= PREVIEW_BYTES => {
                let mut png = Vec::new();
                process.bytes(message.bytes, &mut png, self.seconds())?;
                self.give_back(process);
                Ok(png)
            }
            Tell::Refused(reason) => {
                self.give_back(process);
                Err(DecodeError::Refused(reason))
            }
            _ => Err(nonsense()),
        }
    }

    /// Reads an upload; everything that is found goes to `listener`, which is kept waiting by
    /// nothing but the work itself. A file that breaks its child is told as rejected, and the rest
    /// is read by the next child, as long as the upload's time and patience with it last.
    pub fn upload(
        &self,
        file: &File,
        ask: UploadAsk,
        listener: &mut Listener<'_>,
    ) -> Result<(), DecodeError> {
        let mut budget = self.budget();
        budget.allow(file.metadata()?.len());
        let mut reading = Reading { pool: self, ask, budget, breaches: 0, begun: None };
        loop {
            let breach = match reading.read(file, listener) {
                Err(DecodeError::Breach(breach)) => breach,
                ended => return ended,
            };
            reading.breaches += 1;
            // Before the first file it is the archive itself that broke the child.
            let Some(Begun { entry, path, settled }) = reading.begun.take() else {
                return Err(breach.into());
            };
            let max = self.0.starting.limits.upload_breaches;
            let reason = breach.to_string();
            let rejected = Found::Rejected(RejectedEntry { entry, path, reason });
            // A file that was told of already is not told of twice: its child broke behind it.
            if !settled && listener(rejected, Stored::Nothing).is_break() {
                return Err(DecodeError::Stopped);
            }
            let reason = if reading.breaches > max {
                format!(
                    "was not read: more than {max} files of this upload broke the process that \
                     reads them (LVMED_LIMIT_UPLOAD_BREACHES)"
                )
            } else if reading.budget.is_spent() {
                "was not read: the files of this upload take too long to decode for their size \
                 (LVMED_LIMIT_DECODE_SECONDS)"
                    .to_owned()
            } else {
                reading.ask.first_entry = entry + 1;
                continue;
            };
            let path = "the rest of the upload".to_owned();
            // Whether anybody still listens makes no difference at the end.
            let rest = RejectedEntry { entry: entry + 1, path, reason };
            let _ = listener(Found::Rejected(rest), Stored::Nothing);
            return Ok(());
        }
    }

    /// Reads a checkpoint and writes exactly its architecture's tensors, as 32-bit safetensors, to
    /// `out`; its architecture and what was left out or changed.
    pub fn checkpoint(
        &self,
        checkpoint: &Path,
        options: ReadOptions,
        out: &File,
    ) -> Result<Result<(Architecture, Vec<String>), WeightsError>, DecodeError> {
        let limits = &self.0.starting.limits;
        let size = checkpoint.metadata()?.len();
        let by_size = limits.decode_memory_bytes + CHECKPOINT_RATIO * size;
        let (memory_bytes, memory_setting) = if by_size < limits.import_memory_bytes {
            (by_size, "LVMED_LIMIT_DECODE_MEMORY_BYTES")
        } else {
            (limits.import_memory_bytes, "LVMED_LIMIT_IMPORT_MEMORY_BYTES")
        };
        let mut budget = self.budget();
        budget.allow(size);
        let seconds = budget.left.as_secs();
        let bounds = Bounds { memory_bytes, memory_setting, seconds };
        let mut process = Process::for_checkpoint(&self.0.starting, bounds, checkpoint)?;
        process.ask(&Ask::Checkpoint(options), out)?;
        match process.told(budget.left)?.said {
            Tell::Weights { architecture, notices } => Ok(Ok((architecture, notices))),
            Tell::BadWeights(error) => Ok(Err(error)),
            _ => Err(nonsense()),
        }
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs(self.0.starting.limits.decode_seconds)
    }

    /// Asks a child for work on a file. One that ended while it waited is passed over.
    fn ask(&self, ask: &Ask, file: &File) -> io::Result<Process> {
        for _ in 0..self.0.size {
            let mut process = self.take()?;
            if process.ask(ask, file).is_ok() {
                return Ok(process);
            }
        }
        let mut process = Process::start(&self.0.starting)?;
        process.ask(ask, file)?;
        Ok(process)
    }

    /// A child that waits, or a new one.
    fn take(&self) -> io::Result<Process> {
        let idle = self.idle().pop();
        match idle {
            Some(process) => Ok(process),
            None => Process::start(&self.0.starting),
        }
    }

    /// Lets a child wait again that has answered to the end, and fills what others left.
    fn give_back(&self, process: Process) {
        let process = if process.asked < ASKED_MAX {
            Ok(process)
        } else {
            drop(process);
            Process::start(&self.0.starting)
        };
        let mut idle = self.idle();
        if idle.len() < self.0.size {
            // One that cannot be started now is started when it is needed.
            idle.extend(process.ok());
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that one request may take of children, whatever it holds.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    left: Duration,
    /// The time that a single file may take.
    of_one: Duration,
}

impl Budget {
    /// Adds what so many bytes may take.
    fn allow(&mut self, bytes: u64) {
        self.left += MEBIBYTE_ALLOWANCE.mul_f64(bytes as f64 / f64::from(1 << 20));
    }

    fn spend(&mut self, spent: Duration) {
        self.left = self.left.saturating_sub(spent);
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.left.is_zero()
    }
}

/// An upload that is being read.
struct Reading<'a> {
    pool: &'a Pool,
    ask: UploadAsk,
    budget: Budget,
    breaches: u32,
    /// The file that the child works on.
    begun: Option<Begun>,
}

/// A file that a child has begun.
struct Begun {
    entry: u64,
    path: String,
    /// Whether it was kept or rejected since.
    settled: bool,
}

impl Reading<'_> {
    /// Reads on with one child until the end or a breach.
    fn read(&mut self, file: &File, listener: &mut Listener<'_>) -> Result<(), DecodeError> {
        let is_first = self.breaches == 0;
        let mut process = self.pool.ask(&Ask::Upload(self.ask.clone()), file)?;
        let mut of_file = self.budget.of_one;
        loop {
            let started = Instant::now();
            let message = process.told(of_file.min(self.budget.left));
            // What a file took before it broke its child counts like any other time.
            let message = message.inspect_err(|_| self.budget.spend(started.elapsed()))?;
            let found = match message.said {
                Tell::Found(found) => found,
                Tell::Done => {
                    self.pool.give_back(process);
                    return Ok(());
                }
                Tell::Refused(reason) => {
                    self.pool.give_back(process);
                    return Err(DecodeError::Refused(reason));
                }
                _ => return Err(nonsense()),
            };
            let mut stored = Stored::Nothing;
            let settles = matches!(found, Found::Kept(_) | Found::Rejected(_));
            match &found {
                Found::Kept(_) => {
                    if message.bytes > self.pool.0.starting.limits.entry_bytes + (1 << 20) {
                        return Err(nonsense());
                    }
                    stored = self.stored(&mut process, message.bytes)?;
                }
                Found::Begun { entry, path } => {
                    self.begun = Some(Begun { entry: *entry, path: path.clone(), settled: false });
                    process.renew();
                    of_file = self.budget.of_one;
                    self.budget.left += FILE_ALLOWANCE;
                }
                Found::Files(_) if !is_first => continue,
                Found::Files(_)
                | Found::Rejected(_)
                | Found::FurtherRows(_)
                | Found::LeftOut(_) => {}
            }
            if let Some(begun) = self.begun.as_mut().filter(|_| settles) {
                begun.settled = true;
            }
            let spent = started.elapsed();
            self.budget.spend(spent);
            of_file = of_file.saturating_sub(spent);
            if listener(found, stored).is_break() {
                return Err(DecodeError::Stopped);
            }
        }
    }

    fn stored(&self, process: &mut Process, length: u64) -> Result<Stored, DecodeError> {
        let patience = self.budget.of_one;
        if length <= IN_MEMORY_BYTES {
            let mut stored = Vec::with_capacity(length as usize);
            process.bytes(length, &mut stored, patience)?;
            return Ok(Stored::Memory(stored));
        }
        let mut stored = NamedTempFile::new_in(&self.pool.0.scratch)?;
        process.bytes(length, &mut stored, patience)?;
        Ok(Stored::Spooled(stored))
    }
}

/// A child that tells what it was not asked has been taken over by the file.
fn nonsense() -> DecodeError {
    Breach::Crash.count();
    Breach::Crash.into()
}
