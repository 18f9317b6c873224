//! Real DICOM files of every kind, each frame of them as it is stored here, against what other
//! decoders read from them.
//!
//! `LVMED_TEST_DATA` names the folder of the test data; without it these tests are skipped. Its
//! manifest has the readings of several decoders for the first frame of each file; those of pydicom
//! for all frames are in `fixtures/dicom_frames.json`, written by `scripts/fixtures/dicom_frames.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, InMemDicomObject};
use lvmed::config::Limits;
use lvmed::domain::Sha256;
use lvmed::imaging::{ImagingError, Picture, Samples, decode_frame, take_in};
use rayon::prelude::*;
use serde::Deserialize;

use crate::skipped::{Need, skip};

/// No file of the corpus may take longer, in an unoptimised build on a busy machine.
const LONGEST: Duration = Duration::from_secs(30);
/// Shorter texts stand in binary data by chance.
const SHORTEST_IDENTIFIER: usize = 5;
/// Transfer syntaxes that lose something: decoders may round differently.
const LOSSY: &[&str] = &[
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
];
/// Grey levels by which the means of two decoders of lossy data may differ.
const LOSSY_MEAN: f64 = 0.1;
/// And those of colours that were converted to RGB and back.
const CONVERTED_MEAN: f64 = 0.5;

/// Files that other decoders read and that are refused here: part of the path, part of the message,
/// why. An entry that matches no refused file fails the test.
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "compressed as JPEG-LS", "the decoders of JPEG-LS are C++"),
    ("wg04/JPLY/MR1_JPLY", "12-bit JPEG", "most decoders refuse it"),
    ("wg04/JPLY/XA1_JPLY", "12-bit JPEG", "most decoders refuse it"),
    ("pydicom/JPEG-lossy.dcm", "12-bit JPEG", "most decoders refuse it"),
    ("pydicom/JPGExtended.dcm", "12-bit JPEG", "most decoders refuse it"),
    ("pydicom-data/OT-PAL-8-face.dcm", "is not a PNG", "a bare data set without a header"),
    ("pydicom-data/JLSL_RGB_ILV", "is not a PNG", "a bare data set without a header"),
    ("pydicom-data/JLSN_RGB_ILV", "is not a PNG", "a bare data set without a header"),
    ("pydicom-data/parametric_map", "floating-point", "not read: no grey levels are recorded"),
];

/// Files that are read here and whose values no other decoder gives: the path and why. An entry
/// that agrees after all fails the test.
const DIFFERENT: &[(&str, &str)] = &[(
    "pydicom-data/SC_rgb_jpeg_lossy_gdcm.dcm",
    "it says RGB, but its JFIF data are YCbCr, which the others leave as they are",
)];

/// Files that other decoders give up on and that are read here. The rest of them is refused.
const READ_HERE_ONLY: &[(&str, &str)] =
    &[("pydicom/badVR.dcm", "the wrong VR stands in an element that pixels do not need")];

#[derive(Deserialize)]
struct Entry {
    path: String,
    transfer_syntax: String,
    photometric: String,
    samples: String,
    frames: String,
    bits_allocated: String,
    bits_stored: String,
    expect: String,
    modality_lut_seq: bool,
    #[serde(default)]
    oracle_frame0_stored: BTreeMap<String, Oracle>,
}

/// The reading of the first frame by another decoder, or its error.
#[derive(Deserialize)]
#[serde(untagged)]
enum Oracle {
    Read(Reading),
    Failed(#[expect(dead_code, reason = "that it failed is enough")] String),
}

#[derive(Deserialize)]
struct Reading {
    shape: Vec<usize>,
    dtype: String,
    min: f64,
    max: f64,
    mean: f64,
    sha256_16: String,
}

/// The reading by pydicom of every frame of a file: least, greatest and mean value, and a hash.
#[derive(Deserialize)]
struct AllFrames {
    dtype: String,
    frames: Vec<(f64, f64, f64, String)>,
}

/// The extent of the comparison of a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Agreement {
    /// Every stored value, by the hash of all of them.
    EveryValue,
    /// Least, greatest and mean value: hashes of lossy or of very wide values differ by rounding.
    Statistics,
    /// Width and height only, as the values here are other ones by design.
    Shape(&'static str),
    /// Refused.
    Refused(String),
    /// The values differ.
    Different(String),
}

struct Corpus {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Corpus {
    fn open() -> Option<Self> {
        let Some(data) = std::env::var_os("LVMED_TEST_DATA") else {
            skip(Need::TestData, "LVMED_TEST_DATA is not set");
            return None;
        };
        let folder = Path::new(&data).join("dicom");
        let manifest = std::fs::read(folder.join("manifest.json")).expect("a manifest");
        let entries = serde_json::from_slice(&manifest).expect("the manifest is understood");
        Some(Self { folder, entries })
    }

