//! DICOM files whose structure or whose compressed data are wrong: an answer in words, in little
//! memory, and the right values wherever the standard says what they are.

use lvmed::config::Limits;
use lvmed::imaging::{ImagingError, Samples, decode_all, decode_frame, take_in};
use proptest::prelude::*;

use crate::raw_dicom::{Coding, Shape, compressed, file};

const GREY: Shape = Shape { columns: 40, rows: 24, samples: 1, allocated: 8, stored: 8 };
const SMALL: Shape = Shape { columns: 2, rows: 1, samples: 1, allocated: 16, stored: 12 };
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const PROGRESSIVE: &[u8] = include_bytes!("fixtures/pictures/grey-progressive.jpg");
const RESTARTS: &[u8] = include_bytes!("fixtures/pictures/grey-restarts.jpg");
const BASELINE: &[u8] = include_bytes!("fixtures/pictures/colour-420.jpg");

/// The grey values of the only frame.
fn grey(bytes: &[u8]) -> Vec<f32> {
    match decode_frame(bytes, 0, &Limits::default()).expect("it decodes").samples {
        Samples::Gray(values) => values,
        Samples::Rgb(_) => panic!("colours"),
    }
}

fn refusal(bytes: &[u8]) -> String {
    let limits = Limits::default();
    let decoded = decode_frame(bytes, 0, &limits).expect_err("it is refused").to_string();
    let taken = take_in(bytes, &limits).expect_err("it is refused").to_string();
    assert_eq!(decoded, taken);
    taken
}

/// A small file with these elements before its pixels, which are 10 and 4000.
fn with_elements(coding: Coding, elements: &[Vec<u8>]) -> Vec<u8> {
    let data_set = [
        elements.concat(),
        SMALL.elements(coding, "MONOCHROME2"),
        coding.words((0x7FE0, 0x10), "OW", &[10, 4000]),
    ];
    file(coding.syntax(), &data_set.concat())
}

#[test]
fn a_standard_element_of_unknown_representation_is_read_by_the_dictionary() {
    let coding = Coding::Explicit;
    let elements = |vr: [&str; 5]| {
        let [modality, patient, center, width, intercept] = vr;
        with_elements(
            coding,
            &[
                coding.text((0x08, 0x60), modality, "CT"),
                coding.text((0x10, 0x20), patient, "MRN-990011"),
                coding.text((0x28, 0x1050), center, "40"),
                coding.text((0x28, 0x1051), width, "400"),
                coding.text((0x28, 0x1052), intercept, "-1024"),
            ],
        )
    };
    let limits = Limits::default();
    let known = take_in(&elements(["CS", "LO", "DS", "DS", "DS"]), &limits).expect("taken in");
    let unknown = take_in(&elements(["UN"; 5]), &limits).expect("taken in");

    assert_eq!(unknown.frames, known.frames);
    assert_eq!(unknown.stored, known.stored);
    assert_eq!(unknown.identifiers.patient(), Some("MRN-990011"));
    assert_eq!(known.frames[0].window.map(|window| window.center), Some(40.0));
}

#[test]
fn a_private_sequence_of_unknown_representation_and_undefined_length_is_stepped_over() {
    let inner = Coding::Implicit.text((0x08, 0x100), "SH", "code");
    let item = [
        Coding::Implicit.element((0xFFFE, 0xE000), "", u32::MAX, &inner),
        Coding::Implicit.element((0xFFFE, 0xE00D), "", 0, &[]),
        Coding::Implicit.element((0xFFFE, 0xE0DD), "", 0, &[]),
    ];
    let element = Coding::Explicit.element((0x2001, 0x105F), "UN", u32::MAX, &item.concat());

    assert_eq!(grey(&with_elements(Coding::Explicit, &[element])), [10.0, 4000.0]);
}

#[test]
fn implicit_and_explicit_are_told_apart_by_what_is_there() {
    for (coding, claimed) in [
        (Coding::Implicit, Coding::Explicit.syntax()),
        (Coding::Explicit, Coding::Implicit.syntax()),
    ] {
        let data_set = [
            SMALL.elements(coding, "MONOCHROME2"),
            coding.words((0x7FE0, 0x10), "OW", &[10, 4000]),
        ];
        assert_eq!(grey(&file(claimed, &data_set.concat())), [10.0, 4000.0], "{coding:?}");
    }
}

