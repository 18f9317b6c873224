//! The cost of reading files in processes of their own: the same pictures here and in a child, in
//! turn, alone and as a part of a prediction.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use lvmed::config::{Compute, Device, Limits};
use lvmed::decode::Pool;
use lvmed::domain::{Architecture, Preprocessing};
use lvmed::imaging::{decode_all, prepare};
use lvmed::inference::{Network, Runtime};
use lvmed::nn::weights;
use lvmed::onnx::{Export, export};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Pairs of measurements.
const PAIRS: usize = 101;

fn main() -> Result<(), Failed> {
    let limits = Limits::default();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lvmed"));
    let pool = Pool::start(program, &limits, std::env::temp_dir())?;
    let mut network = resnet50()?;
    let files = [("png-224", png(224)?), ("jpeg-1024", jpeg(1024)?), ("dicom-ct-512", ct(512)?)];
    println!("{:<28} {:>12} {:>12} {:>8}", "case", "child, ms", "here, ms", "ratio");
    let mut lines = Vec::new();
    for (name, bytes) in files {
        let case = format!("intake/boundary/{name}");
        lines.push(measure(&case, &mut || in_child(&pool, &bytes), &mut || here(&bytes, &limits))?);
        let case = format!("intake/boundary-prediction/{name}");
        let network = std::cell::RefCell::new(&mut network);
        lines.push(measure(
            &case,
            &mut || predict(*network.borrow_mut(), &in_child(&pool, &bytes)?),
            &mut || predict(*network.borrow_mut(), &here(&bytes, &limits)?),
        )?);
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

/// Both ways in turn; a row for people, and the line for comparing over time.
fn measure<T>(
    case: &str,
    child: &mut dyn FnMut() -> Result<T, Failed>,
    here: &mut dyn FnMut() -> Result<T, Failed>,
) -> Result<String, Failed> {
    let (mut children, mut ours) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS + 3 {
        let started = Instant::now();
        child()?;
        let between = Instant::now();
        here()?;
        // The first ones warm up.
        if pair >= 3 {
            children.push(between.duration_since(started).as_secs_f64());
            ours.push(between.elapsed().as_secs_f64());
        }
    }
    let (child, here) = (1e3 * median(&mut children), 1e3 * median(&mut ours));
    let ratio = here / child;
    println!("{case:<36} {child:>10.2} {here:>12.2} {ratio:>8.3}");
    Ok(format!(
        "{{\"bench\":\"{case}\",\"ours\":{child:.3},\"peer\":{here:.3},\"ratio\":{ratio:.3},\
         \"unit\":\"ms\",\"better\":\"lower\"}}"
    ))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn in_child(pool: &Pool, bytes: &[u8]) -> Result<Vec<f32>, Failed> {
    // As the server does: what comes in goes to a file without a name.
    let mut file: File = tempfile::tempfile()?;
    file.write_all(bytes)?;
    let mut input = Vec::new();
    let mut budget = pool.budget();
    pool.inputs(&file, &Preprocessing::imagenet(), &mut budget, &mut |frame| {
        input = frame.input;
        ControlFlow::Continue(())
    })?;
    Ok(input)
}

fn here(bytes: &[u8], limits: &Limits) -> Result<Vec<f32>, Failed> {
    let pictures = decode_all(bytes, limits)?;
    let first = pictures.first().ok_or("a picture")?;
    Ok(prepare(first, None, &Preprocessing::imagenet())?)
}

fn predict(network: &mut Network, input: &[f32]) -> Result<Vec<f32>, Failed> {
    Ok(network.run(input, 1)?.embedding)
}

fn resnet50() -> Result<Network, Failed> {
    let tensors = weights::random(Architecture::RESNET50, 1)?;
    let bytes = export(&Export {
        architecture: Architecture::RESNET50,
        tensors: &tensors,
        size: 224,
        head: None,
        metadata: &BTreeMap::new(),
    })?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    let compute = Compute { onnx_runtime: None, device: Device::Cpu, threads: 0 };
    Ok(Runtime::load(&compute)?.open(file.path(), compute.threads())?)
}

fn picture(side: u32) -> GrayImage {
    GrayImage::from_fn(side, side, |x, y| {
        let noise = (x * 31 + y * 17).wrapping_mul(2_654_435_761) >> 28;
        Luma([(((x + y) / 8) as u8).wrapping_add(noise as u8)])
    })
}

fn png(side: u32) -> Result<Vec<u8>, Failed> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture(side)).write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn jpeg(side: u32) -> Result<Vec<u8>, Failed> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture(side)).write_to(&mut bytes, ImageFormat::Jpeg)?;
    Ok(bytes.into_inner())
}

/// An uncompressed CT slice of 16 bits.
fn ct(side: u16) -> Result<Vec<u8>, Failed> {
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, vr, value: PrimitiveValue| object.put(DataElement::new(tag, vr, value));
    put(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(uids::CT_IMAGE_STORAGE));
    put(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("2.25.1"));
    put(tags::MODALITY, VR::CS, PrimitiveValue::from("CT"));
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from("MONOCHROME2"));
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, side),
        (tags::COLUMNS, side),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        put(tag, VR::US, PrimitiveValue::from(value));
    }
    let grey = picture(u32::from(side));
    let pixels: Vec<u16> = grey.pixels().map(|pixel| 900 + u16::from(pixel.0[0])).collect();
    put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into()));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("2.25.1");
    let mut bytes = Vec::new();
    object.with_meta(meta)?.write_all(&mut bytes)?;
    Ok(bytes)
}
