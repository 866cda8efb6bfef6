//! The reason why mkfs.erofs(1) takes no snapshot of a directory: its own message names no file.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest name that mkfs.erofs 1.5 takes, in bytes; file systems have one byte more.
const NAME_LEN_MAX: usize = 254;

/// Longest path that it opens, its end included.
const PATH_LEN_MAX: usize = 4095;

/// The first file below `dir` that cannot be part of a snapshot, why, and what to do; `None` if there is
/// another reason.
pub(super) fn find(dir: &Path) -> Option<String> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) => return Some(message(&dir, &format!("cannot be read: {error}"))),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let name_len = entry.file_name().as_bytes().len();
            if name_len > NAME_LEN_MAX {
                let why = format!("has a name of {name_len} bytes, {NAME_LEN_MAX} is the limit");
                return Some(message(&path, &why));
            }
            if path.as_os_str().as_bytes().len() >= PATH_LEN_MAX {
                return Some(message(
                    &path,
                    &format!("has a path of more than {PATH_LEN_MAX} bytes"),
                ));
            }
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file()
                && let Err(error) = File::open(&path)
            {
                return Some(message(&path, &format!("cannot be read: {error}")));
            }
        }
    }
    None
}

fn message(path: &Path, why: &str) -> String {
    let shown: String = path
        .display()
        .to_string()
        .chars()
        .map(|c| if telemetry::is_harmful(c) { '?' } else { c })
        .collect();
    format!(
        "{shown} {why}; leave it out of the dataset, or share the directory live (without --snapshot, or \
         snapshot = false)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_fits_into_no_snapshot_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |len: usize| dir.path().join("deep").join("a".repeat(len));
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(at(254), "").unwrap();
        assert_eq!(find(dir.path()), None);
        fs::write(at(255), "").unwrap();
        let found = find(dir.path()).unwrap();
        let words = [at(255).to_str().unwrap().to_owned(), "255 bytes".into(), "live".into()];
        assert!(words.iter().all(|word| found.contains(word)), "{found}");
        let missing = find(&dir.path().join("none")).unwrap();
        assert!(missing.contains("cannot be read"), "{missing}");
    }
}