    fn read(&self, entry: &Entry) -> Vec<u8> {
        std::fs::read(self.folder.join(&entry.path)).expect("a file of the manifest")
    }

    fn expected(&self, decodes: bool) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| (entry.expect == "decode") == decodes)
    }
}

/// Takes a file in as an upload does, and compares every frame as it is read again from what is
/// stored; the first frame by the manifest, all of them by pydicom where it reads them.
fn compare_all(entry: &Entry, bytes: &[u8], all: Option<&AllFrames>) -> Agreement {
    let limits = Limits::default();
    let taken = match take_in(bytes, &limits) {
        Ok(taken) => taken,
        Err(error) => return Agreement::Refused(error.to_string()),
    };
    let expected: usize = entry.frames.parse().unwrap_or(1).max(1);
    if taken.frames.len() != expected {
        return Agreement::Different(format!("{} frames, not {expected}", taken.frames.len()));
    }
    if expected > 1 && all.is_none_or(|all| all.frames.len() != expected) {
        return Agreement::Different("nobody read its further frames".to_owned());
    }
    let mut least = Agreement::EveryValue;
    for frame in 0..expected {
        let picture = match decode_frame(&taken.stored, frame as u32, &limits) {
            Ok(picture) => picture,
            Err(error) => return Agreement::Different(format!("frame {frame} {error}")),
        };
        let by_pydicom = all.and_then(|all| {
            let (min, max, mean, sha256_16) = all.frames.get(frame)?.clone();
            let shape = vec![picture.height as usize, picture.width as usize];
            Some(Reading { shape, dtype: all.dtype.clone(), min, max, mean, sha256_16 })
        });
        let mut readings: Vec<&Reading> = by_pydicom.iter().collect();
        if frame == 0 {
            readings.extend(entry.readings());
        }
        match compare((entry, frame), bytes, &picture, &readings) {
            Agreement::Different(why) => {
                return Agreement::Different(format!("frame {frame}: {why}"));
            }
            found => least = least.max(found),
        }
    }
    least
}

#[test]
fn every_frame_of_every_readable_file_agrees_with_another_decoder() {
    let Some(corpus) = Corpus::open() else { return };
    let entries: Vec<&Entry> = corpus.expected(true).collect();
    let all: BTreeMap<String, AllFrames> =
        serde_json::from_str(include_str!("fixtures/dicom_frames.json")).expect("a fixture");

    let found: Vec<(&Entry, Agreement, Duration)> = entries
        .into_par_iter()
        .map(|entry| {
            let bytes = corpus.read(entry);
            let started = Instant::now();
            let agreement = compare_all(entry, &bytes, all.get(&entry.path));
            (entry, agreement, started.elapsed())
        })
        .collect();
    let further: usize = all.values().map(|all| all.frames.len() - 1).sum();
    assert!(further > 1500, "only {further} frames beyond the first were compared");

    let mut table: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (entry, agreement, took) in &found {
        let kind = match agreement {
            Agreement::Refused(_) => "refused".to_owned(),
            Agreement::Different(_) => "different".to_owned(),
            other => format!("{other:?}"),
        };
        *table.entry((&entry.transfer_syntax, kind)).or_default() += 1;
        let known = match agreement {
            Agreement::Refused(error) => REFUSED
                .iter()
                .any(|(path, part, _)| entry.path.contains(path) && error.contains(part)),
            Agreement::Different(_) => DIFFERENT.iter().any(|(path, _)| *path == entry.path),
            Agreement::EveryValue | Agreement::Statistics | Agreement::Shape(_) => true,
        };
        if !known || *took > LONGEST {
            wrong.push(format!("{} {agreement:?} after {took:?}", entry.path));
        }
    }
    for ((syntax, kind), count) in &table {
        note(&format!("{count:4} {syntax:26} {kind}"));
    }
    let stale_refusals = REFUSED.iter().filter(|(path, part, _)| {
        !found.iter().any(|(entry, agreement, _)| {
            let refused = matches!(agreement, Agreement::Refused(error) if error.contains(part));
            refused && entry.path.contains(path)
        })
    });
    wrong.extend(stale_refusals.map(|(path, _, _)| format!("{path} is refused no longer")));
    let stale_differences = DIFFERENT.iter().filter(|(path, _)| {
        !found.iter().any(|(entry, agreement, _)| {
            entry.path == *path && matches!(agreement, Agreement::Different(_))
        })
    });
    wrong.extend(stale_differences.map(|(path, _)| format!("{path} differs no longer")));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), found.len(), wrong.join("\n"));
}

