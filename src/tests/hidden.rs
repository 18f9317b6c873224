//! Names hidden beside pixels, in all the places that compressed and plain pictures have for them: they
//! are gone from what is stored, and the picture is the same.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use lvmed::config::Limits;
use lvmed::imaging::{decode_all, take_in};

use crate::raw_dicom::{Coding, Shape, compressed, file, fragments};

const TOKEN: &[u8] = b"QZXCANARY^JOHN";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const JPEG_XL: &str = "1.2.840.10008.1.2.4.110";
const RLE: &str = "1.2.840.10008.1.2.5";

const GREY: Shape = Shape { columns: 40, rows: 24, samples: 1, allocated: 8, stored: 8 };
const COLOUR: Shape = Shape { samples: 3, ..GREY };

macro_rules! picture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/pictures/", $name)).as_slice()
    };
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(TOKEN.len()).any(|window| window == TOKEN)
}

/// The file holds the token; what is stored does not, and shows the same pictures.
fn assert_is_removed(dirty: &[u8], place: &str) {
    let limits = Limits::default();
    assert!(holds(dirty), "{place}: the token is not there");
    let taken = take_in(dirty, &limits).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(!holds(&taken.stored), "{place}: the token is stored");
    let shown = decode_all(dirty, &limits).expect("the file decodes");
    let kept = decode_all(&taken.stored, &limits).unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(shown == kept, "{place}: the picture has changed");
    // What is stored stays as it is when it comes again.
    let again = take_in(&taken.stored, &limits).expect("it is taken again");
    assert!(again.stored == taken.stored, "{place}: it is stored differently when it comes again");
}

/// The same picture without the token and with it.
fn assert_same_picture(clean: &[u8], dirty: &[u8], place: &str) {
    let limits = Limits::default();
    let [clean, dirty] = [clean, dirty].map(|bytes| decode_all(bytes, &limits));
    let (clean, dirty) = (clean.expect("it decodes"), dirty.expect("it decodes"));
    assert!(clean == dirty, "{place}: another picture");
}

fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat()
}

/// The place where the marker stands.
fn find(bytes: &[u8], marker: [u8; 2]) -> usize {
    bytes.windows(2).position(|two| two == marker).expect("the marker is there")
}

fn inserted(bytes: &[u8], at: usize, what: &[u8]) -> Vec<u8> {
    [&bytes[..at], what, &bytes[at..]].concat()
}

