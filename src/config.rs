//! The settings of an operator: every field is a flag, an `LVMED_*` variable and a documented
//! default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the server keeps things and how it listens.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on. Anything but loopback needs an API key to exist first.
    #[arg(long, env = "LVMED_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// A second address that answers `/livez`, `/readyz` and `/metrics` only, for probes that must
    /// get through whatever goes on at the first one.
    #[arg(long, env = "LVMED_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,

    /// Where rows, blobs and secrets live.
    #[command(flatten)]
    pub storage: Storage,

    /// Worker processes started beside the server; 0 when workers run elsewhere.
    #[arg(long, env = "LVMED_WORKERS", default_value_t = 1)]
    pub workers: u32,

    /// Seconds for which a worker holds a run without renewing; a silent worker loses its run then.
    #[arg(long, env = "LVMED_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub lease_seconds: u64,

    /// Seconds that running requests and workers are given to finish after SIGTERM.
    #[arg(long, env = "LVMED_SHUTDOWN_SECONDS", default_value_t = 20)]
    pub shutdown_seconds: u64,

    /// Seconds between two sweeps, which remove stored files that nothing refers to any more.
    #[arg(long, env = "LVMED_SWEEP_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    pub sweep_seconds: u64,

    /// Seconds for which a sweep leaves a stored file alone to which nothing refers: it may be on
    /// its way.
    #[arg(long, env = "LVMED_SWEEP_GRACE_SECONDS", default_value_t = 3600)]
    pub sweep_grace_seconds: u64,

    /// Days for which the checkpoint of a failed or cancelled run is kept, to be retried from.
    #[arg(long, env = "LVMED_KEEP_CHECKPOINT_DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub keep_checkpoint_days: u32,

    /// What computes.
    #[command(flatten)]
    pub compute: Compute,

    /// Every external size.
    #[command(flatten)]
    pub limits: Limits,
}

/// Where rows, blobs and secrets live.
#[derive(Debug, Clone, clap::Args)]
pub struct Storage {
    /// Folder of the blob store, the built-in Postgres cluster and the server's secret.
    #[arg(long, env = "LVMED_DATA", default_value = "lvmed-data")]
    pub data: PathBuf,

    /// Postgres to use; without it a built-in cluster is run inside the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder of the Postgres server binaries (`initdb`, `postgres`) for the built-in cluster.
    #[arg(long, env = "LVMED_PG_BIN")]
    pub pg_bin: Option<PathBuf>,

    /// Connections kept to Postgres by a process, beside the one by which it hears of changes.
    #[arg(long, env = "LVMED_DATABASE_CONNECTIONS", default_value_t = 10)]
    pub database_connections: u32,
}

/// What computes.
#[derive(Debug, Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Compute {
    /// ONNX Runtime's shared library.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    pub onnx_runtime: Option<PathBuf>,

    /// Device for inference: `cpu` or `cuda`.
    #[arg(long, env = "LVMED_DEVICE", value_enum, default_value_t = Device::Cpu)]
    pub device: Device,

    /// Compute threads of a worker and of a loaded model; 0 means one for each core.
    #[arg(long, env = "LVMED_THREADS", default_value_t = 0)]
    pub threads: usize,
}

impl Storage {
    /// Folder of the blobs.
    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs")
    }

    /// Folder of files in flight: uploads being read, networks being written.
    pub fn scratch(&self) -> PathBuf {
        self.data.join("scratch")
    }

    /// The part of it that a server and the workers it starts use; emptied when a server starts.
    pub fn server_scratch(&self) -> PathBuf {
        self.scratch().join("server")
    }

    /// The file that names the database which the folder is used with.
    pub fn owner(&self) -> PathBuf {
        self.data.join("database-id")
    }

    /// The file that is locked by whoever measures the cost of a training step.
    pub fn measuring(&self) -> PathBuf {
        self.data.join("measuring.lock")
    }

    /// The file of the server's secret.
    pub fn secret(&self) -> PathBuf {
        self.data.join("secret")
    }
}

impl Compute {
    /// The number of threads to use, cores counted when it is not set.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

/// Where a network runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first CUDA device; an error when there is none.
    Cuda,
}

