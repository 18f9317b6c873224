//! A folder as the archive that an upload of it would be: files as they are, with headers between them.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::config::Limits;

/// Packs a folder into a file without a name in `scratch`. What the files hold is not looked at.
pub(super) fn packed(folder: &Path, limits: &Limits, scratch: &Path) -> anyhow::Result<File> {
    let files = files(folder, limits.archive_entries)?;
    ensure!(!files.is_empty(), "{} holds no files", folder.display());
    let mut archive = ZipWriter::new(tempfile::tempfile_in(scratch)?);
    for path in files {
        let mut file = File::open(&path).with_context(|| unreadable(&path))?;
        let is_large = file.metadata()?.len() >= u64::from(u32::MAX);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(is_large);
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
        archive.start_file(name, options).with_context(|| unpacked(&path))?;
        std::io::copy(&mut file, &mut archive).with_context(|| unpacked(&path))?;
    }
    archive.finish().with_context(|| unpacked(folder))
}

/// All files of a folder and of the folders in it, in the order of their paths.
fn files(folder: &Path, max: u64) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).with_context(|| unreadable(&inner))? {
            let entry = entry.with_context(|| unreadable(&inner))?;
            let path = entry.path();
            // A link to a folder is not followed: it may lead back to where it lies.
            if entry.file_type().with_context(|| unreadable(&path))?.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.push(path);
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

    use super::{files, packed};
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
        let limits = Limits::default();

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
    }

    #[test]
    fn a_folder_without_files_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");

        let refused = packed(folder.path(), &Limits::default(), folder.path());

        assert!(refused.expect_err("nothing to pack").to_string().contains("holds no files"));
    }
}