#[test]
fn meta_information_may_lack_its_length_and_hold_long_names() {
    let coding = Coding::Explicit;
    let named = with_elements(coding, &[]);
    let title = coding.text((0x02, 0x16), "AE", "A TITLE OF EIGHTEEN");
    let longer = [&named[..132], &title, &named[132..]].concat();

    assert_eq!(grey(&named), [10.0, 4000.0]);
    assert_eq!(grey(&longer), [10.0, 4000.0]);
}

#[test]
fn unknown_representations_and_lengths_beyond_the_file_are_answers() {
    let limits = Limits { dicom_depth: 8, ..Limits::default() };
    let coding = Coding::Explicit;
    let open = coding.element((0x08, 0x1140), "SQ", u32::MAX, &[]);
    let item = coding.element((0xFFFE, 0xE000), "", u32::MAX, &[]);
    let deep = [open, item].concat().repeat(9);
    let error = decode_frame(&with_elements(coding, &[deep]), 0, &limits).expect_err("refused");
    assert!(matches!(error, ImagingError::TooComplex { max: 8, .. }), "{error}");

    // Two reserved bytes that are zero, and a length of four gigabytes.
    let huge = b"\x09\x00\x10\x00ZZ\0\0\xF0\xFF\xFF\xFFAAAA".to_vec();
    assert!(refusal(&with_elements(coding, &[huge])).contains("are left"));
    // A short one, as writers do who know no better.
    let short = b"\x09\x00\x10\x00ZZ\x04\x00AAAA".to_vec();
    assert_eq!(grey(&with_elements(coding, &[short])), [10.0, 4000.0]);
}

#[test]
fn a_transfer_syntax_or_colour_model_of_ones_own_is_refused_and_not_repeated() {
    let coding = Coding::Explicit;
    let fragments = crate::raw_dicom::fragments(&[&[1, 2]]);
    let data_set = [SMALL.elements(coding, "MONOCHROME2"), fragments].concat();
    let error = refusal(&file("1.2.840.10008.1.2.4711", &data_set));
    assert!(error.contains("in a way that is not known") && !error.contains("4711"), "{error}");

    let pixels = coding.words((0x7FE0, 0x10), "OW", &[10, 4000]);
    for (model, part) in [
        ("FUZZ", "none that the standard defines"),
        ("", "is empty"),
        ("RGB", "RGB with 1 sample"),
        ("HSV", "HSV with 1 sample"),
    ] {
        let data_set = [SMALL.elements(coding, model), pixels.clone()].concat();
        let error = refusal(&file(coding.syntax(), &data_set));
        assert!(error.contains(part) && !error.contains("FUZZ"), "{error}");
    }
}

#[test]
fn compressed_data_that_the_tags_contradict_are_refused_by_name() {
    let j2k = include_bytes!("fixtures/pictures/grey-16.j2k").as_slice();
    let jxl = include_bytes!("fixtures/pictures/grey.jxl").as_slice();
    for (syntax, data) in
        [(JPEG, RESTARTS), ("1.2.840.10008.1.2.4.90", j2k), ("1.2.840.10008.1.2.4.110", jxl)]
    {
        let larger = Shape { columns: 80, ..GREY };
        let error = refusal(&compressed(syntax, larger, "MONOCHROME2", &[data]));
        assert!(error.contains("is 40x24, the tags say 80x24"), "{error}");
        let colour = Shape { samples: 3, ..GREY };
        let error = refusal(&compressed(syntax, colour, "RGB", &[data]));
        assert!(error.contains("has 1 component(s), the tags say 3"), "{error}");
    }
    let error = refusal(&compressed("1.2.840.10008.1.2.4.90", GREY, "MONOCHROME2", &[j2k]));
    assert!(error.contains("16 bits, the tags say 8"), "{error}");
}

