//! DICOM files: walked, decoded to pictures and stripped of identity.

mod attribute;
mod canon;
mod deidentify;
mod element;
mod frame;
mod guard;
mod header;
mod identifiers;
mod kept;
mod pixels;
mod transfer_syntax;
mod walk;

pub(super) use attribute::code;
pub(super) use deidentify::strip_dicom;
pub(super) use frame::{frame, header};
pub use guard::deep;
pub(super) use guard::with_object;
pub(super) use header::Header;
pub use identifiers::Identifiers;
pub(super) use walk::is_dicom;