/// JPEG data with the token in each of the places that they have for it.
fn dirty_jpegs(clean: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let scan = find(clean, [0xFF, 0xDA]);
    let end = clean.len() - 2;
    let jfif = [b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", TOKEN].concat();
    let adobe = [b"Adobe\0\x64\0\0\0\0\x01", TOKEN].concat();
    // A table of a number that no component uses.
    let mut table = vec![3];
    table.extend(TOKEN.iter().cycle().take(64));
    let mut codes = vec![0x13, 0, 0, 0, TOKEN.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    codes.extend(TOKEN);
    vec![
        ("a comment", inserted(clean, 2, &segment(0xFE, TOKEN))),
        ("EXIF", inserted(clean, 2, &segment(0xE1, &[b"Exif\0\0", TOKEN].concat()))),
        ("APP13", inserted(clean, scan, &segment(0xED, TOKEN))),
        ("the tail of JFIF", [b"\xFF\xD8", &segment(0xE0, &jfif)[..], &clean[20..]].concat()),
        ("the tail of Adobe", inserted(clean, 20, &segment(0xEE, &adobe))),
        ("JFXX", inserted(clean, 20, &segment(0xE0, &[b"JFXX\0", TOKEN].concat()))),
        ("an unused table", inserted(clean, scan, &segment(0xDB, &table))),
        ("unused codes", inserted(clean, scan, &segment(0xC4, &codes))),
        ("a comment after the scan", inserted(clean, end, &segment(0xFE, TOKEN))),
        ("bytes after the scan", inserted(clean, end, TOKEN)),
        ("bytes after the end", [clean, TOKEN].concat()),
        ("an unknown segment", inserted(clean, scan, &segment(0xF1, TOKEN))),
    ]
}

#[test]
fn nothing_hides_in_jpeg_data_of_any_kind() {
    for (clean, shape, photometric) in [
        (picture!("grey-restarts.jpg"), GREY, "MONOCHROME2"),
        (picture!("grey-progressive.jpg"), GREY, "MONOCHROME2"),
        (picture!("colour-420.jpg"), COLOUR, "YBR_FULL_422"),
        (picture!("colour-restarts.jpg"), COLOUR, "YBR_FULL_422"),
        (picture!("colour-progressive.jpg"), COLOUR, "YBR_FULL_422"),
    ] {
        for (place, dirty) in dirty_jpegs(clean) {
            // Adobe's mark says that colours are transformed, which grey ones are not.
            let is_mark = place.contains("Adobe");
            assert_is_removed(&dirty, place);
            let wrapped = compressed(JPEG, shape, photometric, &[&dirty]);
            assert_is_removed(&wrapped, place);
            if !is_mark {
                assert_same_picture(clean, &dirty, place);
                let clean = compressed(JPEG, shape, photometric, &[clean]);
                assert_same_picture(&clean, &wrapped, place);
            }
        }
    }
}

#[test]
fn nothing_hides_between_scans_or_across_fragments() {
    let clean = picture!("grey-progressive.jpg");
    let first = find(clean, [0xFF, 0xDA]);
    let second = first + 2 + find(&clean[first + 2..], [0xFF, 0xDA]);
    let between = inserted(clean, second, &segment(0xFE, TOKEN));
    assert_is_removed(&between, "between scans");

    let commented = inserted(clean, 2, &segment(0xFE, TOKEN));
    let parts: Vec<&[u8]> = commented.chunks(8).collect();
    let data_set = [GREY.elements(Coding::Explicit, "MONOCHROME2"), fragments(&parts)].concat();
    let limits = Limits::default();
    let taken = take_in(&file(JPEG, &data_set), &limits).expect("it is taken in");
    assert!(!taken.stored.windows(4).any(|window| window == &TOKEN[4..8]));
    let whole = decode_all(&compressed(JPEG, GREY, "MONOCHROME2", &[clean]), &limits);
    assert_eq!(decode_all(&taken.stored, &limits).ok(), whole.ok());
}

#[test]
fn nothing_hides_in_jpeg_2000_codestreams_or_boxes() {
    for (clean, shape, photometric) in [
        (picture!("grey.j2k"), GREY, "MONOCHROME2"),
        (picture!("colour.j2k"), COLOUR, "YBR_RCT"),
        (picture!("grey-16.j2k"), Shape { allocated: 16, stored: 12, ..GREY }, "MONOCHROME2"),
    ] {
        let tile = find(clean, [0xFF, 0x90]);
        let data = tile + find(&clean[tile..], [0xFF, 0x93]);
        let comment = segment(0x64, &[&[0, 1], TOKEN].concat());
        // The length of the tile-part counts the comment in its header.
        let mut in_tile = inserted(clean, data, &comment);
        let length = u32::from_be_bytes(clean[tile + 6..tile + 10].try_into().expect("four"));
        let length = if length == 0 { 0 } else { length + comment.len() as u32 };
        in_tile[tile + 6..tile + 10].copy_from_slice(&length.to_be_bytes());
        for (place, dirty) in [
            ("a comment", inserted(clean, tile, &comment)),
            ("a comment of a tile", in_tile),
            ("an unknown segment", inserted(clean, tile, &segment(0x6F, TOKEN))),
            ("a segment that is needed elsewhere", inserted(clean, tile, &segment(0x56, TOKEN))),
            ("bytes after the end", [clean, TOKEN].concat()),
        ] {
            let wrapped = compressed(JPEG_2000, shape, photometric, &[&dirty]);
            assert_is_removed(&wrapped, place);
            let clean = compressed(JPEG_2000, shape, photometric, &[clean]);
            assert_same_picture(&clean, &wrapped, place);
        }
    }
    let boxed = picture!("grey.jp2");
    let xml = [&(TOKEN.len() as u32 + 8).to_be_bytes()[..], b"xml ", TOKEN].concat();
    // After the signature and the box of file types.
    let dirty = compressed(JPEG_2000, GREY, "MONOCHROME2", &[&inserted(boxed, 12 + 20, &xml)]);
    assert_is_removed(&dirty, "an XML box");
    let plain = compressed(JPEG_2000, GREY, "MONOCHROME2", &[picture!("grey.j2k")]);
    assert_same_picture(&plain, &dirty, "an XML box");
}

#[test]
fn nothing_hides_in_jpeg_xl_boxes_or_after_its_codestream() {
    for (clean, shape, photometric) in
        [(picture!("grey.jxl"), GREY, "MONOCHROME2"), (picture!("colour.jxl"), COLOUR, "RGB")]
    {
        let part = |kind: &[u8], content: &[u8]| {
            [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
        };
        let boxed = |kind: &[u8]| {
            let start = part(b"JXL ", b"\r\n\x87\n");
            let types = part(b"ftyp", b"jxl \0\0\0\0jxl ");
            [start, types, part(kind, TOKEN), part(b"jxlc", clean)].concat()
        };
        for (place, dirty) in [
            ("an XML box", boxed(b"xml ")),
            ("an Exif box", boxed(b"Exif")),
            ("a box that is packed", boxed(b"brob")),
            ("bytes after the end", [clean, TOKEN].concat()),
        ] {
            let wrapped = compressed(JPEG_XL, shape, photometric, &[&dirty]);
            assert_is_removed(&wrapped, place);
            let clean = compressed(JPEG_XL, shape, photometric, &[clean]);
            assert_same_picture(&clean, &wrapped, place);
        }
    }
}

#[test]
fn nothing_hides_in_run_length_encoded_frames() {
    let shape = Shape { columns: 4, rows: 1, ..GREY };
    let mut frame: Vec<u8> = [1_u32, 64].into_iter().flat_map(u32::to_le_bytes).collect();
    frame.resize(64, 0);
    let clean = [&frame[..], &[3, 10, 20, 30, 40]].concat();
    let mut header = clean.clone();
    header[20..20 + TOKEN.len()].copy_from_slice(TOKEN);
    // The copy goes on beyond the last pixel.
    let copy = [&frame[..], &[3 + TOKEN.len() as u8, 10, 20, 30, 40], TOKEN].concat();
    let mut gap = [&frame[..], TOKEN, &[3, 10, 20, 30, 40]].concat();
    gap[4] = 64 + TOKEN.len() as u8;

    for (place, dirty) in [
        ("unused offsets", header),
        ("the end of a copy", copy),
        ("before the segment", gap),
        ("after the segment", [&clean[..], TOKEN].concat()),
    ] {
        let wrapped = compressed(RLE, shape, "MONOCHROME2", &[&dirty]);
        assert_is_removed(&wrapped, place);
        let clean = compressed(RLE, shape, "MONOCHROME2", &[&clean]);
        assert_same_picture(&clean, &wrapped, place);
    }
}

/// Words with every bit set above the twelve that are stored.
fn with_overlay(words: &[u16]) -> Vec<u16> {
    words.iter().map(|word| word | 0xF000).collect()
}

#[test]
fn overlays_in_unused_bits_and_bytes_after_the_last_frame_are_gone() {
    let shape = Shape { columns: 4, rows: 2, allocated: 16, stored: 12, ..GREY };
    let words = [0_u16, 1, 2, 1000, 4095, 7, 8, 9];
    for coding in Coding::ALL {
        let head = shape.elements(coding, "MONOCHROME2");
        let pixels = |words: &[u16]| {
            let data_set = [&head[..], &coding.words((0x7FE0, 0x10), "OW", words)].concat();
            file(coding.syntax(), &data_set)
        };
        let limits = Limits::default();
        let (clean, dirty) = (pixels(&words), pixels(&with_overlay(&words)));

        let [clean_stored, stored] =
            [&clean, &dirty].map(|bytes| take_in(bytes, &limits).expect("it is taken in").stored);

        assert!(stored == clean_stored, "{coding:?}: the overlay is stored");
        assert_same_picture(&clean, &dirty, "an overlay");

        let mut tail = words.to_vec();
        tail.extend(TOKEN.chunks_exact(2).map(|two| match coding {
            Coding::Big => u16::from_be_bytes([two[0], two[1]]),
            Coding::Explicit | Coding::Implicit => u16::from_le_bytes([two[0], two[1]]),
        }));
        assert_is_removed(&pixels(&tail), "bytes after the last frame");
        assert_same_picture(&clean, &pixels(&tail), "bytes after the last frame");
    }
}

#[test]
fn a_padding_of_bits_is_no_place_either() {
    let shape = Shape { columns: 3, rows: 3, allocated: 1, stored: 1, ..GREY };
    let pixels = |bytes: &[u8]| {
        let coding = Coding::Explicit;
        let element = coding.element((0x7FE0, 0x10), "OB", bytes.len() as u32, bytes);
        let data_set = [shape.elements(coding, "MONOCHROME2"), element].concat();
        take_in(&file(coding.syntax(), &data_set), &Limits::default()).expect("it is taken").stored
    };

    assert!(pixels(&[0b1010_1010, 0b1111_1111]) == pixels(&[0b1010_1010, 0b0000_0001]));
}

#[test]
fn tables_hold_no_more_than_pixels_refer_to() {
    let shape = Shape { columns: 2, rows: 1, ..GREY };
    let coding = Coding::Explicit;
    let descriptor = |number: u16| coding.words((0x28, 0x1100 + number), "US", &[64, 0, 16]);
    // Two pixels refer to entries 1 and 2; the rest of the table spells the token.
    let mut entries: Vec<u16> = vec![0, 100 << 8, 200 << 8];
    entries.extend(TOKEN.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])));
    entries.resize(64, 0);
    let mut tail = vec![0, 100 << 8, 200 << 8];
    tail.resize(64, 0);
    tail.extend(TOKEN.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])));
    for (place, table) in [("unused entries", entries), ("the tail of a table", tail)] {
        let data_set = [
            shape.elements(coding, "PALETTE COLOR"),
            (1..=3).flat_map(descriptor).collect(),
            (1..=3).flat_map(|n| coding.words((0x28, 0x1200 + n), "OW", &table)).collect(),
            coding.element((0x7FE0, 0x10), "OB", 2, &[1, 2]),
        ];
        assert_is_removed(&file(coding.syntax(), &data_set.concat()), place);

        let lut = [
            coding.words((0x28, 0x3002), "US", &[64, 0, 16]),
            coding.words((0x28, 0x3006), "OW", &table),
        ];
        let item = coding.element((0xFFFE, 0xE000), "", lut.concat().len() as u32, &lut.concat());
        let data_set = [
            shape.elements(coding, "MONOCHROME2"),
            coding.element((0x28, 0x3000), "SQ", item.len() as u32, &item),
            coding.element((0x28, 0x3010), "SQ", item.len() as u32, &item),
            coding.element((0x7FE0, 0x10), "OB", 2, &[1, 2]),
        ];
        assert_is_removed(&file(coding.syntax(), &data_set.concat()), place);
    }
    // A grey picture has no use for a palette.
    let data_set = [
        shape.elements(coding, "MONOCHROME2"),
        coding.element((0x28, 0x1201), "OW", TOKEN.len() as u32, TOKEN),
        coding.element((0x7FE0, 0x10), "OB", 2, &[1, 2]),
    ];
    assert_is_removed(&file(coding.syntax(), &data_set.concat()), "a palette of no use");
}

