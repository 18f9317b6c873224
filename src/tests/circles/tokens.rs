//! The words and marks of Rust source, without comments, literals, lifetimes and test-only items.

/// The words of the source outside tests. `::` is one token; any other mark is one character.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (length, kept) = first(rest);
        if kept {
            found.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    without_tests(&found)
}

pub(super) fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The length of the first token and whether it says anything.
fn first(text: &str) -> (usize, bool) {
    let word = word(text);
    match text.chars().next().expect("the text is not empty") {
        _ if text.starts_with("//") => (text.find('\n').unwrap_or(text.len()), false),
        _ if text.starts_with("/*") => (block_comment(text), false),
        _ if text.starts_with("::") => (2, true),
        '"' => (quoted(text), false),
        '\'' => (character_or_lifetime(text), false),
        _ if matches!(&text[..word], "r" | "br" | "cr") => {
            raw(&text[word..]).map_or((word, true), |length| (word + length, false))
        }
        _ if word > 0 => (word, true),
        mark => (mark.len_utf8(), !mark.is_whitespace()),
    }
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth += step.0;
        at += step.1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The rest of a raw string after its `r`; nothing where it is none, as in `r#type`.
fn raw(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let inner = text[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(hashes + 1 + inner.find(&end)? + end.len())
}

fn character_or_lifetime(text: &str) -> usize {
    let mut inside = text[1..].chars();
    let (first, second) = (inside.next(), inside.next());
    match first {
        Some('\\') => text[3..].find('\'').map_or(text.len(), |end| 3 + end + 1),
        Some(c) if second == Some('\'') => 1 + c.len_utf8() + 1,
        _ => 1 + word(&text[1..]),
    }
}

fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].starts_with(&mark) {
            at += mark.len() + item(&tokens[at + mark.len()..]);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// The number of tokens that the first item takes: to its `;`, to its closing brace, or, where it is
/// a field, to its comma.
fn item(tokens: &[&str]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 0 => return at,
            "}" if depth == 1 => return at + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" | "," if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}