#[test]
fn eight_bit_data_under_sixteen_bits_allocated_are_read_as_what_they_are() {
    let wide = Shape { allocated: 16, ..GREY };
    let narrow = compressed(JPEG, GREY, "MONOCHROME2", &[RESTARTS]);

    assert_eq!(grey(&compressed(JPEG, wide, "MONOCHROME2", &[RESTARTS])), grey(&narrow));
}

#[test]
fn a_jpeg_without_all_of_its_data_is_refused_however_it_ends() {
    for whole in [PROGRESSIVE, RESTARTS, BASELINE] {
        let scans: Vec<usize> =
            (0..whole.len() - 1).filter(|at| whole[*at..*at + 2] == [0xFF, 0xDA]).collect();
        let last = scans[scans.len() - 1];
        for cut in [last + 12, usize::midpoint(last, whole.len()), whole.len() - 6] {
            let cut = [&whole[..cut], &[0xFF, 0xD9]].concat();
            let error = refusal(&cut);
            assert!(error.contains("cut short") || error.contains("damaged"), "{error}");
        }
        // A header that claims more than there are data for.
        let frame = (0..whole.len() - 1)
            .find(|at| whole[*at] == 0xFF && matches!(whole[*at + 1], 0xC0 | 0xC2))
            .expect("a frame header");
        let mut claimed = whole.to_vec();
        claimed[frame + 5..frame + 9].copy_from_slice(&[0x1F, 0x40, 0x1F, 0x40]);
        let error = refusal(&claimed);
        assert!(error.contains("cut short") || error.contains("damaged"), "{error}");
        claimed[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
        assert!(refusal(&claimed).contains("65535 x 65535"));
    }
}

#[test]
fn samples_at_the_top_of_their_words_are_shifted_down() {
    let coding = Coding::Explicit;
    let shape = Shape { stored: 12, ..SMALL };
    let head: Vec<u8> = shape.elements(coding, "MONOCHROME2");
    let high = [head, coding.number((0x28, 0x102), 15)].concat();
    let data_set = [high, coding.words((0x7FE0, 0x10), "OW", &[10 << 4, 4000 << 4])].concat();
    let bytes = file(coding.syntax(), &data_set);

    assert_eq!(grey(&bytes), [10.0, 4000.0]);
    let stored = take_in(&bytes, &Limits::default()).expect("taken in").stored;
    assert_eq!(grey(&stored), [10.0, 4000.0]);
}

/// One element of any kind: known and unknown tags and representations, true and untrue lengths.
fn odd_element() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(vec![
        (0x0008, 0x0005),
        (0x0009, 0x1001),
        (0x0010, 0x0020),
        (0x0028, 0x3000),
        (0x0028, 0x1050),
        (0x5200, 0x9230),
        (0x7FE0, 0x0010),
        (0xFFFE, 0xE000),
        (0xFFFE, 0xE00D),
        (0xFFFE, 0xE0DD),
        (0x0002, 0x0010),
        (0x0000, 0x0000),
    ]);
    let vr = prop::sample::select(vec![
        "ZZ", "UN", "SQ", "OB", "OW", "US", "DS", "LO", "\0\0", "ox", "AT", "FD", "UT",
    ]);
    let length = prop_oneof![Just(u32::MAX), Just(0xFFFF_FFF0), 0_u32..64, any::<u32>(),];
    let value = prop::collection::vec(any::<u8>(), 0..24);
    let coding = prop::sample::select(Coding::ALL.to_vec());
    (coding, tag, vr, prop::option::of(length), value).prop_map(
        |(coding, tag, vr, length, value)| {
            coding.element(tag, vr, length.unwrap_or(value.len() as u32), &value)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_stands_in_a_data_set_is_an_answer(
        coding in prop::sample::select(Coding::ALL.to_vec()),
        elements in prop::collection::vec(odd_element(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = with_elements(coding, &elements);
        for (place, value) in damage {
            let at = 132 + place.index(bytes.len() - 132);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(132 + cut.index(bytes.len() - 132));
        }
        let limits = Limits::default();

        let taken = take_in(&bytes, &limits);

        prop_assert!(!matches!(taken, Err(ImagingError::DecoderFailed)));
        if let Ok(taken) = taken {
            let shown = decode_all(&bytes, &limits).expect("it was taken in");
            let kept = decode_all(&taken.stored, &limits).expect("what is stored decodes");
            prop_assert_eq!(shown, kept);
        }
    }

    #[test]
    fn damaged_compressed_data_are_an_answer(
        which in prop::sample::select(vec![
            (PROGRESSIVE, JPEG), (RESTARTS, JPEG),
            (include_bytes!("fixtures/pictures/grey.j2k").as_slice(), "1.2.840.10008.1.2.4.90"),
            (include_bytes!("fixtures/pictures/grey.jp2").as_slice(), "1.2.840.10008.1.2.4.90"),
            (include_bytes!("fixtures/pictures/grey.jxl").as_slice(), "1.2.840.10008.1.2.4.110"),
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (data, syntax) = which;
        let mut data = data.to_vec();
        for (place, value) in damage {
            // Headers matter more than data: half of the damage is in the first 200 bytes.
            let span = if value.is_multiple_of(2) { data.len() } else { data.len().min(200) };
            let at = place.index(span);
            data[at] = value;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        let limits = Limits::default();

        let wrapped = compressed(syntax, GREY, "MONOCHROME2", &[&data]);
        if let Ok(taken) = take_in(&wrapped, &limits) {
            let shown = decode_all(&wrapped, &limits).expect("it was taken in");
            let kept = decode_all(&taken.stored, &limits).expect("what is stored decodes");
            prop_assert_eq!(shown, kept);
        }
        let _ = take_in(&data, &limits);
    }
}

#[test]
fn hostile_files_are_answered_in_words() {
    let Some(folder) = crate::test_data("hostile") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a hostile file");
    let limits = Limits::default();
    for name in ["deep.dcm", "mem4g.dcm", "meta4g.dcm", "sof.dcm", "small-jpeg-in-64x64.dcm"] {
        let error = take_in(&read(name), &limits).expect_err("it is refused");
        assert!(!matches!(error, ImagingError::DecoderFailed), "{name}");
    }
    let error =
        take_in(&read("small-jpeg-in-64x64.dcm"), &limits).expect_err("refused").to_string();
    assert!(error.contains("is 16x16, the tags say 64x64"), "{error}");
    let _ = take_in(&read("zz-explicit.dcm"), &limits);
    let [un, control] = ["un.dcm", "un-control.dcm"]
        .map(|name| take_in(&read(name), &limits).expect("it is taken in"));
    assert_eq!(un.frames, control.frames);
    assert_eq!(un.stored, control.stored);
    assert_eq!(un.identifiers.patient(), control.identifiers.patient());
}

#[test]
fn cases_of_disagreeing_headers_are_read_as_the_standard_says() {
    let Some(folder) = crate::test_data("cases") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a case");
    let disagrees = |name: &str| read(&format!("codestream-disagrees-with-tags/{name}.dcm"));
    let middle_row = |bytes: &[u8]| grey(bytes)[31 * 64..32 * 64].to_vec();

    let ramp: Vec<f32> = (0..64).map(|column| (column * 4) as f32).collect();
    assert_eq!(middle_row(&disagrees("alloc16-stored8-lossless")), ramp);
    let lossy = middle_row(&disagrees("alloc16-stored8-jpeg"));
    assert!(lossy.iter().zip(&ramp).all(|(one, other)| (one - other).abs() < 6.0), "{lossy:?}");
    for name in [
        "tags64-stream32-jpeg",
        "tags64-stream32-j2k",
        "tags-rgb-stream-grey-j2k",
        "tags8-stream16-j2k",
        "tags-grey-stream-rgb-jpeg",
    ] {
        assert!(refusal(&disagrees(name)).contains("the tags say"), "{name}");
    }
    let folder = folder.join("un-sequence-of-undefined-length");
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "dcm") {
            let values = grey(&std::fs::read(entry.path()).expect("a case"));
            assert!(values.windows(2).any(|two| two[0] != two[1]), "{:?}", entry.path());
        }
    }
    let high = grey(&read("high-bit-above-bits-stored/high-bit-15.dcm"));
    assert!(high.iter().any(|value| *value > 0.0));
}
