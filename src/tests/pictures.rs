//! Generated pictures and archives: two classes that differ, noise that repeats.

use std::io::{Cursor, Write};

use image::{GrayImage, ImageFormat, Luma};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A grey PNG, bright on the left for class 0 and on the right for class 1, with noise by number.
pub(crate) fn png(class: usize, number: u32, size: u32) -> Vec<u8> {
    let picture = GrayImage::from_fn(size, size, |x, y| {
        let bright = (x < size / 2) == (class == 0);
        let mixed = (x * 31 + y * 17 + number * 101).wrapping_mul(2_654_435_761) >> 26;
        Luma([if bright { 150 + mixed as u8 } else { 40 + mixed as u8 }])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("a picture encodes");
    bytes.into_inner()
}

/// A ZIP of the given entries.
pub(crate) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(name, SimpleFileOptions::default()).expect("an entry starts");
        archive.write_all(bytes).expect("an entry is written");
    }
    archive.finish().expect("an archive ends").into_inner()
}

/// A folder-per-class archive with `each` pictures of `left` and of `right`.
pub(crate) fn two_classes(each: u32, size: u32) -> Vec<u8> {
    let entries: Vec<(String, Vec<u8>)> = ["left", "right"]
        .into_iter()
        .enumerate()
        .flat_map(|(class, name)| {
            (0..each).map(move |n| {
                (format!("{name}/{n}.png"), png(class, n + 1000 * class as u32, size))
            })
        })
        .collect();
    zip(&entries)
}
