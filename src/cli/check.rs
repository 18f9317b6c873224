//! `lvmed check`: says which stored files are damaged, missing or not needed.

use std::process::ExitCode;

use clap::Args;

use super::database::{Uses, open, print};
use crate::config::Storage;
use crate::store::check::{Finding, Findings, check};
use crate::store::database::{Absent, insist_on_folder};
use crate::store::{self, Blobs, Store};

/// Files of one kind that are listed for people at most.
const SHOWN: usize = 50;

#[derive(Args)]
pub(super) struct Check {
    /// Prints everything as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
}

pub(super) async fn run(wanted: Check) -> anyhow::Result<ExitCode> {
    insist_on_folder(&wanted.storage)?;
    let database = open(&wanted.storage, Absent::Refuse, Uses::Files).await?;
    let looked = look(&wanted.storage, database.url()).await;
    database.stop();
    let found = looked?;
    if wanted.json {
        print(&serde_json::to_string_pretty(&found)?)?;
    } else {
        print(&told(&found))?;
    }
    Ok(if found.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(storage: &Storage, url: &str) -> anyhow::Result<Findings> {
    let pool = store::connect(url, 2).await?;
    let store = Store { pool, blobs: Blobs::local(&storage.blobs())? };
    let found = check(&store).await;
    store.pool.close().await;
    Ok(found?)
}

fn told(found: &Findings) -> String {
    let megabytes = found.bytes / 1_000_000;
    let mut lines = vec![format!("looked at {} stored file(s), {megabytes} MB", found.files)];
    section(&mut lines, "damaged: the content is not what the name says", &found.damaged);
    section(&mut lines, "missing: something refers to it", &found.missing);
    section(
        &mut lines,
        "unneeded: nothing refers to it; the server removes it, or is about to use it",
        &found.unnamed,
    );
    if found.unfinished > 0 {
        let unfinished = found.unfinished;
        lines.push(format!("{unfinished} write(s) that have not ended; the server removes them"));
    }
    lines.push(if found.is_well() {
        "nothing is damaged or missing".to_owned()
    } else {
        "Upload or import the damaged and missing files again, or restore them from a backup."
            .to_owned()
    });
    lines.join("\n")
}

fn section(lines: &mut Vec<String>, title: &str, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    lines.push(format!("{} {title}:", findings.len()));
    for finding in findings.iter().take(SHOWN) {
        let what = finding.what.as_deref().unwrap_or("nothing known of it");
        lines.push(format!("  {}  {what}", finding.blob));
    }
    if findings.len() > SHOWN {
        lines.push(format!("  and {} more; --json lists all", findings.len() - SHOWN));
    }
}