#[test]
fn numbers_are_numbers_under_any_representation() {
    let shape = Shape { columns: 2, rows: 1, ..GREY };
    let coding = Coding::Explicit;
    for (tag, vr) in [
        ((0x28, 0x30), "OB"),
        ((0x28, 0x30), "FD"),
        ((0x28, 0x30), "UN"),
        ((0x18, 0x50), "FL"),
        ((0x28, 0x120), "US"),
        ((0x28, 0x1050), "UL"),
        ((0x28, 0x1053), "FD"),
        ((0x28, 0x0034), "SL"),
        ((0x28, 0x0106), "OW"),
    ] {
        let data_set = [
            shape.elements(coding, "MONOCHROME2"),
            coding.element(tag, vr, TOKEN.len() as u32, TOKEN),
            coding.element((0x7FE0, 0x10), "OB", 2, &[1, 2]),
        ];
        assert_is_removed(&file(coding.syntax(), &data_set.concat()), &format!("{tag:04X?} {vr}"));
    }
}

fn chunk(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(&kind);
    sum.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&length[..], &kind, content, &sum.sum().to_be_bytes()].concat()
}

fn png(colour: u8, depth: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [0, 0, 0, 4, 0, 0, 0, 2, depth, colour, 0, 0, 0];
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(*b"IHDR", &header));
    chunks.iter().for_each(|chunk| bytes.extend(chunk));
    bytes.extend(chunk(*b"IEND", &[]));
    bytes
}

