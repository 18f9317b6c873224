//! Patients: identified in memory only, and outside of it by a keyed hash.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256 as Hasher;

use crate::domain::Sha256;

/// What stands where an identifier stood.
const MASK: &str = "•••";
/// Shorter texts would mask half of every name.
const SHORTEST_IDENTIFIER: usize = 3;

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

/// The texts of a file that identify its patient. They live in memory only, and are never shown.
#[derive(Clone, Default)]
pub struct Identifiers {
    patient: Option<String>,
    texts: Vec<String>,
}

impl Identifiers {
    /// `patient` tells patients apart (PatientID, else PatientName); `texts` must not be shown.
    pub fn new(patient: Option<String>, texts: impl IntoIterator<Item = String>) -> Self {
        let mut texts: Vec<String> = texts
            .into_iter()
            .flat_map(|text| {
                let parts: Vec<String> =
                    text.split(['^', '=', ' ', '\\']).map(str::to_owned).collect();
                std::iter::once(text).chain(parts)
            })
            .map(|text| text.trim().to_lowercase())
            .filter(|text| text.chars().count() >= SHORTEST_IDENTIFIER)
            .collect();
        // Longer ones first: a part must not break up the whole that contains it.
        texts.sort_by_key(|text| (std::cmp::Reverse(text.len()), text.clone()));
        texts.dedup();
        let patient = patient.filter(|patient| !patient.trim().is_empty());
        Self { patient, texts }
    }

    /// What tells this patient from others, if the file says.
    pub fn patient(&self) -> Option<&str> {
        self.patient.as_deref()
    }

    /// `name` with every identifier in it masked, whatever its case.
    pub fn mask(&self, name: &str) -> String {
        let mut masked = name.to_owned();
        for text in &self.texts {
            loop {
                let lower = masked.to_lowercase();
                // Lower-casing may change lengths outside ASCII; then the whole name goes.
                if lower.len() != masked.len() {
                    if lower.contains(text.as_str()) {
                        return MASK.to_owned();
                    }
                    break;
                }
                let Some(at) = lower.find(text.as_str()) else { break };
                if !masked.is_char_boundary(at) || !masked.is_char_boundary(at + text.len()) {
                    return MASK.to_owned();
                }
                masked.replace_range(at..at + text.len(), MASK);
            }
        }
        masked
    }
}

impl fmt::Debug for Identifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identifiers(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::{Identifiers, PatientHasher};

    #[test]
    fn keys_group_a_patient_and_differ_between_servers() {
        let (one, other) = (PatientHasher::new([1; 32]), PatientHasher::new([2; 32]));

        assert_eq!(one.key("MRN 17"), one.key(" mrn 17 "));
        assert_ne!(one.key("MRN 17"), one.key("MRN 18"));
        assert_ne!(one.key("MRN 17"), other.key("MRN 17"));
        assert_eq!(one.key("MRN 17").len(), 32);
    }

    #[test]
    fn names_lose_every_identifier_and_keep_the_rest() {
        let identifiers =
            Identifiers::new(None, ["Müster^Anna".to_owned(), "4711".to_owned(), "7".to_owned()]);

        assert_eq!(identifiers.mask("ct/MÜSTER_anna_4711_7.dcm"), "ct/•••_•••_•••_7.dcm");
        assert!(!format!("{identifiers:?}").contains("4711"));
    }
}
