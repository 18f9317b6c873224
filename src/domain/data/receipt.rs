//! The answer to an upload: which picture each file became, told once and never stored.
//!
//! Names of files are the sender's. They are in this answer only; what is kept is the number that a
//! file has got in its dataset, and the place that it had in its upload.

use serde::{Deserialize, Serialize};

/// Characters of a reason at most.
const REASON_CHARS: usize = 300;
/// Notices on files at most, with those on all of them; the rest is counted. What was there already
/// makes a hundred of them.
const NOTICES: usize = 99;

/// A file that was read and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Received {
    /// The file as its sender named it. It is not stored: keep it, if you want to know later.
    pub file: String,
    /// The number of its pictures in the dataset.
    pub number: u64,
    /// Their name here; a frame after the first has its number behind it.
    pub name: String,
    /// Pictures that it holds.
    pub images: u32,
    /// Pictures of them that are new to the dataset.
    pub added: u32,
}

/// A file that could not be taken, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refused {
    /// The file as its sender named it. It is not stored.
    pub file: String,
    /// Its place in the archive, counted from 1; 1 for a file that was sent alone.
    pub entry: u64,
    /// What is wrong with it, for people to read.
    pub reason: String,
}

impl Refused {
    /// A file and the reason, which is cut when it is long.
    pub fn new(file: &str, entry: u64, reason: &str) -> Self {
        Self { file: file.to_owned(), entry, reason: reason.chars().take(REASON_CHARS).collect() }
    }
}

/// The first entries of a list, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped<T> {
    items: Vec<T>,
    total: u64,
    most: usize,
}

impl<T> Capped<T> {
    /// A list that keeps `most` entries and counts the others.
    pub fn new(most: u64) -> Self {
        Self { items: Vec::new(), total: 0, most: usize::try_from(most).unwrap_or(usize::MAX) }
    }

    /// Counts an entry, and makes it only where there is room for it.
    pub fn push_with(&mut self, make: impl FnOnce() -> T) {
        self.total += 1;
        if self.items.len() < self.most {
            self.items.push(make());
        }
    }

    /// Counts an entry, and keeps it where there is room.
    pub fn push(&mut self, item: T) {
        self.push_with(|| item);
    }

    /// Counts entries that are not kept.
    pub fn count(&mut self, entries: u64) {
        self.total += entries;
    }

    /// The entries that were kept.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The number of entries.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The number of entries that were not kept.
    pub fn left_out(&self) -> u64 {
        self.total - self.items.len() as u64
    }

    /// The entries that were kept, by value.
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

/// A list for remarks on single files, as long as notices may be.
pub fn remarks() -> Capped<String> {
    Capped::new(NOTICES as u64)
}

/// The notices of an upload as a whole, and then the first remarks on single files; the others are
/// counted.
pub fn notices(mut general: Vec<String>, remarks: Capped<String>) -> Vec<String> {
    let (room, total) = (NOTICES.saturating_sub(general.len()), remarks.total());
    if total <= room as u64 {
        general.extend(remarks.into_items());
        return general;
    }
    let told = room.saturating_sub(1);
    general.extend(remarks.into_items().into_iter().take(told));
    general.push(format!("and {} more remarks on files", total - told as u64));
    general
}

#[cfg(test)]
mod tests {
    use super::{Capped, Refused, notices, remarks};

    #[test]
    fn long_lists_are_cut_and_counted() {
        let mut list = Capped::new(2);
        (0..5).for_each(|number| list.push(number));

        assert_eq!((list.items(), list.total(), list.left_out()), (&[0, 1][..], 5, 3));
        let mut many = remarks();
        (0..250).for_each(|number| many.push(number.to_string()));
        let told = notices(vec!["general".to_owned()], many);
        assert_eq!((told.len(), told[0].as_str(), told[97].as_str()), (99, "general", "96"));
        assert_eq!(told[98], "and 153 more remarks on files");
        assert_eq!(Refused::new("a", 1, &"é".repeat(400)).reason.chars().count(), 300);
    }
}
