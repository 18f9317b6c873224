//! Attributes of DICOM objects by their tags, as far as they can be read.

use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// The element of a tag, where there is one.
pub(super) fn element(
    object: &InMemDicomObject,
    tag: Tag,
) -> Option<&dicom_object::mem::InMemElement> {
    object.element_opt(tag).ok().flatten()
}

/// The items of a sequence.
pub(super) fn items(object: &InMemDicomObject, tag: Tag) -> Option<&[InMemDicomObject]> {
    element(object, tag)?.items()
}

/// A whole number.
pub(super) fn integer(object: &InMemDicomObject, tag: Tag) -> Option<i64> {
    element(object, tag)?.to_int().ok()
}

/// A finite number: the first one of several.
pub(super) fn decimal(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    element(object, tag)?
        .to_multi_float64()
        .ok()?
        .first()
        .copied()
        .filter(|value| value.is_finite())
}

/// A code string of the standard's alphabet (PS3.5 6.2, CS); anything else is ignored.
pub(in crate::imaging) fn code(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = element(object, tag)?.to_str().ok()?;
    let text = text.trim_matches(['\0', ' ']);
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " _".contains(c);
    (!text.is_empty() && text.len() <= 16 && text.chars().all(plain)).then(|| text.to_owned())
}
