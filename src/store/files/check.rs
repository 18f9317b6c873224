//! Looking through everything that is stored: what is damaged, what rows name in vain, and what no
//! row names.

use std::collections::HashSet;

use futures_util::StreamExt;
use serde::Serialize;

use super::blobs::State;
use super::named;
use crate::domain::Sha256;
use crate::store::Store;
use crate::store::error::StoreError;

/// A stored file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The SHA-256 that it is named by.
    pub blob: Sha256,
    /// The name that it has for people; none when no row names it.
    pub what: Option<String>,
}

/// The findings of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Files that were looked at.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
    /// Files whose content is another than their name says.
    pub damaged: Vec<Finding>,
    /// Files that rows name and that are not there.
    pub missing: Vec<Finding>,
    /// Files that no row names; a sweep removes them.
    pub unnamed: Vec<Finding>,
    /// Files of writes that never ended; a sweep removes them as well.
    pub unfinished: u64,
}

impl Findings {
    /// Whether nothing is lost.
    pub fn is_well(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty()
    }
}

/// Reads every stored file and compares it with its name and with the rows. A server may work on
/// the store meanwhile.
pub async fn check(store: &Store) -> Result<Findings, StoreError> {
    let named = named::all(&store.pool).await?;
    let finding = |blob: Sha256| Finding { blob, what: named.get(&blob).cloned() };
    let mut found = Findings::default();
    let mut seen = HashSet::new();
    let mut listed = store.blobs.list();
    while let Some(file) = listed.next().await {
        let file = file?.blob;
        seen.insert(file.sha256);
        found.files += 1;
        found.bytes += file.size_bytes;
        match store.blobs.state(&file.sha256).await? {
            State::Damaged => found.damaged.push(finding(file.sha256)),
            State::Whole if !named.contains_key(&file.sha256) => {
                found.unnamed.push(finding(file.sha256));
            }
            // It was removed since it was listed; whether it is missed is asked below.
            State::Whole | State::Missing => {}
        }
    }
    let suspects: Vec<Sha256> = named.keys().filter(|blob| !seen.contains(blob)).copied().collect();
    found.missing = missing(store, &suspects).await?;
    // What was named since is no leftover.
    let still = unnamed(store, &found.unnamed).await?;
    found.unnamed.retain(|finding| still.contains(&finding.blob));
    found.unfinished = store.blobs.leftovers().await?.len() as u64;
    for findings in [&mut found.damaged, &mut found.missing, &mut found.unnamed] {
        findings.sort_by_key(|finding| (finding.what.clone(), finding.blob));
    }
    Ok(found)
}

/// Those that are still named and still not there: others were deleted since the rows were read.
async fn missing(store: &Store, suspects: &[Sha256]) -> Result<Vec<Finding>, StoreError> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let named = named::all(&store.pool).await?;
    let mut missing = Vec::new();
    for blob in suspects {
        if let Some(what) = named.get(blob)
            && store.blobs.state(blob).await? == State::Missing
        {
            missing.push(Finding { blob: *blob, what: Some(what.clone()) });
        }
    }
    Ok(missing)
}

async fn unnamed(store: &Store, found: &[Finding]) -> Result<HashSet<Sha256>, StoreError> {
    let blobs: Vec<Sha256> = found.iter().map(|finding| finding.blob).collect();
    let mut connection = store.pool.acquire().await?;
    Ok(named::unnamed(&mut connection, &blobs).await?.into_iter().collect())
}
