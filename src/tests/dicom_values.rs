//! Generated DICOM files whose pixels are kept in the less usual ways: the values are the right ones.

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use lvmed::config::Limits;
use lvmed::imaging::{Samples, decode_all, decode_frame, take_in};

/// Retired, and still found.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Columns, rows, frames, samples and bits of a sample.
#[derive(Clone, Copy)]
struct Shape(u16, u16, u16, u16, u16);

/// A file of this shape without its pixel data.
fn object(shape: Shape, photometric: &str) -> InMemDicomObject {
    let Shape(columns, rows, frames, samples, bits) = shape;
    let mut object = InMemDicomObject::new_empty();
    let mut put =
        |tag: Tag, vr, value: PrimitiveValue| object.put(DataElement::new(tag, vr, value));
    let number = |number: u16| PrimitiveValue::from(number);
    put(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(uids::CT_IMAGE_STORAGE));
    put(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("2.25.7"));
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from(photometric));
    put(tags::NUMBER_OF_FRAMES, VR::IS, PrimitiveValue::from(frames.to_string()));
    put(tags::SAMPLES_PER_PIXEL, VR::US, number(samples));
    put(tags::PLANAR_CONFIGURATION, VR::US, number(0));
    put(tags::COLUMNS, VR::US, number(columns));
    put(tags::ROWS, VR::US, number(rows));
    put(tags::BITS_ALLOCATED, VR::US, number(bits));
    put(tags::BITS_STORED, VR::US, number(bits));
    put(tags::HIGH_BIT, VR::US, number(bits - 1));
    put(tags::PIXEL_REPRESENTATION, VR::US, number(0));
    object
}

fn file(object: InMemDicomObject, syntax: &str) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.7");
    let file = object.with_meta(meta).expect("a complete meta table");
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).expect("a file in memory");
    bytes
}

fn native(
    shape: Shape,
    photometric: &str,
    vr: VR,
    pixels: PrimitiveValue,
    syntax: &str,
) -> Vec<u8> {
    let mut object = object(shape, photometric);
    object.put(DataElement::new(tags::PIXEL_DATA, vr, pixels));
    file(object, syntax)
}

fn encapsulated(shape: Shape, photometric: &str, fragment: Vec<u8>, syntax: &str) -> Vec<u8> {
    let mut object = object(shape, photometric);
    let fragments = PixelFragmentSequence::new(Vec::<u32>::new(), vec![fragment]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(fragments)));
    file(object, syntax)
}

/// The grey values of each frame, of the file and of what is stored of it, which must be the same.
fn grey(bytes: &[u8]) -> Vec<Vec<f32>> {
    let limits = Limits::default();
    let stored = take_in(bytes, &limits).expect("it is taken in").stored;
    let [own, kept] = [bytes, &stored].map(|bytes| {
        let pictures = decode_all(bytes, &limits).expect("it decodes").into_iter();
        let values = pictures.map(|picture| match picture.samples {
            Samples::Gray(values) => values,
            Samples::Rgb(_) => panic!("colours"),
        });
        values.collect::<Vec<_>>()
    });
    assert_eq!(own, kept);
    own
}

fn colours(bytes: &[u8]) -> Vec<u8> {
    let limits = Limits::default();
    let stored = take_in(bytes, &limits).expect("it is taken in").stored;
    let [own, kept] = [bytes, &stored].map(|bytes| {
        let picture = decode_frame(bytes, 0, &limits).expect("it decodes");
        let Samples::Rgb(values) = picture.samples else { panic!("grey") };
        values
    });
    assert_eq!(own, kept);
    own
}

/// A file of `count` square frames, each brightest in another row.
pub(crate) fn frames(count: u16, side: u16) -> Vec<u8> {
    let shape = Shape(side, side, count, 1, 8);
    let value = |at: usize| {
        let size = usize::from(side);
        let (frame, row, column) = (at / (size * size), at / size % size, at % size);
        let bright = row / 4 == frame;
        if bright { 255 } else { (column * 3 + row) as u8 / 2 }
    };
    let pixels = (0..usize::from(count) * usize::from(side).pow(2)).map(value);
    let pixels = PrimitiveValue::from(pixels.collect::<Vec<u8>>());
    native(shape, "MONOCHROME2", VR::OB, pixels, uids::EXPLICIT_VR_LITTLE_ENDIAN)
}

#[test]
fn bits_run_on_from_one_frame_to_the_next() {
    // Two frames of 3x3: the second one starts at bit 9.
    let bytes = PrimitiveValue::from(vec![0b0000_0101_u8, 0b0000_0111, 0b0000_0010, 0]);
    let shape = Shape(3, 3, 2, 1, 1);
    let file = native(shape, "MONOCHROME2", VR::OB, bytes, uids::EXPLICIT_VR_LITTLE_ENDIAN);

    let [first, second] = grey(&file).try_into().expect("two frames");

    assert_eq!(first, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(second, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn wide_samples_of_a_big_endian_file_are_put_in_order() {
    let (value, shape) = (795_000_u32, Shape(1, 1, 1, 1, 32));
    let words = PrimitiveValue::U16([(value >> 16) as u16, value as u16].as_slice().into());
    let plain = PrimitiveValue::from(value.to_be_bytes().to_vec());

    for (vr, pixels) in [(VR::OW, words), (VR::OB, plain)] {
        assert_eq!(
            grey(&native(shape, "MONOCHROME2", vr, pixels, EXPLICIT_VR_BIG_ENDIAN)),
            [[795_000.0]]
        );
    }
}

#[test]
fn two_pixels_of_native_subsampled_colour_share_their_hue() {
    // PS3.3 C.7.6.3.1.2: Y1 Y2 Cb Cr; 128 is no hue.
    let bytes = PrimitiveValue::from(vec![81_u8, 181, 128, 128]);
    let shape = Shape(2, 1, 1, 3, 8);
    let file = native(shape, "YBR_FULL_422", VR::OB, bytes, uids::EXPLICIT_VR_LITTLE_ENDIAN);

    assert_eq!(colours(&file), [81, 81, 81, 181, 181, 181]);
}

#[test]
fn run_length_encoded_colours_are_in_the_model_that_the_file_names() {
    let mut frame: Vec<u8> = [3_u32, 64, 66, 68].into_iter().flat_map(u32::to_le_bytes).collect();
    frame.resize(64, 0);
    frame.extend([0, 76, 0, 85, 0, 255]);
    let shape = Shape(1, 1, 1, 3, 8);

    let ybr = encapsulated(shape, "YBR_FULL", frame.clone(), uids::RLE_LOSSLESS);
    let rgb = encapsulated(shape, "RGB", frame, uids::RLE_LOSSLESS);

    assert_eq!(colours(&ybr), [254, 0, 0]);
    assert_eq!(colours(&rgb), [76, 85, 255]);
}
