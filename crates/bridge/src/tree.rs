//! The files of a dataset: found on the submitting host, printed as a manifest.

use crate::shard::{Base64Bytes, ShardFile};
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A directory or file that cannot be looked at, so that the list would not be whole.
#[derive(Debug, Error)]
#[error("{path}: {1}", path = .0.display())]
pub struct TreeError(PathBuf, #[source] io::Error);

/// Files that a walk has found.
#[derive(Debug, Default)]
pub struct DatasetFiles {
    /// Regular files, in the order of `hashctl sum -r`: by name within a directory, which is entered where its
    /// name stands. Paths are relative to the root.
    pub files: Vec<ShardFile>,
    /// Links and special files, which are left out.
    pub skipped: u64,
}

/// Finds the files below `start`, a path in `root`; empty for all.
///
/// # Errors
/// The first directory or file that cannot be looked at.
pub fn walk(root: &Path, start: &Path) -> Result<DatasetFiles, TreeError> {
    let mut found = DatasetFiles::default();
    // Entries that wait, the next one last: no recursion, however deep the tree.
    let mut waiting = vec![start.to_owned()];
    while let Some(path) = waiting.pop() {
        let place = root.join(&path);
        let fail = |error| TreeError(place.clone(), error);
        let metadata = fs::symlink_metadata(&place).map_err(fail)?;
        if metadata.is_dir() {
            let mut names = Vec::new();
            for entry in fs::read_dir(&place).map_err(fail)? {
                names.push(entry.map_err(fail)?.file_name());
            }
            names.sort_unstable_by(|a, b| b.cmp(a));
            waiting.extend(names.into_iter().map(|name| path.join(name)));
        } else if metadata.is_file() {
            let path = Base64Bytes(path.into_os_string().into_vec());
            found.files.push(ShardFile {
                path,
                size: metadata.len(),
                mtime_ns: mtime_ns(&metadata),
            });
        } else {
            found.skipped += 1;
        }
    }
    Ok(found)
}

/// Time of the last modification in nanoseconds, modulo 2^64: only equality counts.
pub(crate) fn mtime_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec())
}

/// Writes a line as `sha256sum` and its relatives do.
///
/// # Errors
/// As [`Write::write_all`].
pub fn write_line(out: &mut impl Write, digest: &[u8], path: &[u8]) -> io::Result<()> {
    let is_escaped = path.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = if is_escaped { vec![b'\\'] } else { Vec::new() };
    for byte in digest {
        line.extend(format!("{byte:02x}").bytes());
    }
    line.extend(b"  ");
    for &byte in path {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            _ => line.push(byte),
        }
    }
    line.push(b'\n');
    out.write_all(&line)
}

/// The file at `path`, of a shard, below `root`.
pub(crate) fn place(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use test_kit::{hostile_names, output, text};

    #[test]
    fn the_list_is_that_of_sha256sum_hostile_names_included() {
        let dir = tempfile::tempdir().unwrap();
        let names = hostile_names();
        for name in &names {
            fs::write(place(dir.path(), name), name).unwrap();
        }
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "x").unwrap();
        symlink("file", dir.path().join("sub/link")).unwrap();
        let found = walk(dir.path(), Path::new("")).unwrap();
        assert_eq!((found.files.len(), found.skipped), (names.len() + 1, 1));
        let mut printed = Vec::new();
        for file in &found.files {
            let sum = output(
                std::process::Command::new("sha256sum")
                    .stdin(fs::File::open(place(dir.path(), &file.path.0)).unwrap()),
            );
            let digits = text(&sum.stdout[..64]);
            let digest: Vec<u8> = (0..32)
                .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            write_line(&mut printed, &digest, &file.path.0).unwrap();
        }
        let script = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum --";
        let want =
            output(std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path()));
        assert_eq!(text(&printed), text(&want.stdout));
    }

    #[test]
    fn a_missing_start_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = walk(dir.path(), Path::new("gone")).unwrap_err().to_string();
        assert!(error.contains("/gone: No such file"), "{error}");
    }
}
