//! A folder as the archive that an upload of it would be: files as they are, with headers between them.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::database::tell;
use crate::config::Limits;
use crate::domain::Size;

/// Packs a folder into a file without a name in `scratch`. What the files hold is not looked at.
pub(super) fn packed(folder: &Path, limits: &Limits, scratch: &Path) -> anyhow::Result<File> {
    let files = files(folder, limits.archive_entries)?;
    ensure!(!files.is_empty(), "{} holds no files", folder.display());
    there_is_room(&files, folder, limits, scratch)?;
    let mut archive = ZipWriter::new(tempfile::tempfile_in(scratch)?);
    for path in files {
        let mut file = File::open(&path).with_context(|| unreadable(&path))?;
        let is_large = file.metadata()?.len() >= u64::from(u32::MAX);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(is_large);
        let name = path.strip_prefix(folder).unwrap_or(&path).to_str().with_context(|| {
            format!("the name of {} is not UTF-8; rename the file", path.display())
        })?;
        archive.start_file(name, options).with_context(|| unpacked(&path))?;
        std::io::copy(&mut file, &mut archive).with_context(|| unpacked(&path))?;
    }
    archive.finish().with_context(|| unpacked(folder))
}

/// Refuses what is more than an upload may be, or than the disk can take beside its reserve.
fn there_is_room(
    files: &[PathBuf],
    folder: &Path,
    limits: &Limits,
    scratch: &Path,
) -> anyhow::Result<()> {
    let mut needed = 0_u64;
    for path in files {
        needed = needed.saturating_add(path.metadata().with_context(|| unreadable(path))?.len());
    }
    let max = limits.upload_bytes;
    ensure!(
        needed <= max,
        "{} holds {}; the limit is {} (LVMED_LIMIT_UPLOAD_BYTES). Import its folders one by one",
        folder.display(),
        Size(needed),
        Size(max)
    );
    let disk = rustix::fs::statvfs(scratch)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // Packed once, and kept once.
    let wanted = needed.saturating_mul(2).saturating_add(limits.free_bytes);
    ensure!(
        wanted <= free,
        "the data folder's disk has {} free; {} are needed for this import and the reserve \
         (LVMED_LIMIT_FREE_BYTES)",
        Size(free),
        Size(wanted)
    );
    Ok(())
}

/// All files of a folder and of the folders in it, in the order of their paths.
fn files(folder: &Path, max: u64) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).with_context(|| unreadable(&inner))? {
            let entry = entry.with_context(|| unreadable(&inner))?;
            let path = entry.path();
            // Links are not followed, as in an archive: they may lead anywhere.
            let kind = entry.file_type().with_context(|| unreadable(&path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            } else {
                tell(&format!("left out: {} is no regular file", path.display()));
            }
            ensure!(
                found.len() as u64 <= max,
                "{} holds more than {max} files, which is the limit of an archive \
                 (LVMED_LIMIT_ARCHIVE_ENTRIES); import its folders one by one",
                folder.display()
            );
        }
    }
    found.sort();
    Ok(found)
}

/// The complaint that `path` in the file system cannot be read.
pub(super) fn unreadable(path: &Path) -> String {
    format!("{} cannot be read", path.display())
}

fn unpacked(path: &Path) -> String {
    format!("{} cannot be packed", path.display())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use zip::ZipArchive;

    use super::{PathBuf, files, packed};
    use crate::config::Limits;

    #[test]
    fn a_folder_becomes_an_archive_of_its_files_by_their_paths_in_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in [("labels.csv", "file,label"), ("left/1.png", "one")] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).expect("linked");
        let limits = Limits { free_bytes: 0, ..Limits::default() };

        let archive = packed(folder.path(), &limits, folder.path()).expect("it is packed");

        let mut archive = ZipArchive::new(archive).expect("a ZIP archive");
        let names: Vec<String> = archive
            .file_names_raw()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        assert_eq!(names, ["labels.csv", "left/1.png"]);
        let mut content = String::new();
        let mut entry = archive.by_name("left/1.png").expect("an entry");
        entry.read_to_string(&mut content).expect("it reads");
        assert_eq!(content, "one");
        let refused = files(folder.path(), 1).expect_err("two files").to_string();
        assert!(refused.contains("LVMED_LIMIT_ARCHIVE_ENTRIES"), "{refused}");
        for (limits, told) in [
            (Limits { upload_bytes: 3, ..limits.clone() }, "LVMED_LIMIT_UPLOAD_BYTES"),
            (Limits { free_bytes: u64::MAX, ..limits.clone() }, "LVMED_LIMIT_FREE_BYTES"),
        ] {
            let refused = packed(folder.path(), &limits, folder.path()).expect_err("too much");
            assert!(refused.to_string().contains(told), "{refused}");
        }
    }

    #[test]
    fn links_are_left_out_and_names_beyond_utf8_are_told() {
        use std::os::unix::ffi::OsStrExt;
        let (folder, elsewhere) = (
            tempfile::tempdir().expect("a temporary folder"),
            tempfile::tempdir().expect("a temporary folder"),
        );
        let other = elsewhere.path().join("scan.dcm");
        std::fs::write(&other, "another ward's").expect("written");
        std::os::unix::fs::symlink(&other, folder.path().join("1.dcm")).expect("linked");

        assert_eq!(files(folder.path(), 10).expect("it is read"), Vec::<PathBuf>::new());
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"\xe4.png"));
        std::fs::write(odd, "a picture").expect("written");
        let limits = Limits { free_bytes: 0, ..Limits::default() };
        let refused = packed(folder.path(), &limits, elsewhere.path()).expect_err("refused");
        assert!(refused.to_string().contains("is not UTF-8"), "{refused}");
    }

    #[test]
    fn a_folder_without_files_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");

        let refused = packed(folder.path(), &Limits::default(), folder.path());

        assert!(refused.expect_err("nothing to pack").to_string().contains("holds no files"));
    }
}
