//! The processes that read files: their answers are those of the code they run, their bounds hold.

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lvmed::config::Limits;
use lvmed::decode::{Breach, DecodeError, Frame, Pool, UploadAsk};
use lvmed::domain::Preprocessing;
use lvmed::imaging::{Found, decode_all, prepare, render_png};
use proptest::prelude::*;

use crate::dicoms::ct;
use crate::pictures::{png, zip};

const MIB: u64 = 1 << 20;

fn pool(change: impl FnOnce(&mut Limits)) -> Pool {
    let mut limits = Limits { decode_processes: 1, ..Limits::default() };
    change(&mut limits);
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lvmed"));
    Pool::start(program, &limits, std::env::temp_dir()).expect("children start")
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

fn preprocessing() -> Preprocessing {
    Preprocessing { size: 64, ..Preprocessing::imagenet() }
}

fn inputs(pool: &Pool, bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let mut frames = Vec::new();
    let mut budget = pool.budget();
    pool.inputs(&file(bytes), &preprocessing(), &mut budget, &mut |frame| {
        frames.push(frame);
        ControlFlow::Continue(())
    })?;
    Ok(frames)
}

fn upload(pool: &Pool, bytes: &[u8]) -> (Vec<u64>, Vec<(u64, String)>) {
    let (mut kept, mut rejected) = (Vec::new(), Vec::new());
    let read = pool.upload(&file(bytes), UploadAsk::default(), &mut |found, _| {
        match found {
            Found::Kept(file) => kept.push(file.entry),
            Found::Rejected(file) => rejected.push((file.entry, file.reason)),
            Found::Files(_) | Found::Begun { .. } | Found::FurtherRows(_) | Found::LeftOut(_) => {}
        }
        ControlFlow::Continue(())
    });
    read.expect("the rest is read");
    (kept, rejected)
}

/// A grey PNG of zeros that decodes to so many bytes.
fn large_png(side: u32) -> Vec<u8> {
    let picture = image::GrayImage::new(side, side);
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture encodes");
    bytes.into_inner()
}

/// A JPEG that takes longer than a second to decode.
fn slow_jpeg() -> Vec<u8> {
    let (width, height) = (8000, 8000);
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([x, y, x ^ y].map(|value| value.wrapping_mul(2_654_435_761).to_le_bytes()[2]))
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 75);
    picture.write_with_encoder(encoder).expect("a picture encodes");
    bytes.into_inner()
}

#[test]
fn a_child_answers_what_its_code_would_answer_here() {
    let pool = pool(|_| {});
    let limits = Limits::default();

    for bytes in [png(0, 1, 80), ct(1, 2, "NOBODY")] {
        let pictures = decode_all(&bytes, &limits).expect("pictures");
        let expected = prepare(&pictures[0], None, &preprocessing()).expect("an input");

        let frames = inputs(&pool, &bytes).expect("frames");
        let preview = pool.preview(&file(&bytes), 0, None, 48).expect("a preview");

        assert_eq!(frames, [Frame { frame: 0, input: expected }]);
        assert_eq!(preview, render_png(&pictures[0], None, Some(48)).expect("a PNG"));
    }
}

