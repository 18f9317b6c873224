//! The command line: parses the command and calls what does it.

mod check;
mod database;
mod datasets;
mod folder;
mod keys;
mod predict;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use self::database::{Uses, open, print, tell};
use crate::config::{Compute, Config, Limits, Storage};
use crate::domain::backbone::ChannelOrder;
use crate::domain::name::Name;
use crate::domain::{Architecture, Preprocessing};
use crate::inference::Runtime;
use crate::nn::weights::{self, ReadOptions};
use crate::service::import::{ImportError, ImportRequest, Importer, transcribe};
use crate::store::database::{Absent, insist_on_folder};
use crate::store::{self, Blobs, Store};
use crate::{decode, http, serve, telemetry, training, worker};

/// Fine-tunes, serves and records medical vision backbones inside a hospital's own network.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the API and the web page, and runs workers beside it.
    Serve(Box<Config>),
    /// Executes queued runs; started by `serve`, or by hand on another machine.
    Worker(Box<Config>),
    /// Imports and makes backbones.
    #[command(subcommand)]
    Backbone(BackboneCommand),
    /// Makes datasets.
    #[command(subcommand)]
    Dataset(datasets::DatasetCommand),
    /// Asks a model for the classes of pictures. A server may run meanwhile.
    Predict(Box<predict::Predict>),
    /// Manages API keys.
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Brings the database's schema up to date.
    Migrate(Migrate),
    /// Reads every stored file and tells which are damaged, missing or not needed; ends with 1 when
    /// one is damaged or missing. A server may run meanwhile.
    Check(check::Check),
    /// Prints the OpenAPI document.
    Openapi,
    /// Reads what strangers send, within bounds; started by the server.
    #[command(hide = true)]
    Decode {
        /// The one file that may be opened by its path.
        #[arg(long)]
        checkpoint: Option<PathBuf>,
    },
    /// Writes an imported backbone's files and prints how they agree; started by the importer.
    #[command(hide = true)]
    Transcribe {
        /// What is transcribed, as JSON.
        asked: String,
    },
    /// Measures what a training step costs and prints it as JSON; started by the server and workers.
    #[command(hide = true)]
    Calibrate {
        /// What is tried, as JSON.
        trial: String,
    },
}

#[derive(Subcommand)]
enum BackboneCommand {
    /// Imports a checkpoint: .safetensors, or .pth, .pt, .torch as PyTorch 1.6 and newer write it.
    Import(Box<Import>),
    /// Writes random weights, for trying things out.
    Random(Random),
}

#[derive(Args)]
struct Import {
    /// The checkpoint.
    file: PathBuf,
    /// Name of the backbone.
    #[arg(long)]
    name: String,
    /// Where the weights come from.
    #[arg(long)]
    source_url: String,
    /// The licence of the weights: its name or its text.
    #[arg(long)]
    license: String,
    /// Architecture; found from the tensors when absent.
    #[arg(long, value_enum)]
    architecture: Option<Architecture>,
    /// Side of the square input in pixels.
    #[arg(long, default_value_t = 224)]
    size: u32,
    /// Order of the input channels.
    #[arg(long, value_enum, default_value_t = ChannelOrder::Rgb)]
    channel_order: ChannelOrder,
    /// Mean of each channel, on intensities in [0, 1].
    #[arg(long, value_delimiter = ',', num_args = 1, default_values_t = [0.485, 0.456, 0.406])]
    mean: Vec<f32>,
    /// Standard deviation of each channel, on intensities in [0, 1].
    #[arg(long, value_delimiter = ',', num_args = 1, default_values_t = [0.229, 0.224, 0.225])]
    std: Vec<f32>,
    /// Sums 3-D kernels over their depth.
    #[arg(long)]
    collapse_depth: bool,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Args)]
