//! Entity tags (RFC 9110 section 8.8.3): whether the caller has the newest content already.

use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;

/// Whether `If-None-Match` names `tag`, by the weak comparison that it asks for.
pub fn has(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::has;

    #[test]
    fn a_tag_is_found_in_a_list_weak_or_strong() {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", HeaderValue::from_static("\"a\", W/\"b\""));

        assert!(has(&headers, "\"b\""));
        assert!(has(&headers, "W/\"a\""));
        assert!(!has(&headers, "\"c\""));
    }
}