#[test]
fn what_is_no_picture_is_refused_in_words_and_in_time() {
    let Some(corpus) = Corpus::open() else { return };
    let limits = Limits::default();
    let mut wrong = Vec::new();

    for entry in corpus.expected(false) {
        let bytes = corpus.read(entry);
        let started = Instant::now();
        let decoded = decode_frame(&bytes, 0, &limits);
        let took = started.elapsed();
        let listed = READ_HERE_ONLY.iter().any(|(path, _)| *path == entry.path);
        let as_expected = match &decoded {
            Ok(_) => listed,
            // A panic that was caught is a fault all the same.
            Err(ImagingError::DecoderFailed) => false,
            Err(error) => !listed && error.to_string().split_whitespace().count() > 1,
        };
        if !as_expected || took > LONGEST {
            let told = decoded.map(|picture| (picture.width, picture.height));
            wrong.push(format!("{} {told:?} after {took:?}", entry.path));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_that_is_stored_names_a_patient() {
    let Some(corpus) = Corpus::open() else { return };
    let limits = Limits::default();
    let entries: Vec<&Entry> = corpus.entries.iter().collect();

    let found: Vec<(usize, Vec<String>)> = entries
        .into_par_iter()
        .map(|entry| {
            let bytes = corpus.read(entry);
            let Ok(taken) = take_in(&bytes, &limits) else { return (0, Vec::new()) };
            // What is implicit VR under a syntax of explicit VR is read here only.
            let Ok(object) = dicom_object::from_reader(bytes.as_slice()) else {
                return (0, Vec::new());
            };
            let texts = identifying(&object);
            let told = texts.iter().filter(|(_, text)| holds(&taken.stored, text));
            let told = told.map(|(tag, _)| format!("{}: {tag}", entry.path)).collect();
            (texts.len(), told)
        })
        .collect();

    let searched: usize = found.iter().map(|(texts, _)| texts).sum();
    let told: Vec<String> = found.into_iter().flat_map(|(_, told)| told).collect();
    note(&format!("searched for {searched} identifying values"));
    assert!(searched > 200, "only {searched} identifying values were searched for");
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn what_is_stored_shows_the_same_pictures() {
    let Some(corpus) = Corpus::open() else { return };
    let limits = Limits::default();
    let entries: Vec<&Entry> = corpus.entries.iter().collect();

    let (taken, wrong): (Vec<bool>, Vec<Option<String>>) = entries
        .into_par_iter()
        .map(|entry| {
            let bytes = corpus.read(entry);
            let Ok(taken) = take_in(&bytes, &limits) else { return (false, None) };
            let last = taken.frames.len() as u32 - 1;
            let is_same = |frame: u32| {
                let [shown, kept] = [&bytes, &taken.stored]
                    .map(|bytes| decode_frame(bytes, frame, &limits).map_err(|e| e.to_string()));
                shown.is_ok() && shown == kept
            };
            let again =
                take_in(&taken.stored, &limits).is_ok_and(|again| again.stored == taken.stored);
            let same = is_same(0) && is_same(last) && again;
            (true, (!same).then(|| entry.path.clone()))
        })
        .unzip();

    assert!(taken.into_iter().filter(|taken| *taken).count() > 200, "few files were taken in");
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Entry {
    /// The readings of its first frame by the other decoders.
    fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.oracle_frame0_stored.values().filter_map(|oracle| match oracle {
            Oracle::Read(reading) => Some(reading),
            Oracle::Failed(_) => None,
        })
    }
}

/// Compares the picture of a frame with the readings of the other decoders.
fn compare(
    (entry, frame): (&Entry, usize),
    bytes: &[u8],
    picture: &Picture,
    readings: &[&Reading],
) -> Agreement {
    assert!(!readings.is_empty(), "{} was read by nobody", entry.path);
    let size = [picture.height as usize, picture.width as usize];
    if !readings.iter().any(|reading| reading.shape.starts_with(&size)) {
        return Agreement::Different(format!("{size:?} is not {:?}", readings[0].shape));
    }
    let values = match (&picture.samples, entry.samples.as_str()) {
        (Samples::Rgb(_), "1") => return Agreement::Shape("a palette was applied"),
        (Samples::Rgb(values), _) if entry.bits_allocated != "8" => {
            let stored: i32 = entry.bits_stored.parse().expect("a number of bits");
            return narrowed(values, readings, 2_f64.powi(stored - 8));
        }
        (Samples::Rgb(values), _) if entry.photometric.starts_with("YBR_FULL") => {
            return converted(values, readings);
        }
        (Samples::Rgb(values), _) => values.iter().map(|value| f64::from(*value)).collect(),
        (Samples::Gray(_), _) if entry.modality_lut_seq => {
            return Agreement::Shape("a modality table was applied");
        }
        (Samples::Gray(values), _) => {
            let object = dicom_object::from_reader(bytes).expect("it was parsed");
            stored_values((&object, frame), entry.photometric == "MONOCHROME1", values)
        }
    };
    let exact = readings.iter().any(|reading| hash(&values, &reading.dtype) == reading.sha256_16);
    if exact {
        return Agreement::EveryValue;
    }
    let own = Summary::of(&values);
    let lossy = LOSSY.contains(&entry.transfer_syntax.as_str());
    if readings.iter().any(|reading| own.is_close_to(reading, lossy)) {
        return Agreement::Statistics;
    }
    let others: Vec<String> =
        readings.iter().map(|r| format!("{} {} {:.4}", r.min, r.max, r.mean)).collect();
    let Summary { min, max, mean } = own;
    Agreement::Different(format!("{min} {max} {mean:.4}, not {}", others.join(", ")))
}

/// Colours of more than 8 bits, of which the upper 8 were kept.
fn narrowed(values: &[u8], readings: &[&Reading], unit: f64) -> Agreement {
    let own = Summary::of(&values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
    let agrees = readings.iter().any(|reading| {
        let pairs = [(reading.min, own.min), (reading.max, own.max), (reading.mean, own.mean)];
        pairs.into_iter().all(|(wide, own)| (0.0..1.0).contains(&(wide / unit - own)))
    });
    if agrees { Agreement::Statistics } else { own.differs("of narrowed colours") }
}

/// Colours that the other decoders leave as YCbCr and that are RGB here: the mean of each, as far
/// as rounding twice allows.
fn converted(values: &[u8], readings: &[&Reading]) -> Agreement {
    // PS3.3 C.7.6.3.1.2, YBR_FULL: the sum of Y, Cb and Cr.
    let back = values.chunks_exact(3).map(|rgb| {
        let [r, g, b] = [f64::from(rgb[0]), f64::from(rgb[1]), f64::from(rgb[2])];
        let y = 0.299 * r + 0.587 * g + 0.114 * b;
        (y + (b - y) / 1.772 + (r - y) / 1.402 + 256.0) / 3.0
    });
    let own = Summary::of(&back.collect::<Vec<_>>());
    let agrees = readings.iter().any(|reading| (own.mean - reading.mean).abs() < CONVERTED_MEAN);
    if agrees { Agreement::Statistics } else { own.differs("once converted back") }
}

struct Summary {
    min: f64,
    max: f64,
    mean: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: values.iter().sum::<f64>() / values.len() as f64,
        }
    }

    fn differs(&self, what: &str) -> Agreement {
        let Self { min, max, mean } = self;
        Agreement::Different(format!("{min} {max} {mean:.4} {what}"))
    }

    fn is_close_to(&self, reading: &Reading, lossy: bool) -> bool {
        // 32-bit floats, in which pictures are kept, hold 24 bits of a value.
        let wide = reading.max.abs().max(reading.min.abs()) > f64::from(1 << 24);
        let (of_mean, of_ends) = match (lossy, wide) {
            (true, _) => (LOSSY_MEAN, 8.0),
            (false, true) => (reading.max.abs() * 1e-6, reading.max.abs() * 1e-6),
            (false, false) => return false,
        };
        (self.mean - reading.mean).abs() <= of_mean
            && (self.min - reading.min).abs() <= of_ends
            && (self.max - reading.max).abs() <= of_ends
    }
}

/// Undoes the rescaling (PS3.3 C.11.1) and the inversion: the values as they are stored.
fn stored_values(
    (object, frame): (&DefaultDicomObject, usize),
    inverted: bool,
    values: &[f32],
) -> Vec<f64> {
    let number = |tag| rescale(object, frame, tag);
    let slope = number(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0).unwrap_or(1.0);
    let intercept = number(tags::RESCALE_INTERCEPT).unwrap_or(0.0);
    let integer = |tag: Tag| object.element(tag).ok()?.to_int::<i32>().ok();
    let span = 2_f64.powi(integer(tags::BITS_STORED).unwrap_or(16));
    let signed = integer(tags::PIXEL_REPRESENTATION) == Some(1);
    let ends = if signed { -1.0 } else { span - 1.0 };
    let undo = |value: &f32| {
        let stored = |value: f64| (value - intercept) / slope;
        let value = f64::from(*value);
        // Inverted about the ends of what can be stored: low + high - stored.
        let stored = if inverted { ends - stored(value) } else { stored(value) };
        stored.round()
    };
    values.iter().map(undo).collect()
}

/// A number of the object or of the functional groups of a frame (PS3.3 C.7.6.16).
fn rescale(object: &InMemDicomObject, frame: usize, tag: Tag) -> Option<f64> {
    let number = |object: &InMemDicomObject| -> Option<f64> {
        let element = object.element_opt(tag).ok()??;
        // Sent as of unknown representation it is the same text (PS3.5 6.2.2).
        let bytes = element.to_bytes().ok()?;
        let text = std::str::from_utf8(&bytes).ok()?.trim_matches(['\0', ' ']);
        if element.vr() == VR::UN { text.parse().ok() } else { element.to_float64().ok() }
    };
    let item = |object: &InMemDicomObject, tag: Tag, at: usize| -> Option<InMemDicomObject> {
        object.element_opt(tag).ok()??.items()?.get(at).cloned()
    };
    let groups = [
        (tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame),
        (tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0),
    ];
    number(object).or_else(|| {
        groups.into_iter().find_map(|(group, at)| {
            let group = item(object, group, at)?;
            number(&item(&group, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, 0)?)
        })
    })
}

/// The first 16 digits of the SHA-256 of the values, each written as `dtype`; `>` is big endian.
fn hash(values: &[f64], dtype: &str) -> String {
    let mut bytes = Vec::with_capacity(values.len() * 8);
    for value in values {
        let start = bytes.len();
        match dtype {
            "uint8" => bytes.push(*value as u8),
            "int8" => bytes.extend((*value as i8).to_le_bytes()),
            "uint16" | ">u2" => bytes.extend((*value as u16).to_le_bytes()),
            "int16" | ">i2" => bytes.extend((*value as i16).to_le_bytes()),
            "uint32" | ">u4" => bytes.extend((*value as u32).to_le_bytes()),
            "int32" | ">i4" => bytes.extend((*value as i32).to_le_bytes()),
            "float32" => bytes.extend((*value as f32).to_le_bytes()),
            "float64" => bytes.extend(value.to_le_bytes()),
            other => panic!("values of type {other} are not known here"),
        }
        if dtype.starts_with('>') {
            bytes[start..].reverse();
        }
    }
    Sha256::of(&bytes).to_string()[..16].to_owned()
}

/// The values that the object tells of its patient, long enough to be looked for.
fn identifying(object: &InMemDicomObject) -> Vec<(Tag, Vec<u8>)> {
    let wanted =
        [tags::PATIENT_NAME, tags::PATIENT_ID, tags::PATIENT_BIRTH_DATE, tags::ACCESSION_NUMBER];
    let text = |tag: Tag| {
        let text = object.element_opt(tag).ok()??.to_str().ok()?;
        let text = text.trim_matches(['\0', ' ']).as_bytes().to_vec();
        (text.len() >= SHORTEST_IDENTIFIER).then_some((tag, text))
    };
    wanted.into_iter().filter_map(text).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[expect(clippy::print_stderr, reason = "a person who runs the tests reads it")]
fn note(text: &str) {
    eprintln!("{text}");
}
