//! `Content-Disposition` for any file name (RFC 6266, RFC 8187): no name can add a header.

use std::fmt::Write;

use axum::http::HeaderValue;

/// Asks browsers to save the answer under `name`.
pub fn attachment(name: &str) -> HeaderValue {
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if is_attr_char(byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// True for characters that may stand between quotes without an escape that some browser reads
/// differently.
fn is_plain(c: char) -> bool {
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%' | '/')
}

/// `attr-char` of RFC 8187 section 3.2.1.
fn is_attr_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::attachment;

    #[test]
    fn a_plain_name_stays_plain() {
        assert_eq!(attachment("model.onnx"), "attachment; filename=\"model.onnx\"");
    }

    #[test]
    fn no_name_ends_the_header_or_the_quotes() {
        let value = attachment("a\r\nSet-Cookie: b=\"c\\\"/../d%0a");

        assert_eq!(
            value,
            "attachment; filename=\"a__Set-Cookie: b=_c___.._d_0a\"; \
             filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b%3D%22c%5C%22%2F..%2Fd%250a"
        );
    }

    #[test]
    fn names_in_any_script_survive() {
        let value = attachment("Schädel \u{202E}gnp.png");

        assert_eq!(
            value,
            "attachment; filename=\"Sch_del _gnp.png\"; \
             filename*=UTF-8''Sch%C3%A4del%20%E2%80%AEgnp.png"
        );
    }
}
