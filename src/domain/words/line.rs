//! One line of text that people give, for a name or a class: what looks equal is equal.

use unicode_normalization::UnicodeNormalization;

/// The longest line, in characters.
pub const MAX_LINE_CHARS: usize = 120;

/// The reason why a text cannot be a name or a class; the sentence lacks what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_LINE_CHARS`].
    #[error("has {found} characters; the limit is {MAX_LINE_CHARS}")]
    TooLong {
        /// Characters found.
        found: usize,
    },
    /// Holds a line break or another control character.
    #[error("holds control characters")]
    Control,
    /// Holds a character that nobody sees, or that turns the direction of the text.
    #[error(
        "holds the character U+{:04X}, which nobody sees; two of them would look the same. Type it \
         anew without it", *.0 as u32
    )]
    Invisible(char),
    /// Holds the character that stands for bytes that were not text.
    #[error("holds U+FFFD: it was not written in UTF-8. Write it anew in UTF-8")]
    Unreadable,
}

/// The line in the one form that is stored: composed (Unicode's NFC), trimmed, with single spaces.
pub fn parse(text: &str) -> Result<String, BadLine> {
    if text.trim().is_empty() {
        return Err(BadLine::Empty);
    }
    if text.trim().chars().any(char::is_control) {
        return Err(BadLine::Control);
    }
    let composed: String = text.nfc().collect();
    let line = composed.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = line.chars().count();
    if found > MAX_LINE_CHARS {
        return Err(BadLine::TooLong { found });
    }
    if line.contains('\u{FFFD}') {
        return Err(BadLine::Unreadable);
    }
    match line.chars().find(|c| is_invisible(*c)) {
        Some(invisible) => Err(BadLine::Invisible(invisible)),
        None => Ok(line),
    }
}

/// The composed form of a text, for comparing it with stored ones.
pub fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// Characters without ink: Unicode's default-ignorable ones, blanks that are no white space, those
/// that turn the direction, and code points that nobody has assigned a picture to.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{E000}'..='\u{F8FF}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{FFFE}' | '\u{FFFF}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests {
    use super::{BadLine, parse};

    #[test]
    fn what_looks_equal_is_equal() {
        let composed = parse("Entzündung").expect("a line");

        assert_eq!(parse("Entzu\u{308}ndung").expect("a line"), composed);
        assert_eq!(parse("  two\u{A0} words ").expect("a line"), "two words");
        assert_eq!(parse("\u{1100}\u{1161}").expect("a line"), "가");
    }

    #[test]
    fn characters_that_nobody_sees_are_refused_by_their_number() {
        for hidden in
            ['\u{200B}', '\u{200F}', '\u{202E}', '\u{2066}', '\u{FEFF}', '\u{3164}', '\u{E0041}']
        {
            let error = parse(&format!("nor{hidden}mal")).expect_err("refused");
            assert_eq!(error, BadLine::Invisible(hidden));
            assert!(error.to_string().contains(&format!("U+{:04X}", hidden as u32)), "{error}");
        }
        assert_eq!(parse("a\nb"), Err(BadLine::Control));
        assert_eq!(parse("Entz\u{FFFD}ndung"), Err(BadLine::Unreadable));
        assert_eq!(parse("\u{3000} "), Err(BadLine::Empty));
        assert_eq!(parse(&"x".repeat(121)), Err(BadLine::TooLong { found: 121 }));
        assert!(parse(&"é".repeat(120)).is_ok());
    }
}
