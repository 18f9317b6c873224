//! Files that are not read here, told by their first bytes: people learn what they have and what to
//! do with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of file that is known and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foreign {
    /// TIFF, and the formats of microscopes that are TIFF inside.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// GIF.
    Gif,
    /// `WebP`.
    WebP,
    /// HEIC and AVIF, as phones write them.
    Heif,
    /// JPEG XL outside of DICOM.
    JpegXl,
    /// JPEG 2000 outside of DICOM.
    Jpeg2000,
    /// JPEG-LS outside of DICOM.
    JpegLs,
    /// Photoshop.
    Photoshop,
    /// Radiance and `OpenEXR`.
    HighRange,
    /// SVG and other XML.
    Markup,
    /// NIfTI or Analyze, a volume.
    Nifti,
    /// NRRD, a volume.
    Nrrd,
    /// MetaImage, a volume.
    MetaImage,
    /// HDF5, as MINC and h5 files are.
    Hdf5,
    /// `NumPy`.
    Numpy,
    /// PDF.
    Pdf,
    /// A film.
    Video,
    /// A ZIP, where a picture was expected.
    Zip,
    /// Something packed with gzip, such as `.nii.gz` or `.tar.gz`.
    Gzip,
    /// A 7z archive.
    SevenZip,
    /// A RAR archive.
    Rar,
    /// Something packed with bzip2, xz or Zstandard.
    Packed,
    /// A program.
    Program,
    /// A document of an office program from before 2007.
    Office,
}

/// The places where bytes of a kind stand, and the kind.
const MAGIC: &[(usize, &[u8], Foreign)] = &[
    (0, b"II*\0", Foreign::Tiff),
    (0, b"MM\0*", Foreign::Tiff),
    (0, b"II+\0", Foreign::Tiff),
    (0, b"MM\0+", Foreign::Tiff),
    (0, b"GIF8", Foreign::Gif),
    (8, b"WEBP", Foreign::WebP),
    (8, b"AVI ", Foreign::Video),
    (4, b"ftypheic", Foreign::Heif),
    (4, b"ftypheix", Foreign::Heif),
    (4, b"ftyphevc", Foreign::Heif),
    (4, b"ftypmif1", Foreign::Heif),
    (4, b"ftypmsf1", Foreign::Heif),
    (4, b"ftypavif", Foreign::Heif),
    (4, b"ftyp", Foreign::Video),
    (4, b"moov", Foreign::Video),
    (0, b"\x1A\x45\xDF\xA3", Foreign::Video),
    (0, b"\x00\x00\x01\xBA", Foreign::Video),
    (0, b"\x00\x00\x01\xB3", Foreign::Video),
    (0, b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", Foreign::Video),
    (0, b"FLV\x01", Foreign::Video),
    (0, b"\xFF\x0A", Foreign::JpegXl),
    (0, b"\0\0\0\x0CJXL \r\n\x87\n", Foreign::JpegXl),
    (0, b"\0\0\0\x0CjP  \r\n\x87\n", Foreign::Jpeg2000),
    (0, b"\xFF\x4F\xFF\x51", Foreign::Jpeg2000),
    (0, b"8BPS", Foreign::Photoshop),
    (0, b"\x76\x2F\x31\x01", Foreign::HighRange),
    (0, b"#?RADIANCE", Foreign::HighRange),
    (0, b"<?xml", Foreign::Markup),
    (0, b"<svg", Foreign::Markup),
    // The size of the header, 348 or for NIfTI-2 540, in either order of bytes.
    (0, b"\x5C\x01\0\0", Foreign::Nifti),
    (0, b"\0\0\x01\x5C", Foreign::Nifti),
    (4, b"n+2\0", Foreign::Nifti),
    (4, b"ni2\0", Foreign::Nifti),
    (0, b"NRRD", Foreign::Nrrd),
    (0, b"ObjectType", Foreign::MetaImage),
    (0, b"NDims", Foreign::MetaImage),
    (0, b"\x89HDF\r\n\x1A\n", Foreign::Hdf5),
    (0, b"\x93NUMPY", Foreign::Numpy),
    (0, b"%PDF", Foreign::Pdf),
    (0, b"PK\x03\x04", Foreign::Zip),
    (0, b"PK\x05\x06", Foreign::Zip),
    (0, b"\x1F\x8B", Foreign::Gzip),
    (0, b"7z\xBC\xAF\x27\x1C", Foreign::SevenZip),
    (0, b"Rar!", Foreign::Rar),
    (0, b"BZh", Foreign::Packed),
    (0, b"\xFD7zXZ", Foreign::Packed),
    (0, b"\x28\xB5\x2F\xFD", Foreign::Packed),
    (0, b"MZ", Foreign::Program),
    (0, b"\x7FELF", Foreign::Program),
    (0, b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", Foreign::Office),
];

impl Foreign {
    /// The kind of file that the first bytes say it is, if it is known.
    pub fn of(start: &[u8]) -> Option<Self> {
        let is =
            |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
        // Two letters make no bitmap: its reserved fields are zero, too.
        if is(0, b"BM") && is(6, &[0; 4]) {
            return Some(Self::Bmp);
        }
        MAGIC.iter().find(|(at, magic, _)| is(*at, magic)).map(|(_, _, kind)| *kind)
    }

    /// Whether it has to be unpacked before anything can be read of it.
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Zip | Self::Gzip | Self::SevenZip | Self::Rar | Self::Packed)
    }
}

