//! Errors' texts without the traces that some libraries put behind them.

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
    use super::without_trace;

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
}
