//! Errors' texts without the traces that some libraries put behind them.

/// Characters of an error that somebody else's library words.
const BRIEF_CHARS: usize = 300;

/// The text up to where a backtrace begins. candle prints one, with the paths of the build, when
/// `RUST_BACKTRACE` is set; neither is for callers.
pub fn without_trace(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if end > 0 && is_frame(line) {
            break;
        }
        end += line.len();
    }
    text.get(..end).unwrap_or(text).trim_end()
}

/// The same, of a length to be read: libraries also print whole values that they did not expect.
pub fn brief(text: &str) -> String {
    let text = without_trace(text);
    match text.char_indices().nth(BRIEF_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A frame is numbered, its number stands behind spaces: `   0: candle_core::error::Error::bt`.
fn is_frame(line: &str) -> bool {
    let indented = line.strip_prefix(' ').map(str::trim_start);
    let number = indented.and_then(|line| line.split_once(": ")).map(|(number, _)| number);
    let is_number =
        number.is_some_and(|text| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()));
    is_number || line.trim_start().starts_with("stack backtrace:")
}

#[cfg(test)]
mod tests {
    use super::{brief, without_trace};

    #[test]
    fn a_backtrace_is_cut_off_and_nothing_else() {
        let frames =
            "   0: candle_core::error::Error::bt\n             at /build/error.rs:264:25\n";

        assert_eq!(without_trace(&format!("no such tensor\n{frames}")), "no such tensor");
        let known = without_trace("it does not fit\nmissing: conv1\nwrong shape: 3: 4");
        assert_eq!(known, "it does not fit\nmissing: conv1\nwrong shape: 3: 4");
        assert_eq!(without_trace("broken\nstack backtrace:\n   0: std"), "broken");
        assert_eq!(without_trace("   1: alone"), "   1: alone");
        assert_eq!(without_trace(""), "");
    }

    #[test]
    fn what_a_library_prints_at_length_is_cut() {
        assert_eq!(brief("short\n   0: frame"), "short");
        assert_eq!(brief(&"ü".repeat(1000)), format!("{}…", "ü".repeat(300)));
    }
}
