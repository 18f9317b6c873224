//! The ONNX Runtime library: found, loaded once a process, and asked for sessions.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::{InferenceError, Network};
use crate::config::{Compute, Device};

/// The path where the set-up step puts the library, seen from the project's folder.
const PLACED: &str = ".runtime/onnxruntime/libonnxruntime.so";
/// The paths where an administrator may have put it.
const INSTALLED: [&str; 3] = [
    "/usr/local/lib/libonnxruntime.so",
    "/usr/lib/libonnxruntime.so",
    "/usr/lib64/libonnxruntime.so",
];

/// The one environment of the process; ONNX Runtime refuses a second.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// ONNX Runtime, loaded.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    device: Device,
}

impl Runtime {
    /// Loads the library: the configured one, else the one that the set-up step placed beside the
    /// working folder or the program, else an installed one.
    pub fn load(compute: &Compute) -> Result<Self, InferenceError> {
        let mut loaded = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some(environment) => environment.clone(),
            None => {
                let path = find(compute)?;
                let environment = initialise(&path).map_err(|error| {
                    let reason = error.to_string();
                    InferenceError::BrokenRuntime { path: path.clone(), reason }
                })?;
                loaded.insert(environment).clone()
            }
        };
        Ok(Self { environment, device: compute.device })
    }

    /// Opens a network on `threads` threads of its own.
    pub fn open(&self, path: &Path, threads: usize) -> Result<Network, InferenceError> {
        let bad = |error: &dyn std::fmt::Display| InferenceError::BadNetwork(error.to_string());
        let mut builder = Session::builder(&self.environment).map_err(|error| bad(&error))?;
        if self.device == Device::Cuda {
            builder = builder
                .with_execution_providers([cuda().build().error_on_failure()])
                .map_err(|error| InferenceError::NoCuda(error.to_string()))?;
        }
        builder = builder
            .with_optimization_level(GraphOptimizationLevel::Level3)
            .map_err(|error| bad(&error))?;
        builder = builder.with_intra_threads(threads).map_err(|error| bad(&error))?;
        // Spinning threads would take the cores from training and decoding.
        builder = builder.with_intra_op_spinning(false).map_err(|error| bad(&error))?;
        let session = builder.commit_from_file(path).map_err(|error| bad(&error))?;
        Network::new(session)
    }

    /// The word for the device that networks run on.
    pub fn device(&self) -> &'static str {
        match self.device {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }
}

/// Networks on a GPU compute in whole 32-bit floats. By ONNX Runtime's own default their products are
/// of 10-bit mantissas (TF32): a network then lies at the bound of the parity check by that alone, and
/// serves other numbers than those it was judged by.
fn cuda() -> ort::ep::CUDA {
    ort::ep::CUDA::default().with_tf32(false)
}

fn initialise(path: &Path) -> Result<Environment, Box<dyn std::error::Error>> {
    Ok(ort::init_from(path)?.with_name("lvmed").with_telemetry(false).build()?)
}

fn find(compute: &Compute) -> Result<PathBuf, InferenceError> {
    if let Some(path) = &compute.onnx_runtime {
        let missing = || InferenceError::NoRuntime { looked_at: vec![path.clone()] };
        return path.exists().then(|| path.clone()).ok_or_else(missing);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let working = std::env::current_dir().unwrap_or_default();
    let beside_program = program.parent().map(|folder| folder.join("libonnxruntime.so"));
    let placed = working.ancestors().chain(program.ancestors()).map(|folder| folder.join(PLACED));
    let candidates = beside_program.into_iter().chain(placed);
    let candidates: Vec<PathBuf> = candidates.chain(INSTALLED.map(PathBuf::from)).collect();
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => Err(InferenceError::NoRuntime { looked_at: candidates }),
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("device", &self.device).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_gpu_computes_in_whole_floats() {
        let told = format!("{:?}", super::cuda());

        assert!(told.contains(r#""use_tf32": "false""#), "{told}");
    }
}
