//! `Repr-Digest` (RFC 9530): the SHA-256 of what is sent, in base 64.

use crate::domain::Sha256;

/// The digest of what is sent (RFC 9530).
pub const REPR_DIGEST: &str = "repr-digest";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `sha-256=:…:`, the digest in base 64 (RFC 9530 section 3).
pub fn repr_digest(sha256: &Sha256) -> String {
    let mut text = String::from("sha-256=:");
    for three in sha256.as_bytes().chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(BASE64[bits >> (18 - 6 * digit) & 63]));
        }
        text.extend(std::iter::repeat_n('=', 3 - three.len()));
    }
    text.push(':');
    text
}

#[cfg(test)]
mod tests {
    use super::repr_digest;
    use crate::domain::Sha256;

    #[test]
    fn the_digest_of_nothing_is_the_published_one_in_base_64() {
        let text = repr_digest(&Sha256::of(b""));

        assert_eq!(text, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
    }
}