#[test]
fn a_file_that_needs_too_much_memory_is_refused_in_words_and_the_next_is_read() {
    let pool = pool(|limits| limits.decode_memory_bytes = 160 * MIB);
    let started = Instant::now();

    let error = inputs(&pool, &large_png(8000)).expect_err("too large");

    assert!(matches!(error, DecodeError::Breach(Breach::Memory { .. })), "{error}");
    assert_eq!(
        error.to_string(),
        "needs more than 160 MiB of memory to decode (LVMED_LIMIT_DECODE_MEMORY_BYTES)"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(inputs(&pool, &png(0, 1, 80)).is_ok());
}

#[test]
fn a_file_that_takes_too_long_is_refused_in_words_and_the_next_is_read() {
    let pool = pool(|limits| limits.decode_seconds = 1);
    // A second for the file, and one for each mebibyte of the request: no frame may have more than
    // the first.
    let error = inputs(&pool, &slow_jpeg()).expect_err("too slow");

    assert_eq!(error.to_string(), "takes longer than 1 s to decode (LVMED_LIMIT_DECODE_SECONDS)");
    assert!(inputs(&pool, &png(0, 1, 80)).is_ok());
}

#[test]
fn a_slow_file_sent_alone_is_read_once_and_told_once() {
    let pool = pool(|limits| limits.decode_seconds = 1);
    let slow = slow_jpeg();
    let started = Instant::now();

    let (kept, alone) = upload(&pool, &slow);

    assert!(kept.is_empty() && alone.len() == 1, "{alone:?}");
    assert!(alone[0].1.starts_with("takes longer than 1 s"), "{alone:?}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn a_file_that_breaks_its_child_costs_itself_alone() {
    let pool = pool(|limits| limits.decode_memory_bytes = 160 * MIB);
    let entries = [png(0, 1, 32), large_png(8000), png(1, 2, 32), large_png(8001), png(0, 3, 32)];
    let names = ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"].map(str::to_owned);
    let archive = zip(&names.into_iter().zip(entries).collect::<Vec<_>>());

    let (kept, rejected) = upload(&pool, &archive);

    assert_eq!(kept, [1, 3, 5]);
    let entries: Vec<_> = rejected.iter().map(|(entry, _)| *entry).collect();
    assert_eq!(entries, [2, 4]);
    assert!(rejected.iter().all(|(_, reason)| reason.starts_with("needs more than 160 MiB")));
}

#[test]
fn an_upload_that_breaks_child_after_child_is_given_up_and_says_so() {
    let pool = pool(|limits| {
        (limits.decode_memory_bytes, limits.upload_breaches) = (160 * MIB, 1);
    });
    let entries = [large_png(8000), png(0, 1, 32), large_png(8001), png(1, 2, 32)];
    let names = ["a/1.png", "a/2.png", "b/3.png", "b/4.png"].map(str::to_owned);
    let archive = zip(&names.into_iter().zip(entries).collect::<Vec<_>>());

    let (kept, rejected) = upload(&pool, &archive);

    assert_eq!(kept, [2]);
    let last = rejected.last().expect("it is told");
    assert_eq!(last.0, 4);
    assert!(last.1.contains("LVMED_LIMIT_UPLOAD_BREACHES"), "{}", last.1);
}

#[test]
fn a_child_that_ended_while_it_waited_is_passed_over() {
    let pool = pool(|_| {});
    for child in pool.waiting() {
        let _ = std::process::Command::new("kill").args(["-KILL", &child.to_string()]).status();
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let threads = || {
            let tasks = std::fs::read_dir(format!("/proc/{child}/task"));
            tasks.map_or(0, Iterator::count)
        };
        // Its first thread may be gone before the one that works.
        while !state().contains(") Z ") || threads() > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    assert!(inputs(&pool, &png(0, 1, 80)).is_ok());
}

#[test]
fn a_child_has_no_descriptors_no_secrets_and_no_way_out() {
    let pool = pool(|_| {});
    // It is asked something first: then it has confined itself.
    pool.confined().expect("a child");
    inputs(&pool, &png(0, 1, 80)).expect("an answer");

    for child in pool.waiting() {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{child}/{name}")).expect("the child lives")
        };
        let descriptors = std::fs::read_dir(format!("/proc/{child}/fd")).expect("the child lives");
        assert!(descriptors.count() <= 4, "descriptors of {child}");
        let environment = read("environ");
        let mut others =
            environment.split_terminator('\0').filter(|one| !one.starts_with("MALLOC_"));
        assert_eq!(others.next(), None, "the allocator's settings are all there is");
        assert!(read("status").contains("NoNewPrivs:\t1"), "{}", read("status"));
        assert!(read("status").contains("Seccomp:\t2"), "{}", read("status"));
        let limits = read("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|line| line.contains(" 0 ")), "{limits}");
    }
}

static POOL: LazyLock<Pool> = LazyLock::new(|| pool(|_| {}));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damaged_files_are_an_answer_and_leave_a_child_that_reads(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let whole = ct(0, 1, "NOBODY");
        let mut hurt = whole.clone();
        hurt[at.index(1500)] = byte;

        for bytes in [hurt, whole[..cut.index(whole.len())].to_vec()] {
            if let Err(error) = inputs(&POOL, &bytes) {
                prop_assert!(matches!(error, DecodeError::Refused(_)), "{error}");
            }
        }
        prop_assert!(inputs(&POOL, &whole).is_ok());
    }
}
