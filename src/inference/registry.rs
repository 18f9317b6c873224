//! Loaded networks: one thread owns each session, a bounded queue leads to it, the least used goes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use tokio::sync::oneshot;

use super::{InferenceError, Network, Output, Runtime};
use crate::config::{Compute, Limits};
use crate::domain::Sha256;

type Reply = oneshot::Sender<Result<Vec<Output>, InferenceError>>;

/// Prepared pictures and where their answer goes.
struct Job {
    inputs: Vec<Vec<f32>>,
    reply: Reply,
}

/// Loaded networks by the digest of their ONNX file.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    threads: usize,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests that hold a ticket, by network.
    waiting: HashMap<Sha256, Arc<AtomicUsize>>,
    loaded: HashMap<Sha256, Loaded>,
    /// Counts uses, to tell which network was used longest ago.
    uses: u64,
}

/// The way to the thread that owns a session. Dropping it ends the thread after its last job.
struct Loaded {
    jobs: mpsc::Sender<Job>,
    last_use: u64,
}

/// A place in a network's queue; dropped, the place is free again.
#[derive(Debug)]
pub struct Ticket {
    network: Sha256,
    waiting: Arc<AtomicUsize>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Registry {
    /// A registry with nothing loaded.
    pub fn new(runtime: Runtime, compute: &Compute, limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            runtime,
            threads: compute.threads(),
            limits: limits.clone(),
            state: Mutex::default(),
        }))
    }

    /// The word for the device that networks run on.
    pub fn device(&self) -> &'static str {
        self.0.runtime.device()
    }

    /// Takes a place in the queue of a network, named by the digest of its ONNX file.
    pub fn queue(&self, network: Sha256) -> Result<Ticket, InferenceError> {
        let max = self.0.limits.predict_queue;
        let waiting = Arc::clone(self.state().waiting.entry(network).or_default());
        // Counting first and giving back after is what makes two callers at the limit safe.
        let before = waiting.fetch_add(1, Ordering::AcqRel);
        let ticket = Ticket { network, waiting };
        if before >= max {
            return Err(InferenceError::Busy { waiting: before, max });
        }
        Ok(ticket)
    }

    /// Runs prepared pictures, each `[3, size, size]`, through the network at `path`, which is
    /// loaded when it is not; one output for each.
    pub async fn run(
        &self,
        ticket: &Ticket,
        path: &Path,
        inputs: Vec<Vec<f32>>,
    ) -> Result<Vec<Output>, InferenceError> {
        let (reply, answer) = oneshot::channel();
        self.send(ticket.network, path, Job { inputs, reply })?;
        let seconds = self.0.limits.predict_seconds;
        match tokio::time::timeout(self.0.limits.predict_timeout(), answer).await {
            Err(_) => Err(InferenceError::Timeout { seconds }),
            Ok(Err(_)) => Err(InferenceError::Failed("its thread ended".to_owned())),
            Ok(Ok(answer)) => answer,
        }
    }

    fn send(&self, network: Sha256, path: &Path, job: Job) -> Result<(), InferenceError> {
        let mut state = self.state();
        state.uses += 1;
        let now = state.uses;
        let job = match state.loaded.get_mut(&network) {
            None => job,
            Some(loaded) => {
                loaded.last_use = now;
                match loaded.jobs.send(job) {
                    Ok(()) => return Ok(()),
                    // Its thread ended because it could not load; try once more.
                    Err(mpsc::SendError(job)) => job,
                }
            }
        };
        let jobs = self.load(path)?;
        let sent = jobs.send(job);
        state.loaded.insert(network, Loaded { jobs, last_use: now });
        while state.loaded.len() > self.0.limits.loaded_networks.max(1) {
            let oldest = state.loaded.iter().min_by_key(|(_, loaded)| loaded.last_use);
            let Some(oldest) = oldest.map(|(network, _)| *network) else { break };
            state.loaded.remove(&oldest);
        }
        sent.map_err(|_| InferenceError::Failed("its thread ended".to_owned()))
    }

    /// Starts the thread that opens a network and owns it.
    fn load(&self, path: &Path) -> Result<mpsc::Sender<Job>, InferenceError> {
        let (sender, jobs) = mpsc::channel();
        let (runtime, threads) = (self.0.runtime.clone(), self.0.threads);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(move || match runtime.open(&path, threads) {
                Ok(network) => serve(network, &jobs),
                Err(error) => refuse(&error, &jobs),
            })
            .map_err(|error| InferenceError::Failed(error.to_string()))?;
        Ok(sender)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut network: Network, jobs: &mpsc::Receiver<Job>) {
    for job in jobs {
        // Whoever asked may have gone while the job waited.
        if job.reply.is_closed() {
            continue;
        }
        let mut outputs = Vec::with_capacity(job.inputs.len());
        let mut failure = None;
        for input in &job.inputs {
            // Or may go, or be timed out, while many pictures are worked through.
            if job.reply.is_closed() {
                break;
            }
            match network.run(input, 1) {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // Nobody waiting any more is fine.
        let _ = job.reply.send(failure.map_or(Ok(outputs), Err));
    }
}

/// Answers what is queued with the reason why the network does not load; later jobs find the
/// thread gone and try to load it again.
fn refuse(error: &InferenceError, jobs: &mpsc::Receiver<Job>) {
    tracing::error!(%error, "a network does not load");
    if let Ok(job) = jobs.recv() {
        let _ = job.reply.send(Err(error.clone()));
    }
    for job in jobs.try_iter() {
        let _ = job.reply.send(Err(error.clone()));
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("device", &self.device()).finish_non_exhaustive()
    }
}
