//! Text of others as a card may show it.

/// Text of others that can be neither markup nor a table cell's end.
pub(in crate::training) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '#' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn text_of_others_cannot_break_the_card() {
        assert_eq!(plain("a|b<script>\n# x"), "a\\|b&lt;script&gt; \\# x");
    }
}
