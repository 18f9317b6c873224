//! Whatever strangers send: parsers answer, and what was written is read back.

use std::collections::BTreeSet;
use std::io::{Seek, Write};

use lvmed::config::Limits;
use lvmed::domain::{Split, line};
use lvmed::imaging::archive::Archive;
use lvmed::imaging::labels::{Table, from_folders};
use lvmed::imaging::{Found, ImagingError, UploadContext, decode_frame, read_upload, take_in};
use proptest::prelude::*;

use crate::dicoms::ct;
use crate::pictures::{png, zip};

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("rewound");
    file
}

/// `bytes` with each of the places set to the value beside it.
fn damaged(mut bytes: Vec<u8>, places: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (place, value) in places {
        let at = place.index(bytes.len());
        bytes[at] = *value;
    }
    bytes
}

fn places() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn split() -> impl Strategy<Value = Option<Split>> {
    prop::option::of(prop::sample::select(Split::ALL.to_vec()))
}

proptest! {
    #[test]
    fn tables_of_labels_are_read_back(
        rows in prop::collection::btree_map(
            "[a-z]{1,4}/[a-z0-9 ,\"]{0,6}x\\.png", ("[^\\p{C}\\s]{1,20}", split()), 1..20),
        semicolons in any::<bool>(),
    ) {
        let delimiter = if semicolons { b';' } else { b',' };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        writer.write_record(["file", "label", "split"]).expect("a head");
        for (file, (label, split)) in &rows {
            let split = split.map_or("", Split::as_str);
            writer.write_record([file.as_str(), label, split]).expect("a row");
        }
        prop_assume!(rows.values().all(|(label, _)| line::parse(label).is_ok()));
        let bytes = writer.into_inner().expect("a table");

        let mut table = Table::parse(&bytes, 100).expect("a good table");

        for (file, (label, split)) in &rows {
            let found = table.find(file).expect("each row is found");
            prop_assert_eq!(found.label, line::parse(label).ok());
            prop_assert_eq!(found.split, *split);
        }
        prop_assert_eq!(table.unused().count(), 0);
    }

    #[test]
    fn any_bytes_as_labels_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Table::parse(&bytes, 10);
        let _ = Table::parse(&[b"file,label\n", bytes.as_slice()].concat(), 10);
    }

    #[test]
    fn the_last_folder_is_the_class_whatever_the_path(path in "([^\\p{C}/\\\\.]{1,9}/){1,4}[a-z]{1,5}") {
        let folder = path.rsplit('/').nth(1).expect("a folder");
        prop_assume!(line::parse(folder).is_ok());
        let found = from_folders(&path).expect("a short path");
        let marks_split = path.matches('/').count() == 1 && folder.parse::<Split>().is_ok();
        let expected = (!marks_split).then(|| line::parse(folder).ok()).flatten();
        prop_assert_eq!(found.label, expected);
    }

    #[test]
    fn names_of_entries_are_used_or_lead_outside(parts in prop::collection::vec("[a-z]{1,3}|\\.\\.", 1..5)) {
        let name = parts.join("/") + "/x.png";
        let bytes = zip(&[(name.clone(), vec![1])]);
        let limits = Limits::default();

        let mut archive = Archive::open(file(&bytes), &limits).expect("an archive");

        let entry = archive.entry(0).expect("a file");
        prop_assert_eq!(entry.usable.is_err(), parts.iter().any(|part| part == ".."), "{}", name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_archive_is_read_as_far_as_it_goes(places in places(), cut in any::<prop::sample::Index>()) {
        let entries: Vec<(String, Vec<u8>)> =
            (0..3).map(|n| (format!("a/{n}.png"), png(0, n, 8))).collect();
        let whole = zip(&entries);
        let limits = Limits::default();
        let context = UploadContext {
            limits: &limits, label: None, patient: None, split: None, first_entry: 0,
        };

        for bytes in [damaged(whole.clone(), &places), whole[..cut.index(whole.len())].to_vec()] {
            let (mut begun, mut ended) = (0, BTreeSet::new());
            let mut listen = |found: Found| {
                match found {
                    Found::Begun { .. } => begun += 1,
                    Found::Kept(kept) => drop(ended.insert(kept.entry)),
                    Found::Rejected(rejected) => drop(ended.insert(rejected.entry)),
                    Found::Files(_) | Found::FurtherRows(_) | Found::LeftOut(_) => {}
                }
                std::ops::ControlFlow::Continue(())
            };
            let read = read_upload(file(&bytes), "a.zip", &context, &mut listen);
            if read.is_ok() {
                prop_assert!(ended.len() >= begun, "{} of {begun}", ended.len());
            }
        }
    }

    #[test]
    fn a_damaged_dicom_file_is_an_answer_and_never_a_panic(
        places in places(), cut in any::<prop::sample::Index>(),
    ) {
        let whole = ct(0, 1, "NOBODY");
        let limits = Limits::default();
        // The first kilobytes hold everything but pixels.
        let head = damaged(whole[..1500].to_vec(), &places);
        let hurt = [head.as_slice(), &whole[1500..]].concat();

        for bytes in [hurt, whole[..cut.index(whole.len())].to_vec()] {
            let decoded = decode_frame(&bytes, 0, &limits);
            prop_assert!(!matches!(decoded, Err(ImagingError::DecoderFailed)));
            let taken = take_in(&bytes, &limits);
            prop_assert!(!matches!(taken, Err(ImagingError::DecoderFailed)));
        }
    }
}

/// The parser believes the length of the meta information, and the walk that guards it does not: a
/// wrong one once made them read from different places, and the parser ask for gigabytes.
#[test]
fn a_wrong_length_of_the_meta_information_changes_nothing() {
    let limits = lvmed::config::Limits::default();
    let whole = crate::dicoms::ct(0, 1, "NOBODY");
    let expected = lvmed::imaging::decode_all(&whole, &limits).expect("a picture");
    let length = u32::from_le_bytes([whole[140], whole[141], whole[142], whole[143]]);

    for wrong in [0, 1, length - 2, length - 8, length + 2, length + 200, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[140..144].copy_from_slice(&wrong.to_le_bytes());

        assert_eq!(lvmed::imaging::decode_all(&bytes, &limits).expect("a picture"), expected);
    }
}