impl fmt::Display for Foreign {
    /// Goes on after "is ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picture = |f: &mut fmt::Formatter<'_>, what: &str| {
            write!(f, "{what} picture, which is not read here; save it as PNG without loss")
        };
        let volume = |f: &mut fmt::Formatter<'_>, what: &str| {
            write!(f, "{what} volume, which is not read here; convert its slices to DICOM or PNG")
        };
        match self {
            Self::Tiff => picture(f, "a TIFF"),
            Self::Bmp => picture(f, "a BMP"),
            Self::Gif => picture(f, "a GIF"),
            Self::WebP => picture(f, "a WebP"),
            Self::Heif => picture(f, "a HEIC or AVIF"),
            Self::JpegXl => picture(f, "a JPEG XL"),
            Self::Jpeg2000 => picture(f, "a JPEG 2000"),
            Self::JpegLs => picture(f, "a JPEG-LS"),
            Self::Photoshop => picture(f, "a Photoshop"),
            Self::HighRange => picture(f, "a high-dynamic-range"),
            Self::Nifti => volume(f, "a NIfTI"),
            Self::Nrrd => volume(f, "an NRRD"),
            Self::MetaImage => volume(f, "a MetaImage (MHD)"),
            Self::Hdf5 => volume(f, "an HDF5 or MINC"),
            Self::Numpy => {
                f.write_str("a NumPy array, which is not read here; save its pictures as PNG")
            }
            Self::Markup => f.write_str("a drawing or a text in XML, and not a picture"),
            Self::Pdf => f.write_str(
                "a PDF document, which is not read here; save the pictures in it as PNG",
            ),
            Self::Video => {
                f.write_str("a video, which is not read here; save the pictures of it as PNG")
            }
            Self::Zip => f.write_str("a ZIP archive where a picture is needed; unpack it first"),
            Self::Gzip => f.write_str(
                "packed with gzip, which is not read here; unpack it, and convert a volume \
                 (.nii.gz) to DICOM or PNG slices",
            ),
            Self::SevenZip => f.write_str(
                "a 7z archive, which is not read here; unpack it, or pack its files as a ZIP",
            ),
            Self::Rar => f.write_str(
                "a RAR archive, which is not read here; unpack it, or pack its files as a ZIP",
            ),
            Self::Packed => {
                f.write_str("packed, which is not read here; unpack it, or pack its files as a ZIP")
            }
            Self::Program => f.write_str("a program, and not a picture"),
            Self::Office => f.write_str(
                "a document of an office program, which is not read here; save its pictures as PNG",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Foreign;

    #[test]
    fn what_people_have_instead_of_pictures_is_named() {
        for (start, told) in [
            (b"II*\0\x08\0\0\0".as_slice(), "a TIFF picture"),
            (b"BM6\x08\0\0\0\0\0\0", "a BMP picture"),
            (b"GIF87a ", "a GIF picture"),
            (b"RIFF\x16\x03\0\0WEBPVP8 ", "a WebP picture"),
            (b"RIFF\x16\x03\0\0AVI LIST", "a video"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC or AVIF picture"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
            (b"\x5C\x01\0\0\0\0\0\0", "a NIfTI volume"),
            (b"NRRD0004\n", "an NRRD volume"),
            (b"ObjectType = Image\n", "a MetaImage (MHD) volume"),
            (b"%PDF-1.7", "a PDF document"),
            (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
        ] {
            let found = Foreign::of(start).map(|kind| kind.to_string()).unwrap_or_default();
            assert!(found.starts_with(told), "{told}: {found:?}");
            assert!(found.contains("not read here;"), "no advice: {found}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for start in [b"".as_slice(), b"garbage", b"BMW is a make of cars", b"file,label\n"] {
            assert_eq!(Foreign::of(start), None);
        }
    }
}