struct Random {
    /// Architecture.
    #[arg(long, value_enum)]
    architecture: Architecture,
    /// Seed; equal seeds give equal weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The safetensors file to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct Migrate {
    /// Makes the data folder and its built-in database where they are not there yet.
    #[arg(long)]
    init: bool,
    #[command(flatten)]
    storage: Storage,
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let line = Line::parse();
    if let Command::Decode { checkpoint } = line.command {
        // It writes no log: what it could say would be of the file.
        return match decode::child::main(checkpoint) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    telemetry::start_logging();
    match run(line.command) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // The future is polled on this thread, the process's first: children may be started from it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = match command {
        Command::Serve(config) => runtime.block_on(serve::run(*config, arguments_after_command())),
        Command::Worker(config) => runtime.block_on(worker::run(*config)),
        Command::Backbone(BackboneCommand::Import(import)) => {
            runtime.block_on(import_file(*import))
        }
        Command::Backbone(BackboneCommand::Random(random)) => write_random(&random),
        Command::Dataset(command) => runtime.block_on(datasets::run(command)),
        Command::Predict(wanted) => runtime.block_on(predict::run(*wanted)),
        Command::Key(command) => runtime.block_on(keys::run(command)),
        Command::Migrate(migrate) => runtime.block_on(bring_up_to_date(&migrate)),
        Command::Check(check) => return runtime.block_on(check::run(check)),
        Command::Openapi => print(&http::document_json()?),
        Command::Calibrate { trial } => calibrate(&trial),
        Command::Transcribe { asked } => transcribed(&asked),
        Command::Decode { .. } => Ok(()),
    };
    // What still computes for nobody must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// The arguments that followed the name of the command.
fn arguments_after_command() -> Vec<OsString> {
    std::env::args_os().skip(2).collect()
}

async fn import_file(import: Import) -> anyhow::Result<()> {
    let moments = |values: &[f32], what: &str| -> anyhow::Result<[f32; 3]> {
        values.try_into().with_context(|| format!("--{what} needs three numbers"))
    };
    let request = ImportRequest {
        name: Name::parse(&import.name)?,
        source_url: import.source_url,
        license: import.license,
        preprocessing: Preprocessing {
            size: import.size,
            channel_order: import.channel_order,
            mean: moments(&import.mean, "mean")?,
            std: moments(&import.std, "std")?,
        },
        options: ReadOptions {
            architecture: import.architecture,
            collapse_depth: import.collapse_depth,
        },
    };
    // Told before anything is started.
    Runtime::load(&import.compute)?;
    insist_on_folder(&import.storage)?;
    let database = open(&import.storage, Absent::Refuse, Uses::Files).await?;
    let pool = store::connect(database.url(), import.storage.database_connections).await?;
    let scratch = tempfile::tempdir()?;
    let store = Store { pool: pool.clone(), blobs: Blobs::local(&import.storage.blobs())? };
    let folder = scratch.path().to_owned();
    let decoder = decode::Pool::start(std::env::current_exe()?, &import.limits, folder.clone())?;
    let importer = Importer::new(store, import.compute, folder, decoder);
    let imported = importer.import(&import.file, request).await;
    pool.close().await;
    database.stop();
    let (backbone, _) = imported.map_err(|error| listed(&error))?;
    print(&serde_json::to_string_pretty(&backbone)?)
}

/// On the command line nothing is folded: each difference to the architecture is a line.
fn listed(error: &ImportError) -> anyhow::Error {
    let differences = match error {
        ImportError::Weights(weights) => weights.differences().join("\n"),
        ImportError::Preprocessing(_)
        | ImportError::Breach(_)
        | ImportError::Text { .. }
        | ImportError::Parity(_)
        | ImportError::Onnx(_)
        | ImportError::Store(_)
        | ImportError::Failed(_) => String::new(),
    };
    anyhow::anyhow!("{}", format!("{error}\n{differences}").trim_end())
}

fn write_random(random: &Random) -> anyhow::Result<()> {
    let tensors = weights::random(random.architecture, random.seed)?;
    weights::write(&tensors, &std::collections::BTreeMap::new(), &random.out)?;
    Ok(())
}

fn transcribed(asked: &str) -> anyhow::Result<()> {
    let asked = serde_json::from_str(asked).context("what is asked cannot be read")?;
    print(&serde_json::to_string(&transcribe(&asked)?)?)
}

fn calibrate(trial: &str) -> anyhow::Result<()> {
    worker::follow_supervisor()?;
    let trial = serde_json::from_str(trial).context("the trial cannot be read")?;
    print(&serde_json::to_string(&training::calibrate(&trial)?)?)
}

async fn bring_up_to_date(migrate: &Migrate) -> anyhow::Result<()> {
    let absent = if migrate.init { Absent::Make } else { Absent::Refuse };
    let database = open(&migrate.storage, absent, Uses::Rows).await?;
    let migrated = store::connect(database.url(), 2).await;
    if let Ok(pool) = &migrated {
        pool.close().await;
    }
    database.stop();
    migrated?;
    Ok(())
}
