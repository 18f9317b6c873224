//! The identifiers of the patient of a file. It lives in memory only, and is never shown.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::imaging::leak::Sought;

/// Elements that hold a name of a person (PS3.5 6.2, PN).
const NAMES: &[Tag] = &[
    tags::PATIENT_NAME,
    tags::OTHER_PATIENT_NAMES,
    tags::PATIENT_BIRTH_NAME,
    tags::PATIENT_MOTHER_BIRTH_NAME,
];

/// Elements that hold a number of the patient, of the visit or of the study.
const NUMBERS: &[Tag] = &[
    tags::PATIENT_ID,
    tags::ACCESSION_NUMBER,
    tags::STUDY_ID,
    tags::ADMISSION_ID,
    tags::PATIENT_TELEPHONE_NUMBERS,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::SOP_INSTANCE_UID,
];

/// Whether an element says whom the file shows.
pub(super) fn identifies(tag: Tag) -> bool {
    NAMES.contains(&tag)
        || NUMBERS.contains(&tag)
        || [tags::PATIENT_BIRTH_DATE, tags::OTHER_PATIENT_I_DS_SEQUENCE].contains(&tag)
}

/// The texts of a file that identify its patient.
#[derive(Clone, Default)]
pub struct Identifiers {
    patient: Option<String>,
    names: Vec<String>,
    numbers: Vec<String>,
    birth_date: Option<String>,
}

impl Identifiers {
    /// The identifiers that an object tells of its patient. PatientID tells patients apart, else
    /// PatientName.
    pub(in crate::imaging) fn of(object: &InMemDicomObject) -> Self {
        let all = |tags: &[Tag]| tags.iter().filter_map(|tag| text(object, *tag)).collect();
        let mut numbers: Vec<String> = all(NUMBERS);
        numbers.extend(other_ids(object));
        Self {
            patient: text(object, tags::PATIENT_ID).or_else(|| text(object, tags::PATIENT_NAME)),
            names: all(NAMES),
            numbers,
            birth_date: text(object, tags::PATIENT_BIRTH_DATE),
        }
    }

    /// The identifier that tells this patient from others, if the file says.
    pub fn patient(&self) -> Option<&str> {
        self.patient.as_deref()
    }

    /// The same with a patient that the file's row, or whoever sent it, names: a number or a name.
    #[must_use]
    pub fn and(mut self, patient: Option<&str>) -> Self {
        self.names.extend(patient.map(str::to_owned));
        self.numbers.extend(patient.map(str::to_owned));
        self
    }

    /// Whether a text tells whom the file shows.
    pub fn are_told_by(&self, text: &str) -> bool {
        let mut sought = Sought::default();
        self.names.iter().for_each(|name| sought.name(name));
        self.numbers.iter().for_each(|number| sought.number(number));
        self.birth_date.iter().for_each(|date| sought.date(date));
        sought.is_in(text)
    }
}

impl fmt::Debug for Identifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identifiers(hidden)")
    }
}

fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.element_opt(tag).ok().flatten()?.to_str().ok()?;
    let text = text.trim_matches(['\0', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

/// PatientID of each item of OtherPatientIDsSequence.
fn other_ids(object: &InMemDicomObject) -> Vec<String> {
    let element = object.element_opt(tags::OTHER_PATIENT_I_DS_SEQUENCE).ok().flatten();
    let items = element.and_then(|element| element.items()).unwrap_or_default();
    items.iter().filter_map(|item| text(item, tags::PATIENT_ID)).collect()
}
