//! The files of a dataset: found on the submitting host, printed as a manifest.

use crate::shard::{Base64Bytes, ShardFile};
use std::ffi::OsString;
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

/// Finds the files below `start`, a path in `root`; empty for all.
///
/// Gives `each` regular file in the order of `hashctl sum -r`: by name within a directory, which is entered where its
/// name stands. Paths are relative to the root. Returns the number of links and special files, which are left out.
/// Holds the names of the directories on the way to where it is.
///
/// # Errors
/// The first directory or file that cannot be looked at, or the first error of `each`.
pub fn walk<E: From<TreeError>>(
    root: &Path,
    start: &Path,
    mut each: impl FnMut(ShardFile) -> Result<(), E>,
) -> Result<u64, E> {
    let mut skipped = 0;
    // Names that wait in each directory, the next one last: no recursion, however deep the tree.
    let mut open = vec![(PathBuf::new(), vec![start.as_os_str().to_owned()])];
    while let Some((dir, names)) = open.last_mut() {
        let Some(name) = names.pop() else {
            open.pop();
            continue;
        };
        let path = dir.join(name);
        let place = root.join(&path);
        let fail = |error| TreeError(place.clone(), error);
        let metadata = fs::symlink_metadata(&place).map_err(fail)?;
        if metadata.is_dir() {
            let mut names: Vec<OsString> = Vec::new();
            for entry in fs::read_dir(&place).map_err(fail)? {
                names.push(entry.map_err(fail)?.file_name());
            }
            names.sort_unstable_by(|a, b| b.cmp(a));
            open.push((path, names));
        } else if metadata.is_file() {
            let path = Base64Bytes(path.into_os_string().into_vec());
            let (size, mtime_ns) = (metadata.len(), mtime_ns(&metadata));
            each(ShardFile { path, size, mtime_ns })?;
        } else {
            skipped += 1;
        }
    }
    Ok(skipped)
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
        let mut files = Vec::new();
        let skipped = walk::<TreeError>(dir.path(), Path::new(""), |file| {
            files.push(file);
            Ok(())
        });
        assert_eq!((files.len(), skipped.unwrap()), (names.len() + 1, 1));
        let mut printed = Vec::new();
        for file in &files {
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
        let found = walk::<TreeError>(dir.path(), Path::new("gone"), |_| Ok(()));
        let error = found.unwrap_err().to_string();
        assert!(error.contains("/gone: No such file"), "{error}");
    }
}
