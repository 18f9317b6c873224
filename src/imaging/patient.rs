//! Patients: identified in memory only, and outside of it by a keyed hash.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256 as Hasher;

use crate::domain::Sha256;

/// Turns what identifies a patient into a key that groups images and tells nothing.
#[derive(Clone)]
pub struct PatientHasher([u8; 32]);

impl PatientHasher {
    /// A hasher under the server's secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The key of a patient: 32 hexadecimal digits of HMAC-SHA256 under the server's secret.
    /// Letter case and white space around the identifier do not matter.
    pub fn key(&self, patient: &str) -> String {
        self.hash(b"patient", patient.trim().to_lowercase().as_bytes())
    }

    /// The key of an image that names no patient: the image is a patient of its own.
    pub fn lone(&self, blob: &Sha256) -> String {
        self.hash(b"image", blob.as_bytes())
    }

    /// The mark that an uploaded file is found by again: made of its digest, which itself is not
    /// kept.
    pub fn original(&self, sha256: &Sha256) -> String {
        self.hash(b"original", sha256.as_bytes())
    }

    /// The mark that an upload is known by when it comes again, made of the digest of its bytes.
    pub fn upload(&self, sha256: &Sha256) -> String {
        self.hash(b"upload", sha256.as_bytes())
    }

    fn hash(&self, kind: &[u8], content: &[u8]) -> String {
        let mut mac =
            Hmac::<Hasher>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(kind);
        mac.update(&[0]);
        mac.update(content);
        let digest = mac.finalize().into_bytes();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for PatientHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientHasher(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::PatientHasher;

    #[test]
    fn keys_group_a_patient_and_differ_between_servers() {
        let (one, other) = (PatientHasher::new([1; 32]), PatientHasher::new([2; 32]));

        assert_eq!(one.key("MRN 17"), one.key(" mrn 17 "));
        assert_ne!(one.key("MRN 17"), one.key("MRN 18"));
        assert_ne!(one.key("MRN 17"), other.key("MRN 17"));
        assert_eq!(one.key("MRN 17").len(), 32);
    }
}