fn packed(raw: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(raw).expect("written");
    encoder.finish().expect("finished")
}

#[test]
fn nothing_hides_in_png_chunks_or_behind_their_data() {
    let raw = [0, 1, 2, 3, 4, 0, 5, 6, 7, 8];
    let data = packed(&raw);
    let long = packed(&[&raw[..], TOKEN].concat());
    let text = chunk(*b"tEXt", &[b"Name\0", TOKEN].concat());
    let palette: Vec<u8> =
        [&[9, 9, 9, 1, 1, 1, 2, 2, 2], TOKEN].concat().into_iter().chain([0; 37]).collect();
    let indices = packed(&[0, 0, 1, 2, 0, 0, 2, 1, 0, 1]);
    let alpha = packed(&[&[0, 1, TOKEN[0], 2, TOKEN[1], 3, 0, 4, 0][..], &[0; 9]].concat());
    for (place, dirty) in [
        ("text", png(0, 8, &[text, chunk(*b"IDAT", &data)])),
        ("after the packed data", png(0, 8, &[chunk(*b"IDAT", &[&data[..], TOKEN].concat())])),
        ("in a chunk of its own", png(0, 8, &[chunk(*b"IDAT", &data), chunk(*b"IDAT", TOKEN)])),
        ("after the picture", png(0, 8, &[chunk(*b"IDAT", &long)])),
        ("an unknown chunk", png(0, 8, &[chunk(*b"naMe", TOKEN), chunk(*b"IDAT", &data)])),
        (
            "unused colours",
            png(3, 8, &[chunk(*b"PLTE", &palette[..60]), chunk(*b"IDAT", &indices)]),
        ),
        ("after the end", [&png(0, 8, &[chunk(*b"IDAT", &data)])[..], TOKEN].concat()),
    ] {
        assert_is_removed(&dirty, place);
    }
    let limits = Limits::default();
    let clean = png(
        4,
        8,
        &[chunk(*b"IDAT", &packed(&[0, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))],
    );
    let dirty = png(4, 8, &[chunk(*b"IDAT", &alpha)]);
    let [clean, dirty] = [clean, dirty].map(|png| take_in(&png, &limits).expect("taken").stored);
    assert!(clean == dirty, "the alpha channel is stored");
    let bits = png(0, 8, &[chunk(*b"sBIT", TOKEN), chunk(*b"IDAT", &data)]);
    assert!(!holds(&take_in(&bits, &limits).expect("taken").stored), "in significant bits");
}