/// Every external size, with a safe default. An error that enforces one names it.
#[derive(Debug, Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Largest upload, in bytes.
    #[arg(long, env = "LVMED_LIMIT_UPLOAD_BYTES", default_value_t = 20 << 30)]
    pub upload_bytes: u64,

    /// Largest JSON body, in bytes.
    #[arg(long, env = "LVMED_LIMIT_JSON_BYTES", default_value_t = 1 << 20)]
    pub json_bytes: usize,

    /// Largest image sent to a prediction, in bytes.
    #[arg(long, env = "LVMED_LIMIT_PREDICT_BYTES", default_value_t = 256 << 20)]
    pub predict_bytes: usize,

    /// Most entries of a ZIP archive.
    #[arg(long, env = "LVMED_LIMIT_ARCHIVE_ENTRIES", default_value_t = 200_000)]
    pub archive_entries: u64,

    /// Largest entry of a ZIP archive once inflated, in bytes.
    #[arg(long, env = "LVMED_LIMIT_ENTRY_BYTES", default_value_t = 1 << 30)]
    pub entry_bytes: u64,

    /// All entries of a ZIP archive once inflated, in bytes.
    #[arg(long, env = "LVMED_LIMIT_ARCHIVE_BYTES", default_value_t = 40 << 30)]
    pub archive_bytes: u64,

    /// Inflated bytes over packed bytes of one entry, counted past its first 10 MiB.
    #[arg(long, env = "LVMED_LIMIT_ARCHIVE_RATIO", default_value_t = 200)]
    pub archive_ratio: u64,

    /// Pixels of one picture.
    #[arg(long, env = "LVMED_LIMIT_PIXELS", default_value_t = 64 << 20)]
    pub pixels: u64,

    /// Frames of one DICOM object.
    #[arg(long, env = "LVMED_LIMIT_FRAMES", default_value_t = 4096)]
    pub frames: u32,

    /// Decoded bytes of all frames of one file.
    #[arg(long, env = "LVMED_LIMIT_DECODED_BYTES", default_value_t = 2 << 30)]
    pub decoded_bytes: u64,

    /// Nested DICOM sequences.
    #[arg(long, env = "LVMED_LIMIT_DICOM_DEPTH", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub dicom_depth: u32,

    /// DICOM data elements of one file.
    #[arg(long, env = "LVMED_LIMIT_DICOM_ELEMENTS", default_value_t = 100_000)]
    pub dicom_elements: u64,

    /// Rows of `labels.csv`.
    #[arg(long, env = "LVMED_LIMIT_LABEL_ROWS", default_value_t = 1_000_000)]
    pub label_rows: u64,

    /// Files that the answer to an upload lists at most, of those taken and of those rejected each;
    /// others are counted. As many rejected files of an upload are kept on record.
    #[arg(long, env = "LVMED_LIMIT_LISTED_FILES", default_value_t = 10_000)]
    pub listed_files: u64,

    /// Classes of one dataset.
    #[arg(long, env = "LVMED_LIMIT_CLASSES", default_value_t = 1000)]
    pub classes: u64,

    /// Memory that a training run keeps decoded pictures in, in bytes; others go to a file.
    #[arg(long, env = "LVMED_LIMIT_TRAINING_CACHE_BYTES", default_value_t = 1 << 30)]
    pub training_cache_bytes: u64,

    /// Disk that a training run keeps activations of a network's frozen part in, in bytes; those of
    /// further images are computed again each time.
    #[arg(long, env = "LVMED_LIMIT_ACTIVATION_CACHE_BYTES", default_value_t = 16 << 30)]
    pub activation_cache_bytes: u64,

    /// Memory that training may use, in bytes; 0 means nine tenths of what the machine, or the
    /// control group, has free. A batch that would need more is computed in parts; a run that needs
    /// more even with one image at a time is refused.
    #[arg(long, env = "LVMED_LIMIT_TRAINING_MEMORY_BYTES", default_value_t = 0)]
    pub training_memory_bytes: u64,

    /// Disk that a training run keeps decoded pictures in once its memory is full, in bytes, as long
    /// as LVMED_LIMIT_FREE_BYTES stay free; others are decoded anew in every epoch.
    #[arg(long, env = "LVMED_LIMIT_TRAINING_SPILL_BYTES", default_value_t = 8 << 30)]
    pub training_spill_bytes: u64,

    /// Predictions that may wait for one model before callers get 429.
    #[arg(long, env = "LVMED_LIMIT_PREDICT_QUEUE", default_value_t = 32)]
    pub predict_queue: usize,

    /// Networks kept loaded; the one used longest ago makes room.
    #[arg(long, env = "LVMED_LIMIT_LOADED_NETWORKS", default_value_t = 4)]
    pub loaded_networks: usize,

    /// Memory that a process which reads files may use, in bytes; a file that needs more is refused.
    #[arg(long, env = "LVMED_LIMIT_DECODE_MEMORY_BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(128 << 20..))]
    pub decode_memory_bytes: u64,

    /// Seconds that one file may take to decode. A request of several files, or a large one, has a
    /// quarter of a second more for each file and a second for each mebibyte.
    #[arg(long, env = "LVMED_LIMIT_DECODE_SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub decode_seconds: u64,

    /// Processes that wait to read files; 0 means one for each core. More are started when needed.
    #[arg(long, env = "LVMED_LIMIT_DECODE_PROCESSES", default_value_t = 0)]
    pub decode_processes: usize,

    /// Memory that reading a checkpoint may use, in bytes; small ones get less, by their size.
    #[arg(long, env = "LVMED_LIMIT_IMPORT_MEMORY_BYTES", default_value_t = 16 << 30)]
    pub import_memory_bytes: u64,

    /// Files of one upload that may break the process that reads them before the rest is refused.
    #[arg(long, env = "LVMED_LIMIT_UPLOAD_BREACHES", default_value_t = 16)]
    pub upload_breaches: u32,

    /// Seconds that one prediction may take.
    #[arg(long, env = "LVMED_LIMIT_PREDICT_SECONDS", default_value_t = 60)]
    pub predict_seconds: u64,

    /// Seconds between two parts of an upload before it is given up.
    #[arg(long, env = "LVMED_LIMIT_UPLOAD_IDLE_SECONDS", default_value_t = 60)]
    pub upload_idle_seconds: u64,

    /// Uploads that are taken in at the same time before callers get 429.
    #[arg(long, env = "LVMED_LIMIT_UPLOADS", default_value_t = 4)]
    pub uploads: usize,

    /// Runs that may be queued before callers get 429.
    #[arg(long, env = "LVMED_LIMIT_QUEUED_RUNS", default_value_t = 1000)]
    pub queued_runs: u64,

    /// Event streams open at the same time before callers get 429.
    #[arg(long, env = "LVMED_LIMIT_EVENT_STREAMS", default_value_t = 256)]
    pub event_streams: usize,

    /// Bytes that must stay free on the data folder's disk for an upload to be taken, and for
    /// `/readyz` to say that the server is ready.
    #[arg(long, env = "LVMED_LIMIT_FREE_BYTES", default_value_t = 512 << 20)]
    pub free_bytes: u64,

    /// How connections are held to their pace.
    #[command(flatten)]
    pub connections: Connections,
}

