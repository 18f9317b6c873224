//! Counts in sentences: `1 file`, `2 files`.

/// A number with the word for what it counts.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