/// How many connections are open at the same time, and how long each may keep the server waiting.
#[derive(Debug, Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Connections {
    /// Connections open at the same time. When all are taken, a new one makes the one close that has
    /// waited longest for its client; where none waits, the new one is told to come back.
    #[arg(long = "connections", env = "LVMED_LIMIT_CONNECTIONS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub all: u32,

    /// Connections open at the same time from one address (of IPv6, one network of 64 bits), by the
    /// same rule. Behind a proxy, all come from its address.
    #[arg(long = "connections-per-address", env = "LVMED_LIMIT_CONNECTIONS_PER_ADDRESS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub per_address: u32,

    /// Further connections, on which only `/livez`, `/readyz` and `/metrics` are answered while all
    /// others are taken.
    #[arg(long = "reserved-connections", env = "LVMED_LIMIT_RESERVED_CONNECTIONS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub reserved: u32,

    /// Seconds in which the head of a request must have come.
    #[arg(long, env = "LVMED_LIMIT_HEAD_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub head_seconds: u64,

    /// Bytes of the head of a request.
    #[arg(long, env = "LVMED_LIMIT_HEAD_BYTES", default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub head_bytes: u32,

    /// Seconds for which a connection is kept open between two requests.
    #[arg(long, env = "LVMED_LIMIT_IDLE_SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub idle_seconds: u64,

    /// Seconds of waiting for the body of a request after which its sender must keep the pace.
    #[arg(long, env = "LVMED_LIMIT_BODY_GRACE_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub body_grace_seconds: u64,

    /// That pace: bytes for each second that the server waited for the body, on average.
    #[arg(long, env = "LVMED_LIMIT_BODY_BYTES_PER_SECOND", default_value_t = 16 << 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub body_bytes_per_second: u64,

    /// Seconds that the server waits for the body of one request in all, at whatever pace it comes.
    #[arg(long, env = "LVMED_LIMIT_BODY_SECONDS", default_value_t = 7200, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub body_seconds: u64,

    /// Seconds for which a client may take nothing of its answer.
    #[arg(long, env = "LVMED_LIMIT_SEND_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub send_seconds: u64,
}

impl Limits {
    /// Time that one prediction may take.
    pub fn predict_timeout(&self) -> Duration {
        Duration::from_secs(self.predict_seconds)
    }
}

impl Default for Limits {
    /// The defaults of the command line, whatever the environment says.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            limits: Limits,
        }
        let command =
            <Line as clap::CommandFactory>::command().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.get_matches_from(["limits"]);
        <Limits as clap::FromArgMatches>::from_arg_matches(&matches)
            .expect("every limit has a default that parses")
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn every_limit_has_a_default_whatever_the_environment_says() {
        let limits = Limits::default();

        assert_eq!(limits.upload_bytes, 20 << 30);
        assert_eq!(limits.predict_queue, 32);
    }
}
